//! The data of a store in memory, its reads and migrations, and what other applications do to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    BatchId, Capabilities, Certificate, EntityName, ErrorKind, FieldName, IntentId, Mapped, Mark, Presence,
    RecordKey, Row, Shape, StoreError, StoreName, StoreRecordId, Stray, Unknown,
};

use super::super::{MigrationStep, Probe};
use super::faults::{Cut, Faults};
use super::objects::MemoryObjects;
use super::table::{MemoryRow, MemoryTable};

/// A whole snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemorySnapshot {
    /// The rows, in the order of their keys.
    pub rows: Vec<Row>,
    /// Rows whose record the store alone cannot tell, and elements.
    pub strays: Vec<Stray>,
    /// The certificate; none when the snapshot was cut short.
    pub certificate: Option<Certificate>,
}

/// The data of one store.
#[derive(Debug, Clone)]
pub struct MemoryDb {
    name: StoreName,
    /// What goes wrong.
    pub faults: Faults,
    /// The store's identity, as a probe tells it.
    pub identity: Option<String>,
    /// Whether it remembers how its tables stood, so that it can say what changed since.
    pub tells_changes: bool,
    pub(super) stood: Vec<BTreeMap<String, MemoryTable>>,
    /// Rows that were written to by batches since then.
    pub(super) touched: BTreeSet<(String, RecordKey)>,
    /// Of some of those times, the rows of which they say nothing.
    pub(super) doubted: BTreeMap<usize, BTreeSet<(String, RecordKey)>>,
    /// Whether new rows get an id of the store's own.
    pub gives_ids: bool,
    /// Whether rows are found by those ids and need not carry a key, as in a CRM.
    pub own_ids: bool,
    pub(super) tables: BTreeMap<String, MemoryTable>,
    /// The objects of a store with record ids of its own, by the name of the object.
    pub(super) objects: BTreeMap<String, MemoryObjects>,
    /// Everything that lives in such a store: its relations and elements say what they lead to and stand in.
    pub(super) mapped: Vec<Mapped>,
    pub(super) receipts: BTreeMap<BatchId, Vec<IntentId>>,
    pub(super) last_id: u64,
    /// How many writes were applied, for tests that count them.
    pub writes_applied: u64,
}

impl MemoryDb {
    /// The same with rows that have ids of the store's own and need not carry a key.
    #[must_use]
    pub fn with_own_ids(mut self, own_ids: bool) -> Self {
        self.own_ids = own_ids;
        self
    }

    /// No tables, no faults.
    pub fn new(name: StoreName) -> Self {
        Self {
            name,
            faults: Faults::default(),
            identity: None,
            gives_ids: false,
            own_ids: false,
            tells_changes: false,
            stood: Vec::new(),
            touched: BTreeSet::new(),
            doubted: BTreeMap::new(),
            tables: BTreeMap::new(),
            objects: BTreeMap::new(),
            mapped: Vec::new(),
            receipts: BTreeMap::new(),
            last_id: 0,
            writes_applied: 0,
        }
    }

    /// The same with tables for these entities.
    #[must_use]
    pub fn with_tables(mut self, mapped: &[Mapped]) -> Self {
        for one in mapped {
            if one.mapping.own_ids {
                self.own_ids = true;
                if one.mapping.embedded().is_none() {
                    self.objects.entry(table_name(one)).or_default();
                }
                self.mapped.push(one.clone());
                continue;
            }
            let columns = column_names(one);
            self.tables.entry(table_name(one)).or_default().columns.extend(columns);
        }
        self
    }

    /// The store's name.
    pub fn name(&self) -> &StoreName {
        &self.name
    }

    /// What it can do.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            batch_size: 500,
            atomic_guards: true,
            can_be_canonical: true,
            time_precision_micros: 1,
        }
    }

    /// An entity's table.
    pub fn table(&self, mapped: &Mapped) -> Option<&MemoryTable> {
        self.tables.get(&table_name(mapped))
    }

    /// An entity's table, to change as another application would.
    pub fn table_mut(&mut self, mapped: &Mapped) -> Option<&mut MemoryTable> {
        self.tables.get_mut(&table_name(mapped))
    }

    /// Puts a row, as another application does; the table is made if it is not there.
    pub fn put(&mut self, mapped: &Mapped, key: &RecordKey, mut row: MemoryRow) {
        if self.gives_ids && row.store_id.is_none() {
            row.store_id = Some(self.next_id());
        }
        let new = || MemoryTable { columns: column_names(mapped), ..MemoryTable::default() };
        self.tables.entry(table_name(mapped)).or_insert_with(new).rows.insert(key.clone(), row);
    }

    /// Changes a row, as another application does; false if it is not there.
    pub fn edit(&mut self, mapped: &Mapped, key: &RecordKey, change: impl FnOnce(&mut MemoryRow)) -> bool {
        self.table_mut(mapped).and_then(|table| table.rows.get_mut(key)).map(change).is_some()
    }

    /// Removes a row, as another application does.
    pub fn delete(&mut self, mapped: &Mapped, key: &RecordKey) -> Option<MemoryRow> {
        self.table_mut(mapped)?.rows.remove(key)
    }

    pub(super) fn next_id(&mut self) -> StoreRecordId {
        self.last_id += 1;
        StoreRecordId(format!("id-{}", self.last_id))
    }

    pub(super) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> StoreError {
        StoreError::new(kind, &self.name, message)
    }

    pub(super) fn reach(&self) -> Result<(), StoreError> {
        if self.faults.unreachable {
            return Err(self.error(ErrorKind::Unavailable, "no answer"));
        }
        Ok(())
    }

    pub(super) fn mapped_table(&self, mapped: &Mapped) -> Result<&MemoryTable, StoreError> {
        self.reach()?;
        self.table(mapped).ok_or_else(|| {
            self.error(ErrorKind::NotFound, format!("there is no table `{}`", table_name(mapped)))
                .hint("run `trueup migrate` to add it")
        })
    }

    /// Whether it is there.
    pub fn probe(&self) -> Result<Probe, StoreError> {
        self.reach()?;
        Ok(Probe { identity: self.identity.clone() })
    }

    /// Reads an entity.
    pub fn snapshot(&self, mapped: &Mapped) -> Result<MemorySnapshot, StoreError> {
        if mapped.mapping.own_ids {
            return self.snapshot_objects(mapped);
        }
        let table = self.mapped_table(mapped)?;
        let is_double = |key: &RecordKey| self.is_double(mapped.name(), key);
        let doubles: Vec<RecordKey> = table.rows.keys().filter(|key| is_double(key)).cloned().collect();
        let all = u64::try_from(table.rows.len() + doubles.len()).unwrap_or(u64::MAX) + self.faults.bad_keys;
        let mut certificate = Certificate {
            rows_claimed: all,
            rows_read: all,
            end_seen: true,
            moved: false,
            missing_columns: missing_columns(mapped, table),
            missing_inside: Vec::new(),
            bad_keys: self.faults.bad_keys,
            duplicate_keys: doubles,
            mark: None,
        };
        let mut rows: Vec<Row> = table
            .rows
            .iter()
            .filter(|(key, _)| !is_double(key))
            .map(|(key, row)| table.show(mapped, key, row))
            .collect();
        let Some((limit, cut)) = self.faults.cut_after.filter(|(limit, _)| *limit < rows.len()) else {
            return Ok(MemorySnapshot { rows, strays: Vec::new(), certificate: Some(certificate) });
        };
        let lost = rows.len() - limit;
        rows.truncate(limit);
        certificate.rows_read = all.saturating_sub(u64::try_from(lost).unwrap_or(u64::MAX));
        match cut {
            Cut::NoEnd => return Ok(MemorySnapshot { rows, strays: Vec::new(), certificate: None }),
            Cut::FewerThanClaimed => {}
            Cut::Moved => {
                certificate.rows_claimed = certificate.rows_read;
                certificate.moved = true;
            }
        }
        Ok(MemorySnapshot { rows, strays: Vec::new(), certificate: Some(certificate) })
    }

    /// Remembers how the tables stand.
    pub(super) fn mark(&mut self) -> Mark {
        self.stood.push(self.tables.clone());
        self.touched.clear();
        Mark((self.stood.len() - 1).to_string())
    }

    /// Makes a mark say nothing of the rows that were written to since.
    pub(super) fn doubt(&mut self, mark: &Mark) {
        if let Ok(at) = mark.0.parse() {
            self.doubted.entry(at).or_default().extend(self.touched.iter().cloned());
        }
    }

    /// The rows that are new or changed since a mark, and the keys of all.
    pub(super) fn changed(&self, mapped: &Mapped, since: &Mark) -> Option<(Vec<Row>, Vec<RecordKey>)> {
        let (at, name) = (since.0.parse::<usize>().ok()?, table_name(mapped));
        let then = self.stood.get(at)?.get(&name)?;
        let doubted = |key: &RecordKey| {
            self.doubted.get(&at).is_some_and(|doubted| doubted.contains(&(name.clone(), key.clone())))
        };
        let now = self.table(mapped)?;
        if then.columns != now.columns || now.rows.keys().any(|key| self.is_double(mapped.name(), key)) {
            return None;
        }
        let changed = now.rows.iter().filter(|(key, row)| then.rows.get(*key) != Some(*row) || doubted(key));
        let rows = changed.map(|(key, row)| now.show(mapped, key, row)).collect();
        Some((rows, now.rows.keys().cloned().collect()))
    }

    pub(super) fn is_double(&self, entity: &EntityName, key: &RecordKey) -> bool {
        !self.faults.duplicate_keys.is_empty()
            && self.faults.duplicate_keys.contains(&(entity.clone(), key.clone()))
    }

    /// Reads some records.
    pub fn read(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        if mapped.mapping.own_ids {
            return self.read_objects(mapped, keys);
        }
        let table = self.mapped_table(mapped)?;
        let look = |key: &RecordKey| match table.rows.get(key) {
            Some(_) if self.is_double(mapped.name(), key) => Presence::Unknown(Unknown::DuplicateKey),
            Some(row) => Presence::Present(table.show(mapped, key, row)),
            None => Presence::Absent,
        };
        Ok(keys.iter().map(|key| (key.clone(), look(key))).collect())
    }

    /// Reads some rows whole.
    pub fn read_native(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, serde_json::Value>, StoreError> {
        if mapped.mapping.own_ids {
            return self.native_objects(mapped, keys);
        }
        let table = self.mapped_table(mapped)?;
        let found = keys.iter().filter_map(|key| Some((key, table.rows.get(key)?)));
        Ok(found.map(|(key, row)| (key.clone(), whole_row(mapped, key, row))).collect())
    }

    /// Of these batches, those with a receipt.
    pub fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        self.reach()?;
        let found =
            batches.iter().filter_map(|batch| Some((batch.clone(), self.receipts.get(batch)?.clone())));
        Ok(found.collect())
    }

    /// Removes receipts.
    pub fn forget_receipts(&mut self, batches: &[BatchId]) -> Result<(), StoreError> {
        self.reach()?;
        for batch in batches {
            self.receipts.remove(batch);
        }
        Ok(())
    }

    /// What is missing.
    pub fn plan_migration(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        self.reach()?;
        let mut steps = Vec::new();
        for one in mapped.iter().filter(|one| !one.mapping.own_ids) {
            let table_name = table_name(one);
            let step = |adds: String, verb: &str, names: Vec<&str>| MigrationStep {
                adds,
                statement: format!("{verb} {}", serde_json::Value::from(names)),
            };
            let Some(table) = self.tables.get(&table_name) else {
                let columns = column_names(one);
                let names = std::iter::once(table_name.as_str()).chain(columns.iter().map(FieldName::as_str));
                steps.push(step(format!("table `{table_name}`"), CREATE_TABLE, names.collect()));
                continue;
            };
            for column in missing_columns(one, table) {
                let adds = format!("column `{table_name}.{column}`");
                steps.push(step(adds, ADD_COLUMN, vec![&table_name, &column]));
            }
        }
        Ok(steps)
    }

    /// Adds what is missing.
    pub fn migrate(&mut self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        self.reach()?;
        let mut tables = self.tables.clone();
        for step in steps {
            let names = [CREATE_TABLE, ADD_COLUMN]
                .into_iter()
                .find_map(|verb| step.statement.strip_prefix(verb))
                .and_then(|names| serde_json::from_str::<Vec<String>>(names).ok())
                .and_then(|names| {
                    names.split_first().map(|(table, columns)| (table.clone(), columns.to_vec()))
                });
            let Some((table, columns)) = names else {
                return Err(self.error(ErrorKind::Invalid, format!("cannot add {}", step.adds)));
            };
            let columns = columns.into_iter().filter_map(|column| FieldName::new(column).ok());
            tables.entry(table).or_default().columns.extend(columns);
        }
        self.tables = tables;
        Ok(())
    }
}

const CREATE_TABLE: &str = "create table";
const ADD_COLUMN: &str = "add column";

/// The name of an entity's table or object.
pub(super) fn table_name(mapped: &Mapped) -> String {
    match &mapped.mapping.shape {
        Shape::Table(table) => table.to_string(),
        Shape::Object(object) => object.clone(),
        Shape::Embedded(embedded) => format!("{}.{}", embedded.parent, mapped.name()),
    }
}

fn column_names(mapped: &Mapped) -> std::collections::BTreeSet<FieldName> {
    let fields = mapped.mapping.fields.keys();
    fields.filter_map(|id| mapped.entity.fields.get(id.index())).map(|field| field.name.clone()).collect()
}

fn missing_columns(mapped: &Mapped, table: &MemoryTable) -> Vec<String> {
    column_names(mapped).difference(&table.columns).map(|name| name.as_str().to_owned()).collect()
}

fn whole_row(mapped: &Mapped, key: &RecordKey, row: &MemoryRow) -> serde_json::Value {
    let mut object = row.extra.clone();
    for (part, text) in mapped.entity.key.iter().zip(key.parts()) {
        object.insert(part.name.as_str().to_owned(), text.clone().into());
    }
    for (name, cell) in &row.fields {
        let value = cell.value().map_or(serde_json::Value::Null, crate::model::Value::to_plain);
        object.insert(name.as_str().to_owned(), value);
    }
    if mapped.mapping.has_sync() {
        super::super::sync::put_into(&mut object, &row.meta);
    }
    serde_json::Value::Object(object)
}
