//! Fields that are written whole, for what a part of them is not sent with is emptied.

use serde_json::{Map, Value as Json, json};

use crate::model::normal;

use super::image::set_phone;
use super::rows::{Element, additional_phone};

/// A field with all of its elements.
pub(super) fn whole(ty: &str, before: &Json, own: &[&Element]) -> Json {
    let texts = |from: usize| own.iter().skip(from).map(|one| one.value.as_str()).collect::<Vec<_>>();
    let first = own.first().map_or("", |one| one.value.as_str());
    match ty {
        "EMAILS" => json!({ "primaryEmail": first, "additionalEmails": texts(1) }),
        "PHONES" => phones(before, own),
        "LINKS" => {
            let mut whole = before.as_object().cloned().unwrap_or_default();
            whole.insert("primaryLinkUrl".to_owned(), first.into());
            let more: Vec<Json> = texts(1).iter().map(|url| json!({ "url": url, "label": "" })).collect();
            whole.insert("secondaryLinks".to_owned(), more.into());
            Json::Object(whole)
        }
        "ARRAY" | "MULTI_SELECT" => json!(texts(0)),
        _ => first.into(),
    }
}

/// Phone numbers: those that were there stay in the very form they have.
fn phones(before: &Json, own: &[&Element]) -> Json {
    let same = |value: &str, normal: &str| {
        value == normal || normal::phone(value, None).is_some_and(|phone| phone.e164 == normal)
    };
    let (there, _) = super::rows::values(before, "PHONES");
    let more = before.get("additionalPhones").and_then(Json::as_array).cloned().unwrap_or_default();
    let mut whole = Map::new();
    match own.first() {
        Some(first) if there.as_deref().is_some_and(|there| same(there, &first.normal)) => {
            for part in ["primaryPhoneNumber", "primaryPhoneCountryCode", "primaryPhoneCallingCode"] {
                whole.insert(part.to_owned(), before.get(part).cloned().unwrap_or_else(|| "".into()));
            }
        }
        first => set_phone(&mut whole, first.map_or("", |first| &first.value)),
    }
    let additional: Vec<Json> = own
        .iter()
        .skip(1)
        .map(|one| {
            let kept = more
                .iter()
                .find(|phone| additional_phone(phone).is_some_and(|text| same(&text, &one.normal)));
            kept.cloned()
                .unwrap_or_else(|| json!({ "number": one.value, "countryCode": "", "callingCode": "" }))
        })
        .collect();
    whole.insert("additionalPhones".to_owned(), additional.into());
    Json::Object(whole)
}
