//! Everything that can go wrong with a store, to be set by tests.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::model::{EntityName, RecordKey, Value};

use super::MemoryDb;

/// How a snapshot that is cut short looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It just ends.
    NoEnd,
    /// It ends properly, having read fewer rows than the store claimed.
    FewerThanClaimed,
    /// It ends properly, and says that the store moved meanwhile.
    Moved,
}

/// Something that happens just before the next batch is applied: another application's edit, say.
#[derive(Clone)]
pub struct Hook(pub Arc<dyn Fn(&mut MemoryDb) + Send + Sync>);

impl Hook {
    /// A hook that does this.
    pub fn new(act: impl Fn(&mut MemoryDb) + Send + Sync + 'static) -> Self {
        Self(Arc::new(act))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// What a store makes of a value put into a field of its: lower case, fewer digits, less text.
#[derive(Clone)]
pub struct Lossy(pub Arc<dyn Fn(&Value) -> Value + Send + Sync>);

impl Lossy {
    /// A field that makes this of values.
    pub fn new(make: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }
}

impl fmt::Debug for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lossy")
    }
}

/// Faults as they are set. None by default.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Every call fails.
    pub unreachable: bool,
    /// Snapshots end after this many rows, in this way.
    pub cut_after: Option<(usize, Cut)>,
    /// This many batches fail before anything is written.
    pub fail_batches: u32,
    /// This many batches are written and their answer is lost.
    pub lose_answers: u32,
    /// Writes to these records are refused.
    pub refuse: BTreeSet<(EntityName, RecordKey)>,
    /// Records whose key another row has as well.
    pub duplicate_keys: BTreeSet<(EntityName, RecordKey)>,
    /// How many more rows have a key that is none.
    pub bad_keys: u64,
    /// What happens just before the next batch, once.
    pub before_batch: Option<Hook>,
}
