//! `deleted`: records that were deleted, what is kept of them, and putting them back.

use serde_json::json;

use crate::controller::{Engine, PassOptions};
use crate::model::{Cell, FieldName};
use crate::plan::{Target, clean, render_table, shown};
use crate::reconcile::{Deleted, Recovered, recover};
use crate::spec::Spec;

use super::args::{DeletedArgs, DeletedCommand, RestoreArgs};
use super::ask::{Answer, Question, approve};
use super::planning;
use super::session::{Session, record, work_options};
use super::{Exit, Failure};

/// So many records are listed unless all are asked for.
const LISTED: usize = 100;

pub(super) async fn deleted(session: &Session<'_>, args: &DeletedArgs) -> Result<Exit, Failure> {
    let engine = session.open().await?;
    match args.command.as_ref().unwrap_or(&DeletedCommand::List) {
        DeletedCommand::List => list(session, &engine).await,
        DeletedCommand::Show { record } => show(session, &engine, record).await,
        DeletedCommand::Restore(args) => restore(session, &engine, args).await,
    }
}

async fn list(session: &Session<'_>, engine: &Engine) -> Result<Exit, Failure> {
    let deleted = engine.deleted().await?;
    if session.ui.json {
        let list: Vec<_> = deleted.iter().map(to_json).collect();
        session.ui.json_page(&json!({"format_version": "1.0", "deleted": list}));
        return Ok(Exit::Ok);
    }
    if deleted.is_empty() {
        session.ui.out("No deleted record is kept.\n");
        return Ok(Exit::Ok);
    }
    let listed = if session.ui.verbose { deleted.len() } else { LISTED };
    let mut table = vec![["RECORD", "DELETED", "IN", "EVERYWHERE"].map(str::to_owned).to_vec()];
    table.extend(deleted.iter().take(listed).map(|of| {
        let everywhere = if of.confirmed { "yes" } else { "not yet" };
        vec![clean(&of.record.to_string()), of.deleted_at.to_string(), whence(of), everywhere.to_owned()]
    }));
    session.ui.out(&render_table(&table, 4));
    if deleted.len() > listed {
        session.ui.out(&format!("... and {} more (--verbose lists them)\n", deleted.len() - listed));
    }
    session.ui.advice(
        "\n`trueup deleted show RECORD` shows what is kept of one; `trueup deleted restore RECORD` puts it back.\n",
    );
    Ok(Exit::Ok)
}

/// Where it was deleted.
fn whence(deleted: &Deleted) -> String {
    if deleted.deleted_by.is_empty() { "(with another)".to_owned() } else { deleted.deleted_by.join(", ") }
}

pub(super) fn to_json(deleted: &Deleted) -> serde_json::Value {
    json!({
        "address": deleted.record.to_string(), "entity": deleted.record.entity, "key": deleted.record.key,
        "deleted_at": deleted.deleted_at, "deleted_by": deleted.deleted_by, "version": deleted.version,
        "everywhere": deleted.confirmed,
    })
}

async fn show(session: &Session<'_>, engine: &Engine, text: &str) -> Result<Exit, Failure> {
    let record = record(engine.spec(), text)?;
    let (these, along) = engine.deleted_with_rows(std::slice::from_ref(&record)).await?;
    for deleted in &these {
        let recovered = recover(engine.spec(), deleted).unwrap_or_default();
        if session.ui.json {
            let mut object = to_json(deleted);
            object["format_version"] = json!("1.0");
            object["fields"] = open_fields(engine.spec(), deleted, &recovered);
            object["not_kept"] = json!(recovered.lost);
            object["unmapped"] = json!(recovered.unmapped);
            object["along"] = along.iter().map(to_json).collect();
            session.ui.json_page(&object);
        } else {
            session.ui.out(&page(engine.spec(), deleted, &recovered, &along));
        }
    }
    Ok(Exit::Ok)
}

/// The values that may be shown.
fn open_fields(spec: &Spec, deleted: &Deleted, recovered: &Recovered) -> serde_json::Value {
    let Some(entity) = spec.entity(&deleted.record.entity) else { return json!({}) };
    let open = recovered.fields.iter().filter(|(field, _)| !entity.field(**field).sensitive);
    let named = open.map(|(field, value)| (entity.field(*field).name.to_string(), value.to_plain()));
    serde_json::Value::Object(named.collect())
}

/// When and where it was deleted.
pub(super) fn heading(deleted: &Deleted) -> String {
    let whence = if deleted.deleted_by.is_empty() {
        "with another record".to_owned()
    } else {
        format!("in {}", whence(deleted))
    };
    let record = clean(&deleted.record.to_string());
    format!("{record} was deleted at {} (version {}): {whence}", deleted.deleted_at, deleted.version)
}

fn page(spec: &Spec, deleted: &Deleted, recovered: &Recovered, along: &[Deleted]) -> String {
    let mut lines = vec![heading(deleted)];
    if let Some(entity) = spec.entity(&deleted.record.entity) {
        let held = || recovered.fields.iter().filter(|(_, value)| !value.is_null());
        let width = held().map(|(field, _)| entity.field(*field).name.as_str().len()).max().unwrap_or(0);
        lines.extend(held().map(|(id, value)| {
            let field = entity.field(*id);
            format!(
                "    {:width$} = {}",
                field.name.as_str(),
                shown(&Cell::Value(value.clone()), field.sensitive)
            )
        }));
    }
    lines.extend(limits(deleted, recovered));
    if !along.is_empty() {
        lines.push(format!("  went with it: {}", names(along)));
    }
    lines.push(format!(
        "\nPut it back with `trueup deleted restore '{}'`.",
        clean(&deleted.record.to_string())
    ));
    lines.join("\n") + "\n"
}

/// What does not come back.
fn limits(deleted: &Deleted, recovered: &Recovered) -> Vec<String> {
    let mut lines = Vec::new();
    if deleted.rows.is_empty() {
        lines.push("  no row of it is kept".to_owned());
    }
    if !recovered.lost.is_empty() {
        let lost: Vec<&str> = recovered.lost.iter().map(FieldName::as_str).collect();
        lines.push(format!("  told by no row that is kept: {}", lost.join(", ")));
    }
    for (store, columns) in &recovered.unmapped {
        let columns = clean(&columns.join(", "));
        lines
            .push(format!("  columns of {store} that no mapping names stay in trueup_tombstones: {columns}"));
    }
    lines
}

/// Some records by name, and how many more there are.
fn names(deleted: &[Deleted]) -> String {
    const NAMED: usize = 10;
    let mut names: Vec<String> = deleted.iter().take(NAMED).map(|of| clean(&of.record.to_string())).collect();
    if deleted.len() > NAMED {
        names.push(format!("and {} more", deleted.len() - NAMED));
    }
    names.join(", ")
}

async fn restore(session: &Session<'_>, engine: &Engine, args: &RestoreArgs) -> Result<Exit, Failure> {
    let spec = engine.spec();
    let records = args.records.iter().map(|text| record(spec, text)).collect::<Result<Vec<_>, _>>()?;
    let (mut back, along) = engine.deleted_with_rows(&records).await?;
    if !args.alone {
        back.extend(along);
    }
    if !session.ui.json {
        for deleted in &back {
            let recovered = recover(spec, deleted).unwrap_or_default();
            let lines = limits(deleted, &recovered);
            if !lines.is_empty() {
                session.ui.out(&format!("{}\n{}\n", clean(&deleted.record.to_string()), lines.join("\n")));
            }
        }
    }
    let what = format!("To stand in every store again: {}.", names(&back));
    let question = Question {
        what: "Do you want to put back what was deleted?",
        explanation: &what,
        refused: "Nothing was put back.",
        unasked: "give --auto-approve",
    };
    if let Answer::Stop(exit) = approve(session.ui, args.approval.auto_approve, question).await? {
        return Ok(exit);
    }
    engine.put_back(&back).await?;
    let targets =
        back.into_iter().map(|of| Target { entity: of.record.entity, key: Some(of.record.key) }).collect();
    let options = PassOptions { targets, ..work_options(&args.work) };
    let plan = planning::make(session, engine, &options).await?;
    planning::start_stream(session.ui);
    planning::show(session, engine, &plan);
    session.ui.advice("\n");
    planning::carry_out(session, engine, plan, false, &options).await
}
