//! REST core: statuses and shapes, batches, ids and times, errors.

use serde_json::{Value, json};
use trueup::sandbox::{Clock, Options};

use super::harness::{Twenty, email, encoded, message, roomy, uuid};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_missing_key_is_403_and_a_bad_one_401() {
    let twenty = Twenty::any();
    for path in ["/rest/people", "/rest/metadata/objects"] {
        let url = format!("{}{path}", twenty.url);
        assert_eq!(twenty.client.get(&url).send().await.unwrap().status(), 403, "{path}");
        let bad = twenty.client.get(&url).bearer_auth("another").send().await.unwrap();
        assert_eq!(bad.status(), 401, "{path}");
    }
}

#[tokio::test]
async fn a_listing_has_data_total_count_and_page_info() {
    let twenty = Twenty::any();
    let id = twenty.person(json!({})).await["id"].clone();
    let (status, answer) = twenty
        .get(&format!("/rest/people?filter={}", encoded(&format!("id[eq]:{}", id.as_str().unwrap()))))
        .await;
    assert_eq!(status, 200);
    assert_eq!(keys(&answer), ["data", "pageInfo", "totalCount"]);
    assert_eq!(answer["totalCount"], 1);
    assert_eq!(answer["data"]["people"][0]["id"], id);
    assert_eq!(keys(&answer["pageInfo"]), ["endCursor", "hasNextPage", "hasPreviousPage", "startCursor"]);
    assert_eq!(answer["pageInfo"]["hasNextPage"], false);
    assert_eq!(answer["pageInfo"]["hasPreviousPage"], false);
    assert_eq!(answer["pageInfo"]["startCursor"], answer["pageInfo"]["endCursor"]);
    twenty.clean().await;
}

#[tokio::test]
async fn a_record_is_read_by_id_and_404_when_soft_deleted() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({"jobTitle": "Baker"})).await;
    assert_eq!(twenty.read(&person["id"]).await, person);
    let path = format!("/rest/people/{}", person["id"].as_str().unwrap());
    assert_eq!(twenty.delete(&format!("{path}?soft_delete=true")).await.0, 200);
    let (status, answer) = twenty.get(&path).await;
    assert_eq!(status, 404, "{answer}");
    assert_eq!(twenty.get(&format!("/rest/people/{}", uuid())).await.0, 404);
    twenty.clean().await;
}

#[tokio::test]
async fn a_create_is_201_with_create_person() {
    let twenty = Twenty::any();
    let id = uuid();
    let (status, answer) = twenty.post("/rest/people", json!({"id": id, "jobTitle": "Baker"})).await;
    assert_eq!(status, 201);
    assert_eq!(keys(&answer), ["data"]);
    assert_eq!(answer["data"]["createPerson"]["id"], id.as_str());
    assert_eq!(answer["data"]["createPerson"]["jobTitle"], "Baker");
    twenty.remember("people", &id);
    let (status, answer) = twenty.post("/rest/companies", json!({"name": "Bakery"})).await;
    assert_eq!(status, 201);
    twenty.remember("companies", answer["data"]["createCompany"]["id"].as_str().unwrap());
    twenty.clean().await;
}

#[tokio::test]
async fn a_batch_is_a_bare_array_and_201_with_create_people() {
    let twenty = Twenty::any();
    let ids = [uuid(), uuid()];
    let bodies = json!([{"id": ids[1], "jobTitle": "1"}, {"id": ids[0], "jobTitle": "0"}]);
    let (status, answer) = twenty.post("/rest/batch/people", bodies).await;
    assert_eq!(status, 201, "{answer}");
    for id in &ids {
        twenty.remember("people", id);
    }
    let made = answer["data"]["createPeople"].as_array().unwrap();
    assert_eq!(made.len(), 2);
    for person in made {
        let at: usize = person["jobTitle"].as_str().unwrap().parse().unwrap();
        assert_eq!(person["id"], ids[at].as_str(), "whatever the order, each is itself");
    }
    let wrapped = json!({"people": [{"jobTitle": "x"}]});
    assert_eq!(twenty.post("/rest/batch/people", wrapped).await.0, 400);
    twenty.clean().await;
}

#[tokio::test]
async fn a_batch_holds_200_and_no_more() {
    let twenty = Twenty::any();
    let ids: Vec<String> = (0..201).map(|_| uuid()).collect();
    let bodies: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
    let (status, answer) = twenty.post("/rest/batch/people", json!(bodies)).await;
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = twenty.post("/rest/batch/people", json!(bodies[..200])).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(answer["data"]["createPeople"].as_array().unwrap().len(), 200);
    for some in ids[..200].chunks(100) {
        let filter = encoded(&format!("id[in]:[{}]", some.join(",")));
        assert_eq!(twenty.delete(&format!("/rest/people?filter={filter}")).await.0, 200);
    }
}

#[tokio::test]
async fn a_patch_is_200_with_update_person() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({"jobTitle": "Baker", "name": {"firstName": "Ada"}})).await;
    let path = format!("/rest/people/{}", person["id"].as_str().unwrap());
    let (status, answer) = twenty.patch(&path, json!({"jobTitle": "Miller"})).await;
    assert_eq!(status, 200);
    assert_eq!(answer["data"]["updatePerson"]["jobTitle"], "Miller");
    assert_eq!(answer["data"]["updatePerson"]["name"]["firstName"], "Ada");
    let nobody = format!("/rest/people/{}", uuid());
    assert_eq!(twenty.patch(&nobody, json!({"jobTitle": "Miller"})).await.0, 404);
    twenty.clean().await;
}

#[tokio::test]
async fn a_delete_destroys_unless_it_is_soft() {
    let twenty = Twenty::any();
    let (gone, marked) = (twenty.person(json!({})).await, twenty.person(json!({})).await);
    let path = |person: &Value| format!("/rest/people/{}", person["id"].as_str().unwrap());
    assert_eq!(twenty.delete(&path(&gone)).await.0, 200);
    assert_eq!(twenty.delete(&format!("{}?soft_delete=true", path(&marked))).await.0, 200);
    let filter = |person: &Value| format!("id[eq]:{},deletedAt[is]:NOT_NULL", person["id"].as_str().unwrap());
    assert!(twenty.found("people", &filter(&gone)).await.is_empty());
    assert_eq!(twenty.found("people", &filter(&marked)).await.len(), 1);
    assert_eq!(twenty.delete(&path(&marked)).await.0, 200, "what is marked can be destroyed");
    assert!(twenty.found("people", &filter(&marked)).await.is_empty());
    assert_eq!(twenty.delete(&path(&gone)).await.0, 404);
}

#[tokio::test]
async fn a_delete_by_filter_has_no_row_cap() {
    let twenty = Twenty::local();
    for _ in 0..2 {
        let bodies: Vec<Value> = (0..200).map(|_| json!({"jobTitle": "Baker"})).collect();
        assert_eq!(twenty.post("/rest/batch/people", json!(bodies)).await.0, 201);
    }
    let kept = twenty.person(json!({"jobTitle": "Miller"})).await;
    let (status, answer) =
        twenty.delete(&format!("/rest/people?filter={}", encoded("jobTitle[eq]:Baker"))).await;
    assert_eq!(status, 200);
    assert_eq!(answer["data"]["destroyPeople"].as_array().unwrap().len(), 400);
    let (_, answer) = twenty.get("/rest/people").await;
    assert_eq!(answer["totalCount"], 1);
    assert_eq!(answer["data"]["people"][0]["id"], kept["id"]);
    assert_eq!(twenty.delete("/rest/people").await.0, 400, "without a filter it is refused");
}

#[tokio::test]
async fn a_limit_is_60_unless_told_and_silently_clamped_to_200() {
    let twenty = Twenty::local();
    for _ in 0..2 {
        let bodies: Vec<Value> = (0..150).map(|_| json!({})).collect();
        assert_eq!(twenty.post("/rest/batch/people", json!(bodies)).await.0, 201);
    }
    for (query, expected) in [("", 60), ("?limit=5", 5), ("?limit=200", 200), ("?limit=1000", 200)] {
        let (status, answer) = twenty.get(&format!("/rest/people{query}")).await;
        assert_eq!(status, 200);
        assert_eq!(answer["data"]["people"].as_array().unwrap().len(), expected, "{query}");
        assert_eq!(answer["pageInfo"]["hasNextPage"], true);
        assert_eq!(answer["totalCount"], 300);
    }
}

#[tokio::test]
async fn depth_is_0_or_1() {
    let twenty = Twenty::any();
    let company = twenty.create("companies", json!({"name": "Bakery"})).await;
    let person = twenty.person(json!({"companyId": company["id"]})).await;
    let path = format!("/rest/people/{}", person["id"].as_str().unwrap());
    let (_, plain) = twenty.get(&format!("{path}?depth=0")).await;
    assert_eq!(plain["data"]["person"]["companyId"], company["id"]);
    assert!(plain["data"]["person"]["company"].is_null());
    let (status, deep) = twenty.get(&format!("{path}?depth=1")).await;
    assert_eq!(status, 200);
    assert_eq!(deep["data"]["person"]["company"]["name"], "Bakery");
    assert_eq!(twenty.get(&format!("{path}?depth=2")).await.0, 400);
    twenty.clean().await;
}

#[tokio::test]
async fn a_client_may_choose_the_id() {
    let twenty = Twenty::any();
    let id = uuid();
    let person = twenty.person(json!({"id": id})).await;
    assert_eq!(person["id"], id.as_str());
    let (status, answer) = twenty.post("/rest/people", json!({"id": id})).await;
    assert_eq!((status, message(&answer).as_str()), (400, "A duplicate entry was detected"));
    let (status, _) = twenty.post("/rest/people", json!({"id": "not-a-uuid"})).await;
    assert_eq!(status, 400);
    twenty.clean().await;
}

#[tokio::test]
async fn times_are_writable() {
    let twenty = Twenty::any();
    let times = json!({
        "createdAt": "2001-02-03T04:05:06.789Z", "updatedAt": "2002-02-03T04:05:06.789Z",
    });
    let person = twenty.person(times.clone()).await;
    assert_eq!(person["createdAt"], times["createdAt"]);
    assert_eq!(person["updatedAt"], times["updatedAt"]);
    let patch = json!({"updatedAt": "2003-02-03T04:05:06.789Z", "createdAt": "2000-02-03T04:05:06.789Z"});
    let person = twenty.change(&person["id"], patch.clone()).await;
    assert_eq!(person["createdAt"], patch["createdAt"]);
    assert_eq!(person["updatedAt"], patch["updatedAt"]);
    let path = format!("/rest/people/{}", person["id"].as_str().unwrap());
    let (status, answer) = twenty.patch(&path, json!({"deletedAt": "2004-02-03T04:05:06.789Z"})).await;
    assert_eq!(status, 200);
    assert_eq!(answer["data"]["updatePerson"]["deletedAt"], "2004-02-03T04:05:06.789Z");
    assert_eq!(twenty.get(&path).await.0, 404);
    twenty.clean().await;
}

#[tokio::test]
async fn every_patch_bumps_updated_at_even_an_empty_one() {
    let (clock, hand) = Clock::manual(1_700_000_000_000);
    let twenty = Twenty::with(Options { clock, ..roomy() });
    let person = twenty.person(json!({"jobTitle": "Baker"})).await;
    assert_eq!(person["updatedAt"], "2023-11-14T22:13:20.000Z");
    hand.advance(std::time::Duration::from_secs(1));
    let person = twenty.change(&person["id"], json!({})).await;
    assert_eq!(person["updatedAt"], "2023-11-14T22:13:21.000Z");
    assert_eq!(person["createdAt"], "2023-11-14T22:13:20.000Z");
    hand.advance(std::time::Duration::from_secs(1));
    let person = twenty.change(&person["id"], json!({"jobTitle": "Baker"})).await;
    assert_eq!(person["updatedAt"], "2023-11-14T22:13:22.000Z");
}

#[tokio::test]
async fn if_match_is_ignored() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({"jobTitle": "Baker"})).await;
    let url = format!("{}/rest/people/{}", twenty.url, person["id"].as_str().unwrap());
    let body = json!({"jobTitle": "Miller"});
    let patch = twenty.client.patch(url).bearer_auth(&twenty.key).header("If-Match", "\"stale\"").json(&body);
    assert_eq!(patch.send().await.unwrap().status(), 200);
    assert_eq!(twenty.read(&person["id"]).await["jobTitle"], "Miller");
    twenty.clean().await;
}

#[tokio::test]
async fn a_body_above_10_mb_is_500() {
    let twenty = Twenty::any();
    let body = |size: usize| json!({"avatarUrl": "x".repeat(size), "jobTitle": 7});
    // Refused for its contents, so it was read.
    assert_eq!(twenty.post("/rest/people", body(9 * 1024 * 1024)).await.0, 400);
    assert_eq!(twenty.post("/rest/people", body(11 * 1024 * 1024)).await.0, 500);
}

#[tokio::test]
async fn a_head_above_16_kb_is_431() {
    let twenty = Twenty::any();
    let path = |count: usize| {
        let ids: Vec<String> = (0..count).map(|_| format!("\"{}\"", uuid())).collect();
        let encoded =
            format!("id[in]:[{}]", ids.join(",")).replace('"', "%22").replace('[', "%5B").replace(']', "%5D");
        format!("/rest/people?filter={encoded}")
    };
    assert_eq!(twenty.get(&path(350)).await.0, 200);
    assert_eq!(twenty.get(&path(380)).await.0, 431);
}

#[tokio::test]
async fn errors_have_status_code_error_and_messages() {
    let twenty = Twenty::any();
    let (status, answer) = twenty.post("/rest/people", json!({"jobTitle": 7})).await;
    assert_eq!(status, 400);
    assert_eq!(keys(&answer), ["error", "messages", "statusCode"]);
    assert_eq!(answer["statusCode"], 400);
    assert!(answer["error"].is_string());
    assert!(answer["messages"].is_array());
}

#[tokio::test]
async fn a_duplicate_is_400_and_told() {
    let twenty = Twenty::any();
    let email = email();
    twenty.person(json!({"emails": {"primaryEmail": email}})).await;
    let (status, answer) =
        twenty.post("/rest/people", json!({"emails": {"primaryEmail": email.to_uppercase()}})).await;
    assert_eq!(status, 400);
    assert_eq!(message(&answer), "A duplicate entry was detected");
    let other = twenty.person(json!({})).await;
    let (status, told) = twenty.refused(&other["id"], json!({"emails": {"primaryEmail": email}})).await;
    assert_eq!((status, told.as_str()), (400, "A duplicate entry was detected"));
    twenty.clean().await;
}

#[tokio::test]
async fn a_nul_byte_is_500() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({})).await;
    assert_eq!(twenty.refused(&person["id"], json!({"jobTitle": "a\0b"})).await.0, 500);
    assert_eq!(twenty.refused(&person["id"], json!({"name": {"firstName": "\0"}})).await.0, 500);
    twenty.clean().await;
}

#[tokio::test]
async fn a_plain_batch_is_atomic() {
    let twenty = Twenty::any();
    let (email, ids) = (email(), [uuid(), uuid()]);
    twenty.person(json!({"emails": {"primaryEmail": email}})).await;
    let bodies = json!([{"id": ids[0]}, {"id": ids[1], "emails": {"primaryEmail": email}}]);
    let (status, answer) = twenty.post("/rest/batch/people", bodies).await;
    assert_eq!((status, message(&answer).as_str()), (400, "A duplicate entry was detected"));
    for id in ids {
        assert_eq!(twenty.get(&format!("/rest/people/{id}")).await.0, 404);
    }
    twenty.clean().await;
}

#[tokio::test]
async fn patching_deleted_at_to_null_restores() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({"jobTitle": "Baker"})).await;
    let path = format!("/rest/people/{}", person["id"].as_str().unwrap());
    twenty.delete(&format!("{path}?soft_delete=true")).await;
    let filter = format!("id[eq]:{}", person["id"].as_str().unwrap());
    assert!(twenty.found("people", &filter).await.is_empty(), "a listing leaves it out");
    let deleted = twenty.found("people", &format!("{filter},deletedAt[is]:NOT_NULL")).await;
    assert_eq!(deleted.len(), 1);
    assert!(deleted[0]["deletedAt"].is_string());
    let (status, answer) = twenty.patch(&path, json!({"deletedAt": null})).await;
    assert_eq!(status, 200);
    assert_eq!(answer["data"]["updatePerson"]["deletedAt"], Value::Null);
    assert_eq!(twenty.read(&person["id"]).await["jobTitle"], "Baker");
    let (status, _) = twenty.patch(&format!("{path}/restore"), json!({})).await;
    assert!(twenty.sandbox.is_none() || status == 404, "the path that came later is not there");
    twenty.clean().await;
}

#[tokio::test]
async fn what_is_not_known_is_refused() {
    let twenty = Twenty::local();
    let person = twenty.person(json!({})).await;
    for body in
        [json!({"city": "Basel"}), json!({"name": {"middleName": "B"}}), json!({"company": {"name": "x"}})]
    {
        assert_eq!(twenty.refused(&person["id"], body).await.0, 400);
    }
    for path in [
        "/rest/people?offset=3",
        "/rest/people?limit=0",
        "/rest/people?limit=x",
        "/rest/people?depth=0&depth=0",
    ] {
        assert_eq!(twenty.get(path).await.0, 400, "{path}");
    }
    for path in ["/rest/robots", "/rest", "/elsewhere", "/rest/people/a/b"] {
        assert_eq!(twenty.get(path).await.0, 404, "{path}");
    }
    let not_json = twenty.client.post(format!("{}/rest/people", twenty.url)).bearer_auth(&twenty.key);
    let not_json = not_json.header("content-type", "application/json").body("{\"a\":").send().await.unwrap();
    assert_eq!(not_json.status(), 400);
    let untold =
        twenty.client.post(format!("{}/rest/people", twenty.url)).bearer_auth(&twenty.key).body("{}");
    assert_eq!(untold.send().await.unwrap().status(), 400);
}
