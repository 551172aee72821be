//! A draft of manifests: entities and mappings for tables that no mapping names, from what stands in the stores.
//!
//! It guesses, and says where: a person reads it, corrects it and puts it beside the other manifests. What it guesses is which tables
//! hold the same records (by name, or by their columns' names), which columns the same field (by name), and which type a field has where
//! the stores differ. It is always a manifest that compiles.

mod fields;
mod references;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{FoundColumn, FoundTable, SYSTEM_TABLES, Shape, StoreName};

use super::Spec;
use super::compile::audit::takes;
use fields::Drafted;

/// What was found in each store; none where a store has no such account.
pub type Found = BTreeMap<StoreName, Option<Vec<FoundTable>>>;

/// A draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The manifests, as YAML.
    pub text: String,
    /// How many entities are in it.
    pub entities: usize,
}

/// Tables of different names hold the same records when so large a part of all their columns is in both.
const ALIKE: f64 = 0.5;

/// Tables that seem to hold the same records, at most one a store.
struct Group<'a> {
    /// The entity's name.
    name: String,
    tables: BTreeMap<&'a StoreName, &'a FoundTable>,
}

/// Drafts an entity for each set of tables that seem to hold the same records. Where names of tables are given, only for sets that have
/// one of them in it; names that stand together are of tables that hold the same records, however little they look like it.
pub fn draft(spec: &Spec, found: &Found, wanted: &[Vec<String>]) -> Draft {
    let mut groups = groups(spec, found, wanted);
    if !wanted.is_empty() {
        groups.retain(|group| group.tables.values().any(|table| wanted_at(wanted, &table.name).is_some()));
    }
    let mut entities: Vec<Drafted<'_>> = groups.iter().map(|group| fields::drafted(spec, group)).collect();
    references::link(spec, &mut entities);
    Draft { text: text::manifests(spec, found, &entities), entities: entities.len() }
}

/// Of the tables that somebody names, those that stand nowhere without being mapped.
pub fn missing<'a>(spec: &Spec, found: &Found, wanted: &'a [Vec<String>]) -> Vec<&'a str> {
    let tables: Vec<&FoundTable> =
        found.iter().flat_map(|(store, tables)| unmapped(spec, store, tables.as_deref())).collect();
    let there = |name: &&str| tables.iter().any(|table| plain(name) == plain(&table.name));
    wanted.iter().flatten().map(String::as_str).filter(|name| !there(name)).collect()
}

fn groups<'a>(spec: &'a Spec, found: &'a Found, wanted: &[Vec<String>]) -> Vec<Group<'a>> {
    let mut stores: Vec<(&StoreName, Vec<&FoundTable>)> =
        found.iter().map(|(store, tables)| (store, unmapped(spec, store, tables.as_deref()))).collect();
    stores.sort_by_key(|(store, _)| **store != spec.canonical);
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (store, tables) in stores {
        // The most alike first, each table and each group once.
        let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
        for (at, table) in tables.iter().enumerate() {
            for (group, known) in groups.iter().enumerate() {
                let others = known.tables.values();
                let likeness = others.map(|other| likeness(table, other, wanted)).fold(0.0, f64::max);
                if likeness >= ALIKE {
                    pairs.push((likeness, group, at));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut placed: BTreeSet<usize> = BTreeSet::new();
        for (_, group, at) in pairs {
            let (Some(group), Some(table)) = (groups.get_mut(group), tables.get(at)) else { continue };
            if !placed.contains(&at) && !group.tables.contains_key(store) {
                group.tables.insert(store, table);
                placed.insert(at);
            }
        }
        for (_, table) in tables.iter().enumerate().filter(|(at, _)| !placed.contains(at)) {
            let name = unused(&name_of(&table.name), |name| {
                spec.entities.iter().any(|entity| entity.name.as_str() == name)
                    || groups.iter().any(|group| group.name == name)
            });
            groups.push(Group { name, tables: BTreeMap::from([(store, *table)]) });
        }
    }
    groups
}

/// The tables of a store that are neither mapped nor trueup's own, and have columns.
fn unmapped<'a>(spec: &Spec, store: &StoreName, tables: Option<&'a [FoundTable]>) -> Vec<&'a FoundTable> {
    let mapped: BTreeSet<String> = spec
        .mapped_in(store)
        .filter_map(|mapped| match &mapped.mapping.shape {
            Shape::Table(table) => Some(table.name.to_lowercase()),
            Shape::Object(_) | Shape::Embedded(_) => None,
        })
        .collect();
    let tables = tables.unwrap_or_default().iter();
    tables
        .filter(|table| !mapped.contains(&table.name.to_lowercase()))
        .filter(|table| !SYSTEM_TABLES.iter().any(|own| table.name.eq_ignore_ascii_case(own)))
        // In a manifest a dot parts a table's schema from its name.
        .filter(|table| can_be_named(spec, store, &table.name) && !table.name.contains('.'))
        .filter(|table| fields::has_fields(spec, store, table))
        .collect()
}

/// Whether a manifest can name it: `${` would begin a reference there, and there are names that no store of the kind is given.
fn can_be_named(spec: &Spec, store: &StoreName, name: &str) -> bool {
    let plain = !name.chars().any(char::is_control) && !name.contains("${");
    let taken = spec.stores.get(store).is_none_or(|store| takes(&store.kind, name));
    plain && taken && !name.trim().is_empty() && name.chars().count() <= 300
}

impl FoundColumn {
    /// Whether a manifest can name it, and a field can be written there.
    fn can_be_mapped(&self, spec: &Spec, store: &StoreName) -> bool {
        // A dot in a path parts the names in it.
        let plain = self.path.len() == 1 || self.path.iter().all(|name| !name.contains('.'));
        !self.computed && plain && self.path.iter().all(|name| can_be_named(spec, store, name))
    }
}

/// Which of the sets of names given has a table in it.
fn wanted_at(wanted: &[Vec<String>], table: &str) -> Option<usize> {
    wanted.iter().position(|names| names.iter().any(|name| plain(name) == plain(table)))
}

/// How much alike two tables are: the share of all their columns that both have, one more where they have the same name, and more than
/// all that where somebody says so.
fn likeness(a: &FoundTable, b: &FoundTable, wanted: &[Vec<String>]) -> f64 {
    if let (Some(a), Some(b)) = (wanted_at(wanted, &a.name), wanted_at(wanted, &b.name)) {
        return if a == b { 3.0 } else { 0.0 };
    }
    let names = |table: &FoundTable| -> BTreeSet<String> {
        table.columns.iter().map(|column| line(table, &column.title())).collect()
    };
    let (of_a, of_b) = (names(a), names(b));
    let both = of_a.intersection(&of_b).count();
    if both == 0 {
        return 0.0;
    }
    #[allow(clippy::cast_precision_loss)] // Columns are few.
    let share = both as f64 / of_a.union(&of_b).count() as f64;
    if same_name(&a.name, &b.name) { 1.0 + share } else { share }
}

/// A name without what people spell differently: `contactId`, `contact_id`, `CONTACT ID`.
fn plain(name: &str) -> String {
    name.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// What a column is known by in tables that hold the same records: its plain name, without the table's own in front of it
/// (`company_name` of `companies`).
fn line(table: &FoundTable, title: &str) -> String {
    let name = plain(title);
    let rest = name.strip_prefix(&singular(&plain(&table.name))).filter(|rest| !rest.is_empty());
    let taken = |rest: &str| table.columns.iter().any(|column| plain(&column.title()) == rest);
    rest.filter(|rest| !taken(rest)).map_or_else(|| name.clone(), str::to_owned)
}

/// Whether two tables have one name, in the singular or the plural.
fn same_name(a: &str, b: &str) -> bool {
    singular(&plain(a)) == singular(&plain(b))
}

fn singular(name: &str) -> String {
    let longer = ["ses", "xes", "ches", "shes"].iter().any(|end| name.ends_with(end));
    if let Some(stem) = name.strip_suffix("ies") {
        format!("{stem}y")
    } else if let Some(stem) = name.strip_suffix("es").filter(|_| longer) {
        stem.to_owned()
    } else {
        let stem = name.strip_suffix('s').filter(|stem| !stem.ends_with('s'));
        stem.unwrap_or(name).to_owned()
    }
}

/// What a table or column may be called in manifests, and in any store: small letters, digits and `_`, and not too many.
fn name_of(text: &str) -> String {
    let mut name = String::new();
    let mut before = '_';
    for char in text.chars().take(50) {
        if char.is_ascii_alphanumeric() {
            if char.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
                name.push('_');
            }
            name.push(char.to_ascii_lowercase());
        } else if !name.ends_with('_') {
            name.push('_');
        }
        before = char;
    }
    if name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        name
    } else {
        format!("_{name}")
    }
}

/// A name, with a number behind it where it is taken.
fn unused(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut names = std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}_{number}")));
    names.find(|name| !taken(name)).unwrap_or_default()
}
