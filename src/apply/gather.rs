//! Reading stores with record ids of their own ahead of the others, and finding out whose their rows are.
//!
//! Such a store is read whole before anything is joined: a row of it may be any record's. Its rows stay in memory until they are joined;
//! of the other stores nothing does, and they are read for this only while there is a row that nobody knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::identity::{Found, Identified, Identify, Place};
use crate::model::{Certificate, EmbedPlace, Entity, EntityName, RecordKey, StoreError, StoreName};
use crate::state::{PAGE, Pages};
use crate::store::LazyRow;

use super::Executor;
use super::observe::{Cursor, Sight};

/// How reading a store went: what it vouches for, why it broke off, and whether it began.
type Read = (Option<Certificate>, Option<StoreError>, bool);

/// What was read ahead, and whose it is.
#[derive(Default)]
pub(super) struct Gathered {
    rows: BTreeMap<Place, Vec<LazyRow>>,
    reads: BTreeMap<Place, Read>,
    identified: Identified,
}

impl Gathered {
    /// The rows of an entity in a store that was read ahead, each with its record's key, and what was found out about them.
    pub(super) fn cursor(
        &mut self,
        executor: &Executor<'_>,
        entity: &Entity,
        store: &StoreName,
    ) -> Option<(Cursor, Found)> {
        let mapping = executor.spec.mapping(&entity.name, store).filter(|mapping| mapping.own_ids)?;
        let place = (entity.name.clone(), store.clone());
        let mut found = self.identified.places.remove(&place).unwrap_or_default();
        let held: BTreeSet<_> = found.held.iter().map(|held| held.id.clone()).collect();
        let mut rows: BTreeMap<RecordKey, LazyRow> = BTreeMap::new();
        for row in self.rows.remove(&place).into_iter().flatten() {
            let stands = row.row().store_id.is_none_or(|id| !held.contains(&id));
            if stands {
                rows.insert(row.key().clone(), row);
            }
        }
        for (key, row) in std::mem::take(&mut found.rows) {
            rows.insert(key, row.into());
        }
        let read = match mapping.embedded() {
            None => self.reads.get(&place).cloned().unwrap_or_default(),
            Some(embedded) => {
                // What its parents vouch for, it does.
                let (certificate, error, began) =
                    self.reads.get(&(embedded.parent.clone(), store.clone())).cloned().unwrap_or_default();
                let count = rows.len() as u64;
                let missing = certificate.iter().flat_map(|told| told.missing_inside.iter().cloned());
                let missing: BTreeSet<String> = missing.collect();
                let gone = |place: &EmbedPlace| missing.contains(&place.column.to_string());
                let lost = embedded.places.iter().filter(|(_, place)| gone(place));
                found.lost_kinds = lost.clone().map(|(kind, _)| kind.clone()).collect();
                let missing_columns = lost.map(|(_, place)| place.column.to_string()).collect();
                let certificate = certificate.map(|told| Certificate {
                    rows_claimed: if told.is_whole() { count } else { count + 1 },
                    rows_read: count,
                    end_seen: told.end_seen,
                    moved: told.moved,
                    missing_columns,
                    ..Certificate::default()
                });
                (certificate, error, began)
            }
        };
        let doubtful = found.doubtful.clone();
        Some((
            Cursor::of_rows(store.clone(), rows.into_values().collect::<VecDeque<_>>(), doubtful, read),
            found,
        ))
    }
}

impl Sight<'_> {
    /// Reads the stores with record ids of their own, and finds out whose their rows are.
    pub(super) async fn gather(&self) -> Result<Gathered, String> {
        let executor = self.executor;
        let mut gathered = Gathered::default();
        let mut identify = Identify::new(executor.spec.clone());
        if !identify.is_needed() {
            return Ok(gathered);
        }
        for place in identify.sources() {
            let Some(entity) = executor.spec.entity(&place.0) else { continue };
            let mut cursor = Cursor::open(executor, entity, place.1.clone()).await;
            let (mut rows, mut strays) = (Vec::new(), Vec::new());
            loop {
                cursor.fill(executor, entity).await;
                strays.append(&mut cursor.strays);
                if cursor.rows.is_empty() {
                    break;
                }
                rows.extend(cursor.rows.drain(..));
            }
            if cursor.error.is_some() {
                // What came before it broke off would be told apart by what did not come.
                (rows, strays) = (Vec::new(), Vec::new());
                identify.unread(&place);
            }
            for row in &rows {
                identify.take_row(&place.0, &place.1, &row.row());
            }
            for stray in strays {
                identify.take_stray(&place.1, stray);
            }
            gathered.rows.insert(place.clone(), rows);
            gathered.reads.insert(place, (cursor.certificate, cursor.error, cursor.began));
        }
        for entity in identify.wants_memories() {
            self.tell_memories(&entity, &mut identify).await?;
        }
        for (entity, store) in identify.wants_rows() {
            self.tell_rows(&entity, &store, &gathered, &mut identify).await;
        }
        gathered.identified = identify.decide();
        Ok(gathered)
    }

    async fn tell_memories(&self, name: &EntityName, identify: &mut Identify) -> Result<(), String> {
        let Some(entity) = self.executor.spec.entity(name).filter(|_| !self.opened.rebuild) else {
            return Ok(());
        };
        let mut pages = Pages::new(self.executor.state.as_ref(), entity, PAGE);
        while let Some(page) = pages.next_page().await.map_err(|error| error.to_string())? {
            for (key, memory) in page {
                let memory = self.overlaid(entity, &key, Some(memory)).unwrap_or_default();
                identify.remember(name, &key, &memory);
            }
        }
        for (record, _) in self.opened.overlay.iter().filter(|(record, _)| record.entity == *name) {
            if let Some(memory) = self.overlaid(entity, &record.key, None) {
                identify.remember(name, &record.key, &memory);
            }
        }
        Ok(())
    }

    /// Shows known rows. Canonical rows that cannot all be read put everything new about the entity in doubt.
    async fn tell_rows(
        &self,
        name: &EntityName,
        store: &StoreName,
        gathered: &Gathered,
        identify: &mut Identify,
    ) {
        let executor = self.executor;
        let Some(entity): Option<&Arc<Entity>> = executor.spec.entity(name) else { return };
        if let Some(rows) = gathered.rows.get(&(name.clone(), store.clone())) {
            for row in rows {
                identify.know(entity, store, &row.row());
            }
            return;
        }
        let mut cursor = Cursor::open(executor, entity, store.clone()).await;
        loop {
            cursor.fill(executor, entity).await;
            if cursor.rows.is_empty() {
                break;
            }
            cursor.rows.drain(..).for_each(|row| identify.know(entity, store, &row.into_row()));
        }
        let complete = cursor.error.is_none() && cursor.certificate.is_some_and(|told| told.is_complete());
        if *store == executor.spec.canonical && !complete {
            identify.doubt(name);
        }
    }
}
