//! Snapshots: a whole table as of one moment, read through the Storage Read API or, where that is not to be had, page by page, and sorted
//! here, for the service gives rows in no order.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::model::{Certificate, ErrorKind, Except, Mapped, Mark, RecordKey, StoreError};

use super::super::{LazyRow, SnapshotItem, SnapshotStream};
use super::error::Failure;
use super::layout::{Layout, Slot};
use super::rest::Pages;
use super::rows::{Decoder, packed};
use super::sort::Sorter;
use super::storage::Stream;
use super::{BigQueryStore, OfPass};

/// Rows a piece of a snapshot: enough that the channel costs nothing, few enough that nothing piles up.
const CHUNK_ROWS: usize = 1000;
/// Pieces under way.
const CHUNKS_AHEAD: usize = 4;
/// Duplicate keys that a certificate lists.
const DUPLICATES_LISTED: usize = 100;
/// Memory that sorting takes.
const SORT_BYTES: usize = 64 << 20;

/// Rows on their way from the service, in any order.
pub(super) enum Source {
    Pages(Box<Pages>),
    Storage(Stream),
}

impl Source {
    /// The next rows; none after the last.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, Failure> {
        match self {
            Self::Storage(stream) => stream.next().await,
            Self::Pages(pages) => {
                let Some(rows) = pages.next().await? else { return Ok(None) };
                Ok(Some(rows.iter().map(|cells| packed(cells)).collect()))
            }
        }
    }
}

impl BigQueryStore {
    /// The moment that whole tables are read as of in this pass: when the first of them was read, by the service's own clock.
    pub(super) async fn moment(&self, mapped: &Mapped) -> Result<i64, Failure> {
        let of_pass = || self.moment.lock().unwrap_or_else(PoisonError::into_inner);
        let known = *of_pass();
        match known {
            // Our own tables are read between passes as well, and then as they are.
            _ if mapped.entity.system => self.now().await,
            OfPass::At(moment) => Ok(moment),
            OfPass::None => self.now().await,
            OfPass::NotYet => {
                let now = self.now().await?;
                let mut of_pass = of_pass();
                // Another table may have been first meanwhile.
                if let OfPass::At(moment) = *of_pass {
                    return Ok(moment);
                }
                *of_pass = OfPass::At(now);
                Ok(now)
            }
        }
    }

    async fn now(&self) -> Result<i64, Failure> {
        let rows =
            self.rest.rows("SELECT CAST(UNIX_MICROS(CURRENT_TIMESTAMP()) AS STRING)", Vec::new()).await?;
        let text = rows.into_iter().flatten().next().flatten();
        text.and_then(|text| text.parse().ok()).ok_or(Failure::senseless("a time that is none"))
    }

    /// How many rows a table had at a moment.
    async fn count(&self, layout: &Layout, moment: i64) -> Result<u64, Failure> {
        let sql = format!(
            "SELECT CAST(COUNT(*) AS STRING) FROM {} FOR SYSTEM_TIME AS OF TIMESTAMP_MICROS({moment})",
            layout.names.sql()
        );
        let rows = self.rows_seen(layout, &sql, Vec::new()).await?;
        let text = rows.into_iter().flatten().next().flatten();
        text.and_then(|text| text.parse().ok()).ok_or(Failure::senseless("a count that is none"))
    }

    /// Reads a whole table as of one moment.
    pub(super) async fn read_whole(&self, mapped: Mapped) -> Result<SnapshotStream, StoreError> {
        // Described before it is read: what changes in between is seen twice, not missed.
        let layout = self.layout(&mapped).await?;
        let failed = |failure: Failure| self.told(&failure);
        let moment = self.moment(&mapped).await.map_err(failed)?;
        let count = self.count(&layout, moment).await.map_err(failed)?;
        let source = self.source(&layout, moment).await.map_err(failed)?;
        let certificate = Certificate {
            rows_claimed: count,
            missing_columns: layout.missing.clone(),
            ..Certificate::default()
        };
        let system = mapped.entity.system;
        let decoder = Decoder::new(Arc::new(layout), mapped);
        let (send, receive) = mpsc::channel(CHUNKS_AHEAD);
        let store = self.clone();
        tokio::spawn(async move {
            // The service works out the digests while the rows are on their way.
            let marking = tokio::spawn({
                let (store, decoder) = (store.clone(), Arc::clone(&decoder));
                // What we keep for ourselves is never asked what changed in it.
                async move { if system { None } else { store.mark(&decoder, count, moment).await } }
            });
            if let Err(error) = store.stream(source, decoder, certificate, marking, &send).await {
                // Nobody listens any more: nothing to tell.
                let _ = send.send(Err(error)).await;
            }
        });
        Ok(receive)
    }

    /// Reads all but some rows of a table with one query: it is as of one moment by itself, says how many rows it found, and is billed for
    /// the columns that are read.
    pub(super) async fn read_except(
        &self,
        mapped: Mapped,
        except: Except,
    ) -> Result<SnapshotStream, StoreError> {
        let layout = self.layout(&mapped).await?;
        let text = |slot: usize| layout.slots.get(slot).map_or(String::new(), Slot::text_sql);
        let sql = format!(
            "SELECT {} FROM {} AS T{}",
            layout.select_list(),
            layout.names.sql(),
            layout.places.condition(Some(except), text)
        );
        let pages =
            self.query_seen(&layout, &sql, Vec::new()).await.map_err(|failure| self.told(&failure))?;
        self.paths.rest.fetch_add(1, Ordering::Relaxed);
        let certificate = Certificate {
            rows_claimed: pages.total(),
            missing_columns: layout.missing.clone(),
            ..Certificate::default()
        };
        let decoder = Decoder::new(Arc::new(layout), mapped);
        let (send, receive) = mpsc::channel(CHUNKS_AHEAD);
        let store = self.clone();
        tokio::spawn(async move {
            let (source, marking) = (Source::Pages(Box::new(pages)), tokio::spawn(async { None }));
            if let Err(error) = store.stream(source, decoder, certificate, marking, &send).await {
                // Nobody listens any more: nothing to tell.
                let _ = send.send(Err(error)).await;
            }
        });
        Ok(receive)
    }

    /// Begins to read a table.
    async fn source(&self, layout: &Layout, moment: i64) -> Result<Source, Failure> {
        // Of a type that is not known here SQL makes a text.
        let strange = layout.slots.iter().any(|slot| slot.node.is_strange());
        if let Some(storage) = self.storage.as_ref().filter(|_| !strange) {
            match storage.open(layout, moment).await {
                Ok(stream) => {
                    self.paths.storage.fetch_add(1, Ordering::Relaxed);
                    return Ok(Source::Storage(stream));
                }
                Err(failure) if failure.hidden => return Err(failure.of_table(&layout.names.title)),
                // It may not be switched on, allowed or reachable where everything else is.
                Err(failure) => tracing::debug!(
                    store = %self.name,
                    reason = %failure.reason,
                    "the Storage Read API is not to be had; rows come page by page"
                ),
            }
        }
        self.paths.rest.fetch_add(1, Ordering::Relaxed);
        let sql = format!(
            "SELECT {} FROM {} AS T FOR SYSTEM_TIME AS OF TIMESTAMP_MICROS({moment})",
            layout.select_list(),
            layout.names.sql()
        );
        self.query_seen(layout, &sql, Vec::new()).await.map(|pages| Source::Pages(Box::new(pages)))
    }

    /// Reads all rows, sorts them, and hands them on.
    async fn stream(
        &self,
        mut source: Source,
        decoder: Arc<Decoder>,
        mut certificate: Certificate,
        marking: JoinHandle<Option<Mark>>,
        send: &mpsc::Sender<Result<SnapshotItem, StoreError>>,
    ) -> Result<(), StoreError> {
        let broken = |store: &crate::model::StoreName| {
            let message = "the rows of a table could not be sorted in a temporary file";
            StoreError::new(ErrorKind::Unavailable, store, message).hint("make room where TMPDIR points to")
        };
        let (rows_in, mut to_sort) = mpsc::channel::<Vec<Bytes>>(CHUNKS_AHEAD);
        let sorting = tokio::task::spawn_blocking({
            let decoder = Arc::clone(&decoder);
            move || {
                let mut sorter = Sorter::new(SORT_BYTES);
                let (mut read, mut bad) = (0_u64, 0_u64);
                while let Some(rows) = to_sort.blocking_recv() {
                    for row in rows {
                        read += 1;
                        match decoder.key(&row) {
                            Some(key) => sorter.push(key, row)?,
                            None => bad += 1,
                        }
                    }
                }
                sorter.sorted().map(|sorted| (sorted, read, bad))
            }
        });
        while let Some(rows) = source.next().await.map_err(|failure| self.told(&failure))? {
            if send.is_closed() || rows_in.send(rows).await.is_err() {
                break;
            }
        }
        drop(rows_in);
        let sorted = sorting.await.map_err(|_| broken(&self.name))?;
        let (mut sorted, read, bad) = sorted.map_err(|_| broken(&self.name))?;
        certificate.rows_read = read;
        certificate.bad_keys = bad;
        if send.is_closed() {
            return Ok(());
        }
        certificate.mark = marking.await.unwrap_or_default();
        let (send, store) = (send.clone(), self.name.clone());
        let handing = tokio::task::spawn_blocking(move || -> Result<(), StoreError> {
            let mut hand = Hand { decoder, certificate, held: None, chunk: Vec::new(), send };
            while let Some((key, row)) = sorted.next().map_err(|_| broken(&store))? {
                hand.take(key, row);
                if hand.chunk.len() >= CHUNK_ROWS && !hand.flush() {
                    return Ok(());
                }
            }
            hand.end();
            Ok(())
        });
        handing.await.map_err(|_| broken(&self.name))?
    }
}

/// Hands rows on, but those of a key that stands twice.
struct Hand {
    decoder: Arc<Decoder>,
    certificate: Certificate,
    /// The last row, held back until the next one is known to have another key; none: its key stood twice.
    held: Option<(RecordKey, Option<Bytes>)>,
    chunk: Vec<LazyRow>,
    send: mpsc::Sender<Result<SnapshotItem, StoreError>>,
}

impl Hand {
    fn take(&mut self, key: RecordKey, row: Bytes) {
        if let Some((held, first)) = &mut self.held
            && *held == key
        {
            let first = first.take().is_some();
            if first && self.certificate.duplicate_keys.len() < DUPLICATES_LISTED {
                self.certificate.duplicate_keys.push(key);
            }
            return;
        }
        self.release();
        self.held = Some((key, Some(row)));
    }

    fn release(&mut self) {
        if let Some((key, Some(row))) = self.held.take() {
            self.chunk.push(self.decoder.lazy(key, row));
        }
    }

    /// Sends what has come together; false when nobody listens any more.
    fn flush(&mut self) -> bool {
        if self.chunk.is_empty() {
            return !self.send.is_closed();
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_ROWS));
        self.send.blocking_send(Ok(SnapshotItem::Rows(chunk))).is_ok()
    }

    fn end(mut self) {
        self.release();
        if !self.flush() {
            return;
        }
        let mut certificate = std::mem::take(&mut self.certificate);
        certificate.end_seen = true;
        if !certificate.is_complete() || !certificate.missing_columns.is_empty() {
            certificate.mark = None;
        }
        let _ = self.send.blocking_send(Ok(SnapshotItem::End(certificate)));
    }
}
