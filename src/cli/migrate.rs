//! `migrate`: what the stores lack is shown, approved and added.

use std::fmt::Write as _;

use serde_json::json;

use crate::controller::{Engine, Migration};
use crate::plan::clean;

use super::args::MigrateArgs;
use super::ask::{Answer, Question, approve};
use super::session::Session;
use super::{Exit, Failure};

pub(super) async fn migrate(session: &Session<'_>, args: &MigrateArgs) -> Result<Exit, Failure> {
    let spec = session.load()?;
    // Printing leaves everything as it is: not even the files of embedded stores are made.
    let engine = if args.print { Engine::open_to_look(spec).await } else { Engine::open(spec, true).await? };
    let (migration, left) = without_paused(&engine, engine.migration().await?).await?;
    let steps: usize = migration.values().map(Vec::len).sum();
    if args.print {
        session.ui.out(&if session.ui.json {
            format!("{:#}\n", json!(migration))
        } else {
            statements(&migration)
        });
        return Ok(Exit::Ok);
    }
    if !session.ui.json {
        session.ui.out(&page(&migration, steps, &left));
    }
    if steps > 0 {
        let question = Question {
            what: "Do you want to add these?",
            explanation: "Nothing that is there is dropped or changed.",
            refused: "Migration cancelled.",
            unasked: "give --auto-approve; `trueup migrate --print` shows what would be added, and adds nothing",
        };
        let answer = approve(session.ui, args.approval.auto_approve, question);
        if let Answer::Stop(exit) = answer.await? {
            return Ok(exit);
        }
    }
    // It may have been paused while the question stood.
    let (migration, left) = without_paused(&engine, migration).await?;
    if steps > 0 {
        engine.migrate(&migration).await?;
    }
    if session.ui.json {
        session.ui.json_page(&json!(migration));
    } else if steps > 0 {
        let steps: usize = migration.values().map(Vec::len).sum();
        session.ui.out(&format!("{}Migration complete! {steps} added.\n", left.concat()));
    }
    Ok(Exit::Ok)
}

/// Nothing is added to a store that is paused as a whole; a line says so of each that lacks something.
async fn without_paused(
    engine: &Engine,
    mut migration: Migration,
) -> Result<(Migration, Vec<String>), Failure> {
    let mut left = Vec::new();
    for pause in engine.pauses().await?.iter().filter(|pause| pause.entity.is_none()) {
        let store = pause.store.as_ref().and_then(|store| Some((store, migration.remove(store)?)));
        if let Some((store, steps)) = store {
            let reason = clean(&pause.reason);
            left.push(format!(
                "{store} is paused ({reason}), so its {} left out; `trueup resume {store}` ends that.\n",
                if steps.len() == 1 {
                    "1 addition is".to_owned()
                } else {
                    format!("{} additions are", steps.len())
                }
            ));
        }
    }
    Ok((migration, left))
}

/// The statements alone, for someone else to run.
fn statements(migration: &Migration) -> String {
    let mut text = String::new();
    for (store, steps) in migration.iter().filter(|(_, steps)| !steps.is_empty()) {
        let _ = writeln!(text, "-- store {store}");
        for step in steps {
            text.push_str(step.statement.trim_end_matches(';'));
            text.push_str(";\n");
        }
    }
    text
}

fn page(migration: &Migration, steps: usize, left: &[String]) -> String {
    if steps == 0 && !left.is_empty() {
        return format!("{}Nothing else is missing.\n", left.concat());
    }
    if steps == 0 {
        return "No changes. The stores have every table and column that the manifests name.\n".to_owned();
    }
    let mut text = "trueup will add the following to the stores:\n\n".to_owned();
    for (store, steps) in migration.iter().filter(|(_, steps)| !steps.is_empty()) {
        let _ = writeln!(text, "  # {store}");
        for step in steps {
            let _ = writeln!(text, "  + {}", clean(&step.adds));
        }
        text.push('\n');
    }
    text.push_str(&left.concat());
    let _ = writeln!(text, "Migration: {steps} to add. `trueup migrate --print` prints the statements.");
    text
}
