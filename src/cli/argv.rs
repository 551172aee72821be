//! Arguments before they are parsed: single-dash spellings of long options, and what the environment adds.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::Command;

/// The variable whose arguments are added to every command; with `_plan` and so on, to that command.
const ADDED: &str = "TRUEUP_CLI_ARGS";
/// Options before the command that take the next argument as their value.
const TAKE_VALUE: [&str; 3] = ["-f", "--manifests", "--chdir"];

/// The arguments as clap should see them.
///
/// # Errors
/// When what the environment adds cannot be split into arguments.
pub(super) fn prepare(
    argv: Vec<OsString>,
    command: &Command,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Vec<OsString>, String> {
    let names = long_names(command);
    let mut argv = double_dashes(argv, &names);
    let subcommands: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
    let Some(at) = command_at(&argv, &subcommands) else { return Ok(argv) };
    let word = argv[at].to_string_lossy().into_owned();
    let mut added = Vec::new();
    for name in [ADDED.to_owned(), format!("{ADDED}_{word}")] {
        if let Some(text) = env(&name) {
            let words = split(&text).ok_or_else(|| format!("{name}: a quote is not closed"))?;
            added.extend(words.into_iter().map(OsString::from));
        }
    }
    // What is written out comes later and therefore counts.
    let rest = argv.split_off(at + 1);
    argv.extend(double_dashes(added, &names));
    argv.extend(rest);
    Ok(argv)
}

/// The long names of all options of all commands.
fn long_names(command: &Command) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ["help", "version"].map(str::to_owned).into();
    names.extend(command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)));
    names.extend(command.get_subcommands().flat_map(long_names));
    names
}

/// `-out=x` as `--out=x`, for names of more than one letter that there are; what follows `--` is left alone.
fn double_dashes(argv: Vec<OsString>, names: &BTreeSet<String>) -> Vec<OsString> {
    let mut literal = false;
    let rewrite = |arg: OsString| {
        literal |= arg == "--";
        let known = arg.to_str().and_then(|text| text.strip_prefix('-')).filter(|rest| {
            let name = rest.split('=').next().unwrap_or_default();
            !literal && name.len() > 1 && names.contains(name)
        });
        match known {
            Some(rest) => OsString::from(format!("--{rest}")),
            None => arg,
        }
    };
    argv.into_iter().map(rewrite).collect()
}

/// Where the command's name stands.
fn command_at(argv: &[OsString], subcommands: &BTreeSet<&str>) -> Option<usize> {
    let mut at = 1;
    while at < argv.len() {
        let text = argv[at].to_str()?;
        if TAKE_VALUE.contains(&text) {
            at += 2;
        } else if text.starts_with('-') {
            at += 1;
        } else {
            return subcommands.contains(text).then_some(at);
        }
    }
    None
}

/// Words as a shell splits them, with single and double quotes and backslashes; none when a quote is not closed.
fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (Some(open), _) if char == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, _) if char.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_shells_do() {
        let cases: [(&str, Option<&[&str]>); 7] = [
            ("", Some(&[])),
            ("  -out=x   --json ", Some(&["-out=x", "--json"])),
            (r#"--target 'a["b"]'"#, Some(&["--target", r#"a["b"]"#])),
            (r#"--set "a b"c"#, Some(&["--set", "a bc"])),
            (r#"a\ b "" "#, Some(&["a b", ""])),
            ("'open", None),
            ("open\\", None),
        ];
        for (text, words) in cases {
            assert_eq!(
                split(text).as_deref(),
                words.map(|words| words.iter().map(ToString::to_string).collect::<Vec<_>>()).as_deref(),
                "{text}"
            );
        }
    }
}
