//! Whether a document has the form of its kind: unknown and missing fields, wrong types, words that are none of those allowed.
//! All mistakes are found at once, by the generated JSON Schema, and said in the words of someone who writes YAML.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind};
use serde_json::Value;

use super::schema;
use super::secrets;
use super::words::{list, name_hint, nearest, type_elsewhere};
use super::yaml::{Kind, Node, Scalar, shorten};
use crate::model::{Diagnostic, Diagnostics};

/// Beyond this many unknown fields in one map, it is not the fields that are wrong.
const MOST_UNKNOWN: usize = 20;

/// A kind's schema, and what checks documents against it.
struct Checker {
    schema: Value,
    validator: Option<jsonschema::Validator>,
}

static CHECKERS: LazyLock<BTreeMap<&'static str, Checker>> = LazyLock::new(|| {
    schema::KINDS
        .iter()
        .map(|(kind, _)| {
            let schema = schema::of_kind(kind);
            let validator = jsonschema::validator_for(&schema).ok();
            (*kind, Checker { schema, validator })
        })
        .collect()
});

/// The kind that a document says it is, if it is one that there is; else the mistake is noted.
pub(super) fn kind_of(file: &str, root: &Node, out: &mut Diagnostics) -> Option<&'static str> {
    let at = root.head_mark().in_file(file);
    if !matches!(root.kind, Kind::Map(_)) {
        out.push(
            Diagnostic::error(format!("a document is a map, not {}", describe(root, false)))
                .at(at)
                .hint("begin it with `apiVersion: trueup/v1` and `kind: Store`, `Entity`, `Mapping` or `Controller`"),
        );
        return None;
    }
    let Some(kind) = root.get("kind") else {
        out.push(
            Diagnostic::error("the document does not say its kind")
                .at(at)
                .hint("add `kind: Store`, `Entity`, `Mapping` or `Controller`"),
        );
        return None;
    };
    let word = kind.text().unwrap_or_default();
    let known = schema::KINDS.iter().map(|(known, _)| *known).find(|known| *known == word);
    if known.is_none() {
        let hint = nearest(word, schema::KINDS.iter().map(|(known, _)| *known)).map_or_else(
            || "a document is a `Store`, `Entity`, `Mapping` or `Controller`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        out.push(
            Diagnostic::error(format!("{} is no kind of document", describe(kind, false)))
                .at(kind.head_mark().in_file(file))
                .hint(hint),
        );
    }
    known
}

/// Notes every mistake in a document's form, and gives the paths of the parts that have one.
pub(super) fn check(file: &str, kind: &str, root: &Node, out: &mut Diagnostics) -> Vec<Vec<String>> {
    let Some(checker) = CHECKERS.get(kind) else { return Vec::new() };
    let Some(validator) = &checker.validator else {
        out.push(Diagnostic::error(format!("the schema of `{kind}` cannot be used")));
        return vec![Vec::new()];
    };
    let json = root.to_json();
    let mut explainer =
        Explainer { file, root, schema: &checker.schema, found: Vec::new(), paths: Vec::new() };
    for error in validator.iter_errors(&json) {
        explainer.explain(&error);
    }
    out.append(&mut explainer.found);
    explainer.paths
}

struct Explainer<'a> {
    file: &'a str,
    root: &'a Node,
    schema: &'a Value,
    found: Diagnostics,
    /// The paths of the parts with a mistake.
    paths: Vec<Vec<String>>,
}

impl Explainer<'_> {
    fn explain(&mut self, error: &ValidationError<'_>) {
        let owned = unescape(error.instance_path().as_str());
        let path: Vec<&str> = owned.iter().map(String::as_str).collect();
        let path = path.as_slice();
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let known = self.properties_beside(error);
                for name in unexpected.iter().take(MOST_UNKNOWN) {
                    let inner: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
                    // `derive: join(a, b)` in a flow map is cut at the comma.
                    let cut = name.ends_with(')') && !name.contains('(');
                    let hint = if cut {
                        Some("a text with a comma inside `{ }` stands in quotes: `\"join(a, b)\"`".to_owned())
                    } else {
                        name_hint(name, known.iter().map(String::as_str))
                    };
                    self.push_key(&inner, format!("unknown field `{}`{}", shorten(name), inside(path)), hint);
                }
            }
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                self.push_key(
                    path,
                    format!("`{name}` is missing{}", inside(path)),
                    self.missing_hint(error, path, name),
                );
            }
            ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
                self.explain_branches(path, error, context);
            }
            ValidationErrorKind::Type { kind } => {
                let expected: Vec<String> = match kind {
                    TypeKind::Single(one) => vec![one.to_string()],
                    TypeKind::Multiple(several) => several.iter().map(|one| one.to_string()).collect(),
                };
                self.wrong_type(path, &expected);
            }
            ValidationErrorKind::Enum { options } => {
                let words: Vec<String> =
                    options.as_array().into_iter().flatten().filter_map(as_word).collect();
                self.wrong_word(path, &words, &[]);
            }
            ValidationErrorKind::Constant { expected_value } => {
                self.wrong_word(path, &as_word(expected_value).into_iter().collect::<Vec<_>>(), &[]);
            }
            ValidationErrorKind::Minimum { limit } => {
                self.push(path, self.said(path, &format!("is less than {limit}")), None);
            }
            ValidationErrorKind::Maximum { limit } => {
                self.push(path, self.said(path, &format!("is more than {limit}")), None);
            }
            ValidationErrorKind::MinItems { limit } => {
                self.push(path, format!("too few items{}: there must be {limit}", inside(path)), None);
            }
            ValidationErrorKind::MaxItems { limit } => {
                self.push(path, format!("too many items{}: there must be {limit}", inside(path)), None);
            }
            _ => self.push(path, format!("this does not fit{}", inside(path)), None),
        }
    }

    /// Of several forms, the mistake is in the one that was meant: the one that fits what kind of thing was written.
    fn explain_branches(
        &mut self,
        path: &[&str],
        error: &ValidationError<'_>,
        context: &[Vec<ValidationError<'static>>],
    ) {
        let here = error.instance_path().as_str();
        let mut words: Vec<String> = Vec::new();
        let mut types: Vec<String> = Vec::new();
        let mut meant: Option<&Vec<ValidationError<'static>>> = None;
        for branch in context {
            let mut fits = true;
            for problem in branch.iter().filter(|problem| problem.instance_path().as_str() == here) {
                fits &= Self::gather(problem, &mut words, &mut types);
            }
            if fits && meant.is_none_or(|best| branch.len() < best.len()) {
                meant = Some(branch);
            }
        }
        match meant {
            Some(branch) => branch.iter().for_each(|problem| self.explain(problem)),
            None if words.is_empty() => self.wrong_type(path, &types),
            None => self.wrong_word(path, &words, &types),
        }
    }

    /// Whether a branch's problem at the very place still lets the branch be the one meant; the words and types that it
    /// would have taken are gathered.
    fn gather(problem: &ValidationError<'_>, words: &mut Vec<String>, types: &mut Vec<String>) -> bool {
        match problem.kind() {
            ValidationErrorKind::Type { kind } => {
                match kind {
                    TypeKind::Single(one) => types.push(one.to_string()),
                    TypeKind::Multiple(several) => types.extend(several.iter().map(|one| one.to_string())),
                }
                false
            }
            ValidationErrorKind::Constant { expected_value } => {
                words.extend(as_word(expected_value));
                false
            }
            ValidationErrorKind::Enum { options } => {
                words.extend(options.as_array().into_iter().flatten().filter_map(as_word));
                false
            }
            ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
                let here = problem.instance_path().as_str();
                let mut any = false;
                for branch in context {
                    let mut fits = true;
                    for inner in branch.iter().filter(|inner| inner.instance_path().as_str() == here) {
                        fits &= Self::gather(inner, words, types);
                    }
                    any |= fits;
                }
                any
            }
            _ => true,
        }
    }

    fn wrong_type(&mut self, path: &[&str], expected: &[String]) {
        let Some(node) = self.root.at(path) else { return self.push(path, "wrong type".to_owned(), None) };
        let wanted = expected.iter().map(|word| type_word(word));
        let mut unique: Vec<&str> = Vec::new();
        for word in wanted {
            if !unique.contains(&word) {
                unique.push(word);
            }
        }
        let message = format!(
            "expected {}{}, found {}",
            unique.join(" or "),
            inside(path),
            describe(node, secret(path))
        );
        if unique.len() > 1 {
            unique.retain(|word| *word != "nothing");
        }
        let hint = written_like(path, node).or_else(|| type_hint(node, &unique));
        self.push(path, message, hint);
    }

    fn wrong_word(&mut self, path: &[&str], words: &[String], types: &[String]) {
        let Some(node) = self.root.at(path) else { return self.push(path, "wrong value".to_owned(), None) };
        if !matches!(node.kind, Kind::Scalar { is: Scalar::Text, .. }) {
            let expected: Vec<String> = std::iter::once("word".to_owned())
                .chain(types.iter().filter(|ty| *ty != "string").cloned())
                .collect();
            return self.wrong_type(path, &expected);
        }
        let names = words.iter().map(String::as_str);
        let word = node.text().unwrap_or_default();
        let elsewhere = type_elsewhere(word).filter(|ty| words.iter().any(|known| known == ty));
        let hint =
            elsewhere.or_else(|| nearest(word, names.clone())).map(|near| format!("did you mean `{near}`?"));
        let what = if words.len() == 1 {
            format!("is not {}", list(names))
        } else {
            format!("is none of {}", list(names))
        };
        self.push(path, self.said(path, &what), hint);
    }

    fn said(&self, path: &[&str], what: &str) -> String {
        let found = self.root.at(path).map_or_else(|| "this".to_owned(), |node| describe(node, secret(path)));
        format!("{found} {what}{}", inside(path))
    }

    fn missing_hint(&self, error: &ValidationError<'_>, path: &[&str], name: &str) -> Option<String> {
        let node = self.root.at(path)?;
        let Kind::Map(entries) = &node.kind else { return None };
        let known = self.properties_beside(error);
        let strangers =
            entries.iter().map(|(key, _)| key.text.as_str()).filter(|key| !known.iter().any(|k| k == key));
        nearest(name, strangers)
            .map(|near| format!("`{near}` looks like it"))
            .or_else(|| Some(format!("add `{name}: …`")))
    }

    /// The names that the schema knows where the error's keyword stands.
    fn properties_beside(&self, error: &ValidationError<'_>) -> Vec<String> {
        let keyword = error.schema_path().as_str();
        let beside = keyword.rfind('/').map_or("", |at| &keyword[..at]);
        let properties = self.schema.pointer(beside).and_then(|schema| schema.get("properties"));
        properties.and_then(Value::as_object).map(|known| known.keys().cloned().collect()).unwrap_or_default()
    }

    fn push(&mut self, path: &[&str], message: String, hint: Option<String>) {
        self.paths.push(path.iter().map(|step| (*step).to_owned()).collect());
        let place = self.root.mark_at(path).in_file(self.file);
        self.found.push(Diagnostic { hint, ..Diagnostic::error(message).at(place) });
    }

    fn push_key(&mut self, path: &[&str], message: String, hint: Option<String>) {
        self.paths.push(path.iter().map(|step| (*step).to_owned()).collect());
        let place = self.root.key_mark_at(path).in_file(self.file);
        self.found.push(Diagnostic { hint, ..Diagnostic::error(message).at(place) });
    }
}

fn secret(path: &[&str]) -> bool {
    path.last().is_some_and(|name| secrets::is_secret_name(name))
}

/// A node as a message shows it; a secret's text is left out.
pub(super) fn describe(node: &Node, secret: bool) -> String {
    match &node.kind {
        Kind::Map(_) => "a map".to_owned(),
        Kind::Seq(_) => "a list".to_owned(),
        Kind::Scalar { is, text, .. } => match is {
            Scalar::Null => "nothing".to_owned(),
            Scalar::Text if secret => "a text".to_owned(),
            Scalar::Text => format!("`{}`", shorten(text)),
            Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) if secret => {
                "something that is no text".to_owned()
            }
            Scalar::Bool(_) => format!("the truth value `{}`", shorten(text)),
            Scalar::Int(_) | Scalar::Float(_) => format!("the number `{}`", shorten(text)),
        },
    }
}

fn type_word(json: &str) -> &str {
    match json {
        "string" => "a text",
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        "number" => "a number",
        "object" => "a map",
        "array" => "a list",
        "null" => "nothing",
        "word" => "a word",
        other => other,
    }
}

/// What a number was meant to be where a text with a unit belongs.
fn written_like(path: &[&str], node: &Node) -> Option<String> {
    let Kind::Scalar { is: Scalar::Int(_) | Scalar::Float(_), .. } = &node.kind else { return None };
    match *path.last()? {
        "interval"
        | "deep_check_interval"
        | "lease"
        | "retention"
        | "latency"
        | "clock_tolerance"
        | "debounce" => Some("a duration has a unit: `30s`, `5m`, `1h`, `7d`".to_owned()),
        "max_deletes" | "max_updates" | "drift" => Some("a share is written with its sign: `10%`".to_owned()),
        _ => None,
    }
}

fn type_hint(node: &Node, wanted: &[&str]) -> Option<String> {
    let Kind::Scalar { is, text, .. } = &node.kind else {
        return matches!((&node.kind, wanted), (Kind::Map(_), ["a list"]))
            .then(|| "write a list: `[a, b]`, or a line beginning with `- ` for each".to_owned());
    };
    if *is == Scalar::Null {
        return Some("give it a value, or leave the line out".to_owned());
    }
    if wanted.contains(&"`true` or `false`") {
        return match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => Some("in YAML 1.2 that is a text: write `true`".to_owned()),
            "no" | "off" | "n" => Some("in YAML 1.2 that is a text: write `false`".to_owned()),
            _ => None,
        };
    }
    if wanted.contains(&"a text") && *is != Scalar::Text {
        return Some("if the text is meant, put it in quotes".to_owned());
    }
    if wanted == ["a list"] {
        return Some("write a list: `[a, b]`".to_owned());
    }
    None
}

/// Where in the document: ` in spec.fields.first_name`.
fn inside(path: &[&str]) -> String {
    if path.is_empty() { String::new() } else { format!(" in `{}`", shorten(&path.join("."))) }
}

fn as_word(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn unescape(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}
