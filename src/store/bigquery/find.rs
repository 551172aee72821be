//! Rows by key.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use crate::model::{Mapped, Presence, RecordKey, Row, StoreError, Unknown, canonical_integer};

use super::super::tables::no_table;
use super::BigQueryStore;
use super::error::Failure;
use super::layout::{Layout, Slot, TableNames};
use super::schema::{Kind, TableInfo};
use super::sql::{string_type, structs, text_of};

/// Keys in a query: with them it stays well below what the service takes in a request.
const KEYS_PER_QUERY: usize = 5_000;

/// A row found by its key.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The slots as they stand.
    pub(super) values: Vec<Option<String>>,
    pub(super) row: Row,
}

impl BigQueryStore {
    /// The mapping laid onto its table as it is now.
    pub(super) async fn layout(&self, mapped: &Mapped) -> Result<Layout, StoreError> {
        let names = self.names(mapped)?;
        let info = self.table_info(&names).await?;
        let info = info.ok_or_else(|| no_table(&self.name, mapped.entity.system, &names.title))?;
        Layout::of(&self.name, names, info, mapped)
    }

    pub(super) async fn table_info(&self, names: &TableNames) -> Result<Option<TableInfo>, StoreError> {
        let json = self.rest.table(&names.dataset, &names.table).await;
        let json = json.map_err(|failure| self.told(&failure))?;
        Ok(json.as_ref().map(TableInfo::parse))
    }

    pub(super) fn told(&self, failure: &Failure) -> StoreError {
        failure.store_error(&self.name)
    }

    pub(super) async fn read_some(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        let layout = self.layout(mapped).await?;
        let wanted: BTreeSet<&RecordKey> = keys.iter().collect();
        let mut found = self.find(&layout, mapped, &wanted).await.map_err(|failure| self.told(&failure))?;
        let mut presence = |key: &RecordKey| match found.remove(key) {
            None => Presence::Absent,
            Some(mut rows) if rows.len() == 1 => {
                rows.pop().map_or(Presence::Absent, |found| Presence::Present(found.row))
            }
            Some(_) => Presence::Unknown(Unknown::DuplicateKey),
        };
        Ok(wanted.into_iter().map(|key| (key.clone(), presence(key))).collect())
    }

    /// Finds rows by key. Several rows of one key are all there.
    pub(super) async fn find(
        &self,
        layout: &Layout,
        mapped: &Mapped,
        keys: &BTreeSet<&RecordKey>,
    ) -> Result<BTreeMap<RecordKey, Vec<Found>>, Failure> {
        let mut found: BTreeMap<RecordKey, Vec<Found>> = BTreeMap::new();
        let key_count = layout.key.len();
        for cells in self.select_by_key(layout, &layout.select_list(), keys).await? {
            let mut cells = cells.into_iter();
            let parts: Option<Vec<String>> = cells.by_ref().take(key_count).collect();
            let values: Vec<Option<String>> = cells.collect();
            let Some(key) = parts.and_then(|parts| layout.key_of(mapped, parts)) else { continue };
            if values.len() != layout.slots.len() {
                return Err(Failure::senseless("a row with other columns than were asked for"));
            }
            if !keys.contains(&key) {
                continue;
            }
            let texts: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
            let row = layout.read_row(mapped, key.clone(), &texts);
            found.entry(key).or_default().push(Found { values, row });
        }
        Ok(found)
    }

    async fn select_by_key(
        &self,
        layout: &Layout,
        select: &str,
        keys: &BTreeSet<&RecordKey>,
    ) -> Result<Vec<super::rest::Cells>, Failure> {
        let possible: Vec<&RecordKey> = keys.iter().copied().filter(|key| can_be(layout, key)).collect();
        let mut rows = Vec::new();
        for keys in possible.chunks(KEYS_PER_QUERY) {
            let sql = format!(
                "SELECT {select} FROM {} AS T JOIN (SELECT r.* FROM UNNEST(@keys) AS r) AS S ON {}",
                layout.names.sql(),
                layout.keys_join(),
            );
            rows.extend(self.rows_seen(layout, &sql, vec![keys_parameter(layout, keys)]).await?);
        }
        Ok(rows)
    }

    /// Rows whole, as JSON objects by column name. Of several rows of one key the first.
    pub(super) async fn read_objects(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Json>, StoreError> {
        let layout = self.layout(mapped).await?;
        let wanted: BTreeSet<&RecordKey> = keys.iter().collect();
        let key_texts = layout.key.iter().map(Slot::text_sql);
        let columns = layout.info.columns.iter().map(|node| {
            let column = super::sql::column(std::slice::from_ref(&node.name));
            text_of(&column, node)
        });
        let select = key_texts.chain(columns).enumerate().map(|(at, text)| format!("{text} AS c{at}"));
        let select = select.collect::<Vec<_>>().join(", ");
        let rows = self.select_by_key(&layout, &select, &wanted).await;
        let mut objects = BTreeMap::new();
        for cells in rows.map_err(|failure| self.told(&failure))? {
            let mut cells = cells.into_iter();
            let parts: Option<Vec<String>> = cells.by_ref().take(layout.key.len()).collect();
            let Some(key) = parts.and_then(|parts| layout.key_of(mapped, parts)) else { continue };
            if !wanted.contains(&key) {
                continue;
            }
            let columns = layout.info.columns.iter().zip(cells);
            let object: serde_json::Map<String, Json> =
                columns.map(|(node, text)| (node.name.clone(), plain(node, text))).collect();
            objects.entry(key).or_insert(Json::Object(object));
        }
        Ok(objects)
    }
}

/// A column's text as JSON, for people.
fn plain(node: &super::schema::Node, text: Option<String>) -> Json {
    let Some(text) = text else { return Json::Null };
    let parsed = || serde_json::from_str(&text).ok();
    let json = if node.repeated {
        parsed()
    } else {
        match node.kind {
            Kind::Int | Kind::Bool | Kind::Json | Kind::Record => parsed(),
            Kind::Float => parsed().filter(Json::is_number),
            Kind::Timestamp => {
                let time = text.parse().ok().and_then(crate::model::Timestamp::from_micros);
                time.map(|time| time.to_string().into())
            }
            _ => None,
        }
    };
    json.unwrap_or(Json::String(text))
}

/// Whether a key can stand in the table at all: what could not would be an error in SQL.
fn can_be(layout: &Layout, key: &RecordKey) -> bool {
    key.parts().len() == layout.key.len()
        && key.parts().iter().zip(&layout.key).all(|(part, slot)| match slot.node.kind {
            Kind::Text => true,
            Kind::Int => canonical_integer(part).is_some(),
            _ => false,
        })
}

/// A list of keys as a parameter.
pub(super) fn keys_parameter(layout: &Layout, keys: &[&RecordKey]) -> Json {
    let fields: Vec<(String, Json)> =
        (0..layout.key.len()).map(|at| (format!("k{at}"), string_type())).collect();
    let rows = keys
        .iter()
        .map(|key| {
            let parts = key.parts().iter().enumerate();
            let values: serde_json::Map<String, Json> =
                parts.map(|(at, part)| (format!("k{at}"), json!({ "value": part }))).collect();
            json!({ "structValues": values })
        })
        .collect();
    structs("keys", &fields, rows)
}
