//! People edit everywhere at once, and no edit is lost.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use trueup::model::Value;

use crate::world::{Set, World, key};

/// Numbers that look random, the same ones every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

const PEOPLE: u64 = 60;
const ROUND: u64 = 50;

/// A field, and where it stands in the CRM.
const FIELDS: [(&str, &[&str]); 5] = [
    ("first_name", &["name", "firstName"]),
    ("last_name", &["name", "lastName"]),
    ("job_title", &["jobTitle"]),
    ("notes", &["notes"]),
    ("email", &["emails", "primaryEmail"]),
];

fn in_crm(world: &World, record: &str, path: &[&str]) -> Value {
    let person = world.person(record);
    let value = path.iter().fold(&person, |value, part| &value[*part]);
    value.as_str().filter(|text| !text.is_empty()).map_or(Value::Null, Value::text)
}

/// 1,000 edits, or as many as `TRUEUP_EDITS` says, in rounds of fifty.
#[tokio::test(flavor = "multi_thread")]
async fn no_edit_is_lost_and_then_it_is_quiet() {
    let edits: u64 = std::env::var("TRUEUP_EDITS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let world = World::new(Set::default()).await;
    for number in 0..PEOPLE {
        let fields = [
            ("first_name", Value::text(format!("Given{number}"))),
            ("email", Value::text(format!("g{number}@example.com"))),
        ];
        world.put(&world.base, "people", &key(&format!("C{number}")), &fields);
    }
    world.settle().await;
    let mut dice = Dice(20_260_615);
    let mut expected: BTreeMap<(String, usize), String> = BTreeMap::new();
    let mut made = 0;
    for round in 0..edits.div_ceil(ROUND) {
        let mut touched: BTreeSet<(u64, u64)> = BTreeSet::new();
        for edit in 0.. {
            if touched.len() as u64 == ROUND {
                break;
            }
            let place = (dice.roll(PEOPLE), dice.roll(FIELDS.len() as u64));
            // Two who edit one field at once are a conflict, which is another promise.
            if !touched.insert(place) {
                continue;
            }
            let record = format!("C{}", place.0);
            let at = usize::try_from(place.1).expect("few");
            let (field, path) = FIELDS[at];
            let text = match field {
                "email" => format!("e{round}x{edit}@example.com"),
                _ => format!("{field} {round} {edit} é"),
            };
            match dice.roll(3) {
                0 => world.edit(&world.base, "people", &key(&record), field, Value::text(text.as_str())),
                1 => world.edit(&world.local, "people", &key(&record), field, Value::text(text.as_str())),
                _ => {
                    let body = match path {
                        [one] => json!({ *one: text }),
                        ["emails", part] => json!({ "emails": { *part: text, "additionalEmails": [] } }),
                        [one, part] => json!({ *one: { *part: text } }),
                        _ => unreachable!("two parts at most"),
                    };
                    world.patch(&record, &body);
                }
            }
            expected.insert((record, at), text);
            made += 1;
        }
        // Every other round something gets in the way.
        match round % 4 {
            1 => {
                let lost = trueup::sandbox::Calls::all().path("/rest/").skip(2).times(1);
                world.sandbox.faults().add(lost, trueup::sandbox::Fault::LoseAnswer);
            }
            3 => {
                let down = trueup::sandbox::Calls::all().skip(3).times(6);
                world.sandbox.faults().add(down, trueup::sandbox::Fault::Status(500));
            }
            _ => {}
        }
        world.pass().await;
        world.sandbox.faults().clear();
    }
    world.settle().await;
    assert!(made >= edits, "{made} edits");
    for ((record, at), text) in &expected {
        let (field, path) = FIELDS[*at];
        let wanted = Value::text(text.as_str());
        for store in [&world.base, &world.local] {
            let held = world.held(store, "people", &key(record), field);
            assert_eq!(
                held.as_ref(),
                Some(&wanted),
                "`{field}` of {record} in {}",
                trueup::store::Store::name(store)
            );
        }
        assert_eq!(in_crm(&world, record, path), wanted, "`{field}` of {record} in the CRM");
    }
    assert_eq!(world.all("people").len(), usize::try_from(PEOPLE).expect("few"));
    let before = world.writes();
    for _ in 0..2 {
        assert_eq!(world.pass().await.applied, trueup::plan::Totals::default());
    }
    assert_eq!(world.writes(), before, "and then it is quiet");
    assert!(world.engine.conflicts(true).await.expect("listed").is_empty());
}
