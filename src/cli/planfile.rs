//! Plan files on disk: written privately and whole or not at all, and shown.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::plan::{Plan, file, json, render};

use super::args::ShowArgs;
use super::session::Session;
use super::{Exit, Failure};

/// Writes a plan file that its owner alone can read: first beside its place, then moved there, so that no reader finds half
/// of one. Something else that stands there (another file, a link, a device) is not overwritten.
pub(crate) fn save(plan: &Plan, path: &Path) -> Result<(), Failure> {
    refuse_other(path)?;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot save the plan to {}: {error}", path.display()))
    };
    let bytes = file::encode(plan, env!("CARGO_PKG_VERSION")).map_err(|error| failed(&error))?;
    let beside = beside(path).ok_or_else(|| failed(&"it names no file"))?;
    let written = write_private(&beside, &bytes).and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        // What was begun is of no use to anybody; if it cannot be removed either, the first error says more.
        let _ = fs::remove_file(&beside);
        failed(&error)
    })
}

fn refuse_other(path: &Path) -> Result<(), Failure> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    let mut start = vec![0; file::MAGIC.len()];
    let is_plan =
        found.is_file() && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok();
    if is_plan && file::looks_like_plan(&start) {
        return Ok(());
    }
    Err(Failure::new(format!("{} is there and is no plan file; it is left as it is", path.display()))
        .hint("give --out another name"))
}

fn beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some(path.with_file_name(format!(".{name}.{}.tmp", std::process::id())))
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a plan file.
pub(crate) fn read(path: &Path) -> Result<(file::Header, Plan), Failure> {
    let bytes = fs::read(path)
        .map_err(|error| Failure::new(format!("cannot read the plan file {}: {error}", path.display())))?;
    file::decode(&bytes)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())).hint(error.hint()))
}

/// `show PLANFILE`
pub(super) fn show(session: &Session<'_>, args: &ShowArgs) -> Result<Exit, Failure> {
    let (_, plan) = read(&args.plan)?;
    let options = session.ui.render_options(None);
    if session.ui.json {
        session.ui.json_page(&json::plan_json(&plan, &options.rates));
    } else {
        session.ui.out(&render(&plan, &options));
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plan_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let notes = folder.path().join("notes.txt");
        fs::write(&notes, "mine").unwrap();
        assert!(refuse_other(&notes).is_err());
        assert!(refuse_other(folder.path()).is_err());
        assert!(refuse_other(&folder.path().join("new.plan")).is_ok());
        let old = folder.path().join("old.plan");
        fs::write(&old, "trueup-plan 7.0\n").unwrap();
        assert!(refuse_other(&old).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("old.plan");
        fs::write(&old, "trueup-plan 1.0\n").unwrap();
        let link = folder.path().join("link.plan");
        std::os::unix::fs::symlink(&old, &link).unwrap();
        assert!(refuse_other(&link).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        write_private(&path, b"x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_private(&path, b"y").is_err(), "an existing file is never opened for writing");
    }
}
