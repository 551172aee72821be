//! An explained record as people read it.

use std::fmt::Write as _;

use crate::diff::{ActionKind, Standing};
use crate::model::{Cell, Value, Version};
use crate::resolve::{ClaimEnd, Fate};

use super::super::render::{Paint, RenderOptions, counted};
use super::super::render_report::{render_table, standing_word};
use super::super::render_value::{self as value, Line, clean};
use super::super::render_words::{because, origin_words};
use super::{Explanation, InField, InStore};

/// An explained record as text.
pub fn explanation_page(of: &Explanation, options: &RenderOptions) -> String {
    let paint = Paint(options.color);
    let mut text = format!("{}: {}\n\n", paint.bold(&clean(&of.record.to_string())), fate(of));
    let heading = ["STORE", "ROW", "VERSION", "LAST CHANGED", "STANDING"].map(str::to_owned).to_vec();
    let rows = of.stores.iter().map(store_row);
    text += &render_table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>(), 5);
    if of.stores.iter().any(|side| side.there == Some(true)) {
        text.push('\n');
        text += &Fields::of(of, paint, options.verbose).lines(of);
    }
    if !of.notices.is_empty() {
        text.push('\n');
    }
    for notice in &of.notices {
        let store = notice.store.as_ref().map_or(String::new(), |store| format!("{store}: "));
        let _ = writeln!(text, "{} {}", paint.yellow("!"), clean(&format!("{store}{}", notice.message)));
    }
    text
}

/// What becomes of the record as a whole.
fn fate(of: &Explanation) -> String {
    match of.fate {
        Fate::Alive => {
            let mut text = format!("version {}", of.version);
            if let Some(by) = &of.last_updated_by {
                let _ = write!(text, ", last changed in {}", clean(by));
            }
            if let Some(at) = of.last_updated {
                let _ = write!(text, " at {at}");
            }
            text
        }
        Fate::Dead => "to be deleted wherever it still is".to_owned(),
        Fate::Gone => "in no store".to_owned(),
        Fate::Left(_) => "left as it is for now".to_owned(),
    }
}

fn store_row(side: &InStore) -> Vec<String> {
    let name = if side.canonical { format!("{} (canonical)", side.store) } else { side.store.to_string() };
    let row = match side.there {
        Some(true) => "there",
        Some(false) => "none",
        None => "unknown",
    };
    let version = side.meta.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
    let mut changed =
        side.meta.last_updated.or(side.updated).map_or_else(|| "-".to_owned(), |at| at.to_string());
    if let Some(by) = &side.meta.last_updated_by {
        let _ = write!(changed, " in {}", clean(by));
    }
    vec![name, row.to_owned(), version, changed, standing(side)]
}

/// Where the record stands in a store, and what would be written there.
fn standing(side: &InStore) -> String {
    if side.remembered {
        return "as the last pass left it".to_owned();
    }
    let Some(action) = &side.action else {
        return side.standing.map_or_else(
            || "-".to_owned(),
            |standing| match standing {
                Standing::InSync => "in sync".to_owned(),
                other => standing_word(other).replace('_', " "),
            },
        );
    };
    let what = match action.kind {
        ActionKind::Create => "to be created",
        ActionKind::Update => "to be updated",
        ActionKind::Delete => "to be deleted",
        ActionKind::Metadata | ActionKind::Bookkeeping => "to get its metadata brought up",
    };
    format!("{what} {}", because(action))
}

/// How the fields are laid out.
struct Fields {
    paint: Paint,
    /// Whether everything is shown, empty fields and long values whole.
    all: bool,
    /// How wide the longest name is.
    width: usize,
    /// The version of the fields that nobody changed.
    first: Option<Version>,
}

impl Fields {
    fn of(of: &Explanation, paint: Paint, all: bool) -> Self {
        let mut page =
            Self { paint, all, width: 0, first: of.fields.iter().filter_map(|field| field.since).min() };
        let shown = of.fields.iter().filter(|field| page.shows(field));
        page.width = shown.map(|field| field.field.as_str().len()).max().unwrap_or(0);
        page
    }

    /// Whether there is something to say of a field.
    fn shows(&self, field: &InField) -> bool {
        let holds = field.value.as_ref().is_some_and(|value| !value.is_null());
        self.all || field.held || holds || !field.elsewhere.is_empty()
    }

    fn lines(&self, of: &Explanation) -> String {
        let mut text = String::new();
        let (shown, empty): (Vec<_>, Vec<_>) = of.fields.iter().partition(|field| self.shows(field));
        for field in shown {
            self.value(&mut text, field);
            self.elsewhere(&mut text, field);
        }
        if !empty.is_empty() {
            let note = format!("# ({} hidden)", counted(empty.len() as u64, "empty field"));
            let _ = writeln!(text, "  {}", self.paint.dim(&note));
        }
        text
    }

    /// What a field should be, where that comes from, and since when it is so where it was changed.
    fn value(&self, text: &mut String, field: &InField) {
        let changed = || field.since.filter(|since| self.first.is_some_and(|first| *since > first));
        let since = || changed().map(|version| format!("since version {version}"));
        let note = field.origin.as_ref().map(origin_words).or_else(since);
        let note = note.map_or_else(String::new, |note| self.paint.dim(&format!("  # {note}")));
        let name = format!("{:1$}", field.field.as_str(), self.width);
        let _ = match &field.value {
            _ if field.held => {
                writeln!(text, "  {name} {}", self.paint.yellow("is held until a person decides"))
            }
            None => writeln!(text, "  {name}"),
            Some(_) if field.sensitive => writeln!(text, "  {name} = (sensitive value){note}"),
            Some(short) if value::is_short(short) => {
                writeln!(text, "  {name} = {}{note}", value::inline(short))
            }
            Some(long) => writeln!(text, "  {name} ={note}\n{}", gutter(long, self.all, "      ")),
        };
    }

    /// What stores hold instead.
    fn elsewhere(&self, text: &mut String, field: &InField) {
        for (store, cell, end) in &field.elsewhere {
            let end = self.paint.dim(match end {
                Some(ClaimEnd::Won) => "  # an edit that is part of it",
                Some(ClaimEnd::Lost) => "  # an edit that lost; kept in sync_conflicts",
                Some(ClaimEnd::Rejected) => "  # an edit that breaks a rule; stays there",
                Some(ClaimEnd::Held) | None => "",
            });
            let _ = match cell {
                _ if field.sensitive => writeln!(text, "      {store} has another one{end}"),
                Cell::Value(long) if !value::is_short(long) => {
                    writeln!(text, "      {store} has{end}\n{}", gutter(long, self.all, "          "))
                }
                cell => writeln!(text, "      {store} has {}{end}", value::inline_cell(cell)),
            };
        }
    }
}

/// The lines of a long value, behind a gutter that no value can write itself.
fn gutter(long: &Value, all: bool, indent: &str) -> String {
    let lines = value::whole(long, all, Line::Same).into_iter().map(|line| match line {
        Line::Same(line) | Line::Old(line) | Line::New(line) => line,
        Line::Gap(count) => format!("# ({} not shown)", counted(count as u64, "line")),
    });
    lines.map(|line| format!("{indent}| {line}").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
