//! Happenings: one type for each, from which log lines and metrics come. No other place names a metric.

#[cfg(test)]
pub(crate) mod fixture;
mod log;
mod metrics;
#[cfg(feature = "otel")]
mod otel;

use crate::diff::ActionKind;
use crate::model::{EntityName, ErrorKind, RecordKey, StoreName};
use crate::plan::Plan;
use crate::reconcile::Report;
use crate::resolve::Conflict;

pub use log::{LogStyle, Logged, LoggedOnce, SAID_AGAIN, init_logging};
pub use metrics::Metrics;

/// Sends what is still to be sent to whoever collects spans; without the feature `otel`, nothing.
pub fn flush() {
    #[cfg(feature = "otel")]
    otel::flush();
}

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A pass, or a look at some records, is under way (true), or none is any more (false).
    UnderWay {
        /// Whether one is.
        is: bool,
    },
    /// A pass began.
    PassStarted,
    /// Rows of a snapshot arrived.
    RowsRead {
        /// The entity.
        entity: &'a EntityName,
        /// The store.
        store: &'a StoreName,
        /// How many, since the last such event.
        rows: u64,
    },
    /// A plan was made.
    Planned {
        /// The plan.
        plan: &'a Plan,
    },
    /// A batch is about to go out.
    WriteStarted {
        /// The store.
        store: &'a StoreName,
        /// The entity.
        entity: &'a EntityName,
        /// How many writes.
        writes: usize,
    },
    /// A write ended.
    Wrote {
        /// The store.
        store: &'a StoreName,
        /// The entity.
        entity: &'a EntityName,
        /// The record's key.
        key: &'a RecordKey,
        /// What it did.
        kind: ActionKind,
        /// How it ended.
        result: WriteResult,
    },
    /// A store has an edit that was made in another one.
    CaughtUp {
        /// The store.
        store: &'a StoreName,
        /// How long after the edit.
        seconds: f64,
    },
    /// Calls went out to a store that counts them.
    Called {
        /// The store.
        store: &'a StoreName,
        /// How many, since the last such event.
        calls: u64,
        /// How long calls waited for the store's limit since then, each by itself, in milliseconds; a wait counts when it begins.
        waited_ms: u64,
        /// What the store billed for since then, in bytes.
        billed_bytes: u64,
    },
    /// A store answered with an error.
    StoreFailed {
        /// The store.
        store: &'a StoreName,
        /// The kind of error.
        kind: ErrorKind,
        /// The message.
        message: &'a str,
    },
    /// A conflict was acknowledged by the canonical store: settled by the rule, or open.
    ConflictRecorded {
        /// The conflict.
        conflict: &'a Conflict,
    },
    /// The lease on the state was taken (true) or given up (false).
    Lease {
        /// Whether it is held now.
        held: bool,
    },
    /// Another controller makes the passes, and tells what there is.
    StandsBy,
    /// Some records were looked at because somebody said that they changed.
    LookedAt {
        /// How many.
        records: usize,
        /// Whether a look at everything that changed has to follow.
        alone: bool,
    },
    /// What the loop knows between passes.
    Loop {
        /// Records that wait to be looked at.
        queue: usize,
        /// Pauses that hold.
        pauses: &'a [crate::controller::Pause],
        /// Records whose failing writes are not tried for now.
        waiting: usize,
        /// Stores that are left alone for now.
        away: &'a std::collections::BTreeMap<StoreName, String>,
    },
    /// A webhook arrived.
    Webhook {
        /// The store, or nothing where no such store is named.
        store: Option<&'a StoreName>,
        /// What became of it.
        result: WebhookResult,
    },
    /// A hint arrived, from wherever.
    Hint {
        /// Whether it found room.
        taken: bool,
    },
    /// A record was written so often that it was paused.
    Breaker {
        /// The record.
        record: &'a crate::model::RecordId,
        /// How often it was written within the window.
        writes: usize,
    },
    /// The manifests were read again.
    Reloaded {
        /// What is wrong with them, where they were refused.
        refused: Option<&'a str>,
    },
    /// A pass ended; with or without writing.
    PassEnded {
        /// What it did.
        report: &'a Report,
        /// How long it took.
        seconds: f64,
    },
    /// A pass failed as a whole.
    PassFailed {
        /// Why.
        message: &'a str,
        /// How long it took.
        seconds: f64,
    },
}

/// What became of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WebhookResult {
    /// It was taken as a hint.
    Accepted,
    /// Nobody with the secret sent it, or nobody is to send any.
    Forged,
    /// It, or one just like it, came before or is too old.
    Replayed,
    /// It is too large.
    Oversized,
    /// It cannot be read.
    Malformed,
    /// Too many came at once.
    Limited,
}

impl WebhookResult {
    /// All results.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Forged, Self::Replayed, Self::Oversized, Self::Malformed, Self::Limited];

    /// The word used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Oversized => "oversized",
            Self::Malformed => "malformed",
            Self::Limited => "limited",
        }
    }
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteResult {
    /// Acknowledged.
    Applied,
    /// Its record had moved on.
    Skipped,
    /// Refused or failed, with this kind of error.
    Failed(ErrorKind),
    /// Not known.
    Unknown,
}

impl WriteResult {
    /// The word used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Skipped => "skipped",
            Self::Failed(_) => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// Who is told of happenings.
pub trait Observer: Send + Sync {
    /// Takes note.
    fn notice(&self, event: &Event<'_>);
}

/// Several are told, one after the other.
pub struct Fan<'a>(pub Vec<&'a dyn Observer>);

impl Observer for Fan<'_> {
    fn notice(&self, event: &Event<'_>) {
        self.0.iter().for_each(|observer| observer.notice(event));
    }
}

/// Nobody is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn notice(&self, _event: &Event<'_>) {}
}
