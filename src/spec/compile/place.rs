//! Columns: which one a field has in a store, in which form, and a hash of what that means.

use sha2::{Digest, Sha256};

use crate::model::{Column, Diagnostic, Direction, FieldType, Form, KeyMapping, MappingTag, Shape};
use crate::spec::StoreKind;
use crate::spec::raw::{Place, PlaceBody};
use crate::spec::yaml::shorten;

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

/// A hash of everything that decides what a field's column means.
pub(super) fn tag(
    shape: &Shape,
    key: &[KeyMapping],
    column: &Column,
    (form, direction): (Form, Direction),
    ty: FieldType,
    timezone: &str,
) -> MappingTag {
    let (kind, place) = match shape {
        Shape::Table(table) => ("table", table.to_string()),
        Shape::Object(object) => ("object", object.clone()),
        Shape::Embedded(embedded) => {
            let places = embedded.places.iter();
            let places: Vec<_> = places.map(|(kind, place)| (kind, &place.column.0, &place.region)).collect();
            ("embedded", serde_json::json!([embedded.parent.as_str(), places]).to_string())
        }
    };
    let key: Vec<(&Vec<String>, &str)> =
        key.iter().map(|part| (&part.column.0, part.form.as_str())).collect();
    let zone = if ty == FieldType::Timestamp { Some(timezone) } else { None };
    // JSON keeps the parts apart whatever characters they hold.
    let mut meaning = serde_json::json!([kind, place, key, column.0, form.as_str(), ty.as_str(), zone]);
    if let Some(parts) = meaning.as_array_mut().filter(|_| !direction.writes()) {
        // What stands there stands for less than it would if it could be written.
        parts.push("only read".into());
    }
    let hash = Sha256::digest(meaning.to_string().as_bytes());
    let mut first = [0; 4];
    for (to, from) in first.iter_mut().zip(hash.iter()) {
        *to = *from;
    }
    MappingTag(u32::from_be_bytes(first))
}
