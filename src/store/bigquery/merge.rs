//! The one statement that writes a batch: guarded updates, guarded deletes and inserts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::image::Columns;
use super::layout::{Layout, Slot};
use super::schema::{Kind, Node};
use super::sql::{column, parameter_type, quoted, string_type, structs, unchanged, value_of};

/// What is done to one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    Insert(Columns),
    /// What is set, where the guarded slots still hold this.
    Update(Columns),
    Delete,
}

/// A row of a batch.
pub(super) struct Line<'a> {
    pub(super) key: &'a [String],
    pub(super) act: &'a Act,
    /// The slots as they were when the guard was looked at.
    pub(super) seen: &'a [Option<String>],
}

/// A statement with its parameter.
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) rows: Json,
}

/// The statement for these rows. `guarded` are the slots that must be as they were seen.
pub(super) fn statement(layout: &Layout, guarded: &BTreeSet<usize>, lines: &[Line<'_>]) -> Statement {
    let mut set: BTreeSet<usize> = BTreeSet::new();
    let mut insert: BTreeSet<usize> = BTreeSet::new();
    let mut deletes = false;
    for line in lines {
        match line.act {
            Act::Insert(columns) => insert.extend(columns.keys()),
            Act::Update(columns) => set.extend(columns.keys()),
            Act::Delete => deletes = true,
        }
    }
    let updates = lines.iter().any(|line| matches!(line.act, Act::Update(_)));
    let inserts = lines.iter().any(|line| matches!(line.act, Act::Insert(_)));
    // Slots that not every update sets: a flag says which do.
    let unsteady: BTreeSet<usize> = set
        .iter()
        .copied()
        .filter(|slot| {
            let lacks = |act: &Act| matches!(act, Act::Update(columns) if !columns.contains_key(slot));
            lines.iter().any(|line| lacks(line.act))
        })
        .collect();
    let mut sql = format!(
        "MERGE INTO {} AS T USING ({}) AS S ON {}",
        layout.names.sql(),
        if updates || deletes {
            counted_rows(layout)
        } else {
            "SELECT r.* FROM UNNEST(@rows) AS r".to_owned()
        },
        layout.keys_join()
    );
    // A key that stands twice by now is left alone: so many rows changed are so many writes that happened.
    let mut guard = String::from(" AND S.standing = 1");
    for at in guarded {
        let Some(slot) = layout.slots.get(*at) else { continue };
        let holds = unchanged(&column(&slot.path), &slot.node, &format!("S.g{at}"));
        let _ = write!(guard, " AND {holds}");
    }
    if updates {
        let new = |slot: usize, path: &[String], node: &Node| {
            let value = value_of(&format!("S.v{slot}"), node);
            if unsteady.contains(&slot) {
                format!("IF(S.f{slot} = 'y', {value}, {})", column(path))
            } else {
                value
            }
        };
        let sets: Vec<String> = heads(layout, &set)
            .into_iter()
            .map(|node| {
                let path = vec![node.name.clone()];
                let value = composed(layout, node, &path, &set, &new, &|path, _| column(path));
                format!("{} = {value}", quoted(&node.name))
            })
            .collect();
        let _ = write!(sql, " WHEN MATCHED AND S.op = 'U'{guard} THEN UPDATE SET {}", sets.join(", "));
    }
    if deletes {
        let _ = write!(sql, " WHEN MATCHED AND S.op = 'D'{guard} THEN DELETE");
    }
    if inserts {
        let new = |slot: usize, _: &[String], node: &Node| value_of(&format!("S.v{slot}"), node);
        let mut names: Vec<String> = Vec::new();
        let mut values: Vec<String> = Vec::new();
        for (at, slot) in layout.key.iter().enumerate() {
            names.push(quoted(&slot.node.name));
            values.push(value_of(&format!("S.k{at}"), &slot.node));
        }
        for node in heads(layout, &insert) {
            let path = vec![node.name.clone()];
            names.push(quoted(&node.name));
            values.push(composed(layout, node, &path, &insert, &new, &|_, node| nothing(node)));
        }
        let _ = write!(
            sql,
            " WHEN NOT MATCHED AND S.op = 'I' THEN INSERT ({}) VALUES ({})",
            names.join(", "),
            values.join(", ")
        );
    }
    let written: BTreeSet<usize> = set.union(&insert).copied().collect();
    Statement { sql, rows: parameter(layout, guarded, &written, &unsteady, lines) }
}

/// The rows of the parameter, with how many rows of the table have the key of each.
fn counted_rows(layout: &Layout) -> String {
    let each = |text: &dyn Fn(usize, &Slot) -> String| -> Vec<String> {
        layout.key.iter().enumerate().map(|(at, slot)| text(at, slot)).collect()
    };
    let column = |slot: &Slot| format!("D.{}", quoted(&slot.node.name));
    let keys = each(&|at, slot| format!("{} AS k{at}", column(slot))).join(", ");
    let group = each(&|_, slot| column(slot)).join(", ");
    let same =
        each(&|at, slot| format!("N.k{at} = {}", value_of(&format!("r.k{at}"), &slot.node))).join(" AND ");
    format!(
        "SELECT r.*, N.standing FROM UNNEST(@rows) AS r LEFT JOIN \
         (SELECT {keys}, COUNT(*) AS standing FROM {} AS D GROUP BY {group}) AS N ON {same}",
        layout.names.sql()
    )
}

/// The columns that these slots stand in, in the table's order.
fn heads<'l>(layout: &'l Layout, slots: &BTreeSet<usize>) -> Vec<&'l Node> {
    let heads: BTreeSet<&str> =
        slots.iter().filter_map(|slot| layout.slots.get(*slot)?.path.first()).map(String::as_str).collect();
    layout.info.columns.iter().filter(|node| heads.contains(node.name.as_str())).collect()
}

/// A column's value: what is written where it is, what stands there everywhere else. A STRUCT is always set as a whole.
fn composed(
    layout: &Layout,
    node: &Node,
    path: &[String],
    written: &BTreeSet<usize>,
    new: &dyn Fn(usize, &[String], &Node) -> String,
    old: &dyn Fn(&[String], &Node) -> String,
) -> String {
    let slot = layout.slots.iter().position(|slot| slot.path == path);
    if let Some(slot) = slot.filter(|slot| written.contains(slot)) {
        return new(slot, path, node);
    }
    let is_inside = |slot: &usize| {
        layout
            .slots
            .get(*slot)
            .is_some_and(|slot| slot.path.len() > path.len() && slot.path.starts_with(path))
    };
    if node.kind != Kind::Record || node.repeated || !written.iter().any(is_inside) {
        return old(path, node);
    }
    let fields: Vec<String> = node
        .fields
        .iter()
        .map(|field| {
            let mut inner = path.to_vec();
            inner.push(field.name.clone());
            format!("{} AS {}", composed(layout, field, &inner, written, new, old), quoted(&field.name))
        })
        .collect();
    format!("STRUCT({})", fields.join(", "))
}

/// No value, of a column's type.
fn nothing(node: &Node) -> String {
    if node.repeated {
        return "NULL".to_owned();
    }
    match node.kind {
        Kind::Record => {
            let fields: Vec<String> = node
                .fields
                .iter()
                .map(|field| format!("{} AS {}", nothing(field), quoted(&field.name)))
                .collect();
            format!("STRUCT({})", fields.join(", "))
        }
        kind => format!("CAST(NULL AS {})", kind.word()),
    }
}

fn parameter(
    layout: &Layout,
    guarded: &BTreeSet<usize>,
    written: &BTreeSet<usize>,
    unsteady: &BTreeSet<usize>,
    lines: &[Line<'_>],
) -> Json {
    let nodes: BTreeMap<usize, &Node> =
        written.iter().filter_map(|slot| Some((*slot, layout.node(*slot)?))).collect();
    let mut fields: Vec<(String, Json)> = vec![("op".into(), string_type())];
    fields.extend((0..layout.key.len()).map(|at| (format!("k{at}"), string_type())));
    fields.extend(guarded.iter().map(|slot| (format!("g{slot}"), string_type())));
    fields.extend(unsteady.iter().map(|slot| (format!("f{slot}"), string_type())));
    fields.extend(nodes.iter().map(|(slot, node)| (format!("v{slot}"), parameter_type(node))));
    let none = Columns::new();
    let rows = lines
        .iter()
        .map(|line| {
            let (op, columns) = match line.act {
                Act::Insert(columns) => ("I", columns),
                Act::Update(columns) => ("U", columns),
                Act::Delete => ("D", &none),
            };
            let mut values = Map::new();
            values.insert("op".into(), json!({ "value": op }));
            for (at, part) in line.key.iter().enumerate() {
                values.insert(format!("k{at}"), json!({ "value": part }));
            }
            for slot in guarded {
                let seen = line.seen.get(*slot).cloned().flatten();
                values.insert(format!("g{slot}"), json!({ "value": seen }));
            }
            for slot in unsteady {
                let flag = if columns.contains_key(slot) { "y" } else { "n" };
                values.insert(format!("f{slot}"), json!({ "value": flag }));
            }
            for (slot, node) in &nodes {
                let value = columns.get(slot).unwrap_or(&super::kind::Written::Null);
                values.insert(format!("v{slot}"), value.parameter(node));
            }
            json!({ "structValues": values })
        })
        .collect();
    structs("rows", &fields, rows)
}
