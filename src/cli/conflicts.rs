//! `conflicts`: the list, one in full, and a person's decision.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::controller::{Choice, Engine};
use crate::model::{Cell, FieldName, StoreName, Value};
use crate::plan::json::conflict_to_json;
use crate::plan::{Target, clean, render_table, shown};
use crate::resolve::{Conflict, ConflictSide, SideRecord};
use crate::spec::Spec;

use super::args::{ConflictsArgs, ConflictsCommand, ResolveArgs};
use super::ask::{Answer, Question, approve};
use super::planning;
use super::session::{Session, person, work_options};
use super::{Exit, Failure};

pub(super) async fn conflicts(session: &Session<'_>, args: &ConflictsArgs) -> Result<Exit, Failure> {
    let engine = session.open().await?;
    match &args.command {
        None => list(session, &engine, false).await,
        Some(ConflictsCommand::List { all }) => list(session, &engine, *all).await,
        Some(ConflictsCommand::Show { id }) => {
            let conflict = find(&engine, id).await?;
            if session.ui.json {
                session.ui.json_page(&conflict_to_json(&conflict, &open_fields(engine.spec(), &conflict)));
            } else {
                session.ui.out(&page(engine.spec(), &conflict));
            }
            Ok(Exit::Ok)
        }
        Some(ConflictsCommand::Resolve(args)) => resolve(session, &engine, args).await,
    }
}

/// Whether the values of a field of a conflict may be shown.
fn open_fields<'a>(spec: &'a Spec, conflict: &'a Conflict) -> impl Fn(&FieldName) -> bool + use<'a> {
    |field: &FieldName| spec.may_show(&conflict.record.entity, field)
}

async fn list(session: &Session<'_>, engine: &Engine, all: bool) -> Result<Exit, Failure> {
    let conflicts = engine.conflicts(all).await?;
    if session.ui.json {
        let list: Vec<_> = conflicts
            .iter()
            .map(|conflict| conflict_to_json(conflict, &open_fields(engine.spec(), conflict)))
            .collect();
        session.ui.json_page(&json!({"format_version": "1.0", "conflicts": list}));
        return Ok(Exit::Ok);
    }
    if conflicts.is_empty() {
        session.ui.out(if all { "There are no conflicts.\n" } else { "No conflict waits for a person.\n" });
        return Ok(Exit::Ok);
    }
    session.ui.out(&table(&conflicts));
    if conflicts.iter().any(|conflict| conflict.status.is_open()) {
        session.ui.advice("\n`trueup conflicts show ID` shows all sides; `trueup conflicts resolve ID --take STORE` decides.\n");
    }
    Ok(Exit::Ok)
}

/// Conflicts as a table.
pub(super) fn table(conflicts: &[Conflict]) -> String {
    let heading =
        ["ID", "STATUS", "RECORD", "FIELDS", "STORES", "REASON", "SINCE"].map(str::to_owned).to_vec();
    let rows = conflicts.iter().map(row);
    render_table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>(), 7)
}

fn row(conflict: &Conflict) -> Vec<String> {
    let stores: Vec<&str> = conflict.sides.iter().map(|side| side.store.as_str()).collect();
    vec![
        conflict.id.to_string(),
        conflict.status.as_str().to_owned(),
        clean(&conflict.record.to_string()),
        fields_of(conflict),
        stores.join(", "),
        conflict.reason.as_str().to_owned(),
        conflict.created_at.to_string(),
    ]
}

fn fields_of(conflict: &Conflict) -> String {
    let fields: Vec<&str> = conflict.fields.iter().map(FieldName::as_str).collect();
    if fields.is_empty() { "(record)".to_owned() } else { fields.join(", ") }
}

/// The conflict of an id or of the beginning of one.
async fn find(engine: &Engine, id: &str) -> Result<Conflict, Failure> {
    let mut matching: Vec<Conflict> =
        engine.conflicts(true).await?.into_iter().filter(|conflict| conflict.id.0.starts_with(id)).collect();
    if let Some(exact) = matching.iter().position(|conflict| conflict.id.0 == id) {
        return Ok(matching.swap_remove(exact));
    }
    match (matching.len(), matching.pop()) {
        (1, Some(conflict)) if !id.is_empty() => Ok(conflict),
        (0, _) => Err(Failure::new(format!("there is no conflict with the id {id}"))
            .hint("`trueup conflicts list --all` shows the ids")),
        (count, _) => Err(Failure::new(format!("{count} conflicts have an id that begins with `{id}`"))
            .hint("write more of it")),
    }
}

fn page(spec: &Spec, conflict: &Conflict) -> String {
    let mut lines = vec![
        format!("Conflict {} of {}", conflict.id, clean(&conflict.record.to_string())),
        format!("  fields: {}", fields_of(conflict)),
        format!("  status: {} ({})", conflict.status.as_str(), conflict.reason.as_str()),
        format!("  since:  {}", conflict.created_at),
    ];
    if let Some(at) = conflict.resolved_at {
        let by = conflict.resolved_by.as_deref().unwrap_or("nobody");
        lines.push(format!("  ended:  {at} by {}", clean(by)));
    }
    if let Some(winner) = &conflict.winner {
        lines.push(format!("  winner: {winner}"));
    }
    let open = open_fields(spec, conflict);
    for side in &conflict.sides {
        lines.push(String::new());
        lines.extend(side_lines(conflict, side, &open));
    }
    if let Some(decision) = &conflict.decision {
        let whose = decision
            .store
            .as_ref()
            .map_or_else(|| "given values".to_owned(), |store| format!("those of {store}"));
        lines.push(format!("\n  decided: {whose}, by {} at {}", clean(&decision.by), decision.at));
    }
    let decide = if conflict.status.is_open() { "Decide" } else { "Let a side stand after all" };
    let store = conflict.sides.iter().find(|side| Some(&side.store) != conflict.winner.as_ref());
    let store = store.map_or("STORE", |side| side.store.as_str());
    lines.push(format!("\n{decide} with `trueup conflicts resolve {} --take {store}`.", conflict.id));
    lines.join("\n") + "\n"
}

fn side_lines(conflict: &Conflict, side: &ConflictSide, open: &dyn Fn(&FieldName) -> bool) -> Vec<String> {
    let time = side.time.map_or_else(|| "no known time".to_owned(), |time| time.to_string());
    let mut lines = vec![format!("  {} (version {}, {time}):", side.store, side.version)];
    let SideRecord::Held(record) = &side.record else {
        lines.push("      deleted there".to_owned());
        return lines;
    };
    let shown_value = |field: &FieldName, value: &Value| shown(&Cell::Value(value.clone()), !open(field));
    let competing: BTreeSet<&FieldName> = side.values.keys().chain(&conflict.fields).collect();
    let width = record.keys().chain(side.values.keys()).map(|field| field.as_str().len()).max().unwrap_or(0);
    for (field, value) in &side.values {
        lines.push(format!("    > {:width$} = {}", field.as_str(), shown_value(field, value)));
    }
    for (field, value) in
        record.iter().filter(|(field, value)| !competing.contains(field) && !value.is_null())
    {
        lines.push(format!("      {:width$} = {}", field.as_str(), shown_value(field, value)));
    }
    lines
}

async fn resolve(session: &Session<'_>, engine: &Engine, args: &ResolveArgs) -> Result<Exit, Failure> {
    let conflict = find(engine, &args.id).await?;
    let choice = choice(&conflict, args)?;
    if !session.ui.json {
        session.ui.out(&page(engine.spec(), &conflict));
    }
    let mut what = match &choice {
        Choice::Take(store) => format!("The values of {store} will stand in every store."),
        Choice::Set(values) => {
            let fields: Vec<&str> = values.keys().map(FieldName::as_str).collect();
            format!("The given {} will stand in every store.", fields.join(", "))
        }
    };
    if !conflict.status.is_open() {
        what += " The conflict ended already: that is a new edit.";
    }
    let question = Question {
        what: "Do you want to decide it so?",
        explanation: &what,
        refused: "Nothing was decided.",
        unasked: "give --auto-approve",
    };
    if let Answer::Stop(exit) = approve(session.ui, args.approval.auto_approve, question).await? {
        return Ok(exit);
    }
    carry_out(session, engine, &conflict, choice, args).await
}

/// Records the decision, or makes the edit, and makes a pass over its record.
async fn carry_out(
    session: &Session<'_>,
    engine: &Engine,
    conflict: &Conflict,
    choice: Choice,
    args: &ResolveArgs,
) -> Result<Exit, Failure> {
    if conflict.status.is_open() {
        engine.decide(&conflict.id, choice, &person()).await?;
    } else {
        engine.take_again(conflict, choice).await?;
    }
    let target = Target { entity: conflict.record.entity.clone(), key: Some(conflict.record.key.clone()) };
    let options = crate::controller::PassOptions { targets: vec![target], ..work_options(&args.work) };
    let plan = planning::make(session, engine, &options).await?;
    planning::start_stream(session.ui);
    planning::show(session, engine, &plan);
    session.ui.advice("\n");
    planning::carry_out(session, engine, plan, false, &options).await
}

fn choice(conflict: &Conflict, args: &ResolveArgs) -> Result<Choice, Failure> {
    let stores: Vec<&str> = conflict.sides.iter().map(|side| side.store.as_str()).collect();
    if let Some(store) = &args.take {
        let side = StoreName::new(store).ok().filter(|store| conflict.side(store).is_some());
        return side.map(Choice::Take).ok_or_else(|| {
            Failure::new(format!("--take {store}: that store has no side in the conflict"))
                .hint(format!("take one of {}", stores.join(", ")))
        });
    }
    let mut values = BTreeMap::new();
    for text in &args.set {
        let parsed =
            text.split_once('=').and_then(|(field, value)| Some((FieldName::new(field.trim()).ok()?, value)));
        let Some((field, value)) = parsed else {
            return Err(Failure::new(format!("--set {text}: write FIELD=VALUE")));
        };
        if !conflict.fields.is_empty() && !conflict.fields.contains(&field) {
            let failure = Failure::new(format!("--set {field}: the conflict is not about that field"));
            return Err(failure.hint(format!("it is about {}", fields_of(conflict))));
        }
        values.insert(field, value.to_owned());
    }
    let missing: Vec<&str> =
        conflict.fields.iter().filter(|field| !values.contains_key(*field)).map(FieldName::as_str).collect();
    if !missing.is_empty() {
        return Err(Failure::new(format!("no value is given for {}", missing.join(", ")))
            .hint("give a --set for each field of the conflict"));
    }
    Ok(Choice::Set(values))
}
