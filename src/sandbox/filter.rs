//! Filters, as REST and GraphQL write them, and the SQL that they mean.
//!
//! Comparisons with NULL are unknown, as in every SQL database: `neq` and `not` drop such rows.

use rusqlite::types::Value as Sql;
use serde_json::{Map, Value};

use super::answer::Refusal;
use super::schema::{Column, Kind, Object};
use super::value;

/// Which rows are meant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Test { column: String, test: Test },
}

/// What a column is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// With an SQL operator.
    Compare(&'static str, Sql),
    In(Vec<Sql>),
    Null(bool),
}

/// How deep filters may be nested.
const DEEPEST: usize = 16;

impl Filter {
    /// Whether rows that were soft-deleted are asked for by name.
    pub(super) fn names_deleted(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::names_deleted),
            Self::Not(part) => part.names_deleted(),
            Self::Test { column, .. } => column == "deletedAt",
        }
    }

    /// As an SQL condition; its values are added to `values`.
    pub(super) fn sql(&self, values: &mut Vec<Sql>) -> String {
        let mut joined = |parts: &[Self], word: &str, none: &str| {
            let parts: Vec<String> = parts.iter().map(|part| part.sql(values)).collect();
            if parts.is_empty() { none.to_owned() } else { format!("({})", parts.join(word)) }
        };
        match self {
            Self::All(parts) => joined(parts, " AND ", "TRUE"),
            Self::Any(parts) => joined(parts, " OR ", "FALSE"),
            Self::Not(part) => format!("NOT ({})", part.sql(values)),
            Self::Test { column, test } => match test {
                Test::Compare(operator, value) => {
                    values.push(value.clone());
                    format!("\"{column}\" {operator} ?{}", values.len())
                }
                Test::In(items) => {
                    // One value that holds the list: the number of values is limited, that of items is not.
                    let items: Vec<Value> = items.iter().map(listed).collect();
                    values.push(Sql::Text(Value::Array(items).to_string()));
                    format!("\"{column}\" IN (SELECT value FROM json_each(?{}))", values.len())
                }
                Test::Null(true) => format!("\"{column}\" IS NULL"),
                Test::Null(false) => format!("\"{column}\" IS NOT NULL"),
            },
        }
    }
}

fn listed(value: &Sql) -> Value {
    match value {
        Sql::Text(text) => Value::String(text.clone()),
        Sql::Integer(number) => (*number).into(),
        Sql::Real(number) => value::written(*number),
        Sql::Null | Sql::Blob(_) => Value::Null,
    }
}

fn column(object: &Object, path: &str) -> Result<Column, Refusal> {
    object.columns().into_iter().find(|column| column.name == path).ok_or_else(|| {
        Refusal::bad(format!("Invalid filter: {} has no field \"{path}\" to filter by", object.singular))
    })
}

/// A test of a column by the name of its operator.
fn test(column: &Column, operator: &str, value: &Value) -> Result<Filter, Refusal> {
    let compare = |sql: &'static str| -> Result<Test, Refusal> {
        if value.as_str() == Some("") {
            let what = format!("[{operator}] with an empty value for {}", column.name);
            return Err(Refusal::not_covered(what, "ask for empty rows with [is]:NULL"));
        }
        Ok(Test::Compare(sql, value::compared(column, value)?))
    };
    let test = match operator {
        "eq" => compare("=")?,
        "neq" => compare("<>")?,
        "gt" => compare(">")?,
        "gte" => compare(">=")?,
        "lt" => compare("<")?,
        "lte" => compare("<=")?,
        "in" => {
            let Value::Array(items) = value else {
                return Err(Refusal::bad(format!("Invalid filter: [in] for {} needs a list", column.name)));
            };
            let items = items.iter().map(|item| value::compared(column, item));
            Test::In(items.collect::<Result<_, _>>()?)
        }
        "is" => match value.as_str() {
            Some("NULL") => Test::Null(true),
            Some("NOT_NULL") => Test::Null(false),
            _ => return Err(Refusal::bad("Invalid filter: [is] needs NULL or NOT_NULL")),
        },
        other => {
            return Err(Refusal::not_covered(
                format!("the filter [{other}]"),
                "there are eq, neq, in, is, gt, gte, lt and lte",
            ));
        }
    };
    Ok(Filter::Test { column: column.name.clone(), test })
}

/// A filter as GraphQL writes it: `{emails: {primaryEmail: {eq: "..."}}}` with `and`, `or` and `not`.
///
/// # Errors
/// When it names what there is not, or compares what cannot be compared.
pub(super) fn from_graphql(object: &Object, value: &Value) -> Result<Filter, Refusal> {
    graphql(object, value, 0)
}

fn graphql(object: &Object, value: &Value, depth: usize) -> Result<Filter, Refusal> {
    if depth > DEEPEST {
        return Err(Refusal::bad("Invalid filter: it is nested too deeply"));
    }
    let map = as_map(value)?;
    let mut parts = Vec::new();
    for (name, value) in map {
        let list = || -> Result<Vec<Filter>, Refusal> {
            let Value::Array(items) = value else {
                return Err(Refusal::bad(format!("Invalid filter: \"{name}\" needs a list of filters")));
            };
            items.iter().map(|item| graphql(object, item, depth + 1)).collect()
        };
        match name.as_str() {
            "and" => parts.push(Filter::All(list()?)),
            "or" => parts.push(Filter::Any(list()?)),
            "not" => parts.push(Filter::Not(Box::new(graphql(object, value, depth + 1)?))),
            _ if object.field(name).is_some_and(|field| !field.kind.parts().is_empty()) => {
                for (part, value) in as_map(value)? {
                    parts.push(operators(&column(object, &format!("{name}.{part}"))?, value)?);
                }
            }
            _ if object.field(name).is_some_and(|field| field.relation.is_some()) => {
                let what = format!("a filter on the fields of {name}");
                return Err(Refusal::not_covered(what, format!("filter by {name}Id")));
            }
            _ => parts.push(operators(&column(object, name)?, value)?),
        }
    }
    Ok(Filter::All(parts))
}

fn operators(column: &Column, value: &Value) -> Result<Filter, Refusal> {
    let map = as_map(value)?;
    let mut operators = map.iter();
    match (operators.next(), operators.next()) {
        (Some((operator, value)), None) => test(column, operator, value),
        (None, _) => Err(Refusal::bad(format!("Invalid filter: {} is compared with nothing", column.name))),
        _ => Err(Refusal::not_covered(
            format!("several operators for {} at once", column.name),
            "join them with `and`",
        )),
    }
}

fn as_map(value: &Value) -> Result<&Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| Refusal::bad("Invalid filter: an object is wanted"))
}

/// A filter as REST writes it: `a[op]:v,b.c[op]:v` with `and(...)`, `or(...)` and `not(...)`.
///
/// # Errors
/// When it cannot be read, names what there is not, or compares what cannot be compared.
pub(super) fn from_rest(object: &Object, text: &str) -> Result<Filter, Refusal> {
    let mut open = 0_i32;
    for char in text.chars() {
        // As on the real server, quotes protect nothing here.
        open += i32::from(char == '(') - i32::from(char == ')');
        if open < 0 {
            break;
        }
    }
    if open != 0 || !text.matches('"').count().is_multiple_of(2) {
        return Err(Refusal::bad("Invalid filter: parentheses or quotes are not balanced"));
    }
    rest(object, text, 0)
}

fn rest(object: &Object, text: &str, depth: usize) -> Result<Filter, Refusal> {
    if depth > DEEPEST {
        return Err(Refusal::bad("Invalid filter: it is nested too deeply"));
    }
    let parts = pieces(text).into_iter().map(|piece| -> Result<Filter, Refusal> {
        let inside = |word: &str| piece.strip_prefix(word)?.strip_suffix(')');
        if let Some(inner) = inside("and(") {
            return rest(object, inner, depth + 1);
        }
        if let Some(inner) = inside("or(") {
            let Filter::All(parts) = rest(object, inner, depth + 1)? else {
                return Err(Refusal::internal("a list of filters is not one"));
            };
            return Ok(Filter::Any(parts));
        }
        if let Some(inner) = inside("not(") {
            return Ok(Filter::Not(Box::new(rest(object, inner, depth + 1)?)));
        }
        comparison(object, piece)
    });
    Ok(Filter::All(parts.collect::<Result<_, _>>()?))
}

/// What stands between commas that are not inside parentheses, brackets or quotes.
fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut from, mut open, mut quoted) = (Vec::new(), 0, 0_i32, false);
    for (at, char) in text.char_indices() {
        match char {
            '"' => quoted = !quoted,
            '(' | '[' if !quoted => open += 1,
            ')' | ']' if !quoted => open -= 1,
            ',' if !quoted && open == 0 => {
                pieces.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&text[from..]);
    pieces
}

/// `name.firstName[eq]:"Ada"`
fn comparison(object: &Object, text: &str) -> Result<Filter, Refusal> {
    let malformed = || Refusal::bad("Invalid filter: `field[operator]:value` is wanted");
    let (path, rest) = text.split_once('[').ok_or_else(malformed)?;
    let (operator, value) = rest.split_once("]:").ok_or_else(malformed)?;
    if path.is_empty() || value.is_empty() {
        return Err(malformed());
    }
    let column = column(object, path)?;
    if operator == "in" {
        let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or_else(malformed)?;
        // Commas part the items even inside quotes: a client that has such values must not ask this way.
        let items = inner.split(',').map(|item| typed(&column, item.trim().trim_matches('"')));
        return test(&column, operator, &Value::Array(items.collect::<Result<_, _>>()?));
    }
    let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    if bare == "NULL" && operator == "eq" {
        return Ok(Filter::Test { column: column.name, test: Test::Null(true) });
    }
    if bare == "NULL" && operator != "is" {
        return Err(Refusal::not_covered(format!("[{operator}]:NULL"), "use [is]:NULL or [is]:NOT_NULL"));
    }
    let value = if operator == "is" { Value::String(bare.to_owned()) } else { typed(&column, bare)? };
    test(&column, operator, &value)
}

/// Text as the kind of value that a column is compared with.
fn typed(column: &Column, text: &str) -> Result<Value, Refusal> {
    Ok(match column.kind {
        Kind::Number => serde_json::from_str(text).ok().filter(Value::is_number).ok_or_else(|| {
            Refusal::bad(format!("Invalid filter value for {}: a number is wanted", column.name))
        })?,
        Kind::Bool => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => {
                return Err(Refusal::bad(format!(
                    "Invalid filter value for {}: true or false is wanted",
                    column.name
                )));
            }
        },
        _ => Value::String(text.to_owned()),
    })
}
