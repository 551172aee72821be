//! `explain`: a record as every store has it, what it should be, and why.

use std::fmt::Write as _;

use serde_json::json;

use crate::controller::Explained;
use crate::model::FieldName;
use crate::plan::json::conflict_to_json;
use crate::plan::{clean, explanation_json, explanation_page};
use crate::spec::Spec;

use super::args::ExplainArgs;
use super::session::{Session, record};
use super::{Exit, Failure, conflicts, deleted, pausing};

pub(super) async fn explain(session: &Session<'_>, args: &ExplainArgs) -> Result<Exit, Failure> {
    let engine = session.open().await?;
    let spec = engine.spec();
    let record = record(spec, &args.record)?;
    let explained = engine.explain(&record).await?;
    let exit = if explained.unreadable.is_empty() { Exit::Ok } else { Exit::Incomplete };
    let Explained { explanation, unreadable, conflicts, deleted, pauses, errors } = &explained;
    if explanation.is_nowhere() && deleted.is_none() && conflicts.is_empty() {
        let message = format!("no store has {}, and nothing is known of it", clean(&record.to_string()));
        return Err(Failure::new(message));
    }
    if session.ui.json {
        session.ui.json_page(&to_json(spec, &explained));
        return Ok(exit);
    }
    let mut text = explanation_page(explanation, &session.ui.render_options(Some(spec)));
    for error in unreadable.values() {
        let _ = writeln!(text, "\n{} could not be read: {}", error.store, clean(&error.message));
    }
    if !conflicts.is_empty() {
        let _ = write!(text, "\nIts conflicts:\n\n{}", conflicts::table(conflicts));
    }
    if let Some(deleted) = deleted {
        let _ = write!(text, "\n{}\n", deleted::heading(deleted));
    }
    if !pauses.is_empty() {
        let _ = write!(text, "\nPaused:\n{}", pausing::list(pauses));
    }
    if !errors.is_empty() {
        let _ = write!(text, "\nAlso wrong when the last pass ended:\n\n{}", pausing::page(errors));
    }
    session.ui.out(&text);
    if spec.entity(&record.entity).is_some_and(|entity| spec.hangs_together(entity)) {
        session.ui.advice(&format!(
            "\nThis is the record by itself. `trueup plan --target '{}'` looks at the records around it too.\n",
            clean(&record.to_string())
        ));
    }
    Ok(exit)
}

fn to_json(spec: &Spec, explained: &Explained) -> serde_json::Value {
    let mut page = explanation_json(&explained.explanation);
    let entity = &explained.explanation.record.entity;
    let open = |field: &FieldName| spec.may_show(entity, field);
    let unreadable =
        explained.unreadable.iter().map(|(store, error)| (store.to_string(), json!(error.message)));
    page["unreadable"] = serde_json::Value::Object(unreadable.collect());
    page["conflicts"] =
        explained.conflicts.iter().map(|conflict| conflict_to_json(conflict, &open)).collect();
    page["deleted"] = explained.deleted.as_ref().map(deleted::to_json).into();
    page["pauses"] = json!(explained.pauses);
    page["errors"] = json!(explained.errors);
    page
}
