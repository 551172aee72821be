//! The fields of a drafted entity: which columns are one, and which type they have together.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{FieldType, Form, FoundColumn, FoundTable, SYNC_PARTS, StoreName};

use super::{Group, line, name_of, plain, unused};
use crate::spec::Spec;

/// The column that holds them together.
const SYNC_COLUMN: &str = "sync_metadata";
/// A field whose name has one of these words is hidden in plans until somebody says otherwise.
const SECRET_WORDS: [&str; 7] =
    ["password", "passwd", "secret", "token", "apikey", "privatekey", "socialsecurity"];

/// An entity as drafted.
pub(super) struct Drafted<'a> {
    pub(super) name: &'a str,
    pub(super) tables: &'a BTreeMap<&'a StoreName, &'a FoundTable>,
    pub(super) key: Vec<DraftedField<'a>>,
    /// No table declares a key: it is a guess.
    pub(super) key_guessed: bool,
    pub(super) fields: Vec<DraftedField<'a>>,
    pub(super) created: Option<DraftedField<'a>>,
    pub(super) updated: Option<DraftedField<'a>>,
    pub(super) sync: BTreeMap<&'a StoreName, DraftedSync>,
    /// Columns that nothing else is like, by store.
    pub(super) left: BTreeMap<&'a StoreName, Vec<&'a FoundColumn>>,
    /// Stores whose table has no column for the key.
    pub(super) keyless: BTreeSet<&'a StoreName>,
}

impl Drafted<'_> {
    /// Whether the canonical store has a table for it that can be mapped.
    pub(super) fn is_in_canonical(&self, spec: &Spec) -> bool {
        self.tables.contains_key(&spec.canonical) && !self.keyless.contains(&spec.canonical)
    }
}

/// A field, with its column in each store that has one.
pub(super) struct DraftedField<'a> {
    pub(super) name: String,
    pub(super) ty: FieldType,
    /// The stores do not agree on its type.
    pub(super) types_differ: bool,
    pub(super) columns: BTreeMap<&'a StoreName, &'a FoundColumn>,
    /// The entity whose key it holds.
    pub(super) references: Option<String>,
}

impl DraftedField<'_> {
    pub(super) fn required(&self) -> bool {
        self.columns.values().any(|column| column.required)
    }

    pub(super) fn unique(&self) -> bool {
        let comparable = !matches!(self.ty, FieldType::Json | FieldType::StringList);
        comparable && self.columns.values().any(|column| column.unique)
    }

    pub(super) fn sensitive(&self) -> bool {
        let name = plain(&self.name);
        SECRET_WORDS.iter().any(|word| name.contains(word))
    }

    /// The form in which a column of the store holds the field.
    pub(super) fn form(&self, column: &FoundColumn) -> Form {
        match (column.ty, self.ty) {
            (FieldType::Int64, FieldType::Timestamp) => Form::UnixSeconds,
            (FieldType::Int64, FieldType::String) => Form::Int64,
            _ if column.loose || column.ty == self.ty => Form::Native,
            (FieldType::Int64, FieldType::Bool) => Form::Int64,
            (FieldType::String, FieldType::Json | FieldType::StringList) => Form::JsonText,
            (FieldType::String, _) | (_, FieldType::String) => Form::Text,
            _ => Form::Native,
        }
    }
}

/// Where a table keeps sync metadata.
pub(super) enum DraftedSync {
    /// In one column, under this word: `struct`, `json`, `json-text`.
    Together(&'static str),
    /// In the columns of these names.
    Apart(Vec<String>),
}

impl DraftedSync {
    /// Whether conflicts can be settled by it: it has a version and a time.
    pub(super) fn is_enough(&self) -> bool {
        match self {
            Self::Together(_) => true,
            Self::Apart(parts) => SYNC_PARTS.iter().take(2).all(|part| parts.iter().any(|own| own == part)),
        }
    }
}

/// The columns of a group's tables by what they are known by, the canonical store's order first.
type Lines<'a> = Vec<(String, BTreeMap<&'a StoreName, &'a FoundColumn>)>;

pub(super) fn drafted<'a>(spec: &Spec, group: &'a Group<'a>) -> Drafted<'a> {
    let mut tables: Vec<(&StoreName, &FoundTable)> =
        group.tables.iter().map(|(store, table)| (*store, *table)).collect();
    tables.sort_by_key(|(store, _)| **store != spec.canonical);
    let (mut lines, mut left, mut sync) = (Lines::new(), BTreeMap::new(), BTreeMap::new());
    for (store, table) in &tables {
        let (place, taken) = sync_of(table);
        sync.extend(place.map(|place| (*store, place)));
        for column in table.columns.iter().filter(|column| !taken.contains(&column.title())) {
            let name = line(table, &column.title());
            let known = lines.iter().position(|(known, _)| *known == name);
            let line = known.unwrap_or_else(|| {
                lines.push((name, BTreeMap::new()));
                lines.len() - 1
            });
            let Some((_, columns)) = lines.get_mut(line) else { continue };
            // What the store computes is nobody's to write, and of two names that differ in spelling alone one is left out.
            if !column.can_be_mapped(spec, store) || columns.contains_key(store) {
                left.entry(*store).or_insert_with(Vec::new).push(column);
            } else {
                columns.insert(*store, column);
            }
        }
    }
    let (key_lines, key_guessed) = key_of(&tables, &lines);
    let mut keyless = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut key = Vec::new();
    let whole = tables.len() == 1;
    for (place, name) in key_lines.iter().enumerate() {
        let line = lines.iter().position(|(known, _)| known == name).map(|at| lines.remove(at));
        let mut columns = line.map(|(_, columns)| columns).unwrap_or_default();
        // A key of another name is its place in a key of as many parts.
        for (store, table) in &tables {
            let other = table.key.get(place).filter(|_| table.key.len() == key_lines.len());
            if columns.contains_key(store) {
                continue;
            }
            let found = other.and_then(|other| {
                lines.iter_mut().find_map(|(_, columns)| {
                    columns
                        .get(store)
                        .is_some_and(|column| column.title() == *other)
                        .then(|| columns.remove(store))
                        .flatten()
                })
            });
            match found {
                Some(column) => drop(columns.insert(*store, column)),
                None => drop(keyless.insert(*store)),
            }
        }
        let field = field(&columns, &tables, &mut names);
        // A key is a number only where it is one everywhere.
        let number = columns.values().all(|column| column.ty == FieldType::Int64);
        key.push(DraftedField { ty: if number { FieldType::Int64 } else { FieldType::String }, ..field });
    }
    let (mut fields, mut created, mut updated) = (Vec::new(), None, None);
    for (name, mut columns) in lines {
        columns.retain(|store, _| !keyless.contains(store));
        if columns.is_empty() {
            continue;
        }
        // What one store alone has need not be the same anywhere.
        if columns.len() == 1 && !whole {
            for (store, column) in columns {
                left.entry(store).or_default().push(column);
            }
            continue;
        }
        let field = field(&columns, &tables, &mut names);
        let clock = field.columns.values().all(|column| {
            column.path.len() == 1
                && (column.ty == FieldType::Timestamp || (column.loose && column.ty == FieldType::String))
        });
        match name.as_str() {
            "createdat" if clock => created = Some(field),
            "updatedat" if clock => updated = Some(field),
            _ => fields.push(field),
        }
    }
    let (name, tables) = (group.name.as_str(), &group.tables);
    Drafted { name, tables, key, key_guessed, fields, created, updated, sync, left, keyless }
}

/// Whether a table has a column that can be a field.
pub(super) fn has_fields(spec: &Spec, store: &StoreName, table: &FoundTable) -> bool {
    let (_, taken) = sync_of(table);
    table.columns.iter().any(|column| column.can_be_mapped(spec, store) && !taken.contains(&column.title()))
}

/// What the key's columns are known by: as the first table that declares a key has it, else what looks most like one.
fn key_of(tables: &[(&StoreName, &FoundTable)], lines: &Lines<'_>) -> (Vec<String>, bool) {
    let declared = tables
        .iter()
        .map(|(_, table)| -> Vec<String> { table.key.iter().map(|part| line(table, part)).collect() });
    let usable = |key: &Vec<String>| !key.is_empty() && key.iter().all(|part| is_line(lines, part));
    if let Some(key) = declared.into_iter().find(usable) {
        return (key, false);
    }
    let likely = ["id", "uuid", "key", "number", "no", "code", "sku"].map(str::to_owned);
    let widest =
        |name: &str| lines.iter().find(|(line, _)| line == name).map_or(0, |(_, columns)| columns.len());
    // Of those, what most tables have; else the first column that most tables have.
    let best = likely
        .iter()
        .filter(|name| widest(name) > 0)
        .max_by_key(|name| (widest(name), std::cmp::Reverse(likely.iter().position(|other| other == *name))));
    let first = || {
        let most = lines.iter().map(|(_, columns)| columns.len()).max()?;
        lines.iter().find(|(_, columns)| columns.len() == most).map(|(name, _)| name)
    };
    (best.or_else(first).cloned().into_iter().collect(), true)
}

fn is_line(lines: &Lines<'_>, name: &str) -> bool {
    lines.iter().any(|(line, columns)| line == name && !columns.is_empty())
}

fn field<'a>(
    columns: &BTreeMap<&'a StoreName, &'a FoundColumn>,
    tables: &[(&'a StoreName, &'a FoundTable)],
    names: &mut BTreeSet<String>,
) -> DraftedField<'a> {
    let first = tables.iter().find_map(|(store, _)| columns.get(store));
    let title = first.map_or(String::new(), |column| column.path.join("_"));
    let name = unused(&name_of(&title), |name| names.contains(name));
    names.insert(name.clone());
    let ty = common(columns.values().map(|column| column.ty));
    // What stands in a column that takes anything contradicts nothing, but of a time nobody knows what its number counts.
    let agrees = |column: &&FoundColumn| match column.ty {
        own if own == ty => true,
        FieldType::String => column.loose,
        FieldType::Int64 => column.loose && ty != FieldType::Timestamp,
        _ => false,
    };
    let types_differ = !columns.values().all(agrees);
    DraftedField { name, ty, types_differ, columns: columns.clone(), references: None }
}

/// The type that columns of these types have together. A text may hold anything, so the other types tell what it holds.
fn common(types: impl Iterator<Item = FieldType>) -> FieldType {
    let mut telling = types.filter(|ty| *ty != FieldType::String);
    let first = telling.next();
    first.and_then(|first| telling.try_fold(first, together)).unwrap_or(FieldType::String)
}

/// The type that holds what fields of both types do.
fn together(a: FieldType, b: FieldType) -> Option<FieldType> {
    use FieldType::{Bool, Date, Float64, Int64, Json, Numeric, StringList, Timestamp};
    match (a, b) {
        (a, b) if a == b => Some(a),
        (Int64 | Float64, Numeric) | (Numeric, Int64 | Float64) => Some(Numeric),
        (Int64, Float64) | (Float64, Int64) => Some(Float64),
        (Int64, Bool) | (Bool, Int64) => Some(Bool),
        (Date | Int64, Timestamp) | (Timestamp, Date | Int64) => Some(Timestamp),
        (Json, StringList) | (StringList, Json) => Some(StringList),
        _ => None,
    }
}

/// Where a table keeps sync metadata, and the columns that are taken by it.
fn sync_of(table: &FoundTable) -> (Option<DraftedSync>, BTreeSet<String>) {
    let inside = |column: &&FoundColumn| column.path.first().is_some_and(|name| name == SYNC_COLUMN);
    let within: Vec<&FoundColumn> = table.columns.iter().filter(inside).collect();
    if let Some(column) = within.first() {
        let word = match column.ty {
            _ if column.path.len() > 1 => "struct",
            FieldType::Json if !column.loose => "json",
            _ => "json-text",
        };
        let taken = within.iter().map(|column| column.title()).collect();
        return (Some(DraftedSync::Together(word)), taken);
    }
    let parts: Vec<String> = table
        .columns
        .iter()
        .map(FoundColumn::title)
        .filter(|title| SYNC_PARTS.contains(&title.as_str()))
        .collect();
    // One such name alone may be anything of the application's.
    if parts.len() < 2 {
        return (None, BTreeSet::new());
    }
    let taken = parts.iter().cloned().collect();
    (Some(DraftedSync::Apart(parts)), taken)
}
