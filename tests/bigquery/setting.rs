//! A warehouse in BigQuery, canonical, and a SQLite file beside it.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;
use trueup::controller::{Engine, PassOptions};
use trueup::model::{Mapped, StoreName};
use trueup::plan::Plan;
use trueup::reconcile::Report;
use trueup::spec::Spec;
use trueup::telemetry::Silent;

use crate::emulator::{Emulator, PROJECT};

const MANIFESTS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: warehouse}
spec: {canonical: true, bigquery: {project: demo, dataset: DATASET, emulator: "REST"MORE}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: local}
spec: {sqlite: {path: local.db}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: people}
spec:
  key: {id: string}
  fields:
    name: {type: string, required: true}
    note: string
    size: int64
    city: string
    tags: string_list
    links: json
    facts: json
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: people}
spec:
  entity: people
  stores:
    warehouse: {table: people, fields: {"*": same, city: address.city}, sync: {struct: sync_metadata}}
    local: {table: people, fields: {"*": same}, sync: {columns: same}}
---
apiVersion: trueup/v1
kind: Controller
metadata: {name: controller}
spec:
  state: {sqlite: state.db}
  lease: 250ms
  guards: {max_deletes: 100%, max_updates: 100%}
"#;

/// A folder with manifests, and the two stores that they name.
pub(crate) struct Setting {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) dataset: String,
}

impl Setting {
    /// A new one; the table of people in the warehouse is another application's, with columns that are nobody's business.
    pub(crate) async fn new(emulator: &Emulator, rest: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dataset = emulator.dataset().await;
        let manifests = MANIFESTS.replace("DATASET", &dataset).replace("REST", rest).replace("MORE", more);
        std::fs::write(folder.path().join("all.yaml"), manifests).unwrap();
        let setting = Self { folder, dataset };
        let create = format!(
            "CREATE TABLE {} (id STRING NOT NULL, name STRING, note STRING, size INT64, \
             address STRUCT<city STRING, zip STRING>, tags ARRAY<STRING>, links ARRAY<STRUCT<kind STRING, n INT64>>, \
             theirs STRUCT<a STRING, b ARRAY<STRING>>)",
            setting.table()
        );
        emulator.query(&create, &[]).await;
        Connection::open(setting.path("local.db")).unwrap();
        setting
    }

    /// Changes the manifests.
    pub(crate) fn replace(&self, this: &str, by: &str) {
        let path = self.path("all.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(this));
        std::fs::write(path, text.replace(this, by)).unwrap();
    }

    pub(crate) fn table(&self) -> String {
        format!("`{PROJECT}.{}.people`", self.dataset)
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn local(&self, sql: &str) {
        Connection::open(self.path("local.db")).unwrap().execute_batch(sql).unwrap();
    }

    pub(crate) fn local_text(&self, sql: &str) -> Option<String> {
        Connection::open(self.path("local.db")).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// The cells of a query in the warehouse.
    pub(crate) async fn cells(&self, emulator: &Emulator, sql: &str) -> Vec<Vec<Json>> {
        let answer = emulator.query(&sql.replace("PEOPLE", &self.table()), &[]).await;
        let rows = answer["rows"].as_array().cloned().unwrap_or_default();
        let cells = |row: &Json| row["f"].as_array().unwrap().iter().map(|cell| cell["v"].clone()).collect();
        rows.iter().map(cells).collect()
    }

    pub(crate) fn spec(&self) -> Arc<Spec> {
        spec(self.folder.path())
    }

    /// The people as they are mapped in the warehouse.
    pub(crate) fn mapped(&self) -> Mapped {
        let spec = self.spec();
        let entity = spec.entities.iter().find(|entity| entity.name.as_str() == "people").unwrap();
        let store = StoreName::new("warehouse").unwrap();
        Mapped { entity: entity.clone(), mapping: spec.mapping(&entity.name, &store).unwrap().clone() }
    }

    pub(crate) async fn engine(&self) -> Engine {
        let engine = Engine::open(self.spec(), true).await.expect("opened");
        engine.migrate(&engine.migration().await.expect("planned")).await.expect("migrated");
        engine
    }
}

fn spec(folder: &Path) -> Arc<Spec> {
    Arc::new(trueup::cli::load::load(folder).unwrap_or_else(|error| panic!("{error}")).0)
}

pub(crate) async fn pass(engine: &Engine) -> Report {
    engine.pass(&PassOptions::default(), &Silent, &CancellationToken::new()).await.expect("a pass")
}

pub(crate) async fn clean_pass(engine: &Engine) -> Report {
    let report = pass(engine).await;
    assert!(report.is_clean() && report.guards.is_empty(), "{report:?}");
    report
}

pub(crate) async fn plan(engine: &Engine) -> Plan {
    engine.plan(&PassOptions::default(), &Silent).await.expect("a plan")
}
