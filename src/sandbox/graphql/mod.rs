//! `/graphql`: listings with nested relations, and the mutations that clients use most.
//!
//! Selections are carried out over the objects that there are, so custom ones need nothing here. A field that there is not comes
//! back null.

mod select;
mod variables;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_graphql_parser::types::{ExecutableDocument, Field as Selected, OperationType};
use async_graphql_parser::{Positioned, parse_query};
use serde_json::{Map, Value};

use super::answer::{Answer, Out, Refusal};
use super::filter;
use super::list::{self, Order, Query};
use super::records;
use super::request::Call;
use super::rest;
use super::schema::Object;
use super::value;
use super::world::World;
use select::Fragments;

/// Root fields of a request at most.
const MOST_ROOTS: usize = 20;

/// Answers a call: 200 whatever happens, with `errors` when it went wrong.
pub(super) fn answer(world: &mut World, call: &Call) -> Result<Answer, Refusal> {
    if call.method != "POST" {
        return Err(Refusal::not_covered(format!("{} /graphql", call.method), "use POST"));
    }
    call.only(&[])?;
    let body = call.json()?;
    Ok(match run(world, &body) {
        Ok(data) => Answer::ok(Out::object([("data", Out::Object(data))])),
        Err(refusal) => errors(&refusal),
    })
}

/// A refusal as GraphQL has it: HTTP 200, no data, and the reason in `errors`.
pub(super) fn errors(refusal: &Refusal) -> Answer {
    let errors = Out::Plain(Value::Array(vec![refusal.graphql()]));
    Answer::ok(Out::object([("errors", errors), ("data", Out::NULL)]))
}

fn run(world: &mut World, body: &Value) -> Result<Vec<(String, Out)>, Refusal> {
    let map = body.as_object().ok_or_else(|| Refusal::bad("The body has to be a JSON object"))?;
    if let Some(name) =
        map.keys().find(|name| !["query", "variables", "operationName"].contains(&name.as_str()))
    {
        return Err(Refusal::not_covered(format!("\"{name}\" in a request"), "leave it out"));
    }
    let text =
        map.get("query").and_then(Value::as_str).ok_or_else(|| Refusal::bad("query: text is wanted"))?;
    let document: ExecutableDocument =
        parse_query(text).map_err(|error| Refusal::bad(format!("Syntax error: {error}")))?;
    let wanted = map.get("operationName").and_then(Value::as_str);
    let mut operations = document.operations.iter();
    let operation = match wanted {
        Some(wanted) => operations.find(|(name, _)| name.is_some_and(|name| name.as_str() == wanted)),
        None => operations.next().filter(|_| operations.next().is_none()),
    };
    let (_, operation) =
        operation.ok_or_else(|| Refusal::bad("operationName: it must say which operation is meant"))?;
    let operation = &operation.node;
    if !operation.directives.is_empty() {
        return Err(Refusal::not_covered("directives", "leave them out"));
    }
    let mutates = match operation.ty {
        OperationType::Query => false,
        OperationType::Mutation => true,
        OperationType::Subscription => return Err(Refusal::not_covered("subscriptions", "use webhooks")),
    };
    let given = match map.get("variables") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map.clone(),
        Some(_) => return Err(Refusal::bad("variables: an object is wanted")),
    };
    let variables = variables::check(&world.schema, &operation.variable_definitions, given)?;
    let fragments = Fragments { known: &document.fragments, variables: &variables };
    let roots =
        fragments.flattened(&operation.selection_set.node, if mutates { "Mutation" } else { "Query" })?;
    check_roots(&roots)?;
    let mut data = Vec::new();
    for root in roots {
        let key = root.response_key().node.to_string();
        let done = if mutates { mutate(world, &fragments, root) } else { query(world, &fragments, root) };
        data.push((key, done?));
    }
    Ok(data)
}

fn check_roots(roots: &[&Selected]) -> Result<(), Refusal> {
    if roots.len() > MOST_ROOTS {
        let message = format!(
            "Query too complex: {} root resolvers, and at most {MOST_ROOTS} are allowed",
            roots.len()
        );
        return Err(Refusal::bad(message));
    }
    let mut names = BTreeSet::new();
    for root in roots {
        if !names.insert(root.name.node.as_str()) {
            return Err(Refusal::bad(format!(
                "Duplicate root resolver \"{}\": send one a request",
                root.name.node
            )));
        }
    }
    Ok(())
}

/// The arguments of a field, of which every one has to be known.
fn arguments(
    fragments: &Fragments<'_>,
    field: &Selected,
    known: &[&str],
) -> Result<Map<String, Value>, Refusal> {
    let mut values = Map::new();
    for (name, value) in &field.arguments {
        if !known.contains(&name.node.as_str()) {
            let what = format!("the argument \"{}\" of {}", name.node, field.name.node);
            return Err(Refusal::not_covered(what, format!("there are: {}", known.join(", "))));
        }
        if let Some(value) = fragments.value(value)? {
            values.insert(name.node.to_string(), value);
        }
    }
    Ok(values)
}

fn query(world: &World, fragments: &Fragments<'_>, root: &Selected) -> Result<Out, Refusal> {
    let name = root.name.node.as_str();
    if name == "__typename" {
        return Ok(Out::text("Query"));
    }
    if name.starts_with("__") {
        return Err(Refusal::not_covered("introspection", "read GET /rest/metadata/objects"));
    }
    let Some(object) = world.schema.by_plural(name).cloned() else {
        if world.schema.by_singular(name).is_some() {
            return Err(Refusal::not_covered(format!("the query \"{name}\""), "list with a filter by id"));
        }
        // As with any unknown field: null, and not a word.
        return Ok(Out::NULL);
    };
    let given = arguments(fragments, root, &["first", "after", "filter", "orderBy"])?;
    let first = match given.get("first") {
        None | Some(Value::Null) => rest::DEFAULT_LIMIT,
        Some(value) => value
            .as_u64()
            .and_then(|first| u32::try_from(first).ok())
            .ok_or_else(|| Refusal::bad("first: a number of at least 0 is wanted"))?,
    };
    let after = match given.get("after") {
        None | Some(Value::Null) => None,
        Some(Value::String(cursor)) => Some(cursor.clone()),
        Some(_) => return Err(Refusal::bad("after: a cursor is wanted")),
    };
    let filter = given.get("filter").filter(|value| !value.is_null());
    let filter = filter.map(|value| filter::from_graphql(&object, value)).transpose()?;
    let order = given.get("orderBy").filter(|value| !value.is_null());
    let order = order.map(|value| order_by(&object, value)).transpose()?.flatten();
    let page = list::list(&world.db, &object, &Query { filter, order, first, after })?;
    select::connection(world, fragments, &object, &root.selection_set.node, page)
}

/// `[{name: {firstName: AscNullsFirst}}]`
fn order_by(object: &Object, value: &Value) -> Result<Option<Order>, Refusal> {
    let invalid = || Refusal::bad("orderBy: a list such as [{createdAt: AscNullsFirst}] is wanted");
    let entry = match value {
        Value::Array(items) if items.len() > 1 => {
            return Err(Refusal::not_covered("an order by several fields", "order by one"));
        }
        Value::Array(items) => match items.first() {
            None => return Ok(None),
            Some(entry) => entry,
        },
        entry => entry,
    };
    let mut path = Vec::new();
    let mut at = entry;
    while let Value::Object(map) = at {
        let mut entries = map.iter();
        let (Some((name, inner)), None) = (entries.next(), entries.next()) else {
            return Err(invalid());
        };
        path.push(name.as_str());
        at = inner;
    }
    let direction = at.as_str().ok_or_else(invalid)?;
    Order::new(object, &path.join("."), direction).map(Some)
}

fn mutate(world: &mut World, fragments: &Fragments<'_>, root: &Selected) -> Result<Out, Refusal> {
    let name = root.name.node.as_str();
    if name == "__typename" {
        return Ok(Out::text("Mutation"));
    }
    let objects = world.schema.objects.clone();
    for object in &objects {
        let set = &root.selection_set.node;
        if name == format!("create{}", object.type_name()) {
            let given = arguments(fragments, root, &["data", "upsert"])?;
            let data = given.get("data").ok_or_else(|| Refusal::bad("data: a record is wanted"))?;
            let row =
                if upserts(&given)? { world.upsert(object, data)? } else { world.create(object, data)? };
            return one(world, fragments, object, set, row);
        }
        if name == format!("create{}", object.plural_type_name()) {
            let given = arguments(fragments, root, &["data", "upsert"])?;
            let Some(Value::Array(data)) = given.get("data") else {
                return Err(Refusal::bad("data: a list of records is wanted"));
            };
            let rows = rest::batch(world, object, data, upserts(&given)?)?;
            return Ok(Out::List(select::records(world, fragments, object, set, &rows)?));
        }
        if name == format!("update{}", object.type_name()) {
            let given = arguments(fragments, root, &["id", "data"])?;
            let id = given
                .get("id")
                .and_then(Value::as_str)
                .ok_or_else(|| Refusal::bad("id: a UUID is wanted"))?;
            let data = given.get("data").ok_or_else(|| Refusal::bad("data: a record is wanted"))?;
            let row = world.patch(object, value::uuid(id)?, data)?;
            return one(world, fragments, object, set, row);
        }
    }
    Err(Refusal::not_covered(
        format!("the mutation \"{name}\""),
        "there are create and update for one record and create for many; delete and restore over REST",
    ))
}

fn upserts(given: &Map<String, Value>) -> Result<bool, Refusal> {
    match given.get("upsert") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(false),
        Some(Value::Bool(true)) => Ok(true),
        Some(_) => Err(Refusal::bad("upsert: true or false is wanted")),
    }
}

fn one(
    world: &World,
    fragments: &Fragments<'_>,
    object: &Arc<Object>,
    set: &async_graphql_parser::types::SelectionSet,
    row: Out,
) -> Result<Out, Refusal> {
    debug_assert!(!records::id_of(&row).is_empty());
    let mut rows = select::records(world, fragments, object, set, &[row])?;
    Ok(rows.pop().unwrap_or(Out::NULL))
}

/// A name or value without its place in the query.
fn bare<T>(positioned: &Positioned<T>) -> &T {
    &positioned.node
}
