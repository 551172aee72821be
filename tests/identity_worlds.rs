//! Random worlds of four stores, two of them with record ids of their own: whatever people do in them at once, nobody is doubled, no edit
//! is lost, and when they stop the passes come to rest.

#[path = "identity/crm.rs"]
mod crm;
mod world;

use std::collections::BTreeSet;

use crm::{id, world};
use proptest::prelude::*;
use trueup::model::{Cell, EntityName, Value};
use world::{World, field};

/// What somebody does.
#[derive(Debug, Clone)]
enum Act {
    /// Edits a field of a person in a store.
    Edit { at: usize, who: usize, name: &'static str },
    /// Makes a person by hand in a store with ids of its own.
    Newcomer { at: usize, email: usize },
    /// Adds a value in a store with keys.
    AddReach { at: usize, who: usize, value: usize },
    /// Changes a value in a store with keys.
    EditReach { at: usize, which: usize, value: usize },
    /// Changes, adds or removes an element in the crm.
    Element { who: usize, which: usize, what: u8, value: usize },
    /// Clears a key in a store with ids of its own.
    Clear { at: usize, who: usize },
    /// A number of a person in a store with keys: new, or said to be the first one or not.
    Phone { at: usize, who: usize, value: usize, first: Option<bool> },
    /// Says of a number whether it is the first one.
    First { at: usize, which: usize, first: Option<bool> },
    /// Changes the numbers of a person in the crm, and their order.
    Numbers { who: usize, what: u8, value: usize },
    /// A job of a person, made by hand in the crm.
    Job { who: usize },
    /// A pass, killed after so many effects.
    Pass { lives: Option<usize> },
    /// The state is lost.
    Lose,
    /// A store does not answer, or does again.
    Reach { at: usize, up: bool },
}

const STORES: [&str; 4] = ["hub", "app", "crm", "desk"];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0..4_usize, 0..6_usize, prop_oneof![Just("name"), Just("note")])
            .prop_map(|(at, who, name)| Act::Edit { at, who, name }),
        2 => (2..4_usize, 0..12_usize).prop_map(|(at, email)| Act::Newcomer { at, email }),
        2 => (0..2_usize, 0..6_usize, 0..12_usize).prop_map(|(at, who, value)| Act::AddReach { at, who, value }),
        2 => (0..2_usize, 0..8_usize, 0..12_usize).prop_map(|(at, which, value)| Act::EditReach { at, which, value }),
        4 => (0..6_usize, 0..3_usize, 0..3_u8, 0..12_usize)
            .prop_map(|(who, which, what, value)| Act::Element { who, which, what, value }),
        1 => (2..4_usize, 0..6_usize).prop_map(|(at, who)| Act::Clear { at, who }),
        2 => (0..2_usize, 0..6_usize, 0..6_usize, any::<Option<bool>>())
            .prop_map(|(at, who, value, first)| Act::Phone { at, who, value, first }),
        2 => (0..2_usize, 0..8_usize, any::<Option<bool>>()).prop_map(|(at, which, first)| Act::First { at, which, first }),
        2 => (0..6_usize, 0..4_u8, 0..6_usize).prop_map(|(who, what, value)| Act::Numbers { who, what, value }),
        1 => (0..6_usize).prop_map(|who| Act::Job { who }),
        4 => prop_oneof![2 => Just(None), 1 => (0..40_usize).prop_map(Some)].prop_map(|lives| Act::Pass { lives }),
        1 => Just(Act::Lose),
        1 => (1..4_usize, any::<bool>()).prop_map(|(at, up)| Act::Reach { at, up }),
    ]
}

/// Everything that people typed, each text once in the whole world.
#[derive(Default)]
struct Typed {
    count: usize,
    texts: BTreeSet<String>,
}

impl Typed {
    fn new_text(&mut self) -> String {
        self.count += 1;
        let text = format!("typed {:04}", self.count);
        self.texts.insert(text.clone());
        text
    }
}

fn address(number: usize) -> String {
    format!("person{number}@example.com")
}

fn number(number: usize) -> String {
    format!("+120255501{number:02}")
}

fn said(first: Option<bool>) -> &'static str {
    match first {
        None => "null",
        Some(true) => "true",
        Some(false) => "false",
    }
}

fn begin() -> World {
    let mut world = world();
    world.put("hub", "firms", &["F1"], &[("title", "Example Works")]);
    for number in 0..3 {
        let key = format!("P{number}");
        world.put("hub", "people", &[&key], &[("name", &format!("Name {number}")), ("main_firm", "F1")]);
        let email = address(number);
        let fields = [("person", key.as_str()), ("kind", "email"), ("value", &email), ("normal", &email)];
        world.put("hub", "reach", &[&format!("R{number}")], &fields);
    }
    world
}

fn do_it(world: &mut World, act: &Act, typed: &mut Typed) {
    match act {
        Act::Edit { at, who, name } => {
            let at = STORES[*at];
            if *at == *"hub" || *at == *"app" {
                let keys = world.keys(at, "people");
                if let Some(key) = keys.get(who % keys.len().max(1)) {
                    // Whoever edits a field has seen what stood there.
                    typed.texts.remove(&world.at(at, "people", key, name));
                    let text = typed.new_text();
                    world.change(at, "people", key, name, &text);
                }
            } else {
                let objects = world.objects(at, "people");
                if let Some((object, _)) = objects.get(who % objects.len().max(1)) {
                    let stood = world
                        .object(at, "people", object)
                        .and_then(|there| there.row.fields.get(&field(name)).cloned());
                    if let Some(Cell::Value(Value::Text(stood))) = stood {
                        typed.texts.remove(stood.as_ref());
                    }
                    let text = typed.new_text();
                    world.touch(at, "people", object, |object| {
                        object.row.fields.insert(field(name), Cell::Value(Value::text(text)));
                    });
                }
            }
        }
        Act::Newcomer { at, email } => {
            let name = typed.new_text();
            let email = address(*email);
            let elements = [("reach", "email", email.as_str())];
            let elements = if STORES[*at] == "crm" { &elements[..] } else { &[] };
            let object = format!("x{}", typed.count);
            world.make(STORES[*at], "people", &object, &[("name", &name)], elements);
        }
        Act::AddReach { at, who, value } => {
            let people = world.keys(STORES[*at], "people");
            if let Some(person) = people.get(who % people.len().max(1)) {
                typed.count += 1;
                let (rid, email) = (format!("N{}", typed.count), address(*value));
                let fields =
                    [("person", person.as_str()), ("kind", "email"), ("value", &email), ("normal", &email)];
                world.put(STORES[*at], "reach", &[&rid], &fields);
            }
        }
        Act::EditReach { at, which, value } => {
            let mails = |key: &String| world.at(STORES[*at], "reach", key, "kind") == "email";
            let keys: Vec<String> = world.keys(STORES[*at], "reach").into_iter().filter(mails).collect();
            if let Some(key) = keys.get(which % keys.len().max(1)) {
                world.change(STORES[*at], "reach", key, "value", &address(*value));
            }
        }
        Act::Element { who, which, what, value } => {
            let objects = world.objects("crm", "people");
            let Some((object, _)) = objects.get(who % objects.len().max(1)) else { return };
            let kind = (EntityName::new("reach").expect("a name"), "email".to_owned());
            let value = address(*value);
            world.touch("crm", "people", object, |object| {
                let elements = object.elements.entry(kind).or_default();
                // The store holds a value once in a person.
                if *what < 2 && elements.iter().any(|element| element.value == value) {
                    return;
                }
                let at = which % elements.len().max(1);
                match what {
                    0 => elements.push(trueup::store::memory::MemoryElement { value }),
                    1 if !elements.is_empty() => elements[at].value = value,
                    2 if !elements.is_empty() => drop(elements.remove(at)),
                    _ => {}
                }
            });
        }
        Act::Phone { at, who, value, first } => {
            let people = world.keys(STORES[*at], "people");
            if let Some(person) = people.get(who % people.len().max(1)) {
                typed.count += 1;
                let (rid, number) = (format!("T{}", typed.count), number(*value));
                let fields = [
                    ("person", person.as_str()),
                    ("kind", "phone"),
                    ("value", &number),
                    ("normal", &number),
                    ("first", said(*first)),
                ];
                world.put(STORES[*at], "reach", &[&rid], &fields);
            }
        }
        Act::First { at, which, first } => {
            let keys: Vec<String> =
                world.keys(STORES[*at], "reach").into_iter().filter(|key| key.starts_with('T')).collect();
            if let Some(key) = keys.get(which % keys.len().max(1)) {
                world.change(STORES[*at], "reach", key, "first", said(*first));
            }
        }
        Act::Numbers { who, what, value } => {
            let objects = world.objects("crm", "people");
            let Some((object, _)) = objects.get(who % objects.len().max(1)) else { return };
            let kind = (EntityName::new("reach").expect("a name"), "phone".to_owned());
            let number = number(*value);
            world.touch("crm", "people", object, |object| {
                let elements = object.elements.entry(kind).or_default();
                let known = elements.iter().any(|element| element.value == number);
                match what {
                    0 if !known => elements.push(trueup::store::memory::MemoryElement { value: number }),
                    1 if !known && !elements.is_empty() => elements[0].value = number,
                    2 if !elements.is_empty() => drop(elements.remove(value % elements.len())),
                    3 => elements.reverse(),
                    _ => {}
                }
            });
        }
        Act::Clear { at, who } => {
            let objects = world.objects(STORES[*at], "people");
            if let Some((object, _)) = objects.get(who % objects.len().max(1)) {
                world.touch(STORES[*at], "people", object, |object| object.key = None);
            }
        }
        Act::Job { who } => {
            let (people, firms) = (world.objects("crm", "people"), world.objects("crm", "firms"));
            if let (Some((person, _)), Some((firm, _))) =
                (people.get(who % people.len().max(1)), firms.first())
            {
                let (role, person, firm) = (typed.new_text(), person.clone(), firm.clone());
                let job = format!("j{}", typed.count);
                world.make("crm", "jobs", &job, &[("role", &role)], &[]);
                world.touch("crm", "jobs", &job, |object| {
                    object.relations.insert(field("person"), id(&person));
                    object.relations.insert(field("firm"), id(&firm));
                });
            }
        }
        Act::Pass { lives } => {
            world.tick();
            world.lives = *lives;
            // A killed or refused pass is what this is about.
            let _ = world.pass();
            world.lives = None;
        }
        Act::Lose => world.lose_state(),
        Act::Reach { at, up } => world.reach(STORES[*at], *up),
    }
}

/// Every text that stands in any store, or in a conflict's record or a tombstone.
fn everything(world: &World) -> String {
    world.stores.values().map(|db| format!("{db:?}")).collect::<Vec<_>>().concat()
}

/// What a store with ids of its own must agree on with the canonical one.
fn check(world: &mut World) {
    for at in ["crm", "desk"] {
        let objects = world.objects(at, "people");
        let keyed: Vec<&String> = objects.iter().map(|(_, key)| key).filter(|key| *key != "-").collect();
        let distinct: BTreeSet<&String> = keyed.iter().copied().collect();
        assert_eq!(keyed.len(), distinct.len(), "one live link a store and key: {objects:?}");
        for (object, key) in objects.iter().filter(|(_, key)| key != "-") {
            for name in ["name", "note"] {
                let theirs =
                    world.object(at, "people", object).expect("there").row.fields.get(&field(name)).cloned();
                let theirs = match theirs {
                    Some(Cell::Value(Value::Text(text))) => text.to_string(),
                    _ => "null".to_owned(),
                };
                let record =
                    world.open_conflicts().iter().any(|conflict| conflict.record.key == world::key(key));
                if !record {
                    assert_eq!(theirs, world.at("hub", "people", key, name), "{at} {object} {key} {name}");
                }
            }
        }
    }
    let hub = world.table("hub", "reach", &["person", "kind", "value"]);
    let app = world.table("app", "reach", &["person", "kind", "value"]);
    if world.open_conflicts().is_empty() {
        assert_eq!(hub, app);
        for (object, key) in world.objects("crm", "people").into_iter().filter(|(_, key)| key != "-") {
            for kind in ["email", "phone"] {
                let theirs: BTreeSet<String> =
                    world.elements("crm", "people", &object, "reach", kind).into_iter().collect();
                let ours: BTreeSet<String> = hub
                    .iter()
                    .filter_map(|line| line.strip_prefix(&format!("{key} {kind} ")))
                    .map(str::to_owned)
                    .collect();
                assert_eq!(theirs, ours, "what {key} is reached by");
            }
            // Of those that are said to be the first one, one is.
            let of_hub = world.table("hub", "reach", &["person", "kind", "first", "value"]);
            let named: Vec<&str> =
                of_hub.iter().filter_map(|line| line.strip_prefix(&format!("{key} phone true "))).collect();
            let there = world.elements("crm", "people", &object, "reach", "phone");
            let first = there.first().map(String::as_str);
            assert!(
                named.is_empty() || first.is_some_and(|first| named.contains(&first)),
                "{named:?} {there:?}"
            );
        }
    }
}

fn run(acts: &[Act]) {
    let mut world = begin();
    let mut typed = Typed::default();
    world.allow.extend(
        trueup::plan::GuardName::ALL.into_iter().filter(|guard| *guard != trueup::plan::GuardName::Regressed),
    );
    for act in acts {
        do_it(&mut world, act, &mut typed);
        let there = everything(&world);
        for text in &typed.texts {
            assert!(there.contains(text), "{text:?} is lost by {act:?}");
        }
    }
    for at in STORES {
        world.reach(at, true);
    }
    for passes in 0.. {
        assert!(passes < 14, "passes go on writing: {:?}", world.held());
        let before = world.writes();
        world.tick();
        let report = world.pass().expect("a pass");
        let there = everything(&world);
        for text in &typed.texts {
            assert!(there.contains(text), "{text:?} is lost");
        }
        if world.writes() == before && report.pass.is_none() {
            break;
        }
    }
    check(&mut world);
}

/// How many worlds: `PROPTEST_CASES` where it is set.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_doubled_and_no_edit_is_lost(acts in proptest::collection::vec(act(), 1..14)) {
        run(&acts);
    }
}

/// Two values of a person that are one in a store which holds each once; one of them is changed in the canonical store, and nothing is
/// remembered. The element is the other one's, and passes come to rest.
#[test]
fn an_element_is_the_records_that_has_its_value_in_the_canonical_store() {
    run(&[
        Act::Pass { lives: None },
        Act::AddReach { at: 1, who: 2, value: 2 },
        Act::Pass { lives: None },
        Act::EditReach { at: 0, which: 4, value: 0 },
        Act::Lose,
    ]);
}
