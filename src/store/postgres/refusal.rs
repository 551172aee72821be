//! Which fields a refused write may have been refused for: when a value does not fit its column, the server says only what kind of value it
//! was, and not in which column.

use crate::model::{ErrorKind, Mapped, StoreError};

use super::PostgresStore;
use super::error::{code, delete_error, names_a_column, store_error};
use super::kind::Kind;
use super::layout::{ColumnInfo, Layout};
use super::write::Act;

/// So many fields are named at most.
const NAMED: usize = 5;

/// A refusal of one write, with the fields and parts of the key that it may be about.
pub(super) fn told(
    store: &PostgresStore,
    mapped: &Mapped,
    layout: &Layout,
    act: &Act,
    error: &sqlx::Error,
) -> StoreError {
    let (Act::Insert(columns) | Act::Update(_, columns)) = act else {
        return delete_error(&store.name, error);
    };
    let told = store_error(&store.name, error);
    let code = code(error).unwrap_or_default();
    let of_a_value = code.starts_with("22") || code == "23514";
    if told.kind != ErrorKind::Invalid || !of_a_value || names_a_column(error) {
        return told;
    }
    let keys = layout.key.iter().zip(&mapped.entity.key).map(|(at, part)| (at, part.name.as_str()));
    let fields = layout.places.fields.iter().filter_map(|field| {
        Some((layout.slots.get(field.place.slot)?, mapped.entity.field(field.id).name.as_str()))
    });
    let written = keys.chain(fields).filter(|(at, _)| {
        let column = columns.get(*at).and_then(Option::as_ref).and(layout.info.columns.get(**at));
        column.is_some_and(|column| may_be(code, column))
    });
    let mut names: Vec<String> = written.map(|(_, name)| format!("`{}.{name}`", layout.title)).collect();
    names.dedup();
    let which = match names.as_slice() {
        [] => return told,
        [one] => one.clone(),
        some if some.len() <= NAMED => format!("one of {}", some.join(", ")),
        _ => return told,
    };
    StoreError { message: format!("{which}: {}", told.message), ..told }
}

/// Whether a column can refuse a value in this way.
fn may_be(code: &str, column: &ColumnInfo) -> bool {
    match code {
        // Too long, or a number beyond its digits.
        "22001" => column.fitted,
        "22003" => !matches!(column.kind, Kind::Text),
        // No number, time or word of the column's type.
        "22P02" | "22007" | "22008" => !matches!(column.kind, Kind::Text) && !column.fitted,
        _ => true,
    }
}
