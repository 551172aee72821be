//! Values on a page: quoted, escaped, cut short, or as a line diff.
//!
//! Nothing that stands in a record can look like a line of the plan: control and formatting characters are escaped, and texts of
//! several lines stand behind a gutter.

use std::fmt::Write as _;

use similar::{ChangeTag, TextDiff};

use crate::model::{Cell, Value};

/// Values with more characters than this leave the one-line form: with two of them and the field's name a line stays near the
/// width of a terminal.
const SHORT: usize = 60;
/// Unchanged lines shown around a change.
const CONTEXT: usize = 2;
/// Lines that a long value may take unless everything is asked for.
const LINES: usize = 12;

/// A text without characters that a terminal acts on: control characters, and those that change the direction or visibility of
/// what follows, are written as escapes.
pub fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for char in text.chars() {
        if acts(char) { cleaned.extend(char.escape_unicode()) } else { cleaned.push(char) }
    }
    cleaned
}

/// JSON text in which such characters are written as JSON's own escapes. They can stand only inside its strings, apart from the line
/// ends of its layout.
pub fn clean_json(json: &str) -> String {
    let mut cleaned = String::with_capacity(json.len());
    for char in json.chars() {
        if char == '\n' || !acts(char) {
            cleaned.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            let _ = write!(cleaned, "\\u{unit:04x}"); // Writing to a String cannot fail.
        }
    }
    cleaned
}

/// Whether a terminal would act on a character instead of showing it.
fn acts(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(char, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A value in one line: text quoted, everything else bare.
pub(super) fn inline(value: &Value) -> String {
    clean(&value.to_string())
}

/// What stands in a store, in one line.
pub(super) fn inline_cell(cell: &Cell) -> String {
    match cell {
        Cell::Value(value) => inline(value),
        Cell::Unreadable(what) => format!("(unreadable: {})", clean(&what.why)),
    }
}

/// Whether a value fits in a line beside others.
pub(super) fn is_short(value: &Value) -> bool {
    !matches!(value, Value::Text(text) if text.contains('\n')) && inline(value).chars().count() <= SHORT
}

/// A value as lines: JSON laid out, text by its lines and sentences.
fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::Json(json) => {
            let text = serde_json::to_string_pretty(json.as_value()).unwrap_or_default();
            text.lines().map(clean).collect()
        }
        Value::Text(text) => text.split('\n').flat_map(sentences).map(|line| clean(&line)).collect(),
        Value::List(items) => {
            items.iter().map(|item| clean(&serde_json::Value::from(item.as_str()).to_string())).collect()
        }
        other => vec![inline(other)],
    }
}

/// A long line in pieces that end where sentences do, so that a word put in moves no more than its own piece.
fn sentences(line: &str) -> Vec<String> {
    if line.chars().count() <= 2 * SHORT {
        return vec![line.to_owned()];
    }
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for word in line.split_inclusive(' ') {
        piece.push_str(word);
        let ends = word.trim_end().ends_with(['.', ';', '!', '?']) && piece.len() > SHORT / 2;
        if ends || piece.len() > 2 * SHORT {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// A line of a diff.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Unchanged.
    Same(String),
    /// Goes.
    Old(String),
    /// Comes.
    New(String),
    /// This many lines are left out.
    Gap(usize),
}

/// Two values as a line diff with a little context.
pub(super) fn diff(before: &Value, after: &Value) -> Vec<Line> {
    let (old, new) = (lines(before), lines(after));
    let (old, new): (Vec<&str>, Vec<&str>) =
        (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
    let diff = TextDiff::from_slices(&old, &new);
    let mut page = Vec::new();
    let mut shown_to = 0;
    for group in diff.grouped_ops(CONTEXT) {
        let starts = group.first().map_or(0, |op| op.old_range().start);
        if starts > shown_to {
            page.push(Line::Gap(starts - shown_to));
        }
        for op in &group {
            shown_to = op.old_range().end;
            page.extend(diff.iter_changes(op).map(|change| {
                let text = change.value().to_owned();
                match change.tag() {
                    ChangeTag::Equal => Line::Same(text),
                    ChangeTag::Delete => Line::Old(text),
                    ChangeTag::Insert => Line::New(text),
                }
            }));
        }
    }
    if old.len() > shown_to {
        page.push(Line::Gap(old.len() - shown_to));
    }
    page
}

/// A long value as lines that come or go, cut short unless all is asked for.
pub(super) fn whole(value: &Value, all: bool, side: fn(String) -> Line) -> Vec<Line> {
    let mut lines = lines(value);
    let more = if all { 0 } else { lines.len().saturating_sub(LINES) };
    lines.truncate(lines.len() - more);
    let mut page: Vec<Line> = lines.into_iter().map(side).collect();
    if more > 0 {
        page.push(Line::Gap(more));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_reaches_the_terminal_that_acts_on_it() {
        let hostile = "a\u{1b}[2Jb\rc\nd\u{7f}e\u{9b}f\u{202e}g\u{2066}h\u{200b}";
        assert_eq!(clean(hostile), r"a\u{1b}[2Jb\u{d}c\u{a}d\u{7f}e\u{9b}f\u{202e}g\u{2066}h\u{200b}");
        assert_eq!(clean("Zoë Österåker 東京"), "Zoë Österåker 東京");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"a\u{202e}": ["\u{9b}31m\n", "\u{e0001}", "ü"]});
        let text = clean_json(&format!("{value:#}"));
        assert!(text.chars().all(|char| char == '\n' || !acts(char)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_diff_leaves_out_what_is_far_from_the_change() {
        let text = |word: &str| {
            Value::text(
                (1..=9)
                    .map(|n| if n == 5 { word.to_owned() } else { n.to_string() })
                    .collect::<Vec<_>>()
                    .join("\n"),
            )
        };
        let page = diff(&text("five"), &text("fünf"));
        assert_eq!(page.first(), Some(&Line::Gap(2)));
        assert_eq!(page.last(), Some(&Line::Gap(2)));
        assert_eq!(page.len(), 8);
    }
}
