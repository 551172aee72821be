//! `/rest/metadata`: objects, fields and webhooks.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Out, Refusal};
use super::request::Call;
use super::schema::{self, Choice, Field, FieldType, Object};
use super::value;
use super::world::{Webhook, World};

/// Names that fields cannot have, besides those that there are already.
const RESERVED: [&str; 24] = [
    "address",
    "addresses",
    "appToken",
    "connection",
    "currency",
    "currencies",
    "deleted",
    "edges",
    "event",
    "events",
    "field",
    "fields",
    "fullName",
    "link",
    "links",
    "node",
    "object",
    "objects",
    "plan",
    "relation",
    "role",
    "search",
    "searchVector",
    "workspace",
];
/// What happens to records, for webhooks.
const EVENTS: [&str; 5] = ["created", "updated", "deleted", "restored", "destroyed"];

/// Answers a call below `/rest/metadata`, whose path is given without it.
pub(super) fn answer(world: &mut World, call: &Call, path: &[&str]) -> Result<Answer, Refusal> {
    match (call.method.as_str(), path) {
        ("GET", ["objects"]) => {
            call.only(&["limit", "starting_after"])?;
            list_objects(world, call)
        }
        ("GET", ["objects", id]) => {
            call.only(&[])?;
            let object = world.schema.by_id(id).ok_or_else(|| Refusal::not_found("Object not found"))?;
            Ok(Answer::ok(Out::data("object", Out::Plain(shown_object(object)))))
        }
        ("POST", ["objects"]) => create_object(world, call),
        ("POST", ["fields"]) => create_field(world, call),
        ("POST", ["webhooks"]) => create_webhook(world, call),
        ("GET" | "POST" | "PATCH" | "PUT" | "DELETE", ["objects" | "fields" | "webhooks", ..]) => {
            let what = format!("{} {}", call.method, call.path);
            Err(Refusal::not_covered(what, "objects and fields are listed by GET /rest/metadata/objects"))
        }
        _ => Err(Refusal::not_found(format!("Cannot {} {}", call.method, call.path))),
    }
}

fn list_objects(world: &World, call: &Call) -> Result<Answer, Refusal> {
    let limit = match call.query("limit") {
        None => 60,
        Some(text) => text
            .parse::<usize>()
            .ok()
            .filter(|limit| *limit > 0)
            .ok_or_else(|| Refusal::bad("limit: a number above 0 is wanted"))?,
    };
    let all = &world.schema.objects;
    let from = match call.query("starting_after") {
        None => 0,
        Some(id) => {
            1 + all.iter().position(|object| object.id == id).ok_or_else(|| Refusal::bad("Invalid cursor"))?
        }
    };
    let page: Vec<&Object> = all.iter().skip(from).take(limit).map(|object| &**object).collect();
    let info = json!({
        "hasNextPage": from + page.len() < all.len(),
        "hasPreviousPage": from > 0,
        "startCursor": page.first().map(|object| &object.id),
        "endCursor": page.last().map(|object| &object.id),
    });
    let objects: Vec<Value> = page.into_iter().map(shown_object).collect();
    Ok(Answer::ok(Out::object([
        ("data", Out::Plain(json!({"objects": objects}))),
        ("pageInfo", Out::Plain(info)),
        ("totalCount", Out::Plain(all.len().into())),
    ])))
}

fn shown_object(object: &Object) -> Value {
    let fields: Vec<Value> = object.fields.iter().map(shown_field).collect();
    json!({
        "id": object.id, "nameSingular": object.singular, "namePlural": object.plural,
        "labelSingular": object.label_singular, "labelPlural": object.label_plural,
        "description": object.description, "icon": object.icon, "isCustom": object.custom, "isActive": true,
        "isSystem": false, "fields": fields,
    })
}

fn shown_field(field: &Field) -> Value {
    let options = (!field.options.is_empty()).then_some(&field.options);
    let relation = field.relation.as_ref().map(|relation| {
        json!({
            "type": if relation.to_one { "MANY_TO_ONE" } else { "ONE_TO_MANY" },
            "targetObjectMetadataId": relation.target, "targetFieldName": relation.target_field,
        })
    });
    json!({
        "id": field.id, "type": field.kind.name(), "name": field.name, "label": field.label,
        "description": field.description, "icon": field.icon, "isCustom": field.custom, "isActive": true,
        "isSystem": field.system, "isNullable": field.nullable, "isUnique": field.unique, "options": options,
        "relation": relation,
    })
}

/// A body of which every key has to be asked for.
struct Form {
    map: Map<String, Value>,
}

impl Form {
    fn of(call: &Call) -> Result<Self, Refusal> {
        call.only(&[])?;
        match call.json()? {
            Value::Object(map) => Ok(Self { map }),
            _ => Err(Refusal::bad("The body has to be a JSON object")),
        }
    }

    fn text(&mut self, name: &str) -> Result<String, Refusal> {
        match self.map.remove(name) {
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
            _ => Err(Refusal::bad(format!("{name}: text is wanted"))),
        }
    }

    fn optional_text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        if matches!(self.map.get(name), None | Some(Value::Null)) {
            self.map.remove(name);
            return Ok(None);
        }
        self.text(name).map(Some)
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(Refusal::bad(format!("{name}: true or false is wanted"))),
        }
    }

    fn end(self) -> Result<(), Refusal> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err(Refusal::not_covered(format!("\"{name}\" in this call"), "leave it out")),
        }
    }
}

/// A name that objects and fields may have.
fn check_name(name: &str) -> Result<(), Refusal> {
    let mut letters = name.chars();
    let starts = letters.next().is_some_and(|first| first.is_ascii_lowercase());
    if !starts || !letters.all(|letter| letter.is_ascii_alphanumeric()) {
        return Err(Refusal::bad(format!("The name \"{name}\" must match ^[a-z][a-zA-Z0-9]*$")));
    }
    if name.len() > 63 {
        return Err(Refusal::bad(format!("The name \"{name}\" exceeds 63 characters")));
    }
    if RESERVED.contains(&name) {
        return Err(Refusal::bad(format!("The name \"{name}\" is reserved")));
    }
    Ok(())
}

/// Refuses a field name whose columns would get in another's way.
fn check_free(object: &Object, field: &Field) -> Result<(), Refusal> {
    let taken = |name: &str| object.field(name).is_some() || object.relation_by_id_name(name).is_some();
    let names_id = field.relation.as_ref().is_some_and(|relation| relation.to_one) && taken(&field.id_name());
    if taken(&field.name) || names_id {
        let message =
            format!("The name \"{}\" is not available: {} has such a field", field.name, object.singular);
        return Err(Refusal::bad(message));
    }
    Ok(())
}

fn create_object(world: &mut World, call: &Call) -> Result<Answer, Refusal> {
    let mut form = Form::of(call)?;
    let object = Object {
        id: value::new_uuid(),
        singular: form.text("nameSingular")?,
        plural: form.text("namePlural")?,
        label_singular: form.text("labelSingular")?,
        label_plural: form.text("labelPlural")?,
        description: form.optional_text("description")?,
        icon: form.optional_text("icon")?,
        custom: true,
        fields: std::iter::once(schema::name_field()).chain(schema::base_fields()).collect(),
    };
    form.end()?;
    let object = Object { fields: sorted_by_id_first(object.fields), ..object };
    check_name(&object.singular)?;
    check_name(&object.plural)?;
    let taken = world.schema.objects.iter().any(|known| {
        [&known.singular, &known.plural]
            .into_iter()
            .any(|name| *name == object.singular || *name == object.plural)
    });
    if taken || object.singular == object.plural || object.plural == "batch" || object.plural == "metadata" {
        return Err(Refusal::bad(
            "The singular and plural names must differ from each other and from other objects'",
        ));
    }
    let shown = shown_object(&object);
    world.atomically(|world| world.add_object(object))?;
    Ok(Answer::created(Out::data("createOneObject", Out::Plain(shown))))
}

/// The id first, where rows are read from.
fn sorted_by_id_first(mut fields: Vec<Field>) -> Vec<Field> {
    fields.sort_by_key(|field| field.name != "id");
    fields
}

fn create_field(world: &mut World, call: &Call) -> Result<Answer, Refusal> {
    let mut form = Form::of(call)?;
    let object_id = form.text("objectMetadataId")?;
    let object =
        world.schema.by_id(&object_id).cloned().ok_or_else(|| Refusal::not_found("Object not found"))?;
    let kind = form.text("type")?;
    let (name, label) = (form.text("name")?, form.text("label")?);
    check_name(&name)?;
    let (description, icon) = (form.optional_text("description")?, form.optional_text("icon")?);
    let finish =
        |field: Field| Field { custom: true, description: description.clone(), icon: icon.clone(), ..field };
    if kind == "RELATION" {
        let creation = form.map.remove("relationCreationPayload");
        form.end()?;
        let (one, many, target) = relation(world, &object, (&name, &label), creation)?;
        let one = finish(one);
        let shown = shown_field(&one);
        world.atomically(|world| {
            world.add_field(&object_id, one)?;
            world.add_field(&target, many)
        })?;
        return Ok(Answer::created(Out::data("createOneField", Out::Plain(shown))));
    }
    let kind = FieldType::CREATABLE.into_iter().find(|known| known.name() == kind).ok_or_else(|| {
        let known: Vec<&str> = FieldType::CREATABLE.iter().map(|known| known.name()).collect();
        Refusal::not_covered(
            format!("a field of type {kind}"),
            format!("there are {}, RELATION", known.join(", ")),
        )
    })?;
    let unique = form.flag("isUnique")?.unwrap_or(false);
    let nullable = form.flag("isNullable")?.unwrap_or(true);
    let options = form.map.remove("options");
    form.end()?;
    if unique && kind.unique_part().is_none() {
        return Err(Refusal::bad(format!("A field of type {} cannot be unique", kind.name())));
    }
    if !nullable {
        return Err(Refusal::not_covered("a field that cannot be null", "leave isNullable out"));
    }
    let field = finish(Field {
        id: value::new_uuid(),
        name,
        label,
        kind,
        unique,
        system: false,
        custom: true,
        nullable,
        description: None,
        icon: None,
        options: choices(kind, options)?,
        relation: None,
    });
    check_free(&object, &field)?;
    let shown = shown_field(&field);
    world.atomically(|world| world.add_field(&object_id, field))?;
    Ok(Answer::created(Out::data("createOneField", Out::Plain(shown))))
}

/// Both sides of a new relation, and the id of the object that it leads to.
fn relation(
    world: &World,
    object: &Object,
    (name, label): (&str, &str),
    creation: Option<Value>,
) -> Result<(Field, Field, String), Refusal> {
    let Some(Value::Object(map)) = creation else {
        return Err(Refusal::bad("relationCreationPayload: an object is wanted"));
    };
    let mut form = Form { map };
    let kind = form.text("type")?;
    let target = form.text("targetObjectMetadataId")?;
    let target_label = form.text("targetFieldLabel")?;
    let target_icon = form.text("targetFieldIcon")?;
    form.end()?;
    if kind != "MANY_TO_ONE" {
        return Err(Refusal::not_covered(
            format!("a relation of type {kind}"),
            "make it MANY_TO_ONE from the other side",
        ));
    }
    let target = world
        .schema
        .by_id(&target)
        .ok_or_else(|| Refusal::bad("targetObjectMetadataId: there is no such object"))?;
    let target_name = camel_case(&target_label);
    check_name(&target_name)?;
    let (one, mut many) =
        schema::relation_fields((name, label, &target.id), (&target_name, &target_label, &object.id));
    many.custom = true;
    many.icon = Some(target_icon);
    // relation_fields leads each side to the other's object.
    check_free(object, &one)?;
    check_free(target, &many)?;
    Ok((one, many, target.id.clone()))
}

/// `businessLinks` for `Business links`.
fn camel_case(label: &str) -> String {
    let words = label.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words
        .enumerate()
        .map(|(at, word)| {
            let word = word.to_ascii_lowercase();
            if at == 0 { word } else { schema::capitalised(&word) }
        })
        .collect()
}

fn choices(kind: FieldType, options: Option<Value>) -> Result<Vec<Choice>, Refusal> {
    let chooses = matches!(kind, FieldType::Select | FieldType::MultiSelect);
    let items = match options {
        None if !chooses => return Ok(Vec::new()),
        Some(Value::Array(items)) if chooses && !items.is_empty() => items,
        _ if chooses => return Err(Refusal::bad("options: a list of choices is wanted")),
        _ => return Err(Refusal::bad(format!("A field of type {} has no options", kind.name()))),
    };
    let mut choices: Vec<Choice> = Vec::new();
    for item in items {
        let choice: Choice = serde_json::from_value(item)
            .map_err(|_| Refusal::bad("options: each is {value, label, position, color}"))?;
        let upper_snake = choice.value.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
        let starts = choice.value.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase());
        if !upper_snake || !starts {
            return Err(Refusal::bad(format!("options: the value \"{}\" must be UPPER_SNAKE", choice.value)));
        }
        if choices.iter().any(|known| known.value == choice.value || known.position == choice.position) {
            return Err(Refusal::bad(format!(
                "options: \"{}\" or its position is there twice",
                choice.value
            )));
        }
        choices.push(choice);
    }
    Ok(choices)
}

fn create_webhook(world: &mut World, call: &Call) -> Result<Answer, Refusal> {
    let mut form = Form::of(call)?;
    let target_url = form.text("targetUrl")?;
    let secret = form.text("secret")?;
    let operations = form.map.remove("operations");
    form.end()?;
    if !target_url.starts_with("http://") && !target_url.starts_with("https://") {
        return Err(Refusal::bad("targetUrl: an address such as http://127.0.0.1:8080/hook is wanted"));
    }
    let operations: Option<Vec<String>> = operations.and_then(|value| serde_json::from_value(value).ok());
    let operations = operations.filter(|list| !list.is_empty());
    let operations =
        operations.ok_or_else(|| Refusal::bad("operations: a list such as [\"person.*\"] is wanted"))?;
    for operation in &operations {
        let known = operation.split_once('.').is_some_and(|(object, event)| {
            let object_known = object == "*" || world.schema.by_singular(object).is_some();
            object_known && (event == "*" || EVENTS.contains(&event))
        });
        if !known {
            return Err(Refusal::bad(format!("operations: there is no \"{operation}\"")));
        }
    }
    let webhook = Webhook { id: value::new_uuid(), target_url, operations, secret };
    let shown = json!({"id": webhook.id, "targetUrl": webhook.target_url, "operations": webhook.operations});
    world.atomically(|world| world.add_webhook(webhook))?;
    Ok(Answer::created(Out::data("createWebhook", Out::Plain(shown))))
}
