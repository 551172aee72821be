//! Names and expressions as `GoogleSQL` has them. Values never stand in a statement: they go as parameters.

use serde_json::{Value as Json, json};

use super::schema::{Kind, Node};

/// A name between backquotes, in which a backslash escapes.
pub(super) fn quoted(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('`');
    for char in name.chars() {
        match char {
            '`' | '\\' => text.extend(['\\', char]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\0' => text.push_str("\\0"),
            other => text.push(other),
        }
    }
    text.push('`');
    text
}

/// A path of names behind the table's alias.
pub(super) fn column(path: &[String]) -> String {
    path.iter().fold(String::from("T"), |text, name| format!("{text}.{}", quoted(name)))
}

/// An expression that makes a text of what stands in a column: equal texts, equal values.
pub(super) fn text_of(column: &str, node: &Node) -> String {
    if node.repeated || node.kind == Kind::Record {
        return format!("TO_JSON_STRING({column})");
    }
    match node.kind {
        Kind::Text => column.to_owned(),
        Kind::Timestamp => format!("CAST(UNIX_MICROS({column}) AS STRING)"),
        Kind::Json => format!("IF({column} IS NULL, NULL, TO_JSON_STRING({column}))"),
        Kind::Bytes => format!("TO_BASE64({column})"),
        _ => format!("CAST({column} AS STRING)"),
    }
}

/// An expression that makes a column's value of a parameter.
pub(super) fn value_of(parameter: &str, node: &Node) -> String {
    if node.repeated {
        return parameter.to_owned();
    }
    match node.kind {
        Kind::Text | Kind::Other | Kind::Record => parameter.to_owned(),
        Kind::Timestamp => format!("TIMESTAMP_MICROS(CAST({parameter} AS INT64))"),
        Kind::Json => format!("PARSE_JSON({parameter})"),
        Kind::Bytes => format!("FROM_BASE64({parameter})"),
        kind => format!("CAST({parameter} AS {})", kind.word()),
    }
}

/// A condition that a column holds what a parameter says, as its text was read.
pub(super) fn unchanged(column: &str, node: &Node, parameter: &str) -> String {
    // Numbers are compared as numbers: the same one has more than one text.
    let (ours, theirs) = match node.kind {
        Kind::Int | Kind::Float | Kind::Numeric | Kind::BigNumeric if !node.repeated => {
            (column.to_owned(), value_of(parameter, node))
        }
        _ => (text_of(column, node), parameter.to_owned()),
    };
    format!("{ours} IS NOT DISTINCT FROM {theirs}")
}

/// The type that a column's parameter has: a text, but for arrays.
pub(super) fn parameter_type(node: &Node) -> Json {
    if node.repeated { json!({ "type": "ARRAY", "arrayType": element_type(node) }) } else { string_type() }
}

fn element_type(node: &Node) -> Json {
    if node.kind != Kind::Record {
        return json!({ "type": node.kind.word() });
    }
    let fields: Vec<Json> = node
        .fields
        .iter()
        .map(|field| {
            let ty = if field.repeated {
                json!({ "type": "ARRAY", "arrayType": element_type(field) })
            } else {
                element_type(field)
            };
            json!({ "name": field.name, "type": ty })
        })
        .collect();
    json!({ "type": "STRUCT", "structTypes": fields })
}

pub(super) fn string_type() -> Json {
    json!({ "type": "STRING" })
}

/// A named parameter that is an array of texts.
pub(super) fn texts(name: &str, texts: impl Iterator<Item = String>) -> Json {
    let values: Vec<Json> = texts.map(|text| json!({ "value": text })).collect();
    json!({
        "name": name,
        "parameterType": { "type": "ARRAY", "arrayType": string_type() },
        "parameterValue": { "arrayValues": values },
    })
}

/// A named parameter that is a text.
pub(super) fn text(name: &str, text: &str) -> Json {
    json!({ "name": name, "parameterType": string_type(), "parameterValue": { "value": text } })
}

/// A named parameter that is an array of structs.
#[allow(clippy::needless_pass_by_value)] // It goes into the parameter.
pub(super) fn structs(name: &str, fields: &[(String, Json)], rows: Vec<Json>) -> Json {
    let fields: Vec<Json> = fields.iter().map(|(name, ty)| json!({ "name": name, "type": ty })).collect();
    json!({
        "name": name,
        "parameterType": { "type": "ARRAY", "arrayType": { "type": "STRUCT", "structTypes": fields } },
        "parameterValue": { "arrayValues": rows },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("at"), "`at`");
        assert_eq!(quoted("a`b\\c\nd"), "`a\\`b\\\\c\\nd`");
    }
}
