//! What the loop does next, on a clock of numbers.

use super::*;
use crate::model::{EntityName, RecordKey};
use crate::reconcile::Trouble;

fn options() -> PaceOptions {
    PaceOptions {
        interval_ms: 60_000,
        deep_ms: Some(600_000),
        debounce_ms: 500,
        breaker_writes: 5,
        breaker_window_ms: 600_000,
        standby_ms: 10_000,
        seed: 7,
    }
}

fn record(key: &str) -> RecordId {
    RecordId { entity: EntityName::new("contacts").unwrap(), key: RecordKey::new(vec![key.to_owned()]) }
}

fn store(name: &str) -> StoreName {
    StoreName::new(name).unwrap()
}

fn pass(pace: &mut Pace, now: u64) -> Task {
    match pace.next(now) {
        Step::Pass(task) => task,
        Step::WaitUntil(at) => panic!("it waits until {at}"),
    }
}

fn wait(pace: &mut Pace, now: u64) -> u64 {
    match pace.next(now) {
        Step::WaitUntil(at) => at,
        Step::Pass(task) => panic!("it does {task:?}"),
    }
}

#[test]
fn passes_come_at_the_interval_with_jitter_and_deep_ones_now_and_then() {
    let mut pace = Pace::new(options(), 0);
    let mut now = 0;
    let mut waits = Vec::new();
    let mut deep = Vec::new();
    for _ in 0..30 {
        let task = pass(&mut pace, now);
        assert_eq!(task.only, None);
        if task.deep {
            deep.push(now);
        }
        pace.ended(&task, &Report::default(), now);
        let next = wait(&mut pace, now);
        waits.push(next - now);
        now = next;
    }
    assert!(waits.iter().all(|wait| wait.abs_diff(60_000) <= 6_000), "{waits:?}");
    assert!(waits.windows(2).any(|pair| pair[0] != pair[1]), "no jitter: {waits:?}");
    assert_eq!(deep[0], 0);
    assert!((3..=4).contains(&deep.len()), "{deep:?}");
    assert!(deep.windows(2).all(|pair| pair[1] - pair[0] >= 600_000), "{deep:?}");
}

#[test]
fn a_store_that_was_down_when_everything_was_read_has_all_read_again_when_it_is_back_and_not_before() {
    let mut pace = Pace::new(options(), 0);
    let unreadable = BTreeMap::from([(store("app"), "it is down".to_owned())]);
    let down = Report { unreadable, ..Report::default() };
    let mut now = 0;
    let mut deep = Vec::new();
    for report in [&down, &down, &down, &down, &Report::default(), &Report::default(), &Report::default()] {
        let task = pass(&mut pace, now);
        deep.push(task.deep);
        pace.ended(&task, report, now);
        now = wait(&mut pace, now);
    }
    assert_eq!(deep, [true, false, false, false, false, true, false]);
}

#[test]
fn a_store_that_is_down_is_asked_less_and_less_often_and_the_rest_goes_on() {
    let mut pace = Pace::new(options(), 0);
    let down =
        Report { unreadable: BTreeMap::from([(store("app"), "it is down".to_owned())]), ..Report::default() };
    let mut now = 0;
    let mut asked = Vec::new();
    for _ in 0..40 {
        let task = pass(&mut pace, now);
        if !task.away.contains_key(&store("app")) {
            asked.push(now);
        }
        pace.ended(&task, &down, now);
        now = wait(&mut pace, now);
    }
    let gaps: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] < gaps[2] && asked.len() < 15, "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= STORE_LONGEST_MS + 100_000), "{gaps:?}");
    // Up again: it is asked in every pass.
    loop {
        let task = pass(&mut pace, now);
        let away = task.away.contains_key(&store("app"));
        let report = if away { down.clone() } else { Report::default() };
        pace.ended(&task, &report, now);
        if !away {
            break;
        }
        now = wait(&mut pace, now);
    }
    now = wait(&mut pace, now);
    assert!(pass(&mut pace, now).away.is_empty());
}

#[test]
fn a_write_that_fails_is_tried_less_and_less_often() {
    let mut pace = Pace::new(options(), 0);
    let place = (record("C1"), store("app"));
    let trouble = Trouble { record: record("C1"), store: store("app"), message: String::new() };
    let failing = Report { failed: vec![trouble], ..Report::default() };
    let mut now = 0;
    let mut tried = Vec::new();
    while now < 8 * 3_600_000 {
        let task = pass(&mut pace, now);
        let held = task.waiting.contains(&place);
        if !held {
            tried.push(now);
        }
        let report = if held { Report::default() } else { failing.clone() };
        pace.ended(&task, &report, now);
        now = wait(&mut pace, now);
    }
    assert!((10..25).contains(&tried.len()), "{tried:?}");
    let last = tried.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!((3_000_000..4_200_000).contains(&last), "{last}");
    // It goes through: nothing is held against it any more.
    loop {
        let task = pass(&mut pace, now);
        let held = task.waiting.contains(&place);
        pace.ended(&task, &Report::default(), now);
        if !held {
            break;
        }
        now = wait(&mut pace, now);
    }
    assert_eq!(pace.waiting(now), 0);
}

#[test]
fn hints_are_gathered_and_looked_at_together() {
    let mut pace = Pace::new(options(), 0);
    let task = pass(&mut pace, 0);
    pace.ended(&task, &Report::default(), 0);
    assert_eq!(pace.hint(record("C2"), 1_000), Hinted::Queued);
    assert_eq!(pace.hint(record("C1"), 1_200), Hinted::Queued);
    assert_eq!(pace.hint(record("C2"), 1_300), Hinted::Known);
    assert_eq!(wait(&mut pace, 1_300), 1_500);
    let task = pass(&mut pace, 1_500);
    assert_eq!(task.only, Some(vec![record("C1"), record("C2")]));
    pace.ended(&task, &Report::default(), 1_510);
    assert_eq!(pace.queue(), 0);
    assert!(wait(&mut pace, 1_510) > 50_000, "the interval goes on as it was");
}

#[test]
fn a_burst_is_bounded_and_nothing_of_it_is_forgotten() {
    let mut pace = Pace::new(options(), 0);
    let task = pass(&mut pace, 0);
    pace.ended(&task, &Report::default(), 0);
    let dropped = (0..LARGEST_QUEUE + 500)
        .filter(|number| pace.hint(record(&number.to_string()), 10) == Hinted::Dropped)
        .count();
    assert_eq!((dropped, pace.queue()), (500, LARGEST_QUEUE));
    let task = pass(&mut pace, 510);
    assert_eq!((task.only, task.deep), (None, false), "everything that changed comes first");
}

#[test]
fn records_that_cannot_be_looked_at_alone_are_looked_at_with_the_rest() {
    let mut pace = Pace::new(options(), 0);
    let task = pass(&mut pace, 0);
    pace.ended(&task, &Report::default(), 0);
    pace.hint(record("C1"), 1_000);
    let task = pass(&mut pace, 1_500);
    pace.ended(&task, &Report { look_further: true, ..Report::default() }, 1_600);
    assert_eq!(wait(&mut pace, 1_600), 2_100);
    assert_eq!(pass(&mut pace, 2_100).only, None);
}

#[test]
fn a_record_written_again_and_again_is_named_once_a_window() {
    let mut pace = Pace::new(options(), 0);
    let wrote = Report { written: vec![(record("C1"), store("app"))], ..Report::default() };
    let mut now = 0;
    let mut broken = Vec::new();
    for _ in 0..5 {
        let task = pass(&mut pace, now);
        broken.push(pace.ended(&task, &wrote, now));
        now = wait(&mut pace, now);
    }
    assert_eq!(broken, [vec![], vec![], vec![], vec![], vec![(record("C1"), 5)]]);
    // Slow enough: never.
    let mut pace = Pace::new(PaceOptions { breaker_window_ms: 200_000, ..options() }, 0);
    for _ in 0..20 {
        let task = pass(&mut pace, now);
        assert_eq!(pace.ended(&task, &wrote, now), []);
        now = wait(&mut pace, now);
    }
}

#[test]
fn one_without_the_lease_asks_again_and_a_failed_pass_is_followed_by_another() {
    let mut pace = Pace::new(options(), 0);
    let _ = pass(&mut pace, 0);
    pace.stand_by(0);
    let again = wait(&mut pace, 0);
    assert!((9_000..=11_000).contains(&again), "{again}");
    let task = pass(&mut pace, again);
    pace.failed(&task, again);
    let next = wait(&mut pace, again);
    assert!((54_000..=66_000).contains(&(next - again)), "{next}");
}

#[test]
fn other_manifests_mean_that_everything_is_read() {
    let mut pace = Pace::new(options(), 0);
    let task = pass(&mut pace, 0);
    pace.ended(&task, &Report::default(), 0);
    pace.hint(record("C1"), 10);
    pace.change(options(), 20);
    assert!(pass(&mut pace, 20).deep);
    assert_eq!(pace.queue(), 1);
}
