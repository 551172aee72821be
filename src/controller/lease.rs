//! Who may work on the state now (the lease), and who makes the passes (the leader).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::apply::KeptLease;
use crate::model::Timestamp;
use crate::state::Lease;
use crate::telemetry::{Event, Observer};

use super::notes::{parse, text};
use super::{Engine, EngineError};

const LEADER: &str = "leader";

/// Notes of who waits for the lease, and until when that counts.
const WAITS: &str = "waits";

/// How long it counts that somebody waits who has not said so again: a few times [`LEASE_WAIT`].
const WAITS_MS: u64 = 1_000;

/// How far the clocks of two controllers may be apart: a minute.
const CLOCKS_DIFFER_MICROS: i64 = 60 * 1_000_000;

/// How long the state is waited for by one that ends.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How long to wait before asking for the lease again.
pub(super) const LEASE_WAIT: Duration = Duration::from_millis(200);

/// Who makes the passes, of several controllers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Leader {
    holder: String,
    /// When it last said so.
    #[serde(default)]
    since: Option<Timestamp>,
    until: Timestamp,
}

impl Leader {
    /// Whether it leads at a time. One that will only say so later had a clock that went ahead: it would lead for ever.
    fn holds_at(&self, now: Timestamp) -> bool {
        let said = self.since.is_none_or(|since| since <= now.saturating_add_micros(CLOCKS_DIFFER_MICROS));
        said && self.until > now
    }
}

impl Engine {
    /// When a lease that is taken now lapses.
    fn lapses(&self, now: Timestamp) -> Timestamp {
        now.saturating_add_ms(self.spec.controller.lease_ms)
    }

    pub(super) async fn take_lease(
        &self,
        timeout_ms: u64,
        observer: &dyn Observer,
        stop: &CancellationToken,
    ) -> Result<KeptLease, EngineError> {
        let length_ms = self.spec.controller.lease_ms;
        if self.leads.load(Ordering::Relaxed) && self.somebody_waits().await {
            // Passes may follow each other at once. Who waits looks every so often, and would never find the lease free.
            tokio::time::sleep(LEASE_WAIT * 2).await;
        }
        let began = tokio::time::Instant::now();
        let mut waits = false;
        let result = loop {
            let now = self.now();
            match self.state.acquire(&self.holder, now, self.lapses(now)).await {
                Ok(()) => {
                    observer.notice(&Event::Lease { held: true });
                    break Ok(KeptLease::new(self.holder.clone(), length_ms, self.clock.clone()));
                }
                Err(error) if error.held_elsewhere && began.elapsed() < Duration::from_millis(timeout_ms) => {
                    waits = true;
                    self.note_wait(Some(now.saturating_add_ms(WAITS_MS))).await;
                }
                Err(error) => break Err(error.into()),
            }
            tokio::select! {
                () = tokio::time::sleep(LEASE_WAIT) => {}
                () = stop.cancelled() => break Err(EngineError::new("stopped while waiting for the lease")),
            }
        };
        if waits {
            self.note_wait(None).await;
        }
        result
    }

    /// Says, or no longer says, that this one waits for the lease. Without a word it may wait for longer, which is all.
    async fn note_wait(&self, until: Option<Timestamp>) {
        let note = until.and_then(|until| text(&until).ok());
        let _ = self.state.note(WAITS, &BTreeMap::from([(self.holder.clone(), note)])).await;
    }

    /// Whether somebody else waits for the lease.
    async fn somebody_waits(&self) -> bool {
        let now = self.now();
        let notes = self.state.notes(WAITS).await.unwrap_or_default();
        parse::<Timestamp>(notes).any(|(holder, until)| holder != self.holder && until > now)
    }

    pub(super) async fn give_lease_up(&self, lease: &KeptLease, observer: &dyn Observer) {
        // One that cannot be given up lapses.
        let _ = self.state.release(&lease.holder).await;
        if !self.leads.load(Ordering::Relaxed) {
            observer.notice(&Event::Lease { held: false });
        }
    }

    /// After a pass was cut off: gives its lease back where it only looked, so that no write of it can still be under way. Otherwise the
    /// lease is kept, and others wait until it lapses. Says in words which it was.
    pub(super) async fn abandon(&self, observer: &dyn Observer) -> String {
        if !self.writes.load(Ordering::SeqCst)
            && let Ok(Ok(())) = tokio::time::timeout(LAST_WORD, self.state.release(&self.holder)).await
        {
            if !self.leads.load(Ordering::Relaxed) {
                observer.notice(&Event::Lease { held: false });
            }
            return "it had only looked, and its lease is given back".to_owned();
        }
        let lease = tokio::time::timeout(LAST_WORD, self.state.lease()).await;
        match lease.ok().and_then(Result::ok).flatten().filter(|lease| lease.holder == self.holder) {
            Some(Lease { expires, .. }) => format!(
                "a write of it may still be under way, so its lease is kept: it lapses at {expires}, and others wait until then"
            ),
            None => format!(
                "its lease, if it holds one, lapses within {} s",
                self.spec.controller.lease_ms.div_ceil(1000)
            ),
        }
    }

    /// Renews the lease, and what says that this controller leads, for as long as somebody works under it: a look may take longer than
    /// both last. A renewal that fails is found out about by the next change of the state.
    pub(super) async fn renew(&self, lease: &KeptLease) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_millis((lease.length_ms / 3).max(1))).await;
            if lease.keep(&*self.state).await.is_ok() && self.leads.load(Ordering::Relaxed) {
                let _ = self.note_leader(self.now()).await;
            }
        }
    }

    /// Who works, if anyone: who holds the lease on the state, or who makes the passes and is between two of them.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn lease(&self) -> Result<Option<Lease>, EngineError> {
        let now = self.now();
        if let Some(lease) = self.state.lease().await?.filter(|lease| lease.expires > now) {
            return Ok(Some(lease));
        }
        let leader = self.leader().await?.filter(|leader| leader.holds_at(now));
        Ok(leader.map(|leader| Lease { holder: leader.holder, expires: leader.until }))
    }

    /// Asks to make the passes, for as long as a lease lasts; false while another controller does. Only one that asks again in time
    /// goes on.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub async fn lead(&self) -> Result<bool, EngineError> {
        let now = self.now();
        // The lease makes looking and noting one step among controllers.
        match self.state.acquire(&self.holder, now, self.lapses(now)).await {
            Ok(()) => {}
            Err(error) if error.held_elsewhere => return self.leads_still().await,
            Err(error) => return Err(error.into()),
        }
        let result = async {
            let other =
                self.leader().await?.filter(|leader| leader.holder != self.holder && leader.holds_at(now));
            if other.is_some() {
                return Ok(false);
            }
            self.note_leader(now).await?;
            Ok(true)
        }
        .await;
        self.state.release(&self.holder).await?;
        self.leads.store(matches!(result, Ok(true)), Ordering::Relaxed);
        result
    }

    async fn note_leader(&self, now: Timestamp) -> Result<(), EngineError> {
        let leader = Leader { holder: self.holder.clone(), since: Some(now), until: self.lapses(now) };
        let note = BTreeMap::from([("one".to_owned(), Some(text(&leader)?))]);
        Ok(self.state.note(LEADER, &note).await?)
    }

    async fn leader(&self) -> Result<Option<Leader>, EngineError> {
        Ok(parse::<Leader>(self.state.notes(LEADER).await?).next().map(|(_, leader)| leader))
    }

    /// Whether it was this one that led last, and its time is not over: a command by hand has the lease for a moment.
    async fn leads_still(&self) -> Result<bool, EngineError> {
        let now = self.now();
        let leader = self.leader().await?;
        Ok(leader.is_some_and(|leader| leader.holder == self.holder && leader.holds_at(now)))
    }

    /// Lets another controller take over at once.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub async fn step_down(&self) -> Result<(), EngineError> {
        if self.leader().await?.is_some_and(|leader| leader.holder == self.holder) {
            self.state.note(LEADER, &BTreeMap::from([("one".to_owned(), None)])).await?;
        }
        Ok(())
    }
}
