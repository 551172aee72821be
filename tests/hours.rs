//! The loop itself, on stores in memory and a clock that jumps: hours of edits, outages and kills in seconds.
#![allow(clippy::unwrap_used)] // A trial that cannot go on has failed.

mod hours_world;

use std::time::Duration;

use hours_world::{Hours, World};
use tokio_util::sync::CancellationToken;
use trueup::controller::{PassOptions, Reload};
use trueup::telemetry::Silent;

/// Eight simulated hours; `TRUEUP_HOURS` for more.
#[tokio::test(start_paused = true)]
async fn hours_of_edits_kills_and_outages_end_in_agreement() {
    let hours = std::env::var("TRUEUP_HOURS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    for seed in [1, 2] {
        let mut trial = Hours::new(seed, 60);
        trial.live_through(Duration::from_secs(hours * 3600 / 2)).await;
        let told = trial.come_to_rest().await;
        println!("{told}");
    }
}

/// A hint is answered by a look at one row a store, however many there are.
#[tokio::test(start_paused = true)]
async fn a_hint_reads_at_most_one_row_a_store() {
    let records =
        std::env::var("TRUEUP_HINT_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000);
    let world = World::new(records);
    let stop = CancellationToken::new();
    let running = world.start("one", &stop);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = world.told.rows();
    assert!(before >= 3 * records as u64, "the first pass reads everything: {before}");
    world.edit("app", 7, "a", "new");
    assert!(world.inbox.record(world.record(7)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.everywhere(7, "a"), ["new"; 3]);
    let read = world.told.rows() - before;
    assert!(read <= 3, "{read} rows were read for one hint");
    assert_eq!(world.told.looks(), (1, 0));
    stop.cancel();
    running.await.unwrap();
}

/// Whatever comes at once, what is held is bounded, and everything is right in the end.
#[tokio::test(start_paused = true)]
async fn a_burst_of_hints_is_bounded_and_nothing_is_missed() {
    let world = World::new(300);
    let stop = CancellationToken::new();
    let running = world.start("one", &stop);
    tokio::time::sleep(Duration::from_secs(30)).await;
    for number in 0..300 {
        world.edit("local", number, "b", &format!("burst {number}"));
    }
    // Ten thousand hints at records that there are, and more at records that there are not than there is room for.
    for number in 0..10_000 {
        world.inbox.record(world.record(number % 300));
    }
    assert_eq!(world.inbox.len(), 300);
    let dropped = (0..30_000).filter(|number| !world.inbox.record(world.record(1_000 + number))).count();
    assert!(world.inbox.len() <= 10_000 && dropped >= 20_000, "{} and {dropped}", world.inbox.len());
    tokio::time::sleep(Duration::from_secs(90)).await;
    for number in 0..300 {
        assert_eq!(
            world.everywhere(number, "b"),
            [format!("burst {number}"), format!("burst {number}"), format!("burst {number}")]
        );
    }
    assert_eq!((world.inbox.len(), world.told.queue()), (0, 0));
    stop.cancel();
    running.await.unwrap();
}

/// Looks that follow each other without a wait, because more records are hinted at than one takes, do not keep other manifests from being
/// taken.
#[tokio::test(start_paused = true)]
async fn other_manifests_hold_however_many_hints_come() {
    let world = World::new(20);
    world.slow_down(Duration::from_secs(2));
    let stop = CancellationToken::new();
    let (news, reloads) = tokio::sync::mpsc::channel(1);
    let changes = std::sync::Arc::default();
    let running = world.start_reloading("one", &stop, reloads, &changes);
    let hinting = tokio::spawn({
        let world = world.clone();
        async move {
            for second in 0.. {
                for number in 0..2_000 {
                    world.inbox.record(world.record(second * 2_000 + number));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(news.send(Reload::Changed(world.engine("one"))).await.is_ok());
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(changes.load(std::sync::atomic::Ordering::Relaxed), 1);
    hinting.abort();
    stop.cancel();
    running.await.unwrap();
}

/// What is paused is looked at and not written; what is resumed is brought up.
#[tokio::test(start_paused = true)]
async fn what_is_paused_is_not_written_until_its_time_is_over() {
    let world = World::new(20);
    let stop = CancellationToken::new();
    let running = world.start("one", &stop);
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.pause("app", None, None, Some(600)).await;
    world.pause("", Some("things"), Some(3), None).await;
    world.edit("hub", 1, "a", "past the pause");
    world.edit("local", 3, "a", "waits");
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(world.everywhere(1, "a"), ["past the pause", "a1", "past the pause"]);
    assert_eq!(world.everywhere(3, "a"), ["a3", "a3", "waits"]);
    assert!(world.told.paused_records() >= 2, "drift and pause are told");
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(world.everywhere(1, "a"), ["past the pause"; 3], "its time is over");
    assert_eq!(world.everywhere(3, "a"), ["a3", "a3", "waits"]);
    world.engine("two").resume("things[\"3\"]").await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.everywhere(3, "a"), ["waits"; 3]);
    stop.cancel();
    running.await.unwrap();
}

/// Conflicts that ended and deletes that every store confirmed go after 90 days; what is open stays.
#[tokio::test(start_paused = true)]
async fn what_was_settled_long_ago_is_removed() {
    let world = World::new(20);
    let engine = world.engine("one");
    let stop = CancellationToken::new();
    let pass = async || {
        let report = engine.pass(&PassOptions::default(), &Silent, &stop).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
    };
    pass().await;
    tokio::time::advance(Duration::from_mins(1)).await;
    world.delete("app", 0);
    world.edit("app", 1, "a", "first");
    tokio::time::advance(Duration::from_mins(1)).await;
    world.edit("local", 1, "a", "later");
    pass().await;
    pass().await;
    assert_eq!(
        (world.on_record(), world.everywhere(1, "a")),
        ((1, 1), ["later", "later", "later"].map(String::from))
    );
    let day = Duration::from_hours(24);
    tokio::time::advance(day * 89).await;
    world.delete("local", 2);
    pass().await;
    assert_eq!(world.on_record(), (1, 2));
    tokio::time::advance(day * 2).await;
    pass().await;
    assert_eq!(world.on_record(), (0, 1), "the later delete stays for another while");
    pass().await;
    assert_eq!((world.count("hub"), world.count("app"), world.count("local")), (18, 18, 18));
}

/// A plan that a guard refuses is carried out once a person approved it, and only that plan.
#[tokio::test(start_paused = true)]
async fn an_approval_is_for_one_plan() {
    let world = World::guarded(20);
    let stop = CancellationToken::new();
    let running = world.start("one", &stop);
    tokio::time::sleep(Duration::from_secs(30)).await;
    for number in 0..8 {
        world.delete("app", number);
    }
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.count("hub"), 20, "the guard holds");
    let code = world.told.approval().expect("a code");
    let engine = world.engine("two");
    engine.approve(&code, "somebody").await.unwrap();
    // Another delete makes it another plan.
    world.delete("app", 8);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.count("hub"), 20, "that was not approved");
    let code = world.told.approval().expect("a code");
    engine.approve(&code, "somebody").await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!([world.count("hub"), world.count("app"), world.count("local")], [11; 3]);
    stop.cancel();
    running.await.unwrap();
}

/// An approval is for what was refused: edits of records that stay do not make it another one.
#[tokio::test(start_paused = true)]
async fn an_approval_of_deletes_outlasts_edits_of_what_stays() {
    let world = World::guarded(20);
    let stop = CancellationToken::new();
    let running = world.start("one", &stop);
    tokio::time::sleep(Duration::from_secs(30)).await;
    for number in 0..8 {
        world.delete("app", number);
    }
    tokio::time::sleep(Duration::from_secs(100)).await;
    let code = world.told.approval().expect("a code");
    world.engine("two").approve(&code, "somebody").await.unwrap();
    world.edit("app", 15, "a", "edited meanwhile");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!([world.count("hub"), world.count("app"), world.count("local")], [12; 3]);
    assert_eq!(world.everywhere(15, "a"), ["edited meanwhile"; 3]);
    stop.cancel();
    running.await.unwrap();
}

/// A pass that goes on too long after it was told to stop is cut off. Where it only looked, others need not wait for its lease.
#[tokio::test(start_paused = true)]
async fn a_look_that_is_cut_off_gives_its_lease_back() {
    let world = World::new(10);
    world.slow_down(Duration::from_hours(1));
    let stop = CancellationToken::new();
    let running = world.start("one", &stop);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.engine("two").lease().await.unwrap().map(|lease| lease.holder), Some("one".to_owned()));
    stop.cancel();
    running.await.unwrap();
    assert_eq!(world.engine("two").lease().await.unwrap(), None);
}

/// Where it may have been writing, nobody else begins before the lease lapses.
#[tokio::test(start_paused = true)]
async fn a_write_that_is_cut_off_keeps_its_lease() {
    let world = World::new(10);
    let stop = CancellationToken::new();
    let running = world.start("one", &stop);
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.hang_up();
    world.edit("hub", 4, "a", "under way");
    world.inbox.record(world.record(4));
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(world.engine("two").lease().await.unwrap().map(|lease| lease.holder), Some("one".to_owned()));
}

/// A record that something else keeps putting back is paused for a while and told; the others go on.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_fought_over_is_paused() {
    let world = World::new(10);
    let stop = CancellationToken::new();
    let running = world.start("one", &stop);
    tokio::time::sleep(Duration::from_secs(30)).await;
    for round in 0..30 {
        world.edit("app", 1, "a", &format!("round {round}"));
        world.inbox.record(world.record(1));
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(world.told.breaks(), 1);
    assert_ne!(world.everywhere(1, "a")[0], "round 29");
    world.edit("app", 2, "a", "unhindered");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.everywhere(2, "a"), ["unhindered"; 3]);
    tokio::time::sleep(Duration::from_mins(15)).await;
    assert_eq!(world.everywhere(1, "a"), ["round 29"; 3], "nothing is skipped for ever");
    stop.cancel();
    running.await.unwrap();
}

/// A write that a store refuses is tried less and less often, told with its beginning, and made once it can be.
#[tokio::test(start_paused = true)]
async fn a_failing_write_backs_off_and_is_told_since_when() {
    let world = World::new(10);
    let stop = CancellationToken::new();
    let running = world.start("one", &stop);
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.refuse("app", 4, true);
    world.edit("hub", 4, "a", "refused");
    tokio::time::sleep(Duration::from_hours(1)).await;
    let tries = world.told.failures();
    assert!((4..12).contains(&tries), "{tries} tries in an hour");
    let errors = world.engine("two").errors().await.unwrap();
    let failed = errors.iter().find(|error| error.kind == "failed").expect("it is told");
    assert_eq!(failed.record.as_deref(), Some("things[\"4\"]"));
    assert!(failed.since < errors_time(&world, 3_400), "since the beginning: {}", failed.since);
    assert!(!failed.hint.is_empty());
    world.refuse("app", 4, false);
    tokio::time::sleep(Duration::from_hours(2)).await;
    assert_eq!(world.everywhere(4, "a"), ["refused"; 3]);
    assert!(world.engine("two").errors().await.unwrap().is_empty());
    stop.cancel();
    running.await.unwrap();
}

/// A store that is down is a failure each time it is asked, and not while it is left alone; that it is down, and what a guard refuses, is
/// told since it began, whatever is said of it from pass to pass.
#[tokio::test(start_paused = true)]
async fn what_stands_is_told_since_it_began() {
    let world = World::guarded(20);
    let stop = CancellationToken::new();
    let running = world.start("one", &stop);
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.reach("local", false);
    for number in 0..4 {
        world.delete("app", number);
    }
    for number in 4..8 {
        tokio::time::sleep(Duration::from_mins(15)).await;
        world.delete("app", number);
    }
    tokio::time::sleep(Duration::from_mins(2)).await;
    // Once a minute at first, then every five.
    let failures = world.told.store_failures();
    assert!((10..22).contains(&failures), "{failures} failures in an hour");
    let errors = world.engine("two").errors().await.unwrap();
    for kind in ["unreachable", "guard"] {
        let of_kind: Vec<_> = errors.iter().filter(|error| error.kind == kind).collect();
        assert_eq!(of_kind.len(), 1, "{errors:#?}");
        assert!(of_kind[0].since < errors_time(&world, 3_400), "{kind} since {}", of_kind[0].since);
    }
    let guard = errors.iter().find(|error| error.kind == "guard").unwrap();
    assert!(guard.message.contains("8 of"), "as it is now: {}", guard.message);
    world.reach("local", true);
    stop.cancel();
    running.await.unwrap();
}

fn errors_time(world: &World, seconds_ago: i64) -> trueup::model::Timestamp {
    world.now().saturating_add_micros(-seconds_ago * 1_000_000)
}

/// Of two controllers one works; when it dies without a word the other takes over within the lease.
#[tokio::test(start_paused = true)]
async fn another_controller_takes_over_within_the_lease() {
    let world = World::new(10);
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let one = world.start("one", &first);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let other = world.start("two", &second);
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(world.holders(), ["one"], "only one works");
    one.abort();
    let _ = one.await;
    world.edit("app", 1, "a", "taken over");
    // The lease is a minute; a controller that stands by asks every third of it.
    tokio::time::sleep(Duration::from_secs(60 + 23)).await;
    assert_eq!(world.holders(), ["one", "two"]);
    assert_eq!(world.everywhere(1, "a"), ["taken over"; 3]);
    second.cancel();
    other.await.unwrap();
}

/// A look that takes longer than the lease is no reason for another controller to take over.
#[tokio::test(start_paused = true)]
async fn a_long_look_keeps_the_lease() {
    let world = World::new(10);
    world.slow_down(Duration::from_mins(5));
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let one = world.start("one", &first);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let other = world.start("two", &second);
    world.edit("app", 1, "a", "found in the end");
    tokio::time::sleep(Duration::from_mins(40)).await;
    assert_eq!(world.holders(), ["one"], "only one works");
    assert_eq!(world.everywhere(1, "a"), ["found in the end"; 3]);
    first.cancel();
    second.cancel();
    one.await.unwrap();
    other.await.unwrap();
}

/// Whose clock went ahead leads for as long as its lease would have lasted, not until the time that its clock showed.
#[tokio::test(start_paused = true)]
async fn a_word_from_the_future_holds_nobody_up() {
    for (seconds, holders) in [(30, [].as_slice()), (10 * 365 * 86_400, &["one"])] {
        let world = World::new(10);
        world.leave_word("gone", seconds).await;
        let stop = CancellationToken::new();
        let one = world.start("one", &stop);
        world.edit("app", 1, "a", "found");
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(world.holders(), holders, "{seconds}");
        stop.cancel();
        one.await.unwrap();
    }
}
