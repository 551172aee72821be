//! What every store checks alike before it writes.

use std::collections::BTreeSet;

use crate::model::{
    Batch, ErrorKind, FieldType, Fields, Guard, Mapped, RecordKey, Row, StoreError, StoreName, Value, Write,
    WriteOp, canonical_integer,
};

/// Whether a row still is what a guard says. A field that the row lacks (its column is gone) is not as it was read.
pub fn guard_holds(guard: &Guard, row: &Row) -> bool {
    guard.meta.same_evidence(&row.meta)
        && guard.fields.iter().all(|(id, cell)| row.fields.get(id) == Some(cell))
}

/// The keys that more than one write of a batch names.
pub(super) fn repeated_keys(batch: &Batch) -> BTreeSet<&RecordKey> {
    let mut seen = BTreeSet::new();
    batch.writes.iter().map(|write| &write.key).filter(|key| !seen.insert(*key)).collect()
}

/// What is said of a write that a table took without an error, and after which it is not as it was to be.
pub(super) fn came_to_nothing(store: &StoreName, title: &str, write: &Write) -> StoreError {
    let key = &write.key;
    let message = match write.op {
        WriteOp::Delete { .. } => format!("deleting {key} from `{title}` came to nothing"),
        _ => format!("writing {key} to `{title}` came to nothing"),
    };
    StoreError::new(ErrorKind::Corrupt, store, message).hint(
        "a trigger or rule of the table does something else with the row, or a column of the key makes another key of it",
    )
}

/// Refuses to write where the manifest says not to.
pub(super) fn may_write(store: &StoreName, read_only: bool) -> Result<(), StoreError> {
    if !read_only {
        return Ok(());
    }
    let refused = StoreError::new(ErrorKind::Unauthorised, store, "the store is only read, never written");
    Err(refused.hint("the manifest says so: `read_only: true`"))
}

/// Refuses a write that no store may take, whatever it could do with it: a mistake in the plan, not in the data.
pub(super) fn check_write(
    store: &StoreName,
    mapped: &Mapped,
    write: &Write,
    repeated: &BTreeSet<&RecordKey>,
) -> Result<(), StoreError> {
    let invalid = |message: String| Err(StoreError::new(ErrorKind::Invalid, store, message));
    if repeated.contains(&write.key) {
        return invalid(format!("a batch writes {} twice", write.key));
    }
    if write.key.parts().len() != mapped.mapping.key.len() {
        return invalid(format!("the key {} has not the parts that `{}` has", write.key, mapped.name()));
    }
    for (part, text) in mapped.entity.key.iter().zip(write.key.parts()) {
        if part.ty == FieldType::Int64 && canonical_integer(text).is_none() {
            return invalid(format!("the key {} of `{}` is no int64", write.key, mapped.name()));
        }
    }
    let fields = match &write.op {
        WriteOp::Create { fields, .. } | WriteOp::Update { fields, .. } => fields,
        WriteOp::Delete { .. } => return Ok(()),
    };
    for (id, value) in fields {
        let field = mapped.entity.fields.get(id.index());
        let (Some(field), Some(place)) = (field, mapped.mapping.fields.get(id)) else {
            let name = field.map_or("?", |field| field.name.as_str());
            return invalid(format!("the field `{name}` of `{}` has no place here", mapped.name()));
        };
        if !place.direction.writes() {
            return invalid(format!("the field `{}` of `{}` is only read here", field.name, mapped.name()));
        }
        if !field.ty.admits(value) {
            return invalid(format!("`{}.{}` is given no {}", mapped.name(), field.name, field.ty.as_str()));
        }
    }
    Ok(())
}

/// An update with nothing in place of what only one record may have.
pub(super) fn letting_go(mapped: &Mapped, write: &Write) -> Option<Write> {
    let WriteOp::Update { fields, guard, .. } = &write.op else { return None };
    let unique = fields.keys().filter(|field| mapped.entity.field(**field).unique);
    let fields: Fields<Value> = unique.map(|field| (*field, Value::Null)).collect();
    let op = WriteOp::Update { fields, meta: None, updated: None, guard: guard.clone() };
    Some(Write { op, ..write.clone() })
}
