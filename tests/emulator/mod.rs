//! A BigQuery emulator of the test's own: found or installed, started on free ports of the loopback interface with a home and data
//! of its own, and gone with the test.
#![allow(dead_code)] // Every test uses some of it.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use trueup::store::bigquery::{BigQueryOptions, Emulator as Address};

/// The project that the emulator has.
pub(crate) const PROJECT: &str = "demo";

/// An emulator that runs.
pub(crate) struct Emulator {
    folder: tempfile::TempDir,
    rest: u16,
    grpc: u16,
    child: Child,
}

/// Where the emulator is installed; installs it if it is not there.
fn installed() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/needs.bash");
            let out = Command::new("bash")
                .args(["-c", "source \"$0\" && need_bigquery_emulator && bigquery_emulator_folder", script])
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .output()
                .expect("bash runs");
            assert!(out.status.success(), "no BigQuery emulator: see what tests/needs.bash says");
            PathBuf::from(String::from_utf8(out.stdout).expect("a path").trim_end())
        })
        .clone()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

impl Emulator {
    /// Starts one with a dataset `identity`.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("home")).expect("a home");
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        std::os::unix::fs::symlink(installed().join("home/.duckdb"), folder.path().join("home/.duckdb"))
            .expect("extensions");
        let (rest, grpc) = (free_port(), free_port());
        let child = spawn(folder.path(), rest, grpc);
        let mut emulator = Self { folder, rest, grpc, child };
        emulator.wait_until_ready();
        emulator
    }

    /// One of two emulators that the tests of this process share, the same one whenever a test's thread asks: each uses no more than one
    /// processor, and the tests wait for little else.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: [OnceLock<Emulator>; 2] = [OnceLock::new(), OnceLock::new()];
        static TURN: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static MINE: usize = TURN.fetch_add(1, Ordering::Relaxed) % SHARED.len());
        MINE.with(|mine| SHARED[*mine].get_or_init(Self::start))
    }

    fn wait_until_ready(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_mins(3) {
            if let Some(status) = self.child.try_wait().expect("asked") {
                panic!("the emulator ended: {status}\n{}", self.log());
            }
            // It listens before it answers.
            if get_status(self.rest) == Some(200) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the emulator does not answer:\n{}", self.log());
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Its address for REST.
    pub(crate) fn rest_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rest)
    }

    /// Its address for gRPC.
    pub(crate) fn grpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// How a dataset of it is opened.
    pub(crate) fn options(&self, dataset: &str) -> BigQueryOptions {
        let address = Address { rest: self.rest_url(), grpc: Some(self.grpc_url()) };
        BigQueryOptions { emulator: Some(address), ..BigQueryOptions::new(PROJECT, dataset) }
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        kill(&mut self.child, self.folder.path());
    }

    /// Starts it again on the same ports, with the data that it had. Jobs that ran when it was killed would run for ever by its books, as no
    /// job of the service does: they are taken out.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.folder.path(), self.rest, self.grpc);
        self.wait_until_ready();
        let jobs = format!("{}/bigquery/v2/projects/{PROJECT}/jobs", self.rest_url());
        let client = reqwest::Client::new();
        let list = client.get(format!("{jobs}?maxResults=100000")).send().await.expect("an answer");
        let list: Json = list.json().await.expect("JSON");
        for job in list["jobs"].as_array().into_iter().flatten() {
            if job["status"]["state"] != "DONE" {
                let id = job["jobReference"]["jobId"].as_str().expect("an id");
                let gone = client.delete(format!("{jobs}/{id}/delete")).send().await.expect("an answer");
                assert!(gone.status().is_success(), "{id}: {}", gone.status());
            }
        }
    }

    /// A new dataset, empty.
    pub(crate) async fn dataset(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("d{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.query(&format!("CREATE SCHEMA `{PROJECT}.{name}`"), &[]).await;
        name
    }

    /// Runs a statement as another application would; the rows as JSON.
    pub(crate) async fn query(&self, sql: &str, parameters: &[Json]) -> Json {
        let body = json!({
            "query": sql,
            "useLegacySql": false,
            "parameterMode": "NAMED",
            "queryParameters": parameters,
            "maxResults": 100_000,
            // On a busy machine the emulator needs its time.
            "timeoutMs": 180_000,
        });
        let url = format!("{}/bigquery/v2/projects/{PROJECT}/queries", self.rest_url());
        let answer = reqwest::Client::new().post(url).json(&body).send().await.expect("an answer");
        let status = answer.status();
        let json: Json = answer.json().await.expect("JSON");
        assert!(status.is_success() && json["jobComplete"] != false, "{sql}: {json}");
        json
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts the emulator below a shell that ends it when this process is gone, however it went.
fn spawn(folder: &Path, rest: u16, grpc: u16) -> Child {
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    let script = r#""$0" "$@" </dev/null & echo $! >"$PIDFILE"; cat >/dev/null; kill -9 $! 2>/dev/null"#;
    Command::new("sh")
        .args(["-c", script])
        .arg(installed().join("venv/bin/local-bigquery"))
        .args(["--host", "127.0.0.1", "--port", &rest.to_string(), "--grpc-port", &grpc.to_string()])
        .args(["--project", PROJECT, "--dataset", "identity", "--data-dir"])
        .arg(folder.join("data"))
        .arg("serve")
        .env("HOME", folder.join("home"))
        .env("PIDFILE", folder.join("pid"))
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("the emulator starts")
}

fn kill(child: &mut Child, folder: &Path) {
    if let Ok(pid) = std::fs::read_to_string(folder.join("pid")) {
        let _ = Command::new("kill").args(["-9", pid.trim()]).stderr(Stdio::null()).status();
    }
    drop(child.stdin.take());
    let _ = child.wait();
}

/// The status that the emulator answers with when it is asked for its datasets.
fn get_status(port: u16) -> Option<u16> {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(
        stream,
        "GET /bigquery/v2/projects/{PROJECT}/datasets HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}
