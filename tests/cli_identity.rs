//! `trueup identity`: rows of a CRM that wait, and a person's word for whose they are.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;
mod shipped;

use serde_json::{Value as Json, json};
use shell::Place;
use trueup::sandbox::{Options, Sandbox};

const KEY: &str = "a key of the sandbox";

struct World {
    place: Place,
    sandbox: Sandbox,
}

impl World {
    fn new() -> Self {
        let options = Options { calls_per_minute: 100_000, calls_per_second: 100_000, ..Options::new(KEY) };
        let sandbox = Sandbox::start(options).unwrap();
        let place = Place::with("");
        std::fs::remove_file(place.path().join("manifests/all.yaml")).unwrap();
        let twenty = format!(
            "twenty: {{url: \"{}\", api_key: \"${{env:TRUEUP_TWENTY_KEY}}\"}}, limits: {{calls_per_second: 100000, calls_per_minute: 100000}}",
            sandbox.url()
        );
        let files = shipped::with_stores(&[
            ("bigquery", "sqlite: {path: ../stores/warehouse.db}"),
            ("local_sqlite", "sqlite: {path: ../stores/local.db}"),
            ("twenty", &twenty),
        ]);
        for (name, text) in files {
            std::fs::write(place.path().join("manifests").join(name), text).unwrap();
        }
        let world = Self { place, sandbox };
        world.run(&["migrate", "-auto-approve"], 0);
        world.place.sql(
            "warehouse",
            "INSERT INTO contacts_master (contact_id, canonical_name) VALUES (1, 'Ann Example'), (2, 'Bo Example'), (3, 'Cy Example');
             INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value) VALUES
                 ('i1', 1, 'email', 'home@example.com'), ('i2', 2, 'email', 'home@example.com'), ('i3', 3, 'email', 'cy@example.com')",
        );
        world
    }

    fn run(&self, args: &[&str], code: i32) -> String {
        let mut command = self.place.trueup(args);
        let output = command.env("TRUEUP_TWENTY_KEY", KEY).output().unwrap();
        let page = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {page}");
        page
    }

    fn make(&self, first: &str, email: &str) -> String {
        let body = json!({ "name": { "firstName": first, "lastName": "Example" }, "emails": { "primaryEmail": email, "additionalEmails": [] } });
        let made = self.sandbox.edit(|editor| editor.create("people", &body)).unwrap();
        made["id"].as_str().unwrap().to_owned()
    }

    /// The key that a person carries.
    fn key(&self, id: &str) -> String {
        let people = self.sandbox.edit(|editor| editor.all("people")).unwrap();
        let own = people.into_iter().find(|person| person["id"] == json!(id)).unwrap();
        own["contactId"].as_str().unwrap_or_default().to_owned()
    }

    fn people(&self) -> usize {
        self.sandbox.edit(|editor| editor.all("people")).unwrap().len()
    }

    fn apply(&self) {
        for _ in 0..3 {
            self.run(&["apply", "-auto-approve"], 0);
        }
    }
}

#[test]
fn a_person_says_whose_a_row_is() {
    let world = World::new();
    // Two are reached at this address, and she may be either.
    let who = world.make("A.", "home@example.com");
    world.apply();
    assert_eq!(world.key(&who), "");
    let page = world.run(&["identity"], 0);
    assert!(
        page.contains(&who) && page.contains("\"1\" or \"2\"") && page.contains("2 records match it"),
        "{page}"
    );
    let page = world.run(&["identity", "list", "-json"], 0);
    let page: Json = serde_json::from_str(&page).unwrap();
    let waiting = &page["identity"]["contacts"]["twenty"]["waiting"];
    assert_eq!(
        (waiting[0]["id"].as_str(), &waiting[0]["candidates"]),
        (Some(who.as_str()), &json!([["1"], ["2"]]))
    );

    let page = world.run(&["identity", "link", "contacts", "twenty", "nobody", "1"], 1);
    assert!(page.contains("waits for a person"), "{page}");
    let page = world.run(&["identity", "link", "contacts", "local_sqlite", &who, "1"], 1);
    assert!(page.contains("have no ids of their own"), "{page}");
    let page = world.run(&["identity", "link", "contacts", "twentyy", &who, "1"], 1);
    assert!(page.contains("there is no store `twentyy`"), "{page}");
    for wrong in ["Bo", "02", "1.5"] {
        let page = world.run(&["identity", "link", "contacts", "twenty", &who, wrong], 1);
        assert!(
            page.contains(&format!("`{wrong}` is no key of `contacts`")),
            "a number in one store: {page}"
        );
    }
    let page = world.run(&["identity", "link", "contacts", "twenty", &who, "2"], 0);
    assert!(page.contains(&format!("The row {who} in twenty is contacts[\"2\"]. ")), "known already: {page}");
    world.apply();
    assert_eq!(world.key(&who), "2");
    assert!(world.run(&["identity"], 0).contains("No row waits for a person."));
    assert_eq!(world.people(), 3);
}

#[test]
fn a_row_is_said_to_be_nobodys_who_is_known() {
    let world = World::new();
    let who = world.make("Dee", "home@example.com");
    world.apply();
    let page = world.run(&["identity", "split", "contacts", "twenty", &who], 0);
    assert!(page.contains("contacts[\"4\"], a new record"), "keys are numbers here: {page}");
    world.apply();
    assert_eq!(world.key(&who), "4");
    let names =
        "SELECT group_concat(canonical_name, ', ') FROM (SELECT * FROM contacts_master ORDER BY contact_id)";
    assert_eq!(world.place.text("warehouse", names), "Ann Example, Bo Example, Cy Example, Dee Example");
    assert_eq!(world.place.text("local", names), "Ann Example, Bo Example, Cy Example, Dee Example");
    let page = world.run(&["identity", "split", "contacts", "twenty", "nobody"], 1);
    assert!(page.contains("waits for a person"), "{page}");
}

/// The rule took somebody for somebody else, and that was written down.
#[test]
fn a_row_that_was_linked_is_split_off() {
    let world = World::new();
    let who = world.make("Cyril", "cy@example.com");
    world.apply();
    assert_eq!(world.key(&who), "3", "taken for Cy");
    assert!(world.run(&["identity", "split", "contacts", "twenty", &who], 0).contains("contacts[\"4\"]"));
    // It waits as long as it carries the other one's key.
    assert!(world.run(&["identity"], 0).contains("its key was \"4\" and is \"3\" now"));
    world
        .sandbox
        .edit(|editor| {
            editor.patch("people", &who, &json!({ "contactId": "", "canonicalName": "Cyril Example" }))
        })
        .unwrap();
    world.apply();
    assert_eq!(world.key(&who), "4");
    let cyril = "SELECT canonical_name FROM contacts_master WHERE contact_id = 4";
    assert_eq!(world.place.text("warehouse", cyril), "Cyril Example");
    let address = "SELECT group_concat(contact_id || ' ' || identifier_value, ', ') FROM (SELECT * FROM contact_identifiers WHERE identifier_value LIKE 'cy@%' ORDER BY contact_id)";
    assert_eq!(world.place.text("warehouse", address), "3 cy@example.com, 4 cy@example.com");
    assert_eq!(world.people(), 4);
}
