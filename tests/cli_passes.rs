//! The command on two real stores: exit codes, prompts, saved plans, streams.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

use std::path::Path;

use assert_cmd::Command;
use sqlx::{ConnectOptions, Connection};

const MANIFESTS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: hub}
spec: {canonical: true, sqlite: {path: ../hub.db}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: app}
spec: {sqlite: {path: ../app.db}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: contacts}
spec:
  key: {contact_id: string}
  fields: {title: string, passport: {type: string, sensitive: true}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: contacts}
spec:
  entity: contacts
  stores:
    hub: {table: contacts, fields: {"*": same}, sync: {columns: same}}
    app: {table: contacts, fields: {"*": same}, sync: {columns: same}}
"#;

struct World(tempfile::TempDir);

impl World {
    /// Two stores with tables, and one record in the replica.
    fn new() -> Self {
        Self::with(MANIFESTS)
    }

    fn with(manifests: &str) -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(world.path().join("manifests")).unwrap();
        std::fs::write(world.path().join("manifests/all.yaml"), manifests).unwrap();
        world.run(&["migrate", "-auto-approve"], 0);
        world.sql("app", "insert into contacts (contact_id, title, passport) values ('C1', 'Dr', 'P-4711')");
        world
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn sql(&self, store: &str, statement: &'static str) {
        let file = self.path().join(format!("{store}.db"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection =
                sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    /// Both streams of a command that ends with this code.
    fn run(&self, args: &[&str], code: i32) -> String {
        let mut command = Command::cargo_bin("trueup").unwrap();
        for name in ["NO_COLOR", "TRUEUP_LOG", "TRUEUP_INPUT", "TRUEUP_IN_AUTOMATION", "TRUEUP_CLI_ARGS"] {
            command.env_remove(name);
        }
        let done = command.current_dir(self.path()).args(args).assert().code(code);
        let output = done.get_output();
        let page =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!page.contains("P-4711"), "a sensitive value is shown: {page}");
        page
    }
}

#[test]
fn plan_says_by_its_exit_code_whether_there_is_something_to_do() {
    let world = World::new();
    let page = world.run(&["plan", "-detailed-exitcode"], 2);
    assert!(
        page.contains("Plan: 1 to add, 0 to change, 0 to destroy.\n") && page.contains("--out"),
        "{page}"
    );
    world.run(&["plan"], 0);
    let page = world.run(&["apply", "-auto-approve"], 0);
    assert!(page.contains("Apply complete! Records: 1 added, 0 changed, 0 destroyed.\n"), "{page}");
    let page = world.run(&["plan", "-detailed-exitcode"], 0);
    assert!(page.starts_with("No changes."), "{page}");
}

#[test]
fn without_a_terminal_apply_fails_where_it_would_have_to_ask_and_writes_nothing() {
    let world = World::new();
    for args in [&["apply"][..], &["apply", "-input=false"], &["apply", "-json"]] {
        assert!(world.run(args, 1).contains("--auto-approve"), "{args:?}");
    }
    world.run(&["plan", "-detailed-exitcode"], 2);
}

#[test]
fn a_saved_plan_says_which_store_cannot_be_read_when_it_is_applied() {
    let world = World::new();
    world.run(&["plan", "--out", "p"], 0);
    std::fs::rename(world.path().join("app.db"), world.path().join("away.db")).unwrap();
    let page = world.run(&["apply", "p"], 1);
    assert!(page.contains("`app` cannot be read now"), "{page}");
    assert!(!page.contains("plan again to see it"), "nobody knows that: {page}");
    std::fs::rename(world.path().join("away.db"), world.path().join("app.db")).unwrap();
    let page = world.run(&["apply", "p"], 0);
    assert!(page.contains("Apply complete!"), "{page}");
}

#[test]
fn a_saved_plan_is_applied_without_asking_and_only_once() {
    let world = World::new();
    let page = world.run(&["plan", "-out=p.plan"], 0);
    assert!(
        page.contains("Saved the plan to: p.plan\n") && page.contains("    trueup apply \"p.plan\"\n"),
        "{page}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(world.path().join("p.plan")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    world.run(&["apply", "p.plan"], 0);
    let page = world.run(&["apply", "p.plan"], 1);
    assert!(page.contains("hub.contacts[\"C1\"]: ") && page.contains("Apply incomplete!"), "{page}");
    world.run(&["plan", "-detailed-exitcode"], 0);
}

#[test]
fn a_plan_made_under_other_manifests_is_refused() {
    let world = World::new();
    world.run(&["plan", "-out=p.plan"], 0);
    let changed = MANIFESTS.replace("title: string", "title: {type: string, required: true}");
    std::fs::write(world.path().join("manifests/all.yaml"), changed).unwrap();
    let page = world.run(&["apply", "p.plan"], 1);
    assert!(page.contains("other manifests") && page.contains("trueup plan --out"), "{page}");
    world.run(&["plan", "-detailed-exitcode"], 2);
}

#[test]
fn the_streams_are_an_object_a_line() {
    let world = World::new();
    for args in [&["plan", "-json"][..], &["apply", "-json", "-auto-approve"]] {
        let kinds: Vec<String> = world
            .run(args, 0)
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(kinds.first().map(String::as_str), Some("version"), "{kinds:?}");
        assert_eq!(kinds.last().map(String::as_str), Some("change_summary"), "{kinds:?}");
        assert!(kinds.iter().any(|kind| kind == "planned_change"), "{kinds:?}");
    }
}

#[test]
fn one_pass_of_run_brings_the_stores_to_agree() {
    let world = World::new();
    world.run(&["run", "-once"], 0);
    world.run(&["plan", "-detailed-exitcode"], 0);
    assert!(world.run(&["status"], 0).contains("To do: 0 to add, 0 to change, 0 to destroy"));
    let status: serde_json::Value = serde_json::from_str(&world.run(&["status", "-json"], 0)).unwrap();
    assert_eq!(status["books"]["contacts"]["app"]["standing"]["in_sync"], 1);
    assert!(world.run(&["conflicts"], 0).contains("No conflict waits"));
}

/// A row that trueup changed is changed back, and one that it removed is made again, to the letter as it was: the file is as it was when
/// it was last looked at.
#[test]
fn what_is_put_back_as_it_was_before_our_own_write_is_an_edit() {
    let synced = "app: {table: contacts, fields: {\"*\": same}, sync: {columns: same}}";
    assert!(MANIFESTS.contains(synced));
    let world = World::with(&MANIFESTS.replace(synced, "app: {table: contacts, fields: {\"*\": same}}"));
    world.sql("app", "insert into contacts (contact_id, title) values ('C2', 'Ms'), ('C3', 'Mr')");
    for _ in 0..2 {
        world.run(&["run", "--once"], 0);
    }
    // Whoever raises the version as well leaves nothing to write there: only the other store is ours to have written.
    world.sql("hub", "update contacts set title = 'Dr', version = version + 1 where contact_id = 'C3'");
    world.run(&["run", "--once"], 0);
    world.run(&["plan", "-detailed-exitcode"], 0);
    world.sql("app", "update contacts set title = 'Mr' where contact_id = 'C3'");
    let page = world.run(&["plan", "-detailed-exitcode"], 2);
    assert!(page.contains("Plan: 0 to add, 1 to change, 0 to destroy.\n"), "{page}");
    world.run(&["run", "--once"], 0);
    world.sql("hub", "delete from contacts where contact_id = 'C2'");
    world.run(&["run", "--once"], 0);
    world.run(&["plan", "-detailed-exitcode"], 0);
    world.sql("app", "insert into contacts (contact_id, title) values ('C2', 'Ms')");
    let page = world.run(&["plan", "-detailed-exitcode"], 2);
    assert!(page.contains("Plan: 1 to add, 0 to change, 0 to destroy.\n"), "{page}");
}

/// A column that is gone and added again is empty everywhere, which nobody did.
#[test]
fn a_column_that_migrate_adds_again_is_filled_and_clears_nothing() {
    for at in ["app", "hub"] {
        let world = World::with(MANIFESTS);
        world.sql("hub", "insert into contacts (contact_id, title) values ('C2', 'Ms'), ('C3', 'Mr')");
        world.run(&["apply", "-auto-approve"], 0);
        match at {
            "app" => world.sql("app", "alter table contacts rename column title to old_title"),
            _ => world.sql("hub", "alter table contacts drop column title"),
        }
        let page = world.run(&["plan"], 0);
        assert!(page.contains("trueup migrate"), "{page}");
        world.run(&["migrate", "-auto-approve"], 0);
        world.run(&["apply", "-auto-approve"], 0);
        for store in ["hub", "app"] {
            let file = rusqlite::Connection::open(world.path().join(format!("{store}.db"))).unwrap();
            let titles: String = file
                .query_row(
                    "select group_concat(title) from contacts where contact_id in ('C2', 'C3')",
                    [],
                    |row| row.get(0),
                )
                .unwrap();
            assert_eq!(titles, "Ms,Mr", "in {store}, gone in {at}");
        }
        world.run(&["plan", "-detailed-exitcode"], 0);
    }
}

/// What is only read is not migrated, and its file is not made.
#[test]
fn a_store_that_is_only_read_is_not_migrated() {
    let both = "spec: {sqlite: {path: ../app.db}}";
    assert!(MANIFESTS.contains(both));
    let world = World(tempfile::tempdir().unwrap());
    std::fs::create_dir(world.path().join("manifests")).unwrap();
    let manifests = MANIFESTS.replace(both, "spec: {read_only: true, sqlite: {path: ../app.db}}");
    std::fs::write(world.path().join("manifests/all.yaml"), manifests).unwrap();
    let page = world.run(&["migrate", "-auto-approve"], 0);
    assert!(page.contains("# hub") && !page.contains("# app"), "{page}");
    assert!(!world.path().join("app.db").exists());
}

#[test]
fn what_is_paused_or_refused_is_said_in_the_end() {
    let world = World::with(MANIFESTS);
    world.sql(
        "hub",
        "with recursive s(n) as (select 1 union all select n + 1 from s where n < 20)
         insert into contacts (contact_id, title) select 'N' || n, 'Dr' from s",
    );
    world.run(&["apply", "-auto-approve"], 0);
    world.run(&["pause", "app", "--reason", "a trial"], 0);
    world.sql("hub", "update contacts set title = 'Prof' where contact_id = 'N1'");
    world.run(&["apply", "-auto-approve"], 0);
    let page = world.run(&["plan"], 0);
    assert!(page.contains("No changes. Nothing can be written now: 1 record waits"), "{page}");
    world.run(&["resume", "app"], 0);
    world.run(&["apply", "-auto-approve"], 0);
    world.run(&["plan", "-detailed-exitcode"], 0);
    world.sql("app", "delete from contacts where contact_id like 'N1%'");
    let page = world.run(&["apply", "-auto-approve"], 1);
    assert!(page.contains("guard `deletes`") && page.contains("Apply incomplete!"), "{page}");
    assert!(!page.contains("Apply complete!"), "{page}");
}
