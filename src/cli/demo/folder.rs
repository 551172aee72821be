//! The demo's folder: what is in it, and that it is the demo's to replace.

use std::fs;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::super::{Failure, manifests};

/// The manifests' folder in the demo's.
pub(super) const MANIFESTS: &str = "manifests";

/// Says that a folder was made here. It is written first and removed never, so that a demo cut short can be begun again.
const MARKER: &str = ".trueup-demo";
const MARKER_TEXT: &str =
    "Made by `trueup demo`, which replaces manifests, schemas, state and stores here when it is run again.\n";

/// What a demo makes in its folder, and removes from it; what else somebody keeps there stays.
const MADE: [&str; 4] = [MANIFESTS, "schemas", "state", "stores"];

macro_rules! example {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/", $path))
    };
}

const DOCUMENTS: [(&str, &str); 7] = [
    ("stores.yaml", example!("manifests/stores.yaml")),
    ("controller.yaml", example!("manifests/controller.yaml")),
    ("contacts.yaml", example!("manifests/contacts.yaml")),
    ("contact_identifiers.yaml", example!("manifests/contact_identifiers.yaml")),
    ("businesses.yaml", example!("manifests/businesses.yaml")),
    ("people_businesses.yaml", example!("manifests/people_businesses.yaml")),
    ("token", example!("manifests/token")),
];

/// Where the schemas stand, seen from the examples in the project and from those in a demo's folder.
const SCHEMAS: (&str, &str) = ("../../../schemas/", "../schemas/");

/// What each store's own application did: at first, and since the stores last agreed.
const STORES: [(&str, &str, &str); 3] = [
    ("warehouse", example!("stores/warehouse.sql"), example!("later/warehouse.sql")),
    ("app", example!("stores/app.sql"), example!("later/app.sql")),
    ("local", example!("stores/local.sql"), example!("later/local.sql")),
];

/// What the stores' applications go on doing while the demo is served.
const SERVE: [(&str, &str); 3] = [
    ("warehouse", example!("serve/warehouse.sql")),
    ("app", example!("serve/app.sql")),
    ("local", example!("serve/local.sql")),
];

/// Makes the edit number `n` of those that go on for ever, in turn over the stores.
///
/// # Errors
/// When the database refuses.
pub(super) fn edit(dir: &Path, n: usize) -> Result<(), Failure> {
    let (store, script) = SERVE[n % SERVE.len()];
    let lines: Vec<&str> = script.lines().filter(|line| !line.starts_with("--")).collect();
    let round = n / SERVE.len();
    let Some(line) = lines.get(round % lines.len().max(1)) else { return Ok(()) };
    let path = dir.join("stores").join(format!("{store}.db"));
    let failed = |error: rusqlite::Error| Failure::new(format!("cannot edit {}: {error}", path.display()));
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(failed)?;
    connection.execute_batch(&line.replace("{n}", &n.to_string())).map_err(failed)
}

/// When something happens to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Its application makes it.
    First,
    /// It was brought to agree with the others, and its application went on.
    Later,
}

/// Writes the folder anew, with the stores as their applications made them.
///
/// # Errors
/// When something else stands there, or it cannot be written.
pub(super) fn write(dir: &Path) -> Result<(), Failure> {
    claim(dir)?;
    let failed = |error: io::Error| Failure::new(format!("cannot write {}: {error}", dir.display()));
    for name in MADE {
        remove(&dir.join(name)).map_err(failed)?;
        fs::create_dir(dir.join(name)).map_err(failed)?;
    }
    for (name, text) in DOCUMENTS {
        let text = text.replace(SCHEMAS.0, SCHEMAS.1);
        fs::write(dir.join(MANIFESTS).join(name), text).map_err(failed)?;
    }
    for (name, text) in manifests::schemas() {
        fs::write(dir.join("schemas").join(name), text).map_err(failed)?;
    }
    for (name, ..) in STORES {
        run(dir, name, Moment::First)?;
    }
    Ok(())
}

/// Makes the folder the demo's, or refuses one that is somebody else's.
fn claim(dir: &Path) -> Result<(), Failure> {
    let refused = |why: &str| {
        Failure::new(format!("{} {why}; it is left as it is", dir.display()))
            .hint("name a folder that is new or empty: `trueup demo DIR`")
    };
    let failed = |error: io::Error| Failure::new(format!("cannot make {}: {error}", dir.display()));
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(dir).map_err(failed)?,
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.is_dir() => return Err(refused("is no folder")),
        Ok(_) if dir.join(MARKER).is_file() => return Ok(()),
        Ok(_) => {
            if fs::read_dir(dir).map_err(failed)?.next().is_some() {
                return Err(refused("is not empty, and no earlier demo made it"));
            }
        }
    }
    fs::write(dir.join(MARKER), MARKER_TEXT).map_err(failed)
}

/// Removes what an earlier demo made. A link put in its place is removed itself, and what it leads to stays.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Does to a store what its own application did, with a connection of its own as that would have.
///
/// # Errors
/// When the database refuses.
pub(super) fn run(dir: &Path, store: &str, moment: Moment) -> Result<(), Failure> {
    let Some((_, first, later)) = STORES.into_iter().find(|(name, ..)| *name == store) else { return Ok(()) };
    let path = dir.join("stores").join(format!("{store}.db"));
    let failed = |error: rusqlite::Error| Failure::new(format!("cannot edit {}: {error}", path.display()));
    let create = moment == Moment::First;
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let mut connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
    let transaction = connection.transaction().map_err(failed)?;
    transaction.execute_batch(if create { first } else { later }).map_err(failed)?;
    transaction.commit().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_empty_and_own_folders_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert!(claim(folder.path()).is_ok(), "an empty folder");
        assert!(claim(folder.path()).is_ok(), "its own");
        let other = folder.path().join("other");
        assert!(claim(&other).is_ok(), "a new one");
        fs::remove_file(other.join(MARKER)).unwrap();
        fs::write(other.join("letter.txt"), "mine").unwrap();
        assert!(claim(&other).is_err(), "somebody else's");
        assert!(claim(&other.join("letter.txt")).is_err(), "a file");
    }

    #[cfg(unix)]
    #[test]
    fn what_a_link_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, link) = (folder.path().join("mine"), folder.path().join("stores"));
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join("letter.txt"), "mine").unwrap();
        std::os::unix::fs::symlink(&mine, &link).unwrap();
        remove(&link).unwrap();
        assert!(!link.exists() && mine.join("letter.txt").exists());
    }
}
