//! What is written is not what is read back.

use serde_json::{Value, json};

use super::harness::{Twenty, email, message, uuid};

/// Patches one field and gives what it reads back as.
async fn back(twenty: &Twenty, id: &Value, field: &str, value: Value) -> Value {
    twenty.change(id, json!({field: value})).await[field].clone()
}

/// The person of a test with a field of its own.
async fn with_field(name: &str, more: Value) -> (Twenty, Value) {
    let twenty = Twenty::any();
    twenty.field("person", name, more).await;
    let id = twenty.person(json!({})).await["id"].clone();
    (twenty, id)
}

#[tokio::test]
async fn a_composite_that_is_null_is_silently_ignored() {
    let twenty = Twenty::any();
    let body = json!({
        "name": {"firstName": "Ada", "lastName": "Lovelace"}, "emails": {"primaryEmail": email()},
        "phones": {"primaryPhoneNumber": "+33612345678"}, "linkedinLink": {"primaryLinkUrl": "https://example.com/a"},
    });
    let person = twenty.person(body).await;
    for field in ["name", "emails", "phones", "linkedinLink"] {
        assert_eq!(back(&twenty, &person["id"], field, Value::Null).await, person[field], "{field}");
    }
    let made = twenty.person(json!({"name": null, "emails": null})).await;
    assert_eq!(made["name"], json!({"firstName": "", "lastName": ""}));
    twenty.clean().await;
}

#[tokio::test]
async fn text_null_reads_back_empty_and_empty_is_kept_as_null() {
    let twenty = Twenty::any();
    let mark = uuid();
    let id = twenty.person(json!({"jobTitle": "Baker", "avatarUrl": mark})).await["id"].clone();
    for empty in [Value::Null, json!("")] {
        assert_eq!(back(&twenty, &id, "jobTitle", empty).await, "");
        assert_eq!(twenty.found("people", &format!("avatarUrl[eq]:{mark},jobTitle[is]:NULL")).await.len(), 1);
    }
    twenty.clean().await;
}

#[tokio::test]
async fn text_is_not_trimmed() {
    let twenty = Twenty::any();
    let id = twenty.person(json!({})).await["id"].clone();
    for text in [" Baker ", "\t", "\n", "a\u{301}", "\u{1f600}", "NULL", "a\"b'c\\"] {
        assert_eq!(back(&twenty, &id, "jobTitle", json!(text)).await, text);
    }
    twenty.clean().await;
}

#[tokio::test]
async fn text_has_to_be_text() {
    let twenty = Twenty::any();
    let id = twenty.person(json!({})).await["id"].clone();
    for value in [json!(7), json!(true), json!({}), json!([])] {
        assert_eq!(twenty.refused(&id, json!({"jobTitle": value})).await.0, 400);
    }
    twenty.clean().await;
}

#[tokio::test]
async fn unique_text_is_case_sensitive_and_empty_is_not_unique() {
    let (twenty, id) = with_field("trueupUnique", json!({"type": "TEXT", "isUnique": true})).await;
    let other = twenty.person(json!({})).await["id"].clone();
    let (lower, upper) = (format!("a{}", uuid()), format!("A{}", uuid()));
    let twin = format!("A{}", &lower[1..]);
    assert_eq!(back(&twenty, &id, "trueupUnique", json!(lower)).await, lower.as_str());
    assert_eq!(twenty.refused(&other, json!({"trueupUnique": lower})).await.0, 400);
    assert_eq!(back(&twenty, &other, "trueupUnique", json!(twin)).await, twin.as_str());
    assert_eq!(back(&twenty, &other, "trueupUnique", json!(upper)).await, upper.as_str());
    for id in [&id, &other] {
        assert_eq!(back(&twenty, id, "trueupUnique", json!("")).await, "");
    }
    twenty.clean().await;
}

#[tokio::test]
async fn emails_are_lower_cased() {
    let twenty = Twenty::any();
    let (one, two) = (email(), email());
    let written = json!({"primaryEmail": one.to_uppercase(), "additionalEmails": [two.to_uppercase()]});
    let id = twenty.person(json!({})).await["id"].clone();
    let read = back(&twenty, &id, "emails", written).await;
    assert_eq!(read, json!({"primaryEmail": one, "additionalEmails": [two]}));
    assert_eq!(back(&twenty, &id, "emails", read.clone()).await, read, "what reads back stays");
    twenty.clean().await;
}

#[tokio::test]
async fn emails_with_spaces_or_invalid_are_400() {
    let twenty = Twenty::any();
    let id = twenty.person(json!({})).await["id"].clone();
    for bad in [" a@example.com", "a@example.com ", "a b@example.com", "a", "a@", "@example.com", "a@example"]
    {
        assert_eq!(twenty.refused(&id, json!({"emails": {"primaryEmail": bad}})).await.0, 400, "{bad}");
        let additional = json!({"emails": {"primaryEmail": "", "additionalEmails": [bad]}});
        assert_eq!(twenty.refused(&id, additional).await.0, 400, "{bad}");
    }
    twenty.clean().await;
}

#[tokio::test]
async fn an_emails_patch_without_primary_email_wipes_it() {
    let twenty = Twenty::any();
    let (one, two) = (email(), email());
    let person = twenty.person(json!({"emails": {"primaryEmail": one, "additionalEmails": [two]}})).await;
    let read = back(&twenty, &person["id"], "emails", json!({"additionalEmails": [two]})).await;
    assert_eq!(read, json!({"primaryEmail": "", "additionalEmails": [two]}));
    twenty.clean().await;
}

#[tokio::test]
async fn phones_are_parsed() {
    let twenty = Twenty::any();
    let id = twenty.person(json!({})).await["id"].clone();
    let cases = [
        (json!({"primaryPhoneNumber": "+33612345678"}), ("612345678", "FR", "+33")),
        (json!({"primaryPhoneNumber": "+447911123456"}), ("7911123456", "GG", "+44")),
        (
            json!({"primaryPhoneNumber": "06 12 34 56 78", "primaryPhoneCountryCode": "FR"}),
            ("612345678", "FR", "+33"),
        ),
        (json!({"primaryPhoneNumber": "+1 (202) 555-0123"}), ("2025550123", "US", "+1")),
    ];
    for (written, (number, country, calling)) in cases {
        let read = back(&twenty, &id, "phones", written.clone()).await;
        let expected = json!({
            "primaryPhoneNumber": number, "primaryPhoneCountryCode": country, "primaryPhoneCallingCode": calling,
            "additionalPhones": [],
        });
        assert_eq!(read, expected, "{written}");
        assert_eq!(back(&twenty, &id, "phones", read.clone()).await, read, "what reads back stays");
    }
    twenty.clean().await;
}

#[tokio::test]
async fn a_phone_without_plus_and_country_is_400() {
    let twenty = Twenty::any();
    let id = twenty.person(json!({})).await["id"].clone();
    for bad in ["0612345678", "612345678", "hello"] {
        assert_eq!(twenty.refused(&id, json!({"phones": {"primaryPhoneNumber": bad}})).await.0, 400, "{bad}");
    }
    twenty.clean().await;
}

#[tokio::test]
async fn an_extension_is_dropped() {
    let twenty = Twenty::any();
    let id = twenty.person(json!({})).await["id"].clone();
    let read = back(&twenty, &id, "phones", json!({"primaryPhoneNumber": "+12025550123 ext. 45"})).await;
    assert_eq!(read["primaryPhoneNumber"], "2025550123");
    twenty.clean().await;
}

#[tokio::test]
async fn a_phones_patch_without_additional_phones_wipes_them() {
    let twenty = Twenty::any();
    let more = json!([{"number": "2025550124", "countryCode": "US", "callingCode": "+1"}]);
    let phones = json!({"primaryPhoneNumber": "+12025550123", "additionalPhones": more});
    let person = twenty.person(json!({"phones": phones})).await;
    assert_eq!(person["phones"]["additionalPhones"], more);
    let read = back(&twenty, &person["id"], "phones", json!({"primaryPhoneNumber": "+12025550123"})).await;
    assert_eq!(read["additionalPhones"], json!([]));
    twenty.clean().await;
}

#[tokio::test]
async fn phones_are_cleared_by_emptying_all_four() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({"phones": {"primaryPhoneNumber": "+12025550123"}})).await;
    let part = back(&twenty, &person["id"], "phones", json!({"primaryPhoneNumber": ""})).await;
    assert_eq!((&part["primaryPhoneNumber"], &part["primaryPhoneCountryCode"]), (&json!(""), &json!("US")));
    let empty = json!({
        "primaryPhoneNumber": "", "primaryPhoneCountryCode": "", "primaryPhoneCallingCode": "", "additionalPhones": [],
    });
    assert_eq!(back(&twenty, &person["id"], "phones", empty.clone()).await, empty);
    twenty.clean().await;
}

#[tokio::test]
async fn additional_emails_and_phones_are_accepted() {
    let twenty = Twenty::any();
    let emails = json!({"primaryEmail": email(), "additionalEmails": [email(), email()]});
    let phones = json!({
        "primaryPhoneNumber": "+12025550123",
        "additionalPhones": [{"number": "+33612345678", "countryCode": "FR", "callingCode": "+33"}],
    });
    let person = twenty.person(json!({"emails": emails, "phones": phones})).await;
    assert_eq!(person["emails"], emails);
    let more = json!([{"number": "612345678", "countryCode": "FR", "callingCode": "+33"}]);
    assert_eq!(person["phones"]["additionalPhones"], more);
    twenty.clean().await;
}

#[tokio::test]
async fn links_lose_case_in_the_origin_a_slash_and_a_default_port() {
    let twenty = Twenty::any();
    let id = twenty.person(json!({})).await["id"].clone();
    let cases = [
        ("HTTPS://Example.COM/", "https://example.com"),
        ("https://example.com:443/Path/", "https://example.com/Path"),
        ("http://example.com:80/a", "http://example.com/a"),
    ];
    for (written, read) in cases {
        let link = json!({"primaryLinkUrl": written, "primaryLinkLabel": "L", "secondaryLinks": [{"url": written, "label": "M"}]});
        let link = back(&twenty, &id, "linkedinLink", link).await;
        let expected = json!({"primaryLinkUrl": read, "primaryLinkLabel": "L", "secondaryLinks": [{"url": read, "label": "M"}]});
        assert_eq!(link, expected);
    }
    twenty.clean().await;
}

#[tokio::test]
async fn a_partial_patch_of_links_replaces_all() {
    let twenty = Twenty::any();
    let links = json!({
        "primaryLinkUrl": "https://example.com/a", "primaryLinkLabel": "A",
        "secondaryLinks": [{"url": "https://example.com/b", "label": "B"}],
    });
    let person = twenty.person(json!({"linkedinLink": links})).await;
    let read = back(&twenty, &person["id"], "linkedinLink", json!({"primaryLinkLabel": "C"})).await;
    assert_eq!(read, json!({"primaryLinkUrl": "", "primaryLinkLabel": "C", "secondaryLinks": []}));
    twenty.clean().await;
}

#[tokio::test]
async fn name_address_and_currency_merge() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({"name": {"firstName": "Ada", "lastName": "Byron"}})).await;
    let name = back(&twenty, &person["id"], "name", json!({"lastName": "Lovelace"})).await;
    assert_eq!(name, json!({"firstName": "Ada", "lastName": "Lovelace"}));
    let body = json!({
        "address": {"addressCity": "Basel", "addressStreet1": "1 Example Street"},
        "annualRevenue": {"amountMicros": 5_000_000, "currencyCode": "USD"},
    });
    let company = twenty.create("companies", body).await;
    let path = format!("/rest/companies/{}", company["id"].as_str().unwrap());
    let patch = json!({"address": {"addressCity": "Bern"}, "annualRevenue": {"amountMicros": 6_000_000}});
    let (_, answer) = twenty.patch(&path, patch).await;
    let company = &answer["data"]["updateCompany"];
    assert_eq!(company["address"]["addressCity"], "Bern");
    assert_eq!(company["address"]["addressStreet1"], "1 Example Street");
    assert_eq!(company["annualRevenue"], json!({"amountMicros": 6_000_000, "currencyCode": "USD"}));
    twenty.clean().await;
}

#[tokio::test]
async fn a_number_is_a_double_and_a_string_is_400() {
    let (twenty, id) = with_field("trueupNumber", json!({"type": "NUMBER"})).await;
    for (written, read) in [
        ("1.5", "1.5"),
        ("1.0", "1"),
        ("-0", "0"),
        ("9007199254740993", "9007199254740992"),
        ("null", "null"),
    ] {
        let value: Value = serde_json::from_str(written).unwrap();
        assert_eq!(back(&twenty, &id, "trueupNumber", value).await.to_string(), read);
    }
    assert_eq!(twenty.refused(&id, json!({"trueupNumber": "1"})).await.0, 400);
    twenty.clean().await;
}

#[tokio::test]
async fn raw_json_reorders_keys() {
    let (twenty, id) = with_field("trueupJson", json!({"type": "RAW_JSON"})).await;
    let path = format!("{}/rest/people/{}", twenty.url, id.as_str().unwrap());
    let patch =
        twenty.client.patch(&path).bearer_auth(&twenty.key).header("content-type", "application/json");
    let patch = patch.body(r#"{"trueupJson": {"bb": 1, "z": {"yy": 1, "x": 2}, "a": 3, "a": 4}}"#);
    let text = patch.send().await.unwrap().text().await.unwrap();
    assert!(text.replace(' ', "").contains(r#""trueupJson":{"a":4,"z":{"x":2,"yy":1},"bb":1}"#), "{text}");
    twenty.clean().await;
}

#[tokio::test]
async fn raw_json_loses_empty_values_at_the_top() {
    let (twenty, id) = with_field("trueupJson", json!({"type": "RAW_JSON"})).await;
    for (written, read) in [
        (json!({}), Value::Null),
        (json!([]), Value::Null),
        (Value::Null, Value::Null),
        (json!({"a": {}, "b": []}), json!({"a": {}, "b": []})),
        (json!([[]]), json!([[]])),
    ] {
        assert_eq!(back(&twenty, &id, "trueupJson", written).await, read);
    }
    twenty.clean().await;
}

#[tokio::test]
async fn raw_json_numbers_are_doubles() {
    let (twenty, id) = with_field("trueupJson", json!({"type": "RAW_JSON"})).await;
    for (written, read) in [
        ("[9007199254740993]", "[9007199254740992]"),
        ("[1.0]", "[1]"),
        (r#"{"a":[{"b":12345678901234567890}]}"#, r#"{"a":[{"b":12345678901234567000}]}"#),
    ] {
        let value: Value = serde_json::from_str(written).unwrap();
        let read_back = back(&twenty, &id, "trueupJson", value).await.to_string();
        let as_double = |text: &str| text.replace("12345678901234567000", "12345678901234567168");
        assert_eq!(as_double(&read_back), as_double(read));
    }
    twenty.clean().await;
}

#[tokio::test]
async fn raw_json_scalars_are_400() {
    let (twenty, id) = with_field("trueupJson", json!({"type": "RAW_JSON"})).await;
    for scalar in [json!(1), json!("text"), json!(true)] {
        assert_eq!(twenty.refused(&id, json!({"trueupJson": scalar})).await.0, 400);
    }
    twenty.clean().await;
}

#[tokio::test]
async fn a_date_time_is_utc_with_milliseconds() {
    let (twenty, id) = with_field("trueupTime", json!({"type": "DATE_TIME"})).await;
    for (written, read) in [
        ("2026-01-31T08:15:00.123999Z", "2026-01-31T08:15:00.123Z"),
        ("2026-01-31T08:15:00+02:00", "2026-01-31T06:15:00.000Z"),
        ("2026-01-31T08:15:00Z", "2026-01-31T08:15:00.000Z"),
    ] {
        assert_eq!(back(&twenty, &id, "trueupTime", json!(written)).await, read);
    }
    assert_eq!(twenty.refused(&id, json!({"trueupTime": ""})).await.0, 400);
    assert_eq!(back(&twenty, &id, "trueupTime", Value::Null).await, Value::Null);
    twenty.clean().await;
}

#[tokio::test]
async fn multi_select_and_array_read_null_back_as_empty() {
    let options = json!([
        {"value": "RED", "label": "Red", "position": 0, "color": "red"},
        {"value": "DARK_BLUE", "label": "Dark blue", "position": 1, "color": "blue"},
    ]);
    let (twenty, id) = with_field("trueupChoices", json!({"type": "MULTI_SELECT", "options": options})).await;
    twenty.field("person", "trueupList", json!({"type": "ARRAY"})).await;
    for field in ["trueupChoices", "trueupList"] {
        let values = if field == "trueupList" { json!(["b", "a", "b"]) } else { json!(["DARK_BLUE"]) };
        assert_eq!(back(&twenty, &id, field, values.clone()).await, values);
        assert_eq!(back(&twenty, &id, field, Value::Null).await, json!([]));
    }
    assert_eq!(twenty.refused(&id, json!({"trueupChoices": ["GREEN"]})).await.0, 400);
    twenty.clean().await;
}

#[tokio::test]
async fn select_boolean_date_and_uuid_hold_what_they_are_for() {
    let options = json!([{"value": "RED", "label": "Red", "position": 0, "color": "red"}]);
    let (twenty, id) = with_field("trueupChoice", json!({"type": "SELECT", "options": options})).await;
    for (name, kind) in [("trueupFlag", "BOOLEAN"), ("trueupDate", "DATE"), ("trueupUuid", "UUID")] {
        twenty.field("person", name, json!({"type": kind})).await;
    }
    let known = uuid();
    let cases = [
        ("trueupChoice", json!("RED"), json!("GREEN")),
        ("trueupFlag", json!(true), json!("true")),
        ("trueupDate", json!("2026-01-31"), json!("2026-02-31")),
        ("trueupUuid", json!(known), json!("known")),
    ];
    for (field, good, bad) in cases {
        assert_eq!(back(&twenty, &id, field, good.clone()).await, good);
        assert_eq!(twenty.refused(&id, json!({field: bad})).await.0, 400, "{field}");
    }
    twenty.clean().await;
}

#[tokio::test]
async fn what_nobody_measured_is_refused() {
    let twenty = Twenty::local();
    let person = twenty.person(json!({})).await;
    let id = &person["id"];
    for body in [
        json!({"linkedinLink": {"primaryLinkUrl": "example.com"}}),
        json!({"linkedinLink": {"primaryLinkUrl": "https://b\u{fc}cher.example"}}),
        json!({"phones": {"primaryPhoneNumber": "+12025550123", "primaryPhoneCountryCode": "FR"}}),
        json!({"phones": {"primaryPhoneNumber": "", "primaryPhoneCountryCode": "FR"}}),
        json!({"phones": "+12025550123"}),
        json!({"createdBy": {"source": "MANUAL"}}),
        json!({"emails": {"primaryEmail": "a@b\u{fc}cher.example"}}),
        json!({"createdAt": null}),
        json!({"updatedAt": "yesterday"}),
        json!({"companyId": uuid()}),
    ] {
        let (status, told) = twenty.refused(id, body.clone()).await;
        assert_eq!(status, 400, "{body}: {told}");
        assert!(!told.is_empty());
    }
    let (status, answer) = twenty.post("/rest/companies", json!({"accountOwnerId": uuid()})).await;
    assert_eq!(status, 400);
    assert!(message(&answer).contains("accountOwnerId"));
}
