//! A state in memory: plain data for simulations, and a [`State`] around it for trials.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::model::{
    Deletes, Entity, EntityName, Header, Intent, IntentEnd, Marks, Memory, RecentDeletes, RecordId,
    RecordKey, StateId, Timestamp, Transition,
};

use super::{Lease, State, StateError, held_by};

/// The data of a state. Clones are copies, as of a restored file.
#[derive(Debug, Clone)]
pub struct MemoryStateData {
    header: Header,
    lease: Option<Lease>,
    memories: BTreeMap<RecordId, Memory>,
    open: Vec<Intent>,
    ended: Vec<(Intent, IntentEnd)>,
    deletes: Vec<Deletes>,
    marks: BTreeMap<EntityName, Marks>,
    notes: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether commits fail, as on a full disk.
    pub fail_commits: bool,
}

impl MemoryStateData {
    /// An empty state of this id.
    pub fn new(id: StateId) -> Self {
        Self {
            header: Header { id, acknowledged: 0, intended: 0 },
            lease: None,
            memories: BTreeMap::new(),
            open: Vec::new(),
            ended: Vec::new(),
            deletes: Vec::new(),
            marks: BTreeMap::new(),
            notes: BTreeMap::new(),
            fail_commits: false,
        }
    }

    /// Where it stands.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Takes or renews the lease.
    pub fn acquire(&mut self, holder: &str, now: Timestamp, until: Timestamp) -> Result<(), StateError> {
        if let Some(lease) = self.lease.as_ref().filter(|lease| lease.holder != holder && lease.expires > now)
        {
            return Err(held_by(Some(lease)));
        }
        self.lease = Some(Lease { holder: holder.to_owned(), expires: until });
        Ok(())
    }

    /// Gives the lease up.
    pub fn release(&mut self, holder: &str) {
        self.lease.take_if(|lease| lease.holder == holder);
    }

    /// The lease.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// The intents that have not ended, oldest first.
    pub fn open_intents(&self) -> &[Intent] {
        &self.open
    }

    /// The intents that ended, oldest first.
    pub fn ended_intents(&self) -> &[(Intent, IntentEnd)] {
        &self.ended
    }

    /// The memories of an entity in the order of keys.
    pub fn page(
        &self,
        entity: &EntityName,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Vec<(RecordKey, Memory)> {
        let at = |key: &RecordKey| RecordId { entity: entity.clone(), key: key.clone() };
        let from = match after {
            Some(key) => Bound::Excluded(at(key)),
            None => Bound::Included(at(&RecordKey::new(Vec::new()))),
        };
        self.memories
            .range((from, Bound::Unbounded))
            .take_while(|(id, _)| id.entity == *entity)
            .take(limit)
            .map(|(id, memory)| (id.key.clone(), memory.clone()))
            .collect()
    }

    /// What is remembered of a record.
    pub fn recall(&self, record: &RecordId) -> Option<&Memory> {
        self.memories.get(record)
    }

    /// How many records were deleted since then.
    pub fn deletes_since(&self, since: Timestamp) -> RecentDeletes {
        let mut recent = RecentDeletes::new();
        for deletes in self.deletes.iter().filter(|deletes| deletes.at >= since) {
            *recent.entry((deletes.entity.clone(), deletes.store.clone())).or_default() += deletes.count;
        }
        recent
    }

    /// Makes a change, all of it or none.
    pub fn commit(&mut self, transition: &Transition) -> Result<(), StateError> {
        if self.fail_commits {
            return Err(StateError::new("the state cannot be written"));
        }
        if transition.forget_everything {
            self.memories.clear();
            self.open.clear();
            self.marks.clear();
        }
        if let Some(pass) = transition.intend_pass {
            self.header.intended = pass;
        }
        if let Some(pass) = transition.acknowledge_pass {
            self.header.acknowledged = pass;
        }
        for intent in &transition.open {
            self.open.retain(|known| known.id != intent.id);
            self.open.push(Intent::clone(intent));
        }
        for (id, end) in &transition.close {
            if let Some(at) = self.open.iter().position(|intent| intent.id == *id) {
                self.ended.push((self.open.remove(at), *end));
            }
        }
        self.deletes.extend(transition.deletes.iter().cloned());
        for (record, store, shadow) in &transition.shadows {
            let memory = self.memories.entry(record.clone()).or_default();
            memory.stores.insert(store.clone(), shadow.as_ref().clone());
        }
        for (record, store) in &transition.forget {
            if let Some(memory) = self.memories.get_mut(record) {
                memory.stores.remove(store);
                if memory.stores.is_empty() {
                    self.memories.remove(record);
                }
            }
        }
        for (entity, marks) in &transition.marks {
            match marks {
                Some(marks) => drop(self.marks.insert(entity.clone(), marks.clone())),
                None => drop(self.marks.remove(entity)),
            }
        }
        Ok(())
    }
}

/// A [`MemoryStateData`] behind the [`State`] trait. Clones share the data.
#[derive(Debug, Clone)]
pub struct MemoryState(Arc<Mutex<MemoryStateData>>);

impl MemoryState {
    /// An empty state of this id.
    pub fn new(id: StateId) -> Self {
        Self::with(MemoryStateData::new(id))
    }

    /// A state of this data.
    pub fn with(data: MemoryStateData) -> Self {
        Self(Arc::new(Mutex::new(data)))
    }

    /// The data.
    pub fn data(&self) -> MutexGuard<'_, MemoryStateData> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl State for MemoryState {
    async fn header(&self) -> Result<Header, StateError> {
        Ok(self.data().header().clone())
    }

    async fn acquire(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<(), StateError> {
        self.data().acquire(holder, now, until)
    }

    async fn release(&self, holder: &str) -> Result<(), StateError> {
        self.data().release(holder);
        Ok(())
    }

    async fn lease(&self) -> Result<Option<Lease>, StateError> {
        Ok(self.data().lease().cloned())
    }

    async fn open_intents(&self) -> Result<Vec<Intent>, StateError> {
        Ok(self.data().open_intents().to_vec())
    }

    async fn page(
        &self,
        entity: &Entity,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Memory)>, StateError> {
        Ok(self.data().page(&entity.name, after, limit))
    }

    async fn recall(
        &self,
        entity: &Entity,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Memory>, StateError> {
        let data = self.data();
        let look = |key: &RecordKey| {
            let id = RecordId { entity: entity.name.clone(), key: key.clone() };
            data.recall(&id).map(|memory| (key.clone(), memory.clone()))
        };
        Ok(keys.iter().filter_map(look).collect())
    }

    async fn deletes_since(&self, since: Timestamp) -> Result<RecentDeletes, StateError> {
        Ok(self.data().deletes_since(since))
    }

    async fn marks(&self, entity: &EntityName) -> Result<Option<Marks>, StateError> {
        Ok(self.data().marks.get(entity).cloned())
    }

    async fn notes(&self, kind: &str) -> Result<BTreeMap<String, String>, StateError> {
        Ok(self.data().notes.get(kind).cloned().unwrap_or_default())
    }

    async fn note(&self, kind: &str, changes: &BTreeMap<String, Option<String>>) -> Result<(), StateError> {
        let mut data = self.data();
        let notes = data.notes.entry(kind.to_owned()).or_default();
        for (key, text) in changes {
            match text {
                Some(text) => notes.insert(key.clone(), text.clone()),
                None => notes.remove(key),
            };
        }
        Ok(())
    }

    async fn commit(&self, transition: &Transition) -> Result<(), StateError> {
        self.data().commit(transition)
    }
}
