//! A real `trueup run` on stores in files, with what it serves.
#![allow(dead_code)] // Every test takes what it needs.
#![allow(unreachable_pub)] // A module of tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::shell::Place;

/// How long something may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Three stores with one entity. What a test needs of the Controller document is put in the place of `CONTROLLER`.
pub const MANIFESTS: &str = r#"
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
kind: Store
metadata: {name: local}
spec: {sqlite: {path: ../stores/local.db}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: things}
spec:
  key: {id: string}
  fields: {label: string, kind: {enum: [small, large]}, secret_note: {type: string, sensitive: true}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: things}
spec:
  entity: things
  stores:
    hub: {table: things, fields: {"*": same}, sync: {columns: same}}
    app: {table: things, fields: {"*": same}, sync: {columns: same}}
    local: {table: things, fields: {"*": same}}
---
apiVersion: trueup/v1
kind: Controller
metadata: {name: controller}
spec:
  state: STATE
CONTROLLER
"#;

/// A folder with so many records in agreement.
pub fn settled(controller: &str, records: usize) -> Place {
    settled_with(controller, "{sqlite: ../state.db}", records)
}

/// The same with the state elsewhere.
pub fn settled_with(controller: &str, state: &str, records: usize) -> Place {
    let place = Place::with(&MANIFESTS.replace("CONTROLLER", controller).replace("STATE", state));
    place.run(&["migrate", "-auto-approve"], 0);
    let rows: Vec<String> =
        (0..records).map(|at| format!("('{at}', 'label {at}', 'small', 'hush {at}')")).collect();
    for rows in rows.chunks(500) {
        place.sql(
            "hub",
            &format!("INSERT INTO things (id, label, kind, secret_note) VALUES {}", rows.join(", ")),
        );
    }
    place.run(&["apply", "-auto-approve"], 0);
    place
}

/// A running controller; it is killed when it is dropped.
pub struct Service {
    child: Child,
    pub address: String,
    runtime: tokio::runtime::Runtime,
    pub client: reqwest::Client,
}

impl Service {
    pub fn start(place: &Place, more: &[&str]) -> Self {
        let args: Vec<&str> = ["run", "--listen", "127.0.0.1:0"].iter().chain(more).copied().collect();
        Self::start_as(place, &args)
    }

    pub fn start_as(place: &Place, args: &[&str]) -> Self {
        let mut command = place.trueup(args);
        command.env("HOOK_SECRET", "hook-hush").env("API_TOKEN", "api-hush").env("TRUEUP_LOG", "warn");
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut address = None;
        let mut told = String::new();
        while address.is_none() {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended: {told}");
            address = line.split_once("http://").map(|(_, rest)| rest.split('/').next().unwrap().to_owned());
            told += &line;
        }
        // What it says further on is shown with a failing test.
        std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = lines.read_to_string(&mut rest);
            #[allow(clippy::print_stdout)] // A test shows it when it fails.
            {
                print!("{rest}");
            }
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { child, address: address.unwrap(), runtime, client: reqwest::Client::new() }
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The status and the text of a page, with a token where one is given.
    pub fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = self.client.get(self.url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    /// The status of an answer to a webhook.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> u16 {
        let mut request = self.client.post(self.url(path)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.block_on(async { request.send().await.map_or(0, |answer| answer.status().as_u16()) })
    }

    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let (status, text) = self.get("/metrics", None);
        assert_eq!(status, 200);
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }

    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        *metrics.get(name).unwrap_or_else(|| panic!("there is no series {name}"))
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < end, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Memory in use, in bytes.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Seconds of CPU used so far.
    pub fn cpu_seconds(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without a word.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let done = std::process::Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
