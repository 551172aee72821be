//! Diagnostics as text for people: the place, the line, what is wrong underlined, and what to do.

use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Source, secrets};
use crate::model::{Diagnostic, Diagnostics, Place, Severity};

/// The messages as text, each with the line that it is about, and at the end how many there are. `colour` adds terminal
/// escapes. Values that may be secrets are starred out of the lines shown.
pub fn render(diagnostics: &[Diagnostic], sources: &[Source], colour: bool) -> String {
    let masked: Vec<Source> = sources
        .iter()
        .map(|source| Source { file: source.file.clone(), text: secrets::mask(&source.text) })
        .collect();
    // Without a terminal the output goes into logs and files, whose readers may have no box-drawing font.
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in diagnostics {
        let source = diagnostic.place.as_ref().and_then(|place| {
            masked.iter().find(|source| source.file == place.file).map(|source| (place, source))
        });
        text.push_str(&renderer.render(&[group(diagnostic, source)]));
        text.push_str("\n\n");
    }
    text.push_str(&summary(diagnostics));
    text
}

fn group<'a>(diagnostic: &'a Diagnostic, source: Option<(&'a Place, &'a Source)>) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str());
    let mut group = match source {
        Some((place, source)) => {
            let span = line_span(&source.text, place.span);
            title.element(
                Snippet::source(source.text.as_str())
                    .path(place.file.as_str())
                    .annotation(AnnotationKind::Primary.span(span)),
            )
        }
        None => Group::with_title(title),
    };
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    group
}

/// A span cut to its first line and to whole characters.
fn line_span(text: &str, (from, to): (usize, usize)) -> std::ops::Range<usize> {
    let whole = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let from = whole(from);
    let to = whole(to).max(from);
    let line = text[from..to].lines().next().map_or(0, str::len);
    from..from + line
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    let count = |severity| diagnostics.iter().filter(|found| found.severity == severity).count();
    let mut text = String::new();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let plural = |number: usize, word: &str| {
        if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
    };
    match (errors, warnings) {
        (0, 0) => {}
        (0, warnings) => _ = writeln!(text, "{}", plural(warnings, "warning")),
        (errors, 0) => _ = writeln!(text, "{}", plural(errors, "error")),
        (errors, warnings) => {
            _ = writeln!(text, "{}, {}", plural(errors, "error"), plural(warnings, "warning"));
        }
    }
    text
}

/// The messages a line each, for logs and other programs: `file:line:column: error: message (hint)`.
pub fn render_lines(diagnostics: &Diagnostics) -> String {
    let mut text = String::new();
    for found in diagnostics {
        if let Some(Place { file, line, column, .. }) = &found.place {
            let _ = write!(text, "{file}:{line}:{column}: ");
        }
        let word = if found.severity == Severity::Error { "error" } else { "warning" };
        let _ = write!(text, "{word}: {}", found.message);
        if let Some(hint) = &found.hint {
            let _ = write!(text, " ({hint})");
        }
        text.push('\n');
    }
    text
}
