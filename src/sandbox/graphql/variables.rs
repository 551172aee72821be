//! The variables of a request: declared, given, and of types that there are.

use std::collections::BTreeMap;

use async_graphql_parser::Positioned;
use async_graphql_parser::types::{BaseType, Type, VariableDefinition};
use serde_json::{Map, Value};

use super::super::answer::Refusal;
use super::super::schema::Schema;
use super::bare;

/// Types of variables that do not depend on objects.
const SCALARS: [&str; 10] =
    ["Int", "Float", "BigFloat", "String", "Boolean", "ID", "UUID", "DateTime", "Date", "JSON"];
/// What an object's name is followed by in the types of arguments.
const INPUTS: [&str; 4] = ["FilterInput", "OrderByInput", "CreateInput", "UpdateInput"];

/// The values of the variables that an operation declares.
///
/// # Errors
/// When one has to be given and is not, is not what its type says, or is of a type that there is not.
pub(super) fn check(
    schema: &Schema,
    declared: &[Positioned<VariableDefinition>],
    mut given: Map<String, Value>,
) -> Result<BTreeMap<String, Value>, Refusal> {
    let mut values = BTreeMap::new();
    for definition in declared.iter().map(bare) {
        let name = definition.name.node.as_str();
        let kind = &definition.var_type.node;
        known(schema, kind)?;
        let default = definition.default_value.as_ref().map(|value| value.node.clone().into_json());
        let default =
            default.transpose().map_err(|error| Refusal::bad(format!("Variable \"${name}\": {error}")))?;
        let value = given.remove(name).or(default);
        match value {
            Some(value) => {
                fits(kind, &value)
                    .map_err(|message| Refusal::bad(format!("Variable \"${name}\": {message}")))?;
                values.insert(name.to_owned(), value);
            }
            None if kind.nullable => {}
            None => {
                return Err(Refusal::bad(format!("Variable \"${name}\" of type \"{kind}\" was not given")));
            }
        }
    }
    // What is given and not declared is passed over, as everywhere.
    Ok(values)
}

fn known(schema: &Schema, kind: &Type) -> Result<(), Refusal> {
    match &kind.base {
        BaseType::List(inner) => known(schema, inner),
        BaseType::Named(name) => {
            let name = name.as_str();
            let of_object = schema.objects.iter().any(|object| {
                name.strip_prefix(&object.type_name()).is_some_and(|rest| INPUTS.contains(&rest))
            });
            if SCALARS.contains(&name) || of_object {
                return Ok(());
            }
            Err(Refusal::bad(format!("Unknown type \"{name}\"")))
        }
    }
}

/// Whether a value can be of a type.
fn fits(kind: &Type, value: &Value) -> Result<(), String> {
    if value.is_null() {
        return if kind.nullable { Ok(()) } else { Err(format!("null is not a {kind}")) };
    }
    let name = match (&kind.base, value) {
        (BaseType::List(inner), Value::Array(items)) => {
            return items.iter().try_for_each(|item| fits(inner, item));
        }
        // A single value stands for a list of it.
        (BaseType::List(inner), value) => return fits(inner, value),
        (BaseType::Named(name), _) => name.as_str(),
    };
    let fits = match name {
        "Int" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        "Float" | "BigFloat" => value.is_number(),
        "String" | "UUID" | "DateTime" | "Date" => value.is_string(),
        "ID" => value.is_string() || value.is_i64(),
        "Boolean" => value.is_boolean(),
        "JSON" => true,
        _ => value.is_object(),
    };
    if fits { Ok(()) } else { Err(format!("it is not a {kind}")) }
}
