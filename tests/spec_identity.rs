//! Manifests of stores with record ids of their own: relations, junctions, embedded entities, and the mistakes one can make there.

use std::collections::BTreeMap;
use std::path::Path;

use trueup::model::{Column, EntityName, FieldRef, Mapping, Shape, StoreName};
use trueup::spec::{Compiled, Source, Spec, compile_all, render};

const GOOD: &str = include_str!("fixtures/identity.yaml");

fn compile(text: &str) -> Result<Compiled, String> {
    let source = Source { file: "m.yaml".to_owned(), text: text.to_owned() };
    compile_all(Path::new("."), std::slice::from_ref(&source), &BTreeMap::new())
        .map_err(|found| render(&found, &[source], false))
}

fn good() -> Compiled {
    compile(GOOD).unwrap_or_else(|found| panic!("{found}"))
}

fn mapping<'a>(spec: &'a Spec, entity: &str, store: &str) -> &'a Mapping {
    let entity = EntityName::new(entity).expect("a name");
    spec.mapping(&entity, &StoreName::new(store).expect("a name")).expect("mapped there")
}

#[test]
fn an_embedded_entity_has_a_mapping_of_its_own() {
    let spec = good().spec;
    let reach = spec.entity(&EntityName::new("reach").expect("a name")).expect("there").clone();
    let mapped = mapping(&spec, "reach", "crm");
    let Shape::Embedded(embedded) = &mapped.shape else { panic!("{:?}", mapped.shape) };
    let id = |name: &str| match reach.resolve(name) {
        Some(FieldRef::Field(id)) => id,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(embedded.parent.as_str(), "people");
    assert_eq!((embedded.reference, embedded.kind, embedded.value), (id("person"), id("kind"), id("value")));
    let phone = &embedded.places["phone"];
    assert_eq!((phone.column.to_string(), phone.region.as_deref()), ("phones".to_owned(), Some("US")));
    assert_eq!((phone.primary, embedded.places["email"].primary), (Some(id("first")), None));
    let fields: Vec<_> = mapped.fields.keys().copied().collect();
    assert_eq!(fields, [id("person"), id("kind"), id("value"), id("first")]);
    let scope = mapped.scope.as_ref().expect("kinds without a place stay elsewhere");
    assert_eq!(scope.conditions.len(), 2, "the kinds, and what the child's own mapping says");
    assert!(
        mapped.own_ids && mapping(&spec, "people", "crm").own_ids && !mapping(&spec, "people", "app").own_ids
    );
}

#[test]
fn relations_stand_in_place_of_columns() {
    let spec = good().spec;
    let people = mapping(&spec, "people", "crm");
    let related: Vec<_> = people.fields.values().filter_map(|place| place.relation.as_ref()).collect();
    assert_eq!(related, [&EntityName::new("firms").expect("a name")]);
    let jobs = mapping(&spec, "jobs", "crm");
    let parts: Vec<(usize, &str)> = jobs.key_relations().map(|(part, to)| (part, to.as_str())).collect();
    assert_eq!(parts, [(0, "people"), (1, "firms")]);
    assert_eq!(jobs.key_text, Some(Column::plain("linkKey")));
}

#[test]
fn what_is_written_out_means_the_same() {
    let first = good();
    let again = compile(&first.expanded).unwrap_or_else(|found| panic!("{found}\n{}", first.expanded));
    assert_eq!(first.spec.sha, again.spec.sha, "{}", first.expanded);
    assert_eq!(first.expanded, again.expanded);
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    let cases = [
        ("embed: {reach: {email: emails", "embed: {reech: {email: emails", "there is no entity `reech`"),
        (
            "embed: {reach: {email: emails",
            "embed: {firms: {email: emails",
            "no field of `firms` refers to `people`",
        ),
        ("embed: {reach: {email: emails", "embed: {reach: {e-mail: emails", "has no kind of value `e-mail`"),
        ("embed: {reach: {email: emails", "embed: {reach: {email: phones", "share the column `phones`"),
        ("embed: {reach: {email: emails", "embed: {reach: {email: note", "share the column `note`"),
        (
            "normal: {derive: \"identifier(kind, value)\"}",
            "normal: string",
            "add a field with `derive: identifier(KIND, VALUE)`",
        ),
        ("region: US, primary: first", "region: USA, primary: first", "`USA` is no region"),
        ("region: US, primary: first", "region: US, primary: label", "`label` is no field of type `bool`"),
        (
            "crm: {where: {hidden: {not: true}}}",
            "crm: {where: {hidden: {not: true}}, sync: {json: a}}",
            "has no `sync` there",
        ),
        (
            "crm: {where: {hidden: {not: true}}}",
            "crm: {object: thing, fields: {\"*\": same}}",
            "`reach` is mapped in `crm` already",
        ),
        (
            "spec: {memory: {own_ids: true}}\n---\napiVersion: trueup/v1\nkind: Store\nmetadata: {name: desk}",
            "spec: {memory: {}}\n---\napiVersion: trueup/v1\nkind: Store\nmetadata: {name: desk}",
            "`embed` is for stores with record ids of their own",
        ),
        (
            "spec: {canonical: true, memory: {}}",
            "spec: {canonical: true, memory: {own_ids: true}}",
            "`hub` cannot be canonical",
        ),
        (
            "{relation: company}}\n      embed",
            "{relation: company, form: text}}\n      embed",
            "is a relation and has no `form`",
        ),
        (
            "note: note, class: class, main",
            "note: {relation: memo}, class: class, main",
            "`note` refers to nothing",
        ),
        (
            "app: {table: people, fields: {\"*\": same}",
            "app: {table: people, fields: {\"*\": same, main_firm: {relation: firm}}",
            "`app` has no relations",
        ),
        (
            "junction: {person: person, firm: {relation: company}}",
            "junction: {person: person, form: company}",
            "`form` is no part of the key",
        ),
        (
            "junction: {person: person, firm: {relation: company}}",
            "junction: {person: person}",
            "does not say where `firm` stands",
        ),
        (
            "    crm: {object: company, key: firmId, fields: {title: name}}\n",
            "",
            "leads to `firms`, which is not mapped in `crm`",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(GOOD.contains(from), "the fixture has no {from}");
        let found = compile(&GOOD.replacen(from, to, 1)).map(|_| ()).expect_err(to);
        assert!(found.contains(expected), "{to}: {expected:?} is not in:\n{found}");
        assert!(found.contains("m.yaml:"), "{found}");
    }
}
