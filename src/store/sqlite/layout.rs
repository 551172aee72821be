//! What a table has, and where in its rows a mapping's parts stand.

use rusqlite::{Connection, OptionalExtension as _};

use crate::model::{Mapped, Native, StoreError, StoreName};

pub(super) use super::super::places::{FieldPlace, Place, Places};
use super::super::places::{Lookup as _, Positions, no_key_column};
use super::super::tables::{self, no_table};
use super::error::store_error;
use super::native::quoted;

/// How a column changes what is put into it (`SQLite`'s type affinity).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    /// Numbers become text.
    Text,
    /// Texts that look like numbers become numbers.
    Integer,
    /// The same.
    Numeric,
    /// All numbers become floating point.
    Real,
    /// Everything stays as it is.
    None,
}

impl Affinity {
    /// What a column makes of a value that is put into it: of texts that are numbers, and of numbers. What becomes of a number in a column
    /// of texts is left out: it reads as the number that it is.
    pub(super) fn made_of(self, native: &Native) -> Option<Native> {
        let number = match (self, native) {
            (Self::Integer | Self::Numeric | Self::Real, Native::Text(text)) => number(text)?,
            (Self::Integer | Self::Numeric | Self::Real, Native::Integer(_) | Native::Real(_)) => {
                native.clone()
            }
            _ => return None,
        };
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::float_cmp)]
        // As the database does it.
        Some(match (self, number) {
            (Self::Real, Native::Integer(number)) => Native::Real(number as f64),
            (Self::Integer | Self::Numeric, Native::Real(number))
                if number.abs() < 9e18 && (number as i64) as f64 == number =>
            {
                Native::Integer(number as i64)
            }
            (_, number) => number,
        })
    }

    /// Whether a column certainly holds a value as it is put into it.
    pub(super) fn keeps(self, native: &Native) -> bool {
        let like_number = |text: &str| {
            text.trim_start().starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first))
        };
        match (self, native) {
            (_, Native::Null | Native::Blob(_))
            | (Self::None, _)
            | (Self::Text, Native::Text(_))
            | (Self::Integer | Self::Numeric, Native::Integer(_))
            | (Self::Real, Native::Real(_)) => true,
            (Self::Integer | Self::Numeric | Self::Real, Native::Text(text)) => !like_number(text),
            _ => false,
        }
    }
}

/// A text as the number that a column of numbers takes it for; none where it stays a text.
fn number(text: &str) -> Option<Native> {
    let text = text.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    // No words (`inf`), and nothing without a digit.
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let whole = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    whole.map(Native::Integer).or_else(|| text.parse().ok().map(Native::Real))
}

#[derive(Debug, Clone)]
pub(super) struct ColumnInfo {
    pub(super) name: String,
    pub(super) affinity: Affinity,
    /// The database computes it: it is read, never written.
    pub(super) generated: bool,
    /// A row that does not name it may have something else than null in it.
    pub(super) has_default: bool,
}

/// A table as it is.
#[derive(Debug, Clone)]
pub(super) struct TableInfo {
    pub(super) columns: Vec<ColumnInfo>,
    /// A name of the row's number that no column hides; none in tables without one.
    pub(super) rowid: Option<&'static str>,
    /// Whether a row is what was written: nothing is computed in it, and no trigger changes it.
    pub(super) literal: bool,
    /// Whether a write may lead to something else: the table has triggers that are not ours.
    pub(super) triggers: bool,
}

impl TableInfo {
    /// A column's place. Names of columns do not tell upper from lower case.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// A mapping laid onto a table as it is.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The table's name as SQL has it.
    pub(super) table: String,
    /// The table's name for people.
    pub(super) title: String,
    pub(super) info: TableInfo,
    /// The columns that are read, by their place in the table; each once.
    pub(super) slots: Vec<usize>,
    pub(super) key: Vec<Place>,
    pub(super) places: Places,
    /// Mapped columns that the table lacks.
    pub(super) missing: Vec<String>,
}

/// The table that an entity's mapping names, as SQL has it and for people.
pub(super) fn table_of(store: &StoreName, mapped: &Mapped) -> Result<(String, String), StoreError> {
    let name = &tables::table_of(store, "SQLite", mapped)?.name;
    Ok((format!("main.{}", quoted(name)), name.clone()))
}

/// A table as it is; none if it is not there.
pub(super) fn table_info(connection: &Connection, name: &str) -> rusqlite::Result<Option<TableInfo>> {
    let found: Option<(String, bool, bool)> = connection
        .prepare_cached(
            "SELECT type, wr, strict FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE",
        )?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((kind, without_rowid, strict)) = found else { return Ok(None) };
    let is_table = kind == "table";
    let columns = connection
        .prepare_cached(
            "SELECT name, type, hidden, dflt_value IS NOT NULL OR pk > 0 FROM pragma_table_xinfo(?, 'main')",
        )?
        .query_map([name], |row| {
            Ok(ColumnInfo {
                name: row.get(0)?,
                affinity: affinity(&row.get::<_, String>(1)?, strict),
                generated: row.get::<_, i64>(2)? != 0,
                has_default: row.get(3)?,
            })
        })?
        .collect::<rusqlite::Result<Vec<ColumnInfo>>>()?;
    let (all, theirs): (i64, i64) = connection
        .prepare_cached(
            "SELECT count(*), count(*) FILTER (WHERE name NOT LIKE 'trueup\\_%' ESCAPE '\\') FROM sqlite_schema \
             WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE",
        )?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let literal = is_table && all == 0 && !columns.iter().any(|column| column.generated);
    let mut info = TableInfo { columns, rowid: None, literal, triggers: theirs > 0 };
    if is_table && !without_rowid {
        info.rowid = ["rowid", "_rowid_", "oid"].into_iter().find(|name| info.position(name).is_none());
    }
    Ok(Some(info))
}

/// In a STRICT table ANY takes everything as it is; elsewhere it is a word like any other.
fn affinity(declared: &str, strict: bool) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |part: &str| declared.contains(part);
    if has("INT") {
        Affinity::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") || declared.trim().is_empty() || (strict && declared == "ANY") {
        Affinity::None
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

impl Layout {
    /// Lays a mapping onto its table.
    ///
    /// # Errors
    /// When there is no such table, or when it lacks a column of the key.
    pub(super) fn of(
        store: &StoreName,
        connection: &Connection,
        mapped: &Mapped,
    ) -> Result<Self, StoreError> {
        let (table, title) = table_of(store, mapped)?;
        let info = table_info(connection, &title).map_err(|error| store_error(store, &error))?;
        let info = info.ok_or_else(|| no_table(store, mapped.entity.system, &title))?;
        let mut columns = Positions::new(|name| info.position(name));
        let key = mapped.mapping.key.iter().map(|part| {
            columns.place(&part.column).ok_or_else(|| no_key_column(store, &title, &part.column))
        });
        let key: Vec<Place> = key.collect::<Result<_, _>>()?;
        let places = Places::of(mapped, &mut columns);
        let (slots, missing) = columns.done();
        Ok(Self { table, title, info, slots, key, places, missing })
    }

    /// The column of a slot.
    pub(super) fn column(&self, slot: usize) -> Option<&ColumnInfo> {
        self.info.columns.get(*self.slots.get(slot)?)
    }

    /// The column of a slot, qualified: a name in double quotes that is no column would be read as a text.
    pub(super) fn qualified(&self, slot: usize) -> String {
        format!("t.{}", quoted(self.column(slot).map_or("", |column| &column.name)))
    }

    /// `t."a", t."b"`: everything that is read.
    pub(super) fn select_list(&self) -> String {
        (0..self.slots.len()).map(|slot| self.qualified(slot)).collect::<Vec<_>>().join(", ")
    }

    /// The order of record keys: the bytes of each part's text. A column of texts is in that order by itself, and an
    /// index may be used.
    pub(super) fn key_order(&self) -> String {
        let parts = self.key.iter().map(|place| {
            let column = self.qualified(place.slot);
            match self.column(place.slot).map(|column| column.affinity) {
                Some(Affinity::Text) => format!("{column} COLLATE BINARY"),
                _ => format!("CAST({column} AS TEXT) COLLATE BINARY"),
            }
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}
