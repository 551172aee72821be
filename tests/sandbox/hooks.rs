//! Webhooks: what is sent, when, and that nobody tries again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use trueup::sandbox::{Clock, Options};

use super::harness::{Twenty, email, roomy};

const SECRET: &str = "secret-of-the-hook";

type Got = (HeaderMap, Vec<u8>);

#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<Got>>>,
    hangs: bool,
    status: u16,
}

/// A receiver on loopback; it goes with the test's runtime.
async fn receiver(receiver: Receiver) -> (Receiver, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().fallback(take).with_state(receiver.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (receiver, url)
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    receiver.got.lock().unwrap().push((headers, body.to_vec()));
    if receiver.hangs {
        std::future::pending::<()>().await;
    }
    StatusCode::from_u16(receiver.status).unwrap_or(StatusCode::OK)
}

impl Receiver {
    /// What arrived, as JSON, and forgets it.
    fn taken(&self) -> Vec<Value> {
        let got = std::mem::take(&mut *self.got.lock().unwrap());
        got.iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }
}

async fn hooked(operations: Value) -> (Twenty, Receiver, String) {
    let twenty = Twenty::local();
    let (receiver, url) = receiver(Receiver::default()).await;
    let id = register(&twenty, &url, operations).await;
    (twenty, receiver, id)
}

async fn register(twenty: &Twenty, url: &str, operations: Value) -> String {
    let body = json!({"targetUrl": url, "operations": operations, "secret": SECRET});
    let (status, answer) = twenty.post("/rest/metadata/webhooks", body).await;
    assert_eq!(status, 201, "{answer}");
    answer["data"]["createWebhook"]["id"].as_str().unwrap().to_owned()
}

async fn arrived(twenty: &Twenty, receiver: &Receiver) -> Vec<Value> {
    twenty.inside().webhooks_settled().await;
    receiver.taken()
}

fn names(events: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> = events.iter().map(|event| event["eventName"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn every_kind_of_event_is_sent() {
    let (twenty, receiver, _) = hooked(json!(["person.*"])).await;
    let person = twenty.person(json!({})).await;
    let path = format!("/rest/people/{}", person["id"].as_str().unwrap());
    assert_eq!(names(&arrived(&twenty, &receiver).await), ["person.created"]);
    twenty.patch(&path, json!({"jobTitle": "Baker"})).await;
    assert_eq!(names(&arrived(&twenty, &receiver).await), ["person.updated"]);
    twenty.delete(&format!("{path}?soft_delete=true")).await;
    assert_eq!(names(&arrived(&twenty, &receiver).await), ["person.deleted"]);
    twenty.patch(&path, json!({"deletedAt": null})).await;
    assert_eq!(names(&arrived(&twenty, &receiver).await), ["person.restored"]);
    twenty.delete(&path).await;
    assert_eq!(names(&arrived(&twenty, &receiver).await), ["person.destroyed"]);
    twenty.create("companies", json!({"name": "not asked for"})).await;
    assert!(arrived(&twenty, &receiver).await.is_empty());
}

#[tokio::test]
async fn there_is_one_post_a_record() {
    let (twenty, receiver, _) = hooked(json!(["person.created"])).await;
    let bodies: Vec<Value> = (0..50).map(|_| json!({})).collect();
    twenty.post("/rest/batch/people", json!(bodies)).await;
    let events = arrived(&twenty, &receiver).await;
    let ids: BTreeMap<&str, usize> =
        events.iter().map(|event| (event["record"]["id"].as_str().unwrap(), 1)).collect();
    assert_eq!((events.len(), ids.len()), (50, 50));
}

#[tokio::test]
async fn a_body_says_what_happened_to_which_record() {
    let (clock, _) = Clock::manual(1_700_000_000_000);
    let twenty = Twenty::with(Options { clock, ..roomy() });
    let (receiver, url) = receiver(Receiver::default()).await;
    let webhook = register(&twenty, &url, json!(["person.*"])).await;
    let person = twenty.person(json!({"jobTitle": "Baker"})).await;
    let object = twenty.object("person").await["id"].clone();
    let made = arrived(&twenty, &receiver).await.pop().unwrap();
    let workspace = made["workspaceId"].clone();
    assert!(workspace.is_string());
    let expected = json!({
        "targetUrl": url, "eventName": "person.created", "objectMetadata": {"id": object, "nameSingular": "person"},
        "workspaceId": workspace, "webhookId": webhook, "eventDate": "2023-11-14T22:13:20.000Z", "record": person,
    });
    assert_eq!(made, expected);
    let changes =
        json!({"jobTitle": "Miller", "emails": {"primaryEmail": email()}, "name": {"firstName": ""}});
    let changed = twenty.change(&person["id"], changes).await;
    let event = arrived(&twenty, &receiver).await.pop().unwrap();
    assert_eq!(event["record"], changed);
    assert_eq!(event["updatedFields"], json!(["emails", "jobTitle"]), "what changed, and nothing else");
}

#[tokio::test]
async fn a_body_is_signed_with_the_time() {
    let (twenty, receiver, _) = hooked(json!(["*.*"])).await;
    twenty.person(json!({})).await;
    twenty.person(json!({})).await;
    twenty.inside().webhooks_settled().await;
    let got = std::mem::take(&mut *receiver.got.lock().unwrap());
    let mut nonces = Vec::new();
    for (headers, body) in &got {
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        let timestamp = header("x-twenty-webhook-timestamp");
        assert!(timestamp.parse::<i64>().unwrap() > 1_700_000_000_000, "milliseconds");
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{timestamp}:").as_bytes());
        mac.update(body);
        let expected = format!("{:x}", mac.finalize().into_bytes());
        assert_eq!(header("x-twenty-webhook-signature"), expected);
        assert_eq!(header("content-type"), "application/json");
        nonces.push(header("x-twenty-webhook-nonce"));
    }
    assert_eq!(nonces.len(), 2);
    assert_ne!(nonces[0], nonces[1]);
}

#[tokio::test]
async fn deliveries_come_in_no_order() {
    let (twenty, receiver, _) = hooked(json!(["person.created"])).await;
    let bodies: Vec<Value> = (0..100).map(|_| json!({})).collect();
    twenty.post("/rest/batch/people", json!(bodies)).await;
    let events = arrived(&twenty, &receiver).await;
    let positions: Vec<f64> =
        events.iter().map(|event| event["record"]["position"].as_f64().unwrap()).collect();
    assert_eq!(positions.len(), 100);
    assert!(!positions.is_sorted(), "created one after the other, and told of otherwise");
}

#[tokio::test]
async fn a_failed_delivery_is_not_tried_again() {
    let twenty = Twenty::local();
    let (failing, url) = receiver(Receiver { status: 500, ..Receiver::default() }).await;
    register(&twenty, &url, json!(["person.*"])).await;
    register(&twenty, "http://127.0.0.1:9/nobody", json!(["person.*"])).await;
    twenty.person(json!({})).await;
    assert_eq!(arrived(&twenty, &failing).await.len(), 1);
    twenty.person(json!({})).await;
    assert_eq!(arrived(&twenty, &failing).await.len(), 1);
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up_and_holds_nobody_up() {
    assert_eq!(Options::new("key").webhook_timeout, Duration::from_secs(5));
    let twenty = Twenty::with(Options { webhook_timeout: Duration::from_millis(50), ..roomy() });
    let (hanging, slow) = receiver(Receiver { hangs: true, ..Receiver::default() }).await;
    let (quick, url) = receiver(Receiver::default()).await;
    register(&twenty, &slow, json!(["person.*"])).await;
    register(&twenty, &url, json!(["person.*"])).await;
    twenty.person(json!({})).await;
    assert_eq!(arrived(&twenty, &quick).await.len(), 1);
    assert_eq!(hanging.taken().len(), 1, "once, and not again");
}

#[tokio::test]
async fn a_patch_that_changes_nothing_fires_none() {
    let (twenty, receiver, _) = hooked(json!(["person.updated"])).await;
    let address = email();
    let body = json!({"jobTitle": "Baker", "emails": {"primaryEmail": address}});
    let person = twenty.person(body.clone()).await;
    for body in
        [json!({}), body, json!({"emails": {"primaryEmail": address.to_uppercase()}}), json!({"name": null})]
    {
        twenty.change(&person["id"], body).await;
    }
    assert!(arrived(&twenty, &receiver).await.is_empty());
    twenty.change(&person["id"], json!({"jobTitle": "Miller"})).await;
    assert_eq!(arrived(&twenty, &receiver).await.len(), 1);
}

#[tokio::test]
async fn what_is_refused_fires_none() {
    let (twenty, receiver, _) = hooked(json!(["*.*"])).await;
    let address = email();
    twenty.person(json!({"emails": {"primaryEmail": address}})).await;
    arrived(&twenty, &receiver).await;
    let batch = json!([{}, {"emails": {"primaryEmail": address}}]);
    assert_eq!(twenty.post("/rest/batch/people", batch).await.0, 400);
    assert!(arrived(&twenty, &receiver).await.is_empty());
}

#[tokio::test]
async fn a_webhook_has_to_make_sense() {
    let twenty = Twenty::local();
    let good = json!({"targetUrl": "http://127.0.0.1:9/", "operations": ["person.*"], "secret": "s"});
    for (key, bad) in [
        ("targetUrl", json!("ftp://example.com")),
        ("targetUrl", Value::Null),
        ("operations", json!([])),
        ("operations", json!("person.*")),
        ("operations", json!(["robot.*"])),
        ("operations", json!(["person.renamed"])),
        ("operations", json!(["person"])),
        ("secret", json!("")),
        ("more", json!(1)),
    ] {
        let mut body = good.clone();
        body[key] = bad;
        assert_eq!(twenty.post("/rest/metadata/webhooks", body.clone()).await.0, 400, "{body}");
    }
    assert_eq!(twenty.post("/rest/metadata/webhooks", good).await.0, 201);
}
