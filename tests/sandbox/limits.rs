//! The rate limit, on a clock that stands still until it is moved.

use std::time::Duration;

use serde_json::json;
use trueup::sandbox::{Clock, Hand, Options};

use super::harness::{KEY, Twenty, message, roomy};

fn limited() -> (Twenty, Hand) {
    let (clock, hand) = Clock::manual(1_700_000_000_000);
    (Twenty::with(Options { clock, ..Options::new(KEY) }), hand)
}

/// How many calls pass before one is refused.
async fn passing(twenty: &Twenty) -> usize {
    let mut passed = 0;
    while twenty.get("/rest/people?limit=1").await.0 == 200 {
        passed += 1;
        assert!(passed < 1_000, "nothing is refused");
    }
    passed
}

#[tokio::test]
async fn the_101st_call_is_429_without_a_retry_after() {
    let (twenty, _) = limited();
    assert_eq!(passing(&twenty).await, 100);
    let request = twenty.client.get(format!("{}/rest/people", twenty.url)).bearer_auth(KEY);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 429);
    assert!(response.headers().get("retry-after").is_none());
    let answer = response.json().await.unwrap();
    assert!(message(&answer).starts_with("Limit reached"));
}

#[tokio::test]
async fn the_limit_over_graphql_is_200_with_limit_reached() {
    let (twenty, _) = limited();
    passing(&twenty).await;
    let (status, answer) = twenty.graphql("{ people { totalCount } }", json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(answer["errors"][0]["extensions"]["subCode"], "LIMIT_REACHED");
    assert!(answer["data"].is_null());
}

#[tokio::test]
async fn a_token_comes_every_600_ms() {
    let (twenty, hand) = limited();
    assert_eq!(passing(&twenty).await, 100);
    hand.advance(Duration::from_millis(599));
    assert_eq!(passing(&twenty).await, 0);
    hand.advance(Duration::from_millis(1));
    assert_eq!(passing(&twenty).await, 1);
    hand.advance(Duration::from_secs(6));
    assert_eq!(passing(&twenty).await, 10);
    hand.advance(Duration::from_hours(1));
    assert_eq!(passing(&twenty).await, 100, "a bucket holds 100, however long nobody calls");
}

#[tokio::test]
async fn the_bucket_is_shared_by_all_calls() {
    let (twenty, _) = limited();
    let before = twenty.inside().calls_left();
    twenty.post("/rest/people", json!({"city": "refused, and counted"})).await;
    twenty.get("/rest/metadata/objects").await;
    twenty.graphql("{ people { totalCount } }", json!({})).await;
    twenty.post("/rest/batch/people", json!([{}, {}, {}])).await;
    assert_eq!(twenty.inside().calls_left(), before - 4);
    let stranger = twenty.client.get(format!("{}/rest/people", twenty.url)).send().await.unwrap();
    assert_eq!(stranger.status(), 403);
    assert_eq!(twenty.inside().calls_left(), before - 4, "who has no key takes no token");
}

#[tokio::test]
async fn there_is_a_limit_a_second_as_well() {
    let (clock, hand) = Clock::manual(0);
    let twenty = Twenty::with(Options { clock, calls_per_second: 10, ..roomy() });
    assert_eq!(passing(&twenty).await, 10);
    hand.advance(Duration::from_millis(100));
    assert_eq!(passing(&twenty).await, 1);
    hand.advance(Duration::from_secs(1));
    assert_eq!(passing(&twenty).await, 10);
}

#[tokio::test]
async fn a_hosted_plan_can_be_lower() {
    let (clock, hand) = Clock::manual(0);
    let twenty = Twenty::with(Options { clock, calls_per_minute: 50, ..Options::new(KEY) });
    assert_eq!(passing(&twenty).await, 50);
    hand.advance(Duration::from_millis(1_200));
    assert_eq!(passing(&twenty).await, 1);
}
