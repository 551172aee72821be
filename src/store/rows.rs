//! Rows as they arrive: with their key at hand, and everything else decoded only where somebody asks.
//!
//! Of a million rows nearly all are as they were, or equal to the same record's row in another store. Both can be told from the
//! bytes that the store sent, without making values of them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{FieldId, RecordKey, Row, Timestamp};

/// Makes values of a row's bytes.
pub trait RowDecoder: Send + Sync {
    /// What the compared bytes of a row mean. Two rows whose decoders give equal texts here, and whose compared bytes are equal, hold
    /// equal values in all mapped fields and equal sync metadata. So the text names everything that decides the meaning: kinds and
    /// encodings of the columns, forms, zones.
    fn class(&self) -> &str;

    /// The row.
    fn decode(&self, key: &RecordKey, bytes: &[u8]) -> Row;

    /// The row with the wanted fields; of the others it may leave out those that can surely be read as a value of their type.
    fn decode_some(&self, key: &RecordKey, bytes: &[u8], _wanted: &dyn Fn(FieldId) -> bool) -> Row {
        self.decode(key, bytes)
    }

    /// The times of a row's creation and last update.
    fn times(&self, key: &RecordKey, bytes: &[u8]) -> (Option<Timestamp>, Option<Timestamp>) {
        let row = self.decode(key, bytes);
        (row.created, row.updated)
    }
}

/// A row of a snapshot.
#[derive(Clone)]
pub struct LazyRow {
    key: RecordKey,
    content: Content,
}

#[derive(Clone)]
enum Content {
    /// Decoded already.
    Row(Box<Row>),
    /// As the store sent it.
    Raw { bytes: Bytes, compared: std::ops::Range<usize>, decoder: Arc<dyn RowDecoder> },
}

impl LazyRow {
    /// A row as the store sent it. The `compared` bytes hold the mapped fields and the sync metadata, but not the times of creation and of
    /// the last update, which are clocks and never compared, nor the key.
    pub fn raw(
        key: RecordKey,
        bytes: Bytes,
        compared: std::ops::Range<usize>,
        decoder: Arc<dyn RowDecoder>,
    ) -> Self {
        Self { key, content: Content::Raw { bytes, compared, decoder } }
    }

    /// The record's key.
    pub fn key(&self) -> &RecordKey {
        &self.key
    }

    /// Whether both certainly hold the same values in all mapped fields and the same sync metadata. `false` says nothing.
    pub fn surely_equals(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (
                Content::Raw { bytes, compared, decoder },
                Content::Raw { bytes: other_bytes, compared: other_compared, decoder: other_decoder },
            ) => {
                bytes
                    .get(compared.clone())
                    .is_some_and(|ours| other_bytes.get(other_compared.clone()) == Some(ours))
                    && decoder.class() == other_decoder.class()
            }
            _ => false,
        }
    }

    /// The row, decoded.
    pub fn row(&self) -> Row {
        match &self.content {
            Content::Row(row) => (**row).clone(),
            Content::Raw { bytes, decoder, .. } => decoder.decode(&self.key, bytes),
        }
    }

    /// The row with the wanted fields; of the others, those may be missing that can surely be read as a value of their type.
    pub fn row_with(&self, wanted: impl Fn(FieldId) -> bool) -> Row {
        match &self.content {
            Content::Row(row) => (**row).clone(),
            Content::Raw { bytes, decoder, .. } => decoder.decode_some(&self.key, bytes, &wanted),
        }
    }

    /// The row, made from `same`: a decoded row that this one is known to be equal to. Only the times are read.
    pub fn row_like(&self, same: &Row) -> Row {
        match &self.content {
            Content::Row(row) => (**row).clone(),
            Content::Raw { bytes, decoder, .. } => {
                let (created, updated) = decoder.times(&self.key, bytes);
                Row { created, updated, store_id: None, ..same.clone() }
            }
        }
    }

    /// The row, decoded.
    pub fn into_row(self) -> Row {
        match self.content {
            Content::Row(row) => *row,
            Content::Raw { bytes, decoder, .. } => decoder.decode(&self.key, &bytes),
        }
    }
}

impl From<Row> for LazyRow {
    fn from(row: Row) -> Self {
        Self { key: row.key.clone(), content: Content::Row(Box::new(row)) }
    }
}

impl fmt::Debug for LazyRow {
    /// The key alone: what the row holds may be sensitive.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyRow").field("key", &self.key).finish_non_exhaustive()
    }
}
