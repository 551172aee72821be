//! Records that other records refer to, fetched in one look a relation.

use std::collections::BTreeMap;

use rusqlite::types::Value as Sql;
use serde_json::Value;

use super::answer::{Out, Refusal};
use super::list;
use super::records::id_of;
use super::schema::{Field, Object};
use super::world::World;

impl World {
    /// The records that a relation of some rows leads to, by id; soft-deleted ones are left out.
    pub(super) fn targets(
        &self,
        target: &Object,
        field: &Field,
        rows: &[Out],
    ) -> Result<BTreeMap<String, Out>, Refusal> {
        let column = field.id_name();
        let ids: Vec<&str> = rows.iter().filter_map(|row| row.get(&column)?.as_text()).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE \"id\" IN (SELECT value FROM json_each(?1)) AND \"deletedAt\" IS NULL",
            list::selected(target),
            target.table()
        );
        let found = list::read_all(&self.db, target, &sql, &[Sql::Text(Value::from(ids).to_string())])?;
        Ok(found.into_iter().map(|row| (id_of(&row).to_owned(), row)).collect())
    }

    /// The object that a relation leads to.
    pub(super) fn target(&self, field: &Field) -> Result<std::sync::Arc<Object>, Refusal> {
        let target = field.relation.as_ref().and_then(|relation| self.schema.by_id(&relation.target));
        target.cloned().ok_or_else(|| Refusal::internal(format!("{} leads nowhere", field.name)))
    }

    /// Adds to each row, for every relation to one, the record it leads to.
    pub(super) fn add_relations(&self, object: &Object, rows: &mut [Out]) -> Result<(), Refusal> {
        for field in &object.fields {
            if !field.relation.as_ref().is_some_and(|relation| relation.to_one) {
                continue;
            }
            let target = self.target(field)?;
            let found = self.targets(&target, field, rows)?;
            for row in rows.iter_mut() {
                let id = row.get(&field.id_name()).and_then(Out::as_text);
                let value = id.and_then(|id| found.get(id)).cloned().unwrap_or(Out::NULL);
                if let Out::Object(entries) = row {
                    entries.push((field.name.clone(), value));
                }
            }
        }
        Ok(())
    }
}
