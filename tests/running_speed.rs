//! How long an edit in one embedded store takes to be in all others, and what a pass without changes costs. Run by hand, in release:
//! `cargo test --release --test running_speed -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)] // A trial that cannot go on has failed.

#[path = "service_kit/mod.rs"]
mod service_kit;
#[path = "shell/mod.rs"]
mod shell;

use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use service_kit::{Service, settled};
use shell::Place;

const RECORDS: usize = 1_000;
const EDITS: usize = 200;

/// A hint after each edit, as an application that sends webhooks gives one; gathered for no longer than a moment.
const HINTED: &str = r#"
  interval: 1h
  triggers:
    debounce: 10ms
    webhooks: {app: {kind: supabase, secret: "${env:HOOK_SECRET}"}}
"#;

fn open(place: &Place, store: &str) -> Connection {
    let path = place.path().join("stores").join(format!("{store}.db"));
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

fn label(connection: &Connection, id: usize) -> String {
    connection.query_row("SELECT label FROM things WHERE id = ?", [id.to_string()], |row| row.get(0)).unwrap()
}

#[test]
#[ignore = "measures; run by hand"]
fn from_an_edit_to_everywhere() {
    let place = settled(HINTED, RECORDS);
    let service = Service::start(&place, &[]);
    service.until("the first pass", |service| service.get("/readyz", None).0 == 200);
    let [hub, app, local] = ["hub", "app", "local"].map(|store| open(&place, store));
    let mut took = Vec::new();
    for number in 0..EDITS {
        let (id, text) = (number * 7 % RECORDS, format!("edit {number}"));
        app.execute("UPDATE things SET label = ? WHERE id = ?", [&text, &id.to_string()]).unwrap();
        let began = Instant::now();
        let body = format!(r#"{{"type":"UPDATE","table":"things","record":{{"id":"{id}"}}}}"#);
        assert_eq!(service.post("/webhooks/app", &[("x-trueup-secret", "hook-hush")], body), 202);
        while [&hub, &local].iter().any(|store| label(store, id) != text) {
            assert!(began.elapsed() < service_kit::PATIENCE);
            std::thread::sleep(Duration::from_millis(1));
        }
        took.push(began.elapsed());
    }
    took.sort();
    println!(
        "edit to everywhere, 3 SQLite stores of {RECORDS} records, {EDITS} edits, hints gathered for 10 ms: median {:?}, p99 {:?}",
        took[EDITS / 2],
        took[EDITS * 99 / 100]
    );
}

#[test]
#[ignore = "measures; run by hand"]
fn a_pass_without_changes() {
    let place = settled("  interval: 200ms\n", RECORDS);
    let service = Service::start(&place, &[]);
    let clean = |service: &Service| service.metric("trueup_passes_total{result=\"clean\"}");
    service.until("some passes", |service| clean(service) >= 5.0);
    let (cpu, passes) = (service.cpu_seconds(), clean(&service));
    std::thread::sleep(Duration::from_secs(20));
    let (cpu, passes) = (service.cpu_seconds() - cpu, clean(&service) - passes);
    println!(
        "a pass without changes, 3 SQLite stores of {RECORDS} records: {:.1} ms of CPU ({passes} passes)",
        cpu * 1000.0 / passes
    );
    assert!(passes > 10.0);
}
