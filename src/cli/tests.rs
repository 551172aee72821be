//! Arguments, from the command line to what the commands are given.

use super::*;

fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Arguments, String> {
    let argv = std::iter::once("trueup").chain(args.iter().copied()).map(OsString::from).collect();
    let lookup =
        |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let command = Arguments::command();
    let argv = argv::prepare(argv, &command, lookup)?;
    let matches = command.try_get_matches_from(argv).map_err(|error| error.to_string())?;
    Arguments::from_arg_matches(&matches).map_err(|error| error.to_string())
}

fn plan_args(args: &[&str], env: &[(&str, &str)]) -> (args::Shared, args::PlanArgs) {
    let parsed = parse(args, env).unwrap_or_else(|error| panic!("{args:?}: {error}"));
    match parsed.command {
        Command::Plan(plan) => (parsed.shared, plan),
        other => panic!("{args:?} is {other:?}"),
    }
}

#[test]
fn one_dash_is_as_good_as_two() {
    let one = [
        "-chdir=/x",
        "plan",
        "-out=p",
        "-detailed-exitcode",
        "-target",
        "contacts",
        "-json",
        "-input=false",
        "-no-color",
        "-refresh=full",
        "-lock-timeout=3s",
        "-parallelism=2",
        "-allow=deletes",
        "-f",
        "m",
    ];
    let two: Vec<String> = one
        .iter()
        .map(|arg| if arg.starts_with('-') && *arg != "-f" { format!("-{arg}") } else { (*arg).to_owned() })
        .collect();
    let two: Vec<&str> = two.iter().map(String::as_str).collect();
    assert_eq!(format!("{:?}", plan_args(&one, &[])), format!("{:?}", plan_args(&two, &[])));
    let (shared, plan) = plan_args(&one, &[]);
    assert_eq!(plan.out.as_deref(), Some(std::path::Path::new("p")));
    assert!(plan.detailed_exitcode && shared.json && shared.no_color && !shared.input);
    assert_eq!(plan.pass.work.lock_timeout.as_secs(), 3);
    assert_eq!((plan.pass.work.parallelism, plan.pass.allow.len()), (Some(2), 1));
    assert_eq!(shared.manifests, std::path::Path::new("m"));
}

#[test]
fn unknown_names_and_values_are_not_rewritten() {
    for args in [&["plan", "-outt=x"][..], &["plan", "-ou=x"], &["apply", "--", "-json", "-out"]] {
        assert!(parse(args, &[]).is_err(), "{args:?}");
    }
    let parsed = parse(&["apply", "--", "-json"], &[]).unwrap();
    let Command::Apply(apply) = parsed.command else { panic!() };
    assert_eq!(apply.plan.as_deref(), Some(std::path::Path::new("-json")));
}

#[test]
fn the_environment_adds_arguments_and_the_command_line_wins() {
    let env = [
        ("TRUEUP_CLI_ARGS", "-no-color -lock-timeout=1s"),
        ("TRUEUP_CLI_ARGS_plan", "-out='a b' --target x"),
        ("TRUEUP_CLI_ARGS_apply", "--auto-approve"),
    ];
    let (shared, plan) = plan_args(&["-f", "plan", "plan", "-lock-timeout=9s", "--target", "y"], &env);
    assert!(shared.no_color);
    assert_eq!(shared.manifests, std::path::Path::new("plan"));
    assert_eq!(plan.out.as_deref(), Some(std::path::Path::new("a b")));
    assert_eq!(plan.pass.work.lock_timeout.as_secs(), 9);
    assert_eq!(plan.pass.target, ["x", "y"]);
}

#[test]
fn times_and_guards_are_checked() {
    for (text, millis) in [
        ("3s", Some(3000)),
        ("500ms", Some(500)),
        ("2m", Some(120_000)),
        ("1h", Some(3_600_000)),
        ("7", Some(7000)),
        ("", None),
        ("s", None),
        ("2d", Some(172_800_000)),
        ("1h30m", Some(5_400_000)),
        ("-1s", None),
        ("99999999999999999999s", None),
    ] {
        assert_eq!(args::duration(text).ok().map(|time| time.as_millis()), millis, "{text}");
    }
    assert!(parse(&["run", "--interval", "0s"], &[]).is_err());
    assert!(parse(&["plan", "--allow", "deletes", "--allow", "emptied"], &[]).is_ok());
    assert!(parse(&["plan", "--parallelism", "0"], &[]).is_err());
}

#[test]
fn a_conflict_needs_one_choice() {
    assert!(parse(&["conflicts", "resolve", "ab"], &[]).is_err());
    assert!(parse(&["conflicts", "resolve", "ab", "--take", "x", "--set", "a=b"], &[]).is_err());
    assert!(
        parse(&["conflicts", "resolve", "ab", "-set", "a=b", "-set", "c=d", "-auto-approve"], &[]).is_ok()
    );
    assert!(parse(&["conflicts"], &[]).is_ok());
}

#[test]
fn input_is_on_unless_told() {
    for (args, input) in [
        (&["plan"][..], true),
        (&["plan", "-input=false"], false),
        (&["plan", "-input=0"], false),
        (&["plan", "--input"], true),
    ] {
        assert_eq!(plan_args(args, &[]).0.input, input, "{args:?}");
    }
}

/// The parts of a key, none for a whole entity; or a part of the message.
type Wanted<'a> = Result<Option<&'a [&'a str]>, &'a str>;

#[test]
fn addresses_name_entities_and_records() {
    let spec = crate::telemetry::fixture::spec();
    let cases: [(&str, Wanted<'_>); 10] = [
        ("contacts", Ok(None)),
        (r#"contacts["C000127"]"#, Ok(Some(&["C000127"]))),
        (r#" contacts["a\"]b"] "#, Ok(Some(&["a\"]b"]))),
        ("contacts[127]", Ok(Some(&["127"]))),
        (r#"contacts["a", "b"]"#, Err("has 1 parts, not 2")),
        ("contacts[C000127]", Err("not in brackets and quotes")),
        (r#"contacts["a""#, Err("not in brackets and quotes")),
        ("contact", Err("did you mean `contacts`?")),
        (r#"app.contacts["a"]"#, Err("leave out `app.`")),
        ("", Err("there is no entity ``")),
    ];
    for (text, wanted) in cases {
        match (session::target(&spec, text), wanted) {
            (Ok(target), Ok(key)) => {
                let key = key.map(|parts| parts.iter().map(ToString::to_string).collect::<Vec<_>>());
                assert_eq!(target.key.map(|key| key.parts().to_vec()), key, "{text}");
            }
            (Err(failure), Err(part)) => {
                assert!(failure.message.contains(part), "{text}: {}", failure.message);
            }
            (target, _) => panic!("{text}: {target:?}"),
        }
    }
}

#[test]
fn every_command_explains_itself() {
    Arguments::command().debug_assert();
}
