//! Prompts for language models: a record and what belongs to it, put into words by a template.
//!
//! Templates are the user's own and trusted; what stands in stores is not. Every text of a record is made harmless before a template
//! sees it ([`harmless`]), so that no value can begin a line, a heading or a fence of its own, whatever the template does with it.
//! A line that ends in `{{ rank(3) }}` may be left out where a budget asks for it, those of the highest rank first.

mod text;

use std::fmt;

use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};
use serde::Serialize;

use crate::template::value_of;

pub use text::{harmless, tokens};

/// The template that is taken where none is named.
pub const TEMPLATE: &str = include_str!("../../manifests/prompts/contact.md.jinja");

/// The field that keeps a record out of prompts when it is true.
pub const PRIVATE_FIELD: &str = "is_private";

/// What marks a line's rank and name; harmless texts have none of these.
const OPEN: char = '\u{1}';
const MIDDLE: char = '\u{2}';
const CLOSE: char = '\u{3}';

/// How large a prompt may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// As large as it is.
    Unlimited,
    /// At most so many bytes of UTF-8.
    Bytes(usize),
    /// At most so many tokens, by [`tokens`]'s estimate.
    Tokens(usize),
}

impl Budget {
    fn unit(self) -> &'static str {
        if matches!(self, Self::Tokens(_)) { "tokens" } else { "bytes" }
    }

    fn limit(self) -> usize {
        match self {
            Self::Unlimited => usize::MAX,
            Self::Bytes(limit) | Self::Tokens(limit) => limit,
        }
    }

    fn size(self, text: &str) -> usize {
        if matches!(self, Self::Tokens(_)) { tokens(text) } else { text.len() }
    }
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// All of it.
    pub text: String,
    /// Its size in bytes.
    pub bytes: usize,
    /// Its size in tokens, estimated.
    pub tokens: usize,
    /// The names of the lines that were left out, as the template calls them, in the order that they left.
    pub left_out: Vec<String>,
}

/// Why there is no prompt. The text never shows a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.hint)
    }
}
impl std::error::Error for PromptError {}

/// Puts a record into the words of a template. The record is an object: its fields by name, and what belongs to it by entity. The
/// template sees each of them as a variable, all as `record`, and the base prompt, to which nothing is done, as `base`.
///
/// # Errors
/// When the template has a mistake, or the budget is too small for the base prompt and the lines without a rank.
pub fn build(
    template: &str,
    base: &str,
    record: &serde_json::Value,
    budget: Budget,
) -> Result<Prompt, PromptError> {
    let rendered = render(template, base, record)?;
    let mut lines: Vec<Line> = rendered.split('\n').map(Line::of).collect();
    let mut left_out = Vec::new();
    loop {
        let kept = lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
        let size = budget.size(&kept);
        if size <= budget.limit() {
            let (bytes, tokens) = (kept.len(), tokens(&kept));
            return Ok(Prompt { text: kept, bytes, tokens, left_out });
        }
        let least = lines.iter().enumerate().filter_map(|(at, line)| Some((line.rank?, at))).max();
        let Some((_, at)) = least else {
            let (unit, limit) = (budget.unit(), budget.limit());
            return Err(PromptError {
                message: format!(
                    "what may not be left out of the prompt takes {size} {unit}, and the budget is {limit}"
                ),
                hint: "allow more, or shorten the base prompt",
            });
        };
        let line = lines.remove(at);
        left_out.push(line.name.unwrap_or_else(|| format!("a line of rank {}", line.rank.unwrap_or(0))));
    }
}

/// Whether a template names the record, one of its fields, or what belongs to it: one made for another kind of record may not.
pub fn speaks_of(template: &str, record: &serde_json::Value) -> bool {
    let environment = Environment::new();
    // A template with a mistake is told of when it is rendered.
    let Ok(template) = environment.template_from_str(template) else { return true };
    let known = |name: &String| name == "record" || record.get(name).is_some();
    template.undeclared_variables(false).iter().any(known)
}

/// A rendered line: what it says, and how dear it is.
struct Line {
    text: String,
    rank: Option<u32>,
    name: Option<String>,
}

impl Line {
    /// Reads and removes the marks in a line. The most important one counts.
    fn of(line: &str) -> Self {
        let mut read = Self { text: String::new(), rank: None, name: None };
        let mut rest = line;
        while let Some((before, marked)) = rest.split_once(OPEN) {
            read.text.push_str(before);
            let (mark, after) = marked.split_once(CLOSE).unwrap_or((marked, ""));
            let (rank, name) = mark.split_once(MIDDLE).unwrap_or((mark, ""));
            if let Ok(rank) = rank.parse::<u32>()
                && read.rank.is_none_or(|known| rank < known)
            {
                read.rank = Some(rank);
                read.name = Some(name.to_owned()).filter(|name| !name.is_empty());
            }
            rest = after;
        }
        read.text.push_str(rest);
        read
    }
}

fn render(template: &str, base: &str, record: &serde_json::Value) -> Result<String, PromptError> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(true);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.add_function("rank", |rank: u32, name: Option<String>| {
        format!("{OPEN}{rank}{MIDDLE}{}{CLOSE}", harmless(&name.unwrap_or_default()))
    });
    let marks = [OPEN, MIDDLE, CLOSE];
    let variables = value_of(record, &harmless);
    let rendered = environment.template_from_str(&template.replace(marks, "")).and_then(|template| {
        let all = context! { base => base.replace(marks, ""), record => variables.clone(), ..variables };
        template.render(all)
    });
    rendered.map_err(|error| {
        let line = error.line().map_or(String::new(), |line| format!(" in line {line}"));
        PromptError {
            message: format!("the template has a mistake{line}: {}", mistake(error.kind())),
            hint: "correct it; the README shows what templates are made of",
        }
    })
}

/// What is wrong, without the details, which may show values.
fn mistake(kind: ErrorKind) -> String {
    kind.to_string()
}

#[cfg(test)]
mod tests;
