//! Whole listings: all records in the order of their ids, handed on in the order of their keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value as Json;
use tokio::sync::mpsc;

use crate::model::{Certificate, ErrorKind, Mapped, RecordKey, StoreError, Stray};

use super::super::{LazyRow, SnapshotItem, SnapshotStream};
use super::TwentyStore;
use super::changes::Stand;
use super::layout::Layout;
use super::rows::{Read, read, strays};
use super::sort::Sorter;

/// Rows a piece of a snapshot.
const CHUNK_ROWS: usize = 500;
/// Pieces under way.
const CHUNKS_AHEAD: usize = 4;
/// Duplicate keys that a certificate lists.
const DUPLICATES_LISTED: usize = 100;

type Sender = mpsc::Sender<Result<SnapshotItem, StoreError>>;

/// Whoever listened has gone: nothing is left to do.
struct Gone;

impl TwentyStore {
    pub(super) async fn read_whole(&self, mapped: Mapped) -> Result<SnapshotStream, StoreError> {
        let layout = self.fresh_layout(&mapped).await?;
        let (send, receive) = mpsc::channel(CHUNKS_AHEAD);
        let store = self.clone();
        tokio::spawn(async move {
            if let Err(error) = store.list(&layout, &mapped, &send).await {
                // Nobody listens any more: nothing to tell.
                let _ = send.send(Err(error)).await;
            }
        });
        Ok(receive)
    }

    async fn list(&self, layout: &Layout, mapped: &Mapped, send: &Sender) -> Result<(), StoreError> {
        self.own.forget(&layout.object.singular);
        self.made.forget();
        let selection = layout.selection();
        let mut listing = Listing {
            certificate: Certificate {
                missing_columns: layout.missing.clone(),
                missing_inside: layout.missing_inside.clone(),
                ..Certificate::default()
            },
            sorter: Sorter::default(),
            strays: Vec::new(),
            stand: Stand::new(layout),
            filled: BTreeSet::new(),
        };
        let (mut after, mut pages, mut first_total): (Option<String>, u64, Option<u64>) = (None, 0, None);
        loop {
            let page = self.page(layout, &selection, after.as_deref()).await?;
            pages += 1;
            first_total.get_or_insert(page.total);
            listing.certificate.rows_claimed = page.total;
            for record in &page.records {
                listing.take(layout, mapped, record).map_err(|error| self.disk(&error))?;
            }
            if listing.send_strays(send).await.is_err() {
                return Ok(());
            }
            after = page.cursor.filter(|_| page.more && !page.records.is_empty());
            if after.is_none() {
                break;
            }
        }
        let certificate = &mut listing.certificate;
        if pages > 1 || certificate.rows_claimed != certificate.rows_read {
            certificate.rows_claimed = self.count(layout).await?;
        }
        if self.lost_a_field(layout, std::mem::take(&mut listing.filled)).await? {
            let message = format!("a field of `{}` went away while it was read", layout.object.singular);
            return Err(StoreError::new(ErrorKind::Unavailable, &self.name, message)
                .hint("the next look takes note of it"));
        }
        let certificate = &mut listing.certificate;
        certificate.moved = pages > 1 && first_total != Some(certificate.rows_claimed);
        certificate.end_seen = true;
        listing.end(layout, mapped, send).await.map_err(|error| self.disk(&error))
    }

    fn disk(&self, error: &std::io::Error) -> StoreError {
        let message = format!("rows could not be sorted on disk: {error}");
        StoreError::new(ErrorKind::Unavailable, &self.name, message)
            .hint("make room in the folder for temporary files")
    }
}

struct Listing {
    certificate: Certificate,
    sorter: Sorter,
    strays: Vec<Stray>,
    stand: Stand,
    /// The fields that some record has a value in.
    filled: BTreeSet<String>,
}

impl Listing {
    fn take(&mut self, layout: &Layout, mapped: &Mapped, record: &Json) -> std::io::Result<()> {
        self.certificate.rows_read += 1;
        self.stand.see(record);
        for (name, value) in record.as_object().into_iter().flatten() {
            if !value.is_null() && !self.filled.contains(name) {
                self.filled.insert(name.clone());
            }
        }
        self.strays.extend(strays(layout, record));
        match read(layout, mapped, record) {
            Read::Row(row) => self.sorter.push(row.key, serde_json::to_vec(record)?)?,
            Read::Stray(stray) => self.strays.push(stray),
            Read::BadKey => self.certificate.bad_keys += 1,
        }
        Ok(())
    }

    async fn send_strays(&mut self, send: &Sender) -> Result<(), Gone> {
        if self.strays.is_empty() {
            return Ok(());
        }
        let strays = std::mem::take(&mut self.strays);
        send.send(Ok(SnapshotItem::Strays(strays))).await.map_err(|_| Gone)
    }

    /// Hands on the rows in the order of their keys, and then the certificate.
    async fn end(mut self, layout: &Layout, mapped: &Mapped, send: &Sender) -> std::io::Result<()> {
        let mut sorted = self.sorter.sorted()?;
        let mut rows: Vec<LazyRow> = Vec::new();
        let mut next = sorted.next()?;
        while let Some((key, bytes)) = next.take() {
            let mut repeated = false;
            loop {
                next = sorted.next()?;
                if next.as_ref().is_none_or(|(other, _)| *other != key) {
                    break;
                }
                repeated = true;
            }
            if repeated {
                note_duplicate(&mut self.certificate, key);
            } else if let Read::Row(row) = read(layout, mapped, &serde_json::from_slice(&bytes)?) {
                rows.push(row.into());
            }
            if rows.len() >= CHUNK_ROWS
                && send.send(Ok(SnapshotItem::Rows(std::mem::take(&mut rows)))).await.is_err()
            {
                return Ok(());
            }
        }
        if !rows.is_empty() && send.send(Ok(SnapshotItem::Rows(rows))).await.is_err() {
            return Ok(());
        }
        self.certificate.mark = self.stand.mark(&self.certificate);
        let _ = send.send(Ok(SnapshotItem::End(self.certificate))).await;
        Ok(())
    }
}

fn note_duplicate(certificate: &mut Certificate, key: RecordKey) {
    if certificate.duplicate_keys.len() < DUPLICATES_LISTED {
        certificate.duplicate_keys.push(key);
    }
}

/// Layouts are looked up once and shared.
pub(super) type SharedLayout = Arc<Layout>;
