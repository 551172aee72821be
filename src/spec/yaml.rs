//! YAML into a tree in which every node knows its place, so that each later message can point at the text it is about.
//!
//! The tree holds what YAML 1.2's core schema says a scalar is, and its text as written. Aliases, merge keys and tags are
//! refused: manifests need none of them, and without aliases no small file can become a large tree.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::model::{Diagnostic, Diagnostics, Place};

/// Manifests are written by people: the shipped example has five levels.
const MAX_DEPTH: usize = 64;
/// A thousand entities of a hundred fields, described at length, stay below it.
const MAX_NODES: usize = 500_000;
/// As above, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// Where a node stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// First and last byte.
    pub(super) span: (usize, usize),
    /// Line, from 1.
    pub(super) line: usize,
    /// Column in characters, from 1.
    pub(super) column: usize,
}

impl Mark {
    /// The same as a place in a file.
    pub(super) fn in_file(self, file: &str) -> Place {
        Place { file: file.to_owned(), line: self.line, column: self.column, span: self.span }
    }
}

/// What a scalar is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text,
}

/// A node's content.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A scalar with its text, and whether it stands without quotes.
    Scalar { is: Scalar, text: String, plain: bool },
    /// A sequence.
    Seq(Vec<Node>),
    /// A map, in the order written.
    Map(Vec<(Key, Node)>),
}

/// A map's key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) mark: Mark,
}

/// A node and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) kind: Kind,
}

impl Node {
    /// The value under a key of a map, or at an index of a sequence.
    pub(super) fn get(&self, step: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(key, _)| key.text == step).map(|(_, node)| node),
            Kind::Seq(items) => items.get(step.parse::<usize>().ok()?),
            Kind::Scalar { .. } => None,
        }
    }

    /// The node at the end of a path.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, step| node.get(step))
    }

    /// The mark of the node at the end of a path, or of the nearest one above it that exists.
    pub(super) fn mark_at(&self, path: &[&str]) -> Mark {
        let mut node = self;
        let mut mark = self.head_mark();
        for step in path {
            match node.get(step) {
                Some(next) => {
                    mark = if matches!(next.kind, Kind::Scalar { .. }) {
                        next.mark
                    } else {
                        node.key_mark(step).unwrap_or(next.mark)
                    };
                    node = next;
                }
                None => break,
            }
        }
        mark
    }

    /// The mark of the key that leads to the end of a path, or of the nearest node above.
    pub(super) fn key_mark_at(&self, path: &[&str]) -> Mark {
        let Some((last, parents)) = path.split_last() else { return self.head_mark() };
        self.at(parents).and_then(|node| node.key_mark(last)).unwrap_or_else(|| self.mark_at(path))
    }

    fn key_mark(&self, step: &str) -> Option<Mark> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(key, _)| key.text == step).map(|(key, _)| key.mark),
            _ => None,
        }
    }

    /// The mark to show for the node as a whole: a map's first key rather than all of its lines.
    pub(super) fn head_mark(&self) -> Mark {
        match &self.kind {
            Kind::Map(entries) => entries.first().map_or(self.mark, |(key, _)| key.mark),
            _ => self.mark,
        }
    }

    /// A scalar's text as written.
    pub(super) fn text(&self) -> Option<&str> {
        if let Kind::Scalar { text, .. } = &self.kind { Some(text) } else { None }
    }

    /// The tree as JSON, for checking it against a schema.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as J;
        match &self.kind {
            Kind::Scalar { is, text, .. } => match is {
                Scalar::Null => J::Null,
                Scalar::Bool(flag) => (*flag).into(),
                Scalar::Int(number) => (*number).into(),
                Scalar::Float(number) => {
                    serde_json::Number::from_f64(*number).map_or_else(|| text.clone().into(), J::Number)
                }
                Scalar::Text => text.clone().into(),
            },
            Kind::Seq(items) => items.iter().map(Node::to_json).collect(),
            Kind::Map(entries) => {
                J::Object(entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect())
            }
        }
    }

    /// The tree as `serde_yaml` has it, for reading it into types.
    pub(super) fn to_yaml(&self) -> serde_yaml::Value {
        use serde_yaml::Value as Y;
        match &self.kind {
            Kind::Scalar { is, text, .. } => match is {
                Scalar::Null => Y::Null,
                Scalar::Bool(flag) => (*flag).into(),
                Scalar::Int(number) => (*number).into(),
                Scalar::Float(number) => (*number).into(),
                Scalar::Text => text.clone().into(),
            },
            Kind::Seq(items) => Y::Sequence(items.iter().map(Node::to_yaml).collect()),
            Kind::Map(entries) => Y::Mapping(
                entries.iter().map(|(key, node)| (Y::from(key.text.clone()), node.to_yaml())).collect(),
            ),
        }
    }
}

/// The documents of a file; those before a syntax error are still returned. The second value tells whether the file was
/// read to its end.
pub(super) fn parse(file: &str, text: &str, out: &mut Diagnostics) -> (Vec<Node>, bool) {
    let mut builder = Builder::new(file, text);
    let whole = match builder.run() {
        Ok(()) => true,
        Err(diagnostic) => {
            out.push(diagnostic);
            false
        }
    };
    out.append(&mut builder.problems);
    (builder.documents, whole)
}

/// A container that is being filled.
struct Open {
    mark: Mark,
    kind: OpenKind,
}

enum OpenKind {
    Seq(Vec<Node>),
    /// The entries so far, the line that each key first stood on, and a key that waits for its value.
    Map(Vec<(Key, Node)>, HashMap<String, usize>, Option<Key>),
}

struct Builder<'a> {
    file: &'a str,
    text: &'a str,
    /// The byte at which each character begins, and the end; the parser counts characters.
    bytes: Vec<usize>,
    stack: Vec<Open>,
    nodes: usize,
    documents: Vec<Node>,
    problems: Diagnostics,
}

impl<'a> Builder<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        let small = text.len() <= MAX_BYTES;
        let skipped = bom(text);
        let bytes = if small {
            text.char_indices()
                .map(|(at, _)| at)
                .filter(|at| *at >= skipped)
                .chain(std::iter::once(text.len()))
                .collect()
        } else {
            Vec::new()
        };
        Self { file, text, bytes, stack: Vec::new(), nodes: 0, documents: Vec::new(), problems: Vec::new() }
    }

    fn run(&mut self) -> Result<(), Diagnostic> {
        if self.text.len() > MAX_BYTES {
            return Err(Diagnostic::error(format!("`{}` is larger than {} MiB", self.file, MAX_BYTES >> 20))
                .at(Place { file: self.file.to_owned(), line: 1, column: 1, span: (0, 0) })
                .hint("split the manifests over several files"));
        }
        let text = &self.text[bom(self.text)..];
        for next in Parser::new_from_str(text) {
            let (event, span) = next.map_err(|error| {
                let at = self.mark(error.marker(), error.marker());
                self.syntax(at, error.info())
            })?;
            let mark = self.mark(&span.start, &span.end);
            self.event(event, mark)?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Diagnostic> {
        match event {
            Event::Alias(_) => Err(self
                .refuse(mark, "aliases (`*name`) are not supported")
                .hint("write the value out; a key that is a star is written `\"*\"`")),
            Event::Scalar(text, style, _, tag) => {
                let as_text = self.check_tag(tag.as_deref(), mark)?;
                let plain = style == ScalarStyle::Plain;
                let is = if plain && !as_text { resolve(&text) } else { Scalar::Text };
                let kind = Kind::Scalar { is, text: text.into_owned(), plain };
                self.place(Node { mark, kind })
            }
            Event::SequenceStart(_, tag) => {
                self.check_tag(tag.as_deref(), mark)?;
                self.open(mark, OpenKind::Seq(Vec::new()))
            }
            Event::MappingStart(_, tag) => {
                self.check_tag(tag.as_deref(), mark)?;
                self.open(mark, OpenKind::Map(Vec::new(), HashMap::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(mark),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    /// Whether the tag says that the scalar is text; every other tag is refused.
    fn check_tag(&self, tag: Option<&saphyr_parser::Tag>, mark: Mark) -> Result<bool, Diagnostic> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.suffix == "str" && tag.is_yaml_core_schema() => Ok(true),
            Some(_) => Err(self.refuse(mark, "tags (`!name`) are not supported").hint("leave the tag out")),
        }
    }

    fn open(&mut self, mark: Mark, kind: OpenKind) -> Result<(), Diagnostic> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.refuse(mark, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.stack.push(Open { mark, kind });
        Ok(())
    }

    fn close(&mut self, end: Mark) -> Result<(), Diagnostic> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let kind = match open.kind {
            OpenKind::Seq(items) => Kind::Seq(items),
            OpenKind::Map(entries, ..) => Kind::Map(entries),
        };
        let mark = Mark { span: (open.mark.span.0, end.span.1.max(open.mark.span.0)), ..open.mark };
        self.place(Node { mark, kind })
    }

    /// Puts a finished node where it belongs: as a key, a value, an item or a document.
    fn place(&mut self, node: Node) -> Result<(), Diagnostic> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.refuse(node.mark, format!("more than {MAX_NODES} values in one file")));
        }
        let problem = match self.stack.last_mut().map(|open| &mut open.kind) {
            None => {
                let empty = matches!(&node.kind, Kind::Scalar { is: Scalar::Null, .. });
                if !empty {
                    self.documents.push(node);
                }
                None
            }
            Some(OpenKind::Seq(items)) => {
                items.push(node);
                None
            }
            Some(OpenKind::Map(entries, lines, pending)) => match pending.take() {
                Some(key) => {
                    let first = lines.get(&key.text).copied();
                    let twice = first.map(|line| (key.clone(), line));
                    if first.is_none() {
                        lines.insert(key.text.clone(), key.mark.line);
                        entries.push((key, node));
                    }
                    twice.map(|(key, line)| {
                        let hint = match key.text.as_str() {
                            "apiVersion" | "kind" | "metadata" | "spec" => {
                                "remove one of them, or begin another document with a line `---`"
                            }
                            _ => "remove one of them",
                        };
                        Diagnostic::error(format!("`{}` stands twice in one map", shorten(&key.text)))
                            .at(key.mark.in_file(self.file))
                            .hint(format!("{hint}; the first is on line {line}"))
                    })
                }
                None => match node.kind {
                    Kind::Scalar { text, .. } => {
                        let merge = text == "<<";
                        let mark = node.mark;
                        *pending = Some(Key { text, mark });
                        merge.then(|| {
                            Diagnostic::error("merge keys (`<<`) are not supported")
                                .at(mark.in_file(self.file))
                                .hint("write the fields out")
                        })
                    }
                    _ => {
                        return Err(self.refuse(node.mark, "a map's key must be a plain text"));
                    }
                },
            },
        };
        self.problems.extend(problem);
        Ok(())
    }

    fn refuse(&self, mark: Mark, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(message).at(mark.in_file(self.file))
    }

    fn syntax(&self, mark: Mark, info: &str) -> Diagnostic {
        let there = self.text.get(mark.span.0..).unwrap_or_default();
        let diagnostic = self.refuse(mark, format!("this is not YAML: {info}"));
        if there.starts_with('*') || info.contains("anchor") || info.contains("alias") {
            diagnostic.hint("`*` begins an alias in YAML: a key that is a star is written `\"*\"`")
        } else if info.contains("tab") || there.starts_with('\t') {
            diagnostic.hint("indent with spaces")
        } else {
            diagnostic.hint("check the indentation, and quote texts that hold `: `, ` #`, `{`, `[` or `*`")
        }
    }

    fn mark(&self, start: &saphyr_parser::Marker, end: &saphyr_parser::Marker) -> Mark {
        let byte = |at: usize| self.bytes.get(at).copied().unwrap_or(self.text.len());
        let from = byte(start.index());
        let to = byte(end.index()).max(from);
        // A block's end is where the next thing begins: the blanks before that are not part of it.
        let trimmed = self.text.get(from..to).map_or(to, |inside| from + inside.trim_end().len());
        Mark { span: (from, trimmed), line: start.line().max(1), column: start.col() + 1 }
    }
}

/// How many bytes a byte order mark takes at the beginning.
fn bom(text: &str) -> usize {
    if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
}

/// What a scalar without quotes is, by YAML 1.2's core schema. `yes`, `no`, `on` and `off` are texts.
fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.starts_with(|c: char| c.is_ascii_digit()) || digits.starts_with('.') {
        // `007` is a text: read as seven it would lose what a person wrote.
        let padded =
            digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        if padded {
            return Scalar::Text;
        }
        if let Ok(number) = text.parse::<i64>() {
            return Scalar::Int(number);
        }
        let plain =
            digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
        if plain && let Ok(number) = text.parse::<f64>() {
            return Scalar::Float(number);
        }
    }
    Scalar::Text
}

/// A text cut to a length that fits a message.
pub(super) fn shorten(text: &str) -> String {
    const MAX: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= MAX && line.len() == text.len() {
        return text.to_owned();
    }
    let mut short: String = line.chars().take(MAX).collect();
    short.push('…');
    short
}
