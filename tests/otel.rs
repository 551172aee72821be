//! Spans reach a collector. Run with the feature: `cargo test --features otel --test otel`.
#![cfg(feature = "otel")]
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "service_kit/mod.rs"]
mod service_kit;
#[path = "shell/mod.rs"]
mod shell;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use service_kit::settled;

type Received = Arc<Mutex<Vec<u8>>>;

async fn take(State(received): State<Received>, body: Bytes) {
    received.lock().unwrap().extend_from_slice(&body);
}

/// What a collector got while a command ran, as far as it is text.
fn collected(run: impl FnOnce(&str)) -> String {
    let received = Received::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&received));
    runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
    run(&format!("http://{address}"));
    let received = received.lock().unwrap();
    String::from_utf8_lossy(&received).into_owned()
}

#[test]
fn a_collector_gets_the_spans_of_a_pass_and_no_value_of_a_record() {
    let place = settled("", 12);
    place.sql("app", "UPDATE things SET label = 'said in app', secret_note = 'hush hush' WHERE id = '3'");
    let spans = collected(|collector| {
        let mut command = place.trueup(&["run", "--once"]);
        let done = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    });
    for name in ["trueup", "pass", "batch", "things", "hub", "local"] {
        assert!(spans.contains(name), "no {name} in {spans:?}");
    }
    for value in ["said in app", "hush"] {
        assert!(!spans.contains(value), "{value} in {spans:?}");
    }
    assert_eq!(place.text("local", "SELECT label FROM things WHERE id = '3'"), "said in app");
}

#[test]
fn a_collector_that_is_not_there_holds_nothing_up() {
    let place = settled("", 12);
    place.sql("app", "UPDATE things SET label = 'said in app' WHERE id = '3'");
    let mut command = place.trueup(&["run", "--once"]);
    let done = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(place.text("local", "SELECT label FROM things WHERE id = '3'"), "said in app");
}
