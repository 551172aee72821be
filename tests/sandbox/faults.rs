//! Faults on request, and edits from inside the process.

use std::time::Duration;

use serde_json::json;
use trueup::sandbox::{Calls, Fault, Options, Refused};

use super::harness::{KEY, Twenty, uuid};

#[tokio::test]
async fn a_server_that_is_down_drops_the_connection_and_does_nothing() {
    let twenty = Twenty::local();
    twenty.inside().faults().add(Calls::all().times(2), Fault::Down);
    for _ in 0..2 {
        assert!(twenty.try_call("POST", "/rest/people", Some(&json!({}))).await.is_err());
    }
    assert_eq!(twenty.inside().faults().hits(), 2);
    assert_eq!(twenty.get("/rest/people").await.1["totalCount"], 0);
    assert!(
        twenty.inside().calls().iter().all(|call| call.method == "GET"),
        "what was dropped was not answered"
    );
}

#[tokio::test]
async fn a_slow_server_acts_after_the_client_has_left() {
    let twenty = Twenty::local();
    twenty.inside().faults().add(Calls::all().times(1), Fault::Slow(Duration::from_millis(150)));
    let started = std::time::Instant::now();
    assert_eq!(twenty.post("/rest/people", json!({})).await.0, 201);
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_status_is_answered_in_the_servers_place() {
    let twenty = Twenty::local();
    let faults = twenty.inside().faults();
    faults.add(Calls::all().method("POST").path("/rest/people").times(1), Fault::Status(500));
    assert_eq!(twenty.get("/rest/people").await.0, 200);
    assert_eq!(twenty.post("/rest/people", json!({})).await.0, 500);
    assert_eq!(twenty.get("/rest/people").await.1["totalCount"], 0);
    assert_eq!(twenty.post("/rest/people", json!({})).await.0, 201);
}

#[tokio::test]
async fn a_limit_can_be_reached_at_any_time() {
    let twenty = Twenty::local();
    twenty.inside().faults().add(Calls::all().skip(1).times(2), Fault::Limited);
    assert_eq!(twenty.get("/rest/people").await.0, 200);
    assert_eq!(twenty.get("/rest/people").await.0, 429);
    let (status, answer) = twenty.graphql("{ people { totalCount } }", json!({})).await;
    assert_eq!((status, &answer["errors"][0]["extensions"]["subCode"]), (200, &json!("LIMIT_REACHED")));
    assert_eq!(twenty.get("/rest/people").await.0, 200);
}

#[tokio::test]
async fn errors_can_come_with_200() {
    let twenty = Twenty::local();
    twenty.inside().faults().add(Calls::all().body("totalCount"), Fault::Errors("broken".to_owned()));
    let (status, answer) = twenty.graphql("{ people { totalCount } }", json!({})).await;
    assert_eq!((status, &answer["errors"][0]["message"]), (200, &json!("broken")));
    assert_eq!(twenty.graphql("{ people { edges { cursor } } }", json!({})).await.1["errors"], json!(null));
    twenty.inside().faults().clear();
    assert_eq!(
        twenty.graphql("{ people { totalCount } }", json!({})).await.1["data"]["people"]["totalCount"],
        0
    );
}

#[tokio::test]
async fn the_answer_of_a_create_can_be_lost() {
    let twenty = Twenty::local();
    let id = uuid();
    twenty.inside().faults().add(Calls::all().method("POST").times(1), Fault::LoseAnswer);
    assert!(twenty.try_call("POST", "/rest/people", Some(&json!({"id": id}))).await.is_err());
    assert_eq!(twenty.read(&json!(id)).await["id"], id.as_str(), "it was created all the same");
}

#[tokio::test]
async fn a_page_can_change_under_its_reader() {
    let twenty = Twenty::local();
    let ids: Vec<String> = (1..=4).map(|at| format!("{at}0000000-0000-4000-8000-000000000000")).collect();
    for id in &ids {
        twenty.person(json!({"id": id})).await;
    }
    let gone = ids[0].clone();
    let edit = Fault::then(move |editor| editor.destroy("people", &gone).unwrap());
    twenty.inside().faults().add(Calls::all().path("/graphql").times(1), edit);
    let query = "query P($after: String) { people(first: 2, after: $after) { edges { node { id } } totalCount pageInfo { endCursor } } }";
    let (_, one) = twenty.graphql(query, json!({})).await;
    assert_eq!(one["data"]["people"]["totalCount"], 4);
    let after = one["data"]["people"]["pageInfo"]["endCursor"].clone();
    let (_, two) = twenty.graphql(query, json!({"after": after})).await;
    assert_eq!(two["data"]["people"]["totalCount"], 3, "the count moved");
    assert_eq!(two["data"]["people"]["edges"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn edits_from_inside_cost_no_call_and_obey_the_same_rules() {
    let twenty = Twenty::local();
    let sandbox = twenty.inside();
    let made = sandbox.edit(|editor| editor.create("people", &json!({"jobTitle": "Baker"}))).unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    let changed = sandbox.edit(|editor| editor.patch("people", &id, &json!({"jobTitle": "Miller"}))).unwrap();
    assert_eq!(changed["jobTitle"], "Miller");
    let refused = sandbox.edit(|editor| editor.patch("people", &id, &json!({"city": "Basel"}))).unwrap_err();
    assert_eq!(refused.status, 400);
    sandbox.edit(|editor| editor.soft_delete("people", &id)).unwrap();
    assert_eq!(sandbox.edit(|editor| editor.all("people")).unwrap().len(), 0);
    assert_eq!(sandbox.edit(|editor| editor.deleted("people")).unwrap().len(), 1);
    sandbox.edit(|editor| editor.patch("people", &id, &json!({"deletedAt": null}))).unwrap();
    assert!(sandbox.calls().is_empty());
    sandbox.edit(|editor| editor.destroy("people", &id)).unwrap();
    let gone = sandbox.edit(|editor| editor.destroy("people", &id)).unwrap_err();
    assert_eq!(gone, Refused { status: 404, message: "Record not found".to_owned() });
}

#[tokio::test]
async fn a_custom_field_can_be_taken_away() {
    let twenty = Twenty::local();
    twenty.field("person", "contactId", json!({"type": "TEXT", "isUnique": true})).await;
    twenty.field("person", "work", json!({"type": "PHONES"})).await;
    let person = twenty.person(json!({"contactId": "C1", "jobTitle": "Baker"})).await;
    for name in ["contactId", "work"] {
        twenty.inside().edit(|editor| editor.drop_field("person", name)).unwrap();
    }
    let read = twenty.read(&person["id"]).await;
    assert!(read.get("contactId").is_none() && read.get("work").is_none());
    assert_eq!(read["jobTitle"], "Baker");
    assert_eq!(twenty.refused(&person["id"], json!({"contactId": "C2"})).await.0, 400);
    let (_, answer) = twenty.graphql("{ people { edges { node { contactId } } } }", json!({})).await;
    assert_eq!(answer["data"]["people"]["edges"][0]["node"]["contactId"], json!(null), "null, and no error");
}

#[tokio::test]
async fn a_stopped_sandbox_comes_back_on_its_port_with_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { data: Some(folder.path().join("twenty.db")), ..Options::new(KEY) };
    let twenty = Twenty::with(options.clone());
    twenty.field("person", "contactId", json!({"type": "TEXT", "isUnique": true})).await;
    let person = twenty.person(json!({"contactId": "C1", "emails": {"primaryEmail": "a@example.com"}})).await;
    let hook = json!({"targetUrl": "http://127.0.0.1:9/", "operations": ["person.*"], "secret": "s"});
    assert_eq!(twenty.post("/rest/metadata/webhooks", hook).await.0, 201);
    let objects = twenty.objects().await;
    let port = twenty.inside().address().port();
    drop(twenty);
    assert!(reqwest::get(format!("http://127.0.0.1:{port}/rest/people")).await.is_err());
    let twenty = Twenty::with(Options { port, ..options });
    assert_eq!(twenty.inside().address().port(), port);
    assert_eq!(twenty.read(&person["id"]).await, person);
    assert_eq!(twenty.objects().await, objects);
    let twin = json!({"contactId": "C1"});
    assert_eq!(twenty.post("/rest/people", twin).await.0, 400);
}

#[test]
fn a_port_that_is_taken_and_a_file_that_is_none_are_named() {
    let first = trueup::sandbox::Sandbox::start(Options::new(KEY)).unwrap();
    let port = first.address().port();
    let taken = trueup::sandbox::Sandbox::start(Options { port, ..Options::new(KEY) }).unwrap_err();
    assert!(taken.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{taken}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "not a database, but long enough to be looked at as if it were one").unwrap();
    let wrong = trueup::sandbox::Sandbox::start(Options { data: Some(file.clone()), ..Options::new(KEY) })
        .unwrap_err();
    assert!(wrong.contains(&file.display().to_string()), "{wrong}");
    assert!(trueup::sandbox::Sandbox::start(Options::new("")).is_err());
}
