//! The canonical record's own account of its troubles: `sync_status` and `sync_errors`, written when trouble begins, changes or
//! ends, and at no other time.

use std::sync::Arc;

use crate::model::{ByName, SyncError, SyncMeta, SyncStatus};
use crate::resolve::{Fate, Resolution, View};

use super::{Action, ActionKind, Reason, SidePlan, Standing};

/// How many troubles a record keeps.
const ERRORS_KEPT: usize = 10;

/// Puts the status and errors into the canonical store's action, or makes one for them where they changed.
pub(super) fn add(view: &View<'_>, resolution: &Resolution, plans: &mut [SidePlan]) {
    let canonical = view.canonical();
    if resolution.fate != Fate::Alive || !canonical.mapping.has_bookkeeping() || !canonical.writable {
        return;
    }
    let known: &[SyncError] = canonical.row().map(|row| row.meta.sync_errors.as_slice()).unwrap_or_default();
    let errors = troubles(view, resolution, plans, known);
    let waits = plans.iter().any(|plan| plan.standing == Standing::Pending);
    let status = if resolution.held.is_empty() && resolution.regressed.is_empty() {
        if waits || !resolution.rejections.is_empty() { SyncStatus::Pending } else { SyncStatus::Synced }
    } else {
        SyncStatus::Conflict
    };
    let Some(plan) = plans.iter_mut().find(|plan| plan.store == *canonical.store) else { return };
    if let Some(meta) = plan.action.as_mut().and_then(|action| action.meta_after.as_mut()) {
        meta.sync_status = Some(status);
        meta.sync_errors = errors;
        return;
    }
    let Some(row) = canonical.row().filter(|_| plan.action.is_none()) else { return };
    let stands = row.meta.sync_status.unwrap_or_default();
    if stands == status && known == errors {
        return;
    }
    let Some(advance) = plan.adopt.take().or_else(|| canonical.shadow.cloned().map(Arc::new)) else { return };
    plan.action = Some(Action {
        store: canonical.store.clone(),
        kind: ActionKind::Bookkeeping,
        reason: Reason::Trouble,
        store_id: row.store_id.clone(),
        link: false,
        changes: Vec::new(),
        guard: ByName::new(),
        meta_before: row.meta.clone(),
        meta_after: Some(SyncMeta { sync_status: Some(status), sync_errors: errors, ..row.meta.clone() }),
        created: None,
        updated: None,
        advance,
    });
}

/// The record's present troubles, each with the time it was first seen.
fn troubles(
    view: &View<'_>,
    resolution: &Resolution,
    plans: &[SidePlan],
    known: &[SyncError],
) -> Vec<SyncError> {
    let mut found: Vec<SyncError> = Vec::new();
    let mut add = |store: String, field: Option<String>, rule: &str, message: String| {
        let before = known.iter().find(|old| old.store == store && old.field == field && old.rule == rule);
        let at = before.map_or(view.now, |old| old.at);
        found.push(SyncError { at, store, field, rule: rule.to_owned(), message });
    };
    for rejection in &resolution.rejections {
        let field = rejection.field.map(|field| view.entity.field(field).name.to_string());
        let message = format!(
            "the value in {} breaks the rule `{}`; correct it there",
            rejection.store, rejection.rule
        );
        add(rejection.store.to_string(), field, rejection.rule.as_str(), message);
    }
    for store in &resolution.regressed {
        add(store.to_string(), None, "regressed", "the row went back to an older version".to_owned());
    }
    for plan in plans.iter().filter(|plan| plan.standing == Standing::Pending) {
        add(plan.store.to_string(), None, "pending", "the store has not been written yet".to_owned());
    }
    let surplus = found.len().saturating_sub(ERRORS_KEPT);
    found.split_off(surplus)
}
