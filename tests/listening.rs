//! Postgres says what changed, by triggers that `migrate` makes, and `run` listens.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.
#![allow(clippy::float_cmp)] // Metrics that count are whole numbers.

#[path = "server/mod.rs"]
mod server;
#[path = "service_kit/mod.rs"]
mod service_kit;
#[path = "shell/mod.rs"]
mod shell;

use service_kit::{MANIFESTS, Service};
use shell::Place;

#[test]
fn a_notification_brings_a_record_everywhere() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(server::database());
    let text = MANIFESTS
        .replace("CONTROLLER", "  interval: 1h\n  triggers: {debounce: 50ms, notify: [app]}\n")
        .replace("STATE", "{sqlite: ../state.db}")
        .replace("sqlite: {path: ../stores/app.db}", &format!("postgres: {{url: \"{}\"}}", database.url));
    let place = Place::with(&text);
    let steps = place.run(&["migrate", "-auto-approve"], 0);
    assert!(steps.contains("_note"), "{steps}");
    assert!(!place.run(&["migrate", "-auto-approve"], 0).contains("_note"), "once is enough");
    place.sql("hub", "INSERT INTO things (id, label) VALUES ('1', 'one'), ('2', 'two')");
    place.run(&["apply", "-auto-approve"], 0);
    let service = Service::start(&place, &[]);
    // Listening begins with a look at whatever happened before.
    service.until("it listens", |service| {
        let passes = ["clean", "incomplete"]
            .map(|result| service.metric(&format!("trueup_passes_total{{result=\"{result}\"}}")));
        passes.iter().sum::<f64>() >= 2.0
    });
    let looks = service.metric("trueup_looks_total{result=\"alone\"}");
    runtime.block_on(database.sql("UPDATE things SET label = 'from Postgres' WHERE id = '2'"));
    service.until("the edit is everywhere", |_| {
        ["hub", "local"].map(|at| place.text(at, "SELECT label FROM things WHERE id = '2'"))
            == ["from Postgres"; 2]
    });
    assert_eq!(
        service.metric("trueup_hints_total{result=\"taken\"}"),
        1.0,
        "trueup's own writes are no hints"
    );
    assert_eq!(service.metric("trueup_looks_total{result=\"alone\"}"), looks + 1.0);
}
