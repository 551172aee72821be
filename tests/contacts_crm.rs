//! The shipped manifests with Twenty beside SQL stores: one address book in four systems.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod crm_world;
mod shipped;

use crm_world::{Crm, emails, id, phones, text};
use serde_json::json;
use trueup::spec::Spec;

/// The shipped model in files that stand for the warehouse, Supabase and the local database, and in Twenty.
fn spec() -> Spec {
    let mut files = shipped::with_stores(&[
        ("bigquery", "sqlite: {path: warehouse.db}"),
        ("supabase", "sqlite: {path: supabase.db}"),
        ("local_sqlite", "sqlite: {path: local_sqlite.db}"),
        ("twenty", "twenty: {url: \"${env:TRUEUP_TWENTY_URL}\", api_key: \"${env:TRUEUP_TWENTY_KEY}\"}"),
    ]);
    for text in files.values_mut() {
        *text = text.replace("table: public.", "table: ");
    }
    shipped::compiled(&files).unwrap_or_else(|found| panic!("{found:#?}"))
}

const SQL: [&str; 3] = ["bigquery", "supabase", "local_sqlite"];

/// Two people, what they are reached by, and where they belong.
const BEGIN: &str = "
    INSERT INTO businesses (business_id, name, website) VALUES ('B1', 'Example Works', 'https://works.example.com');
    INSERT INTO contacts_master (contact_id, canonical_name, first_name, last_name, category_code, subcategory_code, llm_context,
        primary_business_id)
    VALUES (1, 'Ann Example', 'Ann', 'Example', 'A', 'A1_COUSIN', '{\"closeness_level\": 7}', 'B1'),
           (2, 'Bob Sample', 'Bob', 'Sample', 'B', NULL, NULL, NULL),
           (3, 'Cy Hidden', 'Cy', 'Hidden', 'X', NULL, NULL, NULL);
    INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value, is_primary, is_private, source_label)
    VALUES ('i1', 1, 'email', 'Ann@Example.com', 1, 0, 'Work'), ('i2', 1, 'email', 'ann.e@example.com', 0, 0, 'Home'),
           ('i3', 1, 'phone', '(202) 555-0101', 1, 0, 'Mobile'), ('i4', 1, 'phone', '+1 202 555 0102', 0, 0, NULL),
           ('i5', 1, 'phone', '202-555-0101', 0, 0, 'the same once more'), ('i6', 1, 'phone', 'ask at the desk', 0, 0, NULL),
           ('i7', 1, 'social_profile', '@ann', 0, 0, NULL), ('i8', 1, 'email', 'secret@example.com', 0, 1, NULL),
           ('i9', 2, 'phone', '+1 202 555 0109', 1, 0, NULL), ('i10', 3, 'email', 'cy@example.com', 1, 0, NULL);
    INSERT INTO people_businesses (contact_id, business_id, role) VALUES (1, 'B1', 'maker'), (2, 'B1', 'buyer'), (3, 'B1', 'ghost');";

async fn begun() -> Crm {
    let crm = Crm::new(spec(), 1_000_000).await;
    crm.sql("bigquery", BEGIN);
    crm.settle().await;
    crm
}

fn alike(crm: &Crm, sql: &str) -> Vec<String> {
    let rows = crm.rows(SQL[0], sql);
    for store in &SQL[1..] {
        assert_eq!(crm.rows(store, sql), rows, "{store}");
    }
    rows
}

const VALUES: &str = "SELECT identifier_id, identifier_value FROM contact_identifiers ORDER BY identifier_id";

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_crm_gets_what_it_has_a_place_for() {
    let crm = begun().await;
    assert_eq!(crm.all("people").len(), 2, "who is of category X stays out");
    let ann = crm.person("1");
    assert_eq!(emails(&ann), ["ann@example.com", "ann.e@example.com"], "private ones stay out");
    assert_eq!(phones(&ann), ["+12025550101", "+12025550102"], "one number once, and only numbers");
    assert_eq!(ann["canonicalName"], "Ann Example");
    assert_eq!((&ann["name"]["firstName"], &ann["categoryCode"]), (&json!("Ann"), &json!("A")));
    assert_eq!(ann["llmContext"], json!("{\"closeness_level\":7}"));
    let firm = crm.one("companies", "businessId", "B1");
    assert_eq!(ann["companyId"], firm["id"]);
    let links = crm.all("peopleBusinesses");
    assert_eq!(links.len(), 2);
    assert!(links.iter().any(|link| link["personId"] == ann["id"] && link["companyId"] == firm["id"]));
    assert_eq!(alike(&crm, VALUES).len(), 10);
}
