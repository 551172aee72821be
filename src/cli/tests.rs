//! Arguments as people spell them.

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
