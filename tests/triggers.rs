//! Triggers that `migrate` adds where manifests ask for them: other applications' edits raise the version, trueup's do not.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "server/mod.rs"]
mod server;
#[path = "shell/mod.rs"]
mod shell;

use shell::Place;

/// Two stores with triggers: one keeps the metadata in columns, one in JSON.
const MANIFESTS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: hub}
spec: {canonical: true, sqlite: {path: ../stores/hub.db}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: app}
spec: {sqlite: {path: ../stores/app.db}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: things}
spec:
  key: {id: string}
  fields: {label: string, size: int64, note: string}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: things}
spec:
  entity: things
  stores:
    hub: {table: things, fields: {"*": same}, sync: {columns: same, triggers: true}}
    app: {table: items, fields: {"*": same}, sync: {json: meta, triggers: true}}
---
apiVersion: trueup/v1
kind: Controller
metadata: {name: controller}
spec: {state: {sqlite: ../state.db}}
"#;

fn settled() -> Place {
    let place = Place::with(MANIFESTS);
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", "ALTER TABLE things ADD COLUMN theirs TEXT");
    place.sql("app", "ALTER TABLE items ADD COLUMN theirs TEXT");
    place.sql("hub", "INSERT INTO things (id, label, size) VALUES ('1', 'one', 1), ('2', 'two', 2)");
    place.run(&["apply", "-auto-approve"], 0);
    place
}

const HUB: &str = "SELECT version || ' ' || last_updated_by FROM things WHERE id = '1'";
const APP: &str = "SELECT json_extract(meta, '$.version') || ' ' || json_extract(meta, '$.last_updated_by') \
                   FROM items WHERE id = '1'";

fn quiet(place: &Place) {
    let plan = place.run(&["plan", "-detailed-exitcode"], 0);
    assert!(plan.contains("No changes"), "{plan}");
}

#[test]
fn rows_that_say_nothing_begin_with_version_one() {
    let place = settled();
    assert_eq!(place.text("hub", HUB), "1 hub");
    assert_eq!(place.text("app", APP), "1 hub");
    place.sql("app", "INSERT INTO items (id, label) VALUES ('3', 'three')");
    let version = "SELECT json_extract(meta, '$.version') || json_extract(meta, '$.last_updated_by') FROM items WHERE id = '3'";
    assert_eq!(place.text("app", version), "1app");
    place.sql("hub", "INSERT INTO things (id, label, version) VALUES ('4', 'four', 9)");
    assert_eq!(
        place.text("hub", "SELECT version || ifnull(last_updated, '-') FROM things WHERE id = '4'"),
        "9-"
    );
    place.run(&["apply", "-auto-approve"], 0);
    quiet(&place);
}

#[test]
fn edits_raise_the_version_and_trueup_does_not_raise_it_again() {
    let place = settled();
    let before = place.text("hub", "SELECT last_updated FROM things WHERE id = '1'");
    place.sql("hub", "UPDATE things SET label = 'uno' WHERE id = '1'");
    assert_eq!(place.text("hub", HUB), "2 hub");
    assert!(place.text("hub", "SELECT last_updated FROM things WHERE id = '1'") > before);
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(place.text("hub", HUB), "2 hub");
    assert_eq!(place.text("app", APP), "2 hub");
    quiet(&place);

    place.sql("app", "UPDATE items SET note = 'new' WHERE id = '1'");
    assert_eq!(place.text("app", APP), "3 app");
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(place.text("hub", "SELECT note FROM things WHERE id = '1'"), "new");
    assert_eq!(place.text("hub", HUB).split(' ').nth(1), Some("app"));
    assert_eq!(place.text("hub", HUB), place.text("app", APP));
    quiet(&place);
}

#[test]
fn what_is_no_edit_raises_nothing() {
    let place = settled();
    for edit in [
        "UPDATE things SET theirs = 'x'",
        "UPDATE things SET label = label, size = 1 WHERE id = '1'",
        "UPDATE things SET sync_status = 'pending'",
        "UPDATE things SET last_updated_by = 'somebody'",
    ] {
        place.sql("hub", edit);
        assert_eq!(&place.text("hub", HUB)[..1], "1", "{edit}");
    }
    for edit in ["UPDATE items SET theirs = 'x'", "UPDATE items SET meta = json_set(meta, '$.theirs', 1)"] {
        place.sql("app", edit);
        assert_eq!(place.text("app", APP), "1 hub", "{edit}");
    }
}

#[test]
fn an_application_that_raises_the_version_itself_is_left_alone() {
    let place = settled();
    place.sql("hub", "UPDATE things SET label = 'uno', version = 7, last_updated_by = 'crm' WHERE id = '1'");
    assert_eq!(place.text("hub", HUB), "7 crm");
    place.sql("hub", "UPDATE things SET label = 'eins', version = 5 WHERE id = '1'");
    assert_eq!(place.text("hub", HUB), "8 hub", "a lower one is not raised");
    place.sql("hub", "PRAGMA recursive_triggers = on; UPDATE things SET label = 'une' WHERE id = '1'");
    assert_eq!(place.text("hub", HUB), "9 hub");
    place.sql("hub", "UPDATE things SET label = 'UNE' COLLATE NOCASE WHERE id = '1'");
    assert_eq!(place.text("hub", HUB), "10 hub");
}

#[test]
fn what_is_no_json_does_not_keep_applications_from_writing() {
    let place = settled();
    for odd in ["'no json'", "'[1]'", "'7'", "x'00'"] {
        place.sql("app", &format!("UPDATE items SET meta = {odd} WHERE id = '1'"));
        place.sql("app", "UPDATE items SET label = label || '!' WHERE id = '1'");
        assert_eq!(
            place.text("app", &format!("SELECT (meta IS {odd}) || '' FROM items WHERE id = '1'")),
            "1"
        );
    }
    for empty in ["NULL", "''", "'null'", "'{\"theirs\": 1}'"] {
        place.sql("app", &format!("UPDATE items SET meta = {empty} WHERE id = '1'"));
        place.sql("app", "UPDATE items SET label = label || '!' WHERE id = '1'");
        assert_eq!(place.text("app", APP), "1 app", "{empty}");
    }
    assert_eq!(
        place.text("app", "SELECT json_extract(meta, '$.theirs') || '' FROM items WHERE id = '1'"),
        "1"
    );
}

#[test]
fn triggers_follow_the_manifests() {
    let place = settled();
    let nothing = place.run(&["migrate", "-auto-approve"], 0);
    assert!(!nothing.contains("trigger"), "{nothing}");
    // Not a mapped field any more: no trigger speaks for it.
    place.manifests(&MANIFESTS.replace(
        "hub: {table: things, fields: {\"*\": same}",
        "hub: {table: things, fields: {\"*\": same, size: weight}",
    ));
    let replaced = place.run(&["migrate", "-auto-approve"], 0);
    assert!(replaced.contains("trigger") && replaced.contains("weight"), "{replaced}");
    place.sql("hub", "UPDATE things SET size = 5 WHERE id = '1'");
    assert_eq!(place.text("hub", HUB), "1 hub");
    place.sql("hub", "UPDATE things SET weight = 5 WHERE id = '1'");
    assert_eq!(place.text("hub", HUB), "2 hub");
    assert!(!place.run(&["migrate", "-auto-approve"], 0).contains("trigger"));
}

#[test]
fn writes_are_spared_by_triggers_that_no_manifest_asks_for_any_more() {
    let place = settled();
    place.manifests(&MANIFESTS.replace(", triggers: true", ""));
    place.sql("hub", "UPDATE things SET label = 'uno' WHERE id = '1'");
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(place.text("app", APP), "2 hub");
    quiet(&place);
}

#[test]
fn a_field_that_is_mapped_later_is_filled_without_raising_the_version() {
    let place = settled();
    let fewer = "app: {table: items, fields: {\"*\": same, size: none}";
    place.manifests(&MANIFESTS.replace("app: {table: items, fields: {\"*\": same}", fewer));
    place.sql(
        "app",
        "UPDATE items SET size = NULL, meta = json_set(meta, '$.version', 1, '$.last_updated_by', 'hub')",
    );
    place.run(&["apply", "-auto-approve"], 0);
    place.manifests(MANIFESTS);
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", "UPDATE things SET size = 1 WHERE id = '1'");
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(place.text("app", "SELECT size || '' FROM items WHERE id = '1'"), "1");
    assert_eq!(place.text("app", APP), "1 hub");
    quiet(&place);
}

#[test]
fn what_trueup_derives_is_no_edit_of_an_application() {
    let place = settled();
    place.manifests(&MANIFESTS.replace("size: int64", "size: int64, upper: {derive: \"name(label)\"}"));
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", "UPDATE things SET label = 'Uno' WHERE id = '1'");
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(place.text("hub", "SELECT upper FROM things WHERE id = '1'"), "uno");
    assert_eq!(place.text("hub", HUB), place.text("app", APP));
    quiet(&place);
}

#[test]
fn every_edit_counts_without_triggers_as_well() {
    let place = Place::with(&MANIFESTS.replace(", triggers: true", ""));
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", "INSERT INTO things (id, label) VALUES ('1', 'one')");
    place.run(&["apply", "-auto-approve"], 0);
    place.sql("app", "UPDATE items SET label = 'uno'");
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(place.text("hub", "SELECT label FROM things"), "uno");
    assert_eq!(place.text("hub", "SELECT count(*) || '' FROM sqlite_schema WHERE type = 'trigger'"), "0");
    quiet(&place);
}

/// Two stores in one Postgres database: one keeps the metadata in columns, one deep in a JSON column.
struct OnPostgres {
    place: Place,
    database: server::Database,
}

impl OnPostgres {
    async fn settled() -> Self {
        let database = server::database().await;
        let mut manifests = MANIFESTS.to_owned();
        for file in ["hub", "app"] {
            let url = format!("postgres: {{url: \"{}\"}}", database.url);
            manifests = manifests.replace(&format!("sqlite: {{path: ../stores/{file}.db}}"), &url);
        }
        let manifests = manifests
            .replace(
                "table: items, fields: {\"*\": same}",
                "table: items, fields: {\"*\": same, note: {path: more.note}}",
            )
            .replace("json: meta", "json: meta.sync");
        let place = Place::with(&manifests);
        place.run(&["migrate", "-auto-approve"], 0);
        let here = Self { place, database };
        here.database
            .sql(
                "ALTER TABLE things ADD theirs text; ALTER TABLE items ADD theirs text; \
                 INSERT INTO things (id, label, size) VALUES ('1', 'one', 1), ('2', 'two', 2)",
            )
            .await;
        here.place.run(&["apply", "-auto-approve"], 0);
        here
    }

    async fn text(&self, query: &str) -> String {
        let mut connection = self.database.connect().await;
        let query = sqlx::query_scalar::<_, Option<String>>(sqlx::AssertSqlSafe(query.to_owned()));
        query.fetch_one(&mut connection).await.unwrap().unwrap_or_default()
    }

    async fn hub(&self) -> String {
        self.text("SELECT version || ' ' || last_updated_by FROM things WHERE id = '1'").await
    }

    async fn app(&self) -> String {
        let query = "SELECT (meta #>> '{sync,version}') || ' ' || (meta #>> '{sync,last_updated_by}') FROM items WHERE id = '1'";
        self.text(query).await
    }

    /// Edits as another application would, whose session has a zone of its own.
    async fn edit(&self, statement: &str) {
        self.database.sql(&format!("SET TimeZone = 'America/Bogota'; {statement}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres_edits_raise_the_version_and_trueup_does_not_raise_it_again() {
    let here = OnPostgres::settled().await;
    assert_eq!((here.hub().await, here.app().await), ("1 hub".to_owned(), "1 hub".to_owned()));
    here.edit("UPDATE things SET label = 'uno' WHERE id = '1'").await;
    assert_eq!(here.hub().await, "2 hub");
    let fresh = "SELECT (last_updated BETWEEN now() - interval '1 minute' AND now())::text FROM things WHERE id = '1'";
    assert_eq!(here.text(fresh).await, "true");
    here.place.run(&["apply", "-auto-approve"], 0);
    assert_eq!((here.hub().await, here.app().await), ("2 hub".to_owned(), "2 hub".to_owned()));
    quiet(&here.place);

    here.edit("UPDATE items SET more = '{\"note\": \"new\", \"theirs\": 5}' WHERE id = '1'").await;
    assert_eq!(here.app().await, "3 app");
    let fresh = "SELECT ((meta #>> '{sync,last_updated}')::timestamptz BETWEEN now() - interval '1 minute' AND now())::text FROM items WHERE id = '1'";
    assert_eq!(here.text(fresh).await, "true");
    here.place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(here.text("SELECT note FROM things WHERE id = '1'").await, "new");
    assert_eq!(
        here.text("SELECT more::text FROM items WHERE id = '1'").await,
        "{\"note\": \"new\", \"theirs\": 5}"
    );
    assert_eq!(here.hub().await, here.app().await);
    quiet(&here.place);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres_what_is_no_edit_raises_nothing() {
    let here = OnPostgres::settled().await;
    for edit in [
        "UPDATE things SET theirs = 'x'; UPDATE items SET theirs = 'x'",
        "UPDATE things SET label = label, size = 1 WHERE id = '1'",
        "UPDATE things SET sync_status = 'pending'",
        "UPDATE items SET more = '{\"theirs\": 1}'",
        "UPDATE items SET meta = jsonb_set(meta, '{theirs}', '1')",
    ] {
        here.edit(edit).await;
        assert_eq!((here.hub().await, here.app().await), ("1 hub".to_owned(), "1 hub".to_owned()), "{edit}");
    }
    assert!(!here.place.run(&["migrate", "-auto-approve"], 0).contains("trigger"), "they are there");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres_applications_that_say_more_or_write_nonsense_are_left_alone() {
    let here = OnPostgres::settled().await;
    here.edit("UPDATE things SET label = 'uno', version = 7, last_updated_by = 'crm' WHERE id = '1'").await;
    assert_eq!(here.hub().await, "7 crm");
    here.edit("UPDATE things SET label = 'eins', version = 5 WHERE id = '1'").await;
    assert_eq!(here.hub().await, "8 hub", "a lower one is not raised");
    here.edit("INSERT INTO things (id, label) VALUES ('1', 'une') ON CONFLICT (id) DO UPDATE SET label = excluded.label, version = excluded.version").await;
    assert_eq!(here.hub().await, "9 hub");
    here.edit("INSERT INTO things (id, label, version) VALUES ('4', 'four', 9)").await;
    assert_eq!(
        here.text("SELECT version || coalesce(last_updated_by, '-') FROM things WHERE id = '4'").await,
        "9-"
    );
    for odd in ["[1]", "7", "\"x\""] {
        here.edit(&format!("UPDATE items SET meta = '{odd}' WHERE id = '1'")).await;
        here.edit("UPDATE items SET label = label || '!' WHERE id = '1'").await;
        assert_eq!(here.text("SELECT meta::text FROM items WHERE id = '1'").await, odd);
    }
    for empty in ["NULL", "'null'", "'{\"sync\": 5, \"theirs\": 1}'"] {
        here.edit(&format!("UPDATE items SET meta = {empty} WHERE id = '1'")).await;
        here.edit("UPDATE items SET label = label || '!' WHERE id = '1'").await;
        assert_eq!(here.app().await, "1 app", "{empty}");
    }
    assert_eq!(here.text("SELECT meta ->> 'theirs' FROM items WHERE id = '1'").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres_columns_of_any_type_do() {
    let here = OnPostgres::settled().await;
    here.edit(
        "ALTER TABLE things ALTER version TYPE text, ALTER last_updated TYPE timestamp USING last_updated AT TIME ZONE 'UTC', \
         ALTER note TYPE json USING to_json(note), ALTER last_updated_by TYPE varchar(20)",
    )
    .await;
    here.place.run(&["migrate", "-auto-approve"], 0);
    here.edit("UPDATE things SET note = '{\"a\": 1}' WHERE id = '1'").await;
    assert_eq!(here.hub().await, "2 hub");
    let fresh = "SELECT (last_updated BETWEEN (now() AT TIME ZONE 'UTC') - interval '1 minute' AND (now() AT TIME ZONE 'UTC'))::text FROM things WHERE id = '1'";
    assert_eq!(here.text(fresh).await, "true");
}
