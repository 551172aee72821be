//! The tables that trueup keeps in the canonical store: conflicts, tombstones and the number of the last pass. They are entities
//! like any other, so that a store needs no code of its own for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::{
    ByName, Cell, Column, ConflictPolicy, DeletePolicy, Direction, Entity, EntityName, Except, Field,
    FieldId, FieldMapping, FieldName, FieldType, Fields, Form, Home, Json, KeyField, KeyMapping, Mapped,
    Mapping, MappingTag, Memory, Names, RecordId, RecordKey, Row, SYSTEM_TABLES, Shape, StateId, StoreName,
    SyncPlace, TableName, Times, Timestamp, Unit, Value, Version,
};
use crate::plan::TombstoneDraft;
use crate::resolve::{Conflict, ConflictSide, ConflictStatus, SideRecord, Tombstone};

use super::deleted::Deleted;

/// What a tombstone says while a store has not confirmed the delete.
const PENDING: &str = "pending";

/// What a tombstone says once every store has confirmed the delete.
const CONFIRMED: &str = "confirmed";

/// What is kept of a row that left a store while its record lives on.
const LEFT: &str = "left";

/// The key of the one row in the table of passes.
const PASS_KEY: &str = "last";

/// The system tables, mapped.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// `sync_conflicts`.
    pub conflicts: Mapped,
    /// `trueup_tombstones`.
    pub tombstones: Mapped,
    /// `trueup_passes`.
    pub passes: Mapped,
}

/// What a pass has to know of the system tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerContents {
    /// The last pass, if there ever was one.
    pub pass: Option<PassRow>,
    /// Open conflicts by record.
    pub conflicts: Arc<BTreeMap<RecordId, Vec<Conflict>>>,
    /// Tombstones by record, without the rows that they keep.
    pub tombstones: Arc<BTreeMap<RecordId, Tombstone>>,
}

/// What is read of a system table: some columns of some rows. What is kept for people alone may be a thousand times as much.
#[derive(Debug, Clone)]
pub struct Excerpt {
    /// The table, with the columns that are read.
    pub mapped: Mapped,
    /// The rows that are left out.
    pub except: Option<Except>,
}

/// A row of a system table that nothing depends on any more, and that is kept for people alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The row's key.
    pub key: RecordKey,
    /// Since when.
    pub since: Timestamp,
    /// What stands in it as long as that is so.
    pub guard: Fields<Cell>,
}

/// The last pass, as the canonical store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassRow {
    /// Its number.
    pub number: i64,
    /// The state it was made with.
    pub state: StateId,
}

impl Ledger {
    /// The system tables in a canonical store.
    ///
    /// # Panics
    /// Never: the names are fixed and good.
    pub fn new(canonical: &StoreName) -> Self {
        use FieldType::{Int64, Json, String, StringList, Timestamp};
        let conflicts = [
            ("entity", String),
            ("key", String),
            ("source_store", String),
            ("source_record", Json),
            ("target_store", String),
            ("target_record", Json),
            ("fields", StringList),
            ("winner", String),
            ("reason", String),
            ("status", String),
            ("created_at", Timestamp),
            ("resolved_at", Timestamp),
            ("resolved_by", String),
            ("detail", Json),
        ];
        let tombstones = [
            ("entity", String),
            ("key", String),
            ("version", Int64),
            ("deleted_by", StringList),
            ("deleted_at", Timestamp),
            ("status", String),
            ("records", Json),
            ("shadows", Json),
        ];
        let passes = [("number", Int64), ("state", String), ("holder", String), ("at", Timestamp)];
        Self {
            conflicts: mapped(canonical, SYSTEM_TABLES[0], "conflict_id", &conflicts),
            tombstones: mapped(canonical, SYSTEM_TABLES[1], "tombstone_id", &tombstones),
            passes: mapped(canonical, SYSTEM_TABLES[2], "name", &passes),
        }
    }

    /// All of them.
    pub fn all(&self) -> [&Mapped; 3] {
        [&self.conflicts, &self.tombstones, &self.passes]
    }

    /// A conflict as a row.
    pub fn conflict_fields(&self, conflict: &Conflict) -> Fields<Value> {
        let text = |text: &str| Value::text(text);
        // The first that lost; where all say as the winner does, the first other one.
        let winner = conflict.winner.as_ref().and_then(|store| conflict.side(store));
        let other = |side: &&ConflictSide| Some(&side.store) != conflict.winner.as_ref();
        let lost = |side: &&ConflictSide| other(side) && !winner.is_some_and(|won| won.says_as(side));
        let source = conflict.sides.iter().find(lost).or_else(|| conflict.sides.iter().find(other));
        let target =
            conflict.sides.iter().find(|side| Some(&side.store) != source.map(|source| &source.store));
        let store = |side: Option<&ConflictSide>| side.map_or(Value::Null, |side| text(side.store.as_str()));
        let record = |side: Option<&ConflictSide>| {
            side.map_or(Value::Null, |side| match &side.record {
                SideRecord::Deleted => Value::Null,
                SideRecord::Held(record) => Value::Json(Json::new(plain(record))),
            })
        };
        let time = |time: Option<Timestamp>| time.map_or(Value::Null, Value::Time);
        in_order([
            text(conflict.record.entity.as_str()),
            text(&key_text(&conflict.record.key)),
            store(source),
            record(source),
            store(target),
            record(target),
            Value::List(conflict.fields.iter().map(ToString::to_string).collect()),
            conflict.winner.as_ref().map_or(Value::Null, |winner| text(winner.as_str())),
            text(conflict.reason.as_str()),
            text(conflict.status.as_str()),
            Value::Time(conflict.created_at),
            time(conflict.resolved_at),
            conflict.resolved_by.as_deref().map_or(Value::Null, text),
            json(conflict),
        ])
    }

    /// A row as a conflict; none when it is not one of ours.
    pub fn conflict_of(&self, row: &Row) -> Option<Conflict> {
        read_json(row, 13)
    }

    /// The conflict that a row is written with.
    pub fn conflict_in(&self, fields: &Fields<Value>) -> Option<Conflict> {
        of_json(fields.get(&FieldId(13))?)
    }

    /// A tombstone as a row, with the native rows that are about to go.
    pub fn tombstone_fields(
        &self,
        record: &RecordId,
        draft: &TombstoneDraft,
        confirmed: bool,
        records: Option<&serde_json::Value>,
    ) -> Fields<Value> {
        let mut fields = in_order([
            Value::text(record.entity.as_str()),
            Value::text(key_text(&record.key)),
            Value::Int(draft.version.0),
            Value::List(draft.deleted_by.iter().map(ToString::to_string).collect()),
            Value::Time(draft.deleted_at),
            Value::text(if confirmed { CONFIRMED } else { PENDING }),
            records.map_or(Value::Null, |records| Value::Json(Json::new(records.clone()))),
            if confirmed { json(&Memory::default()) } else { json(&draft.memory) },
        ]);
        if records.is_none() {
            fields.remove(&FieldId(6));
        }
        fields
    }

    /// What is kept of the rows of a living record that leave their stores, as a row beside the tombstones: nobody reads it but people.
    pub fn left_fields(
        &self,
        record: &RecordId,
        version: Version,
        now: Timestamp,
        records: &serde_json::Value,
    ) -> Fields<Value> {
        let draft = TombstoneDraft {
            version,
            deleted_by: Vec::new(),
            deleted_at: now,
            memory: Memory::default(),
            pending: false,
        };
        let mut fields = self.tombstone_fields(record, &draft, true, Some(records));
        fields.insert(FieldId(5), Value::text(LEFT));
        fields
    }

    /// The key of what is kept of rows that left in a pass: a record may leave again, and each time there is something of its own to keep.
    pub fn left_key(record: &RecordId, pass: i64) -> RecordKey {
        RecordKey::new(vec![format!("{record} left in pass {pass}")])
    }

    /// What changes in the tombstone of a record that is kept after all: no store has to confirm anything any more.
    pub fn ended_tombstone(&self) -> Fields<Value> {
        Fields::from([(FieldId(5), Value::text(CONFIRMED)), (FieldId(7), json(&Memory::default()))])
    }

    /// A row as a tombstone; none where it is not that of a record that was deleted.
    pub fn tombstone_of(&self, row: &Row) -> Option<(RecordId, Tombstone)> {
        if text_of(row, 5) == Some(LEFT) {
            return None;
        }
        let entity = EntityName::new(text_of(row, 0)?).ok()?;
        let key: RecordKey = serde_json::from_str(text_of(row, 1)?).ok()?;
        let version = match value_of(row, 2)? {
            Value::Int(number) => Version(*number),
            _ => return None,
        };
        let memory = read_json(row, 7).unwrap_or_default();
        Some((RecordId { entity, key }, Tombstone { version, memory }))
    }

    /// A row as a record that was deleted.
    pub fn deleted_of(&self, row: &Row) -> Option<Deleted> {
        let (record, Tombstone { version, .. }) = self.tombstone_of(row)?;
        let deleted_by = match value_of(row, 3) {
            Some(Value::List(stores)) => stores.to_vec(),
            _ => Vec::new(),
        };
        let Value::Time(deleted_at) = value_of(row, 4)? else { return None };
        let confirmed = text_of(row, 5) == Some(CONFIRMED);
        let rows = self.tombstone_records(row).unwrap_or_default();
        Some(Deleted { record, version, deleted_by, deleted_at: *deleted_at, confirmed, rows })
    }

    /// The native rows that a tombstone holds, by store.
    pub fn tombstone_records(&self, row: &Row) -> Option<serde_json::Map<String, serde_json::Value>> {
        read_json(row, 6)
    }

    /// A tombstone's key: the record's address.
    pub fn tombstone_key(record: &RecordId) -> RecordKey {
        RecordKey::new(vec![record.to_string()])
    }

    /// The key of the row of passes.
    pub fn pass_key() -> RecordKey {
        RecordKey::new(vec![PASS_KEY.to_owned()])
    }

    /// The last pass as a row.
    pub fn pass_fields(&self, row: &PassRow, holder: &str, now: Timestamp) -> Fields<Value> {
        in_order([
            Value::Int(row.number),
            Value::text(row.state.0.as_str()),
            Value::text(holder),
            Value::Time(now),
        ])
    }

    /// What must stand in the row of passes for the next one to be put there.
    pub fn pass_guard(row: &PassRow) -> Fields<Cell> {
        let [number, state] = [Value::Int(row.number), Value::text(row.state.0.as_str())];
        Fields::from([(FieldId(0), Cell::Value(number)), (FieldId(1), Cell::Value(state))])
    }

    /// A row as the last pass.
    pub fn pass_of(&self, row: &Row) -> Option<PassRow> {
        let Value::Int(number) = value_of(row, 0)? else { return None };
        Some(PassRow { number: *number, state: StateId(text_of(row, 1)?.to_owned()) })
    }

    /// The conflicts that wait for a person or for the pass that does what one decided.
    pub fn open_conflicts(&self) -> Excerpt {
        excerpt(
            &self.conflicts,
            &[9, 13],
            Some(Except { field: FieldId(9), words: &["resolved", "withdrawn"] }),
        )
    }

    /// The tombstones: a record that was deleted once is no new one, however long ago every store confirmed it.
    pub fn deletes(&self) -> Excerpt {
        let left = Except { field: FieldId(5), words: &[LEFT] };
        excerpt(&self.tombstones, &[0, 1, 2, 5, 7], Some(left))
    }

    /// The tombstones as [`Ledger::deleted_of`] reads them, without the rows that they keep.
    pub fn deleted(&self) -> Excerpt {
        let left = Except { field: FieldId(5), words: &[LEFT] };
        excerpt(&self.tombstones, &[0, 1, 2, 3, 4, 5], Some(left))
    }

    /// The conflicts and tombstones that nothing depends on any more, as [`Ledger::settled_of`] reads them.
    pub fn settled(&self) -> [Excerpt; 2] {
        [
            excerpt(
                &self.conflicts,
                &[9, 11],
                Some(Except { field: FieldId(9), words: &["open", "decided"] }),
            ),
            excerpt(&self.tombstones, &[4, 5], Some(Except { field: FieldId(5), words: &[PENDING] })),
        ]
    }

    /// Takes note of a conflict's row, if it is open.
    pub fn note_conflict(&self, contents: &mut LedgerContents, row: &Row) {
        if let Some(conflict) = self.conflict_of(row).filter(|conflict| conflict.status.is_open()) {
            let conflicts = Arc::make_mut(&mut contents.conflicts);
            conflicts.entry(conflict.record.clone()).or_default().push(conflict);
        }
    }

    /// Takes note of a tombstone's row.
    pub fn note_tombstone(&self, contents: &mut LedgerContents, row: &Row) {
        if let Some((record, tombstone)) = self.tombstone_of(row) {
            Arc::make_mut(&mut contents.tombstones).insert(record, tombstone);
        }
    }

    /// A row that ended, as it says itself, and when.
    pub fn settled_of(&self, table: &Mapped, row: &Row) -> Option<Settled> {
        let (status, time) = if table.name() == self.conflicts.name() { (9, 11) } else { (5, 4) };
        let ended = match text_of(row, status)? {
            CONFIRMED | LEFT => true,
            word => ConflictStatus::parse(word).is_some_and(|status| !status.is_open()),
        };
        ended.then(|| settled(row, status, time))?
    }
}

/// Some columns of a system table.
fn excerpt(whole: &Mapped, fields: &[u16], except: Option<Except>) -> Excerpt {
    let mut mapping = Mapping::clone(&whole.mapping);
    let read = whole.mapping.fields.iter().filter(|(field, _)| fields.contains(&field.0));
    mapping.fields = read.map(|(field, place)| (*field, place.clone())).collect();
    Excerpt { mapped: Mapped { entity: whole.entity.clone(), mapping: Arc::new(mapping) }, except }
}

/// A row that ended at the time in one of its fields, as it says in another.
fn settled(row: &Row, status: u16, time: u16) -> Option<Settled> {
    let Value::Time(since) = value_of(row, time)? else { return None };
    let guard = [status, time].into_iter().map(FieldId);
    Some(Settled {
        key: row.key.clone(),
        since: *since,
        guard: guard.filter_map(|field| Some((field, row.fields.get(&field)?.clone()))).collect(),
    })
}

/// A record's key as it stands in the system tables: a JSON array of its parts.
fn key_text(key: &RecordKey) -> String {
    serde_json::to_string(key).unwrap_or_default()
}

fn plain(record: &ByName<Value>) -> serde_json::Value {
    serde_json::Value::Object(
        record.iter().map(|(name, value)| (name.to_string(), value.to_plain())).collect(),
    )
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).map_or(Value::Null, |value| Value::Json(Json::new(value)))
}

fn read_json<T: DeserializeOwned>(row: &Row, at: u16) -> Option<T> {
    of_json(value_of(row, at)?)
}

fn of_json<T: DeserializeOwned>(value: &Value) -> Option<T> {
    let Value::Json(json) = value else { return None };
    T::deserialize(json.as_value()).ok()
}

fn value_of(row: &Row, at: u16) -> Option<&Value> {
    row.fields.get(&FieldId(at))?.value()
}

fn text_of(row: &Row, at: u16) -> Option<&str> {
    value_of(row, at)?.as_text()
}

fn in_order<const N: usize>(values: [Value; N]) -> Fields<Value> {
    (0..).map(FieldId).zip(values).collect()
}

fn mapped(canonical: &StoreName, table: &str, key: &str, fields: &[(&str, FieldType)]) -> Mapped {
    let name = |text: &str| FieldName::new(text).expect("system names are good");
    let entity_name = EntityName::new(table).expect("system names are good");
    let declared: Vec<Field> = fields
        .iter()
        .map(|(field, ty)| Field {
            name: name(field),
            ty: *ty,
            required: false,
            unique: false,
            sensitive: false,
            checks: Vec::new(),
            derive: None,
            description: None,
        })
        .collect();
    let ids = || (0..u16::try_from(fields.len()).unwrap_or(u16::MAX)).map(FieldId);
    let mapping = Mapping {
        entity: entity_name.clone(),
        store: canonical.clone(),
        shape: Shape::Table(TableName { schema: None, name: table.to_owned() }),
        home: Home::default(),
        key: vec![KeyMapping { column: Column::plain(key), form: Form::Native, relation: None }],
        fields: ids()
            .zip(fields)
            .map(|(field, (column, _))| {
                let column = Column::plain(*column);
                (
                    field,
                    FieldMapping {
                        field,
                        column,
                        form: Form::Native,
                        direction: Direction::Both,
                        tag: MappingTag(0),
                        relation: None,
                    },
                )
            })
            .collect(),
        sync: SyncPlace::None,
        triggers: false,
        created: None,
        updated: None,
        scope: None,
        own_ids: false,
        key_text: None,
        timezone: TimeZone::UTC,
    };
    let entity = Entity {
        name: entity_name,
        key: vec![KeyField { name: name(key), ty: FieldType::String }],
        units: ids().map(|field| Unit { fields: vec![field] }).collect(),
        fields: declared,
        references: Vec::new(),
        times: Times::default(),
        match_rules: Vec::new(),
        conflicts: ConflictPolicy::default(),
        deletes: DeletePolicy::default(),
        default_region: None,
        system: true,
        names: Names::default(),
    };
    Mapped { entity: Arc::new(entity), mapping: Arc::new(mapping) }
}
