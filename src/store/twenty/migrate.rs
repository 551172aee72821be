//! What the mappings need that a workspace lacks, made through its metadata: fields, and objects that join others. Only ever added.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::model::{
    Check, Column, EntityName, ErrorKind, Field, FieldType, Form, Mapped, Shape, StoreError, SyncPlace,
};

use super::super::MigrationStep;
use super::TwentyStore;
use super::labels::{COLOURS, camel, icon, label, plural};
use super::layout::object_name;
use super::objects::{OBJECTS, Objects, load, parts};

const FIELDS: &str = "rest/metadata/fields";

/// Fields that every new object has.
const BASE: [&str; 8] =
    ["id", "name", "createdAt", "updatedAt", "deletedAt", "createdBy", "updatedBy", "position"];

/// A field that has to be there.
struct Wanted<'a> {
    column: &'a Column,
    ty: String,
    unique: bool,
    /// Whether it holds the key. Another field that only one record may have a value of need not be so there: that is seen to by
    /// whoever writes.
    is_key: bool,
    options: Vec<String>,
    description: Option<&'a str>,
    relation: Option<&'a EntityName>,
}

impl TwentyStore {
    /// What is missing, in the order in which it can be made.
    pub(super) async fn missing(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        let objects = self.load_objects().await?;
        let mut steps = Vec::new();
        let mut made: BTreeSet<String> = BTreeSet::new();
        let of_name = |entity: &EntityName| {
            let all = mapped.iter().chain(self.known.iter());
            all.filter(|one| one.name() == entity)
                .find_map(|one| object_name(&one.mapping).map(str::to_owned))
        };
        for one in mapped {
            if let Some(name) = object_name(&one.mapping)
                && !objects.contains_key(name)
                && made.insert(name.to_owned())
            {
                steps.push(object_step(one, name));
            }
        }
        let mut fields: BTreeSet<(String, String)> = BTreeSet::new();
        for one in mapped {
            let object = match &one.mapping.shape {
                Shape::Object(name) => Some(name.clone()),
                Shape::Embedded(embedded) => of_name(&embedded.parent),
                Shape::Table(_) => None,
            };
            let Some(object) = object else { continue };
            let lacking = made.contains(&object);
            for wanted in wanted(one) {
                let name = wanted.column.head().to_owned();
                let there = objects.get(&object).and_then(|object| object.fields.get(&name));
                if let Some(there) = there {
                    self.suits(&object, &wanted, &there.ty, there.unique)?;
                    continue;
                }
                if (lacking && BASE.contains(&name.as_str())) || !fields.insert((object.clone(), name)) {
                    continue;
                }
                steps.push(self.field_step(&object, &wanted, &of_name)?);
            }
        }
        Ok(steps)
    }

    /// Whether a field that is there can be what it has to be.
    fn suits(&self, object: &str, wanted: &Wanted<'_>, ty: &str, unique: bool) -> Result<(), StoreError> {
        let refused = |message: String, hint: &str| {
            Err(StoreError::new(ErrorKind::Invalid, &self.name, message).hint(hint))
        };
        let (name, part) = (wanted.column.head(), wanted.column.0.get(1));
        if wanted.is_key && wanted.unique && !unique && ty == "TEXT" {
            return refused(
                format!("`{object}.{name}` holds the key, and is not unique"),
                "make it unique in the workspace's data model, so that no record can be doubled",
            );
        }
        if part.is_some_and(|part| !parts(ty).contains(&part.as_str())) {
            return refused(
                format!("`{object}.{}` is not there: `{name}` is {ty}", wanted.column),
                "correct the path in the mapping",
            );
        }
        if (wanted.relation.is_some()) != (ty == "RELATION") && part.is_none() {
            return refused(
                format!("`{object}.{name}` is {ty}, not {}", wanted.ty),
                "correct the mapping, or name another field",
            );
        }
        Ok(())
    }

    fn field_step(
        &self,
        object: &str,
        wanted: &Wanted<'_>,
        of_name: &impl Fn(&EntityName) -> Option<String>,
    ) -> Result<MigrationStep, StoreError> {
        let name = wanted.column.head();
        if matches!(wanted.ty.as_str(), "FULL_NAME" | "ADDRESS" | "CURRENCY" | "ACTOR") {
            let message = format!("`{object}` has no field `{name}`, and such a field cannot be made");
            return Err(StoreError::new(ErrorKind::Unsupported, &self.name, message)
                .hint("map a field that is there"));
        }
        let mut body = json!({
            "objectMetadataId": format!("{{{object}}}"),
            "type": wanted.ty,
            "name": name,
            "label": label(name),
            "icon": icon(name, &wanted.ty),
        });
        if let Some(description) = wanted.description {
            body["description"] = description.into();
        }
        if wanted.unique {
            body["isUnique"] = true.into();
        }
        if !wanted.options.is_empty() {
            let options = wanted.options.iter().zip(COLOURS.iter().cycle()).enumerate();
            body["options"] = options
                .map(|(at, (value, colour))| {
                    json!({ "value": value, "label": label(&value.to_lowercase()), "position": at, "color": colour })
                })
                .collect();
        }
        if let Some(entity) = wanted.relation {
            let Some(target) = of_name(entity) else {
                let message = format!("`{object}.{name}` leads to `{entity}`, which has no object here");
                return Err(StoreError::new(ErrorKind::Invalid, &self.name, message));
            };
            body["relationCreationPayload"] = json!({
                "type": "MANY_TO_ONE",
                "targetObjectMetadataId": format!("{{{target}}}"),
                "targetFieldLabel": label(&plural(object)),
                "targetFieldIcon": "IconLink",
            });
        }
        Ok(MigrationStep {
            adds: format!("field `{object}.{name}` ({})", words(&wanted.ty)),
            statement: format!("POST /{FIELDS} {body}"),
        })
    }

    pub(super) async fn run_steps(&self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        let mut objects: Option<Objects> = None;
        for step in steps {
            let senseless = || {
                let message = format!("{} is no step of this store", step.adds);
                StoreError::new(ErrorKind::Invalid, &self.name, message)
            };
            let rest = step.statement.strip_prefix("POST /").ok_or_else(senseless)?;
            let (path, body) = rest.split_once(' ').ok_or_else(senseless)?;
            let mut body: Json = serde_json::from_str(body).map_err(|_| senseless())?;
            if path != FIELDS && path != OBJECTS {
                return Err(senseless());
            }
            let known = match objects.take() {
                Some(known) => known,
                None => load(&self.name, &self.client).await?,
            };
            let name = body.get(if path == OBJECTS { "nameSingular" } else { "name" });
            let name = name.and_then(Json::as_str).unwrap_or_default().to_owned();
            if path == OBJECTS {
                if known.contains_key(&name) {
                    objects = Some(known);
                    continue;
                }
            } else {
                let of = body.get("objectMetadataId").and_then(Json::as_str).unwrap_or_default();
                let object = known.get(of.trim_matches(['{', '}'])).ok_or_else(senseless)?;
                if object.fields.contains_key(&name) {
                    objects = Some(known);
                    continue;
                }
                for place in ["/objectMetadataId", "/relationCreationPayload/targetObjectMetadataId"] {
                    let Some(value) = body.pointer_mut(place) else { continue };
                    let named = value.as_str().unwrap_or_default().trim_matches(['{', '}']).to_owned();
                    *value = known.get(&named).ok_or_else(senseless)?.id.as_str().into();
                }
                objects = Some(known);
            }
            self.client.write(&step.adds, Method::POST, path, &body).await?;
        }
        self.forget_objects();
        Ok(())
    }
}

fn words(ty: &str) -> &'static str {
    match ty {
        "TEXT" => "text",
        "NUMBER" => "number",
        "BOOLEAN" => "yes or no",
        "DATE" => "date",
        "DATE_TIME" => "date and time",
        "SELECT" => "choice",
        "ARRAY" => "list",
        "RAW_JSON" => "JSON",
        "EMAILS" => "e-mail addresses",
        "PHONES" => "phone numbers",
        "LINKS" => "links",
        "RELATION" => "relation",
        _ => "field",
    }
}

fn object_step(mapped: &Mapped, name: &str) -> MigrationStep {
    let own = camel(mapped.name().as_str());
    let many = if own != name && own.ends_with('s') { own } else { plural(name) };
    let joins = mapped.mapping.key_relations().next().is_some();
    let body = json!({
        "nameSingular": name,
        "namePlural": many,
        "labelSingular": label(name),
        "labelPlural": label(&many),
        "icon": if joins { "IconLink" } else { "IconDatabase" },
    });
    MigrationStep { adds: format!("object `{name}`"), statement: format!("POST /{OBJECTS} {body}") }
}

/// The fields that an entity needs.
fn wanted(mapped: &Mapped) -> Vec<Wanted<'_>> {
    let mapping = &mapped.mapping;
    let mut all = Vec::new();
    let text = |column, unique, description| Wanted {
        column,
        ty: "TEXT".to_owned(),
        unique,
        is_key: unique,
        options: Vec::new(),
        description,
        relation: None,
    };
    if let Some(embedded) = mapping.embedded() {
        all.extend(embedded.places.values().map(|place| Wanted {
            ty: element_type(place.form).to_owned(),
            ..text(&place.column, false, None)
        }));
        return all;
    }
    let alone = mapping.key.len() == 1;
    for part in &mapping.key {
        all.push(match &part.relation {
            Some(entity) => {
                Wanted { ty: "RELATION".into(), relation: Some(entity), ..text(&part.column, false, None) }
            }
            None => {
                text(&part.column, alone, Some("The record's key, the same in every store. Kept by trueup."))
            }
        });
    }
    if let Some(column) = &mapping.key_text {
        all.push(text(column, true, Some("The record's key, so that no link is doubled. Kept by trueup.")));
    }
    for (id, place) in &mapping.fields {
        let Some(field) = mapped.entity.fields.get(id.index()) else { continue };
        let mut wanted = text(&place.column, field.unique, field.description.as_deref());
        wanted.is_key = false;
        if let Some(entity) = &place.relation {
            wanted = Wanted { ty: "RELATION".into(), relation: Some(entity), unique: false, ..wanted };
        } else {
            wanted.options = choices(field, place.form, &place.column);
            wanted.ty = if wanted.options.is_empty() {
                field_type(field.ty, place.form, &place.column).to_owned()
            } else {
                "SELECT".to_owned()
            };
            wanted.unique &= wanted.ty == "TEXT";
        }
        all.push(wanted);
    }
    if let SyncPlace::JsonText(column) = &mapping.sync {
        all.push(text(column, false, Some("Version and origin of the record. Kept by trueup.")));
    }
    for column in [&mapping.created, &mapping.updated].into_iter().flatten() {
        all.push(Wanted { ty: "DATE_TIME".to_owned(), ..text(column, false, None) });
    }
    all
}

fn element_type(form: Option<Form>) -> &'static str {
    match form {
        Some(Form::CrmEmail) => "EMAILS",
        Some(Form::CrmPhone) => "PHONES",
        Some(Form::CrmLink) => "LINKS",
        _ => "ARRAY",
    }
}

/// The values of a field that people may choose from, where they are such as the server takes.
fn choices(field: &Field, form: Form, column: &Column) -> Vec<String> {
    if form != Form::CrmText || field.ty != FieldType::String || column.0.len() > 1 {
        return Vec::new();
    }
    let fits = |word: &String| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    let mut all = field.checks.iter().filter_map(|check| match check {
        Check::Enum(words) if words.iter().all(fits) => Some(words.iter().cloned().collect()),
        _ => None,
    });
    all.next().unwrap_or_default()
}

/// The type of a field that values of this form stand in.
fn field_type(ty: FieldType, form: Form, column: &Column) -> &'static str {
    if let Some(part) = column.0.get(1) {
        const COMPOSITES: [&str; 6] = ["FULL_NAME", "EMAILS", "PHONES", "LINKS", "ADDRESS", "CURRENCY"];
        return COMPOSITES.into_iter().find(|ty| parts(ty).contains(&part.as_str())).unwrap_or("ACTOR");
    }
    match (form, ty) {
        (Form::CrmEmail, _) => "EMAILS",
        (Form::CrmLink, _) => "LINKS",
        (Form::CrmPhone, _) => "PHONES",
        (Form::CrmTime, FieldType::Date) => "DATE",
        (Form::CrmTime, _) => "DATE_TIME",
        (Form::CrmJson, _) => "RAW_JSON",
        (Form::CrmList, _) => "ARRAY",
        (Form::Native, FieldType::Bool) => "BOOLEAN",
        (Form::CrmNumber | Form::UnixSeconds | Form::UnixMillis | Form::UnixMicros, _)
        | (Form::Native, FieldType::Float64 | FieldType::Int64) => "NUMBER",
        _ => "TEXT",
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::{Attribute, selection};

    #[test]
    fn every_type_of_field_that_is_made_can_be_asked_for() {
        for ty in ["TEXT", "NUMBER", "EMAILS", "PHONES", "LINKS", "ARRAY", "RAW_JSON", "SELECT"] {
            let attribute = Attribute { ty: ty.into(), unique: false, options: Vec::new(), join: None };
            assert!(selection("field", &attribute).is_some_and(|text| text.starts_with("field")), "{ty}");
        }
    }
}
