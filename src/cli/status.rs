//! `status`: where every record stands, from a fresh look that writes nothing.

use std::fmt::Write as _;

use serde_json::json;

use crate::controller::PassOptions;
use crate::plan::json::{books_json, conflict_to_json};
use crate::plan::{NoticeKind, Plan, clean, render_books};
use crate::resolve::Conflict;
use crate::state::Lease;

use super::pausing;
use super::planning;
use super::session::Session;
use super::{Exit, Failure};

pub(super) async fn status(session: &Session<'_>) -> Result<Exit, Failure> {
    let engine = session.open().await?;
    let plan = planning::make(session, &engine, &PassOptions::default()).await?;
    let lease = engine.lease().await?;
    let last_pass = engine.last_pass().await?;
    let conflicts = engine.conflicts(false).await?;
    let errors = engine.errors_of(&plan).await?;
    let (pauses, paused) = pausing::pauses_page(&engine).await?;
    if session.ui.json {
        // Values are left out: status is for dashboards and tickets.
        let open: Vec<_> = conflicts.iter().map(|conflict| conflict_to_json(conflict, &|_| false)).collect();
        session.ui.json_page(&json!({
            "format_version": "1.0",
            "at": plan.made_at,
            "spec_sha": plan.spec_sha,
            "last_pass": last_pass,
            "lease": lease.map(|lease| json!({"holder": lease.holder, "expires": lease.expires})),
            "books": books_json(&plan.books),
            "to_do": plan.totals(),
            "guards": plan.guards,
            "approvals": plan.approvals,
            "errors": errors,
            "pauses": pauses,
            "notices": plan.notices,
            "open_conflicts": open,
        }));
    } else {
        let mut text = page(&plan, last_pass, lease.as_ref(), &conflicts);
        if !paused.is_empty() {
            let _ = write!(text, "\nPaused:\n{paused}");
        }
        if !errors.is_empty() {
            let _ = writeln!(
                text,
                "\n{} things are not as they should be; `trueup errors` says since when and what to do.",
                errors.len()
            );
        }
        session.ui.out(&text);
    }
    Ok(Exit::Ok)
}

fn page(plan: &Plan, last_pass: i64, lease: Option<&Lease>, conflicts: &[Conflict]) -> String {
    let mut text = format!("As of {}, under the manifests {}.\n", plan.made_at, short(&plan.spec_sha));
    match last_pass {
        0 => text.push_str("No pass has written or remembered anything yet.\n"),
        number => {
            let _ = writeln!(text, "The last pass that wrote or remembered anything was number {number}.");
        }
    }
    match lease {
        Some(lease) => {
            let _ = writeln!(
                text,
                "{} is at work (its lease lasts until {}).",
                clean(&lease.holder),
                lease.expires
            );
        }
        None => text.push_str("No controller is at work.\n"),
    }
    let _ = write!(text, "\n{}", render_books(&plan.books));
    let totals = plan.totals();
    let _ = writeln!(
        text,
        "\nTo do: {} to add, {} to change, {} to destroy, {} metadata only.",
        totals.create, totals.update, totals.delete, totals.metadata
    );
    for trip in &plan.guards {
        let _ = writeln!(text, "Error: {}", clean(&trip.to_string()));
    }
    for (entity, code) in &plan.approvals {
        let _ = writeln!(text, "To let `run` carry it out for {entity}: trueup approve {code}");
    }
    if !conflicts.is_empty() {
        let _ = writeln!(text, "\nConflicts that wait for a person:");
        for conflict in conflicts {
            let stores: Vec<&str> = conflict.sides.iter().map(|side| side.store.as_str()).collect();
            let _ = writeln!(
                text,
                "  {} {} ({})",
                conflict.id,
                clean(&conflict.record.to_string()),
                stores.join(", ")
            );
        }
    }
    notices(&mut text, plan);
    text
}

/// What is not said by the table and the conflicts.
fn notices(text: &mut String, plan: &Plan) {
    let said = |kind| matches!(kind, NoticeKind::Held);
    let mut notices = plan.notices.iter().filter(|notice| !said(notice.kind)).peekable();
    if notices.peek().is_some() {
        text.push_str("\nWorth knowing:\n");
    }
    for notice in notices {
        let place = notice
            .record
            .as_ref()
            .map(ToString::to_string)
            .or(notice.entity.as_ref().map(ToString::to_string));
        let store = notice.store.as_ref().map_or(String::new(), |store| format!("{store}."));
        let _ = writeln!(text, "  {store}{}: {}", clean(&place.unwrap_or_default()), clean(&notice.message));
    }
}

fn short(sha: &str) -> &str {
    sha.get(..12).unwrap_or(sha)
}
