//! What objects a workspace has, and which fields: unknown fields are answered with null, so what is there has to be known.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::model::{ErrorKind, StoreError, StoreName};

use super::client::Client;

/// Where objects are listed and made.
pub(super) const OBJECTS: &str = "rest/metadata/objects";

/// Pages of objects that are asked for at most: a workspace has some dozens of objects.
const MOST_PAGES: usize = 100;

/// A field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    /// `TEXT`, `EMAILS`, `RELATION`…
    pub(super) ty: String,
    /// Whether no two records may have the same value.
    pub(super) unique: bool,
    /// The values of a choice.
    pub(super) options: Vec<String>,
    /// Of a relation to one record, the column that holds its id.
    pub(super) join: Option<String>,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) id: String,
    pub(super) singular: String,
    pub(super) plural: String,
    pub(super) fields: BTreeMap<String, Attribute>,
}

impl Object {
    /// The name of its kind in GraphQL: `Person`.
    pub(super) fn kind(&self) -> String {
        capital(&self.singular)
    }
}

/// A name with its first letter large.
pub(super) fn capital(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The objects of a workspace, by their names in the singular.
pub(super) type Objects = BTreeMap<String, Object>;

/// Asks the server for its objects.
pub(super) async fn load(store: &StoreName, client: &Client) -> Result<Objects, StoreError> {
    let mut objects = Objects::new();
    let mut after: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let cursor = after.as_deref().map(|after| ("starting_after", after));
        let answer = client.get("the list of objects", OBJECTS, cursor.as_slice()).await?;
        let listed = answer.pointer("/data/objects").or_else(|| answer.get("data")).and_then(Json::as_array);
        let Some(listed) = listed else {
            let error = StoreError::new(ErrorKind::Corrupt, store, "the list of objects makes no sense");
            return Err(error.hint("see that `url` is the server's own address, without a path"));
        };
        for object in listed.iter().filter_map(object) {
            objects.insert(object.singular.clone(), object);
        }
        let more = answer.pointer("/pageInfo/hasNextPage").and_then(Json::as_bool) == Some(true);
        after = answer.pointer("/pageInfo/endCursor").and_then(Json::as_str).map(str::to_owned);
        if !more || after.is_none() {
            break;
        }
    }
    Ok(objects)
}

fn text(json: &Json, name: &str) -> Option<String> {
    json.get(name).and_then(Json::as_str).map(str::to_owned)
}

fn object(json: &Json) -> Option<Object> {
    let listed = json.get("fields").and_then(Json::as_array).into_iter().flatten();
    Some(Object {
        id: text(json, "id")?,
        singular: text(json, "nameSingular")?,
        plural: text(json, "namePlural")?,
        // One that is switched off is answered with null, as one that is not there.
        fields: listed
            .filter(|field| field.get("isActive") != Some(&Json::Bool(false)))
            .filter_map(attribute)
            .collect(),
    })
}

fn attribute(json: &Json) -> Option<(String, Attribute)> {
    let name = text(json, "name")?;
    let ty = text(json, "type")?;
    let options = json.get("options").and_then(Json::as_array).into_iter().flatten();
    let to_many = json.pointer("/settings/relationType").or_else(|| json.pointer("/relation/type"));
    let to_one = to_many.and_then(Json::as_str).is_none_or(|kind| kind == "MANY_TO_ONE");
    let join = (ty == "RELATION" && to_one).then(|| {
        let named = json.pointer("/settings/joinColumnName").and_then(Json::as_str);
        named.map_or_else(|| format!("{name}Id"), str::to_owned)
    });
    let attribute = Attribute {
        ty,
        unique: json.get("isUnique") == Some(&Json::Bool(true)),
        options: options.filter_map(|option| text(option, "value")).collect(),
        join,
    };
    Some((name, attribute))
}

/// The parts of a composite field; none for a plain one.
pub(super) fn parts(ty: &str) -> &'static [&'static str] {
    match ty {
        "FULL_NAME" => &["firstName", "lastName"],
        "EMAILS" => &["primaryEmail", "additionalEmails"],
        "PHONES" => {
            &["primaryPhoneNumber", "primaryPhoneCountryCode", "primaryPhoneCallingCode", "additionalPhones"]
        }
        "LINKS" => &["primaryLinkUrl", "primaryLinkLabel", "secondaryLinks"],
        "ADDRESS" => &[
            "addressStreet1",
            "addressStreet2",
            "addressCity",
            "addressPostcode",
            "addressState",
            "addressCountry",
            "addressLat",
            "addressLng",
        ],
        "CURRENCY" => &["amountMicros", "currencyCode"],
        "ACTOR" => &["source", "workspaceMemberId", "name"],
        "RICH_TEXT" | "RICH_TEXT_V2" => &["blocknote", "markdown"],
        _ => &[],
    }
}

/// Whether writing a part of a composite field empties its other parts.
pub(super) fn is_written_whole(ty: &str) -> bool {
    matches!(ty, "EMAILS" | "PHONES" | "LINKS")
}

/// The part of a composite field that its uniqueness is about.
pub(super) fn unique_part(ty: &str) -> Option<&'static str> {
    match ty {
        "EMAILS" => Some("primaryEmail"),
        "LINKS" => Some("primaryLinkUrl"),
        "PHONES" => Some("primaryPhoneNumber"),
        _ => None,
    }
}

/// What has to be asked for to read a field whole, in GraphQL.
pub(super) fn selection(name: &str, attribute: &Attribute) -> Option<String> {
    if attribute.ty == "RELATION" || attribute.ty == "MORPH_RELATION" {
        return attribute.join.clone();
    }
    let parts = parts(&attribute.ty);
    Some(if parts.is_empty() { name.to_owned() } else { format!("{name} {{ {} }}", parts.join(" ")) })
}
