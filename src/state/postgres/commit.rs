//! Changes of the state: one transaction for a whole transition, in statements that each take many rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::PgConnection;

use crate::model::{Deletes, EntityName, Intent, IntentEnd, IntentId, Marks, Memory, RecordKey, Transition};

use super::super::changes::{self, Changes, DELETES_KEPT_MICROS, ENDED_KEPT};
use super::{Names, PostgresState, RECALL, StateError, codec};

/// Rows a statement: some megabytes at most, and more gain nothing.
const ROWS_PER_STATEMENT: usize = 2_000;

impl PostgresState {
    pub(super) async fn make_change(&self, transition: &Transition) -> Result<(), StateError> {
        if transition.is_empty() {
            return Ok(());
        }
        let mut names = self.names.lock().await;
        let result = self.in_transaction(transition, &mut names).await;
        if result.is_err() {
            // What was to be saved with this change was not, or nobody knows: then it is read again.
            let saved = names.saved;
            names.dictionary.truncate(saved);
        }
        result
    }

    async fn in_transaction(&self, transition: &Transition, names: &mut Names) -> Result<(), StateError> {
        let mut transaction = self.begin().await?;
        self.lock(&mut transaction).await?;
        self.sync_names(&mut transaction, names).await?;
        if transition.forget_everything {
            for sql in
                ["DELETE FROM {shadows}", "DELETE FROM {journal} WHERE ended IS NULL", "DELETE FROM {marks}"]
            {
                self.execute(&mut transaction, self.sql(sql)).await?;
            }
        }
        if transition.intend_pass.is_some() || transition.acknowledge_pass.is_some() {
            let query = self.sql(
                "UPDATE {state} SET intended = coalesce($1, intended), acknowledged = coalesce($2, acknowledged)",
            );
            let query = query.bind(transition.intend_pass).bind(transition.acknowledge_pass);
            self.execute(&mut transaction, query).await?;
        }
        self.open_all(&mut transaction, &transition.open).await?;
        self.close_all(&mut transaction, &transition.close).await?;
        self.note_deletes(&mut transaction, &transition.deletes).await?;
        for (entity, changes) in changes::by_entity(transition) {
            self.change_records(&mut transaction, entity, &changes, names).await?;
        }
        self.set_marks(&mut transaction, &transition.marks).await?;
        self.save_names(&mut transaction, names).await?;
        self.end(transaction).await?;
        names.saved = names.dictionary.len();
        Ok(())
    }

    /// Waits until no other change is being made, and refuses one by a controller that was overtaken.
    async fn lock(&self, connection: &mut PgConnection) -> Result<(), StateError> {
        let query = self.sql("SELECT term FROM {state} FOR UPDATE");
        let row = query.fetch_one(connection).await.map_err(|error| self.failed(&error))?;
        let term: i64 = self.column(&row, 0)?;
        self.holding.check(term)
    }

    async fn execute(
        &self,
        connection: &mut PgConnection,
        query: sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<(), StateError> {
        query.execute(connection).await.map(drop).map_err(|error| self.failed(&error))
    }

    async fn open_all(
        &self,
        connection: &mut PgConnection,
        intents: &[Arc<Intent>],
    ) -> Result<(), StateError> {
        // The same intent noted again is the one that counts.
        let mut last: BTreeMap<&IntentId, usize> = BTreeMap::new();
        last.extend(intents.iter().enumerate().map(|(at, intent)| (&intent.id, at)));
        let noted: Vec<&Intent> =
            intents.iter().enumerate().filter(|(at, i)| last[&i.id] == *at).map(|(_, i)| &**i).collect();
        for chunk in noted.chunks(ROWS_PER_STATEMENT) {
            let ids: Vec<String> = chunk.iter().map(|intent| intent.id.to_string()).collect();
            let bodies: Result<Vec<Vec<u8>>, _> = chunk.iter().map(serde_json::to_vec).collect();
            let bodies = bodies.map_err(|_| StateError::new("an intent cannot be written"))?;
            self.execute(connection, self.sql("DELETE FROM {journal} WHERE id = ANY($1)").bind(ids.clone()))
                .await?;
            let query = self.sql(
                "INSERT INTO {journal} (seq, id, body) \
                 SELECT (SELECT coalesce(max(seq), 0) FROM {journal}) + at, id, body \
                 FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS new (id, body, at)",
            );
            self.execute(connection, query.bind(ids).bind(bodies)).await?;
        }
        Ok(())
    }

    async fn close_all(
        &self,
        connection: &mut PgConnection,
        ends: &[(IntentId, IntentEnd)],
    ) -> Result<(), StateError> {
        // An intent that has ended stays as it ended.
        let mut first: BTreeMap<&IntentId, IntentEnd> = BTreeMap::new();
        for (id, end) in ends {
            first.entry(id).or_insert(*end);
        }
        let (ids, words): (Vec<String>, Vec<String>) =
            first.iter().map(|(id, end)| (id.to_string(), changes::end_word(*end).to_owned())).unzip();
        for (ids, words) in ids.chunks(ROWS_PER_STATEMENT).zip(words.chunks(ROWS_PER_STATEMENT)) {
            let query = self.sql(
                "UPDATE {journal} AS journal SET ended = closed.word \
                 FROM unnest($1::text[], $2::text[]) AS closed (id, word) \
                 WHERE journal.id = closed.id AND journal.ended IS NULL",
            );
            self.execute(connection, query.bind(ids.to_vec()).bind(words.to_vec())).await?;
        }
        if !ends.is_empty() {
            let query = self.sql(
                "DELETE FROM {journal} WHERE ended IS NOT NULL AND seq <= (SELECT max(seq) FROM {journal}) - $1",
            );
            self.execute(connection, query.bind(ENDED_KEPT)).await?;
        }
        Ok(())
    }

    async fn note_deletes(
        &self,
        connection: &mut PgConnection,
        deletes: &[Deletes],
    ) -> Result<(), StateError> {
        for one in deletes {
            let old = self.sql("DELETE FROM {deletes} WHERE at < $1");
            self.execute(connection, old.bind(one.at.micros() - DELETES_KEPT_MICROS)).await?;
            let new = self.sql("INSERT INTO {deletes} (at, entity, store, count) VALUES ($1, $2, $3, $4)");
            let new = new.bind(one.at.micros()).bind(one.entity.as_str().to_owned());
            let new = new.bind(one.store.as_str().to_owned());
            self.execute(connection, new.bind(i64::try_from(one.count).unwrap_or(i64::MAX))).await?;
        }
        Ok(())
    }

    async fn change_records(
        &self,
        connection: &mut PgConnection,
        entity: &EntityName,
        changes: &Changes<'_>,
        names: &mut Names,
    ) -> Result<(), StateError> {
        let number = self.entity_number(connection, entity).await?;
        let all: Vec<_> = changes.iter().collect();
        for chunk in all.chunks(ROWS_PER_STATEMENT) {
            let keys: BTreeSet<Vec<u8>> = chunk.iter().map(|(key, _)| codec::key_to_bytes(key)).collect();
            let query = self.sql(RECALL).bind(entity.as_str().to_owned());
            let query = query.bind(keys.into_iter().collect::<Vec<_>>());
            let rows = query.fetch_all(&mut *connection).await.map_err(|error| self.failed(&error))?;
            let found: Result<BTreeMap<RecordKey, Memory>, StateError> =
                rows.iter().map(|row| self.memory_of(row, names)).collect();
            let mut memories = found?;
            let (mut kept, mut written, mut gone) = (Vec::new(), Vec::new(), Vec::new());
            for (key, changes) in chunk {
                let mut memory = memories.remove(**key).unwrap_or_default();
                changes::change(&mut memory, changes);
                let bytes = codec::key_to_bytes(key);
                if memory.stores.is_empty() {
                    gone.push(bytes);
                } else {
                    kept.push(bytes);
                    written.push(codec::encode(&memory, &mut names.dictionary));
                }
            }
            if !kept.is_empty() {
                let query = self.sql(
                    "INSERT INTO {shadows} (entity, key, memory) \
                     SELECT $1, key, memory FROM unnest($2::bytea[], $3::bytea[]) AS new (key, memory) \
                     ON CONFLICT (entity, key) DO UPDATE SET memory = excluded.memory",
                );
                self.execute(connection, query.bind(number).bind(kept).bind(written)).await?;
            }
            if !gone.is_empty() {
                let query = self.sql("DELETE FROM {shadows} WHERE entity = $1 AND key = ANY($2)");
                self.execute(connection, query.bind(number).bind(gone)).await?;
            }
        }
        Ok(())
    }

    async fn set_marks(
        &self,
        connection: &mut PgConnection,
        marks: &[(EntityName, Option<Marks>)],
    ) -> Result<(), StateError> {
        for (entity, marks) in marks {
            let entity = entity.as_str().to_owned();
            let query = match marks {
                Some(marks) => {
                    let body = serde_json::to_string(marks)
                        .map_err(|_| StateError::new("where the stores stand cannot be written"))?;
                    let put = "INSERT INTO {marks} (entity, body) VALUES ($1, $2) \
                               ON CONFLICT (entity) DO UPDATE SET body = excluded.body";
                    self.sql(put).bind(entity).bind(body)
                }
                None => self.sql("DELETE FROM {marks} WHERE entity = $1").bind(entity),
            };
            self.execute(connection, query).await?;
        }
        Ok(())
    }

    async fn entity_number(
        &self,
        connection: &mut PgConnection,
        entity: &EntityName,
    ) -> Result<i32, StateError> {
        let failed = |error| self.failed(&error);
        let name = entity.as_str().to_owned();
        let known = self.sql("SELECT id FROM {entities} WHERE name = $1").bind(name.clone());
        if let Some(row) = known.fetch_optional(&mut *connection).await.map_err(failed)? {
            return self.column(&row, 0);
        }
        let new = self.sql(
            "INSERT INTO {entities} (id, name) SELECT coalesce(max(id), 0) + 1, $1 FROM {entities} RETURNING id",
        );
        let row = new.bind(name).fetch_one(connection).await.map_err(|error| self.failed(&error))?;
        self.column(&row, 0)
    }

    async fn save_names(&self, connection: &mut PgConnection, names: &Names) -> Result<(), StateError> {
        let new: Vec<Vec<u8>> =
            names.dictionary.since(names.saved).iter().map(|name| name.as_bytes().to_vec()).collect();
        if new.is_empty() {
            return Ok(());
        }
        let query = self.sql(
            "INSERT INTO {names} (id, name) SELECT $1 + at - 1, name FROM unnest($2::bytea[]) \
             WITH ORDINALITY AS new (name, at)",
        );
        let first = i64::try_from(names.saved).unwrap_or(i64::MAX);
        self.execute(connection, query.bind(first).bind(new)).await
    }
}
