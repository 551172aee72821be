//! One suite that every state passes, and what is a file's or a database's alone.

use std::path::Path;
use std::sync::Arc;

use sqlx::Connection as _;

use trueup::model::{
    BatchId, ByName, Cell, EntityName, FieldName, FieldShadow, Intent, IntentEnd, IntentId, IntentKind,
    MappingTag, RecordId, RecordKey, Shadow, StateId, StoreName, SyncMeta, Timestamp, Transition, Value,
    Version,
};
use trueup::state::State;
use trueup::state::memory::MemoryState;
use trueup::state::postgres::PostgresState;
use trueup::state::sqlite::SqliteState;

#[path = "server/mod.rs"]
mod server;

fn entity(name: &str) -> trueup::model::Entity {
    trueup::model::Entity {
        name: EntityName::new(name).expect("a name"),
        key: Vec::new(),
        fields: Vec::new(),
        units: Vec::new(),
        references: Vec::new(),
        times: trueup::model::Times::default(),
        match_rules: Vec::new(),
        conflicts: trueup::model::ConflictPolicy::default(),
        deletes: trueup::model::DeletePolicy::default(),
        default_region: None,
        system: false,
        names: trueup::model::Names::default(),
    }
}

fn record(entity: &str, key: &str) -> RecordId {
    RecordId { entity: EntityName::new(entity).expect("a name"), key: RecordKey::new(vec![key.to_owned()]) }
}

fn store(name: &str) -> StoreName {
    StoreName::new(name).expect("a name")
}

fn shadow(value: &str) -> Arc<Shadow> {
    let field = FieldShadow {
        held: Cell::Value(Value::text(value)),
        stands_for: None,
        version: Version(1),
        tag: MappingTag(1),
        unsure: false,
    };
    let fields = [(FieldName::new("name").expect("a name"), field)].into();
    Arc::new(Shadow { present: true, fields, ..Shadow::default() })
}

fn noted(intents: Vec<Intent>) -> Vec<Arc<Intent>> {
    intents.into_iter().map(Arc::new).collect()
}

fn intent(id: &str) -> Intent {
    Intent {
        id: IntentId(id.into()),
        batch: BatchId("1-1".into()),
        store: store("app"),
        receipt: false,
        record: record("things", "a"),
        kind: IntentKind::Update,
        before: [(FieldName::new("name").expect("a name"), Value::Null)].into(),
        after: ByName::new(),
        meta_before: SyncMeta::default(),
        meta_after: None,
        advances: [(store("app"), shadow("x"))].into(),
    }
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).expect("near")
}

fn key(text: &str) -> RecordKey {
    RecordKey::new(vec![text.to_owned()])
}

async fn shadows_are_kept_a_store_at_a_time(state: &dyn State) {
    let things = entity("things");
    let first = Transition {
        shadows: vec![
            (record("things", "a"), store("app"), shadow("1")),
            (record("things", "a"), store("local"), shadow("1")),
            (record("others", "a"), store("app"), shadow("o")),
        ],
        ..Transition::default()
    };
    state.commit(&first).await.expect("committed");
    let second = Transition {
        shadows: vec![(record("things", "a"), store("app"), shadow("2"))],
        forget: vec![(record("others", "a"), store("app")), (record("things", "none"), store("app"))],
        ..Transition::default()
    };
    state.commit(&second).await.expect("committed");
    let recalled = state.recall(&things, &[key("a"), key("b")]).await.expect("recalled");
    assert_eq!(recalled.len(), 1, "keys without a memory are left out");
    assert_eq!(
        recalled[&key("a")].stores,
        [("app", "2"), ("local", "1")]
            .map(|(name, value)| (store(name), Arc::unwrap_or_clone(shadow(value))))
            .into()
    );
    assert_eq!(state.page(&things, None, 10).await.expect("a page").len(), 1);
    assert_eq!(
        state.page(&entity("others"), None, 10).await,
        Ok(vec![]),
        "nothing is left of what is forgotten"
    );
}

async fn pages_come_in_the_order_of_keys(state: &dyn State) {
    let things = entity("things");
    let mut keys: Vec<String> =
        ["", "10", "9", "a", "A", "é", "🦀", "a\0", "a\0b", "a b", "'"].map(str::to_owned).into();
    keys.extend((0..700).map(|number| format!("n{number}")));
    let shadows = keys.iter().map(|key| (record("things", key), store("app"), shadow(key))).collect();
    state.commit(&Transition { shadows, ..Transition::default() }).await.expect("committed");
    keys.sort();
    let mut seen = Vec::new();
    let mut after: Option<RecordKey> = None;
    loop {
        let page = state.page(&things, after.as_ref(), 100).await.expect("a page");
        assert!(page.len() <= 100);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|(key, memory)| {
            assert_eq!(memory.stores[&store("app")], *shadow(&key.parts()[0]));
            key.parts()[0].clone()
        }));
    }
    assert_eq!(seen, keys);
    let all: Vec<RecordKey> = keys.iter().map(|text| key(text)).collect();
    assert_eq!(state.recall(&things, &all).await.expect("recalled").len(), keys.len());
}

async fn intents_are_open_until_they_end(state: &dyn State) {
    let open = vec![intent("1-1-1"), intent("1-1-2"), intent("1-1-3")];
    let transition = Transition { open: noted(open.clone()), intend_pass: Some(4), ..Transition::default() };
    state.commit(&transition).await.expect("committed");
    assert_eq!(state.open_intents().await, Ok(open.clone()));
    let ended = Transition {
        close: vec![
            (IntentId("1-1-2".into()), IntentEnd::Applied),
            (IntentId("1-1-1".into()), IntentEnd::NotApplied),
            (IntentId("unheard of".into()), IntentEnd::Unresolved),
        ],
        acknowledge_pass: Some(4),
        ..Transition::default()
    };
    state.commit(&ended).await.expect("committed");
    assert_eq!(state.open_intents().await, Ok(open[2..].to_vec()));
    let header = state.header().await.expect("a header");
    assert_eq!((header.acknowledged, header.intended), (4, 4));
    assert!(!header.id.0.is_empty());
}

async fn everything_can_be_forgotten(state: &dyn State) {
    let id = state.header().await.expect("a header").id;
    let full = Transition {
        open: noted(vec![intent("1-1-1")]),
        shadows: vec![(record("things", "a"), store("app"), shadow("1"))],
        acknowledge_pass: Some(9),
        ..Transition::default()
    };
    state.commit(&full).await.expect("committed");
    let anew = Transition {
        forget_everything: true,
        shadows: vec![(record("things", "b"), store("app"), shadow("2"))],
        ..Transition::default()
    };
    state.commit(&anew).await.expect("committed");
    assert_eq!(state.open_intents().await, Ok(Vec::new()));
    let page = state.page(&entity("things"), None, 10).await.expect("a page");
    assert_eq!(page.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [key("b")]);
    let header = state.header().await.expect("a header");
    assert_eq!((header.id, header.acknowledged), (id, 9), "the state is the same one");
}

async fn one_holder_at_a_time(state: &dyn State) {
    state.acquire("1@here", at(0), at(100)).await.expect("free");
    state.acquire("1@here", at(50), at(150)).await.expect("renewed");
    let refused = state.acquire("2@there", at(149), at(300)).await.expect_err("held");
    assert!(refused.held_elsewhere && refused.message.contains("1@here"), "{refused}");
    state.release("2@there").await.expect("not theirs to give");
    assert_eq!(state.lease().await.expect("read").expect("held").holder, "1@here");
    state.acquire("2@there", at(150), at(300)).await.expect("lapsed");
    assert!(state.acquire("1@here", at(200), at(400)).await.is_err());
    state.release("2@there").await.expect("released");
    assert_eq!(state.lease().await, Ok(None));
    state.acquire("1@here", at(200), at(400)).await.expect("free");
}

async fn texts_of_any_kind_are_kept(state: &dyn State) {
    let mut odd = Arc::unwrap_or_clone(shadow("a\0b"));
    odd.store_id = Some(trueup::model::StoreRecordId("\0".into()));
    odd.meta.last_updated_by = Some("somebody\0's application 🦀".into());
    odd.meta.source_systems = vec![String::new(), "\u{7f}'; --".into()].into();
    let odd = Arc::new(odd);
    let noted = Intent { advances: [(store("app"), odd.clone())].into(), ..intent("1-1-1") };
    let shadows = vec![(record("things", "\0"), store("app"), odd.clone())];
    let transition = Transition { open: vec![Arc::new(noted.clone())], shadows, ..Transition::default() };
    state.commit(&transition).await.expect("committed");
    assert_eq!(state.open_intents().await, Ok(vec![noted]));
    let recalled = state.recall(&entity("things"), &[key("\0")]).await.expect("recalled");
    assert_eq!(recalled[&key("\0")].stores[&store("app")], *odd);
}

macro_rules! suite {
    ($($case:ident,)*) => {
        mod in_memory {
            $(#[tokio::test] async fn $case() {
                let state = crate::MemoryState::new(crate::StateId("1".into()));
                crate::$case(&state).await;
            })*
        }
        mod in_sqlite {
            $(#[tokio::test] async fn $case() {
                let folder = tempfile::tempdir().expect("a folder");
                let state = crate::SqliteState::open(&folder.path().join("state.db")).await.expect("opened");
                crate::$case(&state).await;
            })*
        }
        mod in_postgres {
            $(#[tokio::test] async fn $case() {
                let database = crate::server::database().await;
                let state = crate::PostgresState::open(&database.url, "trueup").await.expect("opened");
                crate::$case(&state).await;
            })*
        }
    };
}

suite! {
    shadows_are_kept_a_store_at_a_time,
    pages_come_in_the_order_of_keys,
    intents_are_open_until_they_end,
    everything_can_be_forgotten,
    one_holder_at_a_time,
    texts_of_any_kind_are_kept,
}

/// Intents of one change are one piece in the file; each ends for itself all the same, also where the program dies in between.
#[tokio::test]
async fn a_pack_may_end_in_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let state = SqliteState::open(&path).await.expect("opened");
    let made = |id: &str, kind| Intent { kind, ..intent(id) };
    let creates: Vec<Intent> = (0..40).map(|at| made(&format!("1-1-app-{at}"), IntentKind::Create)).collect();
    let mixed = vec![made("1-2-app-1", IntentKind::Create), made("1-2-app-2", IntentKind::Delete)];
    for open in [creates.clone(), mixed.clone()] {
        state.commit(&Transition { open: noted(open), ..Transition::default() }).await.expect("committed");
    }
    let end = |intents: &[Intent]| Transition {
        close: intents.iter().map(|intent| (intent.id.clone(), IntentEnd::Applied)).collect(),
        ..Transition::default()
    };
    let some: Vec<Intent> = creates.iter().step_by(2).cloned().collect();
    state.commit(&end(&some)).await.expect("committed");
    state.commit(&end(&mixed[..1])).await.expect("committed");
    drop(state);
    let state = SqliteState::open(&path).await.expect("opened again");
    let mut left: Vec<Intent> = creates.iter().skip(1).step_by(2).cloned().collect();
    left.push(mixed[1].clone());
    assert_eq!(state.open_intents().await.expect("read"), left);
    // Noted again, it counts as noted last, and once.
    let again = Intent { receipt: true, ..creates[1].clone() };
    state
        .commit(&Transition { open: noted(vec![again.clone()]), ..Transition::default() })
        .await
        .expect("committed");
    left.remove(0);
    left.push(again);
    assert_eq!(state.open_intents().await.expect("read"), left);
    state.commit(&end(&left)).await.expect("committed");
    assert_eq!(state.open_intents().await.expect("read"), []);
    let kept = state.ended_intents(100).await.expect("read");
    assert_eq!(kept, [(mixed[1].clone(), IntentEnd::Applied)], "there was nothing before a create");
    assert_eq!(count(&path, "SELECT count(*) FROM journal_bodies").await, 1);
}

#[tokio::test]
async fn a_file_of_the_first_format_is_brought_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let state = SqliteState::open(&path).await.expect("opened");
    let shadows = vec![(record("things", "a"), store("app"), shadow("1"))];
    state.commit(&Transition { shadows, ..Transition::default() }).await.expect("committed");
    state.close().await;
    let open = intent("1-1-1");
    let body = serde_json::to_string(&open).expect("written").replace('\'', "''");
    for statement in [
        "DROP TABLE journal".to_owned(),
        "DROP TABLE journal_bodies".to_owned(),
        "CREATE TABLE journal (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, ended TEXT, body BLOB NOT NULL)".to_owned(),
        "CREATE INDEX open_intents ON journal (seq) WHERE ended IS NULL".to_owned(),
        format!("INSERT INTO journal (id, ended, body) VALUES ('1-1-0', 'applied', x'00'), ('1-1-1', NULL, CAST('{body}' AS BLOB))"),
        "PRAGMA user_version = 1".to_owned(),
    ] {
        sql(&path, &statement).await;
    }
    let state = SqliteState::open(&path).await.expect("opened again");
    assert_eq!(state.open_intents().await, Ok(vec![open]));
    let recalled = state.recall(&entity("things"), &[key("a")]).await.expect("recalled");
    assert_eq!(recalled[&key("a")].stores[&store("app")], *shadow("1"));
    let close = vec![(IntentId("1-1-1".into()), IntentEnd::NotApplied)];
    state.commit(&Transition { close, ..Transition::default() }).await.expect("committed");
    assert_eq!(state.open_intents().await, Ok(Vec::new()));
}

async fn open_error(path: &Path) -> String {
    SqliteState::open(path).await.expect_err("no state").message
}

#[tokio::test]
async fn a_file_is_private_and_keeps_what_was_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("made/state.db");
    let state = SqliteState::open(&path).await.expect("opened");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
    }
    let id = state.header().await.expect("a header").id;
    let transition = Transition {
        open: noted(vec![intent("1-1-1")]),
        shadows: vec![(record("things", "a"), store("app"), shadow("1"))],
        ..Transition::default()
    };
    state.commit(&transition).await.expect("committed");
    // No goodbye: as after a kill.
    drop(state);
    let state = SqliteState::open(&path).await.expect("opened again");
    assert_eq!(state.header().await.expect("a header").id, id);
    assert_eq!(state.open_intents().await, Ok(vec![intent("1-1-1")]));
    let recalled = state.recall(&entity("things"), &[key("a")]).await.expect("recalled");
    assert_eq!(recalled[&key("a")].stores[&store("app")], *shadow("1"));
    let close = vec![(IntentId("1-1-1".into()), IntentEnd::Applied)];
    state.commit(&Transition { close, ..Transition::default() }).await.expect("committed");
    let ended = state.ended_intents(10).await.expect("read");
    assert_eq!(ended, [(intent("1-1-1"), IntentEnd::Applied)], "before-images are kept");
}

#[tokio::test]
async fn a_file_that_was_replaced_or_taken_away_is_not_gone_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let state = SqliteState::open(&path).await.expect("opened");
    let other = folder.path().join("other.db");
    SqliteState::open(&other).await.expect("opened").close().await;
    std::fs::rename(&other, &path).expect("moved");
    let error = state.header().await.expect_err("it is another state");
    assert!(error.message.contains("replaced") && error.message.contains("state.db"), "{error}");
    let change = Transition { acknowledge_pass: Some(1), ..Transition::default() };
    assert!(state.commit(&change).await.is_err());
    std::fs::remove_file(&path).expect("removed");
    assert!(state.commit(&change).await.is_err());
    assert!(!path.exists(), "no second state is made in its place");
}

#[tokio::test]
async fn two_programs_may_write_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let (one, two) =
        (SqliteState::open(&path).await.expect("opened"), SqliteState::open(&path).await.expect("opened"));
    for (number, state) in [&one, &two, &one, &two].into_iter().enumerate() {
        let name = format!("store_{number}");
        let shadows = vec![(record("things", &name), store(&name), shadow(&name))];
        state.commit(&Transition { shadows, ..Transition::default() }).await.expect("committed");
    }
    for state in [&one, &two] {
        for (key, memory) in state.page(&entity("things"), None, 10).await.expect("a page") {
            let name = key.parts()[0].clone();
            assert_eq!(
                memory.stores,
                [(store(&name), Arc::unwrap_or_clone(shadow(&name)))].into(),
                "names are not mixed up"
            );
        }
    }
}

#[tokio::test]
async fn files_that_are_no_states_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("garbage.db");
    std::fs::write(&path, "no database at all, but long enough to have a header".repeat(99))
        .expect("written");
    let message = open_error(&path).await;
    assert!(message.contains("garbage.db") && message.contains("move it away"), "{message}");
    assert!(open_error(folder.path()).await.contains("is a folder"));

    let path = folder.path().join("newer.db");
    drop(SqliteState::open(&path).await.expect("made"));
    sql(&path, "PRAGMA user_version = 99").await;
    assert!(open_error(&path).await.contains("newer"));
    let path = folder.path().join("other.db");
    std::fs::write(&path, "").expect("written");
    sql(&path, "CREATE TABLE theirs (id)").await;
    assert!(open_error(&path).await.contains("something else"));
}

async fn sql(path: &Path, sql: &str) {
    let mut connection = connect(path).await;
    sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("done");
    connection.close().await.expect("closed");
}

async fn count(path: &Path, sql: &str) -> i64 {
    let mut connection = connect(path).await;
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    let count = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a number");
    connection.close().await.expect("closed");
    count
}

async fn connect(path: &Path) -> sqlx::SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    sqlx::SqliteConnection::connect_with(&options).await.expect("connected")
}

async fn in_database(database: &server::Database) -> PostgresState {
    PostgresState::open(&database.url, "trueup").await.expect("opened")
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_that_write_one_database_at_once_do_not_mix_their_words_up() {
    let database = server::database().await;
    // They also race for making the tables.
    let (one, two, three) =
        tokio::join!(in_database(&database), in_database(&database), in_database(&database));
    let id = one.header().await.expect("a header").id;
    assert_eq!(two.header().await.expect("a header").id, id);
    let writers: Vec<_> = [one.clone(), two.clone(), three.clone()]
        .into_iter()
        .enumerate()
        .map(|(writer, state)| {
            tokio::spawn(async move {
                for number in 0..20 {
                    let own = format!("store_{writer}_{number}");
                    let shadows = vec![
                        (record(&format!("entity_{number}"), &own), store(&own), shadow(&own)),
                        // All of them also change one record.
                        (record("things", "a"), store(&own), shadow(&own)),
                    ];
                    let open = noted(vec![intent(&format!("{writer}-{number}"))]);
                    let transition = Transition { shadows, open, ..Transition::default() };
                    state.commit(&transition).await.expect("committed");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    let new = in_database(&database).await;
    for state in [&one, &two, &three, &new] {
        let things = state.recall(&entity("things"), &[key("a")]).await.expect("recalled");
        let stores = &things[&key("a")].stores;
        assert_eq!(stores.len(), 60, "no shadow is lost to another writer");
        assert!(stores.iter().all(|(name, held)| *held == *shadow(name.as_str())), "names are not mixed up");
        for number in 0..20 {
            let page = state.page(&entity(&format!("entity_{number}")), None, 10).await.expect("a page");
            assert_eq!(page.len(), 3);
        }
        assert_eq!(state.open_intents().await.expect("read").len(), 60);
    }
}

#[tokio::test]
async fn a_controller_that_was_overtaken_changes_nothing_more() {
    for ended in [false, true] {
        let database = server::database().await;
        overtaken(&in_database(&database).await, &in_database(&database).await, ended).await;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let opened = async || SqliteState::open(&path).await.expect("opened");
        overtaken(&opened().await, &opened().await, ended).await;
    }
}

async fn overtaken(slow: &dyn State, other: &dyn State, ended: bool) {
    let change = |value: &str| Transition {
        shadows: vec![(record("things", "a"), store("app"), shadow(value))],
        ..Transition::default()
    };
    slow.acquire("slow", at(0), at(100)).await.expect("taken");
    slow.commit(&change("1")).await.expect("committed");
    slow.acquire("slow", at(150), at(200)).await.expect("late, and nobody else was there");
    slow.commit(&change("2")).await.expect("committed");
    other.acquire("other", at(250), at(300)).await.expect("it lapsed");
    other.commit(&change("3")).await.expect("committed");
    if ended {
        other.release("other").await.expect("released");
    }
    for attempt in [slow.acquire("slow", at(260), at(400)).await, slow.commit(&change("4")).await] {
        let error = attempt.expect_err("it was overtaken");
        assert!(error.held_elsewhere, "{error}");
    }
    assert!(slow.commit(&change("4")).await.is_err(), "still");
    let recalled = slow.recall(&entity("things"), &[key("a")]).await.expect("may be read");
    assert_eq!(recalled[&key("a")].stores[&store("app")], *shadow("3"));
    slow.release("slow").await.expect("nothing to give up");
    assert_eq!(
        other.lease().await.expect("read").is_some(),
        !ended,
        "it is not the other's that is given up"
    );
    slow.acquire("slow", at(400), at(500)).await.expect("free, or lapsed");
    slow.commit(&change("5")).await.expect("committed");
}

#[tokio::test]
async fn what_a_database_does_not_allow_is_said_without_the_password() {
    let refused = async |url: &str, schema: &str| {
        let error = PostgresState::open(url, schema).await.expect_err("no state").message;
        assert!(!error.contains("hunter2") && !error.contains("127.0.0.1"), "{error}");
        error
    };
    let database = server::database().await;
    let port = server::shared().port();
    let url =
        |user: &str, port: u16, name: &str| format!("postgres://{user}:hunter2@127.0.0.1:{port}/{name}");
    let good = url("postgres", port, &database.name);
    let state = PostgresState::open(&good, "odd \"name\"; --").await.expect("any name is one");
    state
        .commit(&Transition { open: noted(vec![intent("1")]), ..Transition::default() })
        .await
        .expect("committed");
    assert!(!format!("{state:?}").contains("hunter2"));

    assert!(refused("postgres://u:hunter2@127.0.0.1:port/x", "s").await.contains("its address"));
    assert!(refused(&url("postgres", 1, "x"), "s").await.contains("cannot be reached"));
    assert!(refused(&url("postgres", port, "nowhere"), "s").await.contains("no database of this name"));
    database.sql("CREATE ROLE guest LOGIN").await;
    assert!(refused(&url("guest", port, &database.name), "s").await.contains("GRANT"));
    database.sql("CREATE SCHEMA theirs; CREATE TABLE theirs.trueup_names (x text)").await;
    assert!(refused(&good, "theirs").await.contains("something else"));
    database.sql("DROP TABLE theirs.trueup_names; CREATE TABLE theirs.names (x text)").await;
    drop(PostgresState::open(&good, "theirs").await.expect("other tables are nobody's business"));
    database.sql("UPDATE theirs.trueup_state SET format = 99").await;
    assert!(refused(&good, "theirs").await.contains("newer"));
}

#[tokio::test]
async fn a_database_keeps_what_was_committed_when_its_server_is_killed() {
    let mut server = server::Server::start(server::Disk::Flushed);
    let state = in_database(&server.database().await).await;
    let transition = |value: &str| Transition {
        open: noted(vec![intent(value)]),
        shadows: vec![(record("things", "a"), store("app"), shadow(value))],
        ..Transition::default()
    };
    for number in 0..3 {
        let value = number.to_string();
        state.commit(&transition(&value)).await.expect("committed");
        server.kill();
        if number == 0 {
            let error = state.header().await.expect_err("it is gone").message;
            assert!(error.contains("no connection"), "{error}");
        }
        server.restart();
        let recalled = state.recall(&entity("things"), &[key("a")]).await.expect("recalled");
        assert_eq!(recalled[&key("a")].stores[&store("app")], *shadow(&value));
        assert_eq!(state.open_intents().await.expect("read").len(), number + 1);
    }
}
