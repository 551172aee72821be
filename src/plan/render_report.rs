//! What a pass did, as people read it.

use std::fmt::Write as _;

use crate::diff::Standing;
use crate::model::StoreName;
use crate::reconcile::{Report, Trouble};

use super::render::{Paint, address, counted};
use super::render_left::paused;
use super::render_value::clean;

/// Records named under a heading unless everything is asked for.
const SHOWN: usize = 50;

/// How a report is laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportOptions {
    /// Whether to use terminal colours.
    pub color: bool,
    /// Whether to name every record and show the books.
    pub verbose: bool,
    /// Whether a part of the plan was refused, which was said with the plan.
    pub refused: bool,
}

/// A report as text.
pub fn render_report(report: &Report, options: &ReportOptions) -> String {
    let paint = Paint(options.color);
    let mut text = String::new();
    for trip in &report.guards {
        let _ = writeln!(text, "{}", paint.red(&format!("Error: {}", clean(&trip.to_string()))));
    }
    let limit = if options.verbose { usize::MAX } else { SHOWN };
    troubles(&mut text, "skipped (left for the next pass)", &report.skipped, limit);
    troubles(&mut text, "failed", &report.failed, limit);
    troubles(&mut text, "of unknown outcome (the next pass finds out)", &report.unknown, limit);
    if report.stopped {
        text.push_str(
            "Stopped before the end, after the batch in flight; what is left is for the next pass.\n",
        );
    }
    for line in paused(&report.books) {
        let _ = writeln!(text, "{}", clean(&line));
    }
    if report.conflicts_settled + report.conflicts_waiting > 0 {
        let _ = writeln!(
            text,
            "Conflicts: {} settled, {} waiting for a person (`trueup conflicts list`).",
            report.conflicts_settled, report.conflicts_waiting
        );
    }
    let clean = report.is_clean() && report.guards.is_empty() && !options.refused;
    let verdict = if clean { paint.green("Apply complete!") } else { paint.red("Apply incomplete!") };
    let done = report.applied;
    let _ = writeln!(
        text,
        "{verdict} Records: {} added, {} changed, {} destroyed.",
        done.create, done.update, done.delete
    );
    if done.metadata > 0 {
        let _ = writeln!(text, "Metadata only: {}.", counted(done.metadata, "row"));
    }
    let left = [("skipped", &report.skipped), ("failed", &report.failed), ("unknown", &report.unknown)];
    let left: Vec<String> = left
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(word, list)| format!("{} {word}", list.len()))
        .collect();
    if !left.is_empty() {
        let _ = writeln!(text, "Not written: {}.", left.join(", "));
    }
    if !report.unreadable.is_empty() {
        let stores: Vec<&str> = report.unreadable.keys().map(StoreName::as_str).collect();
        let _ = writeln!(text, "Could not be read, so that their records wait: {}.", stores.join(", "));
    }
    if options.verbose {
        text.push('\n');
        text.push_str(&render_books(&report.books));
    }
    text
}

fn troubles(text: &mut String, what: &str, list: &[Trouble], limit: usize) {
    if list.is_empty() {
        return;
    }
    let _ = writeln!(text, "{} {what}:", counted(list.len() as u64, "write"));
    for trouble in list.iter().take(limit) {
        let _ = writeln!(text, "  {}: {}", address(&trouble.store, &trouble.record), clean(&trouble.message));
    }
    if list.len() > limit {
        let _ = writeln!(text, "  ... and {} more (--verbose shows them)", list.len() - limit);
    }
    text.push('\n');
}

/// All standings, in the order of the books.
pub const STANDINGS: [Standing; 10] = [
    Standing::InSync,
    Standing::Written,
    Standing::MetadataOnly,
    Standing::Held,
    Standing::Rejected,
    Standing::Pending,
    Standing::Skipped,
    Standing::Failed,
    Standing::Paused,
    Standing::Unknown,
];

/// The word of a standing in JSON and metrics.
pub fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::InSync => "in_sync",
        Standing::Written => "written",
        Standing::MetadataOnly => "metadata_only",
        Standing::Held => "held",
        Standing::Rejected => "rejected",
        Standing::Pending => "pending",
        Standing::Skipped => "skipped",
        Standing::Failed => "failed",
        Standing::Paused => "paused",
        Standing::Unknown => "unknown",
    }
}

/// Where every record stands, as a table: a row for every entity and store, and the columns that any of them needs.
pub fn render_books(books: &super::BooksTable) -> String {
    let rows = || {
        books
            .iter()
            .flat_map(|(entity, stores)| stores.iter().map(move |(store, books)| (entity, store, books)))
    };
    let columns: Vec<Standing> = STANDINGS
        .into_iter()
        .filter(|standing| {
            *standing == Standing::InSync || rows().any(|(_, _, books)| books.count(*standing) > 0)
        })
        .collect();
    let mut table =
        vec![vec!["ENTITY".to_owned(), "STORE".to_owned(), "SEEN".to_owned(), "DRIFT".to_owned()]];
    table[0].extend(columns.iter().map(|standing| standing_word(*standing).replace('_', " ").to_uppercase()));
    for (entity, store, books) in rows() {
        let mut row =
            vec![entity.to_string(), store.to_string(), books.seen.to_string(), books.drifting().to_string()];
        row.extend(columns.iter().map(|standing| books.count(*standing).to_string()));
        table.push(row);
    }
    let mut text = render_table(&table, 2);
    for (entity, store, books) in rows().filter(|(_, _, books)| !books.balance()) {
        let _ = writeln!(text, "The books of {entity} in {store} do not balance: {} seen.", books.seen);
    }
    text
}

/// Columns padded to their widest cell; the first `left` to the left, the others (numbers) to the right.
pub fn render_table(table: &[Vec<String>], left: usize) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        table.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in table {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(
                |(at, (cell, width))| {
                    if at < left { format!("{cell:width$}") } else { format!("{cell:>width$}") }
                },
            )
            .collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}
