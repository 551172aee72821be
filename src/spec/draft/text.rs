//! A draft as YAML, with what was guessed said in comments.

use std::fmt::Write as _;

use crate::model::{Form, FoundColumn, SYNC_PARTS, StoreName};

use super::Found;
use super::fields::{Drafted, DraftedField, DraftedSync};
use crate::spec::Spec;

/// Longer lines are broken up.
const WIDTH: usize = 110;

const HEAD: &str = "\
# Drafted from the tables that stand in the stores: a guess to be read and corrected.
# `trueup validate` checks it, and `trueup plan` shows what it would do, without writing anything.
# `sync` is where a row's version, time and origin are kept; `trueup migrate` adds the columns. Stores without it work as well,
# but of two edits of one field a person may have to say which is to stand.
";

/// Sync metadata in columns under their own names, which the canonical store has to have.
const SYNC: &str = "sync: {columns: same}";

pub(super) fn manifests(spec: &Spec, found: &Found, entities: &[Drafted<'_>]) -> String {
    let mut text = HEAD.to_owned();
    for (store, _) in found.iter().filter(|(_, tables)| tables.is_none()) {
        let _ = writeln!(text, "# {store} does not tell what stands in it: it is mapped by hand.");
    }
    for (at, entity) in entities.iter().enumerate() {
        if at > 0 {
            text.push_str("---\n");
        }
        write_entity(entity, &mut text);
        text.push_str("---\n");
        write_mapping(spec, found, entity, &mut text);
    }
    text
}

fn write_entity(entity: &Drafted<'_>, text: &mut String) {
    let name = scalar(entity.name);
    let _ = write!(text, "apiVersion: trueup/v1\nkind: Entity\nmetadata: {{name: {name}}}\nspec:\n");
    let described = |field: &DraftedField<'_>, of_key: bool| {
        let ty = field.ty.as_str();
        let mut parts = vec![format!("type: {ty}")];
        parts.extend((!of_key && field.required()).then(|| "required: true".to_owned()));
        parts.extend((!of_key && field.unique()).then(|| "unique: true".to_owned()));
        parts.extend((!of_key && field.sensitive()).then(|| "sensitive: true".to_owned()));
        parts.extend(field.references.as_ref().map(|name| format!("references: {}", scalar(name))));
        if parts.len() == 1 { ty.to_owned() } else { format!("{{{}}}", parts.join(", ")) }
    };
    let key = entity.key.iter().map(|part| format!("{}: {}", scalar(&part.name), described(part, true)));
    let guessed = if entity.key_guessed { " # CHECK: no table declares a primary key" } else { "" };
    let _ = writeln!(text, "  key: {{{}}}{guessed}", key.collect::<Vec<_>>().join(", "));
    if !entity.fields.is_empty() {
        text.push_str("  fields:\n");
    }
    for field in &entity.fields {
        let _ = write!(text, "    {}: {}", scalar(&field.name), described(field, false));
        if field.types_differ {
            let types: Vec<String> = field
                .columns
                .iter()
                .map(|(store, column)| format!("{store} {}", column.ty.as_str()))
                .collect();
            let _ = write!(text, " # CHECK: {}", types.join(", "));
        }
        text.push('\n');
    }
    let clocks = [("created", &entity.created), ("updated", &entity.updated)];
    let clocks = clocks.into_iter().filter_map(|(word, field)| Some((word, field.as_ref()?)));
    let clocks: Vec<String> =
        clocks.map(|(word, field)| format!("{word}: {}", scalar(&field.name))).collect();
    if !clocks.is_empty() {
        let _ = writeln!(text, "  times: {{{}}}", clocks.join(", "));
    }
}

fn write_mapping(spec: &Spec, found: &Found, entity: &Drafted<'_>, text: &mut String) {
    let name = scalar(entity.name);
    let _ = write!(
        text,
        "apiVersion: trueup/v1\nkind: Mapping\nmetadata: {{name: {name}}}\nspec:\n  entity: {name}\n  stores:\n"
    );
    if !entity.is_in_canonical(spec) {
        let store = &spec.canonical;
        let _ = write!(
            text,
            "    # {store} has no such table: `trueup migrate` adds it.\n    {}: {{table: {name}, fields: {{\"*\": same}}, {}}}\n",
            scalar(store.as_str()),
            new_sync(entity)
        );
    }
    let stores = found.keys().filter(|store| entity.tables.contains_key(store));
    let mut stores: Vec<&StoreName> = stores.collect();
    stores.sort_by_key(|store| **store != spec.canonical);
    for store in stores {
        write_store(spec, entity, store, text);
    }
    for store in spec.stores.keys().filter(|store| **store != spec.canonical) {
        if found.get(store).is_some_and(Option::is_some) && !entity.tables.contains_key(store) {
            let _ = writeln!(
                text,
                "    # {store} has no such table. To make one: {}: {{table: {name}, fields: {{\"*\": same}}}}",
                scalar(store.as_str())
            );
        }
    }
}

fn write_store(spec: &Spec, entity: &Drafted<'_>, store: &StoreName, text: &mut String) {
    let Some(table) = entity.tables.get(store) else { return };
    let left = entity.left.get(store);
    if entity.keyless.contains(store) {
        let _ = writeln!(
            text,
            "    # CHECK: `{}` in {store} may hold the same records, and has no column for the key.",
            table.name
        );
        return;
    }
    let mut key = Vec::new();
    for part in &entity.key {
        let Some(column) = part.columns.get(store) else { continue };
        key.extend(place(part, column).map(|place| format!("{}: {place}", scalar(&part.name))));
    }
    let (mut fields, mut added) = (vec!["\"*\": same".to_owned()], Vec::new());
    for field in entity.fields.iter().chain(&entity.created).chain(&entity.updated) {
        let place = match field.columns.get(store) {
            Some(column) => place(field, column),
            // The canonical store has every field.
            None if *store == spec.canonical => {
                added.push(field.name.clone());
                None
            }
            None => Some("none".to_owned()),
        };
        fields.extend(place.map(|place| format!("{}: {place}", scalar(&field.name))));
    }
    let mut parts = vec![format!("table: {}", scalar(&table.name))];
    parts.extend((!key.is_empty()).then(|| format!("key: {{{}}}", key.join(", "))));
    parts.push(format!("fields: {{{}}}", fields.join(", ")));
    let place = entity.sync.get(store);
    if *store == spec.canonical {
        parts.push(place.filter(|place| place.is_enough()).map_or_else(|| new_sync(entity), sync));
    } else {
        parts.extend(place.map(sync));
    }
    let line = format!("    {}: {{{}}}", scalar(store.as_str()), parts.join(", "));
    if line.chars().count() <= WIDTH {
        text.push_str(&line);
        text.push('\n');
    } else {
        let _ = writeln!(text, "    {}:", scalar(store.as_str()));
        for part in parts {
            if part.chars().count() + 6 <= WIDTH || !part.starts_with("fields: ") {
                let _ = writeln!(text, "      {part}");
                continue;
            }
            text.push_str("      fields:\n");
            for field in &fields {
                let _ = writeln!(text, "        {field}");
            }
        }
    }
    comment("`trueup migrate` adds", &added, text);
    let left: Vec<String> = left.into_iter().flatten().map(|column| left_over(column)).collect();
    comment("not mapped", &left, text);
}

/// Columns for sync metadata that a table has not yet: under their own names, where nothing else is called so.
fn new_sync(entity: &Drafted<'_>) -> String {
    let fields = entity.key.iter().chain(&entity.fields).chain(&entity.created).chain(&entity.updated);
    let taken = fields.into_iter().any(|field| {
        let columns = field.columns.values().map(|column| column.title());
        columns
            .chain([field.name.clone()])
            .any(|name| SYNC_PARTS.iter().any(|part| name.eq_ignore_ascii_case(part)))
    });
    if !taken {
        return SYNC.to_owned();
    }
    let parts = SYNC_PARTS.map(|part| format!("{part}: sync_{part}"));
    format!("sync: {{columns: {{{}}}}}", parts.join(", "))
}

/// A list in a comment, on as many lines as it takes; nothing where there is nothing to tell.
fn comment(what: &str, items: &[String], text: &mut String) {
    let mut line = format!("    # {what}:");
    for (at, item) in items.iter().enumerate() {
        if line.chars().count() + item.chars().count() + 2 > WIDTH {
            text.push_str(&line);
            text.push('\n');
            "    #  ".clone_into(&mut line);
        }
        let _ = write!(line, " {item}{}", if at + 1 < items.len() { "," } else { "\n" });
    }
    if !items.is_empty() {
        text.push_str(&line);
    }
}

fn left_over(column: &FoundColumn) -> String {
    let title: String =
        column.title().chars().map(|char| if char.is_control() { '?' } else { char }).collect();
    let computed = if column.computed { ", computed" } else { "" };
    format!("{title} ({}{computed})", column.ty.as_str())
}

/// A field's place, where `same` does not say it.
fn place(field: &DraftedField<'_>, column: &FoundColumn) -> Option<String> {
    let form = field.form(column);
    let dotted = column.path.iter().any(|name| name.contains('.'));
    let title = column.title();
    let word = matches!(title.as_str(), "same" | "none");
    let named = match column.path.as_slice() {
        [name] if *name == field.name => None,
        [name] if dotted || word || form != Form::Native => Some(format!("column: {}", scalar(name))),
        _ if form != Form::Native => Some(format!("path: {}", scalar(&title))),
        _ => return Some(scalar(&title)),
    };
    let form = (form != Form::Native).then(|| format!("form: {}", form.as_str()));
    let parts: Vec<String> = named.into_iter().chain(form).collect();
    (!parts.is_empty()).then(|| format!("{{{}}}", parts.join(", ")))
}

fn sync(place: &DraftedSync) -> String {
    match place {
        DraftedSync::Together(word) => format!("sync: {{{word}: sync_metadata}}"),
        DraftedSync::Apart(parts) if parts.len() == SYNC_PARTS.len() => SYNC.to_owned(),
        DraftedSync::Apart(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| format!("{part}: {part}")).collect();
            format!("sync: {{columns: {{{}}}}}", parts.join(", "))
        }
    }
}

/// A text as YAML has it, also between braces, where serde's own would be cut at a comma: as it is where it cannot be taken for anything
/// else, else in quotes.
fn scalar(text: &str) -> String {
    // Words that some reader of YAML takes for something else than a text.
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "none"];
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
