//! Plans and reports as they are shown and saved: to people, as JSON, as a stream and as files.

mod plans;

use proptest::prelude::*;
use trueup::diff::{ActionKind, Reason};
use trueup::model::Value;
use trueup::plan::file::{self, PlanFileError};
use trueup::plan::json::{plan_json, stream};
use trueup::plan::{Plan, Rates, RenderOptions, ReportOptions, render, render_report};
use trueup::reconcile::{Report, Trouble};
use trueup::resolve::OriginRule;

use plans::*;

fn in_batches(size: usize) -> Rates {
    Rates { batch_sizes: [(store("app"), size)].into(), ..Rates::default() }
}

fn plain(plan: &Plan) -> String {
    render(plan, &RenderOptions::default())
}

#[test]
fn every_kind_of_action() {
    let options = RenderOptions { rates: in_batches(100), ..RenderOptions::default() };
    insta::assert_snapshot!(render(&full(), &options));
}

#[test]
fn metadata_one_by_one_when_asked() {
    let page = render(&full(), &RenderOptions { verbose: true, ..RenderOptions::default() });
    assert!(
        page.contains("# app.contacts[\"C4\"] will get its metadata brought up (version 3 -> 4)"),
        "{page}"
    );
    assert!(page.contains(
        "# hub.contacts[\"C5\"] will get its sync status and errors brought up (sync status: conflict)"
    ));
}

#[test]
fn conflicts_notices_and_guards() {
    insta::assert_snapshot!(plain(&troubled()));
}

#[test]
fn nothing_to_do() {
    insta::assert_snapshot!(plain(&empty()), @"No changes. Every store holds what the manifests say it should.");
}

#[test]
fn nothing_to_do_but_records_wait() {
    insta::assert_snapshot!(plain(&waiting()));
}

#[test]
fn nothing_to_write_because_of_a_guard_is_not_no_changes() {
    let page = plain(&Plan { guards: vec![trip()], ..empty() });
    assert!(!page.contains("No changes"), "{page}");
    assert!(page.contains("--allow deletes"), "{page}");
}

#[test]
fn only_the_symbols_present_are_explained() {
    let mut plan = full();
    plan.records = plan.records.to_vec().drain(..1).collect::<Vec<_>>().into();
    let page = plain(&plan);
    assert!(
        page.contains("  + create\n") && !page.contains("update in place") && !page.contains("  - delete"),
        "{page}"
    );
    assert!(page.contains("Plan: 1 to add, 0 to change, 0 to destroy.\n"), "{page}");
}

#[test]
fn colours_only_where_asked_for() {
    assert!(!plain(&full()).contains('\u{1b}'));
    let page = render(&full(), &RenderOptions { color: true, ..RenderOptions::default() });
    for (symbol, color) in [('+', 32), ('~', 33), ('-', 31)] {
        assert!(page.contains(&format!("\u{1b}[{color}m{symbol}\u{1b}[0m")), "{symbol}");
    }
}

#[test]
fn big_plans_stay_readable() {
    let title = || change("title", text("Ms"), text("Dr"), "local", OriginRule::OnlyChange);
    let update = || action("app", ActionKind::Update, Reason::Differs, vec![title()], &[]);
    let plan = Plan {
        records: (0..5000).map(|n| record(&format!("C{n:05}"), vec![update()])).collect::<Vec<_>>().into(),
        ..empty()
    };
    let page = plain(&plan);
    assert_eq!(page.matches("will be updated in place").count(), 50);
    assert!(page.contains("# 4950 more actions of contacts not shown one by one"), "{page}");
    assert!(page.contains("  ~ app.contacts 4950 records: title\n"));
    assert!(page.contains("Plan: 0 to add, 5000 to change, 0 to destroy."));
    let all = render(&plan, &RenderOptions { verbose: true, ..RenderOptions::default() });
    assert_eq!(all.matches("will be updated in place").count(), 5000);
}

#[test]
fn a_value_cannot_look_like_a_line_of_the_plan() {
    let forged = "x\n\nPlan: 0 to add, 0 to change, 0 to destroy.\r\n  # app.contacts[\"C1\"] will be deleted\u{1b}[2J";
    let hostile = change("title", text("a"), text(forged), "local", OriginRule::OnlyChange);
    let update = action("app", ActionKind::Update, Reason::Differs, vec![hostile], &[]);
    let mut plan = Plan { records: vec![record("C1\n  - x", vec![update])].into(), ..empty() };
    plan.notices = vec![notice(
        trueup::plan::NoticeKind::Held,
        "C\u{9b}2",
        None,
        "title\nPlan: 9 to add, 0 to change, 0 to destroy.\u{1b}[1m",
    )];
    for page in [plain(&plan), render(&plan, &RenderOptions { verbose: true, ..RenderOptions::default() })] {
        assert_eq!(page.lines().filter(|line| line.starts_with("Plan: ")).count(), 1, "{page}");
        assert!(
            !page.lines().any(|line| line.starts_with("  # ") && line.contains("will be deleted")),
            "{page}"
        );
        assert!(page.chars().all(|c| c == '\n' || !c.is_control()), "{page:?}");
    }
}

#[test]
fn sensitive_values_are_shown_nowhere() {
    let plan = full();
    let pages = [
        plain(&plan),
        render(&plan, &RenderOptions { verbose: true, ..RenderOptions::default() }),
        plan_json(&plan, &Rates::default()).to_string(),
        stream::plan(&plan, at(0)).iter().map(ToString::to_string).collect(),
    ];
    for page in pages {
        for secret in ["P-4711", "P-0815", "P-1"] {
            assert!(!page.contains(secret), "{secret} in {page}");
        }
        assert!(page.contains("Zoë") || page.contains("planned_change"), "{page}");
    }
}

#[test]
fn a_conflict_over_a_field_of_unknown_sensitivity_shows_no_value() {
    let mut plan = troubled();
    let mut records = plan.records.to_vec();
    records[0].actions.clear();
    plan.records = records.into();
    for page in [plain(&plan), plan_json(&plan, &Rates::default()).to_string()] {
        assert!(!page.contains("Prof") && !page.contains("\"Dr\""), "{page}");
    }
}

#[test]
fn the_plan_as_json() {
    insta::assert_snapshot!("json_full", format!("{:#}", plan_json(&full(), &in_batches(1))));
    insta::assert_snapshot!("json_troubled", format!("{:#}", plan_json(&troubled(), &Rates::default())));
}

#[test]
fn the_stream() {
    let mut lines = vec![stream::version("0.1.0", at(1))];
    lines.extend(stream::plan(&troubled(), at(2)));
    lines.push(stream::apply_start(&store("local"), &entity("contacts"), 1, at(3)));
    lines.push(stream::apply_complete(&store("local"), &id("1"), ActionKind::Update, at(4)));
    lines.extend(stream::report(&report(), at(5)));
    for line in &lines {
        for key in ["@level", "@message", "@timestamp", "type"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text.join("\n"));
}

fn report() -> Report {
    let trouble = |key: &str, message: &str| Trouble {
        record: id(key),
        store: store("app"),
        message: message.to_owned(),
    };
    let mut report = Report { pass: Some(7), conflicts_settled: 1, books: full().books, ..Report::default() };
    report.applied.create = 1;
    report.applied.update = 2;
    report.applied.metadata = 3;
    report.skipped = vec![trouble("C2", "somebody changed it since it was looked at")];
    report.failed = vec![trouble("C3", "the store refuses it\u{1b}[31m")];
    report.unknown = vec![trouble("C4", "no answer came")];
    report
}

#[test]
fn what_was_done() {
    insta::assert_snapshot!(render_report(
        &report(),
        &ReportOptions { verbose: true, ..ReportOptions::default() }
    ));
    let clean = Report { applied: report().applied, ..Report::default() };
    insta::assert_snapshot!(render_report(&clean, &ReportOptions::default()), @r"
    Apply complete! Records: 1 added, 2 changed, 0 destroyed.
    Metadata only: 3 rows.
    ");
}

#[test]
fn a_saved_plan_is_the_plan() {
    for plan in [empty(), full(), troubled(), waiting()] {
        let bytes = file::encode(&plan, "0.1.0").unwrap();
        let (header, read) = file::decode(&bytes).unwrap();
        assert_eq!(read, plan);
        assert_eq!(header.spec_sha, plan.spec_sha);
        assert_eq!(header.tool, "0.1.0");
    }
}

#[test]
fn another_major_format_is_refused_by_name() {
    let bytes = file::encode(&full(), "0.1.0").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let with =
        |version: &str| text.replacen("trueup-plan 1.0", &format!("trueup-plan {version}"), 1).into_bytes();
    assert_eq!(file::decode(&with("2.0")), Err(PlanFileError::UnknownVersion { found: "2.0".to_owned() }));
    assert!(file::decode(&with("1.7")).is_ok(), "a minor version only adds");
    assert_eq!(file::decode(b"PK\x03\x04"), Err(PlanFileError::NotAPlan));
    assert_eq!(file::decode(b""), Err(PlanFileError::NotAPlan));
}

#[test]
fn a_changed_or_cut_plan_is_refused() {
    let bytes = file::encode(&full(), "0.1.0").unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let changed = text.replacen("Zoë", "Joe", 1);
    assert!(matches!(file::decode(changed.as_bytes()), Err(PlanFileError::Damaged { .. })));
    for end in (0..bytes.len()).step_by(97) {
        assert!(file::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    let mut longer = bytes;
    longer.push(b'x');
    assert!(file::decode(&longer).is_err());
}

/// A file around any body, with the right hash: what is inside is all that can be wrong.
fn around(body: &str) -> Vec<u8> {
    use sha2::Digest;
    let hash: String = sha2::Sha256::digest(body.as_bytes())
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let header = serde_json::json!({"tool": "0.1.0", "spec_sha": "5e".repeat(32), "sha256": hash});
    format!("trueup-plan 1.0\n{header}\n{body}\n").into_bytes()
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow() {
    let deep = "[".repeat(200_000);
    assert!(file::decode(&around(&deep)).is_err());
    let plan = serde_json::to_string(&full()).unwrap();
    let nested = plan.replacen("{\"j\":", &format!("{{\"j\":{}", "[".repeat(100_000)), 1);
    assert!(file::decode(&around(&nested)).is_err());
}

#[test]
fn odd_numbers_in_a_plan_do_not_panic() {
    let plan = serde_json::to_string(&full()).unwrap();
    for number in ["1e999999999", "-1e-999999999", "99999999999999999999999999", "0.1"] {
        let odd = plan
            .replace("\"score\":1", &format!("\"score\":{number}"))
            .replace("\"version\":4", &format!("\"version\":{number}"));
        if let Ok((_, plan)) = file::decode(&around(&odd)) {
            let _ = plain(&plan);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_are_no_plan(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(file::decode(&bytes).is_err());
        let mut headed = b"trueup-plan 1.0\n".to_vec();
        headed.extend(bytes);
        prop_assert!(file::decode(&headed).is_err());
    }

    /// Where the hash is made to fit, whatever still parses can be shown.
    #[test]
    fn a_mutated_plan_never_panics(place in any::<prop::sample::Index>(), with in "[ -~\u{80}-\u{9f}]{0,6}", cut in 0usize..12) {
        let body = serde_json::to_string(&full()).unwrap();
        let mut start = place.index(body.len());
        while !body.is_char_boundary(start) { start -= 1; }
        let mut end = (start + cut).min(body.len());
        while !body.is_char_boundary(end) { end -= 1; }
        let end = end.max(start);
        let mutated = format!("{}{with}{}", &body[..start], &body[end..]);
        if let Ok((_, plan)) = file::decode(&around(&mutated)) {
            let page = plain(&plan);
            prop_assert!(page.chars().all(|c| c == '\n' || !c.is_control()));
            let _ = plan_json(&plan, &Rates::default());
            let _ = stream::plan(&plan, at(0));
        }
    }

    /// No text in any place can add a line that begins like one of ours.
    #[test]
    fn no_text_forges_a_line(value in any::<String>(), before in any::<String>()) {
        let hostile = change("title", Value::text(before), Value::text(value), "local", OriginRule::OnlyChange);
        let update = action("app", ActionKind::Update, Reason::Differs, vec![hostile], &[]);
        let page = plain(&Plan { records: vec![record("C1", vec![update])].into(), ..empty() });
        prop_assert_eq!(page.lines().filter(|line| line.starts_with("Plan: ")).count(), 1);
        prop_assert_eq!(page.lines().filter(|line| line.starts_with("  # ")).count(), 1);
        prop_assert!(page.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
