//! `/rest/{objects}`: records over REST.

use serde_json::Value;

use super::answer::{Answer, Out, Refusal};
use super::filter::{self, Filter};
use super::list::{self, Order, Query};
use super::records;
use super::request::Call;
use super::schema::Object;
use super::value;
use super::world::World;

/// Records on a page unless told.
pub(super) const DEFAULT_LIMIT: u32 = 60;
/// Records on a page at most: more are not refused but left out.
const MOST_LIMIT: u32 = 200;
/// Records of a batch at most.
pub(super) const MOST_BATCH: usize = 200;

/// Answers a call below `/rest`, whose path is given without it.
pub(super) fn answer(world: &mut World, call: &Call, path: &[&str]) -> Result<Answer, Refusal> {
    match (call.method.as_str(), path) {
        ("GET", [plural]) => list_records(world, call, plural),
        ("GET", [plural, id]) => one(world, call, plural, id),
        ("POST", ["batch", plural]) => create_many(world, call, plural),
        ("POST", [plural]) => create(world, call, plural),
        ("PATCH", [plural, id]) => {
            call.only(&[])?;
            let object = world.object(plural)?;
            let id = value::uuid(id)?;
            let row = world.patch(&object, id, &call.json()?)?;
            Ok(Answer::ok(Out::data(format!("update{}", object.type_name()), row)))
        }
        ("DELETE", [plural, id]) => delete_one(world, call, plural, id),
        ("DELETE", [plural]) => delete_many(world, call, plural),
        ("PATCH", [_, _, "restore"]) => Err(Refusal::not_found(
            "This version restores by PATCH {\"deletedAt\": null}; a path of its own came later",
        )),
        _ => Err(Refusal::not_found(format!("Cannot {} {}", call.method, call.path))),
    }
}

fn list_records(world: &World, call: &Call, plural: &str) -> Result<Answer, Refusal> {
    call.only(&["filter", "order_by", "limit", "depth", "starting_after"])?;
    let object = world.object(plural)?;
    let depth = depth(call)?;
    let limit = match call.query("limit") {
        None => DEFAULT_LIMIT,
        Some(text) => match text.parse::<u32>() {
            Ok(limit) if limit > 0 => limit.min(MOST_LIMIT),
            _ => return Err(Refusal::bad("limit: a number above 0 is wanted")),
        },
    };
    let filter = call.query("filter").map(|text| filter::from_rest(&object, text)).transpose()?;
    let order = call.query("order_by").map(|text| order(&object, text)).transpose()?;
    let after = call.query("starting_after").map(str::to_owned);
    let mut page = list::list(&world.db, &object, &Query { filter, order, first: limit, after })?;
    if depth == 1 {
        world.add_relations(&object, &mut page.rows)?;
    }
    let info = Out::Object(page.info().map(|(key, value)| (key.to_owned(), Out::Plain(value))).into());
    let data = Out::Object(vec![(object.plural.clone(), Out::List(page.rows))]);
    Ok(Answer::ok(Out::object([
        ("data", data),
        ("totalCount", Out::Plain(page.total.into())),
        ("pageInfo", info),
    ])))
}

fn depth(call: &Call) -> Result<u8, Refusal> {
    match call.query("depth") {
        None | Some("0") => Ok(0),
        Some("1") => Ok(1),
        Some(_) => Err(Refusal::bad("depth: 0 or 1 is wanted")),
    }
}

/// `createdAt[AscNullsFirst]`
fn order(object: &Object, text: &str) -> Result<Order, Refusal> {
    if text.contains(',') {
        return Err(Refusal::not_covered("an order by several fields", "order by one"));
    }
    let (path, direction) = match text.split_once('[') {
        Some((path, rest)) => {
            let direction = rest.strip_suffix(']');
            (path, direction.ok_or_else(|| Refusal::bad("order_by: `field[direction]` is wanted"))?)
        }
        None => (text, "AscNullsFirst"),
    };
    Order::new(object, path, direction)
}

fn one(world: &World, call: &Call, plural: &str, id: &str) -> Result<Answer, Refusal> {
    call.only(&["depth"])?;
    let object = world.object(plural)?;
    let depth = depth(call)?;
    let row = world.row(&object, value::uuid(id)?)?.filter(|row| !records::is_deleted(row));
    let mut rows = vec![row.ok_or_else(records::not_found)?];
    if depth == 1 {
        world.add_relations(&object, &mut rows)?;
    }
    Ok(Answer::ok(Out::data(object.singular.clone(), rows.pop().unwrap_or(Out::NULL))))
}

fn upserts(call: &Call) -> Result<bool, Refusal> {
    call.only(&["upsert"])?;
    call.flag("upsert")
}

fn create(world: &mut World, call: &Call, plural: &str) -> Result<Answer, Refusal> {
    let upserts = upserts(call)?;
    let object = world.object(plural)?;
    let body = call.json()?;
    let row = if upserts { world.upsert(&object, &body)? } else { world.create(&object, &body)? };
    Ok(Answer::created(Out::data(format!("create{}", object.type_name()), row)))
}

fn create_many(world: &mut World, call: &Call, plural: &str) -> Result<Answer, Refusal> {
    let upserts = upserts(call)?;
    let object = world.object(plural)?;
    let Value::Array(bodies) = call.json()? else {
        return Err(Refusal::bad("The body of a batch has to be a list of records"));
    };
    let rows = batch(world, &object, &bodies, upserts)?;
    Ok(Answer::created(Out::data(format!("create{}", object.plural_type_name()), Out::List(rows))))
}

/// Creates or upserts a batch, which must not be too large.
pub(super) fn batch(
    world: &mut World,
    object: &std::sync::Arc<Object>,
    bodies: &[Value],
    upserts: bool,
) -> Result<Vec<Out>, Refusal> {
    if bodies.len() > MOST_BATCH {
        let message =
            format!("Maximum number of records to create is {MOST_BATCH}, and there are {}", bodies.len());
        return Err(Refusal::bad(message));
    }
    if bodies.is_empty() {
        return Err(Refusal::not_covered("a batch of nothing", "leave the call out"));
    }
    if upserts { world.upsert_many(object, bodies) } else { world.create_many(object, bodies) }
}

fn delete_one(world: &mut World, call: &Call, plural: &str, id: &str) -> Result<Answer, Refusal> {
    call.only(&["soft_delete"])?;
    let softly = call.flag("soft_delete")?;
    let object = world.object(plural)?;
    let id = value::uuid(id)?;
    let row = world.row(&object, id)?.ok_or_else(records::not_found)?;
    if softly && records::is_deleted(&row) {
        return Err(records::not_found());
    }
    // Also destroys what was soft-deleted.
    world.delete(&object, &Filter::id(id), softly)?;
    let verb = if softly { "delete" } else { "destroy" };
    let gone = Out::object([("id", Out::text(id))]);
    Ok(Answer::ok(Out::data(format!("{verb}{}", object.type_name()), gone)))
}

fn delete_many(world: &mut World, call: &Call, plural: &str) -> Result<Answer, Refusal> {
    call.only(&["soft_delete", "filter"])?;
    let softly = call.flag("soft_delete")?;
    let object = world.object(plural)?;
    let text = call.query("filter");
    let text = text
        .ok_or_else(|| Refusal::not_covered("deleting without a filter", "say which records with filter="))?;
    let filter = filter::from_rest(&object, text)?;
    let rows = world.delete(&object, &filter, softly)?;
    let gone = rows.iter().map(|row| Out::object([("id", Out::text(records::id_of(row)))]));
    let verb = if softly { "delete" } else { "destroy" };
    Ok(Answer::ok(Out::data(format!("{verb}{}", object.plural_type_name()), Out::List(gone.collect()))))
}
