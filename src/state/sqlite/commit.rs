//! Changes of the state: one transaction for a whole transition.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Row as _, SqliteConnection};

use crate::model::{
    Deletes, EntityName, Intent, IntentEnd, IntentId, Memory, RecordKey, Shadow, StoreName, Transition,
};

use super::{Names, SqliteState, StateError, codec, sync_names};

/// Ended intents kept, with their before-images, for undoing by hand. At a kilobyte or two each this is some tens of
/// megabytes at most.
const ENDED_KEPT: i64 = 20_000;

/// Records a statement. With three parameters each this is far below `SQLite`'s limit, and more gain nothing.
const ROWS_PER_STATEMENT: usize = 100;

/// What is to become of a record's shadows; none: forgotten.
type Changes<'t> = BTreeMap<&'t RecordKey, Vec<(&'t StoreName, Option<&'t Shadow>)>>;

impl SqliteState {
    pub(super) async fn make_change(&self, transition: &Transition) -> Result<(), StateError> {
        if transition.is_empty() {
            return Ok(());
        }
        let mut names = self.names.lock().await;
        let result = self.in_transaction(transition, &mut names).await;
        if result.is_err() {
            // What was to be saved with this change was not.
            let saved = names.saved;
            names.dictionary.truncate(saved);
        }
        result
    }

    async fn in_transaction(&self, transition: &Transition, names: &mut Names) -> Result<(), StateError> {
        let failed = |error| self.failed(&error);
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        sync_names(&mut transaction, names).await.map_err(failed)?;
        if transition.forget_everything {
            for sql in ["DELETE FROM shadows", "DELETE FROM journal WHERE ended IS NULL"] {
                sqlx::query(sql).execute(&mut *transaction).await.map_err(failed)?;
            }
        }
        sqlx::query(
            "UPDATE header SET intended = coalesce(?, intended), acknowledged = coalesce(?, acknowledged)",
        )
        .bind(transition.intend_pass)
        .bind(transition.acknowledge_pass)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        open(&mut transaction, &transition.open).await.map_err(failed)?;
        close(&mut transaction, &transition.close).await.map_err(failed)?;
        note_deletes(&mut transaction, &transition.deletes).await.map_err(failed)?;
        for (entity, changes) in by_entity(transition) {
            self.change_records(&mut transaction, entity, &changes, names).await?;
        }
        save_names(&mut transaction, names).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        names.saved = names.dictionary.len();
        Ok(())
    }

    async fn change_records(
        &self,
        connection: &mut SqliteConnection,
        entity: &EntityName,
        changes: &Changes<'_>,
        names: &mut Names,
    ) -> Result<(), StateError> {
        let failed = |error| self.failed(&error);
        let number = entity_number(connection, entity).await.map_err(failed)?;
        let keys: BTreeSet<Vec<u8>> = changes.keys().map(|key| codec::key_to_bytes(key)).collect();
        let mut memories: BTreeMap<RecordKey, Memory> = BTreeMap::new();
        for row in self.rows_of(connection, entity, &keys).await? {
            let (key, memory) = self.memory_of(&row, names)?;
            memories.insert(key, memory);
        }
        let mut kept = Vec::new();
        let mut gone = Vec::new();
        for (key, changes) in changes {
            let mut memory = memories.remove(*key).unwrap_or_default();
            for (store, shadow) in changes {
                match shadow {
                    Some(shadow) => memory.stores.insert((*store).clone(), (*shadow).clone()),
                    None => memory.stores.remove(*store),
                };
            }
            let bytes = codec::key_to_bytes(key);
            if memory.stores.is_empty() {
                gone.push(bytes);
            } else {
                kept.push((bytes, codec::encode(&memory, &mut names.dictionary)));
            }
        }
        put_records(connection, number, &kept).await.map_err(failed)?;
        for key in gone {
            sqlx::query("DELETE FROM shadows WHERE entity = ? AND key = ?")
                .bind(number)
                .bind(key)
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// The intents that ended last, the latest first, at most `limit` of them. Some twenty thousand are kept.
    pub async fn ended_intents(&self, limit: u32) -> Result<Vec<(Intent, IntentEnd)>, StateError> {
        let rows =
            sqlx::query("SELECT body, ended FROM journal WHERE ended IS NOT NULL ORDER BY seq DESC LIMIT ?")
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await
                .map_err(|error| self.failed(&error))?;
        let mut intents = Vec::with_capacity(rows.len());
        for row in rows {
            let body: Vec<u8> = row.try_get(0).map_err(|error| self.failed(&error))?;
            let ended: String = row.try_get(1).map_err(|error| self.failed(&error))?;
            let intent = serde_json::from_slice(&body).map_err(|_| self.unreadable())?;
            let end = serde_json::from_value(ended.into()).map_err(|_| self.unreadable())?;
            intents.push((intent, end));
        }
        Ok(intents)
    }
}

/// The changes of a transition, entity by entity and record by record, in the order they are to be made.
fn by_entity(transition: &Transition) -> BTreeMap<&EntityName, Changes<'_>> {
    let mut all: BTreeMap<&EntityName, Changes<'_>> = BTreeMap::new();
    let set = transition.shadows.iter().map(|(record, store, shadow)| (record, store, Some(shadow)));
    let forget = transition.forget.iter().map(|(record, store)| (record, store, None));
    for (record, store, shadow) in set.chain(forget) {
        all.entry(&record.entity).or_default().entry(&record.key).or_default().push((store, shadow));
    }
    all
}

async fn open(connection: &mut SqliteConnection, intents: &[Intent]) -> Result<(), sqlx::Error> {
    for intent in intents {
        let body = serde_json::to_vec(intent).map_err(|error| sqlx::Error::Encode(error.into()))?;
        // The same intent noted again is the one that counts.
        sqlx::query("INSERT OR REPLACE INTO journal (id, ended, body) VALUES (?, NULL, ?)")
            .bind(intent.id.0.clone())
            .bind(body)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn close(connection: &mut SqliteConnection, ends: &[(IntentId, IntentEnd)]) -> Result<(), sqlx::Error> {
    for (id, end) in ends {
        let word = match end {
            IntentEnd::Applied => "applied",
            IntentEnd::NotApplied => "not_applied",
            IntentEnd::Unresolved => "unresolved",
        };
        sqlx::query("UPDATE journal SET ended = ? WHERE id = ? AND ended IS NULL")
            .bind(word)
            .bind(id.0.clone())
            .execute(&mut *connection)
            .await?;
    }
    if !ends.is_empty() {
        sqlx::query(
            "DELETE FROM journal WHERE ended IS NOT NULL AND seq <= (SELECT max(seq) FROM journal) - ?",
        )
        .bind(ENDED_KEPT)
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn entity_number(connection: &mut SqliteConnection, entity: &EntityName) -> Result<i64, sqlx::Error> {
    sqlx::query("INSERT INTO entities (name) VALUES (?) ON CONFLICT (name) DO NOTHING")
        .bind(entity.as_str().to_owned())
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query("SELECT id FROM entities WHERE name = ?")
        .bind(entity.as_str().to_owned())
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}

async fn put_records(
    connection: &mut SqliteConnection,
    entity: i64,
    records: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), sqlx::Error> {
    for chunk in records.chunks(ROWS_PER_STATEMENT) {
        let marks = vec!["(?, ?, ?)"; chunk.len()].join(", ");
        let sql = format!(
            "INSERT INTO shadows (entity, key, memory) VALUES {marks} \
             ON CONFLICT (entity, key) DO UPDATE SET memory = excluded.memory"
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (key, memory) in chunk {
            query = query.bind(entity).bind(key.clone()).bind(memory.clone());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn save_names(connection: &mut SqliteConnection, names: &Names) -> Result<(), sqlx::Error> {
    for (at, name) in names.dictionary.since(names.saved).iter().enumerate() {
        sqlx::query("INSERT INTO names (id, name) VALUES (?, ?)")
            .bind(i64::try_from(names.saved + at).unwrap_or(i64::MAX))
            .bind(name.clone())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Two days, in microseconds: twice what the guard looks at.
const DELETES_KEPT_MICROS: i64 = 2 * 24 * 3600 * 1_000_000;

async fn note_deletes(connection: &mut SqliteConnection, deletes: &[Deletes]) -> sqlx::Result<()> {
    for one in deletes {
        sqlx::query("DELETE FROM deletes WHERE at < ?")
            .bind(one.at.micros() - DELETES_KEPT_MICROS)
            .execute(&mut *connection)
            .await?;
        sqlx::query("INSERT INTO deletes (at, entity, store, count) VALUES (?, ?, ?, ?)")
            .bind(one.at.micros())
            .bind(one.entity.as_str())
            .bind(one.store.as_str())
            .bind(i64::try_from(one.count).unwrap_or(i64::MAX))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
