//! `demo`: three stores that disagree, brought to agree.

use super::args::DemoArgs;
use super::session::Session;
use super::{Exit, Failure};

/// Writes the example and goes through it.
#[allow(clippy::unused_async)] // Making and applying the example's plans will wait.
pub(super) async fn demo(_session: &Session<'_>, args: &DemoArgs) -> Result<Exit, Failure> {
    Err(Failure::new(format!(
        "the demo is not written yet ({}, {})",
        args.dir.display(),
        args.approval.auto_approve
    )))
}
