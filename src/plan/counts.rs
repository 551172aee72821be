//! Counting for the books of a plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::diff::{Drift, Outline};
use crate::model::{ConflictId, EntityName, StoreName};

use super::Books;
use super::inputs::PlanInputs;

/// Open conflicts of the ledger that this plan does not end.
pub(super) fn still_open(inputs: &PlanInputs, entity: &EntityName, closed: &BTreeSet<ConflictId>) -> u64 {
    let of_entity = inputs.conflicts.iter().filter(|(id, _)| &id.entity == entity);
    let open = of_entity.flat_map(|(_, conflicts)| conflicts).filter(|conflict| conflict.status.is_open());
    open.filter(|conflict| !closed.contains(&conflict.id)).count() as u64
}

/// Adds a record's sides to the books, or takes them out again.
pub(super) fn count(books: &mut BTreeMap<StoreName, Books>, sides: &[Outline], by: i64) {
    let count = |number: &mut u64| *number = number.saturating_add_signed(by);
    for side in sides {
        let books = match books.get_mut(&side.store) {
            Some(books) => books,
            None => books.entry(side.store.clone()).or_default(),
        };
        count(&mut books.seen);
        count(books.standing.entry(side.standing).or_default());
        match &side.drift {
            None => {}
            Some(Drift::Missing) => count(&mut books.missing),
            Some(Drift::Extra) => count(&mut books.extra),
            Some(Drift::Changed(fields)) => {
                count(&mut books.changed);
                for field in fields {
                    count(books.fields.entry(field.clone()).or_default());
                }
            }
        }
        if by < 0 {
            books.standing.retain(|_, count| *count > 0);
            books.fields.retain(|_, count| *count > 0);
        }
    }
}
