//! The SQL of the shipped model: committed as it is made, enough for empty databases and for those that the architecture says are
//! there, and harmless to what it does not name.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "server/mod.rs"]
mod server;
mod shell;
mod shipped;

use std::path::Path;

use server::Database;
use shell::Place;
use sqlx::Row as _;
use trueup::controller::scripts;
use trueup::model::{Mapped, StoreName};
use trueup::reconcile::Ledger;
use trueup::spec::Spec;
use trueup::store::Store;
use trueup::store::postgres::{PostgresOptions, PostgresStore};
use trueup::store::script::Dialect;
use trueup::store::sqlite::{SqliteOptions, SqliteStore};

fn name(store: &str) -> StoreName {
    StoreName::new(store).unwrap()
}

fn made(store: &str) -> String {
    scripts(&shipped::spec()).unwrap().remove(&name(store)).unwrap()
}

fn mapped(spec: &Spec, store: &str) -> Vec<Mapped> {
    let of = |entity: &std::sync::Arc<trueup::model::Entity>| {
        let mapping = spec.mapping(&entity.name, &name(store))?.clone();
        Some(Mapped { entity: entity.clone(), mapping })
    };
    spec.entities.iter().filter_map(of).collect()
}

#[test]
fn the_committed_sql_is_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/sql");
    for store in shipped::STORES {
        let (file, text) = (folder.join(format!("{store}.sql")), made(store));
        if std::env::var_os("TRUEUP_WRITE_SCHEMAS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == text,
            "schemas/sql/{store}.sql is stale: run `cargo run -- schema --sql -f manifests/contacts` and commit what it writes"
        );
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            shipped::STORES.iter().any(|store| file == format!("{store}.sql")),
            "schemas/sql/{file} is nobody's"
        );
    }
}

/// What the architecture lists under "Extensions to Add", in each store's types, and trueup's own tables.
#[test]
fn the_extensions_of_the_architecture_are_added() {
    let has = |store: &str, parts: &[&str]| {
        let text = made(store);
        for part in parts {
            assert!(text.contains(part), "{part}\n{text}");
        }
    };
    let table = |store: &str, table: &str| {
        let text = made(store);
        let at = text.find(&format!("ALTER TABLE {table}\n")).unwrap_or_else(|| panic!("{table}\n{text}"));
        text[at..].split(';').next().unwrap().to_owned()
    };
    let (warehouse, app) = (
        table("bigquery", "`identity`.`contacts_master`"),
        table("supabase", "\"public\".\"contacts_master\""),
    );
    for column in ["llm_context", "communication_stats", "social_network", "ai_insights", "recommendations"] {
        assert!(
            warehouse.contains(&format!("\n  ADD COLUMN IF NOT EXISTS `{column}` JSON,")),
            "{column}: {warehouse}"
        );
        assert!(
            app.contains(&format!("\n  ADD COLUMN IF NOT EXISTS \"{column}\" jsonb,")),
            "{column}: {app}"
        );
        has("local_postgres", &[&format!("\"{column}\" jsonb")]);
        has("local_sqlite", &[&format!("\"{column}\" TEXT")]);
    }
    assert!(warehouse.contains("ADD COLUMN IF NOT EXISTS `canonical_name` STRING,"), "{warehouse}");
    assert!(app.contains("ADD COLUMN IF NOT EXISTS \"canonical_name\" text,"), "{app}");
    assert!(app.contains("ADD COLUMN IF NOT EXISTS \"sync_metadata\" jsonb"), "{app}");
    has(
        "bigquery",
        &[
            "ADD COLUMN IF NOT EXISTS `sync_metadata` STRUCT<`last_updated` TIMESTAMP, `last_updated_by` STRING, \
             `source_systems` ARRAY<STRING>, `sync_errors` ARRAY<STRUCT<",
            "CREATE TABLE IF NOT EXISTS `identity`.`contacts_master` (`contact_id` INT64 NOT NULL) CLUSTER BY `contact_id`;",
            "CREATE TABLE IF NOT EXISTS `identity`.`contact_identifiers`",
            "CREATE TABLE IF NOT EXISTS `identity`.`businesses`",
            "CREATE TABLE IF NOT EXISTS `identity`.`people_businesses`",
            "CREATE TABLE IF NOT EXISTS `identity`.`sync_conflicts`",
            "CREATE TABLE IF NOT EXISTS `identity`.`trueup_tombstones`",
            "ADD COLUMN IF NOT EXISTS `first_seen_in_primitive_engine` TIMESTAMP,",
        ],
    );
    has("supabase", &["ADD COLUMN IF NOT EXISTS \"last_seen_in_primitive_engine\" timestamptz,"]);
    has(
        "local_postgres",
        &[
            "\"contact_id\" text COLLATE \"C\" NOT NULL, PRIMARY KEY (\"contact_id\")",
            "\"version\" bigint,",
            "\"last_updated\" timestamptz,",
            "\"sync_status\" text,",
            "\"source_systems\" text[],",
        ],
    );
    for store in shipped::STORES {
        let text = made(store);
        for word in ["DROP", "DELETE", "UPDATE", "TRUNCATE", "DEFAULT", "ALTER COLUMN"] {
            assert!(!text.contains(&format!("{word} ")), "{word} in {store}");
        }
        assert_eq!(
            text.contains("sync_conflicts"),
            store == "bigquery",
            "conflicts are in the canonical store alone"
        );
    }
}

/// As Supabase has it before: the table that the architecture says is there, with columns of others and rows without metadata.
const THERE: &str = "CREATE TABLE contacts_master (
    contact_id ID PRIMARY KEY,
    apple_unique_id text, apple_identity_unique_id text, apple_link_id text,
    first_name text, last_name text, middle_name text, nickname text, name_suffix text, title text, full_name text,
    name_normalized text, sorting_first_name text, sorting_last_name text,
    organization text, job_title text, department text,
    category_code text, subcategory_code text, relationship_category text,
    notes text, birthday date, is_business boolean, is_me boolean,
    created_at timestamptz, updated_at timestamptz,
    first_seen_in_primitive_engine timestamptz, last_seen_in_primitive_engine timestamptz,
    primitive_engine_entity_id text, resolution_confidence double precision, raw json)";

async fn nothing_missing(store: &dyn Store, mapped: &[Mapped]) {
    let steps = store.plan_migration(mapped).await.unwrap();
    assert!(steps.is_empty(), "{steps:#?}");
}

#[tokio::test]
async fn the_sql_is_all_that_a_postgres_needs_and_may_run_again() {
    let spec = shipped::spec();
    for store in ["supabase", "local_postgres"] {
        for there in [None, Some(THERE.replace("ID", "text"))] {
            let database = server::database().await;
            if let Some(there) = there {
                database.sql(&there).await;
            }
            database.sql(&made(store)).await;
            database.sql(&made(store)).await;
            let opened = PostgresStore::open(name(store), &database.url, PostgresOptions::default()).unwrap();
            nothing_missing(&opened, &mapped(&spec, store)).await;
        }
    }
}

#[tokio::test]
async fn the_sql_is_all_that_an_sqlite_file_needs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("local.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute_batch(&made("local_sqlite")).unwrap();
    connection.execute_batch(&made("local_sqlite")).unwrap();
    let opened = SqliteStore::open(name("local_sqlite"), &file, SqliteOptions::default()).await.unwrap();
    nothing_missing(&opened, &mapped(&shipped::spec(), "local_sqlite")).await;
}

/// The system tables too, in a dialect that a server here can check.
#[tokio::test]
async fn conflicts_and_tombstones_have_their_tables() {
    let database = server::database().await;
    let ledger = Ledger::new(&name("bigquery"));
    let tables: Vec<Mapped> = ledger.all().into_iter().cloned().collect();
    let dialect = Dialect::Postgres { schema: "identity".into() };
    let text = trueup::store::script::script(&dialect, &name("bigquery"), &tables).unwrap();
    database.sql(&text).await;
    let options = PostgresOptions { schema: "identity".into(), ..PostgresOptions::default() };
    nothing_missing(&PostgresStore::open(name("bigquery"), &database.url, options).unwrap(), &tables).await;
}

/// Every column that no mapping names, row by row, as text: JSON with its spaces, numbers with all their digits.
async fn unmapped(database: &Database, table: &str) -> String {
    let query = format!(
        "SELECT string_agg(concat_ws('|', contact_id, apple_unique_id, apple_identity_unique_id, apple_link_id, sorting_first_name, \
         sorting_last_name, primitive_engine_entity_id, resolution_confidence, raw::text), E'\\n' ORDER BY contact_id::text) FROM {table}"
    );
    text(database, &query).await
}

async fn text(database: &Database, query: &str) -> String {
    let mut connection = database.connect().await;
    let row = sqlx::query(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await.unwrap();
    row.get::<Option<String>, _>(0).unwrap_or_default()
}

/// The whole way on the tables that are there: ids are integers in one and texts in the other, nothing has metadata yet.
#[tokio::test]
async fn tables_that_are_there_are_extended_and_their_other_columns_stay_as_they_are() {
    let database = server::database().await;
    let warehouse = THERE.replace("contacts_master", "identity.contacts_master").replace("ID", "bigint");
    database.sql(&format!("CREATE SCHEMA identity; {warehouse}; {}", THERE.replace("ID", "text"))).await;
    for (table, id) in [("identity.contacts_master", "7"), ("public.contacts_master", "'7'")] {
        database
            .sql(&format!(
                "INSERT INTO {table} (contact_id, first_name, full_name, category_code, subcategory_code, is_business, is_me,
                     first_seen_in_primitive_engine, apple_unique_id, sorting_last_name, primitive_engine_entity_id,
                     resolution_confidence, raw)
                 VALUES ({id}, 'Ann', 'Ann Example', 'A', 'A1_COUSIN', false, false, '2024-01-02T03:04:05.678901Z',
                     E' 7:ABPerson \\t', 'Éxample', 'entity:7', 0.1000000000000000055, '{{ \"b\" :  1.50, \"a\":[ ] }}');"
            ))
            .await;
    }
    database
        .sql("INSERT INTO identity.contacts_master (contact_id, full_name, last_seen_in_primitive_engine, resolution_confidence)
              VALUES (9007199254740993, 'Bo Sample', '2025-05-06T07:08:09Z', 1)")
        .await;
    let before = [
        unmapped(&database, "identity.contacts_master").await,
        unmapped(&database, "public.contacts_master").await,
    ];

    let place = Place::with("");
    std::fs::remove_file(place.path().join("manifests/all.yaml")).unwrap();
    let files = shipped::with_stores(&[
        ("bigquery", &format!("postgres: {{url: \"{}\", schema: identity}}", database.url)),
        ("supabase", &format!("postgres: {{url: \"{}\"}}", database.url)),
        ("local_sqlite", "sqlite: {path: ../stores/local.db}"),
    ]);
    for (name, text) in files {
        std::fs::write(place.path().join("manifests").join(name), text).unwrap();
    }
    place.run(&["migrate", "-auto-approve"], 0);
    assert_eq!(
        unmapped(&database, "identity.contacts_master").await,
        before[0],
        "migration rewrites nothing"
    );
    // People fill in what the new column needs.
    database.sql("UPDATE identity.contacts_master SET canonical_name = full_name").await;
    let page = place.run(&["apply", "-auto-approve"], 0);
    assert!(page.contains("Apply complete!"), "{page}");
    let page = place.run(&["plan", "-detailed-exitcode"], 0);
    assert!(page.contains("No changes."), "{page}");

    assert_eq!(unmapped(&database, "identity.contacts_master").await, before[0]);
    let after = unmapped(&database, "public.contacts_master").await;
    assert!(after.lines().any(|line| line == before[1]), "the row that was there: {after}");
    let made = after.lines().find(|line| line.starts_with("9007199254740993")).unwrap();
    assert_eq!(made, "9007199254740993", "nothing is made up for columns of others");
    for (table, id) in [("identity.contacts_master", "7"), ("public.contacts_master", "'7'")] {
        let query = format!(
            "SELECT canonical_name || ' ' || name_normalized || ' ' || (first_seen_in_primitive_engine AT TIME ZONE 'UTC')::text || ' ' ||
             (sync_metadata ->> 'version') FROM {table} WHERE contact_id = {id}"
        );
        // The text of a time depends on the server's settings; its digits do not.
        let row = text(
            &database,
            &query.replace(
                "(first_seen_in_primitive_engine AT TIME ZONE 'UTC')::text",
                "to_char(first_seen_in_primitive_engine AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
            ),
        )
        .await;
        assert!(row.starts_with("Ann Example ann example 2024-01-02 03:04:05.678901 "), "{table}: {row}");
    }
    let local = rusqlite::Connection::open(place.path().join("stores/local.db")).unwrap();
    let seen = |id: &str, column: &str| -> String {
        let query = format!("SELECT {column} FROM contacts_master WHERE contact_id = ?");
        local.query_row(&query, [id], |row| row.get(0)).unwrap()
    };
    assert!(seen("7", "first_seen").starts_with("2024-01-02T03:04:05.678901"));
    assert!(seen("9007199254740993", "last_seen").starts_with("2025-05-06T07:08:09"));
    // What an application there sees later goes back to the columns of the others' names.
    local
        .execute("UPDATE contacts_master SET last_seen = '2026-02-03T00:00:00Z' WHERE contact_id = '7'", [])
        .unwrap();
    place.run(&["apply", "-auto-approve"], 0);
    let query = "SELECT to_char(last_seen_in_primitive_engine AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM identity.contacts_master WHERE contact_id = 7";
    assert_eq!(text(&database, query).await, "2026-02-03");
    assert_eq!(unmapped(&database, "identity.contacts_master").await, before[0]);
}
