//! trueup inside another program: manifests as text, stores that the program brings, a plan to show, and an apply.
//!
//! The stores here live in memory. A program with real ones calls `Engine::open`, which opens what the manifests name, or
//! implements `trueup::store::Store` for its own. Run it with `cargo run --example library`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trueup::controller::{Engine, PassOptions};
use trueup::model::{Cell, EntityName, FieldName, Mapped, RecordKey, StateId, StoreName, Value};
use trueup::plan::{RenderOptions, render};
use trueup::spec::{Source, Spec, compile, render_lines};
use trueup::state::memory::MemoryState;
use trueup::store::Store;
use trueup::store::memory::{MemoryRow, MemoryStore};
use trueup::telemetry::Silent;

/// What could as well stand in a folder; `trueup::cli::load::load` reads one.
const MANIFESTS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: catalogue}
spec: {canonical: true, memory: {}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: kiosk}
spec: {memory: {}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: books}
spec:
  key: {isbn: string}
  fields:
    title: {type: string, required: true}
    shelf: {pattern: "^[A-Z][0-9]+$"}
    pages: {type: int64, range: {min: 1}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: books}
spec:
  entity: books
  stores:
    catalogue: {table: books, fields: {"*": same}, sync: {columns: same}}
    kiosk: {table: books, fields: {"*": same}, sync: {columns: same}}
"#;

/// One store, and the table of books in it.
struct Shelf {
    store: MemoryStore,
    books: Mapped,
}

impl Shelf {
    fn new(spec: &Spec, name: &str) -> Result<Self, Box<dyn Error>> {
        let (name, entity) = (StoreName::new(name)?, EntityName::new("books")?);
        let mapping = spec.mapping(&entity, &name).ok_or("books are not kept there")?.clone();
        let entity = spec.entity(&entity).ok_or("there are no books")?.clone();
        Ok(Self { store: MemoryStore::new(name), books: Mapped { entity, mapping } })
    }

    /// What an application does that knows nothing of trueup.
    fn put(&self, isbn: &str, fields: &[(&str, Value)]) -> Result<(), Box<dyn Error>> {
        let mut row = MemoryRow::default();
        for (name, value) in fields {
            row.fields.insert(FieldName::new(*name)?, Cell::Value(value.clone()));
        }
        self.store.db().put(&self.books, &key(isbn), row);
        Ok(())
    }

    fn edit(&self, isbn: &str, field: &str, value: Value) -> Result<(), Box<dyn Error>> {
        let field = FieldName::new(field)?;
        let known = self.store.db().edit(&self.books, &key(isbn), |row| {
            row.fields.insert(field, Cell::Value(value));
        });
        if known { Ok(()) } else { Err("there is no such book".into()) }
    }

    fn get(&self, isbn: &str, field: &str) -> Result<Option<Value>, Box<dyn Error>> {
        let field = FieldName::new(field)?;
        let db = self.store.db();
        let row = db.table(&self.books).and_then(|table| table.rows.get(&key(isbn)));
        Ok(row.and_then(|row| row.fields.get(&field)).and_then(Cell::value).cloned())
    }
}

fn key(isbn: &str) -> RecordKey {
    RecordKey::new(vec![isbn.to_owned()])
}

/// Brings a kiosk and a catalogue to agree; the page that shows the plan.
pub(crate) async fn agree() -> Result<String, Box<dyn Error>> {
    let source = Source { file: "books.yaml".to_owned(), text: MANIFESTS.to_owned() };
    let (spec, _warnings) =
        compile(Path::new("."), &[source], &BTreeMap::new()).map_err(|found| render_lines(&found))?;
    let spec = Arc::new(spec);
    let (catalogue, kiosk) = (Shelf::new(&spec, "catalogue")?, Shelf::new(&spec, "kiosk")?);
    let mut stores = BTreeMap::new();
    for shelf in [&catalogue, &kiosk] {
        let store: Arc<dyn Store> = Arc::new(shelf.store.clone());
        stores.insert(store.name().clone(), Ok(store));
    }
    let state = Arc::new(MemoryState::new(StateId("library".to_owned())));
    let engine = Engine::with(spec, stores, state);
    let (options, stop) = (PassOptions::default(), CancellationToken::new());

    // Tables that are missing are made, and a first pass takes what the catalogue has to the kiosk.
    engine.migrate(&engine.migration().await?).await?;
    catalogue.put("978-0-00-000000-2", &[("title", Value::text("Tides")), ("pages", Value::Int(312))])?;
    catalogue.put("978-0-00-000001-9", &[("title", Value::text("Salt")), ("shelf", Value::text("B7"))])?;
    let report = engine.pass(&options, &Silent, &stop).await?;
    assert_eq!(report.applied.create, 2);

    // Two people work on one book in two places, on different fields.
    kiosk.edit("978-0-00-000000-2", "shelf", Value::text("A12"))?;
    catalogue.edit("978-0-00-000000-2", "pages", Value::Int(320))?;
    let plan = engine.plan(&options, &Silent).await?;
    let page = render(&plan, &RenderOptions::default());

    // A plan that somebody looked at in between is checked again, record by record, as it is applied.
    let report = engine.apply(plan, true, &options, &Silent, &stop).await?;
    assert!(report.is_clean(), "{:?}", report.failed);
    for shelf in [&catalogue, &kiosk] {
        assert_eq!(shelf.get("978-0-00-000000-2", "shelf")?, Some(Value::text("A12")));
        assert_eq!(shelf.get("978-0-00-000000-2", "pages")?, Some(Value::Int(320)));
    }
    assert!(engine.plan(&options, &Silent).await?.is_empty(), "nothing is left to do");
    Ok(page)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    use std::io::Write as _;
    std::io::stdout().write_all(agree().await?.as_bytes())?;
    Ok(())
}
