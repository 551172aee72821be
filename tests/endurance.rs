//! Real time: the demo's stores under a running controller with an edit a second, and two controllers on one state.
//!
//! Fifteen seconds by default. A minute: `TRUEUP_ENDURANCE_SECONDS=60 cargo test --test endurance`; ten: `TRUEUP_ENDURANCE_SECONDS=600`.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.
#![allow(clippy::float_cmp)] // Metrics that count are whole numbers.

#[path = "server/mod.rs"]
mod server;
#[path = "service_kit/mod.rs"]
mod service_kit;
#[path = "shell/mod.rs"]
mod shell;

use std::time::{Duration, Instant};

use service_kit::{Service, settled_with};
use shell::Place;

/// How much more memory may be in use at the end than after a third of the time.
const GROWTH: u64 = 16 << 20;

const EDITS: [(&str, &str); 4] = [
    (
        "app",
        "UPDATE people SET job_title = 'TEXT', updatedAt = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE id = '1001'",
    ),
    (
        "local",
        "UPDATE contacts SET remarks = 'TEXT', changed_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '-7 hours') WHERE contact_id = '1002'",
    ),
    (
        "warehouse",
        "UPDATE businesses SET industry = 'TEXT', updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE business_id = 'B002'",
    ),
    (
        "app",
        "UPDATE people SET notes = 'TEXT', updatedAt = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE id = '1010'",
    ),
];

#[test]
fn the_demo_stays_true_under_an_edit_a_second() {
    let seconds =
        std::env::var("TRUEUP_ENDURANCE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let place = Place::new();
    place.run(&["demo", "demo", "-auto-approve"], 0);
    let demo = place.inside("demo");
    let service = Service::start(&demo, &["--interval", "500ms"]);
    let began = Instant::now();
    let mut at_a_third = None;
    let mut number = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        let (store, edit) = EDITS[number % EDITS.len()];
        demo.sql(store, &edit.replace("TEXT", &format!("edit {number}")));
        number += 1;
        if at_a_third.is_none() && began.elapsed() > Duration::from_secs(seconds / 3) {
            at_a_third = Some(service.memory());
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(Duration::from_millis(20)));
    }
    let last: Vec<usize> = (0..EDITS.len())
        .map(|place| (0..number).rev().find(|made| made % EDITS.len() == place).unwrap())
        .collect();
    service.until("no drift", |service| {
        let metrics = service.metrics();
        let drift = metrics.iter().filter(|(name, _)| name.starts_with("trueup_drift_records{"));
        drift.map(|(_, value)| value).sum::<f64>() == 0.0
            && demo.text("local", "SELECT job FROM contacts WHERE contact_id = '1001'")
                == format!("edit {}", last[0])
    });
    // No edit is lost: the last one of each field is in all stores.
    let looks = [
        (last[0], "warehouse", "SELECT job_title FROM contacts_master WHERE contact_id = 1001"),
        (last[0], "local", "SELECT job FROM contacts WHERE contact_id = '1001'"),
        (last[1], "warehouse", "SELECT notes FROM contacts_master WHERE contact_id = 1002"),
        (last[1], "app", "SELECT notes FROM people WHERE id = '1002'"),
        (last[2], "app", "SELECT industry FROM companies WHERE id = 'B002'"),
        (last[2], "local", "SELECT branch FROM firms WHERE id = 'B002'"),
        (last[3], "warehouse", "SELECT notes FROM contacts_master WHERE contact_id = 1010"),
        (last[3], "local", "SELECT remarks FROM contacts WHERE contact_id = '1010'"),
    ];
    for (edit, store, query) in looks {
        service.until(query, |_| demo.text(store, query) == format!("edit {edit}"));
    }
    assert_eq!(service.metric("trueup_hint_queue_records"), 0.0);
    let (before, after) = (at_a_third.unwrap(), service.memory());
    println!("{number} edits; memory {} KiB at a third, {} KiB at the end", before / 1024, after / 1024);
    assert!(after < before + GROWTH, "memory grew from {before} to {after} bytes");
}

/// The demo goes on by itself when it is asked to.
#[test]
fn the_demo_is_served() {
    let place = Place::new();
    let args = ["demo", "demo", "-auto-approve", "--serve", "--listen", "127.0.0.1:0"];
    let mut service = Service::start_as(&place, &args);
    let demo = place.inside("demo");
    service.until("edits arrive everywhere", |_| {
        let job = "SELECT job_title FROM contacts_master WHERE contact_id = 1001";
        demo.text("warehouse", job).starts_with("baker, shift ")
    });
    assert!(service.metric("trueup_passes_total{result=\"clean\"}") >= 1.0);
    service.signal("-INT");
    assert_eq!(service.wait(), Some(0));
}

/// Two controllers with one state: one works, it is killed, the other takes over within the lease, and no edit is lost.
#[test]
fn another_controller_takes_over_when_one_is_killed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(server::database());
    let state = format!("{{postgres: {{url: \"{}\"}}}}", database.url);
    let place = settled_with("  interval: 300ms\n  lease: 3s\n  guards: {max_updates: 100%}\n", &state, 30);
    let mut one = Service::start(&place, &[]);
    let held = |service: &Service| service.metric("trueup_lease_held");
    one.until("the first one leads", |one| held(one) == 1.0);
    let two = Service::start(&place, &[]);
    two.until("the second one stands by", |two| two.get("/readyz", None).1.starts_with("standing by"));
    for number in 0..20 {
        let (store, id) = (["hub", "app", "local"][number % 3], number);
        place.sql(store, &format!("UPDATE things SET label = 'edit {number}' WHERE id = '{id}'"));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((held(&one), held(&two)), (1.0, 0.0), "one works");
    assert_eq!(two.metric("trueup_passes_total{result=\"clean\"}"), 0.0);
    one.kill();
    let killed = Instant::now();
    place.sql("app", "UPDATE things SET label = 'after the kill' WHERE id = '25'");
    two.until("the second one leads", |two| held(two) == 1.0);
    let took = killed.elapsed();
    println!("the other controller took over after {took:?}, with a lease of 3 s");
    // A third of the lease between two questions, and what a busy machine adds.
    assert!(took < Duration::from_secs(3 + 2 + 3), "{took:?}");
    let wrong = |at: &str| {
        place.text(
            at,
            "SELECT count(*) || '' FROM things WHERE label <> CASE WHEN id = '25' THEN 'after the kill' \
             WHEN CAST(id AS INTEGER) < 20 THEN 'edit ' || id ELSE 'label ' || id END",
        )
    };
    two.until("nothing is lost", |_| ["hub", "app", "local"].map(&wrong) == ["0"; 3]);

    // Both at once: the first comes back while the second works, and commands work beside them.
    let one = Service::start(&place, &[]);
    for number in 0..10 {
        place
            .sql("local", &format!("UPDATE things SET label = 'edit {number}, again' WHERE id = '{number}'"));
    }
    // Records that the controller brought up first are skipped by name, which the exit code says.
    let done = place.trueup(&["apply", "-auto-approve", "--lock-timeout", "20s"]).output().unwrap();
    assert!(matches!(done.status.code(), Some(0 | 1)), "{done:?}");
    let again = |at: &str| {
        place.text(at, "SELECT count(*) || '' FROM things WHERE CAST(id AS INTEGER) < 10 AND label <> 'edit ' || id || ', again'")
    };
    two.until("nothing is lost", |_| ["hub", "app", "local"].map(&again) == ["0"; 3]);
    assert_eq!((held(&one), held(&two)), (0.0, 1.0));
}
