//! Reading some records.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use crate::model::{Mapped, Presence, RecordKey, StoreError, Unknown};

use super::TwentyStore;
use super::layout::{Layout, Place, Target};
use super::query::{VALUES_A_CALL, any_of, one_of};
use super::rows::{Read, key_text, read};
use super::write::filter_value;

/// A condition that lets through the records of some keys, and maybe others.
pub(super) fn key_filter(layout: &Layout, mapped: &Mapped, keys: &[&RecordKey]) -> Option<Json> {
    if keys.is_empty() {
        return None;
    }
    if let Some(column) = &layout.key_text {
        let texts: Vec<String> = keys.iter().map(|key| key_text(key)).collect();
        return Some(one_of(column, None, json!(texts)));
    }
    let mut conditions = Vec::new();
    for (at, (place, part)) in layout.key.iter().zip(&mapped.entity.key).enumerate() {
        let Place::At(path) = place else { continue };
        let values: BTreeSet<&String> = keys.iter().filter_map(|key| key.parts().get(at)).collect();
        // An empty text stands for every record without a key.
        let values: Vec<Json> = values
            .into_iter()
            .filter(|text| !text.is_empty() && !text.contains('\0'))
            .map(|text| filter_value(text, part.ty, &path.ty))
            .collect();
        conditions.push(one_of(&path.attribute, path.part.as_deref(), json!(values)));
    }
    match conditions.len() {
        0 => None,
        1 => conditions.pop(),
        _ => Some(json!({ "and": conditions })),
    }
}

impl TwentyStore {
    async fn records(
        &self,
        layout: &Layout,
        mapped: &Mapped,
        keys: &[RecordKey],
        selection: &str,
    ) -> Result<Vec<Json>, StoreError> {
        let mut records = Vec::new();
        for keys in keys.chunks(VALUES_A_CALL) {
            let keys: Vec<&RecordKey> = keys.iter().collect();
            let Some(filter) = key_filter(layout, mapped, &keys) else { continue };
            let (plural, kind) = (&layout.object.plural, layout.object.kind());
            records.extend(self.matching(plural, &kind, selection, &filter, false).await?);
        }
        Ok(records)
    }

    pub(super) async fn read_some(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        if mapped.mapping.embedded().is_some() {
            // Elements carry no keys: whose they are is not known here.
            return Ok(keys
                .iter()
                .map(|key| (key.clone(), Presence::Unknown(Unknown::Unidentified)))
                .collect());
        }
        let layout = self.layout(mapped).await?;
        let mut presences: BTreeMap<RecordKey, Presence> =
            keys.iter().map(|key| (key.clone(), Presence::Absent)).collect();
        for record in self.records(&layout, mapped, keys, &layout.selection()).await? {
            match read(&layout, mapped, &record) {
                Read::Row(row) => {
                    if let Some(presence) = presences.get_mut(&row.key) {
                        *presence = match presence {
                            Presence::Absent => Presence::Present(row),
                            _ => Presence::Unknown(Unknown::DuplicateKey),
                        };
                    }
                }
                Read::Stray(stray) => {
                    if let Some(presence) = stray.key.and_then(|key| presences.get_mut(&key)) {
                        *presence = Presence::Unknown(Unknown::Unidentified);
                    }
                }
                Read::BadKey => {}
            }
        }
        Ok(presences)
    }

    pub(super) async fn read_objects(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Json>, StoreError> {
        if mapped.mapping.embedded().is_some() {
            return Ok(BTreeMap::new());
        }
        let layout = self.layout(mapped).await?;
        let mut whole: BTreeSet<String> = layout
            .object
            .fields
            .iter()
            .filter_map(|(name, of)| super::objects::selection(name, of))
            .collect();
        whole.insert("id".to_owned());
        // What tells the key through relations is asked for besides.
        let related = layout.key.iter().filter_map(|place| match place {
            Place::Related(relation) => {
                Some(format!("{} {{ id {} }}", relation.attribute, relation.target.key))
            }
            Place::At(_) => None,
        });
        whole.extend(related);
        let selection = whole.into_iter().collect::<Vec<_>>().join(" ");
        let wanted: BTreeSet<&RecordKey> = keys.iter().collect();
        let mut found = BTreeMap::new();
        for record in self.records(&layout, mapped, keys, &selection).await? {
            if let Read::Row(row) = read(&layout, mapped, &record)
                && wanted.contains(&row.key)
            {
                found.insert(row.key, record);
            }
        }
        Ok(found)
    }

    /// The ids of an entity's records, by their keys.
    pub(super) async fn ids_of(
        &self,
        target: &Target,
        keys: &BTreeSet<String>,
    ) -> Result<BTreeMap<(String, String), String>, StoreError> {
        let keys: Vec<&String> = keys.iter().filter(|key| !key.is_empty() && !key.contains('\0')).collect();
        let mut ids = BTreeMap::new();
        let kind = super::objects::capital(&target.singular);
        let selection = format!("id {}", target.key);
        for keys in keys.chunks(VALUES_A_CALL) {
            let filter = any_of(vec![one_of(&target.key, None, json!(keys))]);
            for record in self.matching(&target.plural, &kind, &selection, &filter, false).await? {
                let text = |name: &str| record.get(name).and_then(Json::as_str).map(str::to_owned);
                if let (Some(id), Some(key)) = (text("id"), text(&target.key)) {
                    ids.insert((target.entity.as_str().to_owned(), key), id);
                }
            }
        }
        Ok(ids)
    }
}
