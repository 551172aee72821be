//! The rules that a record's values must keep.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use bigdecimal::BigDecimal;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::model::{Cell, Check, Entity, FieldId, FieldRef, Fields, Range, Value};

use super::View;

/// A rule, by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The value is of the field's type.
    Type,
    /// There is a value.
    Required,
    /// It is one of the values listed.
    Enum,
    /// It matches the pattern.
    Pattern,
    /// It is within the bounds.
    Range,
    /// It is valid under the JSON Schema.
    Schema,
    /// No other record has it.
    Unique,
    /// The record referred to exists.
    Reference,
    /// The canonical store has a way to hold it.
    Canonical,
}

impl Rule {
    /// All rules, for metrics that begin at zero.
    pub const ALL: [Self; 9] = [
        Self::Type,
        Self::Required,
        Self::Enum,
        Self::Pattern,
        Self::Range,
        Self::Schema,
        Self::Unique,
        Self::Reference,
        Self::Canonical,
    ];

    /// The word used in plans, metrics and `sync_errors`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Required => "required",
            Self::Enum => "enum",
            Self::Pattern => "pattern",
            Self::Range => "range",
            Self::Schema => "schema",
            Self::Unique => "unique",
            Self::Reference => "reference",
            Self::Canonical => "canonical",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rules that a field's value breaks, in a record whose other values `value_of` tells.
pub fn violations(
    entity: &Entity,
    field: FieldId,
    cell: &Cell,
    value_of: &dyn Fn(FieldRef) -> Value,
) -> Vec<Rule> {
    let declared = entity.field(field);
    let Some(value) = cell.value().filter(|value| declared.ty.admits(value)) else { return vec![Rule::Type] };
    if value.is_null() {
        return if declared.required { vec![Rule::Required] } else { Vec::new() };
    }
    declared.checks.iter().filter_map(|check| broken(entity, check, value, value_of)).collect()
}

/// The rules that a value breaks in a record that has these others, and the one that the canonical store must be able to hold it: what it
/// never holds would stand elsewhere only until the next look, which takes it back.
pub(super) fn rules_of(view: &View<'_>, field: FieldId, values: &Fields<Value>) -> Vec<Rule> {
    let declared = view.entity.field(field);
    let value = values.get(&field).unwrap_or(&Value::Null);
    let checked = !declared.checks.is_empty() || declared.required || !declared.ty.admits(value);
    let mut broken = if checked {
        violations(view.entity, field, &Cell::Value(value.clone()), &view.lookup(values))
    } else {
        Vec::new()
    };
    if broken.is_empty() && !view.can_stand(field, value) {
        broken.push(Rule::Canonical);
    }
    broken
}

fn broken(
    entity: &Entity,
    check: &Check,
    value: &Value,
    value_of: &dyn Fn(FieldRef) -> Value,
) -> Option<Rule> {
    let texts: Vec<&str> = match value {
        Value::Text(text) => vec![text],
        Value::List(items) => items.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    match check {
        Check::Enum(allowed) => (!texts.iter().all(|text| allowed.contains(*text))).then_some(Rule::Enum),
        Check::Pattern(pattern) => {
            let pattern = fill_in(entity, pattern, value_of);
            (!texts.iter().all(|text| matches(&pattern, text))).then_some(Rule::Pattern)
        }
        Check::Range(range) => (!within(range, value)).then_some(Rule::Range),
        Check::JsonSchema { validator, .. } => match value {
            Value::Json(json) => (!validator.is_valid(json.as_value())).then_some(Rule::Schema),
            _ => None,
        },
    }
}

/// The pattern with every `{field}` replaced by that field's text, escaped; braces that name no field are the
/// regular expression's own.
fn fill_in(entity: &Entity, pattern: &str, value_of: &dyn Fn(FieldRef) -> Value) -> String {
    let mut filled = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        filled.push_str(before);
        let named = after.find('}').and_then(|close| Some((close, entity.resolve(&after[1..close])?)));
        let Some((close, field)) = named else {
            filled.push('{');
            rest = &after[1..];
            continue;
        };
        filled.push_str(&regex::escape(&value_of(field).plain_text().unwrap_or_default()));
        rest = &after[close + 1..];
    }
    filled.push_str(rest);
    filled
}

/// Whether a field's pattern names another field.
pub(crate) fn named_in_pattern(entity: &Entity, field: FieldId, other: FieldId) -> bool {
    let name = format!("{{{}}}", entity.field(other).name);
    let checks = &entity.field(field).checks;
    checks.iter().any(|check| matches!(check, Check::Pattern(pattern) if pattern.contains(&name)))
}

/// Whether a field and those that its pattern names have the values that they had, so that what is broken now was broken before.
pub(super) fn stands_as_it_did(
    entity: &Entity,
    field: FieldId,
    before: &Fields<Value>,
    after: &Fields<Value>,
) -> bool {
    let same =
        |of: FieldId| before.get(&of).unwrap_or(&Value::Null) == after.get(&of).unwrap_or(&Value::Null);
    same(field) && entity.field_ids().all(|of| same(of) || !named_in_pattern(entity, field, of))
}

/// How many compiled patterns are kept. Patterns without placeholders are a handful; with placeholders there is one for each
/// value of the field they name, and beyond this many it is cheaper to begin anew than to keep them.
const PATTERNS_KEPT: usize = 512;

thread_local! {
    // Compiling a pattern costs a thousand times more than matching one.
    static COMPILED: RefCell<HashMap<String, Option<Regex>>> = RefCell::new(HashMap::new());
}

fn matches(pattern: &str, text: &str) -> bool {
    COMPILED.with_borrow_mut(|compiled| {
        if compiled.len() >= PATTERNS_KEPT && !compiled.contains_key(pattern) {
            compiled.clear();
        }
        let regex = compiled.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
        regex.as_ref().is_some_and(|regex| regex.is_match(text))
    })
}

fn within(range: &Range, value: &Value) -> bool {
    let above = range.min.as_ref().is_none_or(|min| compare(value, min).is_some_and(Ordering::is_ge));
    let below = range.max.as_ref().is_none_or(|max| compare(value, max).is_some_and(Ordering::is_le));
    above && below
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Date(a), Value::Date(b)) => Some(a.cmp(b)),
        (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.get().partial_cmp(&b.get()),
        _ => Some(decimal(a)?.cmp(&decimal(b)?)),
    }
}

fn decimal(value: &Value) -> Option<BigDecimal> {
    match value {
        Value::Numeric(text) => BigDecimal::from_str(text).ok(),
        Value::Int(number) => Some(BigDecimal::from(*number)),
        Value::Float(number) => BigDecimal::from_str(&number.get().to_string()).ok(),
        _ => None,
    }
}
