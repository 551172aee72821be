//! The demo's canonical store in a BigQuery emulator instead of a file.

use std::fs;
use std::path::Path;

use crate::model::StoreName;
use crate::store::bigquery::{BigQueryOptions, BigQueryStore, Emulator};
use crate::store::{MigrationStep, Store as _};

use super::super::Failure;
use super::folder::{MANIFESTS, Moment};

/// The store that is moved.
pub(super) const NAME: &str = "warehouse";

const PROJECT: &str = "demo";
const FIRST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/stores/warehouse.sql"));
const LATER: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/later/warehouse.bigquery.sql"));

/// What the file's manifest says, and what stands there instead.
const IN_A_FILE: &str = "sqlite: {path: ../stores/warehouse.db}";

/// SQLite's words and BigQuery's.
const WORDS: [(&str, &str); 6] = [
    (" PRIMARY KEY,", " NOT NULL,"),
    (",\n    PRIMARY KEY (contact_id, business_id)", ""),
    (" DEFAULT 'nightly import'", ""),
    (" INTEGER", " INT64"),
    (" REAL", " FLOAT64"),
    (" TEXT", " STRING"),
];

/// A dataset of an emulator.
pub(super) struct Warehouse {
    store: BigQueryStore,
    dataset: String,
}

impl Warehouse {
    /// Writes into the demo's manifests that the canonical store is there.
    pub(super) fn at(dir: &Path, url: &str) -> Result<Self, Failure> {
        let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let dataset = format!("trueup_demo_{}", seconds.as_millis());
        let path = dir.join(MANIFESTS).join("stores.yaml");
        let failed =
            |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
        let text = fs::read_to_string(&path).map_err(failed)?;
        let said = serde_json::Value::from(url);
        let there = format!("bigquery: {{project: {PROJECT}, dataset: {dataset}, emulator: {said}}}");
        fs::write(&path, text.replace(IN_A_FILE, &there)).map_err(failed)?;
        let name = StoreName::new(NAME).map_err(|error| Failure::new(error.to_string()))?;
        let options = BigQueryOptions {
            emulator: Some(Emulator { rest: url.to_owned(), grpc: None }),
            ..BigQueryOptions::new(PROJECT, dataset.clone())
        };
        let store = BigQueryStore::open(name, options).map_err(|error| Failure::new(error.to_string()))?;
        Ok(Self { store, dataset })
    }

    /// Does to the dataset what its own application did.
    pub(super) async fn run(&self, moment: Moment) -> Result<(), Failure> {
        let mut statements = Vec::new();
        let text = match moment {
            Moment::First => {
                statements.push(format!("CREATE SCHEMA `{PROJECT}.{}`", self.dataset));
                WORDS.iter().fold(FIRST.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
            }
            Moment::Later => LATER.to_owned(),
        };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        statements.extend(
            lines
                .join("\n")
                .split(";\n")
                .map(|statement| self.qualified(statement.trim().trim_end_matches(';'))),
        );
        let steps: Vec<MigrationStep> = statements
            .into_iter()
            .filter(|statement| !statement.is_empty())
            .map(|statement| MigrationStep { adds: "what the demo begins with".to_owned(), statement })
            .collect();
        self.store.migrate(&steps).await.map_err(|error| {
            Failure::new(error.to_string())
                .hint("name a running emulator: `--bigquery http://127.0.0.1:9050`")
        })
    }

    /// A statement whose table is in the dataset.
    fn qualified(&self, statement: &str) -> String {
        for verb in ["CREATE TABLE ", "INSERT INTO ", "UPDATE "] {
            if let Some(rest) = statement.strip_prefix(verb) {
                let end = rest.find(|char: char| char.is_whitespace() || char == '(').unwrap_or(rest.len());
                let (table, rest) = rest.split_at(end);
                return format!("{verb}`{PROJECT}.{}.{table}`{rest}", self.dataset);
            }
        }
        statement.to_owned()
    }
}
