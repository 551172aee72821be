//! The workspace: its database, its objects and what has happened since somebody last looked.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::answer::{Out, Refusal};
use super::clock::Clock;
use super::schema::{self, Column, Field, Kind, Object, Schema};
use super::value;

/// What a client registered to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Webhook {
    pub id: String,
    pub target_url: String,
    pub operations: Vec<String>,
    pub secret: String,
}

/// Something that happened to a record, for webhooks.
#[derive(Debug)]
pub(super) struct Happening {
    /// `created`, `updated`, `deleted`, `restored` or `destroyed`.
    pub what: &'static str,
    pub object: Arc<Object>,
    pub record: Out,
    pub updated_fields: Option<Vec<String>>,
}

/// A workspace.
#[derive(Debug)]
pub(super) struct World {
    pub db: Connection,
    pub schema: Schema,
    pub webhooks: Vec<Webhook>,
    pub workspace: String,
    pub clock: Clock,
    /// The name of the API key, which every write is signed with.
    pub key_name: String,
    pub happenings: Vec<Happening>,
}

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS workspace (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS objects (at INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS webhooks (at INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, doc TEXT NOT NULL);
";

impl World {
    /// Opens the workspace in a file, or a new one in memory.
    ///
    /// # Errors
    /// When the file cannot be opened or is not a sandbox's.
    pub(super) fn open(file: Option<&Path>, clock: Clock, key_name: &str) -> Result<Self, Refusal> {
        let db = match file {
            Some(file) => Connection::open(file)?,
            None => Connection::open_in_memory()?,
        };
        db.set_prepared_statement_cache_capacity(64);
        if file.is_some() {
            // Answers have to survive the sandbox, not the machine.
            db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
        }
        db.execute_batch(TABLES)?;
        let workspace: Option<String> =
            db.query_row("SELECT id FROM workspace", [], |row| row.get(0)).optional()?;
        let mut world = Self {
            db,
            schema: Schema::default(),
            webhooks: Vec::new(),
            workspace: workspace.clone().unwrap_or_else(value::new_uuid),
            clock,
            key_name: key_name.to_owned(),
            happenings: Vec::new(),
        };
        if workspace.is_some() {
            world.schema.objects = world.documents("objects")?;
            world.webhooks = world.documents("webhooks")?;
        } else {
            world.atomically(|world| {
                world.db.execute("INSERT INTO workspace VALUES (?1)", [&world.workspace])?;
                schema::standard_objects().into_iter().try_for_each(|object| world.add_object(object))
            })?;
        }
        Ok(world)
    }

    fn documents<T: serde::de::DeserializeOwned>(&self, table: &str) -> Result<Vec<T>, Refusal> {
        let mut statement = self.db.prepare(&format!("SELECT doc FROM {table} ORDER BY at"))?;
        let texts = statement.query_map([], |row| row.get::<_, String>(0))?;
        let mut documents = Vec::new();
        for text in texts {
            documents.push(serde_json::from_str(&text?).map_err(|error| {
                Refusal::internal(format!("the data file is not of this version's sandbox: {error}"))
            })?);
        }
        Ok(documents)
    }

    /// Does all of it or nothing.
    pub(super) fn atomically<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let (schema, webhooks, happened) =
            (self.schema.clone(), self.webhooks.clone(), self.happenings.len());
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let done = work(self).and_then(|value| {
            self.db.execute_batch("COMMIT")?;
            Ok(value)
        });
        if done.is_err() {
            // What cannot be rolled back was not begun.
            let _ = self.db.execute_batch("ROLLBACK");
            self.schema = schema;
            self.webhooks = webhooks;
            self.happenings.truncate(happened);
        }
        done
    }

    /// Adds an object with its table.
    pub(super) fn add_object(&mut self, object: Object) -> Result<(), Refusal> {
        let columns: Vec<String> = object.columns().iter().map(declared).collect();
        self.db.execute_batch(&format!("CREATE TABLE {} ({})", object.table(), columns.join(", ")))?;
        for field in &object.fields {
            self.index(&object, field)?;
        }
        let document = document(&object)?;
        self.db.execute("INSERT INTO objects (id, doc) VALUES (?1, ?2)", [&object.id, &document])?;
        self.schema.objects.push(Arc::new(object));
        Ok(())
    }

    /// Adds a field with its columns to an object.
    pub(super) fn add_field(&mut self, object_id: &str, field: Field) -> Result<(), Refusal> {
        let at = self.schema.objects.iter().position(|object| object.id == object_id);
        let at = at.ok_or_else(|| Refusal::not_found("Object not found"))?;
        let mut object = Object::clone(&self.schema.objects[at]);
        for column in field.columns() {
            self.db.execute_batch(&format!(
                "ALTER TABLE {} ADD COLUMN {}",
                object.table(),
                declared(&column)
            ))?;
        }
        self.index(&object, &field)?;
        object.fields.push(field);
        self.keep(at, object)
    }

    /// Takes a field and its columns away, as nobody can over the network.
    pub(super) fn drop_field(&mut self, object: &str, name: &str) -> Result<(), Refusal> {
        let at = self.schema.objects.iter().position(|known| known.singular == object);
        let at = at.ok_or_else(|| Refusal::not_found("Object not found"))?;
        let mut object = Object::clone(&self.schema.objects[at]);
        let field = object.field(name).cloned().ok_or_else(|| Refusal::not_found("Field not found"))?;
        self.db.execute_batch(&format!("DROP INDEX IF EXISTS \"{}_{name}\"", object.singular))?;
        for column in field.columns() {
            self.db.execute_batch(&format!(
                "ALTER TABLE {} DROP COLUMN \"{}\"",
                object.table(),
                column.name
            ))?;
        }
        object.fields.retain(|field| field.name != name);
        self.keep(at, object)
    }

    fn keep(&mut self, at: usize, object: Object) -> Result<(), Refusal> {
        let document = document(&object)?;
        self.db.execute("UPDATE objects SET doc = ?2 WHERE id = ?1", [&object.id, &document])?;
        self.schema.objects[at] = Arc::new(object);
        Ok(())
    }

    /// The index of a unique field, and of the column of a relation.
    fn index(&self, object: &Object, field: &Field) -> Result<(), Refusal> {
        let index = format!("INDEX \"{}_{}\" ON {}", object.singular, field.name, object.table());
        if field.relation.as_ref().is_some_and(|relation| relation.to_one) {
            self.db.execute_batch(&format!("CREATE {index} (\"{}\")", field.id_name()))?;
        } else if let Some(column) = field.unique_column().filter(|column| column != "id") {
            self.db.execute_batch(&format!("CREATE UNIQUE {index} (\"{column}\")"))?;
        }
        Ok(())
    }

    /// Adds a webhook.
    pub(super) fn add_webhook(&mut self, webhook: Webhook) -> Result<(), Refusal> {
        let document = document(&webhook)?;
        self.db.execute("INSERT INTO webhooks (id, doc) VALUES (?1, ?2)", [&webhook.id, &document])?;
        self.webhooks.push(webhook);
        Ok(())
    }

    /// The object whose records are at `/rest/{plural}`.
    pub(super) fn object(&self, plural: &str) -> Result<Arc<Object>, Refusal> {
        let unknown = || Refusal::not_found(format!("There is no object \"{plural}\""));
        self.schema.by_plural(plural).cloned().ok_or_else(unknown)
    }
}

fn document(value: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|error| Refusal::internal(error.to_string()))
}

/// A column as CREATE TABLE has it.
fn declared(column: &Column) -> String {
    let kind = match column.kind {
        Kind::Number => "REAL",
        Kind::Bool => "INTEGER",
        _ => "TEXT",
    };
    let key = if column.name == "id" { " PRIMARY KEY NOT NULL" } else { "" };
    format!("\"{}\" {kind}{key}", column.name)
}
