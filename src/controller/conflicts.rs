//! Conflicts that wait for a person, and a person's decisions.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::apply::clock;
use crate::model::{
    Batch, BatchId, ByName, Cell, ConflictId, Entity, FieldId, FieldName, FieldRef, FieldType, Fields, Form,
    Guard, IntentId, Mapped, Native, Outcome, RecordKey, StoreName, SyncMeta, Value, Version, Write, WriteOp,
    decode,
};
use crate::plan::is_orphan;
use crate::reconcile::Excerpt;
use crate::resolve::{Conflict, ConflictStatus, Decision, SideRecord, violations};
use crate::telemetry::Silent;

use super::related::rows;
use super::{Engine, EngineError, PassOptions};

/// How a person settles a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This store's values stand.
    Take(StoreName),
    /// These values stand, as text in canonical form (`null` clears).
    Set(BTreeMap<FieldName, String>),
}

impl Engine {
    /// The conflicts in the canonical store: the open ones, or all, oldest first.
    ///
    /// # Errors
    /// When the canonical store cannot be read.
    pub async fn conflicts(&self, all: bool) -> Result<Vec<Conflict>, EngineError> {
        let options = PassOptions::default();
        let executor = self.executor(&Silent, None, &options);
        let open = self.ledger.open_conflicts();
        let excerpt = if all { Excerpt { except: None, ..open } } else { open };
        let mut conflicts: Vec<Conflict> = Vec::new();
        executor.each_system_row(excerpt, |row| conflicts.extend(self.ledger.conflict_of(&row))).await?;
        conflicts.retain(|conflict| all || conflict.status.is_open());
        conflicts.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(conflicts)
    }

    /// Records a person's decision in the canonical store; the next pass over the record carries it out.
    ///
    /// # Errors
    /// When there is no such open conflict, the choice does not fit it, or the canonical store cannot be written.
    pub async fn decide(&self, id: &ConflictId, choice: Choice, by: &str) -> Result<Conflict, EngineError> {
        let found = self.conflicts(true).await?.into_iter().find(|conflict| conflict.id == *id);
        let Some(conflict) = found else {
            return Err(
                EngineError::new(format!("there is no conflict {id}")).hint("see `trueup conflicts list`")
            );
        };
        if !conflict.status.is_open() {
            return Err(EngineError::new(format!(
                "the conflict {id} is {} already",
                conflict.status.as_str()
            )));
        }
        if is_orphan(&self.spec, &conflict) {
            let message = format!("the manifests no longer name what the conflict {id} is about");
            return Err(EngineError::new(message).hint("the next `trueup apply` withdraws it"));
        }
        let (store, values) = self.chosen(&conflict, choice)?;
        let decision = Decision { values, store, by: by.to_owned(), at: clock() };
        let decided =
            Conflict { status: ConflictStatus::Decided, decision: Some(decision), ..conflict.clone() };
        self.put_decision(&conflict, &decided).await?;
        Ok(decided)
    }

    fn chosen(
        &self,
        conflict: &Conflict,
        choice: Choice,
    ) -> Result<(Option<StoreName>, ByName<Value>), EngineError> {
        match choice {
            Choice::Take(store) => {
                let sides: Vec<&str> = conflict.sides.iter().map(|side| side.store.as_str()).collect();
                let side = conflict.side(&store).ok_or_else(|| {
                    EngineError::new(format!("`{store}` is no side of the conflict {}", conflict.id))
                        .hint(format!("its sides are {}", sides.join(", ")))
                })?;
                // What stands in the canonical store stands, whatever it breaks already.
                let entity =
                    self.spec.entity(&conflict.record.entity).filter(|_| store != self.spec.canonical);
                if let (Some(entity), SideRecord::Held(record)) = (entity, &side.record) {
                    keep_the_rules(entity, &side.values, Some(record))?;
                }
                Ok((Some(store), side.values.clone()))
            }
            Choice::Set(texts) => {
                let entity = self.spec.entity(&conflict.record.entity).ok_or_else(|| {
                    EngineError::new(format!(
                        "no manifest names the entity `{}` any more",
                        conflict.record.entity
                    ))
                })?;
                Ok((None, set(entity, conflict, texts)?))
            }
        }
    }

    async fn put_decision(&self, before: &Conflict, decided: &Conflict) -> Result<(), EngineError> {
        let mapped = &self.ledger.conflicts;
        let fields = self.ledger.conflict_fields(decided);
        let stands = self.ledger.conflict_fields(before);
        // The whole row as it was read: somebody who decided at the same time is not written over.
        let guard = Guard {
            fields: stands.into_iter().map(|(field, value)| (field, Cell::Value(value))).collect(),
            meta: SyncMeta::default(),
        };
        let intent = IntentId(format!("decide-{}", decided.id).into());
        let write = Write {
            intent: intent.clone(),
            key: RecordKey::new(vec![decided.id.0.clone()]),
            store_id: None,
            link: false,
            op: WriteOp::Update { fields, meta: None, updated: None, guard },
        };
        self.write_one(mapped, write, &format!("the conflict {}", decided.id)).await
    }

    /// Makes values of a conflict that ended stand after all: an edit in the canonical store, as anybody might make it there. The next pass
    /// over the record brings it everywhere.
    ///
    /// # Errors
    /// When the choice does not fit the conflict or breaks a rule, the record is gone or paused, or the canonical store cannot be written.
    pub async fn take_again(&self, conflict: &Conflict, choice: Choice) -> Result<(), EngineError> {
        let (_, values) = self.chosen(conflict, choice)?;
        let (record, canonical) = (&conflict.record, &self.spec.canonical);
        self.none_is_paused(std::iter::once(record)).await?;
        let mapped = self.in_canonical(&record.entity)?;
        let mut found = rows(self.canonical_store()?, &mapped, std::slice::from_ref(&record.key)).await?;
        let Some(row) = found.remove(&record.key) else {
            return Err(EngineError::new(format!("the canonical store has no {record}"))
                .hint("`trueup deleted list` shows what was deleted and can be put back"));
        };
        let named = |(id, cell): (&FieldId, &Cell)| {
            Some((mapped.entity.field(*id).name.clone(), cell.value()?.clone()))
        };
        let standing: ByName<Value> = row.fields.iter().filter_map(named).collect();
        keep_the_rules(&mapped.entity, &values, Some(&standing))?;
        let fields: Fields<Value> = values
            .into_iter()
            .filter_map(|(name, value)| Some((mapped.entity.field_id(&name)?, value)))
            .filter(|(field, value)| row.fields.get(field).is_some_and(|cell| cell.value() != Some(value)))
            .collect();
        if fields.is_empty() {
            return Err(EngineError::new(format!("{record} has no other values than these")));
        }
        let now = self.now();
        let meta = mapped.mapping.has_sync().then(|| SyncMeta {
            version: Some(Version(row.meta.version_or_none().0.saturating_add(1))),
            last_updated: Some(now),
            last_updated_by: Some(canonical.as_str().into()),
            ..row.meta.clone()
        });
        let guard = Guard {
            fields: fields
                .keys()
                .filter_map(|field| Some((*field, row.fields.get(field)?.clone())))
                .collect(),
            meta: row.meta,
        };
        let write = Write {
            intent: IntentId(format!("take-{}", conflict.id).into()),
            key: record.key.clone(),
            store_id: row.store_id,
            link: false,
            op: WriteOp::Update {
                fields,
                meta,
                updated: mapped.mapping.updated.is_some().then_some(now),
                guard,
            },
        };
        self.write_one(&mapped, write, &record.to_string()).await
    }

    /// Writes a row of the canonical store, unless it is another one than was read.
    async fn write_one(&self, mapped: &Mapped, write: Write, what: &str) -> Result<(), EngineError> {
        let intent = write.intent.clone();
        let batch =
            Batch { id: BatchId(intent.0.clone()), receipt: false, writes: vec![write], along: Vec::new() };
        match self.canonical_store()?.apply(mapped, &batch).await?.remove(&intent) {
            Some(Outcome::Applied(_)) => Ok(()),
            Some(Outcome::Refused(error) | Outcome::Unknown(error)) => Err(error.into()),
            Some(Outcome::Moved) | None => {
                Err(EngineError::new(format!("{what} changed meanwhile")).hint("look at it again"))
            }
        }
    }
}

/// The values a person typed, by the fields' types. Together with what the first side holds they must keep the fields' rules.
fn set(
    entity: &Entity,
    conflict: &Conflict,
    texts: BTreeMap<FieldName, String>,
) -> Result<ByName<Value>, EngineError> {
    let mut values = ByName::new();
    for (name, text) in texts {
        if !conflict.fields.contains(&name) {
            let fields: Vec<&str> = conflict.fields.iter().map(FieldName::as_str).collect();
            return Err(EngineError::new(format!("`{name}` is no field of the conflict {}", conflict.id))
                .hint(format!("its fields are {}", fields.join(", "))));
        }
        let Some(field) = entity.field_id(&name) else {
            return Err(EngineError::new(format!("no manifest names the field `{name}` any more")));
        };
        values.insert(name.clone(), typed(entity.field(field).ty, &name, &text)?);
    }
    if let Some(missing) = conflict.fields.iter().find(|field| !values.contains_key(*field)) {
        return Err(EngineError::new(format!("`{missing}` is a field of the conflict too"))
            .hint(format!("add --set {missing}=VALUE")));
    }
    let first = conflict.sides.iter().find_map(|side| match &side.record {
        SideRecord::Held(record) => Some(record),
        SideRecord::Deleted => None,
    });
    keep_the_rules(entity, &values, first)?;
    Ok(values)
}

/// Refuses values that break their fields' rules, in a record whose others are these.
fn keep_the_rules(
    entity: &Entity,
    values: &ByName<Value>,
    record: Option<&ByName<Value>>,
) -> Result<(), EngineError> {
    let whole = |field: FieldRef| -> Value {
        let FieldRef::Field(id) = field else { return Value::Null };
        let name = &entity.field(id).name;
        let held = record.and_then(|record| record.get(name));
        values.get(name).or(held).cloned().unwrap_or_default()
    };
    for (name, value) in values {
        let Some(field) = entity.field_id(name) else { continue };
        if let Some(rule) = violations(entity, field, &Cell::Value(value.clone()), &whole).first() {
            return Err(EngineError::new(format!("the value for `{name}` breaks the rule `{rule}`"))
                .hint("choose another one with `--set FIELD=VALUE`"));
        }
    }
    Ok(())
}

fn typed(ty: FieldType, name: &FieldName, text: &str) -> Result<Value, EngineError> {
    if text == "null" {
        return Ok(Value::Null);
    }
    decode(&Native::Text(text.to_owned()), ty, Form::Native, &TimeZone::UTC)
        .map_err(|error| EngineError::new(format!("the value for `{name}` is no {}: {error}", ty.as_str())))
}
