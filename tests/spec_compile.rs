//! A realistic set of manifests: what it compiles to, and that its meaning does not hang on how it is written.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use trueup::cli::load::{load, load_all};
use trueup::model::{
    Check, Column, DeriveFn, Direction, EntityName, FieldRef, FieldType, Form, MatchTerm, OnDelete,
    Recompute, ScopeExit, Shape, StoreName, SyncPlace, Value,
};
use trueup::spec::{Compiled, Reference, Source, Spec, StateSpec, StoreKind, compile_all};

fn good() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spec/good")
}

fn sources() -> (Vec<Source>, BTreeMap<String, String>) {
    let read = |name: &str| std::fs::read_to_string(good().join(name)).unwrap();
    let manifests = ["contacts.yaml", "mappings.yml", "stores.yaml"];
    let manifests = manifests.map(|name| Source { file: name.to_owned(), text: read(name) });
    let side = ("llm_context.schema.json".to_owned(), read("llm_context.schema.json"));
    (manifests.to_vec(), BTreeMap::from([side]))
}

fn compiled(manifests: &[Source], side: &BTreeMap<String, String>) -> Compiled {
    compile_all(Path::new("."), manifests, side).unwrap_or_else(|found| {
        panic!("{}", trueup::spec::render(&found, manifests, false));
    })
}

fn spec() -> Spec {
    let (manifests, side) = sources();
    compiled(&manifests, &side).spec
}

fn entity(name: &str) -> EntityName {
    EntityName::new(name).unwrap()
}

fn store(name: &str) -> StoreName {
    StoreName::new(name).unwrap()
}

#[test]
fn a_folder_is_loaded_without_a_warning() {
    let (spec, warnings) = load(&good()).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(spec.folder, good());
    assert_eq!(spec.sha, self::spec().sha);
}

#[test]
fn entities_come_in_reference_order() {
    let names: Vec<String> = spec().entities.iter().map(|entity| entity.name.to_string()).collect();
    assert_eq!(names, ["businesses", "contacts", "people_businesses", "contact_identifiers"]);
}

#[test]
fn fields_have_types_checks_and_derivations() {
    let spec = spec();
    let contacts = spec.entity(&entity("contacts")).unwrap();
    let field = |name: &str| match contacts.resolve(name) {
        Some(FieldRef::Field(id)) => contacts.field(id),
        other => panic!("{name}: {other:?}"),
    };
    let types = [
        ("canonical_name", FieldType::String),
        ("name_normalized", FieldType::String),
        ("category_code", FieldType::String),
        ("subcategory_code", FieldType::String),
        ("llm_context", FieldType::Json),
        ("birthday", FieldType::Date),
        ("closeness", FieldType::Int64),
        ("tags", FieldType::StringList),
        ("first_seen", FieldType::Timestamp),
    ];
    for (name, ty) in types {
        assert_eq!(field(name).ty, ty, "{name}");
    }
    assert!(field("canonical_name").required && !field("first_name").required);
    assert!(field("llm_context").sensitive);
    assert!(matches!(&field("category_code").checks[..], [Check::Enum(words)] if words.len() == 9));
    assert!(
        matches!(&field("subcategory_code").checks[..], [Check::Pattern(text)] if text.contains("{category_code}"))
    );
    assert!(matches!(&field("closeness").checks[..],
        [Check::Range(range)] if range.min == Some(Value::Int(1)) && range.max == Some(Value::Int(10))));
    assert!(
        matches!(&field("birthday").checks[..], [Check::Range(range)] if range.max.is_none() && range.min.is_some())
    );
    let [Check::JsonSchema { file, validator }] = &field("llm_context").checks[..] else { panic!() };
    assert_eq!(file, "llm_context.schema.json");
    assert!(!validator.is_valid(&serde_json::json!({"closeness_level": 11})));
    let derive = field("name_normalized").derive.as_ref().unwrap();
    assert_eq!((derive.function, derive.recompute), (DeriveFn::Name, Recompute::Always));
    assert_eq!(derive.args, [contacts.resolve("canonical_name").unwrap()]);
    assert_eq!(field("full_name").derive.as_ref().unwrap().recompute, Recompute::IfEmpty);
    assert_eq!(contacts.default_region.as_deref(), Some("US"));
    assert_eq!(contacts.times.created.as_ref().unwrap().as_str(), "created_at");
}

#[test]
fn units_are_groups_and_single_fields_or_the_record() {
    let spec = spec();
    let contacts = spec.entity(&entity("contacts")).unwrap();
    assert_eq!(contacts.units.len(), contacts.fields.len() - 1);
    let FieldRef::Field(code) = contacts.resolve("category_code").unwrap() else { panic!() };
    let FieldRef::Field(sub) = contacts.resolve("subcategory_code").unwrap() else { panic!() };
    assert_eq!(contacts.unit_of(code), contacts.unit_of(sub));
    for id in contacts.field_ids() {
        assert_eq!(contacts.units.iter().filter(|unit| unit.fields.contains(&id)).count(), 1);
    }
    let memberships = spec.entity(&entity("people_businesses")).unwrap();
    assert_eq!(memberships.units.len(), 1);
    assert_eq!(memberships.units[0].fields.len(), 3);
    assert_eq!(memberships.conflicts.clock_tolerance_micros, 2_000_000);
}

#[test]
fn references_and_match_rules_are_resolved() {
    let spec = spec();
    let memberships = spec.entity(&entity("people_businesses")).unwrap();
    let found: Vec<(FieldRef, String, OnDelete)> =
        memberships.references.iter().map(|r| (r.from, r.to.to_string(), r.on_delete)).collect();
    assert_eq!(
        found,
        [
            (FieldRef::Key(0), "contacts".to_owned(), OnDelete::Cascade),
            (FieldRef::Key(1), "businesses".to_owned(), OnDelete::Cascade)
        ]
    );
    let contacts = spec.entity(&entity("contacts")).unwrap();
    assert_eq!(contacts.references[0].on_delete, OnDelete::Restrict);
    assert_eq!(contacts.references[1].on_delete, OnDelete::Ignore);
    let child =
        |kind: &str| MatchTerm::Child { entity: entity("contact_identifiers"), kind: kind.to_owned() };
    let own = MatchTerm::Own(contacts.resolve("name_normalized").unwrap());
    assert_eq!(contacts.match_rules, [vec![child("email")], vec![child("phone"), own]]);
}

#[test]
fn mappings_say_each_column() {
    let spec = spec();
    let contacts = spec.entity(&entity("contacts")).unwrap();
    let id = |name: &str| match contacts.resolve(name) {
        Some(FieldRef::Field(id)) => id,
        other => panic!("{name}: {other:?}"),
    };
    let canonical = spec.mapping(&entity("contacts"), &store("canonical")).unwrap();
    assert_eq!(canonical.fields.len(), contacts.fields.len());
    assert_eq!(canonical.key[0].column, Column::plain("contact_id"));
    assert_eq!(canonical.created, Some(Column::plain("created_at")));
    assert!(
        matches!(&canonical.sync, SyncPlace::Columns { version: Some(column), sync_errors: Some(_), .. } if column.head() == "version")
    );

    let app = spec.mapping(&entity("contacts"), &store("app")).unwrap();
    assert!(matches!(&app.shape, Shape::Table(table) if table.to_string() == "public.contacts_master"));
    assert_eq!(app.key[0].form, Form::Int64);
    assert_eq!(app.fields[&id("first_seen")].form, Form::UnixMillis);
    assert_eq!(app.fields[&id("tags")].column, Column::plain("tag_list"));
    assert_eq!(app.timezone.iana_name(), Some("Europe/Rome"));
    assert_eq!(app.sync, SyncPlace::Json(Column::plain("sync_metadata")));

    let local = spec.mapping(&entity("contacts"), &store("local")).unwrap();
    assert_eq!(local.key[0].column, Column::plain("contactId"));
    assert!(!local.fields.contains_key(&id("employer")));
    assert_eq!(local.fields[&id("first_name")].column, Column::plain("given"));
    assert_eq!(local.fields[&id("llm_context")].direction, Direction::ToStore);
    assert_eq!((&local.created, &local.updated), (&Some(Column::plain("made_at")), &None));
    let scope = local.scope.as_ref().unwrap();
    assert_eq!(scope.exit, ScopeExit::Remove);
    let admits = |category: &str, business: bool, closeness: Value| {
        scope.admits(|field| match field {
            field if field == FieldRef::Field(id("category_code")) => Value::text(category),
            field if field == FieldRef::Field(id("is_business")) => Value::Bool(business),
            _ => closeness.clone(),
        })
    };
    assert!(admits("A", false, Value::Int(2)) && admits("A", false, Value::Null));
    assert!(
        !admits("X", false, Value::Int(2))
            && !admits("A", true, Value::Int(2))
            && !admits("A", false, Value::Int(3))
    );

    let memberships = spec.mapping(&entity("people_businesses"), &store("local")).unwrap();
    assert_eq!(memberships.key[0].column, Column::plain("person"));
    assert_eq!(
        (&memberships.key[1].column, memberships.key[1].form),
        (&Column::plain("business"), Form::Text)
    );
}

#[test]
fn stores_keep_references_and_never_show_what_is_behind_them() {
    let spec = spec();
    assert_eq!(spec.canonical, store("canonical"));
    assert_eq!(spec.stores[&store("app")].kind, StoreKind::Sqlite { path: Reference::Env("APP_DB".into()) });
    assert_eq!(
        spec.stores[&store("local")].kind,
        StoreKind::Sqlite { path: Reference::File("local.path".into()) }
    );
    assert_eq!(spec.stores[&store("canonical")].batch_size, Some(500));
    assert!(spec.stores[&store("scratch")].read_only);
    assert_eq!(spec.stores_of(&entity("contacts")), [store("canonical"), store("app"), store("local")]);
}

#[test]
fn the_controller_has_settings_and_defaults() {
    let controller = spec().controller;
    assert_eq!((controller.interval_ms, controller.retention_ms), (30_000, 30 * 86_400_000));
    assert_eq!(controller.state, StateSpec::Sqlite("state/trueup.db".into()));
    assert_eq!(controller.deep_check_interval_ms, 86_400_000);
    let (mut manifests, side) = sources();
    let at = manifests[2].text.find("---\napiVersion: trueup/v1\nkind: Controller").unwrap();
    manifests[2].text.truncate(at);
    let defaults = compiled(&manifests, &side).spec.controller;
    assert_eq!(defaults.state, StateSpec::Sqlite(".trueup/state.db".into()));
    assert_eq!(defaults.http_address.to_string(), "127.0.0.1:9464");
    assert!((defaults.guards.max_delete_ratio - 0.1).abs() < 1e-12);
}

#[test]
fn the_expanded_form_means_the_same() {
    let (manifests, side) = sources();
    let first = compiled(&manifests, &side);
    assert!(first.expanded.contains("${env:APP_DB}"), "references stay as written");
    let again = Source { file: "expanded.yaml".to_owned(), text: first.expanded.clone() };
    let second = compiled(&[again], &side);
    assert_eq!(first.spec.sha, second.spec.sha, "{}", first.expanded);
    assert_eq!(first.expanded, second.expanded);
    for (entity, stores) in &first.spec.mappings {
        for (store, mapping) in stores {
            assert_eq!(Some(mapping), second.spec.mapping(entity, store), "{entity} in {store}");
        }
    }
    insta::assert_snapshot!("expanded", first.expanded);
}

#[test]
fn the_hash_follows_the_meaning_alone() {
    let (manifests, side) = sources();
    let sha = |manifests: &[Source], side: &BTreeMap<String, String>| compiled(manifests, side).spec.sha;
    let first = sha(&manifests, &side);
    assert_eq!(first.len(), 64);
    // One file in another order, comments, CRLF and a byte order mark.
    let texts: Vec<&str> = manifests.iter().rev().map(|source| source.text.as_str()).collect();
    let joined = format!("\u{feff}# All in one.\n{}", texts.join("\n---\n")).replace('\n', "\r\n");
    assert_eq!(sha(&[Source { file: "all.yaml".into(), text: joined }], &side), first);
    let edited = |from: &str, to: &str| {
        let mut manifests = manifests.clone();
        let before = manifests.iter().map(|source| source.text.matches(from).count()).sum::<usize>();
        assert!(before > 0, "{from}");
        for source in &mut manifests {
            source.text = source.text.replace(from, to);
        }
        sha(&manifests, &side)
    };
    let same = [
        ("[A, B, C, D, E, F, G, H, X]", "[X, B, C, D, E, F, G, H, A]"),
        ("first_name: string\n    last_name: string", "last_name: {type: string}\n    first_name: string"),
        ("[[category_code, subcategory_code]]", "[[subcategory_code, category_code]]"),
        ("interval: 30s", "interval: 30000ms"),
        ("Who works where.", "Something else."),
        ("How the contact is shown: everywhere.", "Said otherwise."),
        ("{not: X}", "{not: [X]}"),
    ];
    for (from, to) in same {
        assert_eq!(edited(from, to), first, "{from} -> {to}");
    }
    let other = [
        ("given", "givenname"),
        ("interval: 30s", "interval: 31s"),
        ("deletes: restore", "deletes: ignore"),
        ("[A, B, C, D, E, F, G, H, X]", "[A, B, C, D, E, F, G, X]"),
        ("Europe/Rome", "Europe/Paris"),
        ("on_delete: restrict", "on_delete: ignore"),
        ("range: [1, 10]", "range: [1, 11]"),
        ("${env:APP_DB}", "${env:APP_DB2}"),
        (
            "[[contact_identifiers.email], [contact_identifiers.phone, name_normalized]]",
            "[[contact_identifiers.phone, name_normalized], [contact_identifiers.email]]",
        ),
        ("{not: X}", "X"),
        ("recompute: if_empty", "recompute: never"),
    ];
    let mut seen = vec![first.clone()];
    for (from, to) in other {
        let sha = edited(from, to);
        assert!(!seen.contains(&sha), "{from} -> {to}");
        seen.push(sha);
    }
    let mut stricter = side.clone();
    for text in stricter.values_mut() {
        *text = text.replace("10", "9");
    }
    assert_ne!(sha(&manifests, &stricter), first);
    // A composite key's order is its records' address.
    let swapped = manifests.iter().map(|source| {
        let (a, b) = (
            "    contact_id: {type: string, references: contacts, on_delete: cascade}\n",
            "    business_id: {type: string, references: {entity: businesses, on_delete: cascade}}\n",
        );
        Source {
            file: source.file.clone(),
            text: source.text.replace(&format!("{a}{b}"), &format!("{b}{a}")),
        }
    });
    assert_ne!(sha(&swapped.collect::<Vec<_>>(), &side), first);
}

#[test]
fn a_tag_follows_what_the_column_means_and_nothing_else() {
    let (manifests, side) = sources();
    let tag = |from: &str, to: &str, field: &str| {
        let mut manifests = manifests.clone();
        for source in &mut manifests {
            source.text = source.text.replace(from, to);
        }
        let spec = compiled(&manifests, &side).spec;
        let contacts = spec.entity(&entity("contacts")).unwrap();
        let Some(FieldRef::Field(id)) = contacts.resolve(field) else { panic!() };
        spec.mapping(&entity("contacts"), &store("app")).unwrap().fields[&id].tag
    };
    let plain = |field| tag("\u{0}", "", field);
    assert_eq!(
        plain("tags").0,
        297_353_377,
        "shadows are kept under this tag: it must not change between releases"
    );
    assert_eq!(tag("interval: 30s", "interval: 1m", "tags"), plain("tags"));
    assert_eq!(tag("first_name: given", "first_name: forename", "tags"), plain("tags"));
    assert_eq!(tag("Europe/Rome", "UTC", "tags"), plain("tags"), "a list knows no zone");
    assert_ne!(tag("Europe/Rome", "UTC", "first_seen"), plain("first_seen"));
    assert_ne!(tag("unix-millis", "unix-seconds", "first_seen"), plain("first_seen"));
    assert_ne!(tag("tag_list", "tags2", "tags"), plain("tags"));
    assert_ne!(tag("public.contacts_master", "public.contacts", "tags"), plain("tags"));
    assert_ne!(tag("contact_id: {form: int64}", "contact_id: {form: text}", "tags"), plain("tags"));
    assert_ne!(plain("tags"), plain("first_seen"));
}

#[test]
fn what_is_loaded_can_be_shown() {
    let loaded = load_all(&good()).unwrap();
    assert_eq!(loaded.sources.len(), 3);
    let error = load(Path::new("/nonexistent-folder")).unwrap_err();
    assert!(error.render(false).contains("/nonexistent-folder"), "{}", error.render(false));
}

#[test]
fn no_entity_may_live_in_a_table_of_trueups_own() {
    let (mut manifests, side) = sources();
    let mappings = manifests.iter_mut().find(|source| source.file == "mappings.yml").unwrap();
    assert!(mappings.text.contains("table: businesses"), "{}", mappings.text);
    mappings.text = mappings.text.replace("table: businesses", "table: trueup_passes");
    let found = compile_all(Path::new("."), &manifests, &side).unwrap_err();
    assert!(
        found.iter().any(|one| one.message.contains("`trueup_passes` is a table of trueup's own")),
        "{found:#?}"
    );
}
