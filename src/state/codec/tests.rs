//! Round trips, the order of keys, and the size of a record.

use proptest::prelude::*;

use super::*;
use crate::model::{
    BatchId, Cell, EntityName, FieldId, FieldName, FieldShadow, Float, Home, Intent, IntentEnd, IntentId,
    IntentKind, Json, MappingTag, RecordId, Row, Shadow, StoreName, StoreRecordId, SyncMeta, SyncStatus,
    Timestamp, Unreadable, Value, Version,
};
use std::collections::BTreeMap;

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(|number| Value::Float(Float::new(number))),
        "-?[1-9][0-9]{0,40}".prop_map(|text| Value::numeric(&text).expect("a number")),
        any::<String>().prop_map(Value::text),
        (-9999_i16..9999, 1_i8..=12, 1_i8..=28).prop_map(|(y, m, d)| Value::Date(jiff::civil::date(y, m, d))),
        any::<i32>()
            .prop_map(|s| Value::Time(Timestamp::from_micros(i64::from(s) * 1_000_000).expect("near"))),
        any::<i32>().prop_map(|us| Value::Time(Timestamp::from_micros(i64::from(us)).expect("near"))),
        any::<String>()
            .prop_map(|text| Value::Json(Json::new(serde_json::json!({ "a": [text, null, 1.5] })))),
        prop::collection::vec(any::<String>(), 0..3).prop_map(|list| Value::List(list.into())),
    ]
}

fn any_field() -> impl Strategy<Value = FieldShadow> {
    let value = prop_oneof![Just(Value::Null), Just(Value::text("same")), any_value()];
    let held = prop_oneof![
        8 => value.clone().prop_map(Cell::Value),
        1 => (".*", any::<u64>()).prop_map(|(why, fingerprint)| Cell::Unreadable(Box::new(Unreadable { why, fingerprint }))),
    ];
    (held, prop::option::weighted(0.2, value), 0_i64..4, 0_u32..2, prop::bool::weighted(0.1)).prop_map(
        |(held, stands_for, version, tag, unsure)| FieldShadow {
            held,
            stands_for: stands_for.map(Box::new),
            version: Version(version),
            tag: MappingTag(tag),
            unsure,
        },
    )
}

fn any_meta() -> impl Strategy<Value = SyncMeta> {
    let status = prop_oneof![
        Just(None),
        Just(Some(SyncStatus::Synced)),
        Just(Some(SyncStatus::Pending)),
        Just(Some(SyncStatus::Conflict))
    ];
    (
        prop::option::of(any::<i64>()),
        prop::option::of(0_i64..9),
        prop::option::of(".{0,4}"),
        prop::collection::vec(".{0,4}", 0..3),
        status,
    )
        .prop_map(|(version, time, by, source_systems, sync_status)| SyncMeta {
            version: version.map(Version),
            last_updated: time.and_then(Timestamp::from_micros),
            last_updated_by: by.map(Into::into),
            source_systems: source_systems.into(),
            sync_status,
            sync_errors: Vec::new(),
        })
}

fn any_memory() -> impl Strategy<Value = Memory> {
    let names = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let fields = prop::collection::btree_map(
        names().prop_map(|name| FieldName::new(name).expect("a name")),
        any_field(),
        0..4,
    );
    let home = prop::option::of((0_u32..3, 0_u32..3).prop_map(|(rows, version)| Home { rows, version }));
    let id = prop::option::of(".{0,3}");
    let shadow = (any::<bool>(), id, any_meta(), prop::option::of(0_i64..3), home, fields)
        .prop_map(|(present, id, meta, updated, home, fields)| Shadow {
            present,
            store_id: id.map(StoreRecordId),
            meta,
            updated: updated.and_then(Timestamp::from_micros),
            home,
            fields: fields.into_iter().collect(),
        })
        .boxed();
    // Stores that agree are the common case: a shadow is often another's copy.
    (shadow.clone(), prop::collection::btree_map(names(), prop::option::of(shadow), 0..4)).prop_map(
        |(common, stores)| Memory {
            stores: stores
                .into_iter()
                .map(|(name, own)| {
                    (StoreName::new(name).expect("a name"), own.unwrap_or_else(|| common.clone()))
                })
                .collect(),
        },
    )
}

fn any_intent() -> impl Strategy<Value = Intent> {
    let fields = || {
        prop::collection::btree_map(
            prop::sample::select(vec!["a", "b", "c", "d", "other"])
                .prop_map(|name| FieldName::new(name).expect("a name")),
            prop_oneof![Just(Value::text("same")), any_value()],
            0..4,
        )
    };
    let kind = prop::sample::select(vec![IntentKind::Create, IntentKind::Update, IntentKind::Delete]);
    let ids = ("[0-9]{1,3}(-app)?", "[0-9]{1,3}", any_key(), prop::sample::select(vec!["a", "x"]));
    let meta = (any_meta(), prop::option::of(any_meta()));
    (ids, any::<bool>(), kind, fields(), fields(), meta, any_memory()).prop_map(
        |((batch, at, key, store), receipt, kind, before, after, (meta_before, meta_after), memory)| Intent {
            id: IntentId(format!("{batch}-{at}").into()),
            batch: BatchId(batch.into()),
            store: StoreName::new(store).expect("a name"),
            receipt,
            record: RecordId { entity: EntityName::new("contacts").expect("a name"), key },
            kind,
            before: before.into_iter().collect(),
            after: after.into_iter().collect(),
            meta_before,
            meta_after,
            advances: memory.stores.into_iter().map(|(store, shadow)| (store, shadow.into())).collect(),
        },
    )
}

fn any_head() -> impl Strategy<Value = Head> {
    let end = prop_oneof![
        Just(None),
        Just(Some(IntentEnd::Applied)),
        Just(Some(IntentEnd::NotApplied)),
        Just(Some(IntentEnd::Unresolved)),
    ];
    (any_intent(), end, any::<bool>()).prop_map(|(intent, end, replaced)| Head {
        end,
        replaced,
        ..Head::of(&intent)
    })
}

fn any_key() -> impl Strategy<Value = RecordKey> {
    prop::collection::vec(prop_oneof!["[\0\u{1}a]{0,3}", any::<String>()], 1..3).prop_map(RecordKey::new)
}

fn any_row() -> impl Strategy<Value = Row> {
    let fields = prop::collection::btree_map(0_u16..300, any_field().prop_map(|field| field.held), 0..4);
    let times = prop::option::of(0_i64..3);
    (prop::option::of(".{0,3}"), any_meta(), times.clone(), times, any::<bool>(), fields).prop_map(
        |(id, meta, created, updated, unlinked, fields)| Row {
            key: RecordKey::new(vec!["k".to_owned()]),
            store_id: id.map(StoreRecordId),
            fields: fields.into_iter().map(|(id, cell)| (FieldId(id), cell)).collect(),
            meta,
            created: created.and_then(Timestamp::from_micros),
            updated: updated.and_then(Timestamp::from_micros),
            unlinked,
        },
    )
}

proptest! {
    #[test]
    fn rows_come_back_alone_and_beside_others(rows in prop::collection::vec(any_row(), 1..4), alike in any::<bool>()) {
        let mut rows = rows;
        if alike {
            let first = rows[0].clone();
            for row in &mut rows {
                (row.fields, row.meta) = (first.fields.clone(), first.meta.clone());
            }
        }
        let mut dictionary = Dictionary::default();
        let mut bytes = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            put_row(&mut bytes, row, rows.first().filter(|_| at > 0), &mut dictionary);
        }
        let mut input = bytes.as_slice();
        for (at, row) in rows.iter().enumerate() {
            let other = rows.first().filter(|_| at > 0);
            let back = take_row(&mut input, &row.key, other, &dictionary);
            prop_assert_eq!(back.as_ref(), Ok(row));
        }
        prop_assert!(input.is_empty());
    }

    #[test]
    fn bytes_that_are_no_row_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let key = RecordKey::new(vec!["k".to_owned()]);
        // Whatever comes of it: no panic, and no more memory than there are bytes.
        let _ = take_row(&mut bytes.as_slice(), &key, None, &Dictionary::default());
    }

    #[test]
    fn memories_come_back(memory in any_memory()) {
        let mut dictionary = Dictionary::default();
        let bytes = encode(&memory, &mut dictionary);
        prop_assert_eq!(decode(&bytes, &mut dictionary), Ok(memory.clone()));
        prop_assert_eq!(encode(&memory, &mut dictionary), bytes, "equal memories are equal bytes");
    }

    #[test]
    fn keys_come_back_in_order(a in any_key(), b in any_key()) {
        prop_assert_eq!(key_from_bytes(&key_to_bytes(&a)), Ok(a.clone()));
        prop_assert_eq!(key_to_bytes(&a).cmp(&key_to_bytes(&b)), a.cmp(&b));
    }

    #[test]
    fn a_changed_memory_is_as_if_written_anew(
        old in prop::option::of(any_memory()),
        new in any_memory(),
        forget in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d"]), 0..3),
    ) {
        let mut dictionary = Dictionary::default();
        let forget: Vec<StoreName> = forget.iter().map(|name| StoreName::new(name).expect("a name")).collect();
        let mut expected = old.clone().unwrap_or_default();
        expected.stores.extend(new.stores.clone());
        expected.stores.retain(|name, _| !forget.contains(name));
        let old = old.map(|old| encode(&old, &mut dictionary));
        let set = Shadows::new(&new.stores, &mut dictionary);
        let changed = change(old.as_deref(), &set, &forget, &mut dictionary).expect("ours");
        prop_assert_eq!(changed.is_none(), expected.stores.is_empty());
        if let Some(changed) = changed {
            prop_assert_eq!(decode(&changed, &mut dictionary), Ok(expected.clone()));
            prop_assert_eq!(changed, encode(&expected, &mut dictionary), "equal memories are equal bytes");
        }
    }

    #[test]
    fn intents_come_back(
        mut intents in prop::collection::vec(any_intent(), 0..5),
        related in prop::collection::vec(any::<bool>(), 5),
    ) {
        // Some are of the same record as the one before, and share shadows with it.
        for at in (1..intents.len()).filter(|at| related[*at]) {
            let Intent { record, advances, .. } = intents[at - 1].clone();
            intents[at].record = record;
            intents[at].advances.extend(advances.into_iter().skip(usize::from(related[at - 1])));
        }
        let mut dictionary = Dictionary::default();
        let heads: Vec<Head> = intents.iter().map(Head::of).collect();
        let (bytes, heads) = (intents_to_bytes(&intents, &mut dictionary), heads_to_bytes(&heads));
        let heads = heads_from_bytes(&heads).expect("ours");
        prop_assert_eq!(intents_from_bytes(&bytes, &heads, &mut dictionary), Ok(intents));
        let _ = intents_from_bytes(&bytes[..bytes.len() / 2], &heads, &mut dictionary);
    }

    #[test]
    fn heads_come_back(heads in prop::collection::vec(any_head(), 0..9), cut in any::<usize>()) {
        let bytes = heads_to_bytes(&heads);
        prop_assert_eq!(heads_from_bytes(&bytes), Ok(heads));
        let _ = heads_from_bytes(&bytes[..cut % (bytes.len() + 1)]);
    }

    #[test]
    fn damaged_bytes_never_panic(memory in any_memory(), at in any::<usize>(), with in any::<u8>(), cut in any::<usize>()) {
        let mut dictionary = Dictionary::default();
        let mut bytes = encode(&memory, &mut dictionary);
        let length = bytes.len();
        bytes[at % length] = with;
        let _ = decode(&bytes, &mut dictionary);
        bytes.truncate(cut % length);
        let _ = decode(&bytes, &mut dictionary);
        let _ = key_from_bytes(&bytes);
    }
}

/// A contact of 22 fields with about 580 bytes of data, known to three stores that agree.
pub(crate) fn wide_memory(number: i64) -> Memory {
    let time =
        |offset| Value::Time(Timestamp::from_micros((1_718_452_800 + offset) * 1_000_000).expect("near"));
    let mut fields = BTreeMap::new();
    for at in 0..22_i64 {
        let value = match at % 5 {
            0 => {
                Value::Json(Json::new(serde_json::json!({ "score": number + at, "note": "met at the fair" })))
            }
            1 => time(number * 86_400 + at),
            _ => Value::text(format!("{number:08} value of the field {at:02} and")),
        };
        let held = Cell::Value(value);
        let field =
            FieldShadow { held, stands_for: None, version: Version(3), tag: MappingTag(7), unsure: false };
        fields.insert(FieldName::new(format!("field_{at:02}")).expect("a name"), field);
    }
    let meta = SyncMeta {
        version: Some(Version(3)),
        last_updated: Timestamp::from_micros(1_718_452_800_123_456),
        last_updated_by: Some("supabase".into()),
        ..SyncMeta::default()
    };
    let fields = fields.into_iter().collect();
    let shadow = Shadow { present: true, meta, fields, ..Shadow::default() };
    let stores = ["bigquery", "local", "supabase"];
    Memory { stores: stores.map(|name| (StoreName::new(name).expect("a name"), shadow.clone())).into() }
}

#[test]
fn what_was_written_before_homes_were_noted_is_read() {
    let memory = wide_memory(3);
    let mut dictionary = Dictionary::default();
    let bytes = encode(&memory, &mut dictionary);
    let layout = dictionary.since(0).iter().find(|name| name.contains("field_00")).expect("a layout");
    assert!(layout.starts_with(r#"[["field_00",7],["#), "{layout}");
    assert_eq!(decode(&bytes, &mut dictionary).expect("readable"), memory);
}

#[test]
fn stores_that_agree_cost_next_to_nothing() {
    let memory = wide_memory(127);
    let one = Memory { stores: memory.stores.clone().into_iter().take(1).collect() };
    let data: usize = one
        .stores
        .values()
        .flat_map(|s| s.fields.values())
        .map(|f| f.held.value().map_or(0, |v| v.to_string().len()))
        .sum();
    let mut dictionary = Dictionary::default();
    let (one, three) = (encode(&one, &mut dictionary).len(), encode(&memory, &mut dictionary).len());
    assert!(three - one <= 16, "two more stores take {} bytes", three - one);
    assert!(three < data + 60, "{three} bytes for {data} bytes of data");
}
