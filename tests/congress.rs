//! Real contacts at two dates (unitedstates/congress-legislators, CC0 1.0, as JSON lines), brought from one to the other through
//! three stores: SQLite files, Postgres databases and a BigQuery dataset (in an emulator), each of them canonical.
//!
//! The data is not part of this repository. `TRUEUP_CONGRESS_DATA` names the folder with a folder for each date; without it
//! the test says that it was not run.

#[path = "congress/dataset.rs"]
mod dataset;
#[path = "emulator/mod.rs"]
mod emulator;
#[path = "server/mod.rs"]
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{Column, ConnectOptions, Connection, Row, SqliteConnection};
use tokio_util::sync::CancellationToken;
use trueup::controller::{Engine, PassOptions};
use trueup::diff::ActionKind;
use trueup::plan::Plan;
use trueup::telemetry::Silent;

const ENTITIES: [(&str, &[&str]); 4] = [
    ("contacts", &["contact_id"]),
    ("contact_identifiers", &["identifier_id"]),
    ("businesses", &["business_id"]),
    ("people_businesses", &["contact_id", "business_id"]),
];

type Records = BTreeMap<Vec<String>, Map<String, Value>>;

fn load(data: &Path, date: &str, entity: &str, key: &[&str]) -> Records {
    let text = std::fs::read_to_string(data.join(date).join(format!("{entity}.jsonl"))).expect("the data");
    text.lines()
        .map(|line| {
            let record: Map<String, Value> = serde_json::from_str(line).expect("a JSON object a line");
            (key.iter().map(|part| record[*part].as_str().expect("text").to_owned()).collect(), record)
        })
        .collect()
}

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.expect("a SQLite file")
}

/// Where a store's rows are.
enum Place {
    Sqlite(PathBuf),
    Postgres(server::Database),
    /// The name of a dataset.
    BigQuery(String),
}

impl Place {
    /// Puts these records in the place of a table's rows. Rows that are the same are left alone, as an import that knows nothing of
    /// sync metadata would leave them.
    async fn replace(&self, entity: &str, key: &[&str], from: &Records, to: &Records) {
        match self {
            Self::Sqlite(path) => replace(path, entity, key, from, to).await,
            Self::Postgres(database) => replace_there(database, entity, key, from, to).await,
            Self::BigQuery(name) => dataset::replace(name, entity, key, from, to).await,
        }
    }

    /// The records that a table holds, by their data's own columns, null where there is nothing.
    async fn held(&self, entity: &str, key: &[&str], columns: &[String]) -> Records {
        match self {
            Self::Sqlite(path) => held(path, entity, key, columns).await,
            Self::Postgres(database) => held_there(database, entity, key, columns).await,
            Self::BigQuery(name) => dataset::held(name, entity, key, columns).await,
        }
    }
}

async fn replace_there(
    database: &server::Database,
    entity: &str,
    key: &[&str],
    from: &Records,
    to: &Records,
) {
    let mut connection = database.connect().await;
    let mut transaction = connection.begin().await.expect("a transaction");
    let quoted =
        |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let gone = from.iter().filter(|(id, _)| !to.contains_key(*id));
    let changed = to.iter().filter(|(id, record)| from.get(*id) != Some(record));
    for (id, record, stays) in
        gone.map(|(id, record)| (id, record, false)).chain(changed.map(|(id, record)| (id, record, true)))
    {
        let old = from.get(id);
        let mut columns: Vec<&str> = record.keys().map(String::as_str).collect();
        columns.extend(old.into_iter().flat_map(|old| old.keys()).map(String::as_str));
        columns.sort_unstable();
        columns.dedup();
        let all = quoted(&columns);
        let row = format!("jsonb_populate_record(NULL::\"{entity}\", $1::jsonb)");
        let this = format!("({}) = (SELECT {} FROM {row})", quoted(key), quoted(key));
        let sql = match (stays, old) {
            (false, _) => format!("DELETE FROM \"{entity}\" WHERE {this}"),
            (true, None) => format!("INSERT INTO \"{entity}\" ({all}) SELECT {all} FROM {row}"),
            (true, Some(_)) => {
                format!("UPDATE \"{entity}\" SET ({all}) = (SELECT {all} FROM {row}) WHERE {this}")
            }
        };
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(Value::Object(record.clone()).to_string());
        query.execute(&mut *transaction).await.expect("written");
    }
    transaction.commit().await.expect("committed");
}

async fn held_there(database: &server::Database, entity: &str, key: &[&str], columns: &[String]) -> Records {
    let sql = format!("SELECT to_jsonb(t)::text FROM \"{entity}\" AS t");
    let rows =
        sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut database.connect().await).await.expect("rows");
    let mut records = Records::new();
    for row in rows {
        let mut record: Map<String, Value> = serde_json::from_str(row.get(0)).expect("an object");
        record.retain(|name, value| columns.contains(name) && !value.is_null());
        let id = key.iter().map(|part| record[*part].as_str().expect("text").to_owned()).collect();
        records.insert(id, record);
    }
    records
}

/// Puts these records in the place of a table's rows in a file.
async fn replace(path: &Path, entity: &str, key: &[&str], from: &Records, to: &Records) {
    let mut connection = connect(path).await;
    let mut transaction = connection.begin().await.expect("a transaction");
    let named = key.iter().map(|part| format!("\"{part}\" = ?")).collect::<Vec<_>>().join(" AND ");
    for gone in from.keys().filter(|gone| !to.contains_key(*gone)) {
        let sql = format!("DELETE FROM \"{entity}\" WHERE {named}");
        let query = gone.iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), sqlx::query::Query::bind);
        query.execute(&mut *transaction).await.expect("deleted");
    }
    for (id, record) in to.iter().filter(|(id, record)| from.get(*id) != Some(record)) {
        let old = from.get(id);
        let mut columns: Vec<&String> = record.keys().collect();
        columns.extend(old.into_iter().flat_map(|old| old.keys()).filter(|name| !record.contains_key(*name)));
        let sql = if old.is_none() {
            let names = columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
            let marks = vec!["?"; columns.len()].join(", ");
            format!("INSERT INTO \"{entity}\" ({names}) VALUES ({marks})")
        } else {
            let sets = columns.iter().map(|name| format!("\"{name}\" = ?")).collect::<Vec<_>>().join(", ");
            format!("UPDATE \"{entity}\" SET {sets} WHERE {named}")
        };
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for name in columns {
            query = match record.get(name) {
                None | Some(Value::Null) => query.bind(None::<String>),
                Some(Value::Bool(flag)) => query.bind(i64::from(*flag)),
                Some(Value::Number(number)) => query.bind(number.as_i64().expect("an integer")),
                Some(Value::String(text)) => query.bind(text),
                Some(other) => panic!("{other}"),
            };
        }
        if old.is_some() {
            query = id.iter().fold(query, sqlx::query::Query::bind);
        }
        query.execute(&mut *transaction).await.expect("written");
    }
    transaction.commit().await.expect("committed");
}

/// The records that a table of a file holds.
async fn held(path: &Path, entity: &str, key: &[&str], columns: &[String]) -> Records {
    let mut connection = connect(path).await;
    let rows: Vec<SqliteRow> = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT * FROM \"{entity}\"")))
        .fetch_all(&mut connection)
        .await
        .expect("rows");
    let mut records = Records::new();
    for row in rows {
        let mut record = Map::new();
        for column in row.columns().iter().filter(|column| columns.iter().any(|name| name == column.name())) {
            let name = column.name();
            let value = match row.try_get::<Option<String>, _>(name) {
                Ok(text) => text.map(Value::from),
                Err(_) if name == "is_primary" => {
                    row.get::<Option<i64>, _>(name).map(|flag| Value::Bool(flag != 0))
                }
                Err(_) => row.get::<Option<i64>, _>(name).map(Value::from),
            };
            if let Some(value) = value {
                record.insert(name.to_owned(), value);
            }
        }
        records.insert(
            key.iter().map(|part| record[*part].as_str().expect("text").to_owned()).collect(),
            record,
        );
    }
    records
}

/// Adds, changes and deletes in the canonical store, by entity.
fn canonical_changes(plan: &Plan) -> BTreeMap<String, [u64; 3]> {
    let mut counts: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for record in plan.records.iter() {
        for action in record.actions.iter().filter(|action| action.store == plan.canonical) {
            let at = match action.kind {
                ActionKind::Create => 0,
                ActionKind::Delete => 1,
                ActionKind::Update => 2,
                ActionKind::Metadata | ActionKind::Bookkeeping => continue,
            };
            counts.entry(record.record.entity.to_string()).or_default()[at] += 1;
        }
    }
    counts
}

/// Added, removed and changed between the two dates, as the data itself says.
fn expected_changes(data: &Path) -> BTreeMap<String, [u64; 3]> {
    let count = |counts: usize| u64::try_from(counts).expect("few");
    ENTITIES
        .iter()
        .map(|(entity, key)| {
            let (old, new) = (load(data, "2025-03-04", entity, key), load(data, "2026-06-15", entity, key));
            let added = new.keys().filter(|id| !old.contains_key(*id)).count();
            let removed = old.keys().filter(|id| !new.contains_key(*id)).count();
            let changed =
                old.iter().filter(|(id, record)| new.get(*id).is_some_and(|new| new != *record)).count();
            ((*entity).to_owned(), [count(added), count(removed), count(changed)])
        })
        .collect()
}

/// All of the drift in the store that is nobody's source of truth.
const IN_LOCAL: [&str; 4] = ["local"; 4];

#[tokio::test]
async fn real_drift_between_files() {
    real_drift_is_seen_applied_and_gone(["sqlite", "sqlite", "sqlite"], IN_LOCAL).await;
}

#[tokio::test]
async fn real_drift_with_a_postgres_replica() {
    real_drift_is_seen_applied_and_gone(["sqlite", "postgres", "sqlite"], IN_LOCAL).await;
}

#[tokio::test]
async fn real_drift_with_a_canonical_postgres() {
    real_drift_is_seen_applied_and_gone(["postgres", "sqlite", "postgres"], IN_LOCAL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_drift_with_a_canonical_bigquery() {
    real_drift_is_seen_applied_and_gone(["bigquery", "postgres", "sqlite"], IN_LOCAL).await;
}

/// By hand, and so without raising a version.
#[tokio::test(flavor = "multi_thread")]
async fn real_drift_made_in_a_canonical_bigquery() {
    real_drift_is_seen_applied_and_gone(["bigquery", "postgres", "sqlite"], ["warehouse"; 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_drift_made_in_all_three_with_a_canonical_bigquery() {
    let kinds = ["bigquery", "postgres", "sqlite"];
    real_drift_is_seen_applied_and_gone(kinds, ["app", "local", "warehouse", "local"]).await;
}

const STORES: [&str; 3] = ["warehouse", "app", "local"];

/// Stores of these kinds, the first one canonical, and their manifest.
async fn places(folder: &Path, kinds: [&str; 3]) -> BTreeMap<&'static str, Place> {
    let mut places = BTreeMap::new();
    let mut manifest = Vec::new();
    for (store, kind) in STORES.into_iter().zip(kinds) {
        let (place, body) = if kind == "postgres" {
            let database = server::database().await;
            let body = format!("postgres: {{url: \"{}\"}}", database.url);
            (Place::Postgres(database), body)
        } else if kind == "bigquery" {
            let emulator = emulator::Emulator::shared();
            let name = emulator.dataset().await;
            let body = format!(
                "bigquery: {{project: {}, dataset: {name}, emulator: \"{}\", emulator_grpc: \"{}\"}}",
                emulator::PROJECT,
                emulator.rest_url(),
                emulator.grpc_url()
            );
            (Place::BigQuery(name), body)
        } else {
            let file = format!("{store}.db");
            (Place::Sqlite(folder.join(&file)), format!("sqlite: {{path: {file}}}"))
        };
        let canonical = store == STORES[0];
        manifest.push(format!(
            "---\napiVersion: trueup/v1\nkind: Store\nmetadata: {{name: {store}}}\nspec: {{canonical: {canonical}, {body}}}\n"
        ));
        places.insert(store, place);
    }
    std::fs::write(folder.join("stores.yaml"), manifest.concat()).expect("written");
    places
}

/// The stores' kinds, and the store in which each entity's drift is made.
#[allow(clippy::print_stderr)]
async fn real_drift_is_seen_applied_and_gone(kinds: [&str; 3], made_in: [&str; 4]) {
    let Some(data) = std::env::var_os("TRUEUP_CONGRESS_DATA").map(PathBuf::from) else {
        eprintln!("not run: TRUEUP_CONGRESS_DATA does not name a folder with the data");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["entities.yaml", "mappings.yaml"] {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/congress");
        std::fs::copy(fixtures.join(file), folder.path().join(file)).expect("copied");
    }
    let places = places(folder.path(), kinds).await;
    let (spec, _) = trueup::cli::load::load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let engine = Engine::open(Arc::new(spec), true).await.expect("opened");
    engine.migrate(&engine.migration().await.expect("planned")).await.expect("migrated");

    let nothing = Records::new();
    for (entity, key) in ENTITIES {
        let old = load(&data, "2025-03-04", entity, key);
        places["warehouse"].replace(entity, key, &nothing, &old).await;
    }
    let (options, stop) = (PassOptions::default(), CancellationToken::new());
    let first = engine.pass(&options, &Silent, &stop).await.expect("the first load");
    assert!(first.is_clean() && first.guards.is_empty(), "{:?} {:?}", first.guards, first.failed.first());
    assert_eq!(first.applied.create, 2 * (539 + 7088 + 235 + 1890));
    assert_eq!(first.applied.update + first.applied.delete, 0);

    for ((entity, key), store) in ENTITIES.into_iter().zip(made_in) {
        let (old, new) = (load(&data, "2025-03-04", entity, key), load(&data, "2026-06-15", entity, key));
        places[store].replace(entity, key, &old, &new).await;
    }
    let plan = engine.plan(&options, &Silent).await.expect("a plan");
    assert_eq!(plan.guards, []);
    assert_eq!(plan.notices, []);
    assert!(plan.has_actions());
    // What was made in the canonical store is there already.
    let elsewhere = |entity: &str| {
        ENTITIES.iter().zip(made_in).any(|((name, _), store)| *name == entity && store != "warehouse")
    };
    let mut expected = expected_changes(&data);
    expected.retain(|entity, _| elsewhere(entity));
    assert_eq!(canonical_changes(&plan), expected);

    let report = engine.apply(plan, false, &options, &Silent, &stop).await.expect("applied");
    assert!(report.is_clean(), "{:?}", report.failed.first());
    for (store, place) in &places {
        for (entity, key) in ENTITIES {
            let new = load(&data, "2026-06-15", entity, key);
            let old = load(&data, "2025-03-04", entity, key);
            let mut columns: Vec<String> =
                new.values().chain(old.values()).flat_map(|record| record.keys().cloned()).collect();
            columns.sort();
            columns.dedup();
            let there = place.held(entity, key, &columns).await;
            assert!(there == new, "{entity} in {store} is not what it should be");
        }
    }
    let next = engine.plan(&options, &Silent).await.expect("a plan");
    assert!(next.is_empty(), "{:?}", next.records.iter().next());
    let quiet = engine.pass(&options, &Silent, &stop).await.expect("a pass");
    assert_eq!((quiet.pass, quiet.applied.sum()), (None, 0));
}
