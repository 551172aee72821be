//! `migrate`: what the stores lack is shown, approved and added.

use std::fmt::Write as _;

use serde_json::json;

use crate::controller::{Engine, Migration, Refused};
use crate::plan::clean;

use super::args::MigrateArgs;
use super::ask::{Answer, Question, approve};
use super::session::Session;
use super::{Exit, Failure};

/// What is missing in stores, and what became of that.
#[derive(Debug, Default)]
struct Lacks {
    /// What is to be added.
    migration: Migration,
    /// Why stores could not be looked at, or did not take it.
    refused: Refused,
    /// A line for each paused store that lacks something or cannot be looked at.
    left: Vec<String>,
}

impl Lacks {
    fn steps(&self) -> usize {
        self.migration.values().map(Vec::len).sum()
    }

    /// How the command ends.
    fn exit(&self) -> Exit {
        if self.refused.is_empty() { Exit::Ok } else { Exit::Incomplete }
    }

    fn json(&self) -> serde_json::Value {
        let refused: serde_json::Map<_, _> = self
            .refused
            .iter()
            .map(|(store, error)| {
                (store.to_string(), json!({"summary": error.message, "detail": error.hint}))
            })
            .collect();
        json!({"format_version": "1.0", "additions": self.migration, "refused": refused})
    }

    /// Says why stores could not be looked at, or did not take what they lack.
    fn say_refused(&self, session: &Session<'_>) {
        for error in self.refused.values().filter(|_| !session.ui.json) {
            session.ui.failure(&error.clone().into());
        }
    }
}

pub(super) async fn migrate(session: &Session<'_>, args: &MigrateArgs) -> Result<Exit, Failure> {
    let spec = session.load()?;
    // Printing leaves everything as it is: not even the files of embedded stores are made.
    let engine = if args.print { Engine::open_to_look(spec).await } else { Engine::open(spec, true).await? };
    let (migration, refused) = engine.lacking().await;
    let lacks = without_paused(&engine, Lacks { migration, refused, left: Vec::new() }).await?;
    if args.print {
        if session.ui.json {
            session.ui.json_page(&lacks.json());
        } else {
            session.ui.out(&statements(&lacks.migration));
        }
        lacks.say_refused(session);
        return Ok(lacks.exit());
    }
    lacks.say_refused(session);
    let steps = lacks.steps();
    if !session.ui.json && (steps > 0 || lacks.refused.is_empty() || !lacks.left.is_empty()) {
        session.ui.out(&page(&lacks, steps));
    }
    if steps == 0 {
        if session.ui.json {
            session.ui.json_page(&lacks.json());
        }
        return Ok(lacks.exit());
    }
    let question = Question {
        what: "Do you want to add these?",
        explanation: "Nothing that is there is dropped or changed.",
        refused: "Migration cancelled.",
        unasked: "give --auto-approve; `trueup migrate --print` shows what would be added, and adds nothing",
    };
    if let Answer::Stop(exit) = approve(session.ui, args.approval.auto_approve, question).await? {
        return Ok(exit);
    }
    // It may have been paused while the question stood.
    let Lacks { migration, refused: unseen, left } =
        without_paused(&engine, Lacks { left: Vec::new(), ..lacks }).await?;
    let mut done = Lacks { refused: engine.add(&migration).await, migration, left };
    done.say_refused(session);
    done.migration.retain(|store, _| !done.refused.contains_key(store));
    done.refused.extend(unseen);
    if session.ui.json {
        session.ui.json_page(&done.json());
    } else {
        let word = if done.refused.is_empty() { "complete" } else { "incomplete" };
        session.ui.out(&format!("{}Migration {word}! {} added.\n", done.left.concat(), done.steps()));
    }
    Ok(done.exit())
}

/// Nothing is added to a store that is paused as a whole; a line says so of each that lacks something or cannot be looked at.
async fn without_paused(engine: &Engine, mut lacks: Lacks) -> Result<Lacks, Failure> {
    for pause in engine.pauses().await?.iter().filter(|pause| pause.entity.is_none()) {
        let Some(store) = &pause.store else { continue };
        let what = match (lacks.migration.remove(store), lacks.refused.remove(store)) {
            (Some(steps), _) if steps.len() == 1 => "so its 1 addition is left out".to_owned(),
            (Some(steps), _) => format!("so its {} additions are left out", steps.len()),
            (None, Some(error)) => format!("and cannot be looked at: {}", error.message),
            (None, None) => continue,
        };
        let reason = clean(&pause.reason);
        lacks.left.push(format!(
            "{store} is paused ({reason}), {}; `trueup resume {store}` ends that.\n",
            clean(&what)
        ));
    }
    Ok(lacks)
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

fn page(lacks: &Lacks, steps: usize) -> String {
    let Lacks { migration, left, .. } = lacks;
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
