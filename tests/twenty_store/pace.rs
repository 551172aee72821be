//! How many calls things take, and how long they take at the pace that the server allows: its own limiter says no to whoever is faster.

use std::time::Duration;

use serde_json::json;
use trueup::controller::PassOptions;
use trueup::model::Value;
use trueup::plan::{Rates, cost::cost};
use trueup::store::Store as _;
use trueup::telemetry::{Metrics, Silent};

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
    let before = world.crm.usage().expect("counted");
    world.sandbox.faults().add(trueup::sandbox::Calls::all().times(3), trueup::sandbox::Fault::Limited);
    let plan = world.engine.plan(&PassOptions::default(), &Silent).await.expect("a plan");
    assert!(!plan.is_empty(), "both ways of saying too many were waited out");
    let after = world.crm.usage().expect("counted");
    assert!(after.calls > before.calls + 3);
    assert!(after.waited_ms >= before.waited_ms + 2_000, "{after:?} after {before:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_says_how_many_calls_its_writes_take_and_how_long_that_is() {
    let world = World::new(Set { calls_per_minute: 100, ..Set::default() }).await;
    fill(&world, 200);
    let rates = Rates::of(&world.spec);
    world.hand.advance(Duration::from_mins(2));
    // First all of them are made; then all of them are changed.
    for round in 0..2 {
        let begun = world.calls();
        let plan = world.engine.plan(&PassOptions::default(), &Silent).await.expect("a plan");
        let looks = world.calls() - begun;
        let told = cost(&plan, &rates)[world.crm.name()];
        world.hand.advance(Duration::from_mins(2));
        let (begun, at) = (world.calls(), world.hand.now_ms());
        world.pass().await;
        let (made, took) = ((world.calls() - begun - looks) as u64, world.hand.now_ms() - at);
        println!("round {round}: told {told:?}; {made} calls made, besides {looks} to look; {took} ms");
        let (calls, wait) = (told.calls.expect("counted"), told.wait_seconds.expect("counted"));
        assert!(calls.abs_diff(made) <= 4 + calls / 20, "told {calls}, made {made}");
        let seconds = u64::try_from(took / 1_000).expect("forwards");
        assert!(wait.abs_diff(seconds) <= 6 + wait / 20, "told {wait} s, took {seconds} s");
        for number in 0..200 {
            let record = key(&format!("C{number:06}"));
            world.edit(&world.base, "people", &record, "job_title", Value::text("Baker"));
        }
        world.hand.advance(Duration::from_mins(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::cast_precision_loss)] // Calls are few.
async fn calls_and_waits_are_in_the_metrics() {
    let world = World::new(Set { calls_per_minute: 100, ..Set::default() }).await;
    fill(&world, 5);
    world.hand.advance(Duration::from_mins(2));
    let metrics = Metrics::new(&world.spec).expect("metrics");
    let value = |name: &str| -> f64 {
        let text = metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{{store=\"crm\"}} ")));
        line.expect("from the start").parse().expect("a number")
    };
    let (calls, waited) = ("trueup_api_requests_total", "trueup_rate_limit_wait_seconds_total");
    assert!(value(calls) + value(waited) < 0.1, "nothing yet");
    // What the migration took is told with the first pass.
    world.engine.plan(&PassOptions::default(), &metrics).await.expect("a plan");
    assert!((value(calls) - world.calls() as f64).abs() < 0.1);
    let quiet = value(waited);
    world.sandbox.faults().add(trueup::sandbox::Calls::all().times(3), trueup::sandbox::Fault::Limited);
    world.engine.plan(&PassOptions::default(), &metrics).await.expect("a plan");
    assert!((value(calls) - world.calls() as f64).abs() < 0.1, "those that were turned away are calls too");
    assert!(value(waited) >= quiet + 2.0, "{} after {quiet}", value(waited));
    let text = metrics.text();
    assert!(!text.contains(&format!("{calls}{{store=\"base\"}}")), "other stores count none");
}

/// How long an edit that somebody makes can be overwritten unseen: from the answer to the look until the write. With `--nocapture` it
/// says how long.
#[tokio::test(flavor = "multi_thread")]
async fn between_look_and_write_lies_no_wait_and_no_other_call() {
    // The limit is one that the changes do not fit into.
    let world = World::new(Set { calls_per_minute: 100, ..Set::default() }).await;
    fill(&world, 150);
    world.hand.advance(Duration::from_mins(2));
    world.settle().await;
    let writes = |begun: usize| -> Vec<(Duration, i64)> {
        let calls = world.sandbox.calls();
        let mut looked = None;
        let mut windows = Vec::new();
        for call in &calls[begun..] {
            match (call.method.as_str(), looked) {
                ("PATCH", Some((at, clock_ms))) => {
                    windows.push((call.at.duration_since(at), call.clock_ms - clock_ms));
                }
                ("PATCH", None) => panic!("a write without a look"),
                _ => looked = Some((call.at, call.clock_ms)),
            }
        }
        windows
    };
    for (round, (changed, delay)) in
        [(1, 0), (8, 0), (60, 0), (150, 0), (1, 50), (60, 50)].into_iter().enumerate()
    {
        for number in 0..changed {
            let text = Value::text(format!("Job {round}"));
            world.edit(&world.base, "people", &key(&format!("C{number:06}")), "job_title", text);
        }
        world.hand.advance(Duration::from_mins(2));
        if delay > 0 {
            let slow = trueup::sandbox::Fault::Slow(Duration::from_millis(delay));
            world.sandbox.faults().add(trueup::sandbox::Calls::all(), slow);
        }
        let begun = world.calls();
        let report = world.pass().await;
        world.sandbox.faults().clear();
        assert!(report.is_clean(), "{:?}", report.failed);
        let mut windows = writes(begun);
        assert_eq!(windows.len(), changed);
        assert!(windows.iter().all(|(_, waited)| *waited == 0), "no wait for the pace: {windows:?}");
        windows.sort();
        println!(
            "{changed} records changed, {delay} ms a call: {:?} in the middle, {:?} at most",
            windows[changed / 2].0,
            windows[changed - 1].0
        );
    }
}
