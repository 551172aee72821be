//! Two SQL-like stores and two with record ids of their own, and what people do in them.
#![allow(dead_code, unreachable_pub)] // Each test file uses a part of it.

use std::collections::BTreeMap;

use trueup::model::{Cell, EntityName, FieldName, Mapped, RecordKey, StoreRecordId, Value};
use trueup::store::memory::{MemoryElement, MemoryObject, MemoryRow};

use crate::world::{World, field, key, store};

pub const MANIFESTS: &str = include_str!("../fixtures/identity.yaml");

pub fn world() -> World {
    World::new(MANIFESTS)
}

/// The same with numbers as keys of people.
pub fn numbered_world() -> World {
    let numbers = MANIFESTS
        .replace("key: {id: string}", "key: {id: int64}")
        .replace("person: {type: string,", "person: {type: int64,");
    World::new(&numbers)
}

pub fn id(text: &str) -> StoreRecordId {
    StoreRecordId(text.to_owned())
}

fn value(name: &str, text: &str) -> Value {
    match (name, text) {
        (_, "null") => Value::Null,
        ("first" | "hidden", text) => Value::Bool(text == "true"),
        ("person", text) if text.parse::<i64>().is_ok() => text.parse().map_or(Value::Null, Value::Int),
        (_, text) => Value::text(text),
    }
}

pub fn row(fields: &[(&str, &str)]) -> MemoryRow {
    let mut row = MemoryRow::default();
    for (name, text) in fields {
        row.fields.insert(field(name), Cell::Value(value(name, text)));
    }
    row
}

impl World {
    /// An application puts a row into a store with keys.
    pub fn put(&mut self, at: &str, entity: &str, id: &[&str], fields: &[(&str, &str)]) {
        self.tick();
        let mapped = self.mapped(entity, at);
        let key = RecordKey::new(id.iter().map(|part| (*part).to_owned()).collect());
        self.db(at).put(&mapped, &key, row(fields));
    }

    /// An application changes a field in a store with keys.
    pub fn change(&mut self, at: &str, entity: &str, id: &str, name: &str, text: &str) -> bool {
        self.tick();
        let mapped = self.mapped(entity, at);
        self.db(at).edit(&mapped, &key(id), |row| {
            row.fields.insert(field(name), Cell::Value(value(name, text)));
        })
    }

    pub fn drop_row(&mut self, at: &str, entity: &str, id: &str) {
        self.tick();
        let mapped = self.mapped(entity, at);
        self.db(at).delete(&mapped, &key(id));
    }

    /// Somebody makes an object by hand, without a key; elements as `("reach", "email", value)`.
    pub fn make(
        &mut self,
        at: &str,
        entity: &str,
        object: &str,
        fields: &[(&str, &str)],
        elements: &[(&str, &str, &str)],
    ) {
        self.tick();
        let mapped = self.mapped(entity, at);
        let mut all: BTreeMap<(EntityName, String), Vec<MemoryElement>> = BTreeMap::new();
        for (child, kind, value) in elements {
            let child = EntityName::new(child).expect("a name");
            all.entry((child, (*kind).to_owned()))
                .or_default()
                .push(MemoryElement { value: (*value).to_owned() });
        }
        let made = MemoryObject { row: row(fields), elements: all, ..MemoryObject::default() };
        self.db(at).put_object(&mapped, object, made);
    }

    /// Somebody changes an object by hand.
    pub fn touch(&mut self, at: &str, entity: &str, object: &str, change: impl FnOnce(&mut MemoryObject)) {
        self.tick();
        let mapped = self.mapped(entity, at);
        change(self.db(at).objects_mut(&mapped).get_mut(&id(object)).expect("the object"));
    }

    pub fn object(&self, at: &str, entity: &str, object: &str) -> Option<MemoryObject> {
        let mapped = self.mapped(entity, at);
        self.stores[&store(at)].objects(&mapped)?.get(&id(object)).cloned()
    }

    /// All objects: id, key.
    pub fn objects(&self, at: &str, entity: &str) -> Vec<(String, String)> {
        let mapped = self.mapped(entity, at);
        let objects = self.stores[&store(at)].objects(&mapped);
        let key =
            |object: &MemoryObject| object.key.as_ref().map_or("-".to_owned(), |key| key.parts().join("/"));
        objects.into_iter().flatten().map(|(id, object)| (id.0.clone(), key(object))).collect()
    }

    /// The keys of a table.
    pub fn keys(&self, at: &str, entity: &str) -> Vec<String> {
        let mapped = self.mapped(entity, at);
        let table = self.stores[&store(at)].table(&mapped);
        table.into_iter().flat_map(|table| table.rows.keys()).map(|key| key.parts().join("/")).collect()
    }

    /// A field of a row in a store with keys.
    pub fn at(&self, at: &str, entity: &str, id: &str, name: &str) -> String {
        let mapped = self.mapped(entity, at);
        let parts = id.split('/').map(str::to_owned).collect();
        let table = self.stores[&store(at)].table(&mapped);
        let row = table.and_then(|table| table.rows.get(&RecordKey::new(parts)));
        shown(row, &field(name))
    }

    /// The elements of an object.
    pub fn elements(&self, at: &str, entity: &str, object: &str, child: &str, kind: &str) -> Vec<String> {
        let child = EntityName::new(child).expect("a name");
        let found = self.object(at, entity, object);
        let elements = found.and_then(|object| object.elements.get(&(child, kind.to_owned())).cloned());
        elements.into_iter().flatten().map(|element| element.value).collect()
    }

    /// The values of a table's rows, as `key field field`.
    pub fn table(&self, at: &str, entity: &str, fields: &[&str]) -> Vec<String> {
        let mapped = self.mapped(entity, at);
        let table = self.stores[&store(at)].table(&mapped);
        let rows = table.into_iter().flat_map(|table| &table.rows);
        let line = |row: &MemoryRow| -> String {
            let all: Vec<String> = fields.iter().map(|name| shown(Some(row), &field(name))).collect();
            all.join(" ")
        };
        let mut lines: Vec<String> = rows.map(|(_, row)| line(row)).collect();
        lines.sort();
        lines
    }

    /// What the last plan says is held.
    pub fn held(&mut self) -> Vec<String> {
        let plan = self.plan();
        plan.notices.iter().map(|notice| notice.message.clone()).collect()
    }

    pub fn mapped_in(&self, at: &str) -> Vec<Mapped> {
        let entities = self.spec.entities.iter();
        entities
            .filter_map(|entity| {
                let mapping = self.spec.mapping(&entity.name, &store(at))?.clone();
                Some(Mapped { entity: entity.clone(), mapping })
            })
            .collect()
    }
}

fn shown(row: Option<&MemoryRow>, name: &FieldName) -> String {
    match row.map(|row| row.fields.get(name).and_then(Cell::value).cloned().unwrap_or_default()) {
        None => "-".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Text(text)) => text.to_string(),
        Some(other) => other.to_string(),
    }
}
