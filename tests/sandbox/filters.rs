//! Filters over REST, and pages with their traps.

use serde_json::{Value, json};
use trueup::sandbox::{Calls, Clock, Fault, Options};

use super::harness::{Twenty, encoded, roomy, uuid};

/// Three people of one test's own: titles `a<mark>`, `b<mark>` and none.
async fn three(twenty: &Twenty) -> (String, Vec<String>) {
    let mark = uuid();
    let ids = [uuid(), uuid(), uuid()];
    for (id, title) in ids.iter().zip([Some("a"), Some("b"), None]) {
        let title = title.map(|title| format!("{title} {mark}"));
        twenty.person(json!({"id": id, "jobTitle": title, "avatarUrl": mark})).await;
    }
    (mark, ids.into())
}

async fn ids(twenty: &Twenty, filter: &str) -> Vec<String> {
    let found = twenty.found("people", filter).await;
    let mut ids: Vec<String> = found.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

async fn status(twenty: &Twenty, filter: &str) -> u16 {
    twenty.get(&format!("/rest/people?filter={}", encoded(filter))).await.0
}

#[tokio::test]
async fn filters_compare_and_join() {
    let twenty = Twenty::any();
    let (mark, all) = three(&twenty).await;
    let of = |picked: &[usize]| picked.iter().map(|at| all[*at].clone()).collect::<Vec<_>>();
    let cases = [
        (format!("avatarUrl[eq]:{mark}"), of(&[0, 1, 2])),
        (format!("jobTitle[eq]:\"a {mark}\""), of(&[0])),
        (format!("avatarUrl[eq]:{mark},jobTitle[gt]:\"a {mark}\""), of(&[1])),
        (format!("avatarUrl[eq]:{mark},jobTitle[gte]:\"a {mark}\""), of(&[0, 1])),
        (format!("avatarUrl[eq]:{mark},jobTitle[lt]:\"b {mark}\""), of(&[0])),
        (format!("avatarUrl[eq]:{mark},jobTitle[lte]:\"b {mark}\""), of(&[0, 1])),
        (format!("or(jobTitle[eq]:\"a {mark}\",jobTitle[eq]:\"b {mark}\")"), of(&[0, 1])),
        (format!("and(avatarUrl[eq]:{mark},or(jobTitle[is]:NULL,jobTitle[eq]:\"b {mark}\"))"), of(&[1, 2])),
        (format!("avatarUrl[eq]:{mark},jobTitle[is]:NOT_NULL"), of(&[0, 1])),
        (format!("id[in]:[{},{}]", all[0], all[2]), of(&[0, 2])),
        (format!("id[in]:[\"{}\"]", all[1]), of(&[1])),
    ];
    for (filter, expected) in cases {
        assert_eq!(ids(&twenty, &filter).await, expected, "{filter}");
    }
    twenty.clean().await;
}

#[tokio::test]
async fn a_filter_reaches_into_composites() {
    let twenty = Twenty::any();
    let mark = uuid();
    let person = twenty.person(json!({"name": {"firstName": mark}})).await;
    let found = ids(&twenty, &format!("name.firstName[eq]:{mark}")).await;
    assert_eq!(json!(found), json!([person["id"]]));
    twenty.clean().await;
}

#[tokio::test]
async fn in_splits_on_commas_even_inside_quotes() {
    let twenty = Twenty::any();
    let mark = uuid();
    let whole = format!("Baker, {mark}");
    twenty.person(json!({"jobTitle": whole})).await;
    assert_eq!(ids(&twenty, &format!("jobTitle[eq]:\"{whole}\"")).await.len(), 1);
    assert_eq!(ids(&twenty, &format!("jobTitle[in]:[\"{whole}\"]")).await.len(), 0);
    twenty.clean().await;
}

#[tokio::test]
async fn unbalanced_parentheses_or_quotes_are_400() {
    let twenty = Twenty::any();
    for value in ["a)", "(a", "a\"b", "\"a(\"", "\"a)\"", "a)(b"] {
        assert_eq!(status(&twenty, &format!("jobTitle[eq]:{value}")).await, 400, "{value}");
    }
    assert_eq!(status(&twenty, "jobTitle[eq]:\"(a)\"").await, 200);
}

#[tokio::test]
async fn eq_null_in_quotes_matches_every_empty_row() {
    let twenty = Twenty::any();
    let (mark, all) = three(&twenty).await;
    let found = ids(&twenty, &format!("avatarUrl[eq]:{mark},jobTitle[eq]:\"NULL\"")).await;
    assert_eq!(found, [all[2].clone()]);
    twenty.clean().await;
}

#[tokio::test]
async fn neq_and_not_drop_null_rows() {
    let twenty = Twenty::any();
    let (mark, all) = three(&twenty).await;
    let neq = ids(&twenty, &format!("avatarUrl[eq]:{mark},jobTitle[neq]:\"a {mark}\"")).await;
    assert_eq!(neq, [all[1].clone()]);
    let not = ids(&twenty, &format!("avatarUrl[eq]:{mark},not(jobTitle[eq]:\"a {mark}\")")).await;
    assert_eq!(not, [all[1].clone()]);
    twenty.clean().await;
}

#[tokio::test]
async fn a_time_in_a_filter_has_at_most_3_fraction_digits() {
    let twenty = Twenty::any();
    assert_eq!(status(&twenty, "updatedAt[gte]:2026-01-01T00:00:00.123Z").await, 200);
    assert_eq!(status(&twenty, "updatedAt[gte]:2026-01-01T00:00:00Z").await, 200);
    assert_eq!(status(&twenty, "updatedAt[gte]:2026-01-01T00:00:00.1234Z").await, 400);
}

#[tokio::test]
async fn deleted_at_not_null_lists_deleted_rows() {
    let twenty = Twenty::any();
    let (mark, all) = three(&twenty).await;
    twenty.delete(&format!("/rest/people/{}?soft_delete=true", all[1])).await;
    assert_eq!(ids(&twenty, &format!("avatarUrl[eq]:{mark}")).await, [all[0].clone(), all[2].clone()]);
    assert_eq!(ids(&twenty, &format!("avatarUrl[eq]:{mark},deletedAt[is]:NOT_NULL")).await, [all[1].clone()]);
    twenty.clean().await;
}

#[tokio::test]
async fn a_filter_that_nobody_measured_is_refused() {
    let twenty = Twenty::local();
    for filter in [
        "city[eq]:Basel",
        "jobTitle[like]:%a%",
        "jobTitle[eq]:",
        "jobTitle",
        "jobTitle[neq]:NULL",
        "position[gt]:high",
        "emails.additionalEmails[eq]:a",
        "jobTitle[is]:EMPTY",
        "id[eq]:7",
        "jobTitle[in]:a,b",
        "company.name[eq]:x",
        "jobTitle[eq]:\"\"",
        "or(jobTitle[eq]:a,city[eq]:b)",
    ] {
        assert_eq!(status(&twenty, filter).await, 400, "{filter}");
    }
}

/// All pages of a listing: the ids, and how many pages there were.
async fn walked(twenty: &Twenty, query: &str) -> (Vec<String>, usize) {
    let (mut ids, mut pages, mut after) = (Vec::new(), 0, String::new());
    loop {
        let (status, answer) = twenty.get(&format!("/rest/people?limit=2{query}{after}")).await;
        assert_eq!(status, 200, "{answer}");
        pages += 1;
        let rows = answer["data"]["people"].as_array().unwrap();
        ids.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        if answer["pageInfo"]["hasNextPage"] == Value::Bool(false) {
            return (ids, pages);
        }
        after = format!("&starting_after={}", answer["pageInfo"]["endCursor"].as_str().unwrap());
    }
}

#[tokio::test]
async fn the_default_order_is_by_id_and_loses_nothing() {
    let twenty = Twenty::any();
    let (mark, mut all) = three(&twenty).await;
    for _ in 0..2 {
        let id = uuid();
        twenty.person(json!({"id": id, "avatarUrl": mark})).await;
        all.push(id);
    }
    all.sort();
    let filter = format!("&filter={}", encoded(&format!("avatarUrl[eq]:{mark}")));
    assert_eq!(walked(&twenty, &filter).await, (all, 3));
    twenty.clean().await;
}

#[tokio::test]
async fn ordering_by_a_nullable_field_loses_rows_silently() {
    let twenty = Twenty::local();
    for title in [None, None, None, Some("a"), Some("b"), Some("c")] {
        twenty.person(json!({"jobTitle": title})).await;
    }
    // A page that ends in an empty row is followed by none.
    let (ids, _) = walked(&twenty, "&order_by=jobTitle%5BAscNullsFirst%5D").await;
    assert_eq!(ids.len(), 2);
    // Empty rows are never behind a full one.
    let (ids, _) = walked(&twenty, "&order_by=jobTitle%5BAscNullsLast%5D").await;
    assert!((3..6).contains(&ids.len()), "{ids:?}");
    assert_eq!(walked(&twenty, "").await.0.len(), 6);
}

#[tokio::test]
async fn ordering_by_updated_at_skips_rows_within_one_millisecond() {
    let (clock, hand) = Clock::manual(1_700_000_000_000);
    let twenty = Twenty::with(Options { clock, ..roomy() });
    for at in 0..6 {
        twenty.person(json!({})).await;
        if at == 3 {
            hand.advance(std::time::Duration::from_millis(1));
        }
    }
    let (ids, _) = walked(&twenty, "&order_by=updatedAt%5BAscNullsLast%5D").await;
    assert_eq!(ids.len(), 4, "two of the first four are skipped");
    let since = format!("&filter={}", encoded("updatedAt[gte]:2023-11-14T22:13:20.000Z"));
    assert_eq!(walked(&twenty, &since).await.0.len(), 6, "a filter with an overlap finds all");
}

#[tokio::test]
async fn destroyed_rows_leave_no_trace_but_the_count() {
    let twenty = Twenty::local();
    let people = [twenty.person(json!({})).await, twenty.person(json!({})).await];
    let since = format!("/rest/people?filter={}", encoded("updatedAt[gte]:2000-01-01T00:00:00.000Z"));
    assert_eq!(twenty.get(&since).await.1["totalCount"], 2);
    twenty.delete(&format!("/rest/people/{}", people[0]["id"].as_str().unwrap())).await;
    let (_, answer) = twenty.get(&since).await;
    assert_eq!(answer["totalCount"], 1);
    assert_eq!(answer["data"]["people"][0]["updatedAt"], people[1]["updatedAt"]);
    assert!(twenty.found("people", "deletedAt[is]:NOT_NULL").await.is_empty());
}

#[tokio::test]
async fn a_row_that_comes_behind_the_reader_is_missed_and_counted() {
    let twenty = Twenty::local();
    for at in 1..=4 {
        twenty.person(json!({"id": format!("{at}0000000-0000-4000-8000-000000000000")})).await;
    }
    let early = "05000000-0000-4000-8000-000000000000";
    let edit = Fault::then(move |editor| {
        editor.create("people", &json!({"id": early})).unwrap();
    });
    twenty.inside().faults().add(Calls::all().path("/rest/people").times(1), edit);
    let (ids, _) = walked(&twenty, "").await;
    assert_eq!(ids.len(), 4);
    assert_eq!(twenty.get("/rest/people").await.1["totalCount"], 5);
}

#[tokio::test]
async fn a_cursor_has_to_be_one() {
    let twenty = Twenty::local();
    for cursor in ["x", "7b7d", "zz", ""] {
        assert_eq!(twenty.get(&format!("/rest/people?starting_after={cursor}")).await.0, 400, "{cursor}");
    }
}
