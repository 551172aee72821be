//! What is `SQLite`'s alone: files that are none, other applications' tables with all their habits, JSON inside columns.

#[allow(dead_code)]
#[path = "conformance/harness.rs"]
mod harness;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use harness::*;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use trueup::model::{
    Cell, Column, ErrorKind, FieldType, Form, Json, Mapped, Mapping, Mark, Outcome, Presence, SyncPlace,
    Value, WriteOp,
};
use trueup::store::Store;
use trueup::store::sqlite::{SqliteOptions, SqliteStore};

/// A file that another application made with these statements.
struct Theirs {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Theirs {
    async fn new(statements: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let theirs = Self { path: folder.path().join("theirs.db"), _folder: folder };
        std::fs::write(&theirs.path, "").expect("made");
        theirs.run(statements).await;
        theirs
    }

    async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(&self.path);
        SqliteConnection::connect_with(&options).await.expect("connected")
    }

    async fn run(&self, statements: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.expect(statements);
        connection.close().await.expect("closed");
    }

    async fn text(&self, sql: &str) -> String {
        let mut connection = self.connect().await;
        sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect(sql).get(0)
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(store_name(), &self.path, SqliteOptions::default()).await.expect("opened"))
    }
}

/// `things` without sync metadata and times, changed by `change`.
fn bare(change: impl FnOnce(&mut Mapping)) -> Mapped {
    let mut mapped = things();
    let mut mapping = (*mapped.mapping).clone();
    mapping.sync = SyncPlace::None;
    mapping.created = None;
    mapping.updated = None;
    change(&mut mapping);
    mapped.mapping = Arc::new(mapping);
    mapped
}

fn none() -> trueup::model::SyncMeta {
    trueup::model::SyncMeta::default()
}

async fn open_error(path: &Path, options: SqliteOptions) -> trueup::model::StoreError {
    SqliteStore::open(store_name(), path, options).await.expect_err("not opened")
}

#[tokio::test]
async fn files_that_are_no_databases_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = open_error(&folder.path().join("missing.db"), SqliteOptions::default()).await;
    assert_eq!(missing.kind, ErrorKind::NotFound);
    assert!(missing.message.contains("missing.db") && missing.hint.is_some());
    assert!(!folder.path().join("missing.db").exists(), "it is not made by the way");
    assert_eq!(open_error(folder.path(), SqliteOptions::default()).await.kind, ErrorKind::Invalid);
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, "s3cret text that is no database ".repeat(99)).expect("written");
    for read_only in [false, true] {
        let error = open_error(&garbage, SqliteOptions { read_only, ..SqliteOptions::default() }).await;
        assert_eq!(error.kind, ErrorKind::Corrupt);
        assert!(!error.to_string().contains("s3cret") && error.hint.is_some());
    }
}

#[tokio::test]
async fn a_store_opened_for_reading_is_not_written() {
    let theirs = Theirs::new("CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT, count INTEGER)").await;
    let options = SqliteOptions { read_only: true, ..SqliteOptions::default() };
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(store_name(), &theirs.path, options).await.expect("opened"));
    let mapped = bare(|_| {});
    assert!(snapshot(&store, &mapped).await.1.is_complete());
    let write = batch("1", vec![(key("a"), create(&mapped, &[], &none()))]);
    let outcomes = apply_batch(&store, &mapped, &write).await;
    assert!(
        matches!(&outcomes[0], Outcome::Refused(error) if error.kind == ErrorKind::Unauthorised),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn keys_of_other_applications_are_taken_as_they_are() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id, name TEXT, count INTEGER);
         INSERT INTO things VALUES (10, 'ten', 1), ('9', 'nine', 1), (NULL, 'none', 1), (x'00', 'blob', 1), (1.5, 'real', 1)",
    )
    .await;
    let (store, mapped) = (theirs.open().await, bare(|_| {}));
    let (rows, certificate) = snapshot(&store, &mapped).await;
    assert_eq!(rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), [key("10"), key("9")]);
    assert_eq!((certificate.rows_read, certificate.bad_keys), (5, 3));
    for (text, name) in [("10", "ten"), ("9", "nine")] {
        let row = read_one(&store, &mapped, &key(text)).await.expect("found");
        assert_eq!(value_of(&mapped, &row, "name"), Value::text(name));
    }
    let write = update(&mapped, &[("count", Value::Int(2))], None, guard(&mapped, &[], &none()));
    let outcomes = apply(&store, &mapped, vec![(key("10"), write)]).await;
    assert!(matches!(outcomes[0], Outcome::Applied(Some(_))), "{outcomes:?}");
    assert_eq!(theirs.text("SELECT typeof(id) FROM things WHERE name = 'ten'").await, "integer");
}

#[tokio::test]
async fn folded_keys_numbered_keys_and_tables_without_numbers_are_written_exactly() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id TEXT COLLATE NOCASE, name TEXT, count INTEGER, rowid TEXT, _rowid_ TEXT, oid TEXT);
         INSERT INTO things (id, name) VALUES ('a', 'lower'), ('A', 'upper');
         CREATE TABLE whole (id INTEGER PRIMARY KEY, name TEXT, count INTEGER);
         INSERT INTO whole VALUES (7, 'seven', 0);
         CREATE TABLE without (id TEXT PRIMARY KEY, name TEXT, count INTEGER) WITHOUT ROWID;
         INSERT INTO without VALUES ('a', 'x', 0)",
    )
    .await;
    let store = theirs.open().await;
    let table = |name: &str| {
        let name = name.to_owned();
        bare(|mapping| {
            mapping.shape = trueup::model::Shape::Table(trueup::model::TableName { schema: None, name });
        })
    };
    let set =
        |mapped: &Mapped| update(mapped, &[("name", Value::text("ours"))], None, guard(mapped, &[], &none()));
    for (mapped, one) in [(table("things"), "A"), (table("whole"), "7"), (table("without"), "a")] {
        let outcomes = apply(&store, &mapped, vec![(key(one), set(&mapped))]).await;
        assert!(matches!(outcomes[0], Outcome::Applied(Some(_))), "{outcomes:?}");
    }
    assert_eq!(
        theirs.text("SELECT group_concat(name) FROM (SELECT name FROM things ORDER BY name)").await,
        "lower,ours"
    );
    let whole = table("whole");
    for bad in ["007", "1.0", " 7"] {
        let outcomes = apply(&store, &whole, vec![(key(bad), create(&whole, &[], &none()))]).await;
        assert!(matches!(outcomes[0], Outcome::Refused(_)), "`{bad}` would become another key: {outcomes:?}");
    }
}

#[tokio::test]
async fn constraints_refuse_one_write_and_show_no_value() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id TEXT PRIMARY KEY ON CONFLICT REPLACE, name TEXT UNIQUE ON CONFLICT REPLACE, count INTEGER CHECK (count < 10));
         INSERT INTO things VALUES ('there', 's3cret', 1);
         CREATE TRIGGER t BEFORE INSERT ON things WHEN NEW.name = 'ignored' BEGIN SELECT RAISE(IGNORE); END;
         CREATE TRIGGER u BEFORE INSERT ON things WHEN NEW.name = 'undone' BEGIN SELECT RAISE(ROLLBACK, 's3cret'); END",
    )
    .await;
    let (store, mapped) = (theirs.open().await, bare(|_| {}));
    let with = |name: &str, count| {
        create(&mapped, &[("name", Value::text(name)), ("count", Value::Int(count))], &none())
    };
    let writes = || {
        vec![
            (key("a"), with("fine", 1)),
            (key("b"), with("s3cret", 1)),
            (key("c"), with("c", 99)),
            (key("d"), with("ignored", 1)),
            (key("e"), with("fine too", 1)),
        ]
    };
    let check = |outcomes: &[Outcome]| {
        let kinds: Vec<Option<ErrorKind>> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Refused(error) => {
                    assert!(!error.to_string().contains("s3cret"), "{error}");
                    Some(error.kind)
                }
                Outcome::Applied(Some(_)) => None,
                other => panic!("{other:?}"),
            })
            .collect();
        kinds
    };
    let kinds = check(&apply(&store, &mapped, writes()).await);
    let expected =
        [None, Some(ErrorKind::Conflict), Some(ErrorKind::Invalid), Some(ErrorKind::Corrupt), None];
    assert_eq!(kinds, expected);
    assert_eq!(theirs.text("SELECT group_concat(id) FROM things").await, "a,e,there", "nothing was replaced");

    // A trigger that throws the transaction away takes no other write with it.
    theirs.run("DELETE FROM things WHERE id <> 'there'").await;
    let mut all = writes();
    all.insert(1, (key("f"), with("undone", 1)));
    let kinds = check(&apply(&store, &mapped, all).await);
    assert_eq!((kinds[0], kinds[1], kinds[5]), (None, Some(ErrorKind::Invalid), None), "{kinds:?}");
    assert_eq!(theirs.text("SELECT group_concat(id) FROM things").await, "a,e,there");
    assert!(snapshot(&store, &mapped).await.1.is_complete(), "the connections are fit for use");
}

#[tokio::test]
async fn values_inside_json_columns_are_read_and_written_in_place() {
    let theirs = Theirs::new(
        r#"CREATE TABLE things (id TEXT PRIMARY KEY, doc TEXT, meta TEXT);
           INSERT INTO things VALUES ('a', '{"name":{"first":"Ada","last":"L"},"count":7}', '{"theirs":1,"version":3}'),
             ('b', NULL, NULL), ('c', 'no json', '')"#,
    )
    .await;
    let store = theirs.open().await;
    let path = |parts: &[&str]| Column(parts.iter().map(|part| (*part).to_owned()).collect());
    let mapped = bare(|mapping| {
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
    let doc = theirs.text("SELECT doc FROM things WHERE id = 'a'").await;
    assert_eq!(Json::parse(&doc).expect("JSON").to_string(), r#"{"name":{"first":"Bea","last":"L"}}"#);
    let meta_text = theirs.text("SELECT meta FROM things WHERE id = 'a'").await;
    assert!(meta_text.contains(r#""theirs":1"#) && meta_text.contains(r#""version":4"#), "{meta_text}");
    assert_eq!(theirs.text("SELECT doc FROM things WHERE id = 'c'").await, "no json", "left as it is");
}

#[tokio::test]
async fn computed_columns_are_read_and_not_written() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id TEXT PRIMARY KEY, count INTEGER, name TEXT AS ('n' || count));
         INSERT INTO things (id, count) VALUES ('a', 1)",
    )
    .await;
    let (store, mapped) = (theirs.open().await, bare(|_| {}));
    let row = read_one(&store, &mapped, &key("a")).await.expect("there");
    assert_eq!(value_of(&mapped, &row, "name"), Value::text("n1"));
    let set = |name, value| update(&mapped, &[(name, value)], None, guard(&mapped, &[], &none()));
    let outcomes = apply(&store, &mapped, vec![(key("a"), set("name", Value::text("x")))]).await;
    assert!(matches!(&outcomes[0], Outcome::Refused(error) if error.hint.is_some()), "{outcomes:?}");
    let outcomes = apply(&store, &mapped, vec![(key("a"), set("count", Value::Int(2)))]).await;
    let Outcome::Applied(Some(row)) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(value_of(&mapped, row, "name"), Value::text("n2"), "read back after the write");
}

#[tokio::test]
async fn a_lock_that_is_held_is_no_unknown_outcome() {
    let theirs = Theirs::new("CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT, count INTEGER)").await;
    let options = SqliteOptions { busy_timeout_ms: 1, ..SqliteOptions::default() };
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(store_name(), &theirs.path, options).await.expect("opened"));
    let mapped = bare(|_| {});
    let mut connection = theirs.connect().await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("locked");
    let write = batch("1", vec![(key("a"), create(&mapped, &[], &none()))]);
    assert_eq!(store.apply(&mapped, &write).await.expect_err("locked").kind, ErrorKind::Unavailable);
    assert!(snapshot(&store, &mapped).await.1.is_complete(), "reading goes on");
    sqlx::query("ROLLBACK").execute(&mut connection).await.expect("unlocked");
    assert!(matches!(apply_batch(&store, &mapped, &write).await[0], Outcome::Applied(_)));
}

#[tokio::test]
async fn the_journal_of_somebody_elses_file_stays_as_it_is() {
    for mode in ["delete", "wal"] {
        let theirs = Theirs::new("CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT, count INTEGER)").await;
        theirs.text(&format!("PRAGMA journal_mode = {mode}")).await;
        theirs.run("INSERT INTO things VALUES ('a', 'n', 1)").await;
        let before = std::fs::read(&theirs.path).expect("the file");
        let (store, mapped) = (theirs.open().await, bare(|_| {}));
        assert_eq!(snapshot(&store, &mapped).await.0.len(), 1);
        assert!(std::fs::read(&theirs.path).expect("the file") == before, "{mode}: a look changed the file");
        // Looking and writing go on in every mode, one after the other and among others' writes.
        for round in 0..3 {
            let mark = snapshot(&store, &mapped).await.1.mark.expect("a mark");
            let id = round.to_string();
            let write =
                batch(&id, vec![(key(&id), create(&mapped, &[("name", Value::text("ours"))], &none()))]);
            assert!(matches!(apply_batch(&store, &mapped, &write).await[0], Outcome::Applied(_)), "{mode}");
            theirs.run("UPDATE things SET count = count + 1 WHERE id = 'a'").await;
            let mut look = store.changes(&mapped, &mark).await.expect("a look").expect("it can tell");
            let rows = look.rows().await.expect("rows").expect("some");
            assert!(rows.iter().any(|row| *row.key() == key("a")), "{mode}: {round}");
        }
        drop(store);
        assert_eq!(theirs.text("PRAGMA journal_mode").await, mode);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("made.db");
    let options = SqliteOptions { create: true, ..SqliteOptions::default() };
    SqliteStore::open(store_name(), &path, options).await.expect("made").close().await;
    let made = SqliteConnectOptions::new().filename(&path);
    let mut connection = SqliteConnection::connect_with(&made).await.expect("connected");
    let mode: String =
        sqlx::query("PRAGMA journal_mode").fetch_one(&mut connection).await.expect("its mode").get(0);
    assert_eq!(mode, "wal", "nobody else has reasons for another one yet");
}

#[tokio::test]
async fn a_delete_does_not_cascade_into_what_no_mapping_names() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT, count INTEGER);
         CREATE TABLE theirs (thing TEXT REFERENCES things (id) ON DELETE CASCADE);
         INSERT INTO things VALUES ('a', NULL, 1); INSERT INTO theirs VALUES ('a')",
    )
    .await;
    let (store, mapped) = (theirs.open().await, bare(|_| {}));
    let guard = guard(&mapped, &[("count", Value::Int(1))], &none());
    let outcomes = apply(&store, &mapped, vec![(key("a"), WriteOp::Delete { guard })]).await;
    assert_eq!(outcomes, [Outcome::Applied(None)]);
    assert_eq!(theirs.text("SELECT thing FROM theirs").await, "a");
}

#[tokio::test]
async fn what_a_write_answers_is_what_stands_there() {
    let words = |name| {
        let all = FieldType::String;
        let words = Words::new(name).field("name", all).field("plain", all).form("count", all, Form::Text);
        words
            .field("real", FieldType::Float64)
            .field("doc", FieldType::Json)
            .field("at", FieldType::Timestamp)
    };
    // Columns that turn what is put into them into something else, columns that have something without being written, and triggers.
    let theirs = Theirs::new(
        "CREATE TABLE plainly (id TEXT PRIMARY KEY, name TEXT, plain, count TEXT, real REAL, doc TEXT, at TEXT);
         CREATE TABLE oddly (id INTEGER PRIMARY KEY, name TEXT DEFAULT 'theirs', plain NUMERIC, count INTEGER, real TEXT, doc JSON, at BLOB);
         CREATE TABLE changed (id TEXT PRIMARY KEY, name TEXT, plain, count TEXT, real REAL, doc TEXT, at TEXT);
         CREATE TRIGGER changes AFTER INSERT ON changed BEGIN UPDATE changed SET name = 'theirs' WHERE id = NEW.id; END",
    )
    .await;
    let store = theirs.open().await;
    for table in ["plainly", "oddly", "changed"] {
        let mut mapped = words(table).mapped();
        let mapping =
            Mapping { sync: SyncPlace::None, created: None, updated: None, ..(*mapped.mapping).clone() };
        mapped.mapping = Arc::new(mapping);
        let json = |text: &str| Value::Json(Json::parse(text).expect("JSON"));
        let time = trueup::model::Timestamp::from_micros(1_718_452_800_000_001).expect("near");
        let sets = [
            vec![
                ("plain", Value::text("007")),
                ("count", Value::text("1.50")),
                ("real", Value::Float(trueup::model::Float::new(3.0))),
            ],
            vec![
                ("name", Value::text("a\0b'\"")),
                ("plain", Value::text("")),
                ("doc", json("7")),
                ("at", Value::Time(time)),
            ],
            vec![
                ("name", Value::Null),
                ("plain", Value::text(" +1e3 ")),
                ("doc", json(r#"{"a":[1.50,null,"é"]}"#)),
            ],
            vec![("doc", json("null")), ("real", Value::Float(trueup::model::Float::new(-0.0)))],
        ];
        let made =
            sets.iter().enumerate().map(|(at, set)| (key(&at.to_string()), create(&mapped, set, &none())));
        let mut outcomes = apply(&store, &mapped, made.collect()).await;
        let changed = sets.iter().enumerate().map(|(at, set)| {
            (
                key(&((at + 1) % sets.len()).to_string()),
                update(&mapped, set, None, guard(&mapped, &[], &none())),
            )
        });
        for round in 0..2 {
            for (at, outcome) in outcomes.into_iter().enumerate() {
                // What would be made another value of is refused; so are the rows not there that the others would change.
                let refused = table == "oddly" && at % 2 == 0;
                if let (true, Outcome::Refused(error)) = (refused, &outcome) {
                    assert!(error.message.contains("`oddly.") && error.hint.is_some(), "{error}");
                    continue;
                }
                if table == "oddly" && round == 1 {
                    assert_eq!(outcome, Outcome::Moved);
                    continue;
                }
                let Outcome::Applied(Some(row)) = outcome else { panic!("{table} {round}: {outcome:?}") };
                let there = read_one(&store, &mapped, &row.key).await.expect("there");
                assert_eq!(row, there, "{table}");
            }
            outcomes =
                if round == 0 { apply(&store, &mapped, changed.clone().collect()).await } else { Vec::new() };
        }
    }
}

#[tokio::test]
async fn a_value_that_a_column_would_make_another_one_of_is_refused_by_name() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id TEXT PRIMARY KEY, barcode STRING, price DECIMAL(12,2), size INTEGER, day DATE, part REAL, doc JSON)",
    )
    .await;
    let words = Words::new("things").field("barcode", FieldType::String).field("price", FieldType::Numeric);
    let words = words.field("size", FieldType::Float64).field("day", FieldType::Date);
    let words = words.field("part", FieldType::Int64).field("doc", FieldType::Json);
    let mut mapped = words.mapped();
    let mapping =
        Mapping { sync: SyncPlace::None, created: None, updated: None, ..(*mapped.mapping).clone() };
    mapped.mapping = Arc::new(mapping);
    let store = theirs.open().await;
    let (text, numeric) = (Value::text, |text: &str| Value::numeric(text).expect("a number"));
    let json = |text: &str| Value::Json(Json::parse(text).expect("JSON"));
    let cases = [
        ("barcode", text("0040063"), false),
        ("barcode", text("40063"), true),
        ("barcode", text("4-0063"), true),
        ("barcode", text(" 7"), false),
        ("barcode", text("1.0"), false),
        ("barcode", text("1e3"), false),
        ("barcode", text("inf"), true),
        ("barcode", text("12345678901234567890"), false),
        ("price", numeric("12345678901234567.89"), false),
        ("price", numeric("7.1"), true),
        ("price", numeric("700"), true),
        ("size", Value::Float(trueup::model::Float::new(2.0)), true),
        ("size", Value::Float(trueup::model::Float::new(2.5)), true),
        ("part", Value::Int(3), true),
        ("part", Value::Int(9_007_199_254_740_993), false),
        ("doc", json("7"), true),
        ("doc", json("{\"a\": 1.50}"), true),
    ];
    for (at, (field, value, fits)) in cases.into_iter().enumerate() {
        let one = create(&mapped, &[(field, value.clone())], &none());
        let outcome = apply(&store, &mapped, vec![(key(&at.to_string()), one)]).await.remove(0);
        match outcome {
            Outcome::Applied(_) if fits => {
                let there = read_one(&store, &mapped, &key(&at.to_string())).await.expect("there");
                let id = mapped.entity.field_id(&trueup::model::FieldName::new(field).expect("a name"));
                assert_eq!(there.fields[&id.expect("a field")].value(), Some(&value), "{field}");
            }
            Outcome::Refused(error) if !fits => {
                assert!(error.message.contains(&format!("`things.{field}`")), "{error}");
                assert!(!error.to_string().contains("0063"), "no value: {error}");
            }
            other => panic!("{field} = {value}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn hostile_values_are_read_as_they_stand() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id TEXT PRIMARY KEY, name, count);
         INSERT INTO things VALUES ('a', 'nul' || char(0) || 'in it', 9223372036854775807), ('b', '', -9223372036854775808),
           ('c', CAST(x'ff00fe' AS TEXT), 9e999), ('d', x'00', -0.0), ('e', '''\"\\%', 1.5), ('f', NULL, NULL), ('g', 12, '12'),
           ('h', x'', 1e300)",
    )
    .await;
    let (store, mapped) = (theirs.open().await, bare(|_| {}));
    let (rows, certificate) = snapshot(&store, &mapped).await;
    assert!(certificate.is_complete());
    let cell = |at: usize, name: &str| rows[at].fields[&id_of(&mapped, name)].value().cloned();
    assert_eq!(
        (0..8).map(|at| cell(at, "name")).collect::<Vec<_>>(),
        [
            Some(Value::text("nul\0in it")),
            Some(Value::text("")),
            None,
            None,
            Some(Value::text("'\"\\%")),
            Some(Value::Null),
            Some(Value::text("12")),
            None
        ]
    );
    let counts = [Some(i64::MAX), Some(i64::MIN), None, Some(0), None];
    let counts = counts.map(|count| count.map(Value::Int));
    assert_eq!((0..5).map(|at| cell(at, "count")).collect::<Vec<_>>(), counts);
    for row in &rows {
        let there = read_one(&store, &mapped, &row.key).await.expect("there");
        assert_eq!(*row, there, "one way of reading is as good as the other");
    }
}

#[tokio::test]
async fn one_bad_row_among_thousands_is_refused_alone() {
    let theirs =
        Theirs::new("CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT UNIQUE, count INTEGER)").await;
    let (store, mapped) = (theirs.open().await, bare(|_| {}));
    let row = |at: i64| {
        let name = if at == 1234 { "n7".to_owned() } else { format!("n{at}") };
        (key(&format!("{at:05}")), create(&mapped, &[("name", Value::text(name))], &none()))
    };
    let outcomes = apply(&store, &mapped, (0..2500).map(row).collect()).await;
    let refused: Vec<usize> =
        (0..2500).filter(|at| !matches!(outcomes[*at], Outcome::Applied(Some(_)))).collect();
    assert_eq!(refused, [1234]);
    let (rows, certificate) = snapshot(&store, &mapped).await;
    assert_eq!((rows.len(), certificate.is_complete()), (2499, true));
}

#[tokio::test]
async fn many_rows_of_one_key_are_one_duplicate_wherever_a_piece_ends() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id TEXT, name TEXT, count INTEGER);
         WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2999)
         INSERT INTO things SELECT printf('%05d', iif(i BETWEEN 900 AND 1100, 900, i)), 'n' || i, i FROM n",
    )
    .await;
    let (store, mapped) = (theirs.open().await, bare(|_| {}));
    let (rows, certificate) = snapshot(&store, &mapped).await;
    assert_eq!((rows.len(), certificate.rows_read), (2799, 3000));
    assert_eq!(certificate.duplicate_keys, [key("00900")]);
    assert!(rows.iter().all(|row| row.key != key("00900")), "none of them stands for the record");
}

/// The rows of a snapshot, not decoded.
async fn lazy(store: &Arc<dyn Store>, mapped: &Mapped) -> Vec<trueup::store::LazyRow> {
    let mut stream = store.snapshot(mapped.clone()).await.expect("a stream");
    let mut rows = Vec::new();
    while let Some(item) = stream.recv().await {
        if let trueup::store::SnapshotItem::Rows(more) = item.expect("a piece") {
            rows.extend(more);
        }
    }
    rows
}

#[tokio::test]
async fn equal_rows_are_told_without_decoding_but_for_their_times() {
    let one = Theirs::new(
        "CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT, count INTEGER, version INTEGER, at TEXT);
         INSERT INTO things VALUES ('a', 'x', 1, 1, 'then'), ('b', 'x', 1, 1, 'then'), ('c', 'x', 1, 1, 'then'), ('d', 'x', 1, 1, 'then')",
    )
    .await;
    let other = Theirs::new(
        "CREATE TABLE things (at TEXT, version INTEGER, n INTEGER, id TEXT PRIMARY KEY, name TEXT);
         INSERT INTO things VALUES ('now', 1, 1, 'a', 'x'), ('then', 1, 2, 'b', 'x'), ('then', 2, 1, 'c', 'x'), ('then', 1, NULL, 'd', 'x')",
    )
    .await;
    let sync = || {
        let version = Some(Column::plain("version"));
        SyncPlace::Columns {
            version,
            last_updated: None,
            last_updated_by: None,
            sync_status: None,
            source_systems: None,
            sync_errors: None,
        }
    };
    let mapped = |count: &str| {
        bare(|mapping| {
            mapping.sync = sync();
            mapping.updated = Some(Column::plain("at"));
            if let Some(field) = mapping.fields.values_mut().last() {
                field.column = Column::plain(count);
            }
        })
    };
    let (ours, theirs) = (mapped("count"), mapped("n"));
    let (left, right) = (lazy(&one.open().await, &ours).await, lazy(&other.open().await, &theirs).await);
    let equal: Vec<bool> = left.iter().zip(&right).map(|(left, right)| left.surely_equals(right)).collect();
    assert_eq!(equal, [true, false, false, false]);
    let texts = bare(|mapping| {
        mapping.sync = sync();
        mapping.updated = Some(Column::plain("at"));
        mapping.fields.values_mut().for_each(|field| field.form = Form::Text);
    });
    let other_form = lazy(&one.open().await, &texts).await;
    assert!(!left[0].surely_equals(&other_form[0]), "equal bytes of another form mean something else");
}

/// What a store says changed since a mark, by key; none where it cannot tell.
async fn changed(store: &Arc<dyn Store>, mapped: &Mapped, mark: &Mark) -> Option<(Vec<String>, Mark)> {
    let mut look = store.changes(mapped, mark).await.expect("an answer")?;
    let mut keys = Vec::new();
    while let Some(rows) = look.rows().await.expect("rows") {
        keys.extend(rows.iter().map(|row| row.key().parts().concat()));
    }
    Some((keys, look.mark()))
}

#[tokio::test]
async fn what_changed_is_told_by_what_the_rows_hold() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT, other TEXT);
         WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 3000)
         INSERT INTO things SELECT 'k' || n, 'name ' || n, 'x' FROM s",
    )
    .await;
    let store = theirs.open().await;
    let mapped = bare(|mapping| mapping.fields.retain(|_, field| field.column == Column::plain("name")));
    let (_, certificate) = snapshot(&store, &mapped).await;
    let mark = certificate.mark.expect("a mark");
    let (keys, again) = changed(&store, &mapped, &mark).await.expect("told");
    assert_eq!((keys.len(), &again), (0, &mark));

    theirs.run("UPDATE things SET other = 'y'").await;
    assert_eq!(changed(&store, &mapped, &mark).await.expect("told").0.len(), 0, "nothing that is mapped");
    theirs.run("UPDATE things SET name = 'z' WHERE id = 'k7'; DELETE FROM things WHERE id = 'k8'").await;
    theirs.run("INSERT INTO things VALUES ('new', 'n', 'n')").await;
    let (keys, after) = changed(&store, &mapped, &mark).await.expect("told");
    assert!(keys.contains(&"k7".to_owned()) && keys.contains(&"new".to_owned()), "{keys:?}");
    assert!(!keys.contains(&"k8".to_owned()) && keys.len() < 400, "{}", keys.len());
    assert_eq!(changed(&store, &mapped, &after).await.expect("told").0.len(), 0);
    // Questions about the keys are answered as of the same moment. In other modes whoever writes waits for them.
    assert_eq!(theirs.text("PRAGMA journal_mode = wal").await, "wal");
    let mut look = store.changes(&mapped, &after).await.expect("an answer").expect("told");
    theirs.run("DELETE FROM things WHERE id > 'k5'").await;
    let key = |text: &str| trueup::model::RecordKey::new(vec![text.to_owned()]);
    let counts = look.counts(&[key("k2"), key("k3"), key("kz")]).await.expect("counts");
    assert_eq!((counts.iter().sum::<u64>(), counts[3], look.count()), (3000, 1, 3000));
    let keys = look.keys(Some(&key("k2999")), Some(&key("k3"))).await.expect("keys");
    assert_eq!(keys, [key("k2999")]);
    drop(look);

    assert!(changed(&store, &mapped, &Mark("{}".to_owned())).await.is_none(), "no mark of this store");
    theirs
        .run("ALTER TABLE things RENAME COLUMN name TO name2; ALTER TABLE things ADD COLUMN name TEXT")
        .await;
    let said = changed(&store, &mapped, &after).await;
    assert!(said.is_none_or(|(keys, _)| keys.len() > 1000), "another column is another content");
}

#[tokio::test]
async fn own_writes_are_no_news_and_what_is_put_back_after_them_is() {
    let rows = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 3000)
                INSERT INTO things SELECT 'k' || n, 'name', n, 'x' FROM s";
    let table = "CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT CHECK (name <> 'no'), count INTEGER, more TEXT DEFAULT 'x');";
    let mapped = bare(|mapping| {
        let ours = |column: &Column| ["name", "count"].iter().any(|name| *column == Column::plain(*name));
        mapping.fields.retain(|_, field| ours(&field.column));
    });
    let writes = || {
        let named = |name: &str| [("name", Value::text(name))];
        let stands = guard(&mapped, &named("name"), &none());
        let mut writes: Vec<(_, WriteOp)> = (1..=1000)
            .map(|n| (key(&format!("k{n}")), update(&mapped, &named("new"), None, stands.clone())))
            .collect();
        writes.push((key("k2000"), WriteOp::Delete { guard: stands.clone() }));
        writes.push((key("made"), create(&mapped, &named("made"), &none())));
        // Of these nothing becomes.
        writes.push((key("k2001"), update(&mapped, &named("no"), None, stands.clone())));
        writes.push((
            key("k2002"),
            update(&mapped, &named("late"), None, guard(&mapped, &named("else"), &none())),
        ));
        writes.push((key("k2003"), update(&mapped, &named("name"), None, stands)));
        writes
    };
    let theirs = Theirs::new(&format!("{table} {rows}")).await;
    let store = theirs.open().await;
    let mark = snapshot(&store, &mapped).await.1.mark.expect("a mark");
    let done = apply(&store, &mapped, writes())
        .await
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Applied(_)))
        .count();
    assert_eq!(done, 1003);
    let sealed = store.seal(&mapped, mark.clone());
    assert_ne!(sealed, mark);
    theirs.run("UPDATE things SET name = 'name' WHERE id = 'k7'; INSERT INTO things VALUES ('k2000', 'name', 2000, 'x')").await;
    let (keys, _) = changed(&store, &mapped, &sealed).await.expect("told");
    assert!(["k7", "k2000"].iter().all(|put_back| keys.iter().any(|key| key == put_back)), "{keys:?}");
    assert!(keys.len() < 200, "{}", keys.len());
    theirs.run("UPDATE things SET name = 'new' WHERE id = 'k7'; DELETE FROM things WHERE id = 'k2000'").await;
    // It is the very mark that a look at the table gives.
    assert_eq!(changed(&store, &mapped, &sealed).await.expect("told"), (Vec::new(), sealed));

    // Where something else has a hand in it, they are looked at.
    let trigger = "CREATE TRIGGER theirs AFTER UPDATE ON things WHEN NEW.name = 'new' BEGIN
                   UPDATE things SET count = -count WHERE id = NEW.id; END";
    let theirs = Theirs::new(&format!("{table} {rows}; {trigger}")).await;
    let store = theirs.open().await;
    let mark = snapshot(&store, &mapped).await.1.mark.expect("a mark");
    apply(&store, &mapped, writes()).await;
    let (keys, _) = changed(&store, &mapped, &store.seal(&mapped, mark)).await.expect("told");
    assert!((1..=1000).all(|n| keys.contains(&format!("k{n}"))), "{}", keys.len());
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_left_to_a_whole_read() {
    let theirs = Theirs::new("CREATE TABLE things (id, name); INSERT INTO things VALUES ('a', 'b')").await;
    let store = theirs.open().await;
    let mapped = bare(|mapping| mapping.fields.retain(|_, field| field.column == Column::plain("name")));
    let mark = snapshot(&store, &mapped).await.1.mark.expect("a mark");
    theirs.run("INSERT INTO things VALUES (NULL, 'c')").await;
    assert!(changed(&store, &mapped, &mark).await.is_none());
    theirs.run("DELETE FROM things WHERE id IS NULL; INSERT INTO things VALUES ('a', 'c')").await;
    let error = store.changes(&mapped, &mark).await.map(|_| ()).expect_err("two rows of one key");
    assert_eq!(error.kind, ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_new_row_takes_what_another_one_gives_up_in_the_same_batch() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT UNIQUE); INSERT INTO things VALUES ('b', 'wanted')",
    )
    .await;
    let store = theirs.open().await;
    let mapped = bare(|mapping| mapping.fields.retain(|_, field| field.column == Column::plain("name")));
    let named = |name: &str| [("name", Value::text(name))];
    let stands = guard(&mapped, &named("wanted"), &none());
    let writes = vec![
        (key("a"), create(&mapped, &named("wanted"), &none())),
        (key("b"), update(&mapped, &named("other"), None, stands)),
        (key("c"), create(&mapped, &named("other"), &none())),
    ];
    let outcomes = apply(&store, &mapped, writes).await;
    let applied: Vec<bool> = outcomes.iter().map(|outcome| matches!(outcome, Outcome::Applied(_))).collect();
    // The third wants what the second has now.
    assert_eq!(applied, [true, true, false], "{outcomes:?}");
    let rows = "SELECT group_concat(one, ' ') FROM (SELECT id || name AS one FROM things ORDER BY id)";
    assert_eq!(theirs.text(rows).await, "awanted bother");
}

/// A restore, or a copy that is moved over the file: who goes on with the old one writes where nobody reads.
#[tokio::test]
async fn another_file_in_the_place_of_one_in_use_is_the_one_that_counts() {
    let theirs = Theirs::new("CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT, count INTEGER); INSERT INTO things VALUES ('a', 'old', 1)").await;
    let mapped = bare(|_| {});
    let store = theirs.open().await;
    let mark = snapshot(&store, &mapped).await.1.mark.expect("a mark");
    let name = async || match &store.read(&mapped, &[key("a")]).await.expect("read")[&key("a")] {
        Presence::Present(row) => row.fields.values().next().cloned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name().await, Some(Cell::Value(Value::text("old"))));
    let other = Theirs::new("CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT, count INTEGER); INSERT INTO things VALUES ('a', 'new', 1)").await;
    std::fs::rename(&other.path, &theirs.path).expect("moved");
    assert_eq!(name().await, Some(Cell::Value(Value::text("new"))));
    let (seen, _) = changed(&store, &mapped, &mark).await.expect("it can tell");
    assert_eq!(seen, ["a"]);
    let ours = update(&mapped, &[("name", Value::text("ours"))], None, guard(&mapped, &[], &none()));
    apply(&store, &mapped, vec![(key("a"), ours)]).await;
    assert_eq!(theirs.text("SELECT name FROM things").await, "ours");
    std::fs::remove_file(&theirs.path).expect("removed");
    let gone = store.read(&mapped, &[key("a")]).await.expect_err("nothing there");
    assert!(gone.hint.is_some(), "{gone:?}");
}

/// A trigger that puts rows elsewhere would do so at every pass.
#[tokio::test]
async fn a_write_that_leaves_no_row_of_its_key_is_undone_and_told() {
    let theirs = Theirs::new(
        "CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT, count INTEGER); CREATE TABLE archive (id, name);
         INSERT INTO things VALUES ('kept', 'n', 1), ('b', 'n', 1);
         CREATE TRIGGER moves AFTER INSERT ON things WHEN NEW.name = 'away' BEGIN
           DELETE FROM things WHERE id = NEW.id; INSERT INTO archive VALUES (NEW.id, NEW.name); END;
         CREATE TRIGGER renames AFTER UPDATE ON things WHEN NEW.name = 'away' BEGIN UPDATE things SET id = 'x' || id WHERE id = NEW.id; END;
         CREATE TRIGGER keeps BEFORE DELETE ON things WHEN OLD.id = 'kept' BEGIN
           INSERT INTO archive VALUES (OLD.id, 'asked for'); SELECT RAISE(IGNORE); END",
    )
    .await;
    let (store, mapped) = (theirs.open().await, bare(|_| {}));
    let away = || vec![("name", Value::text("away"))];
    let stands = || guard(&mapped, &[], &none());
    let writes = vec![
        (key("a"), create(&mapped, &away(), &none())),
        (key("b"), update(&mapped, &away(), None, stands())),
        (key("c"), create(&mapped, &[("name", Value::text("stays"))], &none())),
        (key("kept"), WriteOp::Delete { guard: stands() }),
    ];
    let outcomes = apply(&store, &mapped, writes).await;
    for (at, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Refused(error) => {
                assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("trigger")), "{error}");
            }
            outcome => assert!(at == 2 && matches!(outcome, Outcome::Applied(_)), "{at}: {outcome:?}"),
        }
    }
    assert_eq!(
        theirs.text("SELECT group_concat(id || name, ' ') FROM (SELECT * FROM things ORDER BY id)").await,
        "bn cstays keptn"
    );
    assert_eq!(theirs.text("SELECT count(*) || '' FROM archive").await, "0", "what was undone left nothing");
}

/// `ANY` is a type in STRICT tables, and the name of one that is none in others.
#[tokio::test]
async fn a_column_for_anything_takes_texts_as_they_are() {
    for (strict, refused) in [("STRICT", false), ("", true)] {
        let theirs = Theirs::new(&format!(
            "CREATE TABLE things (id ANY PRIMARY KEY, name ANY, count INTEGER) {strict}"
        ))
        .await;
        let (store, mapped) = (theirs.open().await, bare(|_| {}));
        let made = vec![(key("007"), create(&mapped, &[("name", Value::text("1.50"))], &none()))];
        let outcomes = apply(&store, &mapped, made).await;
        assert_eq!(matches!(outcomes[0], Outcome::Refused(_)), refused, "{strict}: {outcomes:?}");
        if !refused {
            assert_eq!(theirs.text("SELECT id || ' ' || name FROM things").await, "007 1.50");
        }
    }
}
