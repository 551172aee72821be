//! Sync metadata in a store's own places: which parts a place keeps, and how they stand there as JSON.

use jiff::tz::TimeZone;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::model::{SyncMeta, SyncPlace, SyncStatus, Timestamp, Version};

pub(super) use crate::model::SYNC_PARTS as PARTS;

/// From here on [`PARTS`] are lists.
pub(super) const FIRST_LIST: usize = 4;

/// What of `meta` a place can keep: all of it in one column, part by part in several, nothing without a place.
pub(super) fn kept(place: &SyncPlace, meta: &SyncMeta) -> SyncMeta {
    match place {
        SyncPlace::None => SyncMeta::default(),
        SyncPlace::Struct(_) | SyncPlace::Json(_) | SyncPlace::JsonText(_) => meta.clone(),
        SyncPlace::Columns { .. } => {
            let mut parts = to_parts(meta);
            for (part, column) in parts.iter_mut().zip(place.columns()) {
                if column.is_none() {
                    *part = Json::Null;
                }
            }
            from_parts(&parts, &TimeZone::UTC)
        }
    }
}

/// Metadata as the values of [`PARTS`]; what is missing is null.
pub(super) fn to_parts(meta: &SyncMeta) -> [Json; 6] {
    let list = |items: Json| if items.as_array().is_none_or(Vec::is_empty) { Json::Null } else { items };
    [
        meta.version.map_or(Json::Null, |version| version.0.into()),
        meta.last_updated.map_or(Json::Null, |time| time.to_string().into()),
        meta.last_updated_by.as_deref().map_or(Json::Null, Into::into),
        meta.sync_status.map_or(Json::Null, |status| status.as_str().into()),
        list(meta.source_systems.to_vec().into()),
        list(serde_json::to_value(&meta.sync_errors).unwrap_or(Json::Null)),
    ]
}

/// Metadata from the values of [`PARTS`]. A part that makes no sense counts as missing: an application's idea of a version
/// must not stop the record, and evidence that cannot be read is none. A time without a zone is one in `zone`.
pub(super) fn from_parts(parts: &[Json; 6], zone: &TimeZone) -> SyncMeta {
    from_each(parts.each_ref(), zone)
}

fn from_each(parts: [&Json; 6], zone: &TimeZone) -> SyncMeta {
    let [version, last_updated, last_updated_by, sync_status, source_systems, sync_errors] = parts;
    SyncMeta {
        version: whole(version).map(Version),
        last_updated: last_updated.as_str().and_then(|text| Timestamp::parse(text, zone)),
        last_updated_by: last_updated_by.as_str().map(Into::into),
        sync_status: sync_status.as_str().and_then(SyncStatus::parse),
        source_systems: list(source_systems).into(),
        sync_errors: list(sync_errors),
    }
}

fn list<T: DeserializeOwned>(json: &Json) -> Vec<T> {
    if json.is_null() { Vec::new() } else { Vec::deserialize(json).unwrap_or_default() }
}

fn whole(json: &Json) -> Option<i64> {
    match json {
        Json::Number(number) => {
            number.as_i64().or_else(|| number.to_string().strip_suffix(".0")?.parse().ok())
        }
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Metadata out of a JSON object.
pub(super) fn from_object(object: &Map<String, Json>, zone: &TimeZone) -> SyncMeta {
    from_each(PARTS.map(|name| object.get(name).unwrap_or(&Json::Null)), zone)
}

/// Puts metadata into a JSON object. Whatever else stands in it stays.
pub(super) fn put_into(object: &mut Map<String, Json>, meta: &SyncMeta) {
    for (name, value) in PARTS.into_iter().zip(to_parts(meta)) {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Column;

    #[test]
    fn metadata_survives_an_object_and_leaves_what_else_is_in_it() {
        let meta = SyncMeta {
            version: Some(Version(7)),
            last_updated: Timestamp::from_micros(1_718_452_800_000_001),
            last_updated_by: Some("app".into()),
            sync_status: Some(SyncStatus::Pending),
            source_systems: vec!["app".into(), "local".into()].into(),
            sync_errors: Vec::new(),
        };
        let mut object = Map::new();
        object.insert("theirs".into(), 1.into());
        put_into(&mut object, &meta);
        assert_eq!(from_object(&object, &TimeZone::UTC), meta);
        put_into(&mut object, &SyncMeta::default());
        assert_eq!(Json::Object(object).to_string(), r#"{"theirs":1}"#);
    }

    #[test]
    fn a_place_with_few_columns_keeps_few_parts() {
        let place = SyncPlace::Columns {
            version: Some(Column::plain("version")),
            last_updated: None,
            last_updated_by: None,
            sync_status: None,
            source_systems: None,
            sync_errors: None,
        };
        let meta = SyncMeta {
            version: Some(Version(7)),
            last_updated_by: Some("app".into()),
            ..SyncMeta::default()
        };
        let expected = SyncMeta { version: Some(Version(7)), ..SyncMeta::default() };
        assert_eq!(kept(&place, &meta), expected);
        assert_eq!(kept(&SyncPlace::None, &meta), SyncMeta::default());
    }
}
