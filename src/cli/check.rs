//! `validate` and `schema`: what needs no store.

use serde_json::json;

use crate::model::{Diagnostics, Severity};

use super::args::{SchemaArgs, ValidateArgs};
use super::manifests::{self, Refused};
use super::session::Session;
use super::{Exit, Failure};

/// `validate`
pub(super) fn validate(session: &Session<'_>, args: &ValidateArgs) -> Result<Exit, Failure> {
    let ui = session.ui;
    match manifests::load(&session.shared.manifests, if ui.json { false } else { ui.error_color }) {
        Err(Refused::Unreadable(failure)) => Err(failure),
        Err(Refused::Mistakes { diagnostics, rendered }) => {
            if ui.json {
                ui.json_page(&validation(&diagnostics));
            } else {
                ui.message(&rendered);
            }
            Ok(Exit::Incomplete)
        }
        Ok(loaded) => {
            if ui.json {
                let mut page = validation(&loaded.warnings);
                if args.expand {
                    page["expanded"] = json!(loaded.expanded);
                }
                ui.json_page(&page);
                return Ok(Exit::Ok);
            }
            if args.expand {
                ui.out(&loaded.expanded);
            }
            if !loaded.warnings.is_empty() {
                ui.message(&loaded.rendered);
            }
            if !args.expand {
                let (stores, entities) = (loaded.spec.stores.len(), loaded.spec.entities.len());
                ui.out(&format!(
                    "Success! The manifests are valid (stores: {stores}, entities: {entities}).\n"
                ));
            }
            Ok(Exit::Ok)
        }
    }
}

fn validation(diagnostics: &Diagnostics) -> serde_json::Value {
    let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
    json!({
        "format_version": "1.0", "valid": errors == 0, "error_count": errors,
        "warning_count": diagnostics.len() - errors, "diagnostics": diagnostics,
    })
}

/// `schema`
pub(super) fn schema(session: &Session<'_>, args: &SchemaArgs) -> Result<Exit, Failure> {
    let failed =
        |path: &std::path::Path, error: &std::io::Error| Failure::new(format!("{}: {error}", path.display()));
    let files = if args.sql {
        let spec = session.load()?;
        let scripts = crate::controller::scripts(&spec)?;
        scripts.into_iter().map(|(store, text)| (format!("sql/{store}.sql"), text)).collect()
    } else {
        manifests::schemas()
    };
    let folder = if args.sql { args.dir.join("sql") } else { args.dir.clone() };
    let mut stale = Vec::new();
    if !args.check {
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
    }
    for (name, text) in files {
        let path = args.dir.join(&name);
        if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        if !args.check {
            std::fs::write(&path, text).map_err(|error| failed(&path, &error))?;
            if !session.ui.json {
                session.ui.out(&format!("wrote {}\n", path.display()));
            }
        }
        stale.push(path.display().to_string());
    }
    if session.ui.json {
        let files = if args.check { "stale" } else { "wrote" };
        let current = stale.is_empty() || !args.check;
        session.ui.json_page(&json!({"format_version": "1.0", "current": current, files: stale}));
        return Ok(if current { Exit::Ok } else { Exit::Incomplete });
    }
    if args.check && !stale.is_empty() {
        return Err(Failure::new(format!("not as they would be written: {}", stale.join(", ")))
            .hint(if args.sql { "run `trueup schema --sql`" } else { "run `trueup schema`" }));
    }
    if stale.is_empty() {
        session.ui.out("The schemas are current.\n");
    }
    Ok(Exit::Ok)
}
