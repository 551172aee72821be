//! What a store needs for a record, without the values: all that a plan has to know of its records while it is made.

use crate::model::{FieldName, StoreName};

use super::{Action, ActionKind, Drift, SidePlan, Standing};

/// A [`SidePlan`], in outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The store.
    pub store: StoreName,
    /// Where the record stands there.
    pub standing: Standing,
    /// How it differs.
    pub drift: Option<Drift>,
    /// The write, if one is needed.
    pub act: Option<Act>,
    /// Whether something is known of the store that is to be remembered, whether or not the store's own write follows.
    pub adopts: bool,
    /// Fields whose value the store cannot hold, and why.
    pub cannot_hold: Vec<(FieldName, String)>,
}

/// An [`Action`], in outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// What it does.
    pub kind: ActionKind,
    /// The fields that change; empty unless a row is changed.
    pub fields: Vec<FieldName>,
    /// Whether a row is changed where something stands already.
    pub overwrites: bool,
}

impl Outline {
    /// What the write does, if one is needed.
    pub fn kind(&self) -> Option<ActionKind> {
        self.act.as_ref().map(|act| act.kind)
    }
}

impl From<&Action> for Act {
    fn from(action: &Action) -> Self {
        let changes = || action.changes.iter().filter(|_| action.kind == ActionKind::Update);
        Self {
            kind: action.kind,
            fields: changes().map(|change| change.field.clone()).collect(),
            overwrites: changes().any(|change| change.before.value().is_none_or(|value| !value.is_null())),
        }
    }
}

impl From<&SidePlan> for Outline {
    fn from(plan: &SidePlan) -> Self {
        Self {
            store: plan.store.clone(),
            standing: plan.standing,
            drift: plan.drift.clone(),
            act: plan.action.as_ref().map(Act::from),
            adopts: plan.adopt.is_some(),
            cannot_hold: plan.cannot_hold.clone(),
        }
    }
}
