//! What batches to the canonical store leave behind, so that after a crash it can be told which of their writes happened.
//!
//! A statement and a note of it cannot be written together. So the note comes first: it names the job that the statement is going to be,
//! and what it is going to write. Whether the job was done is asked when somebody wants to know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::model::{BatchId, IntentId, StoreError, hex};

use super::super::tables::no_table;
use super::BigQueryStore;
use super::error::Failure;
use super::kind::normal;
use super::layout::Layout;
use super::merge::Act;
use super::rest::JobEnd;
use super::schema::{Kind, Node};
use super::sql::{quoted, string_type, structs, text, texts};

/// The table of receipts.
pub(super) const RECEIPTS: &str = "trueup_receipts";
/// Attempts of a statement that are asked for. There are never as many.
const MOST_ATTEMPTS: usize = 40;

/// A note of one statement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Receipt {
    batch: String,
    /// What the ids of its jobs begin with; none: nothing was sent.
    jobs: Option<String>,
    /// The table, as SQL has it.
    table: String,
    /// The texts of the key's columns.
    key: Vec<String>,
    /// What is read to see whether a write happened: its text, and what kind of column it is.
    columns: Vec<(String, Word)>,
    writes: Vec<Noted>,
}

/// A kind of column, by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Word {
    kind: String,
    repeated: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Noted {
    intent: String,
    key: Vec<String>,
    /// The columns that are written, by place in the list, and a hash of what they get; none for a delete.
    after: Option<(Vec<usize>, String)>,
}

impl Receipt {
    pub(super) fn empty(batch: &BatchId) -> Self {
        Self {
            batch: batch.to_string(),
            jobs: None,
            table: String::new(),
            key: Vec::new(),
            columns: Vec::new(),
            writes: Vec::new(),
        }
    }

    pub(super) fn of(batch: &BatchId, jobs: &str, layout: &Layout) -> Self {
        let columns = layout.slots.iter().map(|slot| {
            let word = if slot.node.kind == Kind::Record { "JSON" } else { slot.node.kind.word() };
            (slot.text_sql(), Word { kind: word.to_owned(), repeated: slot.node.repeated })
        });
        Self {
            jobs: Some(jobs.to_owned()),
            table: layout.names.sql(),
            key: layout.key.iter().map(super::layout::Slot::text_sql).collect(),
            columns: columns.collect(),
            ..Self::empty(batch)
        }
    }

    pub(super) fn add(&mut self, intent: &IntentId, key: &[String], act: &Act, layout: &Layout) {
        let after = match act {
            Act::Insert(columns) | Act::Update(columns) => {
                // The service has writings of its own for what stands in a STRUCT.
                let plain = |slot: &&usize| layout.node(**slot).is_some_and(|node| node.kind != Kind::Record);
                let slots: Vec<usize> = columns.keys().filter(plain).copied().collect();
                let texts = slots.iter().map(|slot| columns.get(slot)?.normal(layout.node(*slot)?));
                let hash = digest(texts);
                Some((slots, hash))
            }
            Act::Delete => None,
        };
        self.writes.push(Noted { intent: intent.to_string(), key: key.to_vec(), after });
    }

    fn intents(&self) -> Vec<IntentId> {
        self.writes.iter().map(|write| IntentId(write.intent.clone().into())).collect()
    }
}

fn digest(texts: impl Iterator<Item = Option<String>>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        match text {
            Some(text) => {
                hash.update(text.len().to_le_bytes());
                hash.update(text.as_bytes());
            }
            None => hash.update(u64::MAX.to_le_bytes()),
        }
    }
    hex(&hash.finalize()[..16])
}

impl BigQueryStore {
    fn receipts_table(&self) -> String {
        quoted(&format!("{}.{}.{RECEIPTS}", self.rest.project, self.dataset))
    }

    fn receipts_lane(&self) -> String {
        format!("{}.{RECEIPTS}", self.dataset)
    }

    /// Writes a note before the statement that it is about.
    pub(super) async fn leave_receipt(&self, receipt: &Receipt) -> Result<(), StoreError> {
        let note = serde_json::to_string(receipt).unwrap_or_default();
        let sql = format!(
            "INSERT INTO {} (`batch`, `note`) SELECT r.batch, r.note FROM UNNEST(@rows) AS r",
            self.receipts_table()
        );
        let fields = [("batch".to_owned(), string_type()), ("note".to_owned(), string_type())];
        let row = serde_json::json!({ "structValues": { "batch": { "value": receipt.batch }, "note": { "value": note } } });
        // Written twice it says the same.
        let done = self
            .rest
            .change_again(&self.receipts_lane(), &sql, vec![structs("rows", &fields, vec![row])])
            .await;
        done.map(drop).map_err(|failure| {
            if failure.is_not_found() { no_table(&self.name, true, RECEIPTS) } else { self.told(&failure) }
        })
    }

    /// Notes that some writes of a batch did not happen. When this fails, the rows tell.
    pub(super) async fn strike_out(&self, batch: &BatchId, intents: &[IntentId]) {
        let lost = serde_json::to_string(intents).unwrap_or_default();
        let sql = format!(
            "UPDATE {} SET `lost` = @lost WHERE `batch` = @batch AND `lost` IS NULL",
            self.receipts_table()
        );
        let parameters = vec![text("lost", &lost), text("batch", &batch.0)];
        let _ = self.rest.change_again(&self.receipts_lane(), &sql, parameters).await;
    }

    pub(super) async fn read_receipts(
        &self,
        batches: &[BatchId],
    ) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        let failed = |failure: Failure| self.told(&failure);
        let sql = format!(
            "SELECT T.`note`, T.`lost` FROM {} AS T JOIN UNNEST(@batches) AS b ON T.`batch` = b",
            self.receipts_table()
        );
        let ids = texts("batches", batches.iter().map(ToString::to_string));
        let rows = match self.rest.rows(&sql, vec![ids]).await {
            // No table of receipts: nothing ever left one.
            Err(failure) if failure.is_not_found() => Vec::new(),
            rows => rows.map_err(failed)?,
        };
        let senseless = || self.told(&Failure::senseless("a receipt that is none"));
        let mut receipts: BTreeMap<BatchId, Vec<IntentId>> = BTreeMap::new();
        for row in rows {
            let mut cells = row.into_iter();
            let note = cells.next().flatten().ok_or_else(senseless)?;
            let receipt: Receipt = serde_json::from_str(&note).map_err(|_| senseless())?;
            let lost: Vec<IntentId> = match cells.next().flatten() {
                Some(text) => serde_json::from_str(&text).map_err(|_| senseless())?,
                None => Vec::new(),
            };
            let applied = self.applied(&receipt).await.map_err(failed)?;
            let entry = receipts.entry(BatchId(receipt.batch.clone().into())).or_default();
            entry.extend(applied.into_iter().filter(|intent| !lost.contains(intent)));
        }
        for intents in receipts.values_mut() {
            intents.sort_by(|a, b| by_number(&a.0).cmp(&by_number(&b.0)));
            intents.dedup();
        }
        Ok(receipts)
    }

    /// What a statement applied. Its job is asked; where that does not say it all, the rows do.
    async fn applied(&self, receipt: &Receipt) -> Result<Vec<IntentId>, Failure> {
        let Some(jobs) = &receipt.jobs else { return Ok(Vec::new()) };
        for attempt in 1..=MOST_ATTEMPTS {
            match self.rest.fence(&format!("{jobs}_{attempt}")).await? {
                Some(JobEnd::Done(done)) if done.affected == Some(receipt.writes.len() as u64) => {
                    return Ok(receipt.intents());
                }
                Some(JobEnd::Failed(_)) => {}
                // Some of them, or the service has forgotten the job; none is under way any more.
                Some(JobEnd::Done(_) | JobEnd::Unknown(_)) | None => break,
            }
        }
        self.seen_to_stand(receipt).await
    }

    /// The writes of a receipt whose rows are as they were to become.
    async fn seen_to_stand(&self, receipt: &Receipt) -> Result<Vec<IntentId>, Failure> {
        let selected = receipt.key.iter().chain(receipt.columns.iter().map(|(text, _)| text));
        let selected: Vec<String> =
            selected.enumerate().map(|(at, text)| format!("{text} AS c{at}")).collect();
        let terms: Vec<String> =
            receipt.key.iter().enumerate().map(|(at, text)| format!("{text} = S.k{at}")).collect();
        let sql = format!(
            "SELECT {} FROM {} AS T JOIN (SELECT r.* FROM UNNEST(@keys) AS r) AS S ON {}",
            selected.join(", "),
            receipt.table,
            terms.join(" AND "),
        );
        let fields: Vec<(String, Json)> =
            (0..receipt.key.len()).map(|at| (format!("k{at}"), string_type())).collect();
        let keys = receipt
            .writes
            .iter()
            .map(|write| {
                let parts = write.key.iter().enumerate();
                let values: serde_json::Map<String, Json> = parts
                    .map(|(at, part)| (format!("k{at}"), serde_json::json!({ "value": part })))
                    .collect();
                serde_json::json!({ "structValues": values })
            })
            .collect();
        let mut there: BTreeMap<Vec<String>, Vec<Option<String>>> = BTreeMap::new();
        for row in self.rest.rows(&sql, vec![structs("keys", &fields, keys)]).await? {
            let mut cells = row.into_iter();
            let key: Vec<String> = cells.by_ref().take(receipt.key.len()).flatten().collect();
            there.insert(key, cells.collect());
        }
        let stands = |write: &&Noted| match (&write.after, there.get(&write.key)) {
            (None, found) => found.is_none(),
            (Some(_), None) => false,
            (Some((slots, hash)), Some(values)) => {
                let texts = slots.iter().map(|slot| {
                    let (_, word) = receipt.columns.get(*slot)?;
                    let node = Node::of_word(&word.kind, word.repeated);
                    normal(&node, values.get(*slot)?.as_deref())
                });
                digest(texts) == *hash
            }
        };
        Ok(receipt.writes.iter().filter(stands).map(|write| IntentId(write.intent.clone().into())).collect())
    }

    pub(super) async fn remove_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        if batches.is_empty() {
            return Ok(());
        }
        let sql = format!("DELETE FROM {} WHERE `batch` IN UNNEST(@batches)", self.receipts_table());
        let ids = texts("batches", batches.iter().map(ToString::to_string));
        match self.rest.change_again(&self.receipts_lane(), &sql, vec![ids]).await {
            Err(failure) if failure.is_not_found() => Ok(()),
            done => done.map(drop).map_err(|failure| self.told(&failure)),
        }
    }
}

/// Intents are numbered at their end.
fn by_number(intent: &str) -> (usize, &str) {
    (intent.len(), intent)
}
