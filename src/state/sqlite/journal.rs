//! The journal: a row for the intents that were noted together, and beside it, small and often rewritten, how each of them stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::model::{Intent, IntentEnd, IntentId};

use super::super::changes::ENDED_KEPT;
use super::codec::{self, Dictionary, Head};
use super::{Failure, blob};

/// Intents that are noted together.
pub(super) struct Pack {
    heads: Vec<Head>,
    body: Vec<u8>,
}

impl Pack {
    /// Writes intents down. Of an intent that is noted twice the later one counts.
    pub(super) fn of(intents: &[Arc<Intent>], dictionary: &mut Dictionary) -> Option<Self> {
        let mut heads: Vec<Head> = intents.iter().map(|intent| Head::of(intent)).collect();
        let mut seen = BTreeSet::new();
        for (head, intent) in heads.iter_mut().zip(intents).rev() {
            head.replaced = !seen.insert(&intent.id);
        }
        let body = codec::intents_to_bytes(intents, dictionary);
        (!heads.is_empty()).then_some(Self { heads, body })
    }
}

/// Notes intents, and how others ended.
pub(super) fn change(
    connection: &Connection,
    open: Option<&Pack>,
    close: &[(IntentId, IntentEnd)],
) -> Result<(), Failure> {
    let replaced: BTreeSet<&IntentId> =
        open.iter().flat_map(|pack| &pack.heads).map(|head| &head.id).collect();
    if !replaced.is_empty() {
        restate(connection, |head| {
            let again = replaced.contains(&head.id);
            head.replaced |= again;
            again
        })?;
    }
    if let Some(pack) = open {
        insert(connection, &pack.heads, &pack.body)?;
    }
    if close.is_empty() {
        return Ok(());
    }
    let ends: BTreeMap<&IntentId, IntentEnd> = close.iter().rev().map(|(id, end)| (id, *end)).collect();
    restate(connection, |head| {
        let end = ends.get(&head.id);
        head.end = end.copied();
        end.is_some()
    })?;
    connection
        .prepare_cached(
            "SELECT seq FROM journal WHERE open = 0 AND seq <= (SELECT max(seq) FROM journal) - ? ORDER BY seq",
        )?
        .query_map([ENDED_KEPT], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?
        .into_iter()
        .try_for_each(|seq| remove(connection, seq))
}

/// Puts a pack of intents at the journal's end. The numbers of packs count intents, so that they tell how many intents are kept.
pub(super) fn insert(connection: &Connection, heads: &[Head], body: &[u8]) -> Result<(), Failure> {
    let count = i64::try_from(heads.len()).unwrap_or(i64::MAX);
    let open = heads.iter().filter(|head| head.is_open()).count();
    let seq: i64 =
        connection.query_row("SELECT coalesce(max(seq), 0) + ? FROM journal", [count], |row| row.get(0))?;
    connection
        .prepare_cached("INSERT INTO journal (seq, open, heads) VALUES (?, ?, ?)")?
        .execute(params![seq, i64::try_from(open).unwrap_or(i64::MAX), codec::heads_to_bytes(heads)])?;
    connection
        .prepare_cached("INSERT INTO journal_bodies (seq, body) VALUES (?, ?)")?
        .execute(params![seq, body])?;
    Ok(())
}

/// Changes how open intents stand. Removes packs that have no open intent left, nor a before-image worth keeping.
fn restate(connection: &Connection, mut change: impl FnMut(&mut Head) -> bool) -> Result<(), Failure> {
    for (seq, mut heads) in heads_where(connection, "open > 0", usize::MAX)? {
        let mut changed = false;
        for head in heads.iter_mut().filter(|head| head.is_open()) {
            changed |= change(head);
        }
        let open = heads.iter().filter(|head| head.is_open()).count();
        if open == 0 && !heads.iter().any(Head::is_kept) {
            remove(connection, seq)?;
        } else if changed {
            connection.prepare_cached("UPDATE journal SET open = ?, heads = ? WHERE seq = ?")?.execute(
                params![i64::try_from(open).unwrap_or(i64::MAX), codec::heads_to_bytes(&heads), seq],
            )?;
        }
    }
    Ok(())
}

/// Forgets the open intents; what ended stays.
pub(super) fn forget_open(connection: &Connection) -> Result<(), Failure> {
    restate(connection, |head| {
        head.replaced = true;
        true
    })
}

fn remove(connection: &Connection, seq: i64) -> Result<(), Failure> {
    connection.prepare_cached("DELETE FROM journal WHERE seq = ?")?.execute([seq])?;
    connection.prepare_cached("DELETE FROM journal_bodies WHERE seq = ?")?.execute([seq])?;
    Ok(())
}

/// The heads of packs, the oldest first; or some of the latest, these first.
fn heads_where(
    connection: &Connection,
    condition: &str,
    latest: usize,
) -> Result<Vec<(i64, Vec<Head>)>, Failure> {
    let order = if latest == usize::MAX { "ORDER BY seq" } else { "ORDER BY seq DESC" };
    let sql = format!("SELECT seq, heads FROM journal WHERE {condition} {order} LIMIT ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([i64::try_from(latest).unwrap_or(-1)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((row.get(0)?, codec::heads_from_bytes(blob(row, 1)?)?));
    }
    Ok(found)
}

fn intents(
    connection: &Connection,
    seq: i64,
    heads: &[Head],
    dictionary: &mut Dictionary,
) -> Result<Vec<Intent>, Failure> {
    let mut statement = connection.prepare_cached("SELECT body FROM journal_bodies WHERE seq = ?")?;
    let mut rows = statement.query([seq])?;
    let row = rows.next()?.ok_or(Failure::Unreadable)?;
    Ok(codec::intents_from_bytes(blob(row, 0)?, heads, dictionary)?)
}

/// The intents that have not ended, oldest first.
pub(super) fn open_intents(
    connection: &Connection,
    dictionary: &mut Dictionary,
) -> Result<Vec<Intent>, Failure> {
    let mut open = Vec::new();
    for (seq, heads) in heads_where(connection, "open > 0", usize::MAX)? {
        let all = intents(connection, seq, &heads, dictionary)?;
        open.extend(heads.iter().zip(all).filter(|(head, _)| head.is_open()).map(|(_, intent)| intent));
    }
    Ok(open)
}

/// The intents that ended last and are kept, the latest first.
pub(super) fn ended(
    connection: &Connection,
    limit: usize,
    dictionary: &mut Dictionary,
) -> Result<Vec<(Intent, IntentEnd)>, Failure> {
    let mut ended = Vec::new();
    for (seq, heads) in heads_where(connection, "true", limit)? {
        let all = intents(connection, seq, &heads, dictionary)?;
        let kept = heads.iter().zip(all).filter(|(head, _)| head.is_kept());
        ended.extend(kept.rev().filter_map(|(head, intent)| Some((intent, head.end?))));
        if ended.len() >= limit {
            break;
        }
    }
    ended.truncate(limit);
    Ok(ended)
}
