//! `pause`, `resume`, `approve` and `errors`: what people tell a controller, and what it waits for people to do.

use std::fmt::Write as _;

use serde_json::json;

use crate::controller::{Engine, KnownError, PassOptions, Pause};
use crate::model::{EntityName, StoreName};
use crate::plan::clean;
use crate::spec::Spec;

use super::args::{ApproveArgs, PauseArgs, ResumeArgs};
use super::planning;
use super::session::{Session, person, target};
use super::{Exit, Failure};

/// As much of a plan's code as has to be written.
const SHORTEST_CODE: usize = 6;

/// What an address names: `app`, `contacts`, `contacts["C1"]`, `app.contacts`, `app.contacts["C1"]`.
fn place(spec: &Spec, text: &str) -> Result<Pause, Failure> {
    let text = text.trim();
    let store = |name: &str| StoreName::new(name).ok().filter(|name| spec.stores.contains_key(name));
    let is_entity = |name: &str| EntityName::new(name).is_ok_and(|name| spec.entity(&name).is_some());
    let (head, _) = text.split_once('[').unwrap_or((text, ""));
    let (of_store, rest) = match (store(head), head.split_once('.')) {
        // A store of this name comes before an entity of it.
        (Some(name), _) if !is_entity(head) => (Some(name), None),
        (_, Some((first, after))) if store(first).is_some() && is_entity(after) => {
            (store(first), text.get(first.len() + 1..))
        }
        _ => (None, Some(text)),
    };
    let named = match rest {
        Some(rest) => Some(target(spec, rest).map_err(|failure| {
            let stores: Vec<&str> = spec.stores.keys().map(StoreName::as_str).collect();
            failure.hint(format!(
                "name a store ({}), an entity, a record (`articles[\"A-100\"]`), or one of a store's (`{}.articles`)",
                stores.join(", "),
                stores.first().unwrap_or(&"shop")
            ))
        })?),
        None => None,
    };
    let now = crate::apply::clock();
    Ok(Pause {
        store: of_store,
        entity: named.as_ref().map(|target| target.entity.clone()),
        key: named.and_then(|target| target.key),
        reason: String::new(),
        by: String::new(),
        since: now,
        until: None,
    })
}

pub(super) async fn pause(session: &Session<'_>, args: &PauseArgs) -> Result<Exit, Failure> {
    let engine = session.open().await?;
    let place = place(engine.spec(), &args.address)?;
    if args.reason.trim().is_empty() {
        return Err(Failure::new("a pause without a reason helps nobody who finds it later")
            .hint("say why with --reason \"...\""));
    }
    let length = args.duration.map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
    let pause = Pause {
        reason: args.reason.trim().to_owned(),
        by: person(),
        until: length.map(|micros| place.since.saturating_add_micros(micros)),
        ..place
    };
    engine.pause(&pause).await?;
    if session.ui.json {
        let (at, address) = (pause.since, pause.address());
        session.ui.json_page(&json!({"format_version": "1.0", "at": at, "paused": address, "pause": pause}));
        return Ok(Exit::Ok);
    }
    session.ui.out(&format!(
        "Paused {}: nothing is written there {}.\n",
        clean(&pause.address()),
        ends(&pause)
    ));
    Ok(Exit::Ok)
}

fn ends(pause: &Pause) -> String {
    match pause.until {
        Some(until) => format!("until {until}"),
        None => format!("until `trueup resume '{}'`", clean(&pause.address())),
    }
}

pub(super) async fn resume(session: &Session<'_>, args: &ResumeArgs) -> Result<Exit, Failure> {
    let engine = session.open().await?;
    let known = engine.pauses().await?;
    // What left the manifests can be resumed by the words it was paused with.
    let address = place(engine.spec(), &args.address)
        .map_or_else(|_| args.address.trim().to_owned(), |place| place.address());
    if !engine.resume(&address).await? {
        let list: Vec<String> = known.iter().map(Pause::address).collect();
        let hint = if list.is_empty() {
            "nothing is paused".to_owned()
        } else {
            format!("paused are {}", clean(&list.join(", ")))
        };
        return Err(Failure::new(format!("{} is not paused", clean(&address))).hint(hint));
    }
    if session.ui.json {
        let at = engine.now();
        session.ui.json_page(&json!({"format_version": "1.0", "at": at, "resumed": address}));
        return Ok(Exit::Ok);
    }
    session.ui.out(&format!("Resumed {}; the next pass brings it up.\n", clean(&address)));
    Ok(Exit::Ok)
}

pub(super) async fn approve(session: &Session<'_>, args: &ApproveArgs) -> Result<Exit, Failure> {
    let engine = session.open().await?;
    let plan = planning::make(session, &engine, &PassOptions::default()).await?;
    let code = args.code.trim();
    let fits = |known: &&String| code.len() >= SHORTEST_CODE && known.starts_with(code);
    let mut matching = plan.approvals.iter().filter(|(_, known)| fits(known));
    let (Some((entity, known)), None) = (matching.next(), matching.next()) else {
        let waiting: Vec<String> =
            plan.approvals.iter().map(|(entity, code)| format!("{code} ({entity})")).collect();
        let hint = if code.len() < SHORTEST_CODE {
            format!("write {SHORTEST_CODE} of its characters or more; waiting now: {}", waiting.join(", "))
        } else if waiting.is_empty() {
            "no plan waits for an approval now".to_owned()
        } else {
            format!(
                "waiting now: {}; where the code is another one each time, because records keep changing, `trueup apply --allow GUARD` \
                 plans and writes at once",
                waiting.join(", ")
            )
        };
        return Err(
            Failure::new(format!("no plan with the code {} waits for an approval", clean(code))).hint(hint)
        );
    };
    engine.approve(known, &person()).await?;
    let trips = plan.guards.iter().filter(|trip| &trip.entity == entity);
    if session.ui.json {
        let (at, guards) = (plan.made_at, trips.collect::<Vec<_>>());
        let page =
            json!({"format_version": "1.0", "at": at, "approved": known, "entity": entity, "guards": guards});
        session.ui.json_page(&page);
        return Ok(Exit::Ok);
    }
    for trip in trips {
        session.ui.out(&format!("Approved: {} in {}: {}\n", trip.entity, trip.store, clean(&trip.message)));
    }
    session.ui.out("The next pass carries it out, unless something moves before: then it is another plan.\n");
    Ok(Exit::Ok)
}

pub(super) async fn errors(session: &Session<'_>) -> Result<Exit, Failure> {
    let engine = session.open().await?;
    let plan = planning::make(session, &engine, &PassOptions::default()).await?;
    let errors = engine.errors_of(&plan).await?;
    if session.ui.json {
        session.ui.json_page(&json!({"format_version": "1.0", "at": plan.made_at, "errors": errors}));
    } else if errors.is_empty() {
        session.ui.out("Nothing failed, and nothing is held, rejected or unknown.\n");
    } else {
        session.ui.out(&page(&errors));
    }
    Ok(Exit::Ok)
}

/// What is wrong, since when, and what to do about it.
pub(super) fn page(errors: &[KnownError]) -> String {
    let mut text = String::new();
    for error in errors {
        let what = error.record.clone().or_else(|| error.entity.as_ref().map(ToString::to_string));
        let store = error.store.as_ref().map_or(String::new(), |store| format!("{store}."));
        let place = format!("{store}{}", what.unwrap_or_default());
        let _ = writeln!(text, "{} since {}: {}", error.kind, error.since, clean(&place));
        let _ = writeln!(text, "    {}", clean(&error.message));
        let _ = writeln!(text, "    To do: {}", clean(&error.hint));
    }
    text
}

/// Pauses, a line each.
pub(super) fn list(pauses: &[Pause]) -> String {
    let mut text = String::new();
    for pause in pauses {
        let _ = writeln!(
            text,
            "  {} since {} by {}, {}: {}",
            clean(&pause.address()),
            pause.since,
            clean(&pause.by),
            ends(pause),
            clean(&pause.reason)
        );
    }
    text
}

/// The pauses that hold, for people.
pub(super) async fn pauses_page(engine: &Engine) -> Result<(Vec<Pause>, String), Failure> {
    let pauses = engine.pauses().await?;
    let text = list(&pauses);
    Ok((pauses, text))
}
