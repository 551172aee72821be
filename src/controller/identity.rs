//! Rows that wait for a person to say whose they are, and a person's word.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::apply::KeptLease;
use crate::identity::minted;
use crate::model::{
    ElementId, Entity, EntityName, FieldType, Form, Mapped, RecordId, RecordKey, Shadow, StoreName,
    StoreRecordId, Transition, canonical_integer,
};
use crate::plan::{Plan, Waiting};
use crate::state::{PAGE, Pages};
use crate::store::SnapshotItem;
use crate::telemetry::Silent;

use super::{Engine, EngineError, PassOptions};

impl Engine {
    /// Looks at everything; the plan says which rows wait.
    ///
    /// # Errors
    /// When canonical store or state cannot be used.
    pub async fn look_for_strays(&self) -> Result<Plan, EngineError> {
        self.plan(&PassOptions { only_look: true, ..PassOptions::default() }, &Silent).await
    }

    /// Takes a person's word for whose a row is: `key`, or, without one, nobody's who is known, so that it becomes a record of its own. Gives the
    /// record. The next pass puts its key into the row. A row that is known to be a record's can be told to be nobody's as well; the key that
    /// it carries is then for a person to take out of it.
    ///
    /// # Errors
    /// When there is no such row, the record has another row in that store, or the state cannot be used.
    pub async fn identify(
        &self,
        entity: &EntityName,
        store: &StoreName,
        id: &StoreRecordId,
        key: Option<RecordKey>,
        lock_timeout_ms: u64,
    ) -> Result<RecordId, EngineError> {
        // What is looked at stays so until it is noted: a pass in between could link the row, or give the record another one.
        let lease = self.take_lease(lock_timeout_ms, &Silent, &CancellationToken::new()).await?;
        let said = self.identify_alone(entity, store, id, key, &lease).await;
        self.give_lease_up(&lease, &Silent).await;
        said
    }

    async fn identify_alone(
        &self,
        entity: &EntityName,
        store: &StoreName,
        id: &StoreRecordId,
        key: Option<RecordKey>,
        lease: &KeptLease,
    ) -> Result<RecordId, EngineError> {
        let declared = self.spec.entity(entity).cloned();
        let declared = declared.ok_or_else(|| EngineError::new(format!("there is no entity `{entity}`")))?;
        if !self.spec.stores.contains_key(store) {
            return Err(EngineError::new(format!("there is no store `{store}`")));
        }
        let mapping = self.spec.mapping(entity, store);
        if !mapping.is_some_and(|mapping| mapping.own_ids && mapping.embedded().is_none()) {
            return Err(EngineError::new(format!(
                "the rows of `{entity}` in `{store}` have no ids of their own"
            ))
            .hint("rows that carry their key are nobody else's"));
        }
        let plan = self.look_for_strays().await?;
        let meeting = plan.meetings.get(entity).and_then(|stores| stores.get(store));
        let waiting: &[Waiting] = meeting.map(|meeting| meeting.waiting.as_slice()).unwrap_or_default();
        let waits = waiting.iter().any(|row| row.id == *id);
        let linked = key.is_none() && self.is_remembered(&declared, store, id).await?;
        if !waits && !linked {
            return Err(EngineError::new(format!(
                "no row {} of `{entity}` in `{store}` waits for a person",
                id.0
            ))
            .hint("`trueup identity list` shows those that do"));
        }
        let key = match key {
            Some(key) => self.spelt(&declared, key)?,
            None => self.own_key(&declared, store, id).await?,
        };
        let record = RecordId { entity: entity.clone(), key };
        let mut forget = self.others(&declared, store, id, &record).await?;
        if linked {
            // What stands in it is looked at anew: whose it was remembered to be, it is not.
            forget.extend(self.elements_in(entity, store, id).await?);
        }
        let shadow = Shadow { present: true, store_id: Some(id.clone()), ..Shadow::default() };
        let transition = Transition {
            forget,
            shadows: vec![(record.clone(), store.clone(), Arc::new(shadow))],
            ..Transition::default()
        };
        // The look may have taken long; who took the lease over meanwhile goes first.
        lease.keep(&*self.state).await.map_err(EngineError::new)?;
        self.state.commit(&transition).await?;
        Ok(record)
    }

    /// Whether the canonical store has a record.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn is_known(&self, record: &RecordId) -> Result<bool, EngineError> {
        let canonical = &self.spec.canonical;
        let mapped = self.spec.mapped_in(canonical).find(|mapped| *mapped.name() == record.entity);
        let (Some(Ok(store)), Some(mapped)) = (self.stores.get(canonical), mapped) else { return Ok(false) };
        let rows = store.read(&mapped, std::slice::from_ref(&record.key)).await?;
        Ok(rows.get(&record.key).is_some_and(|presence| presence.row().is_some()))
    }

    /// A key that a person wrote, if a record can have it: another one would be refused by a store in every pass.
    fn spelt(&self, entity: &Entity, key: RecordKey) -> Result<RecordKey, EngineError> {
        if key.parts().len() != entity.key.len() {
            return Err(EngineError::new(format!(
                "the key of `{}` has {} parts",
                entity.name,
                entity.key.len()
            )));
        }
        let mut parts = key.parts().iter().enumerate();
        match parts.find(|(at, part)| self.is_number(entity, *at) && canonical_integer(part).is_none()) {
            None => Ok(key),
            Some((_, part)) => Err(EngineError::new(format!("`{part}` is no key of `{}`", entity.name))
                .hint("it is a whole number, without zeros in front")),
        }
    }

    /// Whether a part of the key is a whole number, for the entity or in any store.
    fn is_number(&self, entity: &Entity, part: usize) -> bool {
        let mut mappings =
            self.spec.mappings.get(&entity.name).into_iter().flat_map(|stores| stores.values());
        entity.key.get(part).is_some_and(|part| part.ty == FieldType::Int64)
            || mappings.any(|mapping| mapping.key.get(part).is_some_and(|place| place.form == Form::Int64))
    }

    async fn own_key(
        &self,
        entity: &Entity,
        store: &StoreName,
        id: &StoreRecordId,
    ) -> Result<RecordKey, EngineError> {
        if entity.key.len() != 1 {
            return Err(EngineError::new(format!("trueup makes no keys of `{}` by itself", entity.name))
                .hint("say which one it gets: `trueup identity link ENTITY STORE ID KEY`"));
        }
        if self.is_number(entity, 0) {
            self.next_number(entity).await
        } else {
            Ok(minted(&entity.name, store, id))
        }
    }

    /// The number after all that are known.
    async fn next_number(&self, entity: &Entity) -> Result<RecordKey, EngineError> {
        let mut greatest = 0_i64;
        let mut see = |key: &RecordKey| {
            let number = key.parts().first().and_then(|part| part.parse().ok());
            greatest = greatest.max(number.unwrap_or(0));
        };
        for store in self.spec.stores_of(&entity.name) {
            let Some(Ok(opened)) = self.stores.get(&store) else { continue };
            let (Some(entity), Some(mapping)) =
                (self.spec.entity(&entity.name), self.spec.mapping(&entity.name, &store))
            else {
                continue;
            };
            let mapped = Mapped { entity: entity.clone(), mapping: mapping.clone() };
            let mut whole = false;
            let mut stream = opened.snapshot(mapped).await?;
            while let Some(item) = stream.recv().await {
                match item? {
                    SnapshotItem::Rows(rows) => rows.iter().for_each(|row| see(row.key())),
                    SnapshotItem::Strays(strays) => {
                        let own = strays.iter().filter(|stray| stray.entity == entity.name);
                        own.filter_map(|stray| stray.key.as_ref()).for_each(&mut see);
                    }
                    SnapshotItem::End(certificate) => whole = certificate.is_whole(),
                }
            }
            if store == self.spec.canonical && !whole {
                let message = format!("the keys of `{}` could not be read to their end", entity.name);
                return Err(EngineError::new(message));
            }
        }
        let mut pages = Pages::new(self.state.as_ref(), entity, PAGE);
        while let Some(page) = pages.next_page().await? {
            for (key, _) in &page {
                see(key);
            }
        }
        Ok(RecordKey::new(vec![greatest.saturating_add(1).to_string()]))
    }

    /// Whether a row is remembered as some record's.
    async fn is_remembered(
        &self,
        entity: &Entity,
        store: &StoreName,
        id: &StoreRecordId,
    ) -> Result<bool, EngineError> {
        let found = self.remembered(entity, store, |of| of == id).await?;
        Ok(!found.is_empty())
    }

    /// The elements that are remembered to stand in a row.
    async fn elements_in(
        &self,
        entity: &EntityName,
        store: &StoreName,
        id: &StoreRecordId,
    ) -> Result<Vec<(RecordId, StoreName)>, EngineError> {
        let mut found = Vec::new();
        for child in &self.spec.entities {
            let inside = self.spec.mapping(&child.name, store).and_then(|mapping| mapping.embedded());
            if inside.is_some_and(|embedded| embedded.parent == *entity) {
                let stands = |of: &StoreRecordId| ElementId::parse(of).is_some_and(|of| of.parent == *id);
                found.extend(self.remembered(child, store, stands).await?);
            }
        }
        Ok(found)
    }

    /// The records of which a store is remembered to have a row like this.
    async fn remembered(
        &self,
        entity: &Entity,
        store: &StoreName,
        row: impl Fn(&StoreRecordId) -> bool,
    ) -> Result<Vec<(RecordId, StoreName)>, EngineError> {
        let mut found = Vec::new();
        let mut pages = Pages::new(self.state.as_ref(), entity, PAGE);
        while let Some(page) = pages.next_page().await? {
            for (key, memory) in page {
                let shadow = memory.stores.get(store).filter(|shadow| shadow.present);
                if shadow.and_then(|shadow| shadow.store_id.as_ref()).is_some_and(&row) {
                    let record = RecordId { entity: entity.name.clone(), key };
                    found.push((record, store.clone()));
                }
            }
        }
        Ok(found)
    }

    /// What else is remembered of the row. The record may not have another row there.
    async fn others(
        &self,
        entity: &Entity,
        store: &StoreName,
        id: &StoreRecordId,
        record: &RecordId,
    ) -> Result<Vec<(RecordId, StoreName)>, EngineError> {
        let mut forget = Vec::new();
        let mut pages = Pages::new(self.state.as_ref(), entity, PAGE);
        while let Some(page) = pages.next_page().await? {
            for (key, memory) in page {
                let Some(shadow) = memory.stores.get(store).filter(|shadow| shadow.present) else { continue };
                let same_row = shadow.store_id.as_ref() == Some(id);
                if key == record.key && !same_row && shadow.store_id.is_some() {
                    let other = shadow.store_id.as_ref().map_or("", |other| other.0.as_str());
                    return Err(EngineError::new(format!(
                        "{record} has the row {other} in `{store}` already"
                    ))
                    .hint("merge the two rows there, or `split` this one"));
                }
                if same_row && key != record.key {
                    forget.push((RecordId { entity: entity.name.clone(), key }, store.clone()));
                }
            }
        }
        Ok(forget)
    }
}
