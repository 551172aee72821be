//! What is Postgres' alone: other applications' tables with all their types, rules and triggers, row-level security, and marks that
//! tell what changed.

#[allow(dead_code)]
#[path = "conformance/harness.rs"]
mod harness;
#[path = "server/mod.rs"]
mod server;

use std::sync::Arc;

use harness::*;
use server::{Database, database, shared};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use trueup::model::{
    Cell, Column, ErrorKind, FieldType, Json, Mapped, Mapping, Mark, Outcome, RecordKey, Shape, StoreError,
    SyncMeta, SyncPlace, TableName, Timestamp, Value, WriteOp,
};
use trueup::store::postgres::{PostgresOptions, PostgresStore};
use trueup::store::{Changes, LazyRow, Store};

fn open(url: &str) -> Arc<dyn Store> {
    Arc::new(PostgresStore::open(store_name(), url, PostgresOptions::default()).expect("an address"))
}

/// A database in which another application made something.
async fn theirs(statements: &str) -> (Database, Arc<dyn Store>) {
    let database = database().await;
    database.sql(statements).await;
    let store = open(&database.url);
    (database, store)
}

async fn text(database: &Database, sql: &str) -> String {
    let mut connection = database.connect().await;
    sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect(sql).get(0)
}

/// A mapping without sync metadata and times, changed by `change`.
fn plain(words: Words, change: impl FnOnce(&mut Mapping)) -> Mapped {
    let mut mapped = words.mapped();
    let mut mapping = (*mapped.mapping).clone();
    mapping.sync = SyncPlace::None;
    mapping.created = None;
    mapping.updated = None;
    change(&mut mapping);
    mapped.mapping = Arc::new(mapping);
    mapped
}

fn name_and_count() -> Words {
    Words::new("things").field("name", FieldType::String).field("count", FieldType::Int64)
}

fn bare() -> Mapped {
    plain(name_and_count(), |_| {})
}

fn none() -> SyncMeta {
    SyncMeta::default()
}

fn set(mapped: &Mapped, field: &str, value: Value) -> WriteOp {
    update(mapped, &[(field, value)], None, guard(mapped, &[], &none()))
}

fn refused(outcome: &Outcome) -> &StoreError {
    match outcome {
        Outcome::Refused(error) => error,
        other => panic!("{other:?}"),
    }
}

fn row_of(outcome: &Outcome) -> &trueup::model::Row {
    match outcome {
        Outcome::Applied(Some(row)) => row,
        other => panic!("{other:?}"),
    }
}

async fn snapshot_error(store: &Arc<dyn Store>, mapped: &Mapped) -> StoreError {
    store.snapshot(mapped.clone()).await.expect_err("no snapshot")
}

/// A mark from a moment when nothing was under way. What is under way anywhere on the server, in other tests as well, makes a store
/// look at rows once more that were there already.
async fn mark_of(store: &Arc<dyn Store>, mapped: &Mapped) -> Mark {
    for _ in 0..500 {
        let mark = snapshot(store, mapped).await.1.mark.expect("a mark");
        let data: serde_json::Value = serde_json::from_str(&mark.0).expect("JSON");
        let mut bounds = data["snapshot"].as_str().expect("a snapshot").split(':');
        if bounds.next() == bounds.next() {
            return mark;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the server is never quiet");
}

const THINGS: &str = "CREATE TABLE things (id text PRIMARY KEY, name text, count int8);";

#[tokio::test]
async fn nobody_behind_an_address_is_told_as_that() {
    let said = async |url: &str| open(url).probe().await.expect_err("nobody is there");
    // A balancer without a server behind it takes the connection and closes it.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 8]).await;
        }
    });
    let error = said(&format!("postgres://someone@127.0.0.1:{port}/x")).await;
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("closed before the server said anything"), "{error}");
    let error = said("postgres://someone@db.invalid/x").await;
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("its host's name leads nowhere"), "{error}");
}

#[tokio::test]
async fn addresses_and_servers_that_are_none_are_told() {
    let url = |url: &str| PostgresStore::open(store_name(), url, PostgresOptions::default());
    for bad in [
        "",
        "s3cret.db",
        "mysql://u:s3cret@h/d",
        "postgres://u:s3cret@h/d?frobnicate=s3cret",
        "postgres://u:s3cret@[h/d",
    ] {
        let error = url(bad).expect_err(bad);
        assert_eq!(error.kind, ErrorKind::Invalid, "{bad}");
        assert!(error.hint.is_some() && !error.to_string().contains("s3cret"), "{error}");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let down = open(&format!("postgres://u:s3cret@127.0.0.1:{port}/d"));
    let began = std::time::Instant::now();
    let error = snapshot_error(&down, &bare()).await;
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.hint.is_some() && !error.to_string().contains("s3cret"), "{error}");
    assert!(began.elapsed().as_secs() < 5, "said at once");
    let error = open(&shared().url("nowhere")).probe().await.expect_err("no database");
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    let secure = open(&format!("{}?sslmode=require", database().await.url));
    assert_eq!(secure.probe().await.expect_err("no TLS").kind, ErrorKind::Unavailable);
    let store = open(&format!("{}?application_name=other", database().await.url));
    assert!(store.probe().await.expect("there").identity.expect("told").contains('/'));
}

#[tokio::test]
async fn through_a_pooler_nothing_is_kept_prepared() {
    let (database, _) = theirs(THINGS).await;
    let store = open(&format!("{}?pgbouncer=true&connection_limit=1", database.url));
    let mapped = bare();
    for number in 0..5 {
        let one = create(&mapped, &[("count", Value::Int(number))], &none());
        row_of(&apply(&store, &mapped, vec![(key(&number.to_string()), one)]).await[0]);
    }
    assert_eq!(snapshot(&store, &mapped).await.0.len(), 5);
}

/// A pooler that gives each transaction one of two connections, where one is installed.
struct Pooler {
    process: std::process::Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    fn start() -> Option<Self> {
        let program = std::env::var_os("TRUEUP_TEST_PGBOUNCER").unwrap_or_else(|| "pgbouncer".into());
        let folder = tempfile::tempdir().expect("a folder");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let settings = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nuser = nobody\n",
            shared().port()
        );
        std::fs::write(&settings, text).expect("written");
        let mut command = std::process::Command::new(program);
        command
            .arg("-q")
            .arg(&settings)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        Some(Self { process: command.spawn().ok()?, port, _folder: folder })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_real_pooler_gives_each_transaction_another_connection() {
    let (database, direct) = theirs(THINGS).await;
    let Some(pooler) = Pooler::start() else {
        eprintln!("not run: there is no pgbouncer");
        return;
    };
    let store =
        open(&format!("postgres://postgres@127.0.0.1:{}/{}?pgbouncer=true", pooler.port, database.name));
    let mut tries = 0;
    while let Err(error) = store.probe().await {
        tries += 1;
        assert!(tries < 50, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let mapped = bare();
    let tasks: Vec<_> = (0..8)
        .map(|writer| {
            let (store, mapped) = (store.clone(), mapped.clone());
            tokio::spawn(async move {
                for round in 0..5 {
                    let writes = (0..150).map(|n| {
                        (
                            key(&format!("{writer}-{round}-{n}")),
                            create(&mapped, &[("count", Value::Int(n))], &none()),
                        )
                    });
                    let outcomes = apply(&store, &mapped, writes.collect()).await;
                    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(Some(_)))));
                    assert!(snapshot(&store, &mapped).await.1.is_complete());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let mark = mark_of(&store, &mapped).await;
    database.sql("UPDATE things SET count = -1 WHERE id = '3-3-3'").await;
    let mut changes = store.changes(&mapped, &mark).await.expect("an answer").expect("it can tell");
    let rows = changes.rows().await.expect("rows").expect("one");
    assert_eq!(rows.iter().map(|row| row.key().clone()).collect::<Vec<_>>(), [key("3-3-3")]);
    assert_eq!(snapshot(&direct, &mapped).await.0.len(), 8 * 5 * 150);
}

#[tokio::test]
async fn a_server_that_was_down_is_found_again() {
    let mut server = server::Server::start(server::Disk::Lazy);
    let database = server.database().await;
    database.sql(&format!("{THINGS} INSERT INTO things VALUES ('a')")).await;
    let (store, mapped) = (open(&database.url), bare());
    let mark = snapshot(&store, &mapped).await.1.mark.expect("a mark");
    assert!(store.changes(&mapped, &mark).await.expect("an answer").is_some(), "it can tell");
    server.kill();
    assert_eq!(snapshot_error(&store, &mapped).await.kind, ErrorKind::Unavailable);
    let write = batch("1", vec![(key("b"), create(&mapped, &[], &none()))]);
    assert_eq!(store.apply(&mapped, &write).await.expect_err("down").kind, ErrorKind::Unavailable);
    server.restart();
    assert_eq!(snapshot(&store, &mapped).await.0.len(), 1);
    // Older files may have been put under it meanwhile, in which others write with the same numbers.
    assert!(store.changes(&mapped, &mark).await.expect("an answer").is_none(), "it is read whole once");
}

#[tokio::test]
async fn hidden_rows_are_an_error_that_explains_itself() {
    let (database, owner) = theirs(&format!(
        "{THINGS} INSERT INTO things VALUES ('mine', 'n', 1), ('hidden', 'n', 1);
         ALTER TABLE things ENABLE ROW LEVEL SECURITY;
         CREATE POLICY mine ON things USING (id = 'mine');
         DROP ROLE IF EXISTS somebody; CREATE ROLE somebody LOGIN; DROP ROLE IF EXISTS nobody_at_all; CREATE ROLE nobody_at_all LOGIN;
         GRANT ALL ON things TO somebody"
    ))
    .await;
    let mapped = bare();
    assert_eq!(snapshot(&owner, &mapped).await.0.len(), 2, "the owner sees all");
    let somebody = open(&database.url.replace("postgres@", "somebody@"));
    let identity = somebody.probe().await.expect("there").identity;
    assert_eq!(identity, owner.probe().await.expect("there").identity, "anybody may ask which server it is");
    assert!(identity.is_some());
    let error = snapshot_error(&somebody, &mapped).await;
    assert_eq!(error.kind, ErrorKind::Unauthorised);
    assert!(error.to_string().contains("row-level security") && error.hint.is_some(), "{error}");
    let write = batch("1", vec![(key("hidden"), create(&mapped, &[], &none()))]);
    assert_eq!(somebody.apply(&mapped, &write).await.expect_err("hidden").kind, ErrorKind::Unauthorised);
    let nobody = open(&database.url.replace("postgres@", "nobody_at_all@"));
    let error = snapshot_error(&nobody, &mapped).await;
    assert_eq!(error.kind, ErrorKind::Unauthorised);
    assert!(error.to_string().contains("things"), "{error}");
}

#[tokio::test]
async fn computed_columns_are_read_and_not_written() {
    let (database, store) = theirs(
        "CREATE TABLE things (id text PRIMARY KEY, count int, name text GENERATED ALWAYS AS ('n' || count) STORED,
           number int8 GENERATED ALWAYS AS IDENTITY);
         INSERT INTO things (id, count) VALUES ('a', 1)",
    )
    .await;
    let mapped = plain(name_and_count().field("number", FieldType::Int64), |_| {});
    let row = read_one(&store, &mapped, &key("a")).await.expect("there");
    assert_eq!(value_of(&mapped, &row, "name"), Value::text("n1"));
    for (field, value) in [("name", Value::text("x")), ("number", Value::Int(9))] {
        let outcomes = apply(&store, &mapped, vec![(key("a"), set(&mapped, field, value))]).await;
        let error = refused(&outcomes[0]);
        assert!(error.to_string().contains(field) && error.hint.is_some(), "{error}");
    }
    let outcomes = apply(&store, &mapped, vec![(key("a"), set(&mapped, "count", Value::Int(2)))]).await;
    assert_eq!(
        value_of(&mapped, row_of(&outcomes[0]), "name"),
        Value::text("n2"),
        "read back after the write"
    );
    assert_eq!(text(&database, "SELECT number::text FROM things").await, "1");
    // A key may be given where the database counts it up otherwise, and cannot where it follows from other columns.
    database
        .sql(
            "CREATE TABLE numbered (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, count int8);
             CREATE TABLE derived (id text GENERATED ALWAYS AS (lower(name)) STORED UNIQUE, name text, count int8)",
        )
        .await;
    let numbered = plain(Words { table: "numbered", ..name_and_count() }, |_| {});
    for many in [7..8, 100..400] {
        let made = many.map(|n| (key(&n.to_string()), create(&numbered, &[], &none())));
        let outcomes = apply(&store, &numbered, made.collect()).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(_))), "{outcomes:?}");
    }
    let derived = plain(Words { table: "derived", ..name_and_count() }, |_| {});
    let outcomes = apply(&store, &derived, vec![(key("x"), create(&derived, &[], &none()))]).await;
    let hint = refused(&outcomes[0]).hint.clone().expect("a hint");
    assert!(hint.contains("key"), "{hint}");
}

#[tokio::test]
async fn every_kind_of_column_is_read_as_what_it_means() {
    let (database, store) = theirs(
        "CREATE TYPE colour AS ENUM ('red', 'blue'); CREATE DOMAIN percent AS int2 CHECK (VALUE <= 100);
         CREATE TABLE things (id text PRIMARY KEY, small int2, share percent, single float4, money numeric(20,2),
           padded char(6), narrow varchar(3), colour colour, uuid uuid, civil timestamp, zoned timestamptz, day date,
           flag bool, plain json, words varchar[], address inet, moment text, endless timestamptz);
         INSERT INTO things VALUES ('a', -7, 42, 0.1, 12345678901234567.80, 'pad', 'abc', 'blue',
           'AAAAAAAA-0000-0000-0000-00000000000F', '2026-07-01 12:00', '2026-07-01 12:00+02', '0044-03-15 BC', true,
           '{\"b\":1.0,  \"a\":[]}', '{x,NULL}', '10.0.0.1', '2026-07-01 12:00:00+00', 'infinity')",
    )
    .await;
    let words = [
        ("small", FieldType::Int64),
        ("share", FieldType::Int64),
        ("single", FieldType::Float64),
        ("money", FieldType::Numeric),
        ("padded", FieldType::String),
        ("narrow", FieldType::String),
        ("colour", FieldType::String),
        ("uuid", FieldType::String),
        ("civil", FieldType::Timestamp),
        ("zoned", FieldType::Timestamp),
        ("day", FieldType::Date),
        ("flag", FieldType::Bool),
        ("plain", FieldType::Json),
        ("words", FieldType::StringList),
        ("address", FieldType::String),
        ("moment", FieldType::Timestamp),
        ("endless", FieldType::Timestamp),
    ]
    .into_iter()
    .fold(Words::new("things"), |words, (name, ty)| words.field(name, ty));
    let zone = jiff::tz::TimeZone::get("Europe/Rome").expect("a zone");
    let mapped = plain(words, |mapping| mapping.timezone = zone);
    let (rows, certificate) = snapshot(&store, &mapped).await;
    assert!(certificate.is_complete() && certificate.mark.is_some());
    let row = rows.into_iter().next().expect("a row");
    assert_eq!(read_one(&store, &mapped, &key("a")).await.as_ref(), Some(&row), "read alike in both ways");
    let time = |text: &str| Value::Time(Timestamp::parse(text, &jiff::tz::TimeZone::UTC).expect(text));
    for (field, value) in [
        ("small", Value::Int(-7)),
        ("share", Value::Int(42)),
        ("single", Value::Float(trueup::model::Float::new(0.1))),
        ("money", Value::numeric("12345678901234567.8").expect("a number")),
        ("padded", Value::text("pad")),
        ("narrow", Value::text("abc")),
        ("colour", Value::text("blue")),
        ("uuid", Value::text("aaaaaaaa-0000-0000-0000-00000000000f")),
        ("civil", time("2026-07-01T10:00:00Z")),
        ("zoned", time("2026-07-01T10:00:00Z")),
        ("day", Value::Date(jiff::civil::date(-43, 3, 15))),
        ("flag", Value::Bool(true)),
        ("plain", Value::Json(Json::parse(r#"{"a":[],"b":1}"#).expect("JSON"))),
        ("address", Value::text("10.0.0.1/32")),
        ("moment", time("2026-07-01T12:00:00Z")),
    ] {
        assert_eq!(value_of(&mapped, &row, field), value, "{field}");
        let outcomes = apply(&store, &mapped, vec![(key("a"), set(&mapped, field, value.clone()))]).await;
        assert_eq!(value_of(&mapped, row_of(&outcomes[0]), field), value, "{field} as written");
    }
    for field in ["words", "endless"] {
        assert!(matches!(row.fields[&id_of(&mapped, field)], Cell::Unreadable(_)), "{field}");
    }
    assert_eq!(
        text(&database, "SELECT civil::text FROM things").await,
        "2026-07-01 12:00:00",
        "on its own clock"
    );
    // What does not fit is refused and never cut.
    for (field, value) in [
        ("narrow", Value::text("s3cret")),
        ("share", Value::Int(101)),
        ("small", Value::Int(40_000)),
        ("colour", Value::text("s3cret")),
        ("uuid", Value::text("s3cret")),
    ] {
        let outcomes = apply(&store, &mapped, vec![(key("a"), set(&mapped, field, value))]).await;
        let error = refused(&outcomes[0]);
        assert_eq!(error.kind, ErrorKind::Invalid, "{field}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn keys_that_are_numbers_or_uuids_come_in_the_order_of_their_texts() {
    let (_, store) = theirs(
        "CREATE TABLE things (id int4 PRIMARY KEY, name text, count int8);
         INSERT INTO things SELECT n FROM generate_series(-3, 120) AS n;
         CREATE TABLE uuids (id uuid PRIMARY KEY, name text, count int8);
         INSERT INTO uuids SELECT gen_random_uuid() FROM generate_series(1, 50)",
    )
    .await;
    let numbers = plain(Words { key: vec![("id", FieldType::Int64)], ..name_and_count() }, |_| {});
    let uuids = plain(Words { table: "uuids", ..name_and_count() }, |_| {});
    for (mapped, count) in [(&numbers, 124), (&uuids, 50)] {
        let (rows, certificate) = snapshot(&store, mapped).await;
        assert!(certificate.is_complete());
        assert_eq!(rows.len(), count);
        let keys: Vec<RecordKey> = rows.iter().map(|row| row.key.clone()).chain([key("no key")]).collect();
        let read = store.read(mapped, &keys).await.expect("read");
        assert_eq!(read.values().filter(|presence| presence.row().is_some()).count(), count);
        let outcomes =
            apply(&store, mapped, vec![(keys[0].clone(), set(mapped, "count", Value::Int(1)))]).await;
        row_of(&outcomes[0]);
        let outcomes = apply(&store, mapped, vec![(key("007"), create(mapped, &[], &none()))]).await;
        refused(&outcomes[0]);
    }
}

#[tokio::test]
async fn what_postgres_cannot_hold_is_refused_by_name_and_alone() {
    let (_, store) =
        theirs("CREATE TABLE things (id text PRIMARY KEY, name text, count int8, doc jsonb, list text[])")
            .await;
    let words = name_and_count().field("doc", FieldType::Json).field("list", FieldType::StringList);
    let mapped = plain(words, |_| {});
    let nul = |text: &str| Value::Json(Json::parse(text).expect("JSON"));
    let one = |field: &str, value: Value| create(&mapped, &[(field, value)], &none());
    let writes = vec![
        (key("a"), one("count", Value::Int((1 << 53) + 1))),
        (key("b"), one("name", Value::text("s3cret\0"))),
        (key("c"), one("doc", nul(r#"{"s3cret\u0000":1}"#))),
        (key("d"), one("doc", nul(r#"{"a":"back\\u0000slash"}"#))),
        (key("e"), one("list", Value::List(["s3cret\0".into()].into()))),
        (key("f\0"), one("count", Value::Int(1))),
        (key("g"), one("list", Value::List(["a,\"b\\".into(), String::new(), "NULL".into()].into()))),
    ];
    let outcomes = apply(&store, &mapped, writes).await;
    assert_eq!(value_of(&mapped, row_of(&outcomes[0]), "count"), Value::Int((1 << 53) + 1));
    for (at, named) in [(1, "name"), (2, "doc"), (4, "list"), (5, "key")] {
        let error = refused(&outcomes[at]);
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.to_string().contains(named) && !error.to_string().contains("s3cret"), "{error}");
    }
    row_of(&outcomes[3]);
    let list = Value::List(["a,\"b\\".into(), String::new(), "NULL".into()].into());
    assert_eq!(value_of(&mapped, row_of(&outcomes[6]), "list"), list);
}

#[tokio::test]
async fn constraints_and_triggers_refuse_one_write_and_show_no_value() {
    let (database, store) = theirs(
        "CREATE TABLE parents (id text PRIMARY KEY); INSERT INTO parents VALUES ('p');
         CREATE TABLE things (id text PRIMARY KEY, name text UNIQUE, count int8 CHECK (count < 10) NOT NULL DEFAULT 0,
           parent text REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO things VALUES ('there', 's3cret', 1);
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.name = 'raised' THEN RAISE EXCEPTION 's3cret %', NEW.name USING ERRCODE = '42501', DETAIL = 's3cret'; END IF;
           IF NEW.name = 'ignored' THEN RETURN NULL; END IF;
           RETURN NEW; END $$;
         CREATE TRIGGER t BEFORE INSERT OR UPDATE ON things FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let mapped = plain(name_and_count().field("parent", FieldType::String), |_| {});
    let with = |name: &str, count, parent: &str| {
        create(
            &mapped,
            &[("name", Value::text(name)), ("count", count), ("parent", Value::text(parent))],
            &none(),
        )
    };
    let bad = [
        ("s3cret", Value::Int(1), "p", ErrorKind::Conflict),
        ("check", Value::Int(99), "p", ErrorKind::Invalid),
        ("null", Value::Null, "p", ErrorKind::Invalid),
        ("orphan", Value::Int(1), "s3cret", ErrorKind::Invalid),
        ("raised", Value::Int(1), "p", ErrorKind::Unauthorised),
        ("ignored", Value::Int(1), "p", ErrorKind::Corrupt),
    ];
    for many in [0, 300] {
        // So few that they go as parameters, and so many that they are streamed.
        let mut writes: Vec<_> = (0..many + 2)
            .map(|n| (key(&format!("{many}-{n}")), with(&format!("fine {many} {n}"), Value::Int(1), "p")))
            .collect();
        for (at, (name, count, parent, _)) in bad.iter().enumerate() {
            writes.insert(
                at * writes.len() / 7,
                (key(&format!("bad {at}")), with(name, count.clone(), parent)),
            );
        }
        let wanted: Vec<RecordKey> = writes.iter().map(|(key, _)| key.clone()).collect();
        let outcomes = apply(&store, &mapped, writes).await;
        for (key, outcome) in wanted.iter().zip(&outcomes) {
            match key.parts()[0].strip_prefix("bad ") {
                None => assert!(matches!(outcome, Outcome::Applied(Some(_))), "{key} {outcome:?}"),
                Some(at) => {
                    let error = refused(outcome);
                    assert_eq!(error.kind, bad[at.parse::<usize>().expect("a number")].3, "{key} {error}");
                    assert!(!error.to_string().contains("s3cret"), "{error}");
                }
            }
        }
    }
    assert_eq!(text(&database, "SELECT count(*)::text FROM things").await, "305");
    // Two that swap a unique value go one after the other.
    let both = vec![
        (key("0-0"), set(&mapped, "name", Value::text("moving"))),
        (key("0-1"), set(&mapped, "name", Value::text("fine 0 0"))),
    ];
    let outcomes = apply(&store, &mapped, both).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(_))), "{outcomes:?}");
}

#[tokio::test]
async fn values_inside_json_columns_are_read_and_written_in_place() {
    let (database, store) = theirs(
        r#"CREATE TABLE things (id text PRIMARY KEY, doc jsonb, meta json);
           INSERT INTO things VALUES ('a', '{"name":{"first":"Ada","last":"L"},"count":7}', '{"theirs":1,"version":3}'),
             ('b', NULL, NULL), ('c', '"no object"', NULL)"#,
    )
    .await;
    let path = |parts: &[&str]| Column(parts.iter().map(|part| (*part).to_owned()).collect());
    let mapped = plain(name_and_count(), |mapping| {
        let columns = [path(&["doc", "name", "first"]), path(&["doc", "count"])];
        for (field, column) in mapping.fields.values_mut().zip(columns) {
            field.column = column;
        }
        mapping.sync = SyncPlace::Json(Column::plain("meta"));
    });
    let row = read_one(&store, &mapped, &key("a")).await.expect("there");
    assert_eq!(value_of(&mapped, &row, "name"), Value::text("Ada"));
    assert_eq!(value_of(&mapped, &row, "count"), Value::Int(7));
    assert_eq!(row.meta.version, Some(trueup::model::Version(3)));
    let fields = [("name", Value::text("Bea")), ("count", Value::Null)];
    let write = |version| update(&mapped, &fields, Some(meta(4)), guard(&mapped, &[], &version));
    let writes =
        vec![(key("a"), write(row.meta.clone())), (key("b"), write(none())), (key("c"), write(none()))];
    let outcomes = apply(&store, &mapped, writes).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Applied(Some(_)), Outcome::Applied(Some(_)), Outcome::Refused(_)]),
        "{outcomes:?}"
    );
    assert_eq!(
        text(&database, "SELECT doc::text FROM things WHERE id = 'a'").await,
        r#"{"name": {"last": "L", "first": "Bea"}}"#
    );
    let kept = text(&database, "SELECT meta::text FROM things WHERE id = 'a'").await;
    assert!(kept.contains(r#""theirs":1"#) && kept.contains(r#""version":4"#), "{kept}");
}

#[tokio::test]
async fn a_store_opened_for_reading_is_not_written() {
    let (database, _) = theirs(THINGS).await;
    let options = PostgresOptions { read_only: true, ..PostgresOptions::default() };
    let store: Arc<dyn Store> =
        Arc::new(PostgresStore::open(store_name(), &database.url, options).expect("an address"));
    let mapped = bare();
    assert!(snapshot(&store, &mapped).await.1.is_complete());
    let write = batch("1", vec![(key("a"), create(&mapped, &[], &none()))]);
    assert_eq!(store.apply(&mapped, &write).await.expect_err("read").kind, ErrorKind::Unauthorised);
}

#[tokio::test]
async fn a_database_that_is_set_to_be_read_only_is_not_written() {
    let (database, store) = theirs(&format!("{THINGS} INSERT INTO things VALUES ('a', 'there', 1);")).await;
    let name = text(&database, "SELECT current_database()::text").await;
    database.sql(&format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = on")).await;
    let mapped = bare();
    let write = batch("1", vec![(key("a"), set(&mapped, "name", Value::text("changed")))]);
    let error = store.apply(&mapped, &write).await.expect_err("it only lets itself be read");
    assert_eq!(error.kind, ErrorKind::Unauthorised, "{error}");
    assert!(error.to_string().contains("default_transaction_read_only"), "{error}");
    assert_eq!(text(&database, "SELECT name FROM things").await, "there");
    assert!(snapshot(&store, &mapped).await.1.is_complete(), "and it is read");
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_refused_with_the_fields_that_it_may_be_in() {
    type Case<'a> = (&'a [(&'a str, Value)], &'a [&'a str]);
    let (database, store) = theirs(
        "CREATE DOMAIN short AS text CONSTRAINT short_check CHECK (length(VALUE) < 4);
         CREATE TABLE things (id text PRIMARY KEY, name varchar(3), other text, count numeric(4,2), code short, at int4)",
    )
    .await;
    let words = name_and_count().field("other", FieldType::String).field("code", FieldType::String);
    let mapped = plain(words.field("at", FieldType::Int64), |_| {});
    let long = || Value::text("s3cret");
    let cases: [Case<'_>; 4] = [
        (&[("name", long()), ("other", long())], &["`things.name`"]),
        (&[("count", Value::Int(100)), ("other", long())], &["`things.count`"]),
        (&[("code", long())], &["`things.code`", "a rule of a column's type", "short_check"]),
        (&[("at", Value::Int(1 << 40)), ("count", Value::Int(1))], &["one of `things.count`, `things.at`"]),
    ];
    for (at, (fields, told)) in cases.iter().enumerate() {
        let outcomes =
            apply(&store, &mapped, vec![(key(&at.to_string()), create(&mapped, fields, &none()))]).await;
        let error = refused(&outcomes[0]);
        assert!(told.iter().all(|told| error.message.contains(told)), "{at}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    // It may be the key as well.
    database.sql("CREATE TABLE shorts (id short PRIMARY KEY, name text, count int8)").await;
    let shorts = plain(Words { table: "shorts", ..name_and_count() }, |_| {});
    let outcomes = apply(&store, &shorts, vec![(key("s3cret"), create(&shorts, &[], &none()))]).await;
    let error = refused(&outcomes[0]);
    assert!(error.message.starts_with("`shorts.id`: "), "{error}");
}

#[tokio::test]
async fn what_goes_together_goes_whole_or_not_at_all() {
    let (database, store) = theirs(
        "CREATE TABLE things (id text PRIMARY KEY, name text, count int8);
         CREATE TABLE parts (id text PRIMARY KEY, thing text REFERENCES things);
         CREATE TABLE reviews (id int PRIMARY KEY, thing text REFERENCES things);
         CREATE TABLE trueup_receipts (batch text PRIMARY KEY, intents text);
         INSERT INTO things SELECT n::text, 'n', n FROM generate_series(1, 20) n;
         INSERT INTO parts SELECT n::text, n::text FROM generate_series(1, 20) n;
         INSERT INTO reviews VALUES (1, '3'), (2, '11');",
    )
    .await;
    let parts = plain(Words::new("parts").field("thing", FieldType::String), |_| {});
    let mapped = vec![parts.clone(), bare()];
    let write = |mapped: &Mapped, id: &str| {
        let op = WriteOp::Delete { guard: guard(mapped, &[], &none()) };
        let write = batch("x", vec![(key(id), op)]).writes.remove(0);
        let intent = trueup::model::IntentId(format!("{}-{id}", mapped.name()).into());
        (mapped.name().clone(), trueup::model::Write { intent, ..write })
    };
    let falls =
        (1..=20).map(|n| vec![write(&parts, &n.to_string()), write(&bare(), &n.to_string())]).collect();
    let id = trueup::model::BatchId("falls".into());
    let falls = trueup::model::Falls { id: id.clone(), mapped, falls };
    let outcomes = store.apply_falls(&falls).await.expect("an answer");
    let of = |name: &str| outcomes[&trueup::model::IntentId(name.into())].clone();
    for n in 1..=20 {
        let (part, thing) = (of(&format!("parts-{n}")), of(&format!("things-{n}")));
        if matches!(n, 3 | 11) {
            assert!(refused(&thing).message.contains("rows of `reviews` still refer to it"), "{thing:?}");
            assert!(refused(&part).message.contains("goes together"), "{part:?}");
        } else {
            assert_eq!((part, thing), (Outcome::Applied(None), Outcome::Applied(None)), "{n}");
        }
    }
    assert_eq!(text(&database, "SELECT string_agg(id, ' ' ORDER BY id) FROM parts").await, "11 3");
    assert_eq!(text(&database, "SELECT string_agg(id, ' ' ORDER BY id) FROM things").await, "11 3");
    let receipts = store.receipts(std::slice::from_ref(&id)).await.expect("receipts");
    assert_eq!(receipts[&id].len(), 36);
    // Alone, it is told in the same words.
    let alone = WriteOp::Delete { guard: guard(&bare(), &[], &none()) };
    let outcomes = apply(&store, &bare(), vec![(key("11"), alone)]).await;
    assert!(refused(&outcomes[0]).message.contains("still refer to it"), "{outcomes:?}");
}

#[tokio::test]
async fn partitions_views_and_tables_without_a_key_are_taken_as_they_are() {
    let (database, store) = theirs(
        "CREATE TABLE things (id text, name text, count int8) PARTITION BY HASH (id);
         CREATE TABLE things_0 PARTITION OF things FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE things_1 PARTITION OF things FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         CREATE VIEW looks AS SELECT * FROM things",
    )
    .await;
    let mapped = bare();
    let create_all =
        || (0..20).map(|n| (key(&n.to_string()), create(&mapped, &[], &none()))).collect::<Vec<_>>();
    let (one, two) = tokio::join!(apply(&store, &mapped, create_all()), apply(&store, &mapped, create_all()));
    let applied = |outcomes: &[Outcome]| outcomes.iter().filter(|o| matches!(o, Outcome::Applied(_))).count();
    assert_eq!(applied(&one) + applied(&two), 20, "no record was made twice");
    let writes = (0..20).map(|n| {
        let op = if n < 10 {
            set(&mapped, "count", Value::Int(n))
        } else {
            WriteOp::Delete { guard: guard(&mapped, &[], &none()) }
        };
        (key(&n.to_string()), op)
    });
    assert_eq!(applied(&apply(&store, &mapped, writes.collect()).await), 20);
    let (rows, certificate) = snapshot(&store, &mapped).await;
    assert_eq!((rows.len(), certificate.mark), (10, None));
    let looks = plain(Words { table: "looks", ..name_and_count() }, |_| {});
    assert_eq!(snapshot(&store, &looks).await.0.len(), 10);
    let write = batch("1", vec![(key("0"), set(&looks, "count", Value::Int(1)))]);
    assert_eq!(store.apply(&looks, &write).await.expect_err("a view").kind, ErrorKind::Unsupported);
    database.sql("DROP TABLE things CASCADE").await;
    assert_eq!(snapshot_error(&store, &mapped).await.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn schemas_are_named_and_made() {
    let (database, store) = theirs("CREATE TABLE things (id text PRIMARY KEY)").await;
    let elsewhere = plain(name_and_count(), |mapping| {
        mapping.shape = Shape::Table(TableName { schema: Some("El se".into()), name: "things".into() });
    });
    assert_eq!(snapshot_error(&store, &elsewhere).await.kind, ErrorKind::NotFound);
    let steps = store.plan_migration(std::slice::from_ref(&elsewhere)).await.expect("planned");
    assert_eq!(
        steps.iter().map(|step| step.adds.as_str()).collect::<Vec<_>>(),
        ["schema `El se`", "table `El se.things`"]
    );
    store.migrate(&steps).await.expect("migrated");
    row_of(&apply(&store, &elsewhere, vec![(key("a"), create(&elsewhere, &[], &none()))]).await[0]);
    assert_eq!(text(&database, "SELECT count(*)::text FROM public.things").await, "0");
    let error = store.migrate(&steps).await.expect_err("there already");
    assert!(error.to_string().contains("El se"), "{error}");
}

#[tokio::test]
async fn a_lock_that_is_held_is_waited_for_and_then_told() {
    let (database, store) = theirs(&format!("{THINGS} INSERT INTO things VALUES ('a', 'n', 1)")).await;
    let mapped = bare();
    let mut holder = database.connect().await;
    let mut held = holder.begin().await.expect("a transaction");
    sqlx::query("UPDATE things SET count = 2").execute(&mut *held).await.expect("locked");
    let write = batch(
        "1",
        vec![(
            key("a"),
            update(
                &mapped,
                &[("name", Value::text("x"))],
                None,
                guard(&mapped, &[("count", Value::Int(2))], &none()),
            ),
        )],
    );
    assert!(snapshot(&store, &mapped).await.1.is_complete(), "reading goes on");
    let (outcomes, ()) = tokio::join!(apply_batch(&store, &mapped, &write), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        held.commit().await.expect("released");
    });
    row_of(&outcomes[0]);
    assert_eq!(text(&database, "SELECT name FROM things").await, "x", "compared with the row as it was left");
}

#[path = "postgres_store/hands.rs"]
mod hands;
#[path = "postgres_store/marks.rs"]
mod marks;
#[path = "postgres_store/wire.rs"]
mod wire;

/// Whatever a column is called: a row that goes is kept whole.
#[tokio::test]
async fn a_column_that_is_called_like_a_part_of_our_statements_is_a_column() {
    let (_, store) = theirs(&format!("{THINGS} ALTER TABLE things ADD t text; INSERT INTO things VALUES ('a', 'n', 1, 'theirs'), ('b', 'n', 1, NULL)")).await;
    let rows = store.read_native(&bare(), &[key("a"), key("b")]).await.expect("read");
    assert_eq!(rows[&key("a")], serde_json::json!({"id": "a", "name": "n", "count": 1, "t": "theirs"}));
    assert_eq!(rows[&key("b")]["t"], serde_json::Value::Null);
}
