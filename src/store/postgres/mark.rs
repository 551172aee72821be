//! Marks: where a server and a table stood when they were read, so that later only what is newer has to be read.
//!
//! Every version of a row carries the number of the transaction that made it (its `xmin`). A row that is visible now, and was not in an
//! earlier snapshot, was made by a transaction that had not ended in that snapshot. Such transactions have numbers from the snapshot's own
//! `xmin` on: numbers ascend, and a subtransaction has a higher one than the transaction that it is part of.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sqlx::Row as _;

use crate::model::{Mark, fingerprint};

use super::super::RowDecoder as _;
use super::PostgresStore;
use super::rows::Decoder;
use super::session::Session;

/// How many of our own transactions are remembered for each table. Rows of older ones are looked at again, which does no harm.
const OWN_REMEMBERED: usize = 10_000;
/// How many transactions ago a mark may be. Numbers wrap around, and `age` tells twice as many apart.
pub(super) const FURTHEST: u64 = 1 << 30;
/// The first number that a transaction of a running server can have.
const FIRST_NORMAL: u32 = 3;

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MarkData {
    /// The form of this text.
    form: u8,
    /// Which server, on which of its timelines, and when it was started.
    server: String,
    database: i64,
    pub(super) table: i64,
    file: i64,
    /// A hash of what the rows' bytes mean.
    layout: String,
    /// As `pg_current_snapshot` has it.
    pub(super) snapshot: String,
    pub(super) rows: u64,
    /// Own transactions since, whose rows are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) own: Vec<u64>,
}

impl MarkData {
    /// Reads a mark; none for one of another form.
    pub(super) fn parse(mark: &Mark) -> Option<Self> {
        serde_json::from_str(&mark.0).ok().filter(|data: &Self| data.form == FORM)
    }

    pub(super) fn to_mark(&self) -> Option<Mark> {
        serde_json::to_string(self).ok().map(Mark)
    }

    /// Whether both speak of one table, in one file, read in one way.
    pub(super) fn same_table(&self, other: &Self) -> bool {
        let key =
            |data: &Self| (data.server.clone(), data.database, data.table, data.file, data.layout.clone());
        key(self) == key(other)
    }
}

const FORM: u8 = 1;

/// The bounds of a snapshot: the first transaction that may be invisible in it, and the one from which on all are.
pub(super) fn bounds(snapshot: &str) -> Option<(u64, u64)> {
    let mut parts = snapshot.split(':');
    let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (xmin <= xmax).then_some((xmin, xmax))
}

/// The number that a transaction has in rows: its lower half.
pub(super) fn in_rows(transaction: u64) -> u32 {
    u32::try_from(transaction & u64::from(u32::MAX)).unwrap_or(0)
}

/// The whole number of a transaction that began after `base`.
pub(super) fn whole(base: u64, in_row: u32) -> u64 {
    base + u64::from(in_row.wrapping_sub(in_rows(base)))
}

/// The own transactions of a store, by table.
#[derive(Debug, Default)]
pub(super) struct Own(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// The server that they were on.
    server: String,
    /// How far it had got when it was last looked at.
    xmax: u64,
    tables: BTreeMap<i64, Known>,
}

/// What is known of a table's rows.
#[derive(Debug, Default)]
struct Known {
    /// The last look saw what every transaction before this one left.
    seen_before: u64,
    /// Own transactions since, whose rows are known.
    own: VecDeque<u64>,
}

impl Own {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes transactions that were committed.
    pub(super) fn note(&self, table: i64, transactions: impl IntoIterator<Item = u64>) {
        let mut noted = self.noted();
        let own = &mut noted.tables.entry(table).or_default().own;
        own.extend(transactions);
        let surplus = own.len().saturating_sub(OWN_REMEMBERED);
        own.drain(..surplus);
    }

    /// Notes that a table is looked at. On another server, or on this one restored from a backup, the numbers that we remember as our own may
    /// be other people's: all of them are forgotten.
    fn look(&self, server: &str, table: i64, (xmin, xmax): (u64, u64)) {
        let mut noted = self.noted();
        if (noted.server != server && !noted.server.is_empty()) || xmax < noted.xmax {
            noted.tables.clear();
        }
        server.clone_into(&mut noted.server);
        noted.xmax = xmax;
        noted.tables.entry(table).or_default().seen_before = xmin;
    }

    /// Whether a row, by the transaction that made it, was seen by the last look or is our own. Such a row may be overwritten and the new
    /// version passed over by the next look. A row that somebody wrote after the last look may not: their edit would be overlooked under ours.
    pub(super) fn knows(&self, table: i64, writer: u32) -> bool {
        let noted = self.noted();
        let Some(known) = noted.tables.get(&table) else { return false };
        let behind = in_rows(known.seen_before).wrapping_sub(writer);
        // Numbers go round; the first three are older than all.
        let seen = writer < FIRST_NORMAL || (behind > 0 && behind < 1 << 31);
        seen || known.own.iter().any(|own| in_rows(*own) == writer)
    }

    /// Adds to a mark what was written since.
    pub(super) fn seal(&self, mark: Mark) -> Mark {
        let Some(mut data) = MarkData::parse(&mark) else { return mark };
        let Some((xmin, _)) = bounds(&data.snapshot) else { return mark };
        let noted = self.noted();
        let Some(table) = noted.tables.get(&data.table).filter(|_| noted.server == data.server) else {
            return mark;
        };
        data.own.extend(table.own.iter().copied().filter(|transaction| *transaction >= xmin));
        data.own.sort_unstable();
        data.own.dedup();
        data.to_mark().unwrap_or(mark)
    }
}

impl PostgresStore {
    /// Where a table stands in the transaction's snapshot; none where nothing can be concluded from it later.
    pub(super) async fn mark_data(
        &self,
        session: &mut Session,
        decoder: &Decoder,
        rows: u64,
    ) -> Result<Option<MarkData>, sqlx::Error> {
        let layout = &decoder.layout;
        let info = &layout.info;
        let columns = || layout.key.iter().chain(&layout.slots).filter_map(|at| info.columns.get(*at));
        let telling = columns().all(|column| column.depends.is_some());
        let (true, true, true, Some(file)) = (info.plain, telling, layout.has_unique_key(), info.file) else {
            return Ok(None);
        };
        let Some(server) = self.identity(session).await? else { return Ok(None) };
        if let Some(bounds) = bounds(&info.snapshot) {
            self.own.look(&server, info.oid, bounds);
        }
        let mut meaning = decoder.class().to_owned();
        for column in columns() {
            let depends = column.depends.as_deref().unwrap_or("");
            let _ = write!(meaning, "; {} {} {depends}", column.number, column.base);
        }
        Ok(Some(MarkData {
            form: FORM,
            server,
            database: info.database,
            table: info.oid,
            file,
            layout: fingerprint(&meaning),
            snapshot: info.snapshot.clone(),
            rows,
            own: Vec::new(),
        }))
    }
}

impl PostgresStore {
    /// Which server this is, on which of its timelines, and since when; none where the login may not ask, or the server does not know.
    pub(super) async fn identity(&self, session: &mut Session) -> Result<Option<String>, sqlx::Error> {
        if self.nameless.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let identity = identity(session).await?;
        // Asking again would only fill the server's log.
        self.nameless.store(identity.is_none(), Ordering::Relaxed);
        Ok(identity)
    }
}

async fn identity(session: &mut Session) -> Result<Option<String>, sqlx::Error> {
    session.run("SAVEPOINT trueup_identity").await?;
    // The name of the file that is written now begins with the timeline. What the control file says of it may be behind. Files that
    // were put back under a server that was stopped have all that in common with those that were there: so the start counts too.
    let asked = session.query(
        "SELECT s.system_identifier::text || '/' || pg_catalog.left(pg_catalog.pg_walfile_name(\
         pg_catalog.pg_current_wal_insert_lsn()), 8) || '/' || \
         extract(epoch FROM pg_catalog.pg_postmaster_start_time())::numeric FROM pg_catalog.pg_control_system() AS s",
    );
    match session.one(asked).await {
        Ok(row) => {
            session.run("RELEASE SAVEPOINT trueup_identity").await?;
            Ok(Some(row.try_get(0)?))
        }
        // Hosts that make servers of their own leave out what does not fit them.
        Err(sqlx::Error::Database(_)) => {
            session.run("ROLLBACK TO SAVEPOINT trueup_identity").await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(snapshot: &str) -> MarkData {
        MarkData {
            form: FORM,
            server: "7/00000001".into(),
            database: 1,
            table: 2,
            file: 3,
            layout: "x".into(),
            snapshot: snapshot.into(),
            rows: 4,
            own: Vec::new(),
        }
    }

    #[test]
    fn numbers_in_rows_are_made_whole_across_the_turn() {
        let base = (7 << 32) - 2;
        assert_eq!(whole(base, in_rows(base)), base);
        assert_eq!(whole(base, 5), (7 << 32) + 5);
        assert_eq!(bounds("740:745:740,743"), Some((740, 745)));
        assert_eq!(bounds("745:740:"), None);
        assert_eq!(bounds("garbage"), None);
    }

    #[test]
    fn a_row_is_known_that_the_last_look_saw_or_that_is_our_own() {
        let own = Own::default();
        assert!(!own.knows(2, 50), "nobody looked");
        let turn = 3 << 32;
        own.look("7/00000001", 2, (turn + 5, turn + 9));
        own.note(2, [turn + 8]);
        for (writer, known) in
            [(1, true), (2, true), (4, true), (5, false), (6, false), (8, true), (u32::MAX, true)]
        {
            assert_eq!(own.knows(2, writer), known, "{writer}");
        }
        assert!(!own.knows(3, 4), "another table");
    }

    #[test]
    fn a_mark_is_sealed_with_what_came_after_it_alone() {
        let own = Own::default();
        own.look("7/00000001", 2, (90, 100));
        own.note(2, [5, 99, 100, 101]);
        own.note(3, [102]);
        let mark = || data("100:100:").to_mark().expect("a mark");
        assert_eq!(MarkData::parse(&own.seal(mark())).expect("a mark").own, [100, 101]);
        let theirs = Mark("not ours".into());
        assert_eq!(own.seal(theirs.clone()), theirs);
        own.note(2, 0..20_000);
        assert_eq!(own.noted().tables[&2].own.len(), OWN_REMEMBERED);
        own.look("7/00000001", 2, (30_000, 30_000));
        assert_ne!(own.seal(mark()), mark(), "the same server went on");
        own.look("7/00000002", 2, (30_000, 30_000));
        assert_eq!(own.seal(mark()), mark(), "another one has other transactions of these numbers");
        own.note(2, [100]);
        own.look("7/00000002", 2, (20_000, 20_000));
        let there = MarkData { server: "7/00000002".into(), ..data("100:100:") }.to_mark().expect("a mark");
        assert_eq!(own.seal(there.clone()), there, "and so has one that was put back");
    }
}
