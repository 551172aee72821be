//! Every type with values that break what is careless.

use trueup::model::{FieldType, Float, Form, Json, Outcome, Timestamp, Value};

use crate::harness::*;

fn json(text: &str) -> Value {
    Value::Json(Json::parse(text).expect(text))
}

fn hostile() -> Vec<(&'static str, FieldType, Vec<Value>)> {
    let time = |micros| Value::Time(Timestamp::from_micros(micros).expect("in range"));
    let texts = ["", " ", "a'b\"c;--", "null", "007", "1.0", "日本🦀", "a\0b", "line\nline\r\n", "{\"a\":1}"];
    let float = |number| Value::Float(Float::new(number));
    let numeric = |text: &str| Value::numeric(text).expect(text);
    vec![
        ("f_string", FieldType::String, texts.map(Value::text).to_vec()),
        ("f_int64", FieldType::Int64, [0, -1, i64::MIN, i64::MAX, (1 << 53) + 1].map(Value::Int).to_vec()),
        ("f_float64", FieldType::Float64, [0.0, -0.0, 1e308, -5e-324, 0.1, 3.0].map(float).to_vec()),
        (
            "f_numeric",
            FieldType::Numeric,
            ["0", "-1.5", "0.1", "123456789012345678901234567890.123456789", "9007199254740993"]
                .map(numeric)
                .to_vec(),
        ),
        ("f_bool", FieldType::Bool, [true, false].map(Value::Bool).to_vec()),
        (
            "f_date",
            FieldType::Date,
            [jiff::civil::date(1, 1, 1), jiff::civil::date(9999, 12, 31), jiff::civil::date(2024, 2, 29)]
                .map(Value::Date)
                .to_vec(),
        ),
        ("f_timestamp", FieldType::Timestamp, [0, -1, 1_718_452_800_000_001].map(time).to_vec()),
        (
            "f_json",
            FieldType::Json,
            [
                "{}",
                "[]",
                "null",
                "\"\"",
                "1",
                "123456789012345678901234567890",
                r#"{"b":[1,{"c":null}],"a":"é\u0000'"}"#,
            ]
            .map(json)
            .to_vec(),
        ),
        (
            "f_string_list",
            FieldType::StringList,
            vec![Value::List([].into()), Value::List([String::new(), "a,b".into(), "[\"".into()].into())],
        ),
    ]
}

pub(crate) async fn every_type_survives<H: Harness>() {
    let words = hostile().iter().fold(Words::new("things"), |words, (name, ty, _)| words.field(name, *ty));
    let mapped = words.mapped();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let mut expected = Vec::new();
    for (name, _, values) in hostile() {
        let values = values.into_iter().filter(|value| H::holds(value) && can_hold::<H>(value));
        for (at, value) in values.chain([Value::Null]).enumerate() {
            expected.push((key(&format!("{name}-{at}")), name, value));
        }
    }
    let writes = expected
        .iter()
        .map(|(key, name, value)| (key.clone(), create(&mapped, &[(name, value.clone())], &meta(1))));
    let outcomes = apply(&store, &mapped, writes.collect()).await;
    let (rows, _) = snapshot(&store, &mapped).await;
    for ((key, name, value), outcome) in expected.iter().zip(outcomes) {
        let Outcome::Applied(Some(row)) = outcome else { panic!("{key} {outcome:?}") };
        assert_eq!(value_of(&mapped, &row, name), *value, "{key} as answered");
        let row = rows.iter().find(|row| row.key == *key).expect("in the snapshot");
        assert_eq!(value_of(&mapped, row, name), *value, "{key} as read");
    }
    // A guard of exactly these values holds.
    let updates = expected.iter().map(|(key, name, value)| {
        let guard = guard(&mapped, &[(name, value.clone())], &meta(1));
        (key.clone(), update(&mapped, &[(name, Value::Null)], Some(meta(2)), guard))
    });
    for (outcome, (key, name, _)) in apply(&store, &mapped, updates.collect()).await.iter().zip(&expected) {
        let Outcome::Applied(Some(row)) = outcome else { panic!("{key} {outcome:?}") };
        assert_eq!(value_of(&mapped, row, name), Value::Null);
    }
}

pub(crate) async fn forms_hold_what_they_say<H: Harness>() {
    let mapped = Words::new("things")
        .form("number", FieldType::String, Form::Int64)
        .form("seconds", FieldType::Timestamp, Form::UnixSeconds)
        .form("quoted", FieldType::String, Form::JsonText)
        .form("words", FieldType::Float64, Form::Text)
        .mapped();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let time = |micros| Value::Time(Timestamp::from_micros(micros).expect("in range"));
    let fields = [
        ("number", Value::text("127")),
        ("seconds", time(1_718_452_800_999_999)),
        ("quoted", Value::text("a\"b")),
        ("words", Value::Float(Float::new(f64::NAN))),
    ];
    let writes = vec![
        (key("held"), create(&mapped, &fields, &meta(1))),
        (key("not"), create(&mapped, &[("number", Value::text("007s3cret"))], &meta(1))),
    ];
    let outcomes = apply(&store, &mapped, writes).await;
    let Outcome::Applied(Some(row)) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(value_of(&mapped, row, "seconds"), time(1_718_452_800_000_000), "cut to what is held");
    for (name, value) in [&fields[0], &fields[2], &fields[3]] {
        assert_eq!(value_of(&mapped, row, name), *value);
    }
    let Outcome::Refused(error) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert!(error.to_string().contains("number") && !error.to_string().contains("s3cret"), "{error}");
}

pub(crate) async fn an_empty_text_is_no_null<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    harness.insert(&mapped, &key("a"), &[("name", Value::text(""))], &meta(1)).await;
    let write = |held| {
        update(&mapped, &[("count", Value::Int(1))], None, guard(&mapped, &[("name", held)], &meta(1)))
    };
    let outcomes = apply(&store, &mapped, vec![(key("a"), write(Value::Null))]).await;
    assert_eq!(outcomes, [Outcome::Moved]);
    let outcomes = apply(&store, &mapped, vec![(key("a"), write(Value::text("")))]).await;
    assert!(matches!(outcomes[0], Outcome::Applied(_)));
}
