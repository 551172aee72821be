//! The shipped manifests as they are, in all the stores that they name: a BigQuery emulator, two Postgres databases, an SQLite file.
//! Nothing is replaced but what the environment says.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod emulator;
#[path = "server/mod.rs"]
mod server;
mod shell;
mod shipped;

use std::fmt::Write as _;

use emulator::{Emulator, PROJECT};
use serde_json::Value as Json;
use server::Database;
use shell::Place;
use sqlx::Row as _;
use trueup::model::{Mapped, StoreName};
use trueup::store::Store;
use trueup::store::bigquery::BigQueryStore;

/// The table that is there already, with what trueup has no business with.
const THERE: &str = "(contact_id INT64, apple_unique_id STRING, apple_identity_unique_id STRING, apple_link_id STRING,
    first_name STRING, last_name STRING, middle_name STRING, nickname STRING, name_suffix STRING, title STRING, full_name STRING,
    name_normalized STRING, sorting_first_name STRING, sorting_last_name STRING,
    organization STRING, job_title STRING, department STRING,
    category_code STRING, subcategory_code STRING, relationship_category STRING,
    notes STRING, birthday DATE, is_business BOOL, is_me BOOL, created_at TIMESTAMP, updated_at TIMESTAMP,
    first_seen_in_primitive_engine TIMESTAMP, last_seen_in_primitive_engine TIMESTAMP,
    primitive_engine_entity_id STRING, resolution_confidence FLOAT64)";

struct World {
    place: Place,
    emulator: Emulator,
    supabase: Database,
    local: Database,
}

impl World {
    async fn new() -> Self {
        let emulator = Emulator::start();
        let place = Place::with("");
        std::fs::remove_file(place.path().join("manifests/all.yaml")).unwrap();
        for (name, text) in shipped::files() {
            // Mappings of further stores are those stores' tests' to try.
            if name != "twenty.yaml" {
                std::fs::write(place.path().join("manifests").join(name), text).unwrap();
            }
        }
        Self { place, emulator, supabase: server::database().await, local: server::database().await }
    }

    fn run(&self, args: &[&str], code: i32) -> String {
        let mut command = self.place.trueup(args);
        let host = self.emulator.rest_url();
        command.env("BIGQUERY_EMULATOR_HOST", host).env("TRUEUP_BIGQUERY_PROJECT", PROJECT);
        command
            .env("TRUEUP_SUPABASE_URL", &self.supabase.url)
            .env("TRUEUP_LOCAL_POSTGRES_URL", &self.local.url);
        command.env("TRUEUP_LOCAL_SQLITE", self.place.path().join("stores/local.db"));
        let output = command.output().unwrap();
        let mut page = String::from_utf8(output.stdout).unwrap();
        let _ = write!(page, "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {page}");
        page
    }

    async fn warehouse(&self, sql: &str) -> Json {
        self.emulator
            .query(&sql.replace("contacts_master", &format!("`{PROJECT}.identity.contacts_master`")), &[])
            .await
    }

    /// The first column of a query's rows.
    async fn asked(&self, sql: &str) -> Vec<String> {
        let answer = self.warehouse(sql).await;
        let rows = answer["rows"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| row["f"][0]["v"].as_str().unwrap_or("").to_owned()).collect()
    }

    fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.place.path().join("stores/local.db")).unwrap()
    }
}

async fn text(database: &Database, query: &str) -> String {
    let mut connection = database.connect().await;
    let row = sqlx::query(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await.unwrap();
    row.get::<Option<String>, _>(0).unwrap_or_default()
}

const UNMAPPED: &str = "SELECT CONCAT(CAST(contact_id AS STRING), '|', IFNULL(apple_unique_id, '-'), '|', IFNULL(sorting_last_name, '-'), '|', \
     IFNULL(primitive_engine_entity_id, '-'), '|', IFNULL(CAST(resolution_confidence AS STRING), '-')) FROM contacts_master ORDER BY contact_id";

#[tokio::test]
async fn the_shipped_manifests_bring_all_four_stores_to_agree() {
    let world = World::new().await;
    world.warehouse(&format!("CREATE TABLE contacts_master {THERE}")).await;
    world
        .warehouse(
            "INSERT INTO contacts_master (contact_id, first_name, full_name, category_code, subcategory_code,
                 first_seen_in_primitive_engine, apple_unique_id, sorting_last_name, primitive_engine_entity_id, resolution_confidence)
             VALUES (7, 'Ann', 'Ann Example', 'A', 'A1_COUSIN', TIMESTAMP '2024-01-02 03:04:05.678901+00:00', ' 7:ABPerson ', 'Éxample', 'entity:7', 0.1),
                    (9007199254740993, 'Bo', 'Bo Sample', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        )
        .await;
    let before = world.asked(UNMAPPED).await;
    assert_eq!(before.len(), 2);
    world.run(&["migrate", "-auto-approve"], 0);
    world.warehouse("UPDATE contacts_master SET canonical_name = full_name WHERE TRUE").await;
    world.run(&["apply", "-auto-approve"], 0);
    assert!(world.run(&["plan", "-detailed-exitcode"], 0).contains("No changes."));

    // An edit in each of the four at once; who edits the warehouse by hand raises no version.
    world.warehouse("UPDATE contacts_master SET job_title = 'Printer' WHERE contact_id = 7").await;
    world.supabase.sql("UPDATE contacts_master SET nickname = 'Annie' WHERE contact_id = '7'").await;
    world.local.sql("UPDATE contacts_master SET llm_context = '{\"closeness_level\": 7, \"mine\": [1]}' WHERE contact_id = '7'").await;
    world
        .sqlite()
        .execute("UPDATE contacts_master SET birthday = '1990-05-17' WHERE contact_id = '7'", [])
        .unwrap();
    world
        .sqlite()
        .execute_batch(
            "INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value)
             VALUES ('i1', '7', 'phone', '(202) 555-0101')",
        )
        .unwrap();
    world.run(&["apply", "-auto-approve"], 0);
    assert!(world.run(&["plan", "-detailed-exitcode"], 0).contains("No changes."));
    let all = "SELECT concat_ws(' ', job_title, nickname, birthday::text, llm_context ->> 'closeness_level', name_normalized) \
               FROM contacts_master WHERE contact_id = '7'";
    let birthday = "to_char(birthday, 'YYYY-MM-DD')";
    for database in [&world.supabase, &world.local] {
        let row = text(database, &all.replace("birthday::text", birthday)).await;
        assert_eq!(row, "Printer Annie 1990-05-17 7 ann example");
        let number = "SELECT concat_ws(' ', identifier_normalized, country_code, area_code, local_number, email_domain) FROM contact_identifiers";
        assert_eq!(text(database, number).await, "+12025550101 1 202 5550101");
    }
    let row = world
        .asked("SELECT CONCAT(job_title, ' ', nickname, ' ', CAST(birthday AS STRING), ' ', name_normalized) FROM contacts_master WHERE contact_id = 7")
        .await;
    assert_eq!(row, ["Printer Annie 1990-05-17 ann example"]);
    let row: String = world
        .sqlite()
        .query_row("SELECT job_title || ' ' || nickname || ' ' || first_seen FROM contacts_master WHERE contact_id = '7'", [], |row| row.get(0))
        .unwrap();
    assert!(row.starts_with("Printer Annie 2024-01-02T03:04:05.678901"), "{row}");
    let types = "SELECT string_agg(pg_typeof(x)::text, ' ') FROM (SELECT source_systems x FROM contacts_master LIMIT 1) AS t";
    assert_eq!(text(&world.local, types).await, "text[]");
    assert_eq!(world.asked(UNMAPPED).await, before, "columns that no mapping names");
    world.run(&["prompt", "contacts[\"7\"]"], 0);
}

/// What is committed for those who run their SQL themselves is all that the store asks for.
#[tokio::test]
async fn the_sql_is_all_that_a_dataset_needs() {
    let emulator = Emulator::start();
    let script = trueup::controller::scripts(&shipped::spec())
        .unwrap()
        .remove(&StoreName::new("bigquery").unwrap())
        .unwrap();
    for statement in script
        .split(';')
        .filter(|statement| statement.contains("CREATE TABLE") || statement.contains("ALTER TABLE"))
    {
        let lines: Vec<&str> = statement.lines().filter(|line| !line.starts_with("--")).collect();
        emulator.query(&lines.join("\n"), &[]).await;
    }
    let name = StoreName::new("bigquery").unwrap();
    let store = BigQueryStore::open(name.clone(), emulator.options("identity")).unwrap();
    let spec = shipped::spec();
    let mut mapped: Vec<Mapped> = Vec::new();
    for entity in &spec.entities {
        let mapping = spec.mapping(&entity.name, &name).unwrap().clone();
        mapped.push(Mapped { entity: entity.clone(), mapping });
    }
    mapped.extend(trueup::reconcile::Ledger::new(&name).all().into_iter().cloned());
    let steps = store.plan_migration(&mapped).await.unwrap();
    assert!(steps.is_empty(), "{steps:#?}");
}
