//! Tables and properties of the forms.

use proptest::prelude::*;

use super::*;

const FORMS: [Form; 15] = [
    Form::Native,
    Form::Text,
    Form::Int64,
    Form::JsonText,
    Form::UnixSeconds,
    Form::UnixMillis,
    Form::UnixMicros,
    Form::CrmText,
    Form::CrmEmail,
    Form::CrmLink,
    Form::CrmPhone,
    Form::CrmTime,
    Form::CrmNumber,
    Form::CrmJson,
    Form::CrmList,
];

fn native_decode(native: &Native, ty: FieldType) -> Result<Value, FormError> {
    decode(native, ty, Form::Native, &TimeZone::UTC)
}

fn text(text: &str) -> Native {
    Native::Text(text.to_owned())
}

fn time(text: &str) -> Value {
    Value::Time(Timestamp::parse(text, &TimeZone::UTC).expect(text))
}

#[test]
fn what_means_the_same_reads_the_same() {
    use FieldType::{Bool, Date, Float64, Int64, Json, Numeric, String, StringList, Timestamp};
    let noon = time("2026-06-15T12:00:00Z");
    let table = [
        (Native::Real(1.0), Int64, Value::Int(1)),
        (text("1.0"), Int64, Value::Int(1)),
        (text("-9223372036854775808"), Int64, Value::Int(i64::MIN)),
        (Native::Integer(7), String, Value::text("7")),
        (Native::Real(1.5), String, Value::text("1.5")),
        (text(""), String, Value::text("")),
        (Native::Integer(1), Bool, Value::Bool(true)),
        (text("TRUE"), Bool, Value::Bool(true)),
        (text("false"), Bool, Value::Bool(false)),
        (Native::Real(0.0), Bool, Value::Bool(false)),
        (Native::Real(1.5), Numeric, Value::Numeric("1.5".into())),
        (text("1.50"), Numeric, Value::Numeric("1.5".into())),
        (Native::Integer(10), Numeric, Value::Numeric("10".into())),
        (Native::Integer(2), Float64, Value::Float(Float::new(2.0))),
        (text("-0.0"), Float64, Value::Float(Float::new(0.0))),
        (text("2026-06-15 12:00:00"), Timestamp, noon.clone()),
        (text("2026-06-15T12:00:00Z"), Timestamp, noon.clone()),
        (text("2026-06-15 12:00:00+00"), Timestamp, noon.clone()),
        (text("2026-06-15T14:00:00+02:00"), Timestamp, noon),
        (text("2026-06-15"), Timestamp, time("2026-06-15T00:00:00Z")),
        (text("2026-06-15"), Date, Value::Date(jiff::civil::date(2026, 6, 15))),
        (text("2026-06-15 00:00:00"), Date, Value::Date(jiff::civil::date(2026, 6, 15))),
        (text(r#"["a"]"#), StringList, Value::List(["a".into()].into())),
        (text("null"), Json, Value::Json(super::Json::new(serde_json::Value::Null))),
        (Native::Integer(7), Json, Value::Json(super::Json::new(7.into()))),
    ];
    for (native, ty, expected) in table {
        assert_eq!(native_decode(&native, ty), Ok(expected), "{native:?} as {}", ty.as_str());
    }
}

#[test]
fn what_is_no_value_of_the_type_is_refused_without_being_shown() {
    use FieldType::{Bool, Date, Float64, Int64, Json, Numeric, String, StringList, Timestamp};
    let table = [
        (text("s3cret"), Int64),
        (text("1.5"), Int64),
        (text("9223372036854775808"), Int64),
        (Native::Real(9.3e18), Int64),
        (Native::Integer(2), Bool),
        (text("s3cret"), Bool),
        (text("s3cret"), Date),
        (text("2026-06-15T12:00:00"), Date),
        (text("s3cret"), Timestamp),
        (Native::Integer(1_718_452_800), Timestamp),
        (text("{s3cret"), Json),
        (text(r#"["s3cret",1]"#), StringList),
        (text("s3cret"), Numeric),
        (text("NaN"), Float64),
        (Native::Real(f64::INFINITY), Float64),
        (Native::Blob(b"s3cret".to_vec()), String),
        (text(&"[".repeat(100_000)), Json),
        (text(&"9".repeat(100_000)), Numeric),
    ];
    for (native, ty) in table {
        let error = native_decode(&native, ty).expect_err(ty.as_str());
        assert!(!error.0.contains("s3cret") && error.0.len() < 200, "{error}");
    }
}

#[test]
fn what_has_a_name_is_refused_by_it() {
    for (native, ty, name) in [
        (text("infinity"), FieldType::Timestamp, "infinity"),
        (text("-Infinity"), FieldType::Date, "-infinity"),
        (text("NaN"), FieldType::Numeric, "nan"),
        (text(r#"["a",null]"#), FieldType::StringList, "a list with a NULL in it"),
    ] {
        let error = native_decode(&native, ty).expect_err(name);
        assert_eq!(error.0, format!("{name} cannot be read as {}", ty.as_str()));
    }
}

#[test]
fn forms_hold_what_they_can() {
    let zone = &TimeZone::UTC;
    let held = |value: &Value, ty, form| representable(value, ty, form, zone).ok();
    for bad in ["007", "+7", " 7", "7.0", "", "-0", "abc", "9223372036854775808"] {
        assert_eq!(held(&Value::text(bad), FieldType::String, Form::Int64), None, "{bad:?}");
    }
    let seven = Value::text("7");
    assert_eq!(held(&seven, FieldType::String, Form::Int64), Some(seven.clone()));
    assert_eq!(
        encode(&seven, FieldType::String, Form::Int64, zone),
        Ok(Native::Integer(7)),
        "an integer column is given an integer"
    );
    let exact = time("2026-06-15T12:00:00.123456Z");
    for (form, expected) in [
        (Form::UnixSeconds, "2026-06-15T12:00:00Z"),
        (Form::UnixMillis, "2026-06-15T12:00:00.123Z"),
        (Form::UnixMicros, "2026-06-15T12:00:00.123456Z"),
        (Form::Text, "2026-06-15T12:00:00.123456Z"),
    ] {
        assert_eq!(held(&exact, FieldType::Timestamp, form), Some(time(expected)));
    }
    let nan = Value::Float(Float::new(f64::NAN));
    assert_eq!(held(&nan, FieldType::Float64, Form::Native), None);
    assert_eq!(held(&nan, FieldType::Float64, Form::JsonText), None);
    assert_eq!(held(&nan, FieldType::Float64, Form::Text), Some(nan.clone()));
    assert_eq!(held(&Value::Int(1), FieldType::String, Form::Native), None, "a value of another type");
}

#[test]
fn times_without_a_zone_are_in_the_mappings_zone() {
    let zone = TimeZone::get("Europe/Berlin").expect("bundled");
    let read = decode(&text("2026-06-15 12:00:00"), FieldType::Timestamp, Form::Native, &zone);
    assert_eq!(read, Ok(time("2026-06-15T10:00:00Z")));
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "-?[1-9][0-9]{0,30}\\.[0-9]{0,10}[1-9]"
            .prop_map(|text| serde_json::from_str(&text).expect("a number")),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_of(ty: FieldType) -> BoxedStrategy<Value> {
    match ty {
        FieldType::String => {
            prop_oneof![any::<String>(), "-?[0-9]{1,20}", Just("\0".to_owned())].prop_map(Value::text).boxed()
        }
        FieldType::Int64 => any::<i64>().prop_map(Value::Int).boxed(),
        FieldType::Float64 => any::<f64>().prop_map(|number| Value::Float(Float::new(number))).boxed(),
        FieldType::Numeric => {
            "-?[0-9]{1,40}(\\.[0-9]{1,40})?".prop_map(|text| Value::numeric(&text).expect("a number")).boxed()
        }
        FieldType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        FieldType::Date => (-9999_i16..=9999, 1_i8..=12, 1_i8..=28)
            .prop_map(|(year, month, day)| Value::Date(jiff::civil::date(year, month, day)))
            .boxed(),
        FieldType::Timestamp => (-377_705_000_000_000_000_i64..253_402_000_000_000_000)
            .prop_map(|micros| Value::Time(Timestamp::from_micros(micros).expect("in range")))
            .boxed(),
        FieldType::Json => any_json().prop_map(|json| Value::Json(super::Json::new(json))).boxed(),
        FieldType::StringList => {
            prop::collection::vec(any::<String>(), 0..4).prop_map(|list| Value::List(list.into())).boxed()
        }
    }
}

fn any_native() -> impl Strategy<Value = Native> {
    prop_oneof![
        Just(Native::Null),
        any::<i64>().prop_map(Native::Integer),
        any::<f64>().prop_map(Native::Real),
        any::<String>().prop_map(Native::Text),
        "[-+0-9.eE:TZ ]{0,24}".prop_map(Native::Text),
        any_json().prop_map(|json| Native::Text(json.to_string())),
        any::<Vec<u8>>().prop_map(Native::Blob),
    ]
}

proptest! {
    #[test]
    fn what_is_held_is_held_again(
        (ty, value) in prop::sample::select(&FieldType::ALL[..]).prop_flat_map(|ty| (Just(ty), any_of(ty))),
        form in prop::sample::select(&FORMS[..]),
    ) {
        let zone = TimeZone::get("America/New_York").expect("bundled");
        if let Ok(native) = encode(&value, ty, form, &zone) {
            let held = decode(&native, ty, form, &zone);
            prop_assert_eq!(held.clone(), representable(&value, ty, form, &zone));
            let held = held.expect("what was encoded can be decoded");
            prop_assert!(ty.admits(&held));
            prop_assert_eq!(Ok(held.clone()), representable(&held, ty, form, &zone));
            if !matches!(form, Form::UnixSeconds | Form::UnixMillis) && !form.is_crm() {
                prop_assert_eq!(held, value, "nothing is lost");
            }
        }
    }

    #[test]
    fn a_text_is_an_integer_where_the_integer_is_that_text(
        text in prop_oneof!["[-+ ]{0,2}[0-9]{1,20}", any::<i64>().prop_map(|number| number.to_string())],
    ) {
        let same = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
        prop_assert_eq!(super::canonical_integer(&text), same);
    }

    #[test]
    fn json_text_however_laid_out_is_the_value_that_it_says(json in any_json()) {
        let text = serde_json::to_string_pretty(&json).expect("JSON");
        let read = super::Json::parse(&text).expect("JSON");
        let taken = super::Json::new(json);
        prop_assert_eq!(read.as_value(), taken.as_value());
        prop_assert_eq!(read, taken);
    }

    #[test]
    fn native_holds_everything_but_odd_floats(
        (ty, value) in prop::sample::select(&FieldType::ALL[..]).prop_flat_map(|ty| (Just(ty), any_of(ty))),
    ) {
        let odd = matches!(&value, Value::Float(number) if !number.get().is_finite());
        prop_assert_eq!(representable(&value, ty, Form::Native, &TimeZone::UTC).is_ok(), !odd);
    }

    #[test]
    fn reading_never_panics_and_settles(
        native in any_native(),
        ty in prop::sample::select(&FieldType::ALL[..]),
        form in prop::sample::select(&FORMS[..]),
    ) {
        if let Ok(value) = decode(&native, ty, form, &TimeZone::UTC) {
            prop_assert!(ty.admits(&value));
            if let Ok(again) = representable(&value, ty, form, &TimeZone::UTC) {
                prop_assert_eq!(again, value);
            }
        }
    }
}
