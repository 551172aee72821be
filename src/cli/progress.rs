//! A line of progress on the terminal, for work that takes longer than a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use crate::telemetry::{Event, Observer};

/// Work that is done sooner needs no progress.
const QUIET: Duration = Duration::from_secs(1);
/// How often the line is drawn anew: often enough to look alive.
const TICK: Duration = Duration::from_millis(120);
/// Rows written between two changes of the line.
const TOLD_ROWS: u64 = 100;

/// Progress, gone from the terminal when it is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    reveal: Option<JoinHandle<()>>,
    read: AtomicU64,
    written: AtomicU64,
}

impl Progress {
    /// Begins; nothing is drawn in the first second, and never unless `shown`.
    pub(crate) fn start(shown: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message("looking at the stores");
        let reveal = shown.then(|| {
            let bar = bar.clone();
            tokio::spawn(async move {
                tokio::time::sleep(QUIET).await;
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.enable_steady_tick(TICK);
            })
        });
        Self { bar, reveal, read: AtomicU64::new(0), written: AtomicU64::new(0) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(reveal) = self.reveal.take() {
            reveal.abort();
        }
        self.bar.finish_and_clear();
    }
}

impl Observer for Progress {
    fn notice(&self, event: &Event<'_>) {
        match event {
            Event::RowsRead { rows, .. } => {
                let read = self.read.fetch_add(*rows, Ordering::Relaxed) + rows;
                self.bar.set_message(format!("{read} rows read"));
            }
            Event::Called { store, waited_ms, .. } if *waited_ms >= 1_000 => {
                let seconds = waited_ms.div_ceil(1_000);
                self.bar.set_message(format!("waiting {seconds} s: {store} takes no more calls for now"));
            }
            Event::Planned { .. } => self.bar.set_message("planned"),
            Event::Wrote { store, .. } => {
                let written = self.written.fetch_add(1, Ordering::Relaxed) + 1;
                if written.is_multiple_of(TOLD_ROWS) {
                    self.bar.set_message(format!("{written} rows written, now in {store}"));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EntityName, StoreName};

    #[test]
    fn a_wait_for_a_stores_limit_is_shown_until_something_moves() {
        let progress = Progress::start(false);
        let store = StoreName::new("crm").unwrap();
        progress.notice(&Event::Called { store: &store, calls: 3, waited_ms: 40, billed_bytes: 0 });
        assert_eq!(progress.bar.message(), "looking at the stores");
        progress.notice(&Event::Called { store: &store, calls: 0, waited_ms: 12_300, billed_bytes: 0 });
        assert_eq!(progress.bar.message(), "waiting 13 s: crm takes no more calls for now");
        let entity = EntityName::new("contacts").unwrap();
        progress.notice(&Event::RowsRead { entity: &entity, store: &store, rows: 7 });
        assert_eq!(progress.bar.message(), "7 rows read");
    }
}
