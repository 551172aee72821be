//! Whether a table is as it was: the service says when it was last changed, for nothing.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::model::{ErrorKind, Mapped, Mark, RecordKey, StoreError, fingerprint};

use super::super::{Changes, LazyRow};
use super::BigQueryStore;
use super::layout::{Layout, TableNames};

/// What a mark remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    table: String,
    /// When it was last changed, and what else tells one state of it from another.
    modified: String,
    rows: u64,
    /// What was read of it.
    read: String,
}

/// The mark of a read; none where the service's word is not relied on. The table was described before it was read.
pub(super) fn of(store: &BigQueryStore, layout: &Layout, mapped: &Mapped, rows: u64) -> Option<Mark> {
    if !store.trusts_modified {
        return None;
    }
    let modified = layout.info.modified.clone()?;
    let table = layout.names.sql();
    let read = read_of(layout, mapped);
    serde_json::to_string(&Remembered { table, modified, rows, read }).ok().map(Mark)
}

/// What is read of a table, hashed.
fn read_of(layout: &Layout, mapped: &Mapped) -> String {
    let fields = layout.fields.iter().map(|field| (field.id, field.form, &field.place));
    fingerprint(&format!(
        "{} {:?} {:?} {:?}",
        layout.select_list(),
        fields.collect::<Vec<_>>(),
        layout.meta,
        mapped.mapping.timezone
    ))
}

impl BigQueryStore {
    /// That nothing changed since a mark; none where something may have.
    pub(super) async fn changed_since(
        &self,
        mapped: &Mapped,
        since: &Mark,
    ) -> Result<Option<Box<dyn Changes>>, StoreError> {
        let Ok(remembered) = serde_json::from_str::<Remembered>(&since.0) else { return Ok(None) };
        if !self.trusts_modified {
            return Ok(None);
        }
        let layout = self.layout(mapped).await?;
        let as_it_was = layout.info.modified.as_ref() == Some(&remembered.modified)
            && layout.names.sql() == remembered.table
            && read_of(&layout, mapped) == remembered.read;
        if !as_it_was {
            return Ok(None);
        }
        let changes = Unchanged {
            store: self.clone(),
            mapped: mapped.clone(),
            layout,
            remembered,
            mark: since.clone(),
        };
        Ok(Some(Box::new(changes)))
    }
}

/// A table that is as it was.
struct Unchanged {
    store: BigQueryStore,
    mapped: Mapped,
    layout: Layout,
    remembered: Remembered,
    mark: Mark,
}

impl Unchanged {
    /// The keys from one to another. They are few enough to be held: a stretch of them, or all that are counted.
    async fn keys_between(
        &self,
        from: Option<&RecordKey>,
        to: Option<&RecordKey>,
    ) -> Result<Vec<RecordKey>, StoreError> {
        let texts: Vec<String> = self
            .layout
            .key
            .iter()
            .enumerate()
            .map(|(at, slot)| format!("{} AS c{at}", slot.text_sql()))
            .collect();
        // The first part alone narrows what is read; the rest is looked at here.
        let first = self.layout.key.first().map_or(String::new(), super::layout::Slot::text_sql);
        let mut terms = Vec::new();
        let mut parameters = Vec::new();
        for (bound, name, sign) in [(from, "low", ">="), (to, "high", "<=")] {
            if let Some(part) = bound.and_then(|key| key.parts().first()) {
                terms.push(format!("{first} {sign} @{name}"));
                parameters.push(super::sql::text(name, part));
            }
        }
        let wanted = if terms.is_empty() { String::new() } else { format!(" WHERE {}", terms.join(" AND ")) };
        let names: &TableNames = &self.layout.names;
        let sql = format!("SELECT {} FROM {} AS T{wanted}", texts.join(", "), names.sql());
        let failed = |failure| self.store.told(&failure);
        let mut pages = self.store.rest.query(&sql, parameters).await.map_err(failed)?;
        let mut keys = Vec::new();
        while let Some(rows) = pages.next().await.map_err(failed)? {
            for row in rows {
                let parts: Option<Vec<String>> = row.into_iter().collect();
                let key =
                    parts.and_then(|parts| self.layout.key_of(&self.mapped, parts)).ok_or_else(|| {
                        let message = format!("`{}` has a row without a usable key", names.title);
                        StoreError::new(ErrorKind::Corrupt, &self.store.name, message)
                    })?;
                let within = from.is_none_or(|from| *from <= key) && to.is_none_or(|to| key < *to);
                if within {
                    keys.push(key);
                }
            }
        }
        keys.sort();
        Ok(keys)
    }
}

#[async_trait]
impl Changes for Unchanged {
    async fn rows(&mut self) -> Result<Option<Vec<LazyRow>>, StoreError> {
        Ok(None)
    }

    fn count(&self) -> u64 {
        self.remembered.rows
    }

    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    async fn counts(&mut self, bounds: &[RecordKey]) -> Result<Vec<u64>, StoreError> {
        let mut counts = vec![0; bounds.len() + 1];
        for key in self.keys_between(None, None).await? {
            let place = bounds.partition_point(|bound| *bound <= key);
            if let Some(count) = counts.get_mut(place) {
                *count += 1;
            }
        }
        Ok(counts)
    }

    async fn keys(
        &mut self,
        from: Option<&RecordKey>,
        to: Option<&RecordKey>,
    ) -> Result<Vec<RecordKey>, StoreError> {
        self.keys_between(from, to).await
    }
}
