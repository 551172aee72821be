//! Columns: which one a field has in a store, in which form, and a hash of what that means.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::mapping::Mappings;
use crate::model::{
    Column, Diagnostic, Direction, EntityName, FieldType, Form, Home, KeyMapping, MappingTag, Shape,
    StoreName, SyncPlace,
};
use crate::spec::raw::{Place, PlaceBody};
use crate::spec::yaml::shorten;
use crate::spec::{Reference, StoreKind, StoreSpec};

/// A field's place as a manifest gives it, understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Placed {
    Nowhere,
    At {
        column: Column,
        form: Option<Form>,
        direction: Option<Direction>,
    },
    /// A relation; the column is its name.
    Related {
        column: Column,
        direction: Option<Direction>,
    },
}

/// Reads a place; `name` is the field's own, which `same` stands for.
pub(super) fn placed(name: &str, place: &Place) -> Result<Placed, Diagnostic> {
    let body = match place {
        Place::Nowhere => return Ok(Placed::Nowhere),
        Place::Short(word) if word == "none" => return Ok(Placed::Nowhere),
        Place::Short(word) if word == "same" => PlaceBody::default(),
        Place::Short(path) => PlaceBody { path: Some(path.clone()), ..PlaceBody::default() },
        Place::Long(body) => body.clone(),
    };
    if let Some(relation) = &body.relation {
        let more =
            [("column", body.column.is_some()), ("path", body.path.is_some()), ("form", body.form.is_some())];
        if let Some((word, _)) = more.into_iter().find(|(_, given)| *given) {
            return Err(Diagnostic::error(format!("`{name}` is a relation and has no `{word}`"))
                .hint("a relation leads to a record, whose key the field holds: keep `relation` alone"));
        }
        return Ok(Placed::Related { column: plain(relation)?, direction: body.direction });
    }
    let column = match (&body.column, &body.path) {
        (Some(_), Some(_)) => {
            return Err(Diagnostic::error(format!("`{name}` has both a `column` and a `path`"))
                .hint("`path` is the column and the names inside it: keep one of the two"));
        }
        (Some(column), None) => plain(column)?,
        (None, Some(path)) => dotted(path)?,
        (None, None) => Column::plain(name),
    };
    Ok(Placed::At { column, form: body.form, direction: body.direction })
}

/// A column as it is named.
pub(super) fn plain(name: &str) -> Result<Column, Diagnostic> {
    if name.trim().is_empty() || name.chars().any(char::is_control) || name.chars().count() > 300 {
        return Err(Diagnostic::error(format!(
            "`{}` is no column",
            shorten(&name.escape_debug().to_string())
        )));
    }
    Ok(Column::plain(name))
}

/// A column and names inside it, with dots between.
pub(super) fn dotted(path: &str) -> Result<Column, Diagnostic> {
    let steps = path.split('.').map(|step| plain(step).map(|column| column.head().to_owned()));
    let steps: Result<Vec<String>, Diagnostic> = steps.collect();
    steps.map(Column).map_err(|found| Diagnostic {
        message: format!("`{}` is no column or path", shorten(&path.escape_debug().to_string())),
        ..found
    })
}

/// The forms that a type may take.
fn forms_of(ty: FieldType) -> Vec<Form> {
    let mut forms = vec![Form::Native, Form::Text];
    match ty {
        FieldType::String | FieldType::Int64 | FieldType::Bool => forms.push(Form::Int64),
        FieldType::Timestamp => forms.extend([Form::UnixSeconds, Form::UnixMillis, Form::UnixMicros]),
        FieldType::Json | FieldType::StringList => forms.push(Form::JsonText),
        FieldType::Float64 | FieldType::Numeric | FieldType::Date => {}
    }
    forms
}

/// The forms that a type may take in a store of a kind.
pub(super) fn forms_in(kind: &StoreKind, ty: FieldType) -> Vec<Form> {
    let mut forms = forms_of(ty);
    if matches!(kind, StoreKind::Twenty { .. } | StoreKind::Memory { .. }) {
        forms.extend(Form::CRM.into_iter().filter(|form| form.crm_suits(ty)));
    }
    forms
}

/// The form that a value takes in a store of a kind.
pub(super) fn form_in(kind: &StoreKind, ty: FieldType, form: Form, column: &Column) -> Form {
    if matches!(kind, StoreKind::Twenty { .. }) { crm_form(ty, form, column) } else { form }
}

/// The form that a value takes in a CRM. What its composite fields do to their parts is known by the parts' names.
fn crm_form(ty: FieldType, form: Form, column: &Column) -> Form {
    match (form, ty) {
        (Form::Native, FieldType::String) => match column.0.get(1).map(String::as_str) {
            Some("primaryEmail") => Form::CrmEmail,
            Some("primaryLinkUrl") => Form::CrmLink,
            _ => Form::CrmText,
        },
        (Form::Native, FieldType::Int64) | (Form::Int64, _) => Form::CrmNumber,
        (Form::Native, FieldType::Date | FieldType::Timestamp) => Form::CrmTime,
        // Its own JSON loses empty values and large integers.
        (Form::Native | Form::Text, FieldType::Json) | (Form::Text, FieldType::StringList) => Form::JsonText,
        (Form::Native, FieldType::StringList) => Form::CrmList,
        (Form::Native, FieldType::Numeric) | (Form::Text, _) => Form::CrmText,
        (form, _) => form,
    }
}

/// The form that values of a kind take inside another entity's row, in a store of a kind; none: any.
pub(super) fn embedded_form(store: &StoreKind, kind: &str) -> Option<Form> {
    matches!(store, StoreKind::Twenty { .. }).then(|| match kind {
        "email" => Form::CrmEmail,
        "phone" => Form::CrmPhone,
        kind if ["profile", "url", "link", "website"].iter().any(|word| kind.contains(word)) => Form::CrmLink,
        _ => Form::CrmText,
    })
}

/// What an entity is in a store, and where in it.
fn stands_in(shape: &Shape) -> (&'static str, String) {
    match shape {
        Shape::Table(table) => ("table", table.to_string()),
        Shape::Object(object) => ("object", object.clone()),
        Shape::Embedded(embedded) => {
            let places = embedded.places.iter();
            let places: Vec<_> = places.map(|(kind, place)| (kind, &place.column.0, &place.region)).collect();
            ("embedded", serde_json::json!([embedded.parent.as_str(), places]).to_string())
        }
    }
}

fn columns_of(key: &[KeyMapping]) -> Vec<(&Vec<String>, &str)> {
    key.iter().map(|part| (&part.column.0, part.form.as_str())).collect()
}

/// A hash of everything that decides what a field's column means.
pub(super) fn tag(
    shape: &Shape,
    key: &[KeyMapping],
    column: &Column,
    (form, direction): (Form, Direction),
    ty: FieldType,
    timezone: &str,
) -> MappingTag {
    let (kind, place) = stands_in(shape);
    let key = columns_of(key);
    let zone = if ty == FieldType::Timestamp { Some(timezone) } else { None };
    // JSON keeps the parts apart whatever characters they hold.
    let mut meaning = serde_json::json!([kind, place, key, column.0, form.as_str(), ty.as_str(), zone]);
    if let Some(parts) = meaning.as_array_mut().filter(|_| !direction.writes()) {
        // What stands there stands for less than it would if it could be written.
        parts.push("only read".into());
    }
    MappingTag(hash(&meaning))
}

/// Sets where the rows of every entity live in every store. An address may be a secret, and another one may lead to the same store: it
/// does not count.
pub(super) fn set_homes(mappings: &mut Mappings, stores: &BTreeMap<StoreName, StoreSpec>) {
    let shapes: BTreeMap<(EntityName, StoreName), Shape> = mappings
        .iter()
        .flat_map(|(entity, of_entity)| {
            of_entity.iter().map(|(store, mapping)| ((entity.clone(), store.clone()), mapping.shape.clone()))
        })
        .collect();
    for (store, mapping) in mappings.values_mut().flatten() {
        // Elements live where the rows live that they stand in.
        let around =
            mapping.embedded().and_then(|embedded| shapes.get(&(embedded.parent.clone(), store.clone())));
        let around = around.map(stands_in);
        let within = stores.get(store).map(|store| within(&store.kind));
        let (kind, place) = stands_in(&mapping.shape);
        let rows = serde_json::json!([within, around, kind, place, columns_of(&mapping.key)]);
        let version = match &mapping.sync {
            SyncPlace::None => serde_json::Value::Null,
            SyncPlace::Struct(column) => serde_json::json!(["struct", column.0]),
            SyncPlace::Json(column) => serde_json::json!(["json", column.0]),
            SyncPlace::JsonText(column) => serde_json::json!(["json-text", column.0]),
            SyncPlace::Columns { version, .. } => {
                serde_json::json!(["column", version.as_ref().map(|column| &column.0)])
            }
        };
        Arc::make_mut(mapping).home = Home { rows: hash(&rows), version: hash(&version) };
    }
}

/// Which part of a store's system holds its tables, as the manifest says it.
fn within(kind: &StoreKind) -> Vec<String> {
    let said = |reference: &Reference| match reference {
        Reference::Plain(text) => text.clone(),
        Reference::Env(name) => format!("${{env:{name}}}"),
        Reference::File(path) => format!("${{file:{}}}", path.display()),
    };
    match kind {
        StoreKind::Sqlite { path } => vec![said(path)],
        StoreKind::Postgres { schema, .. } => vec![schema.clone().unwrap_or_else(|| "public".to_owned())],
        StoreKind::BigQuery(dataset) => vec![said(&dataset.project), said(&dataset.dataset)],
        StoreKind::Memory { .. } | StoreKind::Twenty { .. } => Vec::new(),
    }
}

fn hash(meaning: &serde_json::Value) -> u32 {
    let hash = Sha256::digest(meaning.to_string().as_bytes());
    let mut first = [0; 4];
    for (to, from) in first.iter_mut().zip(hash.iter()) {
        *to = *from;
    }
    u32::from_be_bytes(first)
}
