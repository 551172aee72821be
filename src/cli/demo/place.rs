//! How to call this program again from a shell.

use std::path::{Path, PathBuf};

const NAME: &str = "trueup";

/// `trueup` where a shell would find this very program by that name, else its path.
pub(super) fn program() -> String {
    let Ok(me) = std::env::current_exe() else { return NAME.to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    name_of(&me, &folders)
}

fn name_of(me: &Path, folders: &[PathBuf]) -> String {
    let file = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
    // The first of the name is the one that a shell takes.
    let found = folders.iter().map(|folder| folder.join(&file)).find(|path| path.is_file());
    let same = found
        .and_then(|found| found.canonicalize().ok())
        .is_some_and(|found| me.canonicalize().is_ok_and(|me| me == found));
    if same { NAME.to_owned() } else { quoted(&me.to_string_lossy()) }
}

/// A word as a shell takes it for one.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        return word.to_owned();
    }
    let dashed = if word.starts_with('-') { "./" } else { "" };
    format!("'{dashed}{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        for (word, text) in [
            ("a/b-c.d", "a/b-c.d"),
            ("my demo", "'my demo'"),
            ("it's", r"'it'\''s'"),
            ("-x", "'./-x'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), text);
        }
    }

    #[test]
    fn the_name_is_used_only_where_a_shell_finds_this_program_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
        let (ours, other) = (folder.path().join("ours"), folder.path().join("other"));
        for place in [&ours, &other] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join(&file), "").unwrap();
        }
        let me = ours.join(&file);
        assert_eq!(name_of(&me, std::slice::from_ref(&ours)), NAME);
        assert_eq!(name_of(&me, &[other.clone(), ours]), me.to_string_lossy());
        assert_eq!(name_of(&me, &[]), me.to_string_lossy());
    }
}
