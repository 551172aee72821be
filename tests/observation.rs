//! Looking costs what changed: passes over Postgres, with every row that a store gives counted.

#[path = "server/mod.rs"]
mod server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio_util::sync::CancellationToken;
use trueup::controller::{Engine, PassOptions, Refresh};
use trueup::plan::{GuardName, Plan};
use trueup::reconcile::Report;
use trueup::telemetry::{Event, Observer};

const MANIFESTS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: hub}
spec: {canonical: true, postgres: {url: "HUB"}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: app}
spec: {postgres: {url: "APP"}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: contacts}
spec:
  key: {id: string}
  fields:
    name: {type: string, required: true}
    name_normalized: {derive: name(name)}
    code: {enum: [A, B]}
    notes: string
    born: date
    context: json
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: contacts}
spec:
  entity: contacts
  stores:
    hub: {table: contacts, fields: {"*": same}, sync: {json: sync}}
    app: {table: contacts, fields: {"*": same}, sync: {json: sync}}
"#;

const FILL: &str = "INSERT INTO contacts (id, name, name_normalized, code, notes, born, context, sync) \
    SELECT 'c' || lpad(n::text, 5, '0'), 'Person ' || n, 'person ' || n, 'A', 'note ' || n, '1970-01-01', \
    jsonb_build_object('n', n, 'tags', jsonb_build_array('x')), '{\"version\": 1, \"last_updated\": \"2026-01-01T00:00:00Z\"}' \
    FROM generate_series(1, 5000) AS n";

/// Counts the rows that stores give.
#[derive(Default)]
struct Rows(AtomicU64);

impl Observer for Rows {
    fn notice(&self, event: &Event<'_>) {
        if let Event::RowsRead { rows, .. } = event {
            self.0.fetch_add(*rows, Ordering::Relaxed);
        }
    }
}

struct World {
    hub: server::Database,
    app: server::Database,
    engine: Engine,
    _folder: tempfile::TempDir,
    _server: server::Server,
}

impl World {
    async fn new() -> Self {
        // A server of its own, on which nobody else does anything: a row counts as seen only if it is older than every transaction that
        // was under way in any database of its server when it was read, and is given once more otherwise.
        let server = server::Server::start_with(server::Disk::Lazy, "autovacuum = off\n");
        let (hub, app) = (server.database().await, server.database().await);
        let folder = tempfile::tempdir().expect("a folder");
        let text = MANIFESTS.replace("HUB", &hub.url).replace("APP", &app.url);
        std::fs::write(folder.path().join("all.yaml"), text).expect("written");
        let engine = open(folder.path()).await;
        engine.migrate(&engine.migration().await.expect("planned")).await.expect("migrated");
        for database in [&hub, &app] {
            database.sql(FILL).await;
        }
        Self { hub, app, engine, _folder: folder, _server: server }
    }

    async fn plan(&self, options: PassOptions) -> (Plan, u64) {
        let rows = Rows::default();
        let plan = self.engine.plan(&options, &rows).await.expect("a plan");
        (plan, rows.0.into_inner())
    }

    async fn pass(&self, allow: &[GuardName]) -> (Report, u64) {
        let rows = Rows::default();
        let options = PassOptions { allow: allow.iter().copied().collect(), ..PassOptions::default() };
        let report = self.engine.pass(&options, &rows, &CancellationToken::new()).await.expect("a pass");
        assert!(
            report.is_clean() && report.guards.is_empty(),
            "{:?} {:?}",
            report.guards,
            report.failed.first()
        );
        (report, rows.0.into_inner())
    }

    /// Everything that both hold, without the metadata.
    async fn agree(&self) {
        let whole = "SELECT md5(string_agg(t::text, '|' ORDER BY id COLLATE \"C\")) FROM \
                     (SELECT id, name, name_normalized, code, notes, born, context FROM contacts) AS t";
        assert_eq!(one(&self.hub, whole).await, one(&self.app, whole).await, "both hold the same");
    }

    /// The plan by what changed is the plan by everything, in what it writes and in its books.
    async fn same_both_ways(&self) -> (Plan, u64) {
        let (changed, rows) = self.plan(PassOptions::default()).await;
        let (whole, _) = self.plan(PassOptions { refresh: Refresh::Full, ..PassOptions::default() }).await;
        assert_eq!(changed.books, whole.books);
        assert_eq!(changed.totals(), whole.totals());
        let ids = |plan: &Plan| plan.records.iter().map(|record| record.record.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&changed), ids(&whole));
        (changed, rows)
    }
}

async fn open(folder: &Path) -> Engine {
    let (spec, _) = trueup::cli::load::load(folder).unwrap_or_else(|error| panic!("{error}"));
    Engine::open(Arc::new(spec), true).await.expect("opened")
}

async fn one(database: &server::Database, sql: &str) -> Option<String> {
    let mut connection = database.connect().await;
    let row = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect("a row");
    let found = row.get::<Option<String>, _>(0);
    connection.close().await.expect("closed");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_costs_what_changed() {
    let world = World::new().await;
    // A first meeting reads everything. To be looked at alone, it is told by the bytes; the plan is the same.
    let (kept, rows) = world.plan(PassOptions::default()).await;
    assert_eq!((rows, kept.records.noted(), kept.totals().sum()), (10_000, 5_000, 0));
    let (looked, rows) = world.plan(PassOptions { only_look: true, ..PassOptions::default() }).await;
    assert_eq!((rows, looked.records.noted(), looked.totals().sum()), (10_000, 5_000, 0));
    assert_eq!((looked.books, looked.notices), (kept.books, kept.notices));
    let (_, rows) = world.pass(&[]).await;
    assert_eq!(rows, 10_000);

    let (plan, rows) = world.plan(PassOptions::default()).await;
    assert!(plan.is_empty() && rows == 0, "{rows} rows read although nothing changed");

    world.app.sql("UPDATE contacts SET notes = notes || '!' WHERE id <= 'c00100'").await;
    let (plan, rows) = world.same_both_ways().await;
    assert_eq!((rows, plan.records.len()), (100, 100));
    let (report, rows) = world.pass(&[]).await;
    assert_eq!((rows, report.applied.update, report.applied.metadata), (100, 100, 100));
    world.agree().await;
    // What was written here was read back with the write, and is not looked at again.
    let (_, rows) = world.pass(&[]).await;
    assert_eq!(rows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_and_what_came_is_found_without_reading_the_rest() {
    let world = World::new().await;
    world.pass(&[]).await;
    world.hub.sql("DELETE FROM contacts WHERE id IN ('c00001', 'c02500', 'c05000')").await;
    world.app.sql("DELETE FROM contacts WHERE id IN ('c00007', 'c00008')").await;
    world
        .app
        .sql("INSERT INTO contacts (id, name) VALUES ('a', 'First'), ('c00007x', 'New'), ('z', 'Last')")
        .await;
    world.app.sql("UPDATE contacts SET id = 'moved' WHERE id = 'c00009'").await;
    let (plan, rows) = world.same_both_ways().await;
    assert_eq!(rows, 4, "the three that came and the one that moved");
    // Three went from the application's store and three from the hub, all of which go everywhere; four came.
    assert_eq!((plan.totals().create, plan.totals().delete), (4, 6));
    let (report, _) = world.pass(&[]).await;
    assert_eq!((report.applied.create, report.applied.delete), (4, 6));
    world.agree().await;
    let (report, rows) = world.pass(&[]).await;
    assert_eq!((report.applied.sum(), rows), (0, 0));
    assert!(world.same_both_ways().await.0.is_empty());
    // One goes and another comes: the count alone shows nothing.
    world.app.sql("DELETE FROM contacts WHERE id = 'c00100'; INSERT INTO contacts (id, name) VALUES ('c00100x', 'X')").await;
    let (plan, rows) = world.same_both_ways().await;
    assert_eq!((rows, plan.totals().create, plan.totals().delete), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_out_of_order_are_looked_at_until_they_are_in_order() {
    let world = World::new().await;
    world.pass(&[]).await;
    world.app.sql("UPDATE contacts SET code = 'Z' WHERE id = 'c00001'").await;
    for _ in 0..3 {
        let (plan, _) = world.same_both_ways().await;
        assert_eq!(plan.notices.len(), 1, "the rejected value is named in every pass");
        world.pass(&[]).await;
    }
    world.app.sql("UPDATE contacts SET code = 'B' WHERE id = 'c00001'").await;
    world.pass(&[]).await;
    world.agree().await;
    let (plan, rows) = world.same_both_ways().await;
    assert!(plan.is_empty() && plan.notices.is_empty() && rows == 0, "{:?}", plan.notices);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_larger_than_memory_keeps_is_carried_out_whole() {
    let world = World::new().await;
    world.pass(&[]).await;
    world
        .app
        .sql("UPDATE contacts SET notes = 'edited ' || id, context = context || '{\"seen\": true}'")
        .await;
    let (plan, rows) = world.same_both_ways().await;
    assert_eq!((rows, plan.guards.len()), (5_000, 1), "a whole table changed");
    let (report, _) = world.pass(&[GuardName::Updates]).await;
    assert_eq!((report.applied.update, report.applied.metadata), (5_000, 5_000));
    world.agree().await;
    assert!(world.same_both_ways().await.0.is_empty());
}

/// Two `SQLite` files with 5,000 records each.
struct Files {
    engine: Engine,
    folder: tempfile::TempDir,
}

impl Files {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = MANIFESTS
            .replace("postgres: {url: \"HUB\"}", "sqlite: {path: hub.db}")
            .replace("postgres: {url: \"APP\"}", "sqlite: {path: app.db}");
        std::fs::write(folder.path().join("all.yaml"), text).expect("written");
        let engine = open(folder.path()).await;
        engine.migrate(&engine.migration().await.expect("planned")).await.expect("migrated");
        let files = Self { engine, folder };
        let fill = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 5000) \
            INSERT INTO contacts (id, name, name_normalized, code, notes, born, context, sync) \
            SELECT printf('c%05d', n), 'Person ' || n, 'person ' || n, 'A', 'note ' || n, '1970-01-01', \
            json_object('n', n), json_object('version', 1, 'last_updated', '2026-01-01T00:00:00Z') FROM s";
        for file in ["hub.db", "app.db"] {
            files.sql(file, fill).await;
        }
        files
    }

    /// Does something that trueup does not know of.
    async fn sql(&self, file: &str, sql: &str) {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.folder.path().join(file));
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("connected");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
        connection.close().await.expect("closed");
    }

    async fn look(&self, refresh: Refresh) -> (Plan, u64) {
        let rows = Rows::default();
        let options = PassOptions { refresh, ..PassOptions::default() };
        let plan = self.engine.plan(&options, &rows).await.expect("a plan");
        (plan, rows.0.into_inner())
    }

    async fn same_both_ways(&self) -> (Plan, u64) {
        let ((changed, rows), (whole, _)) =
            (self.look(Refresh::Changed).await, self.look(Refresh::Full).await);
        assert_eq!(changed.books, whole.books);
        assert_eq!(changed.totals(), whole.totals());
        let ids = |plan: &Plan| plan.records.iter().map(|record| record.record.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&changed), ids(&whole));
        (changed, rows)
    }

    async fn pass(&self) -> Report {
        let report =
            self.engine.pass(&PassOptions::default(), &Rows::default(), &CancellationToken::new()).await;
        let report = report.expect("a pass");
        assert!(report.is_clean() && report.guards.is_empty(), "{:?}", report.failed.first());
        report
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_compared_by_what_they_held_and_only_suspects_are_looked_at() {
    let files = Files::new().await;
    files.pass().await;
    let (plan, rows) = files.same_both_ways().await;
    assert!(plan.is_empty() && rows == 0, "{rows} rows looked at although nothing changed");

    files.sql("app.db", "UPDATE contacts SET notes = 'new' WHERE id IN ('c00007', 'c04000')").await;
    files.sql("hub.db", "DELETE FROM contacts WHERE id = 'c00011'").await;
    files.sql("hub.db", "INSERT INTO contacts (id, name) VALUES ('a', 'First'), ('z', 'Last')").await;
    let (plan, rows) = files.same_both_ways().await;
    // Two edits, and what is derived of the two that came.
    assert_eq!((plan.totals().update, plan.totals().create, plan.totals().delete), (4, 2, 1));
    assert!(rows < 1_000, "{rows} rows looked at for five that changed");
    let report = files.pass().await;
    assert_eq!((report.applied.update, report.applied.create, report.applied.delete), (4, 2, 1));
    assert!(files.same_both_ways().await.0.is_empty());
    // What was written here is looked at once more, and then not again.
    files.pass().await;
    assert_eq!(files.look(Refresh::Changed).await.1, 0);

    // An older value that comes back is a change, though it was there before.
    files.sql("app.db", "UPDATE contacts SET notes = 'later' WHERE id = 'c00001'").await;
    files.pass().await;
    files.sql("app.db", "UPDATE contacts SET notes = 'note 1' WHERE id = 'c00001'").await;
    let (plan, _) = files.same_both_ways().await;
    assert_eq!(plan.totals().update, 1);
}
