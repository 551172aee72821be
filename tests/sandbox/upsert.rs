//! Upserts, which find more than they are asked for.

use serde_json::{Value, json};

use super::harness::{Twenty, email, message, uuid};

async fn with_key() -> Twenty {
    let twenty = Twenty::any();
    twenty.field("person", "trueupKey", json!({"type": "TEXT", "isUnique": true})).await;
    twenty
}

async fn upsert(twenty: &Twenty, body: Value) -> Value {
    let (status, answer) = twenty.post("/rest/people?upsert=true", body).await;
    assert_eq!(status, 201, "{answer}");
    let person = answer["data"]["createPerson"].clone();
    twenty.remember("people", person["id"].as_str().unwrap());
    person
}

#[tokio::test]
async fn an_upsert_matches_on_id() {
    let twenty = Twenty::any();
    let id = uuid();
    let made = upsert(&twenty, json!({"id": id, "jobTitle": "Baker", "name": {"firstName": "Ada"}})).await;
    assert_eq!(made["id"], id.as_str());
    let changed = upsert(&twenty, json!({"id": id, "jobTitle": "Miller"})).await;
    assert_eq!((&changed["id"], &changed["jobTitle"]), (&json!(id), &json!("Miller")));
    assert_eq!(changed["name"]["firstName"], "Ada", "what is not named stays");
    twenty.clean().await;
}

#[tokio::test]
async fn an_upsert_matches_on_any_unique_index() {
    let twenty = with_key().await;
    let (email, key) = (email(), uuid());
    let owner = twenty.person(json!({"emails": {"primaryEmail": email}, "trueupKey": key})).await;
    let by_key = upsert(&twenty, json!({"trueupKey": key, "jobTitle": "by key"})).await;
    assert_eq!((&by_key["id"], &by_key["jobTitle"]), (&owner["id"], &json!("by key")));
    let by_email =
        upsert(&twenty, json!({"emails": {"primaryEmail": email.to_uppercase()}, "jobTitle": "by email"}))
            .await;
    assert_eq!((&by_email["id"], &by_email["jobTitle"]), (&owner["id"], &json!("by email")));
    twenty.clean().await;
}

#[tokio::test]
async fn an_upsert_takes_over_who_holds_the_email() {
    let twenty = with_key().await;
    let (email, old, new) = (email(), uuid(), uuid());
    let owner = twenty.person(json!({"emails": {"primaryEmail": email}, "trueupKey": old})).await;
    let hijacked =
        upsert(&twenty, json!({"id": uuid(), "trueupKey": new, "emails": {"primaryEmail": email}})).await;
    assert_eq!(hijacked["id"], owner["id"]);
    assert_eq!(twenty.read(&owner["id"]).await["trueupKey"], new.as_str(), "the old key is gone");
    twenty.clean().await;
}

#[tokio::test]
async fn an_upsert_finds_soft_deleted_rows_and_brings_them_back() {
    let twenty = Twenty::any();
    let email = email();
    let person = twenty.person(json!({"emails": {"primaryEmail": email}})).await;
    twenty.delete(&format!("/rest/people/{}?soft_delete=true", person["id"].as_str().unwrap())).await;
    let (status, answer) = twenty.post("/rest/people", json!({"emails": {"primaryEmail": email}})).await;
    assert_eq!(
        (status, message(&answer).as_str()),
        (400, "A duplicate entry was detected"),
        "it still holds the email"
    );
    let back = upsert(&twenty, json!({"emails": {"primaryEmail": email}, "jobTitle": "back"})).await;
    assert_eq!((&back["id"], &back["deletedAt"]), (&person["id"], &Value::Null));
    assert_eq!(twenty.read(&person["id"]).await["jobTitle"], "back");
    twenty.clean().await;
}

#[tokio::test]
async fn a_batch_upsert_is_not_atomic() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({"jobTitle": "before"})).await;
    let twice = email();
    let new = [uuid(), uuid()];
    let bodies = json!([
        {"id": person["id"], "jobTitle": "after"},
        {"id": new[0], "emails": {"primaryEmail": twice}},
        {"id": new[1], "emails": {"primaryEmail": twice}},
    ]);
    let (status, answer) = twenty.post("/rest/batch/people?upsert=true", bodies).await;
    assert_eq!((status, message(&answer).as_str()), (400, "A duplicate entry was detected"));
    assert_eq!(twenty.read(&person["id"]).await["jobTitle"], "after", "the update stays");
    for id in new {
        assert_eq!(twenty.get(&format!("/rest/people/{id}")).await.0, 404);
    }
    twenty.clean().await;
}

#[tokio::test]
async fn a_batch_upsert_does_not_answer_in_order() {
    let twenty = Twenty::any();
    let old = twenty.person(json!({"jobTitle": "old"})).await;
    let new = uuid();
    let bodies = json!([{"id": new, "jobTitle": "new"}, {"id": old["id"], "jobTitle": "changed"}]);
    let (status, answer) = twenty.post("/rest/batch/people?upsert=true", bodies).await;
    assert_eq!(status, 201);
    twenty.remember("people", &new);
    let rows = answer["data"]["createPeople"].as_array().unwrap();
    let ids: Vec<&Value> = rows.iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, [&old["id"], &json!(new)], "not as they were asked for");
    twenty.clean().await;
}

#[tokio::test]
async fn differing_data_is_updated_in_a_batch_only_by_upsert() {
    let twenty = Twenty::any();
    let ids = [twenty.person(json!({})).await["id"].clone(), twenty.person(json!({})).await["id"].clone()];
    let bodies = json!([{"id": ids[0], "jobTitle": "a"}, {"id": ids[1], "jobTitle": "b"}]);
    let (status, _) = twenty.post("/rest/batch/people?upsert=true", bodies.clone()).await;
    assert_eq!(status, 201);
    assert_eq!(twenty.read(&ids[0]).await["jobTitle"], "a");
    assert_eq!(twenty.read(&ids[1]).await["jobTitle"], "b");
    let (status, _) = twenty.patch("/rest/batch/people", bodies).await;
    assert!(twenty.sandbox.is_none() || status >= 400);
    twenty.clean().await;
}

#[tokio::test]
async fn an_upsert_that_means_two_records_is_refused() {
    let twenty = Twenty::local();
    let (one, two) = (twenty.person(json!({})).await, email());
    twenty.person(json!({"emails": {"primaryEmail": two}})).await;
    let body = json!({"id": one["id"], "emails": {"primaryEmail": two}});
    assert_eq!(twenty.post("/rest/people?upsert=true", body).await.0, 400);
    assert_eq!(twenty.read(&one["id"]).await, one);
}
