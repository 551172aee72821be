//! What a plan or pass leaves as it is although it differs, store by store, and why.

use crate::diff::Standing;

use super::render::counted;
use super::{BooksTable, Plan};

/// Records that wait for a pause to end, a line for every entity and store.
pub(super) fn paused(books: &BooksTable) -> Vec<String> {
    lines(
        books,
        Standing::Paused,
        "not written: writing there, or to the canonical store, is paused (`trueup status` says by whom and why)",
    )
}

/// Records that differ in stores that are only read.
fn only_read(books: &BooksTable) -> Vec<String> {
    lines(books, Standing::Skipped, "not as it should be: the store is `read_only`")
}

fn lines(books: &BooksTable, standing: Standing, why: &str) -> Vec<String> {
    let places = books.iter().flat_map(|(entity, stores)| stores.iter().map(move |store| (entity, store)));
    let counts = places.map(|(entity, (store, books))| (entity, store, books.count(standing)));
    let counts = counts.filter(|(.., count)| *count > 0);
    counts
        .map(|(entity, store, count)| format!("{store}.{entity}: {} {why}", counted(count, "record")))
        .collect()
}

/// All that a plan leaves as it is.
pub(super) fn left(plan: &Plan) -> Vec<String> {
    let mut lines = paused(&plan.books);
    lines.extend(only_read(&plan.books));
    lines
}

/// What the plan is not about, where it is not about everything.
pub(super) fn scope(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if !plan.targets.is_empty() {
        let targets: Vec<String> = plan.targets.iter().map(ToString::to_string).collect();
        lines.push(format!("Only the targets were looked at: {}.", targets.join(", ")));
    }
    lines.extend(
        plan.unmet
            .iter()
            .map(|target| format!("Warning: no store has a record that --target {target} names.")),
    );
    lines
}
