//! trueup: a declarative reconciliation controller for records.
//!
//! YAML manifests say which fields of which entity live in which store. A pass snapshots every store, works out what each record
//! should be, plans the fewest writes, applies them (the canonical store first) and remembers what it verified.
//!
//! The modules stand in the order that data takes: [`spec`] → snapshots from [`store`]s → [`identity`] → [`resolve`] → [`diff`] →
//! [`plan`] → [`apply`] → [`state`] → [`telemetry`]. Those up to [`reconcile`] are pure: no input or output, no clock, no randomness.

pub mod diff;
pub mod identity;
pub mod model;
pub mod plan;
pub mod prompt;
pub mod reconcile;
pub mod resolve;
pub mod spec;
mod template;

pub mod apply;
pub mod cli;
pub mod controller;
pub mod http;
pub mod sandbox;
pub mod state;
pub mod store;
pub mod telemetry;
