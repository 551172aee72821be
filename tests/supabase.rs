//! Supabase, as a Postgres with TLS, behind poolers, and with row-level security.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "server/mod.rs"]
mod server;
mod shell;
mod shipped;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use server::{Disk, Server};
use shell::Place;
use sqlx::Row as _;
use trueup::model::{ErrorKind, StoreName};
use trueup::store::Store;
use trueup::store::postgres::{PostgresOptions, PostgresStore};

fn open(url: &str) -> PostgresStore {
    PostgresStore::open(StoreName::new("supabase").unwrap(), url, PostgresOptions::default()).unwrap()
}

/// A folder with the shipped manifests, the warehouse in SQLite and Supabase at this address.
fn place(url: &str) -> Place {
    let place = Place::with("");
    std::fs::remove_file(place.path().join("manifests/all.yaml")).unwrap();
    let files = shipped::with_stores(&[
        ("bigquery", "sqlite: {path: ../stores/warehouse.db}"),
        ("supabase", &format!("postgres: {{url: \"{url}\"}}")),
    ]);
    for (name, text) in files {
        std::fs::write(place.path().join("manifests").join(name), text).unwrap();
    }
    place
}

/// Contacts that go there and edits that come back, through an address.
async fn goes_both_ways(url: &str, database: &server::Database) {
    let place = place(url);
    place.run(&["migrate", "-auto-approve"], 0);
    let warehouse = rusqlite::Connection::open(place.path().join("stores/warehouse.db")).unwrap();
    for id in 1..=50 {
        let insert = "INSERT INTO contacts_master (contact_id, canonical_name, llm_context) VALUES (?, ?, ?)";
        let context = r#"{"key_interests": ["tea"], "closeness_level": 7}"#;
        warehouse.execute(insert, rusqlite::params![id, format!("Contact {id}"), context]).unwrap();
    }
    place.run(&["apply", "-auto-approve"], 0);
    database.sql("UPDATE contacts_master SET nickname = 'Al' WHERE contact_id IN ('7', '8')").await;
    for _ in 0..2 {
        place.run(&["apply", "-auto-approve"], 0);
    }
    place.run(&["plan", "-detailed-exitcode"], 0);
    let here = "SELECT count(*) FROM contacts_master WHERE nickname = 'Al'";
    assert_eq!(warehouse.query_row::<i64, _, _>(here, [], |row| row.get(0)).unwrap(), 2);
    let mut connection = database.connect().await;
    let there = "SELECT count(*) FROM contacts_master WHERE llm_context ->> 'closeness_level' = '7'";
    assert_eq!(sqlx::query(there).fetch_one(&mut connection).await.unwrap().get::<i64, _>(0), 50);
}

/// A certificate authority, and a certificate of its for `localhost`.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new(name: &str) -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        let folder = authority.0.path();
        // Others than the tests' user read it: only the keys are secret.
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        for command in [
            format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN={name}"),
            format!("req {key} -keyout server.key -out server.csr -subj /CN=server"),
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names".into(),
        ] {
            let done = Command::new("openssl").args(command.split(' ')).current_dir(folder).output();
            let done = done.expect("openssl, with which certificates are made: install the package openssl");
            assert!(done.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&done.stderr));
        }
        server::give(&authority.file("server.key"));
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[tokio::test]
async fn tls_with_a_file_of_the_authority() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let settings = format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
        ours.file("server.crt").display(),
        ours.file("server.key").display()
    );
    let server = Server::start_with(Disk::Lazy, &settings);
    let database = server.database().await;
    let url = |host: &str, mode: &str, root: &Path| {
        format!(
            "postgres://postgres@{host}:{}/{}?sslmode={mode}&sslrootcert={}",
            server.port(),
            database.name,
            root.display()
        )
    };
    let root = ours.file("ca.crt");

    let store = open(&url("localhost", "verify-full", &root));
    store.probe().await.unwrap();
    let mut look = database.connect().await;
    let query = "SELECT bool_and(s.ssl), count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'trueup'";
    let row = sqlx::query(query).fetch_one(&mut look).await.unwrap();
    assert_eq!(
        (row.get::<Option<bool>, _>(0), row.get::<i64, _>(1) > 0),
        (Some(true), true),
        "no connection without"
    );
    store.close().await;

    // The certificate is for another name; who only asks who signed it goes on.
    open(&url("127.0.0.1", "verify-ca", &root)).probe().await.unwrap();
    for (host, root) in [("127.0.0.1", ours.file("ca.crt")), ("localhost", other.file("ca.crt"))] {
        let error = open(&url(host, "verify-full", &root)).probe().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.message.contains("no secure connection"), "{error}");
        assert!(error.hint.as_ref().unwrap().contains("sslrootcert"), "{error}");
    }
    let missing = ours.file("missing.crt");
    let name = StoreName::new("supabase").unwrap();
    let error =
        PostgresStore::open(name, &url("localhost", "verify-full", &missing), PostgresOptions::default())
            .unwrap_err();
    assert!(error.kind == ErrorKind::Invalid && error.message.contains("missing.crt"), "{error}");

    goes_both_ways(&url("localhost", "verify-full", &root), &database).await;
}

/// A pooler in front of the tests' server.
struct Pooler {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    fn start(mode: &str) -> Self {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
        let program = program.into_iter().map(Path::new).find(|program| program.exists());
        let program =
            program.expect("no pgbouncer, the pooler that tests start: install the package pgbouncer");
        let folder = tempfile::tempdir().unwrap();
        server::give(folder.path());
        for _ in 0..5 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            // A session keeps its connection, transactions share a few.
            let size = if mode == "session" { 20 } else { 3 };
            let settings = format!(
                "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\nlogfile = log\n",
                server::shared().port()
            );
            std::fs::write(folder.path().join("settings.ini"), settings).unwrap();
            let mut process = server::as_user(program)
                .arg("settings.ini")
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(30) && process.try_wait().unwrap().is_none() {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { process, port, _folder: folder };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("pgbouncer does not start: {log}");
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_session_pooler_is_like_a_server() {
    let database = server::database().await;
    let pooler = Pooler::start("session");
    let url = format!("postgres://postgres@127.0.0.1:{}/{}", pooler.port, database.name);
    goes_both_ways(&url, &database).await;
}

#[tokio::test]
async fn a_transaction_pooler_takes_what_its_address_says() {
    let database = server::database().await;
    let pooler = Pooler::start("transaction");
    let url = format!("postgres://postgres@127.0.0.1:{}/{}?pgbouncer=true", pooler.port, database.name);
    goes_both_ways(&url, &database).await;
}

#[tokio::test]
async fn row_level_security_is_explained_instead_of_obeyed() {
    let database = server::database().await;
    let owner = place(&database.url);
    owner.run(&["migrate", "-auto-approve"], 0);
    let role = format!("app_{}", database.name);
    database
        .sql(&format!(
            "INSERT INTO contacts_master (contact_id, canonical_name, is_me) VALUES ('1', 'Ann Example', true), ('2', 'Bo Sample', false);
             CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
             ALTER TABLE contacts_master ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON contacts_master USING (is_me)"
        ))
        .await;
    let url = database.url.replace("postgres@", &format!("{role}@"));
    // What any other client would be shown without a word.
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let seen = sqlx::query("SELECT count(*) FROM contacts_master").fetch_one(&mut connection).await.unwrap();
    assert_eq!(seen.get::<i64, _>(0), 1);

    let bound = place(&url);
    let warehouse = rusqlite::Connection::open(bound.path().join("stores/warehouse.db")).unwrap();
    drop(warehouse);
    bound.run(&["migrate", "-auto-approve"], 0);
    let page = bound.run(&["plan"], 1);
    for part in ["row-level security would hide rows", "BYPASSRLS", "Supabase's `postgres`"] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let page = bound.run(&["apply", "-auto-approve"], 1);
    assert!(page.contains("row-level security would hide rows"), "{page}");
    let mut look = database.connect().await;
    let rows = sqlx::query("SELECT count(*) FROM contacts_master WHERE sync_metadata IS NULL")
        .fetch_one(&mut look)
        .await
        .unwrap();
    assert_eq!(rows.get::<i64, _>(0), 2, "nothing was written");

    // What the explanation says to do helps.
    database.sql(&format!("ALTER ROLE {role} BYPASSRLS")).await;
    bound.run(&["apply", "-auto-approve"], 0);
    let query = "SELECT count(*) FROM contacts_master";
    let warehouse = rusqlite::Connection::open(bound.path().join("stores/warehouse.db")).unwrap();
    assert_eq!(warehouse.query_row::<i64, _, _>(query, [], |row| row.get(0)).unwrap(), 2);
}
