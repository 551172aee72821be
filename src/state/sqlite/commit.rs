//! Changes of the state: one transaction for a whole transition.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::model::{
    Deletes, EntityName, IntentEnd, IntentId, Marks, RecordKey, Shadow, StoreName, Transition,
};

use super::super::changes::DELETES_KEPT_MICROS;
use super::super::hold::Holding;
use super::codec::{self, Dictionary, Shadows};
use super::{Failure, Names, NamesGuard, entity_number, journal, sync_names, term, visit_rows};

/// A transition as it is written.
pub(super) struct Change {
    intend_pass: Option<i64>,
    acknowledge_pass: Option<i64>,
    forget_everything: bool,
    open: Option<journal::Pack>,
    close: Vec<(IntentId, IntentEnd)>,
    records: Vec<(EntityName, Vec<RecordChange>)>,
    deletes: Vec<Deletes>,
    marks: Vec<(EntityName, Option<Marks>)>,
}

/// What is to become of a record's shadows.
struct RecordChange {
    key: Vec<u8>,
    set: Shadows,
    forget: Vec<StoreName>,
}

/// The changes of a transition, entity by entity and record by record: what is set, and what is forgotten.
type Changes<'t> = BTreeMap<&'t EntityName, BTreeMap<&'t RecordKey, Sides<'t>>>;
type Sides<'t> = (Vec<(&'t StoreName, &'t Shadow)>, Vec<&'t StoreName>);

impl Change {
    /// Writes a transition down.
    pub(super) fn of(transition: &Transition, dictionary: &mut Dictionary) -> Self {
        let mut all: Changes<'_> = BTreeMap::new();
        for (record, store, shadow) in &transition.shadows {
            let of_entity = all.entry(&record.entity).or_default();
            of_entity.entry(&record.key).or_default().0.push((store, shadow));
        }
        for (record, store) in &transition.forget {
            all.entry(&record.entity).or_default().entry(&record.key).or_default().1.push(store);
        }
        let mut records = Vec::with_capacity(all.len());
        for (entity, changes) in all {
            let change = |(key, (set, forget)): (&RecordKey, Sides<'_>)| RecordChange {
                key: codec::key_to_bytes(key),
                set: Shadows::new(set, dictionary),
                forget: forget.into_iter().cloned().collect(),
            };
            records.push((entity.clone(), changes.into_iter().map(change).collect()));
        }
        Self {
            intend_pass: transition.intend_pass,
            acknowledge_pass: transition.acknowledge_pass,
            forget_everything: transition.forget_everything,
            open: journal::Pack::of(&transition.open, dictionary),
            close: transition.close.clone(),
            records,
            deletes: transition.deletes.clone(),
            marks: transition.marks.clone(),
        }
    }

    /// Makes the change, unless the lease was lost, and gives the names back.
    pub(super) fn make(
        self,
        connection: &mut Connection,
        mut names: NamesGuard,
        holding: &Holding,
    ) -> (Result<(), Failure>, NamesGuard) {
        (self.in_transaction(connection, &mut names, holding), names)
    }

    fn in_transaction(
        self,
        connection: &mut Connection,
        names: &mut Names,
        holding: &Holding,
    ) -> Result<(), Failure> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        holding.check(term(&transaction)?).map_err(Failure::Said)?;
        if sync_names(&transaction, names)? {
            // Names have other numbers now than those that stand in what was written down.
            return Err(Failure::NamesMoved);
        }
        if self.forget_everything {
            transaction.execute("DELETE FROM shadows", [])?;
            journal::forget_open(&transaction)?;
            transaction.execute("DELETE FROM marks", [])?;
        }
        if self.intend_pass.is_some() || self.acknowledge_pass.is_some() {
            transaction.execute(
                "UPDATE header SET intended = coalesce(?, intended), acknowledged = coalesce(?, acknowledged)",
                params![self.intend_pass, self.acknowledge_pass],
            )?;
        }
        journal::change(&transaction, self.open.as_ref(), &self.close)?;
        note_deletes(&transaction, &self.deletes)?;
        for (entity, changes) in &self.records {
            change_records(&transaction, entity, changes, &mut names.dictionary)?;
        }
        set_marks(&transaction, &self.marks)?;
        save_names(&transaction, names)?;
        transaction.commit()?;
        names.saved = names.dictionary.len();
        Ok(())
    }
}

fn change_records(
    transaction: &Transaction<'_>,
    entity: &EntityName,
    changes: &[RecordChange],
    dictionary: &mut Dictionary,
) -> Result<(), Failure> {
    transaction
        .prepare_cached("INSERT INTO entities (name) VALUES (?) ON CONFLICT (name) DO NOTHING")?
        .execute([entity.as_str()])?;
    let number = entity_number(transaction, entity.as_str())?.ok_or(Failure::Unreadable)?;
    let keys: Vec<&[u8]> = changes.iter().map(|change| change.key.as_slice()).collect();
    let mut known: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    visit_rows(transaction, number, &keys, |key, memory| {
        known.insert(key.to_owned(), memory.to_owned());
        Ok(())
    })?;
    let mut put = transaction.prepare_cached(
        "INSERT INTO shadows (entity, key, memory) VALUES (?, ?, ?) \
         ON CONFLICT (entity, key) DO UPDATE SET memory = excluded.memory",
    )?;
    let mut remove = transaction.prepare_cached("DELETE FROM shadows WHERE entity = ? AND key = ?")?;
    for change in changes {
        let old = known.get(&change.key).map(Vec::as_slice);
        match codec::change(old, &change.set, &change.forget, dictionary)? {
            Some(memory) => put.execute(params![number, change.key, memory])?,
            None => remove.execute(params![number, change.key])?,
        };
    }
    Ok(())
}

pub(super) fn save_names(connection: &Connection, names: &Names) -> Result<(), Failure> {
    for (at, name) in names.dictionary.since(names.saved).iter().enumerate() {
        let id = i64::try_from(names.saved + at).unwrap_or(i64::MAX);
        connection.execute("INSERT INTO names (id, name) VALUES (?, ?)", params![id, name])?;
    }
    Ok(())
}

fn set_marks(connection: &Connection, marks: &[(EntityName, Option<Marks>)]) -> Result<(), Failure> {
    for (entity, marks) in marks {
        match marks {
            Some(marks) => {
                let body = serde_json::to_vec(marks).map_err(|_| Failure::Unreadable)?;
                let put = "INSERT INTO marks (entity, body) VALUES (?1, ?2) \
                           ON CONFLICT (entity) DO UPDATE SET body = excluded.body";
                connection.execute(put, params![entity.as_str(), body])?
            }
            None => connection.execute("DELETE FROM marks WHERE entity = ?", [entity.as_str()])?,
        };
    }
    Ok(())
}

fn note_deletes(connection: &Connection, deletes: &[Deletes]) -> Result<(), Failure> {
    for one in deletes {
        connection.execute("DELETE FROM deletes WHERE at < ?", [one.at.micros() - DELETES_KEPT_MICROS])?;
        let count = i64::try_from(one.count).unwrap_or(i64::MAX);
        connection.execute(
            "INSERT INTO deletes (at, entity, store, count) VALUES (?, ?, ?, ?)",
            params![one.at.micros(), one.entity.as_str(), one.store.as_str(), count],
        )?;
    }
    Ok(())
}
