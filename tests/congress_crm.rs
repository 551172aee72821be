//! Real contacts at two dates (unitedstates/congress-legislators, CC0 1.0, as JSON lines) in four systems: three SQL stores and Twenty.
//!
//! The data is not part of this repository. `TRUEUP_CONGRESS_DATA` names the folder with a folder for each date; without it
//! the tests say that they were not run.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod crm_world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crm_world::{Crm, id, phones};
use serde_json::{Map, Value as Json, json};
use trueup::model::{EntityName, StoreName, normal};
use trueup::spec::{Source, Spec, compile, render_lines};

const OLD: &str = "2025-03-04";
const NEW: &str = "2026-06-15";
const SQL: [&str; 3] = ["warehouse", "app", "local"];
const ENTITIES: [&str; 4] = ["businesses", "contacts", "contact_identifiers", "people_businesses"];

type Record = Map<String, Json>;

fn data() -> Option<PathBuf> {
    let data = std::env::var_os("TRUEUP_CONGRESS_DATA").map(PathBuf::from);
    #[allow(clippy::print_stderr)]
    if data.is_none() {
        eprintln!("not run: TRUEUP_CONGRESS_DATA does not name a folder with the data");
    }
    data
}

fn load(data: &Path, date: &str, entity: &str) -> Vec<Record> {
    let text = std::fs::read_to_string(data.join(date).join(format!("{entity}.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The model of the other congress trial, with the rule by which people are known again, and a fourth store.
fn spec() -> Spec {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/congress");
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let entities = read("entities.yaml")
        .replace("    term_end: date\n", "    term_end: date\n  match: [[contact_identifiers.phone, first_name, last_name]]\n")
        .replace(
            "    identifier_value: {type: string, required: true}\n",
            "    identifier_value: {type: string, required: true}\n    identifier_normalized: {derive: \"identifier(identifier_type, identifier_value)\"}\n",
        )
        .replace("    social_url: string\n", "    social_url: string\n  default_region: US\n");
    let stores: Vec<String> = SQL
        .iter()
        .map(|name| {
            let canonical = *name == SQL[0];
            format!("apiVersion: trueup/v1\nkind: Store\nmetadata: {{name: {name}}}\nspec: {{canonical: {canonical}, sqlite: {{path: {name}.db}}}}\n")
        })
        .collect();
    let texts = [
        ("entities.yaml", entities),
        ("mappings.yaml", read("mappings.yaml")),
        ("crm.yaml", read("crm.yaml")),
        ("stores.yaml", stores.join("---\n")),
    ];
    let sources: Vec<Source> =
        texts.into_iter().map(|(file, text)| Source { file: file.to_owned(), text }).collect();
    let compiled = compile(Path::new("."), &sources, &BTreeMap::new());
    compiled.map_err(|found| render_lines(&found)).expect("compiled").0
}

/// Puts records into a table, as an import does.
fn insert(crm: &Crm, store: &str, entity: &str, records: &[Record]) {
    let mut connection = crm.connect(store);
    let transaction = connection.transaction().unwrap();
    for record in records {
        let names: Vec<String> = record.keys().map(|name| format!("\"{name}\"")).collect();
        let places = vec!["?"; names.len()].join(", ");
        let values = record.values().map(|value| match value {
            Json::Null => rusqlite::types::Value::Null,
            Json::Bool(flag) => i64::from(*flag).into(),
            Json::Number(number) => number.as_i64().unwrap().into(),
            Json::String(text) => text.clone().into(),
            other => panic!("{other}"),
        });
        let sql = format!("INSERT INTO \"{entity}\" ({}) VALUES ({places})", names.join(", "));
        transaction.execute(&sql, rusqlite::params_from_iter(values)).unwrap();
    }
    transaction.commit().unwrap();
}

fn begin(crm: &Crm, data: &Path, date: &str) {
    for entity in ENTITIES {
        insert(crm, SQL[0], entity, &load(data, date, entity));
    }
}

fn text(record: &Record, name: &str) -> String {
    record.get(name).and_then(Json::as_str).unwrap_or_default().to_owned()
}

/// What the CRM has a place for, of a contact.
const OF_CONTACTS: [&str; 15] = [
    "canonical_name",
    "first_name",
    "last_name",
    "middle_name",
    "nickname",
    "name_suffix",
    "title",
    "birthday",
    "organization",
    "job_title",
    "party",
    "office_address",
    "website",
    "term_start",
    "term_end",
];
const OF_BUSINESSES: [&str; 6] = ["name", "kind", "website", "phone", "address", "description"];

/// Everything that has a place in all four, in words that are the same everywhere: who is who by name, businesses by name and address.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    contacts: BTreeSet<String>,
    phones: BTreeSet<String>,
    businesses: BTreeSet<String>,
    links: BTreeSet<String>,
}

fn told(all: &BTreeMap<&str, Vec<Record>>) -> Told {
    let line = |record: &Record, names: &[&str]| {
        names.iter().map(|name| text(record, name)).collect::<Vec<_>>().join("|")
    };
    let by = |entity: &str, key: &str| -> BTreeMap<String, &Record> {
        all[entity].iter().map(|record| (text(record, key), record)).collect()
    };
    let (people, firms) = (by("contacts", "contact_id"), by("businesses", "business_id"));
    let firm = |id: &str| -> String {
        let Some(own) = firms.get(id) else { return "nobody's".to_owned() };
        let above =
            firms.get(&text(own, "parent_business_id")).map(|above| text(above, "name")).unwrap_or_default();
        format!("{} of {above}", text(own, "name"))
    };
    let person = |record: &Record| text(people[&text(record, "contact_id")], "canonical_name");
    let numbers =
        all["contact_identifiers"].iter().filter(|record| text(record, "identifier_type") == "phone");
    Told {
        contacts: all["contacts"].iter().map(|record| line(record, &OF_CONTACTS)).collect(),
        phones: numbers
            .filter_map(|record| {
                let number = normal::phone(&text(record, "identifier_value"), Some("US"))?;
                Some(format!("{} {}", person(record), number.e164))
            })
            .collect(),
        businesses: all["businesses"]
            .iter()
            .map(|record| {
                let website = text(record, "website").trim_end_matches('/').to_lowercase();
                let rest: Vec<&str> = OF_BUSINESSES.into_iter().filter(|name| *name != "website").collect();
                format!("{}|{website}|{}", firm(&text(record, "business_id")), line(record, &rest))
            })
            .collect(),
        links: all["people_businesses"]
            .iter()
            .map(|record| {
                let rank = record
                    .get("rank")
                    .and_then(Json::as_i64)
                    .map(|rank| rank.to_string())
                    .unwrap_or_default();
                let business = firm(&text(record, "business_id"));
                format!(
                    "{} in {business}: {}|{rank}|{}",
                    person(record),
                    text(record, "role"),
                    text(record, "side")
                )
            })
            .collect(),
    }
}

fn of_data(data: &Path, date: &str) -> Told {
    told(&ENTITIES.into_iter().map(|entity| (entity, load(data, date, entity))).collect())
}

fn of_sql(crm: &Crm, store: &str) -> Told {
    let connection = crm.connect(store);
    let table = |entity: &'static str| {
        let mut query = connection.prepare(&format!("SELECT * FROM \"{entity}\"")).unwrap();
        let names: Vec<String> = query.column_names().into_iter().map(str::to_owned).collect();
        let rows = query.query_map([], |row| {
            let mut record = Record::new();
            for (at, name) in names.iter().enumerate() {
                let value = match row.get::<_, rusqlite::types::Value>(at)? {
                    rusqlite::types::Value::Text(text) => json!(text),
                    rusqlite::types::Value::Integer(number) => json!(number),
                    _ => continue,
                };
                record.insert(name.clone(), value);
            }
            Ok(record)
        });
        (entity, rows.unwrap().map(Result::unwrap).collect::<Vec<_>>())
    };
    told(&ENTITIES.into_iter().map(table).collect())
}

/// What Twenty holds, in the words of the model.
fn of_crm(crm: &Crm) -> Told {
    let at =
        |json: &Json, path: &str| json.pointer(path).and_then(Json::as_str).unwrap_or_default().to_owned();
    let taken = |json: &Json, places: &[(&str, &str)]| -> Record {
        let all = places.iter().map(|(name, path)| ((*name).to_owned(), json!(at(json, path))));
        all.filter(|(_, value)| value != "").collect()
    };
    let mut all: BTreeMap<&str, Vec<Record>> =
        ENTITIES.into_iter().map(|entity| (entity, Vec::new())).collect();
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    for person in crm.all("people") {
        let key = at(&person, "/contactId");
        keys.insert(id(&person), key.clone());
        for number in phones(&person) {
            let record = json!({ "contact_id": key, "identifier_type": "phone", "identifier_value": number });
            all.get_mut("contact_identifiers").unwrap().push(record.as_object().unwrap().clone());
        }
        let places = [
            ("contact_id", "/contactId"),
            ("canonical_name", "/canonicalName"),
            ("first_name", "/name/firstName"),
            ("last_name", "/name/lastName"),
            ("middle_name", "/middleName"),
            ("nickname", "/nickname"),
            ("name_suffix", "/nameSuffix"),
            ("title", "/title"),
            ("birthday", "/birthday"),
            ("organization", "/organization"),
            ("job_title", "/jobTitle"),
            ("party", "/party"),
            ("office_address", "/officeAddress"),
            ("website", "/website"),
            ("term_start", "/termStart"),
            ("term_end", "/termEnd"),
        ];
        all.get_mut("contacts").unwrap().push(taken(&person, &places));
    }
    for company in crm.all("companies") {
        keys.insert(id(&company), at(&company, "/businessId"));
        let places = [
            ("business_id", "/businessId"),
            ("name", "/name"),
            ("kind", "/kind"),
            ("website", "/domainName/primaryLinkUrl"),
            ("phone", "/phone"),
            ("address", "/address/addressStreet1"),
            ("description", "/description"),
            ("parent_business_id", "/parentBusinessId"),
        ];
        all.get_mut("businesses").unwrap().push(taken(&company, &places));
    }
    for link in crm.all("peopleBusinesses") {
        let mut record = taken(&link, &[("role", "/memberRole"), ("side", "/side")]);
        for (name, path) in [("contact_id", "/personId"), ("business_id", "/companyId")] {
            record.insert(name.to_owned(), json!(keys[&at(&link, path)]));
        }
        if !link["rank"].is_null() {
            let rank = link["rank"].to_string();
            let whole = rank.trim_end_matches(".0").parse::<i64>();
            record.insert("rank".to_owned(), json!(whole.unwrap()));
        }
        all.get_mut("people_businesses").unwrap().push(record);
    }
    told(&all)
}

fn same(whose: &str, theirs: &Told, expected: &Told) {
    let check = |what: &str, theirs: &BTreeSet<String>, expected: &BTreeSet<String>| {
        let lacks: Vec<_> = expected.difference(theirs).take(4).collect();
        let more: Vec<_> = theirs.difference(expected).take(4).collect();
        assert!(lacks.is_empty() && more.is_empty(), "{what} of {whose}: lacks {lacks:#?}, has {more:#?}");
    };
    check("contacts", &theirs.contacts, &expected.contacts);
    check("phones", &theirs.phones, &expected.phones);
    check("businesses", &theirs.businesses, &expected.businesses);
    check("links", &theirs.links, &expected.links);
}

fn all_agree(crm: &Crm, expected: &Told) {
    for store in SQL {
        same(store, &of_sql(crm, store), expected);
    }
    same("crm", &of_crm(crm), expected);
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr)]
async fn an_empty_crm_is_filled_in_three_minutes_of_a_hundred_calls() {
    let Some(data) = data() else { return };
    let crm = Crm::new(spec(), 100).await;
    begin(&crm, &data, NEW);
    let (calls, began, clock) = (crm.sandbox.calls().len(), crm.hand.now_ms(), Instant::now());
    let report = crm.pass().await;
    assert!(report.is_clean(), "{:?}", report.failed.first());
    let made = crm.sandbox.calls();
    let seconds = (crm.hand.now_ms() - began) / 1_000;
    let refused = made[calls..].iter().filter(|call| call.status >= 400).count();
    eprintln!(
        "{} calls in {seconds} s of the server's time, {refused} refused, in {:?}",
        made.len() - calls,
        clock.elapsed()
    );
    assert!(seconds <= 180, "{seconds} s");
    assert_eq!(refused, 0);
    all_agree(&crm, &of_data(&data, NEW));
    crm.settle().await;
}

fn national(number: &str) -> String {
    normal::phone(number, Some("US")).map(|phone| phone.e164).unwrap_or_default()
}

/// Numbers as somebody enters them, the primary one first.
fn entered(numbers: &[&Record]) -> Json {
    let mut own: Vec<&&Record> =
        numbers.iter().filter(|record| !national(&text(record, "identifier_value")).is_empty()).collect();
    own.sort_by_key(|record| record.get("is_primary") != Some(&json!(true)));
    let mut seen = BTreeSet::new();
    let mut all = own
        .iter()
        .map(|record| national(&text(record, "identifier_value")))
        .filter(|number| seen.insert(number.clone()));
    let first = all.next().unwrap_or_default();
    let more: Vec<Json> =
        all.map(|number| json!({ "number": number, "countryCode": "", "callingCode": "" })).collect();
    json!({ "primaryPhoneNumber": first, "primaryPhoneCountryCode": "", "primaryPhoneCallingCode": "", "additionalPhones": more })
}

fn numbers_of<'r>(all: &'r [Record], contact: &str) -> Vec<&'r Record> {
    all.iter()
        .filter(|record| text(record, "contact_id") == contact && text(record, "identifier_type") == "phone")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_people_are_there_already_and_nobody_is_doubled() {
    let Some(data) = data() else { return };
    let crm = Crm::new(spec(), 1_000_000).await;
    let (people, all) = (load(&data, NEW, "contacts"), load(&data, NEW, "contact_identifiers"));
    let mut there: BTreeMap<String, String> = BTreeMap::new();
    let with_numbers = |record: &&Record| !numbers_of(&all, &text(record, "contact_id")).is_empty();
    for record in people.iter().filter(with_numbers).step_by(2) {
        let key = text(record, "contact_id");
        let name = json!({ "firstName": text(record, "first_name"), "lastName": text(record, "last_name") });
        let own = numbers_of(&all, &key);
        // One of the numbers is enough; some are shared.
        let some: Vec<&Record> = own.into_iter().rev().take(1).collect();
        there.insert(key, crm.make("people", &json!({ "name": name, "phones": entered(&some) })));
    }
    begin(&crm, &data, NEW);
    let plan = crm.plan().await;
    assert_eq!(plan.guards, []);
    let met = &plan.meetings[&EntityName::new("contacts").unwrap()][&StoreName::new("crm").unwrap()];
    assert_eq!(
        (met.linked.values().sum::<u64>(), met.made, met.held),
        (there.len() as u64, 0, 0),
        "{:?}",
        met.waiting
    );
    drop(plan);
    crm.settle().await;
    assert_eq!(crm.all("people").len(), people.len());
    let keys: BTreeMap<String, String> = crm
        .all("people")
        .iter()
        .map(|person| (person["contactId"].as_str().unwrap().to_owned(), id(person)))
        .collect();
    for (key, own) in &there {
        assert_eq!(keys[key], *own, "{key}");
    }
    all_agree(&crm, &of_data(&data, NEW));
}

/// The records of an entity that are gone, and those that are new or changed, with what they were.
fn drift(data: &Path, entity: &str, key: &[&str]) -> (Vec<Record>, Vec<(Option<Record>, Record)>) {
    let of = |record: &Record| key.iter().map(|part| text(record, part)).collect::<Vec<_>>();
    let old: BTreeMap<Vec<String>, Record> =
        load(data, OLD, entity).into_iter().map(|record| (of(&record), record)).collect();
    let new: BTreeMap<Vec<String>, Record> =
        load(data, NEW, entity).into_iter().map(|record| (of(&record), record)).collect();
    let gone =
        old.iter().filter(|(key, _)| !new.contains_key(*key)).map(|(_, record)| record.clone()).collect();
    let changed = new.into_iter().filter(|(key, record)| old.get(key) != Some(record));
    (gone, changed.map(|(key, record)| (old.get(&key).cloned(), record)).collect())
}

fn business(record: &Record) -> Json {
    let mut body = json!({
        "name": text(record, "name"), "kind": text(record, "kind"), "phone": text(record, "phone"),
        "description": text(record, "description"), "address": { "addressStreet1": text(record, "address") },
    });
    if !text(record, "website").is_empty() {
        body["domainName"] = json!({ "primaryLinkUrl": text(record, "website") });
    }
    body
}

fn contact(record: &Record) -> Json {
    json!({
        "canonicalName": text(record, "canonical_name"),
        "name": { "firstName": text(record, "first_name"), "lastName": text(record, "last_name") },
        "middleName": text(record, "middle_name"), "nickname": text(record, "nickname"), "nameSuffix": text(record, "name_suffix"),
        "title": text(record, "title"), "birthday": record.get("birthday"), "organization": text(record, "organization"),
        "jobTitle": text(record, "job_title"), "party": text(record, "party"), "officeAddress": text(record, "office_address"),
        "website": text(record, "website"), "termStart": record.get("term_start"), "termEnd": record.get("term_end"),
    })
}

/// A year of changes, made by people in the CRM alone.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, clippy::too_many_lines)] // One story.
async fn a_year_of_changes_entered_in_the_crm_is_everywhere() {
    let Some(data) = data() else { return };
    let crm = Crm::new(spec(), 1_000_000).await;
    begin(&crm, &data, OLD);
    crm.settle().await;
    all_agree(&crm, &of_data(&data, OLD));

    let by = |plural: &str, field: &str| -> BTreeMap<String, String> {
        crm.all(plural)
            .iter()
            .filter_map(|record| Some((record[field].as_str()?.to_owned(), id(record))))
            .collect()
    };
    let (mut firms, mut people) = (by("companies", "businessId"), by("people", "contactId"));
    let (gone_firms, new_firms) = drift(&data, "businesses", &["business_id"]);
    let (gone_people, new_people) = drift(&data, "contacts", &["contact_id"]);
    let (gone_links, new_links) = drift(&data, "people_businesses", &["contact_id", "business_id"]);
    let links: BTreeMap<(String, String), String> = crm
        .all("peopleBusinesses")
        .iter()
        .map(|link| {
            (
                (
                    link["personId"].as_str().unwrap().to_owned(),
                    link["companyId"].as_str().unwrap().to_owned(),
                ),
                id(link),
            )
        })
        .collect();
    let link_of = |record: &Record, people: &BTreeMap<String, String>, firms: &BTreeMap<String, String>| {
        (people[&text(record, "contact_id")].clone(), firms[&text(record, "business_id")].clone())
    };
    crm.sandbox.edit(|editor| {
        for record in &gone_links {
            editor.destroy("peopleBusinesses", &links[&link_of(record, &people, &firms)]).unwrap();
        }
        for record in &gone_people {
            editor.soft_delete("people", &people[&text(record, "contact_id")]).unwrap();
        }
        for record in &gone_firms {
            editor.soft_delete("companies", &firms[&text(record, "business_id")]).unwrap();
        }
        for (old, record) in &new_people {
            let key = text(record, "contact_id");
            if old.is_some() {
                editor.patch("people", &people[&key], &contact(record)).unwrap();
            } else {
                people.insert(key, id(&editor.create("people", &contact(record)).unwrap()));
            }
        }
        for (old, record) in &new_firms {
            let key = text(record, "business_id");
            if old.is_some() {
                editor.patch("companies", &firms[&key], &business(record)).unwrap();
            } else {
                firms.insert(key, id(&editor.create("companies", &business(record)).unwrap()));
            }
        }
        let (before, after) = (load(&data, OLD, "contact_identifiers"), load(&data, NEW, "contact_identifiers"));
        let keys: Vec<String> = load(&data, NEW, "contacts").iter().map(|record| text(record, "contact_id")).collect();
        for key in keys {
            let (was, is) = (entered(&numbers_of(&before, &key)), entered(&numbers_of(&after, &key)));
            if was != is {
                editor.patch("people", &people[&key], &json!({ "phones": is })).unwrap();
            }
        }
        for (old, record) in &new_links {
            let (person, company) = link_of(record, &people, &firms);
            let body = json!({ "memberRole": text(record, "role"), "rank": record.get("rank"), "side": text(record, "side") });
            if old.is_some() {
                editor.patch("peopleBusinesses", &links[&(person, company)], &body).unwrap();
            } else {
                let mut body = body;
                body["personId"] = json!(person);
                body["companyId"] = json!(company);
                editor.create("peopleBusinesses", &body).unwrap();
            }
        }
    });
    let passes = crm.settle().await;
    // What a part of a committee is a part of can be said once that has a key.
    let keys: BTreeMap<String, String> = crm
        .all("companies")
        .iter()
        .map(|firm| (id(firm), firm["businessId"].as_str().unwrap().to_owned()))
        .collect();
    let records = load(&data, NEW, "businesses");
    for record in &records {
        let above = text(record, "parent_business_id");
        let own = &firms[&text(record, "business_id")];
        let above = firms.get(&above).map(|above| keys[above].clone()).unwrap_or_default();
        crm.patch("companies", own, &json!({ "parentBusinessId": above }));
    }
    let more = crm.settle().await;
    eprintln!(
        "{} people, {} businesses and {} links changed or made, {} removed, in {passes} and {more} passes",
        new_people.len(),
        new_firms.len(),
        new_links.len(),
        gone_people.len() + gone_firms.len() + gone_links.len()
    );
    all_agree(&crm, &of_data(&data, NEW));
}
