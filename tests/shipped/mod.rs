//! The shipped model of contacts, with other stores put in the place of those that a test cannot have.
#![allow(dead_code, clippy::unwrap_used)] // Every test takes what it needs, and may panic.
#![allow(clippy::case_sensitive_file_extension_comparisons)] // They are our own files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use trueup::model::Diagnostics;
use trueup::spec::{Source, Spec, compile, schema_files};

/// The shipped stores that hold tables.
pub(crate) const STORES: [&str; 4] = ["bigquery", "supabase", "local_sqlite", "local_postgres"];

/// The folder with the shipped manifests.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/contacts")
}

/// The shipped model in files that stand for the warehouse, Supabase and the local database, and in Twenty.
pub(crate) fn in_files_and_a_crm() -> Spec {
    in_files_and_a_crm_where(str::to_owned)
}

/// The same, each manifest changed in some way.
pub(crate) fn in_files_and_a_crm_where(change: impl Fn(&str) -> String) -> Spec {
    let mut files = with_stores(&[
        ("bigquery", "sqlite: {path: warehouse.db}"),
        ("supabase", "sqlite: {path: supabase.db}"),
        ("local_sqlite", "sqlite: {path: local_sqlite.db}"),
        ("twenty", "twenty: {url: \"${env:TRUEUP_TWENTY_URL}\", api_key: \"${env:TRUEUP_TWENTY_KEY}\"}"),
    ]);
    for text in files.values_mut() {
        *text = change(&text.replace("table: public.", "table: "));
    }
    compiled(&files).unwrap_or_else(|found| panic!("{found:#?}"))
}

/// The shipped manifests by file name, all that stands in the folder.
pub(crate) fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml" || end == "json") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            files.insert(name, std::fs::read_to_string(path).unwrap());
        }
    }
    files
}

/// The files that belong to the four entities in the shipped stores, with these stores instead: the text of each store's kind. Where
/// the warehouse is not BigQuery, its sync metadata stands in JSON, for others have no STRUCT.
pub(crate) fn with_stores(stores: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut files = files();
    let documents: Vec<String> = stores
        .iter()
        .map(|(name, kind)| {
            let canonical = if *name == "bigquery" { "canonical: true, " } else { "" };
            format!("apiVersion: trueup/v1\nkind: Store\nmetadata: {{name: {name}}}\nspec: {{{canonical}{kind}}}\n")
        })
        .collect();
    files.insert("stores.yaml".into(), documents.join("---\n"));
    let warehouse_four_stores = stores
        .iter()
        .any(|(name, kind)| *name == "bigquery" && (kind.contains("memory") || kind.contains("bigquery")));
    let absent: Vec<&str> =
        STORES.into_iter().filter(|store| !stores.iter().any(|(name, _)| name == store)).collect();
    for text in files.values_mut() {
        if !warehouse_four_stores {
            *text = text.replace("sync: {struct: sync_metadata}", "sync: {json: sync_metadata}");
        }
        for store in &absent {
            *text = without(text, store);
        }
    }
    // The CRM's file goes as a whole where there is none, as its own words say; its store is among those given.
    if let Some(crm) =
        files.remove("twenty.yaml").filter(|_| stores.iter().any(|(name, _)| *name == "twenty"))
    {
        let mappings: Vec<&str> = crm.split("\n---\n").filter(|one| one.contains("kind: Mapping")).collect();
        files.insert("twenty.yaml".into(), mappings.join("\n---\n"));
    }
    files
}

/// A mapping without a store: its line, and the deeper ones that follow.
fn without(text: &str, store: &str) -> String {
    let mut kept = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with(&format!("    {store}:")) {
            inside = true;
            continue;
        }
        inside = inside && line.starts_with("     ");
        if !inside {
            kept.push(line);
        }
    }
    kept.join("\n") + "\n"
}

/// Compiles manifests held in memory.
pub(crate) fn compiled(files: &BTreeMap<String, String>) -> Result<Spec, Diagnostics> {
    let (manifests, schemas): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| name.ends_with(".yaml"));
    let sources: Vec<Source> =
        manifests.into_iter().map(|(name, text)| Source { file: name.clone(), text: text.clone() }).collect();
    let named = schema_files(&sources);
    let schemas = schemas.into_iter().filter(|(name, _)| named.contains(*name));
    let schemas = schemas.map(|(name, text)| (name.clone(), text.clone())).collect();
    compile(Path::new("."), &sources, &schemas).map(|(spec, _)| spec)
}

/// The shipped model in the four shipped stores.
pub(crate) fn spec() -> Spec {
    compiled(&four_stores()).unwrap_or_else(|found| panic!("{found:#?}"))
}

/// The manifests of [`spec`].
pub(crate) fn four_stores() -> BTreeMap<String, String> {
    with_stores(&[
        ("bigquery", "bigquery: {project: \"${env:PROJECT}\", dataset: identity}"),
        ("supabase", "postgres: {url: \"${env:SUPABASE}\"}"),
        ("local_sqlite", "sqlite: {path: \"${env:SQLITE}\"}"),
        ("local_postgres", "postgres: {url: \"${env:POSTGRES}\"}"),
    ])
}
