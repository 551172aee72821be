//! `trueup draft`: manifests for tables that are there already, from a look at them.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "server/mod.rs"]
mod server;
mod shell;

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use shell::Place;
use trueup::model::{FieldType, FoundColumn, FoundTable, StoreName};
use trueup::spec::draft::{Draft, Found, draft};
use trueup::spec::{Source, Spec, compile_all};

/// A store document.
fn store(name: &str, what: &str) -> String {
    format!("---\napiVersion: trueup/v1\nkind: Store\nmetadata: {{name: {name}}}\nspec: {{{what}}}\n")
}

const SHOP: &str = r#"
CREATE TABLE customers (
    customer_id TEXT PRIMARY KEY, name TEXT NOT NULL, "loyaltyPoints" INTEGER, is_member INTEGER, joined TEXT, tags TEXT,
    address TEXT, api_token TEXT, created_at TEXT, updated_at TEXT, shout TEXT AS (upper(name))
);
INSERT INTO customers VALUES
    ('c1', 'Fictional Person', 7, 1, '2024-02-29', '["tea"]', '{"city": "Nowhere"}', 't', '2024-02-29T08:00:00Z', '2024-03-01T08:00:00Z'),
    ('c2', 'Invented Name', NULL, 0, '2023-01-31', '[]', NULL, NULL, '2023-01-31T08:00:00Z', '2024-03-01T08:00:00Z');
CREATE TABLE orders ("order no" INTEGER PRIMARY KEY, customer TEXT REFERENCES customers, total NUMERIC, placed INTEGER);
INSERT INTO orders VALUES (1, 'c1', 12.5, 1709193600);
CREATE TABLE order_lines (order_no INTEGER, line INTEGER, item TEXT, PRIMARY KEY (order_no, line));
CREATE TABLE "odd.name" (id TEXT PRIMARY KEY);
"#;

const APP: &str = r#"
CREATE TABLE customer (
    id text PRIMARY KEY, "customerName" varchar(80) NOT NULL, loyalty_points int, is_member boolean, joined date, tags text[],
    address jsonb, api_token text UNIQUE, created_at timestamptz, updated_at timestamptz, avatar_colour text
);
CREATE TABLE bookings (order_no bigint PRIMARY KEY, customer text REFERENCES customer (id), total numeric(12, 2), placed timestamptz);
CREATE TABLE couriers (courier text PRIMARY KEY, van text);
"#;

#[tokio::test]
async fn what_stands_in_two_stores_is_drafted_and_comes_to_agree() {
    let database = server::database().await;
    database.sql(APP).await;
    let stores = store("hub", "canonical: true, sqlite: {path: ../stores/hub.db}")
        + &store("app", &format!("postgres: {{url: \"{}\"}}", database.url));
    let place = Place::with(&stores);
    tokio::task::spawn_blocking(move || {
        std::fs::File::create(place.path().join("stores/hub.db")).unwrap();
        place.sql("hub", SHOP);
        let drafted = place.run(&["draft", "orders=bookings"], 0);
        insta::assert_snapshot!("orders", drafted);
        let drafted = place.run(&["draft", "customer", "orders=bookings", "order_lines", "couriers"], 0);
        insta::assert_snapshot!("shop", drafted);
        // It is a manifest as it stands: all that is there comes to agree.
        std::fs::write(place.path().join("manifests/drafted.yaml"), drafted).unwrap();
        place.run(&["validate"], 0);
        place.run(&["migrate", "-auto-approve"], 0);
        let page = place.run(&["apply", "-auto-approve"], 0);
        assert!(page.contains("Apply complete!"), "{page}");
        place.run(&["plan", "-detailed-exitcode"], 0);
        let page = place.run(&["draft"], 1);
        assert!(page.contains("every table that stands in the stores is mapped"), "{page}");
        database
    })
    .await
    .unwrap();
}

/// A key that is counted up is a key, and who refers to another column than the key refers to no record.
#[tokio::test]
async fn keys_that_the_database_counts_up_are_keys_and_what_refers_to_none_is_a_text() {
    let database = server::database().await;
    database
        .sql(
            "CREATE TABLE members (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE,
               number int GENERATED ALWAYS AS IDENTITY, handle uuid NOT NULL UNIQUE);
             CREATE TABLE visits (id text PRIMARY KEY, member bigint REFERENCES members, by_email text REFERENCES members (email))",
        )
        .await;
    let stores = store("hub", "canonical: true, sqlite: {path: ../stores/hub.db}")
        + &store("app", &format!("postgres: {{url: \"{}\"}}", database.url));
    let place = Place::with(&stores);
    tokio::task::spawn_blocking(move || {
        std::fs::File::create(place.path().join("stores/hub.db")).unwrap();
        place.sql(
            "hub",
            "CREATE TABLE guests (guest TEXT PRIMARY KEY, mail TEXT UNIQUE);
             CREATE TABLE notes (note TEXT PRIMARY KEY, guest TEXT REFERENCES guests, mail TEXT REFERENCES guests (mail))",
        );
        let drafted = place.run(&["draft"], 0);
        for line in [
            "  key: {id: int64}\n",
            "# not mapped: number (int64, computed)",
            "    member: {type: int64, references: members}\n",
            "    by_email: string\n",
            "    guest: {type: string, references: guests}\n",
            "    mail: string\n",
        ] {
            assert!(drafted.contains(line), "{line}: {drafted}");
        }
        assert!(!drafted.contains("no table declares a primary key"), "{drafted}");
        database
    })
    .await
    .unwrap();
}

#[test]
fn a_store_that_is_not_there_is_an_error() {
    let place = Place::with(&store("hub", "canonical: true, sqlite: {path: ../stores/hub.db}"));
    let page = place.run(&["draft"], 1);
    assert!(page.contains("there is no file"), "{page}");
    assert!(!place.path().join("stores/hub.db").exists());
    place.run(&["migrate", "-auto-approve"], 0);
    let page = place.run(&["draft"], 1);
    assert!(page.contains("nothing to draft"), "{page}");
    place.sql("hub", "CREATE TABLE parts (part TEXT PRIMARY KEY, label TEXT)");
    let page = place.run(&["draft", "nothing"], 1);
    assert!(page.contains("no table of the name `nothing`"), "{page}");
    assert!(place.run(&["draft", "parts"], 0).contains("key: {part: string}"));
}

#[test]
fn a_table_that_is_named_and_not_there_is_an_error() {
    let place = Place::with(&store("hub", "canonical: true, sqlite: {path: ../stores/hub.db}"));
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", SHOP);
    let said = place.run(&["draft", "customers=people", "order-lines", "nothing"], 1);
    assert!(said.contains("no table of the names `people` and `nothing` stands in the stores"), "{said}");
    assert!(!said.contains("kind: Entity"), "{said}");
}

#[test]
fn foreign_keys_in_a_circle_leave_one_reference_out() {
    let place = Place::with(&store("hub", "canonical: true, sqlite: {path: ../stores/hub.db}"));
    std::fs::File::create(place.path().join("stores/hub.db")).unwrap();
    place.sql(
        "hub",
        "CREATE TABLE teams (team TEXT PRIMARY KEY, lead TEXT REFERENCES people, part_of TEXT REFERENCES teams);
         CREATE TABLE people (person TEXT PRIMARY KEY, team TEXT REFERENCES teams)",
    );
    let drafted = place.run(&["draft"], 0);
    assert!(drafted.contains("    team: {type: string, references: teams}\n"), "{drafted}");
    assert!(drafted.contains("    lead: string\n"), "{drafted}");
    assert!(drafted.contains("    part_of: {type: string, references: teams}\n"), "{drafted}");
    std::fs::write(place.path().join("manifests/drafted.yaml"), drafted).unwrap();
    place.run(&["validate"], 0);
}

/// A spec of stores alone.
fn stores() -> Spec {
    let text = store("hub", "canonical: true, sqlite: {path: hub.db}")
        + &store("app", "postgres: {url: \"postgres://localhost/app\"}")
        + &store("house", "bigquery: {project: demo, dataset: identity}");
    compiled(&[text])
}

fn compiled(texts: &[String]) -> Spec {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| Source { file: format!("{at}.yaml"), text: text.clone() })
        .collect();
    let compiled = compile_all(Path::new("."), &sources, &BTreeMap::new());
    compiled
        .unwrap_or_else(|found| panic!("{}\n{}", trueup::spec::render_lines(&found), texts.join("\n")))
        .spec
}

/// Names that meet often, and some that nobody should give.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "id", "Id", "contact_id", "contactId", "contacts", "Contact", "people", "name", "contact_name", "created_at", "createdAt",
            "updated_at", "version", "last_updated", "last_updated_by", "sync_metadata", "sync_conflicts", "none", "same", "null", "y",
            "true", "a.b", "1st", "*", "password", "größe", "with space", "quo\"te", "co:lon", "# no", "{brace", "tab\there", "",
        ])
        .prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ]
}

fn table(loose: bool) -> impl Strategy<Value = FoundTable> {
    let column = (
        name(),
        prop::sample::select(FieldType::ALL.to_vec()),
        any::<[bool; 3]>(),
        prop::option::weighted(0.2, name()),
    );
    (name(), prop::collection::vec(column, 0..8), prop::collection::vec(any::<prop::sample::Index>(), 0..3))
        .prop_map(move |(name, columns, key)| {
            let mut known = std::collections::BTreeSet::new();
            let columns: Vec<FoundColumn> = columns
                .into_iter()
                .filter(|(name, ..)| known.insert(name.to_lowercase()))
                .map(|(name, ty, [required, unique, computed], references)| FoundColumn {
                    path: vec![name],
                    ty,
                    loose,
                    required,
                    unique,
                    computed: computed && unique,
                    references,
                })
                .collect();
            let mut parts: Vec<String> = Vec::new();
            for at in key.iter().filter(|_| !columns.is_empty()) {
                let name = at.get(&columns).title();
                if !parts.contains(&name) {
                    parts.push(name);
                }
            }
            FoundTable { name, key: parts, columns }
        })
}

fn tables(loose: bool) -> impl Strategy<Value = Vec<FoundTable>> {
    prop::collection::vec(table(loose), 0..5).prop_map(|mut tables| {
        let mut known = std::collections::BTreeSet::new();
        tables.retain(|table| known.insert(table.name.to_lowercase()));
        tables
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in the stores, a draft of it is a manifest.
    #[test]
    fn every_draft_compiles(hub in tables(true), app in tables(false), house in tables(false)) {
        let spec = stores();
        let name = |name: &str| StoreName::new(name).unwrap();
        let found: Found = [(name("hub"), Some(hub)), (name("app"), Some(app)), (name("house"), Some(house))].into();
        let Draft { text, entities } = draft(&spec, &found, &[]);
        let texts = [
            store("hub", "canonical: true, sqlite: {path: hub.db}")
                + &store("app", "postgres: {url: \"postgres://localhost/app\"}")
                + &store("house", "bigquery: {project: demo, dataset: identity}"),
            text,
        ];
        if entities > 0 {
            let drafted = compiled(&texts);
            prop_assert_eq!(drafted.entities.len(), entities);
            // What was left out, for want of a key, is drafted by itself, beside what is there.
            let again = draft(&drafted, &found, &[]);
            if again.entities > 0 {
                let [stores, first] = texts;
                let both = compiled(&[stores, first, again.text]);
                prop_assert_eq!(both.entities.len(), entities + again.entities);
            }
        }
    }
}
