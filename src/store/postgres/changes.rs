//! What changed since a mark, and questions about the rest, all in one transaction.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::sync::{mpsc, oneshot};

use crate::model::{ErrorKind, Mapped, Mark, RecordKey, StoreError, StoreName};

use super::super::keys::joined;
use super::super::{Changes, LazyRow};
use super::PostgresStore;
use super::error::store_error;
use super::kind::Kind;
use super::layout::Layout;
use super::mark::{FURTHEST, MarkData, bounds, in_rows};
use super::read::{CHUNKS_AHEAD, Copied, ReadError, count};
use super::rows::Decoder;
use super::session::{Session, quoted};

/// Bounds that are looked through at once when rows are counted.
const BOUNDS_A_PART: usize = 64;

type Rows = Result<Vec<LazyRow>, StoreError>;

/// A question, and where the answer goes.
enum Ask {
    Counts(Vec<RecordKey>, oneshot::Sender<Result<Vec<u64>, StoreError>>),
    Keys(Option<RecordKey>, Option<RecordKey>, oneshot::Sender<Result<Vec<RecordKey>, StoreError>>),
}

/// A look at what changed. A task of its own holds the transaction.
pub(super) struct PostgresChanges {
    store: StoreName,
    rows: mpsc::Receiver<Rows>,
    asks: mpsc::Sender<Ask>,
    count: u64,
    mark: Mark,
}

impl PostgresStore {
    /// What changed since a mark; none where the mark does not speak of this table as it is.
    pub(super) async fn changed_since(
        &self,
        mapped: &Mapped,
        since: &Mark,
    ) -> Result<Option<Box<dyn Changes>>, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let Some(then) = MarkData::parse(since) else { return Ok(None) };
        let (mut session, layout) = self.reading(mapped).await?;
        let layout = Arc::new(layout);
        let decoder = Decoder::new(Arc::clone(&layout), mapped.clone());
        let now = self.mark_data(&mut session, &decoder, 0).await.map_err(failed)?;
        let Some((mut now, newer)) = now.and_then(|now| newer(&then, &now).map(|newer| (now, newer))) else {
            session.end("ROLLBACK").await.map_err(failed)?;
            return Ok(None);
        };
        now.rows = match newer {
            // Nobody wrote anything anywhere.
            Newer::Nothing => then.rows,
            Newer::From(_) => count(&mut session, &layout, "").await.map_err(failed)?,
        };
        let condition = match newer {
            Newer::Nothing => None,
            Newer::From(first) => Some(condition(&mut session, first, &then.own).await.map_err(failed)?),
        };
        let Some(mark) = now.to_mark() else { return Ok(None) };
        let (send, rows) = mpsc::channel(CHUNKS_AHEAD);
        let (asks, questions) = mpsc::channel(1);
        let task = Task { store: self.name.clone(), session, layout, decoder, last: None };
        tokio::spawn(task.run(condition, send, questions));
        Ok(Some(Box::new(PostgresChanges { store: self.name.clone(), rows, asks, count: now.rows, mark })))
    }
}

/// Which transactions' rows have to be looked at.
enum Newer {
    Nothing,
    /// Those from this one on.
    From(u64),
}

/// What is newer than a mark; none where that cannot be told.
fn newer(then: &MarkData, now: &MarkData) -> Option<Newer> {
    let ((xmin, xmax), (_, now_xmax)) = (bounds(&then.snapshot)?, bounds(&now.snapshot)?);
    // Numbers that went back are those of a server that was put back.
    if !then.same_table(now) || now_xmax < xmax || now_xmax - xmin > FURTHEST {
        return None;
    }
    Some(if then.snapshot == now.snapshot { Newer::Nothing } else { Newer::From(xmin) })
}

/// A condition for the rows that were made by transactions from `first` on, but for our own ones.
async fn condition(session: &mut Session, first: u64, own: &[u64]) -> Result<String, sqlx::Error> {
    // Ages are compared, since numbers wrap around. Both count back from one number, which stays the same within a transaction; frozen rows are
    // older than all others.
    let query = session.query(&format!("SELECT pg_catalog.age('{}'::xid)", in_rows(first)));
    let age: i32 = session.one(query).await?.try_get(0)?;
    let mut sql = format!("pg_catalog.age(t.xmin) <= {age}");
    if !own.is_empty() {
        let own: Vec<String> = own.iter().map(|transaction| in_rows(*transaction).to_string()).collect();
        let _ = write!(sql, " AND NOT t.xmin = ANY ('{{{}}}'::xid[])", own.join(","));
    }
    Ok(sql)
}

#[async_trait]
impl Changes for PostgresChanges {
    async fn rows(&mut self) -> Result<Option<Vec<LazyRow>>, StoreError> {
        self.rows.recv().await.transpose()
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    async fn counts(&mut self, bounds: &[RecordKey]) -> Result<Vec<u64>, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Counts(bounds.to_vec(), answer)).await;
        answered.await.unwrap_or_else(|_| Err(self.gone()))
    }

    async fn keys(
        &mut self,
        from: Option<&RecordKey>,
        to: Option<&RecordKey>,
    ) -> Result<Vec<RecordKey>, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Keys(from.cloned(), to.cloned(), answer)).await;
        answered.await.unwrap_or_else(|_| Err(self.gone()))
    }
}

impl PostgresChanges {
    async fn ask(&mut self, ask: Ask) {
        // Rows that nobody wants any more do not stand in the way of the answer.
        self.rows.close();
        let _ = self.asks.send(ask).await;
    }

    fn gone(&self) -> StoreError {
        StoreError::new(ErrorKind::Unavailable, &self.store, "the look at what changed came to an early end")
    }
}

struct Task {
    store: StoreName,
    session: Session,
    layout: Arc<Layout>,
    decoder: Arc<Decoder>,
    last: Option<RecordKey>,
}

impl Task {
    async fn run(
        mut self,
        condition: Option<String>,
        send: mpsc::Sender<Rows>,
        mut asks: mpsc::Receiver<Ask>,
    ) {
        if let Some(condition) = condition
            && let Err(error) = self.stream(&condition, &send, &asks).await
        {
            let _ = send.send(Err(error)).await;
            return;
        }
        drop(send);
        while let Some(ask) = asks.recv().await {
            match ask {
                Ask::Counts(bounds, answer) => {
                    let counts = self.counts(&bounds).await;
                    let _ = answer.send(counts.map_err(|error| store_error(&self.store, &error)));
                }
                Ask::Keys(from, to, answer) => {
                    let keys = self.keys(from.as_ref(), to.as_ref()).await;
                    let _ = answer.send(keys);
                }
            }
        }
        // Nothing was written: how it ends does not matter.
        let _ = self.session.end("ROLLBACK").await;
    }

    async fn stream(
        &mut self,
        condition: &str,
        send: &mpsc::Sender<Rows>,
        asks: &mpsc::Receiver<Ask>,
    ) -> Result<(), StoreError> {
        let layout = Arc::clone(&self.layout);
        let select = format!(
            "SELECT {} FROM {} AS t WHERE {condition} ORDER BY {}",
            layout.select_list(),
            layout.table,
            layout.key_order()
        );
        let failed = |error: ReadError| error.told(&self.store);
        let copied = Copied::begin(&mut self.session, &select).await;
        let mut copied = copied.map_err(|error| failed(error.into()))?;
        while let Some(pieces) = copied.next().await.map_err(failed)? {
            let mut rows = Vec::with_capacity(pieces.len());
            for bytes in pieces {
                let row = self.decoder.lazy(bytes).ok_or_else(|| torn(&self.store, &layout))?;
                if self.last.as_ref().is_some_and(|last| last >= row.key()) {
                    return Err(torn(&self.store, &layout));
                }
                self.last = Some(row.key().clone());
                rows.push(row);
            }
            // Without a listener the rest is read all the same as long as there may be questions.
            if send.send(Ok(rows)).await.is_err() && asks.is_closed() {
                let message = "nobody wants to know any more";
                return Err(StoreError::new(ErrorKind::Unavailable, &self.store, message));
            }
        }
        Ok(())
    }

    async fn counts(&mut self, bounds: &[RecordKey]) -> Result<Vec<u64>, sqlx::Error> {
        let mut counts = vec![0; bounds.len() + 1];
        if bounds.is_empty() {
            counts[0] = count(&mut self.session, &self.layout, "").await?;
            return Ok(counts);
        }
        let bounds: Vec<String> = bounds.iter().map(joined).collect();
        let firsts: Vec<String> = bounds.iter().step_by(BOUNDS_A_PART).cloned().collect();
        // In two steps: looking into a list of texts means walking it.
        let sql = format!(
            "WITH b AS (SELECT (o - 1) / {BOUNDS_A_PART} + 1 AS part, array_agg(bound ORDER BY o) AS bounds \
               FROM unnest($1::text[]) WITH ORDINALITY AS u(bound, o) GROUP BY 1) \
             SELECT (CASE WHEN b.part IS NULL THEN 0 ELSE (b.part - 1) * {BOUNDS_A_PART} \
               + pg_catalog.width_bucket(k.key COLLATE \"C\", b.bounds) END)::int8, count(*) \
             FROM (SELECT {key} AS key, pg_catalog.width_bucket(({key}) COLLATE \"C\", $2::text[])::int8 AS part \
               FROM {} AS t) AS k LEFT JOIN b ON b.part = k.part GROUP BY 1",
            self.layout.table,
            key = joined_columns(&self.layout),
        );
        let query = self.session.query(&sql).bind(bounds).bind(firsts);
        for row in self.session.all(query).await? {
            let at = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
            if let Some(count) = counts.get_mut(at) {
                *count = u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0);
            }
        }
        Ok(counts)
    }

    async fn keys(
        &mut self,
        from: Option<&RecordKey>,
        to: Option<&RecordKey>,
    ) -> Result<Vec<RecordKey>, StoreError> {
        let layout = Arc::clone(&self.layout);
        let columns: Vec<String> = layout.key_texts().map(|text| format!("{text} COLLATE \"C\"")).collect();
        let mut conditions = Vec::new();
        let mut values: Vec<String> = Vec::new();
        for (key, sign) in [(from, ">="), (to, "<")] {
            let Some(key) = key else { continue };
            let marks: Vec<String> =
                (1..=key.parts().len()).map(|at| format!("${}::text", values.len() + at)).collect();
            conditions.push(format!("({}) {sign} ({})", columns.join(", "), marks.join(", ")));
            values.extend(key.parts().iter().cloned());
        }
        let condition = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        let texts: Vec<String> = layout.key_texts().collect();
        let sql = format!(
            "SELECT {} FROM {} AS t{condition} ORDER BY {}",
            texts.join(", "),
            layout.table,
            layout.key_order()
        );
        let query = values.into_iter().fold(self.session.query(&sql), sqlx::query::Query::bind);
        let rows = self.session.all(query).await.map_err(|error| store_error(&self.store, &error))?;
        let part = |row: &PgRow, at: usize| row.try_get::<String, _>(at).ok();
        let key = |row: &PgRow| {
            let parts = (0..texts.len()).map(|at| part(row, at)).collect::<Option<Vec<_>>>()?;
            layout.key_of(&self.decoder.mapped, parts)
        };
        let keys: Option<Vec<RecordKey>> = rows.iter().map(key).collect();
        keys.filter(|keys| keys.is_sorted_by(|a, b| a < b)).ok_or_else(|| torn(&self.store, &layout))
    }
}

fn torn(store: &StoreName, layout: &Layout) -> StoreError {
    let message = format!("`{}` has keys that cannot be used or stand twice", layout.title);
    StoreError::new(ErrorKind::Corrupt, store, message).hint("the next whole read names them")
}

/// What [`joined`] makes of a key, in SQL.
fn joined_columns(layout: &Layout) -> String {
    let columns: Vec<String> = layout
        .key_columns()
        .map(|column| match column.kind {
            Kind::Text => format!("t.{}", quoted(&column.name)),
            _ => format!("t.{}::text", quoted(&column.name)),
        })
        .collect();
    if let [one] = columns.as_slice() {
        return one.clone();
    }
    let ended = columns
        .iter()
        .map(|column| format!("pg_catalog.replace({column}, E'\\x01', E'\\x01\\x02') || E'\\x01\\x01'"));
    ended.collect::<Vec<_>>().join(" || ")
}
