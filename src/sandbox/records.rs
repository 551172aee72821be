//! Writing records: create, patch, delete, and the upsert that finds more than it is asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::types::Value as Sql;
use rusqlite::{OptionalExtension, params_from_iter};
use serde_json::{Map, Value};

use super::answer::{Out, Refusal};
use super::filter::Filter;
use super::list;
use super::schema::Object;
use super::value::{self, Cell};
use super::world::{Happening, World};

/// Fields that change with every write and say nothing about what was changed.
const ALWAYS_CHANGING: [&str; 2] = ["updatedAt", "updatedBy"];
/// Columns that cannot be NULL.
const NEVER_NULL: [&str; 2] = ["createdAt", "updatedAt"];

/// What a request's body puts into a record.
#[derive(Debug, Clone)]
struct Body {
    id: Option<String>,
    cells: Vec<Cell>,
}

impl Body {
    fn has(&self, column: &str) -> bool {
        self.cells.iter().any(|(name, _)| name == column)
    }
}

impl World {
    /// Creates a record.
    pub(super) fn create(&mut self, object: &Arc<Object>, body: &Value) -> Result<Out, Refusal> {
        let body = self.body(object, body)?;
        self.atomically(|world| world.insert(object, &body))
    }

    /// Creates records: all or none. They come back in the order of their ids.
    pub(super) fn create_many(
        &mut self,
        object: &Arc<Object>,
        bodies: &[Value],
    ) -> Result<Vec<Out>, Refusal> {
        let bodies = self.bodies(object, bodies)?;
        let mut rows = self.atomically(|world| {
            bodies.iter().map(|body| world.insert(object, body)).collect::<Result<Vec<_>, _>>()
        })?;
        rows.sort_by(|a, b| id_of(a).cmp(id_of(b)));
        Ok(rows)
    }

    fn bodies(&self, object: &Arc<Object>, bodies: &[Value]) -> Result<Vec<Body>, Refusal> {
        let body = |(at, body)| self.body(object, body).map_err(|refusal| refusal.at(format!("record {at}")));
        bodies.iter().enumerate().map(body).collect()
    }

    /// Changes a record. One that was soft-deleted can only be restored, by `deletedAt: null`.
    pub(super) fn patch(&mut self, object: &Arc<Object>, id: &str, body: &Value) -> Result<Out, Refusal> {
        let restores = body.get("deletedAt").is_some_and(Value::is_null);
        let body = self.body(object, body)?;
        if body.id.as_ref().is_some_and(|given| given != id) {
            return Err(Refusal::not_covered("changing an id", "leave it out"));
        }
        self.atomically(|world| {
            let before = world.row(object, id)?.ok_or_else(not_found)?;
            if is_deleted(&before) && !restores {
                return Err(not_found());
            }
            world.update(object, id, &before, &body)
        })
    }

    /// Creates a record or changes the one that has its id or any of its unique values, soft-deleted ones included.
    pub(super) fn upsert(&mut self, object: &Arc<Object>, body: &Value) -> Result<Out, Refusal> {
        let body = self.body(object, body)?;
        self.atomically(|world| match world.holder(object, &body)? {
            Some(id) => world.take_over(object, &id, &body),
            None => world.insert(object, &body),
        })
    }

    /// The same for many: the changed ones stay changed even if those to be created cannot be.
    pub(super) fn upsert_many(
        &mut self,
        object: &Arc<Object>,
        bodies: &[Value],
    ) -> Result<Vec<Out>, Refusal> {
        let bodies = self.bodies(object, bodies)?;
        let (mut held, mut new) = (Vec::new(), Vec::new());
        for body in bodies {
            match self.holder(object, &body)? {
                Some(id) => held.push((id, body)),
                None => new.push(body),
            }
        }
        let ids: BTreeSet<&str> = held.iter().map(|(id, _)| id.as_str()).collect();
        if ids.len() < held.len() {
            return Err(Refusal::not_covered(
                "two records of one upsert that are the same",
                "send them apart",
            ));
        }
        let mut rows = self.atomically(|world| {
            held.iter().map(|(id, body)| world.take_over(object, id, body)).collect::<Result<Vec<_>, _>>()
        })?;
        rows.extend(self.atomically(|world| {
            new.iter().map(|body| world.insert(object, body)).collect::<Result<Vec<_>, _>>()
        })?);
        Ok(rows)
    }

    /// Marks records as deleted, or removes them and clears what refers to them. Gives them as they were last.
    pub(super) fn delete(
        &mut self,
        object: &Arc<Object>,
        filter: &Filter,
        softly: bool,
    ) -> Result<Vec<Out>, Refusal> {
        self.atomically(|world| {
            let mut values = Vec::new();
            let condition = list::condition(Some(filter), &mut values);
            let columns = list::selected(object);
            let sql = format!("SELECT {columns} FROM {} WHERE {condition} ORDER BY \"id\"", object.table());
            let rows = list::read_all(&world.db, object, &sql, &values)?;
            let ids = Value::from(rows.iter().map(id_of).collect::<Vec<_>>()).to_string();
            if softly {
                return world.mark_deleted(object, &ids);
            }
            let chosen = "(SELECT value FROM json_each(?1))";
            for (other, relation) in world.references(object) {
                let (table, column) = (other.table(), relation);
                let sql = format!("UPDATE {table} SET \"{column}\" = NULL WHERE \"{column}\" IN {chosen}");
                world.db.prepare_cached(&sql)?.execute([&ids])?;
            }
            let sql = format!("DELETE FROM {} WHERE \"id\" IN {chosen}", object.table());
            world.db.prepare_cached(&sql)?.execute([&ids])?;
            for row in &rows {
                world.happened("destroyed", object, row.clone(), None);
            }
            Ok(rows)
        })
    }

    fn mark_deleted(&mut self, object: &Arc<Object>, ids: &str) -> Result<Vec<Out>, Refusal> {
        let now = value::time_text(self.clock.now_ms());
        let sql = format!(
            "UPDATE {} SET \"deletedAt\" = ?2 WHERE \"id\" IN (SELECT value FROM json_each(?1)) AND \"deletedAt\" IS NULL RETURNING {}",
            object.table(),
            list::selected(object)
        );
        let values = [Sql::Text(ids.to_owned()), Sql::Text(now)];
        let mut rows = list::read_all(&self.db, object, &sql, &values)?;
        rows.sort_by(|a, b| id_of(a).cmp(id_of(b)));
        for row in &rows {
            self.happened("deleted", object, row.clone(), None);
        }
        Ok(rows)
    }

    /// Columns of other objects, and of this one, that refer to an object.
    fn references(&self, object: &Object) -> Vec<(Arc<Object>, String)> {
        let mut found = Vec::new();
        for other in &self.schema.objects {
            let fields = other.fields.iter().filter(|field| {
                field
                    .relation
                    .as_ref()
                    .is_some_and(|relation| relation.to_one && relation.target == object.id)
            });
            found.extend(fields.map(|field| (other.clone(), field.id_name())));
        }
        found
    }

    /// A record by its id, also one that was soft-deleted.
    pub(super) fn row(&self, object: &Object, id: &str) -> Result<Option<Out>, Refusal> {
        let sql = format!("SELECT {} FROM {} WHERE \"id\" = ?1", list::selected(object), object.table());
        Ok(list::read_all(&self.db, object, &sql, &[Sql::Text(id.to_owned())])?.pop())
    }

    /// Checks a body and brings its values to the form they are kept in.
    fn body(&self, object: &Object, body: &Value) -> Result<Body, Refusal> {
        let map: &Map<String, Value> =
            body.as_object().ok_or_else(|| Refusal::bad("The body has to be a JSON object"))?;
        let mut read = Body { id: None, cells: Vec::new() };
        for (name, given) in map {
            if name == "id" {
                let id = given.as_str().ok_or_else(|| Refusal::bad("id: a UUID is wanted"))?;
                read.id = Some(value::uuid(id)?.to_owned());
            } else if let Some(field) = object.field(name).filter(|field| field.relation.is_none()) {
                let cells = value::cells(field, given)?;
                if NEVER_NULL.contains(&name.as_str()) && given.is_null() {
                    return Err(Refusal::bad(format!("{name} cannot be null")));
                }
                if name == "accountOwnerId" && !given.is_null() {
                    return Err(Refusal::bad("accountOwnerId: the sandbox has no workspace members"));
                }
                read.cells.extend(cells);
            } else if let Some(field) = object.relation_by_id_name(name) {
                read.cells.push((name.clone(), self.reference(object, field, given)?));
            } else if object.field(name).is_some() {
                let what = format!("writing the relation {name} as an object");
                return Err(Refusal::not_covered(what, format!("write {name}Id, on the side that has it")));
            } else {
                return Err(Refusal::bad(format!(
                    "Object {} doesn't have any \"{name}\" field",
                    object.singular
                )));
            }
        }
        Ok(read)
    }

    fn reference(
        &self,
        object: &Object,
        field: &super::schema::Field,
        given: &Value,
    ) -> Result<Sql, Refusal> {
        let name = field.id_name();
        let id = match given {
            Value::Null => return Ok(Sql::Null),
            Value::String(id) => value::uuid(id).map_err(|refusal| refusal.at(&name))?,
            _ => return Err(Refusal::bad(format!("{name}: a UUID is wanted"))),
        };
        let target = field.relation.as_ref().and_then(|relation| self.schema.by_id(&relation.target));
        let target =
            target.ok_or_else(|| Refusal::internal(format!("{}.{name} leads nowhere", object.singular)))?;
        let sql = format!("SELECT 1 FROM {} WHERE \"id\" = ?1", target.table());
        let found: Option<i64> =
            self.db.prepare_cached(&sql)?.query_row([id], |row| row.get(0)).optional()?;
        match found {
            Some(_) => Ok(Sql::Text(id.to_owned())),
            None => Err(Refusal::bad(format!("{name}: there is no {} with this id", target.singular))),
        }
    }

    fn insert(&mut self, object: &Arc<Object>, body: &Body) -> Result<Out, Refusal> {
        let id = body.id.clone().unwrap_or_else(value::new_uuid);
        let now = Sql::Text(value::time_text(self.clock.now_ms()));
        let mut cells = body.cells.clone();
        cells.push(("id".to_owned(), Sql::Text(id.clone())));
        for name in NEVER_NULL {
            if !body.has(name) {
                cells.push((name.to_owned(), now.clone()));
            }
        }
        cells.extend(self.signature("createdBy"));
        cells.extend(self.signature("updatedBy"));
        let names: Vec<String> = cells.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let marks: Vec<String> = (1..=cells.len()).map(|at| format!("?{at}")).collect();
        let position = if body.has("position") {
            (String::new(), String::new())
        } else {
            let next = format!(", (SELECT coalesce(max(rowid), 0) + 1.0 FROM {})", object.table());
            (", \"position\"".to_owned(), next)
        };
        let sql = format!(
            "INSERT INTO {} ({}{}) VALUES ({}{}) RETURNING {}",
            object.table(),
            names.join(", "),
            position.0,
            marks.join(", "),
            position.1,
            list::selected(object)
        );
        let values: Vec<Sql> = cells.into_iter().map(|(_, value)| value).collect();
        let row = list::read_all(&self.db, object, &sql, &values)?.pop();
        let row = row.ok_or_else(|| Refusal::internal("the new record is not there"))?;
        self.happened("created", object, row.clone(), None);
        Ok(row)
    }

    fn update(&mut self, object: &Arc<Object>, id: &str, before: &Out, body: &Body) -> Result<Out, Refusal> {
        let mut cells = body.cells.clone();
        if !body.has("updatedAt") {
            cells.push(("updatedAt".to_owned(), Sql::Text(value::time_text(self.clock.now_ms()))));
        }
        cells.extend(self.signature("updatedBy"));
        let set: Vec<String> =
            cells.iter().enumerate().map(|(at, (name, _))| format!("\"{name}\" = ?{}", at + 2)).collect();
        let sql = format!("UPDATE {} SET {} WHERE \"id\" = ?1", object.table(), set.join(", "));
        let values =
            std::iter::once(Sql::Text(id.to_owned())).chain(cells.into_iter().map(|(_, value)| value));
        self.db.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        let after = self.row(object, id)?.ok_or_else(not_found)?;
        let changed = changed_fields(before, &after);
        if !changed.is_empty() {
            let (was, is) = (is_deleted(before), is_deleted(&after));
            let (what, fields) = match (was, is) {
                (true, false) => ("restored", None),
                (false, true) => ("deleted", None),
                _ => ("updated", Some(changed)),
            };
            self.happened(what, object, after.clone(), fields);
        }
        Ok(after)
    }

    /// Changes the record that an upsert found, and brings it back if it was soft-deleted.
    fn take_over(&mut self, object: &Arc<Object>, id: &str, body: &Body) -> Result<Out, Refusal> {
        let before = self.row(object, id)?.ok_or_else(not_found)?;
        let mut body = body.clone();
        if !body.has("deletedAt") {
            body.cells.push(("deletedAt".to_owned(), Sql::Null));
        }
        self.update(object, id, &before, &body)
    }

    /// Who holds a body's id or one of its unique values.
    fn holder(&self, object: &Object, body: &Body) -> Result<Option<String>, Refusal> {
        let id = body.id.clone().map(|id| ("id".to_owned(), Sql::Text(id)));
        let unique: Vec<String> =
            object.fields.iter().filter_map(super::schema::Field::unique_column).collect();
        let values = body.cells.iter().filter(|(name, value)| unique.contains(name) && *value != Sql::Null);
        let mut holders = BTreeSet::new();
        for (name, value) in id.iter().chain(values) {
            let sql = format!("SELECT \"id\" FROM {} WHERE \"{name}\" = ?1", object.table());
            let holder: Option<String> =
                self.db.prepare_cached(&sql)?.query_row([value], |row| row.get(0)).optional()?;
            holders.extend(holder);
        }
        if holders.len() > 1 {
            let what = "an upsert whose id and unique values belong to several records";
            return Err(Refusal::not_covered(what, "update records by id"));
        }
        Ok(holders.pop_first())
    }

    /// Who wrote, as every API key signs.
    fn signature(&self, field: &str) -> [Cell; 2] {
        [
            (format!("{field}.source"), Sql::Text("API".to_owned())),
            (format!("{field}.name"), Sql::Text(self.key_name.clone())),
        ]
    }

    fn happened(
        &mut self,
        what: &'static str,
        object: &Arc<Object>,
        record: Out,
        fields: Option<Vec<String>>,
    ) {
        self.happenings.push(Happening { what, object: object.clone(), record, updated_fields: fields });
    }
}

/// The id of a record.
pub(super) fn id_of(row: &Out) -> &str {
    row.get("id").and_then(Out::as_text).unwrap_or_default()
}

/// Whether a record was soft-deleted.
pub(super) fn is_deleted(row: &Out) -> bool {
    row.get("deletedAt").is_some_and(|at| *at != Out::NULL)
}

/// What there is no record for.
pub(super) fn not_found() -> Refusal {
    Refusal::not_found("Record not found")
}

fn changed_fields(before: &Out, after: &Out) -> Vec<String> {
    let Out::Object(entries) = after else { return Vec::new() };
    let changed = entries
        .iter()
        .filter(|(name, value)| !ALWAYS_CHANGING.contains(&name.as_str()) && before.get(name) != Some(value));
    changed.map(|(name, _)| name.clone()).collect()
}
