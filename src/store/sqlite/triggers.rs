//! Triggers that keep the sync metadata for applications that do not: on an edit they raise the version, and note when and where it was made.
//!
//! They pass over trueup's own writes, which are marked by something that only its connection sees: just before them it inserts a certain
//! row number into a temporary table, so that `last_insert_rowid()` is that number. Nothing of this is in the file, so a crash leaves
//! nothing behind. A new row of trueup's carries its version and needs no mark.

use rusqlite::{Connection, OptionalExtension as _};

use crate::model::{Mapped, SyncPlace, fingerprint};

use super::super::{MigrationStep, sync};
use super::layout::TableInfo;
use super::native::quoted;

/// `trueup` and a one: a row number that no table of anybody's comes to.
const MARK: i64 = 0x7472_7565_7570_0001;

/// The time as triggers write it: in UTC. `SQLite` knows it to the millisecond.
const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

/// The triggers of a mapping that the table does not have, or has as they once were.
pub(super) fn missing(
    connection: &Connection,
    mapped: &Mapped,
    title: &str,
    info: Option<&TableInfo>,
) -> rusqlite::Result<Vec<MigrationStep>> {
    let mut steps = Vec::new();
    for (name, begin, end) in wanted(mapped, title, info) {
        let sign = format!("/* trueup {} */", fingerprint(&format!("{begin}{end}")));
        let there: Option<String> = connection
            .query_row(
                "SELECT sql FROM main.sqlite_schema WHERE type = 'trigger' AND name = ? COLLATE NOCASE",
                [&name],
                |row| row.get(0),
            )
            .optional()?;
        if there.as_ref().is_some_and(|there| there.contains(&sign)) {
            continue;
        }
        let name = quoted(&name);
        let old = there.map_or(String::new(), |_| format!("DROP TRIGGER main.{name}; "));
        steps.push(MigrationStep {
            adds: format!("trigger {name} on `{title}`"),
            statement: format!("{old}CREATE TRIGGER main.{name} {begin} {sign} {end}"),
        });
    }
    Ok(steps)
}

/// Makes the next update of this connection one that triggers leave alone.
pub(super) fn mark(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("CREATE TABLE IF NOT EXISTS temp.trueup_writer (mark INTEGER PRIMARY KEY)")?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO temp.trueup_writer (mark) VALUES (?)")?
        .execute([MARK])
        .map(drop)
}

/// Whether a table has triggers of ours, also such as no mapping asks for any more.
pub(super) fn are_on(connection: &Connection, title: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'trigger' \
             AND tbl_name = ? COLLATE NOCASE AND name LIKE 'trueup\\_%' ESCAPE '\\')",
        )?
        .query_row([title], |row| row.get(0))
}

/// Each trigger's name, and its text before and after the place of our sign.
fn wanted(mapped: &Mapped, title: &str, info: Option<&TableInfo>) -> [(String, String, String); 2] {
    let entity = mapped.name();
    let place = Place::of(mapped);
    let table = quoted(title);
    let row = this_row(mapped, info);
    let changed: Vec<String> = mapped
        .mapping
        .fields
        .values()
        .filter(|field| field.direction.reads())
        .map(|field| {
            let column = quoted(field.column.head());
            format!("old.{column} IS NOT new.{column} COLLATE BINARY")
        })
        .collect();
    let changed = if changed.is_empty() { "0".to_owned() } else { changed.join(" OR ") };
    let writable = place.writable();
    let author = text(mapped.mapping.store.as_str());
    let kept = |part, ours: &str| {
        let [old, new] = ["old", "new"].map(|row| place.part(row, part));
        format!("CASE WHEN {new} IS NOT {old} THEN {new} ELSE {ours} END")
    };
    let [old, new] =
        ["old", "new"].map(|row| format!("coalesce(CAST({} AS INTEGER), 0)", place.part(row, 0)));
    let raised = format!("CASE WHEN {new} > {old} THEN {new} ELSE {old} + 1 END");
    let edit = place.set([raised, kept(1, NOW), kept(2, &author)]);
    let given = |part, ours: &str| format!("coalesce({}, {ours})", place.part("new", part));
    let first = place.set(["1".to_owned(), given(1, NOW), given(2, &author)]);
    let version = place.part("new", 0);
    [
        (
            format!("trueup_edit_{entity}"),
            format!(
                "AFTER UPDATE ON {table} FOR EACH ROW WHEN last_insert_rowid() <> {MARK} AND {writable} AND ({changed}) BEGIN"
            ),
            format!("UPDATE {table} SET {edit} WHERE {row}; END"),
        ),
        (
            format!("trueup_new_{entity}"),
            format!("AFTER INSERT ON {table} FOR EACH ROW WHEN {writable} AND {version} IS NULL BEGIN"),
            format!("UPDATE {table} SET {first} WHERE {row}; END"),
        ),
    ]
}

/// A condition for the row that a trigger is about.
fn this_row(mapped: &Mapped, info: Option<&TableInfo>) -> String {
    // A table that is not there yet is made with row numbers.
    if let Some(name) = info.map_or(Some("rowid"), |info| info.rowid) {
        return format!("{name} = new.{name}");
    }
    let parts = mapped.mapping.key.iter().map(|part| {
        let column = quoted(part.column.head());
        format!("{column} = new.{column} COLLATE BINARY")
    });
    parts.collect::<Vec<_>>().join(" AND ")
}

/// A text as SQL has it.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Where version, time and author stand.
enum Place {
    Columns([Option<String>; 3]),
    /// The JSON in a column.
    Json(String),
}

impl Place {
    fn of(mapped: &Mapped) -> Self {
        match &mapped.mapping.sync {
            SyncPlace::Struct(column) | SyncPlace::Json(column) | SyncPlace::JsonText(column) => {
                Self::Json(quoted(column.head()))
            }
            place => {
                let [version, time, author, ..] = place.columns();
                Self::Columns([version, time, author].map(|column| column.map(|c| quoted(c.head()))))
            }
        }
    }

    /// One of the parts in a row.
    fn part(&self, row: &str, at: usize) -> String {
        match self {
            Self::Columns(columns) => columns
                .get(at)
                .and_then(Option::as_ref)
                .map_or("NULL".to_owned(), |column| format!("{row}.{column}")),
            Self::Json(column) => {
                let name = sync::PARTS.get(at).copied().unwrap_or_default();
                format!(
                    "CASE WHEN json_valid({row}.{column}) THEN json_extract({row}.{column}, '$.{name}') END"
                )
            }
        }
    }

    /// Whether the parts can be written: what is no JSON object is left as it is.
    fn writable(&self) -> String {
        match self {
            Self::Columns(_) => "1".to_owned(),
            Self::Json(column) => format!(
                "(coalesce(new.{column}, '') IN ('', 'null') \
                 OR CASE WHEN json_valid(new.{column}) THEN json_type(new.{column}) = 'object' ELSE 0 END)"
            ),
        }
    }

    /// Assignments of the parts.
    fn set(&self, values: [String; 3]) -> String {
        match self {
            Self::Columns(columns) => {
                let each = columns.iter().zip(values);
                let each = each.filter_map(|(column, value)| Some(format!("{} = {value}", column.as_ref()?)));
                each.collect::<Vec<_>>().join(", ")
            }
            Self::Json(column) => {
                let parts = sync::PARTS.into_iter().zip(values);
                let parts: Vec<String> = parts.map(|(name, value)| format!("'$.{name}', {value}")).collect();
                format!(
                    "{column} = json_set(CASE WHEN coalesce(new.{column}, '') IN ('', 'null') THEN '{{}}' \
                     ELSE new.{column} END, {})",
                    parts.join(", ")
                )
            }
        }
    }
}
