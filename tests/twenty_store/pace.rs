//! How many calls things take, and how long they take at the pace that the server allows: its own limiter says no to whoever is faster.

use std::time::Duration;

use serde_json::json;
use trueup::controller::PassOptions;
use trueup::model::Value;
use trueup::store::Store as _;
use trueup::telemetry::Silent;

use crate::world::{Set, World, key};

fn fill(world: &World, people: usize) {
    for number in 0..people {
        let record = key(&format!("C{number:06}"));
        let fields = [
            ("first_name", Value::text(format!("Given{number}"))),
            ("last_name", Value::text("Example")),
            ("email", Value::text(format!("Given{number}@Example.com"))),
            ("phone", Value::text(format!("+1202555{:04}", 100 + number % 100))),
            ("category", Value::text("A")),
        ];
        world.put(&world.base, "people", &record, &fields);
    }
    for number in 0..20 {
        let fields = [("name", Value::text(format!("Firm {number}")))];
        world.put(&world.base, "firms", &key(&format!("B{number}")), &fields);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_people_in_half_a_minute_and_then_four_calls() {
    let world = World::new(Set { calls_per_minute: 100, ..Set::default() }).await;
    fill(&world, 537);
    // The bucket is full again after the migration.
    world.hand.advance(Duration::from_mins(2));
    let begun = world.hand.now_ms();
    let report = world.pass().await;
    assert!(report.is_clean(), "{:?}", report.failed);
    let took = world.hand.now_ms() - begun;
    println!("537 people and 20 firms: {took} ms, {} calls", world.calls());
    assert!(took <= 30_000, "{took} ms");
    assert_eq!(world.all("people").len(), 537);
    let refused = world.sandbox.calls().iter().filter(|call| call.status == 429).count();
    assert_eq!(refused, 0, "nothing was sent too soon");

    world.hand.advance(Duration::from_mins(2));
    for _ in 0..2 {
        world.hand.advance(Duration::from_secs(10));
        let before = world.calls();
        let report = world.pass().await;
        assert!(report.is_clean());
        let calls = world.calls() - before;
        println!("a pass without changes: {calls} calls");
        assert!(calls <= 4, "{calls} calls: {:?}", &world.sandbox.calls()[before..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_of_a_hundred_costs_three_calls_more() {
    let world = World::new(Set { calls_per_minute: 100, ..Set::default() }).await;
    fill(&world, 100);
    world.hand.advance(Duration::from_mins(2));
    world.settle().await;
    world.hand.advance(Duration::from_mins(2));
    let before = world.calls();
    world.pass().await;
    let quiet = world.calls() - before;
    world.hand.advance(Duration::from_secs(10));
    world.edit(&world.local, "people", &key("C000042"), "job_title", Value::text("Gardener"));
    let before = world.calls();
    let report = world.pass().await;
    assert!(report.is_clean(), "{:?}", report.failed);
    let calls = world.calls() - before;
    println!("quiet {quiet}, one changed {calls}");
    assert!(calls <= quiet + 3, "{calls} after {quiet}: {:?}", &world.sandbox.calls()[before..]);
    assert_eq!(world.person("C000042")["jobTitle"], json!("Gardener"));

    // And one that somebody edits in the CRM.
    world.hand.advance(Duration::from_secs(10));
    world.patch("C000043", &json!({ "jobTitle": "Baker" }));
    let before = world.calls();
    world.pass().await;
    let calls = world.calls() - before;
    assert!(calls <= quiet + 3, "{calls} after {quiet}");
    assert_eq!(world.held(&world.base, "people", &key("C000043"), "job_title"), Some(Value::text("Baker")));
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_are_counted_and_a_bucket_emptied_by_others_is_waited_for() {
    let world = World::new(Set { calls_per_minute: 100, ..Set::default() }).await;
    fill(&world, 5);
    world.hand.advance(Duration::from_mins(2));
    let before = world.crm.usage();
    world.sandbox.faults().add(trueup::sandbox::Calls::all().times(3), trueup::sandbox::Fault::Limited);
    let plan = world.engine.plan(&PassOptions::default(), &Silent).await.expect("a plan");
    assert!(!plan.is_empty(), "both ways of saying too many were waited out");
    let after = world.crm.usage();
    assert!(after.calls > before.calls + 3);
    assert!(after.waited_ms >= before.waited_ms + 2_000, "{after:?} after {before:?}");
}
