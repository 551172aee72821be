//! Rows that wait for a person to say whose they are, and a person's word.

use crate::apply::clock;
use crate::identity::minted;
use crate::model::{
    Entity, EntityName, FieldType, Form, RecordId, RecordKey, Shadow, StoreName, StoreRecordId, Transition,
};
use crate::plan::{Plan, Waiting};
use crate::telemetry::Silent;

use super::{Engine, EngineError, PassOptions};

/// How many memories are read from the state at a time.
const PAGE: usize = 2_000;

impl Engine {
    /// Looks at everything; the plan says which rows wait.
    ///
    /// # Errors
    /// When canonical store or state cannot be used.
    pub async fn look_for_strays(&self) -> Result<Plan, EngineError> {
        self.plan(&PassOptions { only_look: true, ..PassOptions::default() }, &Silent).await
    }

    /// Takes a person's word for whose a row is: `key`, or, without one, nobody's who is known, so that it becomes a record of its own. Gives the
    /// record. The next pass puts its key into the row.
    ///
    /// # Errors
    /// When there is no such row, the record has another row in that store, or the state cannot be used.
    pub async fn identify(
        &self,
        entity: &EntityName,
        store: &StoreName,
        id: &StoreRecordId,
        key: Option<RecordKey>,
    ) -> Result<RecordId, EngineError> {
        let declared = self.spec.entity(entity).cloned();
        let declared = declared.ok_or_else(|| EngineError::new(format!("there is no entity `{entity}`")))?;
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
        if !waiting.iter().any(|row| row.id == *id) {
            return Err(EngineError::new(format!(
                "no row {} of `{entity}` in `{store}` waits for a person",
                id.0
            ))
            .hint("`trueup identity list` shows those that do"));
        }
        let key = match key {
            Some(key) if key.parts().len() == declared.key.len() => key,
            Some(_) => {
                return Err(EngineError::new(format!(
                    "the key of `{entity}` has {} parts",
                    declared.key.len()
                )));
            }
            None => self.own_key(&declared, store, id)?,
        };
        let record = RecordId { entity: entity.clone(), key };
        let forget = self.others(&declared, store, id, &record).await?;
        let shadow = Shadow { present: true, store_id: Some(id.clone()), ..Shadow::default() };
        let transition = Transition {
            forget,
            shadows: vec![(record.clone(), store.clone(), shadow)],
            ..Transition::default()
        };
        let length = i64::try_from(self.spec.controller.lease_ms).unwrap_or(i64::MAX).saturating_mul(1000);
        let now = clock();
        self.state.acquire(&self.holder, now, now.saturating_add_micros(length)).await?;
        let done = self.state.commit(&transition).await;
        self.state.release(&self.holder).await?;
        done?;
        Ok(record)
    }

    fn own_key(
        &self,
        entity: &Entity,
        store: &StoreName,
        id: &StoreRecordId,
    ) -> Result<RecordKey, EngineError> {
        let mappings = self.spec.mappings.get(&entity.name).into_iter().flat_map(|stores| stores.values());
        let numbers = entity.key.iter().any(|part| part.ty == FieldType::Int64)
            || mappings.flat_map(|mapping| &mapping.key).any(|place| place.form == Form::Int64);
        if numbers || entity.key.len() != 1 {
            return Err(EngineError::new(format!(
                "trueup makes no keys of `{}` by itself here",
                entity.name
            ))
            .hint("say which one it gets: `trueup identity link ENTITY STORE ID KEY`"));
        }
        Ok(minted(&entity.name, store, id))
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
        let mut last: Option<RecordKey> = None;
        loop {
            let page = self.state.page(entity, last.as_ref(), PAGE).await?;
            for (key, memory) in &page {
                let Some(shadow) = memory.stores.get(store).filter(|shadow| shadow.present) else { continue };
                let same_row = shadow.store_id.as_ref() == Some(id);
                if *key == record.key && !same_row && shadow.store_id.is_some() {
                    let other = shadow.store_id.as_ref().map_or("", |other| other.0.as_str());
                    return Err(EngineError::new(format!(
                        "{record} has the row {other} in `{store}` already"
                    ))
                    .hint("merge the two rows there, or `split` this one"));
                }
                if same_row && *key != record.key {
                    forget.push((RecordId { entity: entity.name.clone(), key: key.clone() }, store.clone()));
                }
            }
            last = page.last().map(|(key, _)| key.clone());
            if page.len() < PAGE {
                return Ok(forget);
            }
        }
    }
}
