//! The shipped manifests with Twenty beside SQL stores: one address book in four systems.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod crm_world;
mod shipped;

use crm_world::{Crm, emails, id, phones, text};
use serde_json::json;
use trueup::controller::PassOptions;
use trueup::sandbox::{Calls, Fault};
use trueup::telemetry::Silent;

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
    let crm = Crm::new(shipped::in_files_and_a_crm(), 1_000_000).await;
    crm.sql("bigquery", BEGIN);
    crm.settle().await;
    crm
}

/// Makes a pass in which all writes go well.
async fn passes(crm: &Crm) {
    let report = crm.pass().await;
    assert!(
        report.failed.is_empty() && report.skipped.is_empty(),
        "{:?} {:?}",
        report.failed,
        report.skipped
    );
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

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_how_many_calls_a_first_load_takes() {
    let crm = Crm::new(shipped::in_files_and_a_crm(), 1_000_000).await;
    crm.sql("bigquery", BEGIN);
    let people: Vec<String> = (100..250).map(|at| format!("({at}, 'Given{at} Example', 'A')")).collect();
    let ways: Vec<String> = (100..250)
        .flat_map(|at| {
            let phone = format!("('p{at}', {at}, 'phone', '+1 202 555 0{at}')");
            [format!("('m{at}', {at}, 'email', 'given{at}@example.com')"), phone]
        })
        .collect();
    let into = "INSERT INTO contacts_master (contact_id, canonical_name, category_code) VALUES";
    crm.sql("bigquery", &format!("{into} {}", people.join(", ")));
    let into = "INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value) VALUES";
    crm.sql("bigquery", &format!("{into} {}", ways.join(", ")));
    let begun = crm.sandbox.calls().len();
    let plan = crm.plan().await;
    let looks = crm.sandbox.calls().len() - begun;
    let twenty = trueup::model::StoreName::new("twenty").unwrap();
    let told = trueup::plan::cost::cost(&plan, &trueup::plan::Rates::of(&crm.spec))[&twenty];
    assert!(told.rows > 450, "{told:?}");
    let begun = crm.sandbox.calls().len();
    crm.pass().await;
    let made = (crm.sandbox.calls().len() - begun - looks) as u64;
    assert!(told.calls.unwrap().abs_diff(made) <= 8, "told {told:?}, made {made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_changed_in_the_crm_is_that_row_everywhere() {
    let crm = begun().await;
    let mut mails = crm.person("1")["emails"].clone();
    mails["primaryEmail"] = json!("ann@new.example.com");
    crm.patch_person("1", &json!({ "emails": mails }));
    crm.settle().await;
    let row = "SELECT identifier_value, identifier_normalized, email_domain, source_label, contact_id FROM contact_identifiers
               WHERE identifier_id = 'i1'";
    assert_eq!(alike(&crm, row), ["ann@new.example.com|ann@new.example.com|new.example.com|Work|1"]);
    assert_eq!(alike(&crm, VALUES).len(), 10, "no row more or less");
    assert_eq!(emails(&crm.person("1")), ["ann@new.example.com", "ann.e@example.com"]);
    // An additional one, and a number; what is said of one kind leaves the other alone.
    let before = phones(&crm.person("1"));
    let mails =
        json!({ "primaryEmail": "ann@new.example.com", "additionalEmails": ["ann.third@example.com"] });
    crm.patch_person("1", &json!({ "emails": mails }));
    crm.settle().await;
    let row = "SELECT identifier_value FROM contact_identifiers WHERE identifier_id = 'i2'";
    assert_eq!(alike(&crm, row), ["ann.third@example.com"]);
    assert_eq!(phones(&crm.person("1")), before);
    // One added there is a row everywhere, with a key that trueup made.
    let mails = json!({ "primaryEmail": "ann@new.example.com", "additionalEmails": ["ann.third@example.com", "four@example.com"] });
    crm.patch_person("1", &json!({ "emails": mails }));
    crm.settle().await;
    let row = "SELECT contact_id, identifier_type, identifier_normalized, is_primary FROM contact_identifiers WHERE identifier_value = 'four@example.com'";
    assert_eq!(alike(&crm, row), ["1|email|four@example.com|0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_removed_in_the_application_goes_and_leaves_the_others() {
    let crm = begun().await;
    crm.sql("supabase", "DELETE FROM contact_identifiers WHERE identifier_id = 'i4'");
    crm.settle().await;
    let ann = crm.person("1");
    assert_eq!(phones(&ann), ["+12025550101"]);
    assert_eq!(emails(&ann), ["ann@example.com", "ann.e@example.com"]);
    assert_eq!(alike(&crm, VALUES).len(), 9);
    // The first of two rows with one number: the other one stands for it then.
    crm.sql("supabase", "DELETE FROM contact_identifiers WHERE identifier_id = 'i3'");
    crm.settle().await;
    assert_eq!(phones(&crm.person("1")), ["+12025550101"]);
    crm.sql("supabase", "DELETE FROM contact_identifiers WHERE identifier_id = 'i5'");
    crm.settle().await;
    let ann = crm.person("1");
    assert_eq!(phones(&ann), [""; 0]);
    assert_eq!(emails(&ann), ["ann@example.com", "ann.e@example.com"]);
    // What the CRM cannot hold is as it was.
    let rest = "SELECT identifier_value, identifier_normalized FROM contact_identifiers WHERE identifier_id IN ('i6', 'i7', 'i8') ORDER BY 1";
    assert_eq!(
        alike(&crm, rest),
        ["@ann|@ann", "ask at the desk|-", "secret@example.com|secret@example.com"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_none_stay_where_they_are_and_are_named() {
    let crm = begun().await;
    crm.sql(
        "supabase",
        "INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value)
         VALUES ('j1', '2', 'phone', '202-555-0103 / 202-555-0104'), ('j2', '2', 'phone', '202-555-0105 ext. 7'),
                ('j3', '2', 'phone', '+1 (202) 555-0105')",
    );
    crm.settle().await;
    assert_eq!(phones(&crm.person("2")), ["+12025550109", "+12025550105"]);
    let rows = "SELECT identifier_value, identifier_normalized FROM contact_identifiers WHERE identifier_id LIKE 'j%' ORDER BY identifier_id";
    let expected = [
        "202-555-0103 / 202-555-0104|-",
        "202-555-0105 ext. 7|+12025550105",
        "+1 (202) 555-0105|+12025550105",
    ];
    assert_eq!(alike(&crm, rows), expected);
    let plan = crm.plan().await;
    let named: Vec<String> = plan.notices.iter().map(|notice| notice.message.clone()).collect();
    assert!(named.iter().any(|line| line.contains("none of its kind")), "{named:#?}");
    assert!(named.iter().any(|line| line.contains("another record of the same parent")), "{named:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_made_in_the_crm_is_a_contact_everywhere() {
    let crm = begun().await;
    let made = crm.make(
        "people",
        &json!({
            "name": { "firstName": "Dee", "lastName": "Newcomer" }, "categoryCode": "C",
            "emails": { "primaryEmail": "dee@example.com", "additionalEmails": [] },
            "phones": { "primaryPhoneNumber": "2025550150", "primaryPhoneCountryCode": "US", "additionalPhones": [] },
            "companyId": id(&crm.one("companies", "businessId", "B1")),
        }),
    );
    crm.settle().await;
    // The number after all that are there, where keys are numbers.
    let row = "SELECT contact_id, canonical_name, name_normalized, category_code, primary_business_id FROM contacts_master
               WHERE first_name = 'Dee'";
    assert_eq!(alike(&crm, row), ["4|Dee Newcomer|dee newcomer|C|B1"]);
    let dee = crm.person("4");
    assert_eq!((id(&dee), &dee["canonicalName"]), (made, &json!("Dee Newcomer")));
    let rows = "SELECT identifier_type, identifier_normalized, is_primary FROM contact_identifiers WHERE contact_id = '4' ORDER BY 1";
    assert_eq!(crm.rows("supabase", rows), ["email|dee@example.com|1", "phone|+12025550150|1"]);
    // Her name follows what she is called as long as it is nothing else.
    crm.patch_person("4", &json!({ "name": { "firstName": "Dee", "lastName": "Example" } }));
    crm.settle().await;
    assert_eq!(alike(&crm, row), ["4|Dee Example|dee example|C|B1"]);
    crm.patch_person("4", &json!({ "canonicalName": "Dr Dee" }));
    crm.settle().await;
    crm.patch_person("4", &json!({ "name": { "firstName": "Dee", "lastName": "Sample" } }));
    crm.settle().await;
    assert_eq!(alike(&crm, row), ["4|Dr Dee|dr dee|C|B1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_who_are_there_already_are_known_again() {
    let crm = Crm::new(shipped::in_files_and_a_crm(), 1_000_000).await;
    crm.sql("bigquery", BEGIN);
    let mail = |address: &str| json!({ "primaryEmail": address, "additionalEmails": [] });
    let phone = |number: &str| json!({ "primaryPhoneNumber": number, "additionalPhones": [] });
    let ann = crm.make(
        "people",
        &json!({ "name": { "firstName": "A.", "lastName": "E." }, "emails": mail("ann.e@example.com") }),
    );
    let bob = crm.make(
        "people",
        &json!({ "name": { "firstName": "BOB", "lastName": "Sample" }, "phones": phone("+12025550109") }),
    );
    // He has Bob's number and is not Bob.
    let other = crm.make(
        "people",
        &json!({ "name": { "firstName": "Rob", "lastName": "Roommate" }, "phones": phone("+12025550109") }),
    );
    let plan = text(&crm.plan().await);
    assert!(plan.contains("contacts in twenty: 1 linked by contact_identifiers.email; 1 linked by contact_identifiers.phone + name_normalized; 1 new"), "{plan}");
    crm.settle().await;
    assert_eq!([id(&crm.person("1")), id(&crm.person("2")), id(&crm.person("4"))], [ann, bob, other]);
    assert_eq!(crm.all("people").len(), 3);
    assert_eq!(alike(&crm, "SELECT canonical_name FROM contacts_master ORDER BY contact_id").len(), 4);
    assert_eq!(emails(&crm.person("1")), ["ann@example.com", "ann.e@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_becomes_x_leaves_the_crm_alone() {
    let crm = begun().await;
    let bob = id(&crm.person("2"));
    crm.sql("local_sqlite", "UPDATE contacts_master SET category_code = 'X' WHERE contact_id = '2'");
    crm.settle().await;
    assert_eq!(crm.all("people").len(), 1);
    assert_eq!(alike(&crm, "SELECT category_code FROM contacts_master WHERE contact_id = '2'"), ["X"]);
    assert_eq!(alike(&crm, "SELECT count(*) FROM people_businesses"), ["3"], "links stay elsewhere");
    assert_eq!(alike(&crm, VALUES).len(), 10);
    assert_eq!(crm.all("peopleBusinesses").len(), 1, "no link is left without its person");
    crm.sql("local_sqlite", "UPDATE contacts_master SET category_code = 'B' WHERE contact_id = '2'");
    crm.settle().await;
    let back = crm.person("2");
    assert_eq!((id(&back), phones(&back)), (bob, vec!["+12025550109".to_owned()]));
    assert_eq!(crm.all("peopleBusinesses").len(), 2);
}

/// What stood in a person when it left the CRM is not put in by anybody when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_has_the_addresses_of_today() {
    let crm = begun().await;
    let ann = id(&crm.person("1"));
    crm.sql(
        "bigquery",
        "UPDATE contacts_master SET category_code = 'X', subcategory_code = NULL WHERE contact_id = 1",
    );
    crm.settle().await;
    assert_eq!(crm.all("people").len(), 1);
    crm.sql(
        "bigquery",
        "UPDATE contact_identifiers SET identifier_value = 'new@example.com' WHERE identifier_id = 'i1';
         UPDATE contact_identifiers SET is_private = 1 WHERE identifier_id = 'i2';
         UPDATE contact_identifiers SET identifier_value = '+12025550111' WHERE identifier_id = 'i3';
         DELETE FROM contact_identifiers WHERE identifier_id IN ('i4', 'i5')",
    );
    crm.settle().await;
    let before = alike(&crm, VALUES);
    crm.sql(
        "bigquery",
        "UPDATE contacts_master SET category_code = 'A', subcategory_code = 'A1_COUSIN' WHERE contact_id = 1",
    );
    passes(&crm).await;
    let back = crm.person("1");
    assert_eq!(id(&back), ann);
    assert_eq!(
        emails(&back),
        ["new@example.com"],
        "nothing that went, and nothing private, not even for a moment"
    );
    assert_eq!(phones(&back), ["+12025550111"]);
    crm.settle().await;
    assert_eq!(alike(&crm, VALUES), before);
    assert_eq!(emails(&crm.person("1")), ["new@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_companies_go_both_ways() {
    let crm = begun().await;
    let firm = crm.make("companies", &json!({ "name": "Placeholder Labs", "domainName": { "primaryLinkUrl": "https://labs.example.com" } }));
    let bob = id(&crm.person("2"));
    crm.make("peopleBusinesses", &json!({ "personId": bob, "companyId": firm, "workRole": "founder" }));
    crm.patch_person("2", &json!({ "companyId": firm }));
    crm.settle().await;
    let own = alike(&crm, "SELECT business_id FROM businesses WHERE name = 'Placeholder Labs'");
    assert_eq!(own.len(), 1);
    let links = "SELECT contact_id, role FROM people_businesses ORDER BY 1, 2";
    assert_eq!(alike(&crm, links), ["1|maker", "2|buyer", "2|founder", "3|ghost"]);
    assert_eq!(alike(&crm, "SELECT primary_business_id FROM contacts_master WHERE contact_id = '2'"), own);
    // Taken away in the CRM, and made by an application.
    let link = crm.one("peopleBusinesses", "workRole", "buyer");
    crm.sandbox.edit(|editor| editor.destroy("peopleBusinesses", &id(&link))).unwrap();
    crm.sql(
        "supabase",
        &format!(
            "INSERT INTO people_businesses (contact_id, business_id, role) VALUES ('1', '{}', 'guest')",
            own[0]
        ),
    );
    crm.settle().await;
    assert_eq!(alike(&crm, links), ["1|guest", "1|maker", "2|founder", "3|ghost"]);
    assert_eq!(crm.one("peopleBusinesses", "workRole", "guest")["companyId"], json!(firm));
    // A company that goes takes its links along.
    crm.sandbox.edit(|editor| editor.destroy("companies", &firm)).unwrap();
    crm.settle().await;
    assert_eq!(alike(&crm, links), ["1|maker", "3|ghost"]);
    assert_eq!(crm.all("peopleBusinesses").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_deleted_in_the_crm_goes_everywhere_and_comes_back_whole() {
    let crm = begun().await;
    let ann = id(&crm.person("1"));
    crm.sandbox.edit(|editor| editor.soft_delete("people", &ann)).unwrap();
    crm.settle().await;
    assert_eq!(alike(&crm, "SELECT contact_id FROM contacts_master ORDER BY 1"), ["2", "3"]);
    assert_eq!(alike(&crm, "SELECT identifier_id FROM contact_identifiers ORDER BY 1"), ["i10", "i9"]);
    assert_eq!(alike(&crm, "SELECT contact_id FROM people_businesses ORDER BY 1"), ["2", "3"]);
    assert_eq!(crm.all("peopleBusinesses").len(), 1);
    crm.patch("people", &ann, &json!({ "deletedAt": null }));
    crm.settle().await;
    assert_eq!(
        alike(&crm, "SELECT canonical_name FROM contacts_master WHERE contact_id = '1'"),
        ["Ann Example"]
    );
    assert_eq!(emails(&crm.person("1")), ["ann@example.com", "ann.e@example.com"]);
    let rows = "SELECT identifier_value FROM contact_identifiers WHERE contact_id = '1' ORDER BY 1";
    assert_eq!(alike(&crm, rows), ["+12025550101", "+12025550102", "ann.e@example.com", "ann@example.com"]);
}

const PRIMARY: &str =
    "SELECT identifier_id, is_primary FROM contact_identifiers WHERE contact_id = '2' ORDER BY 1";

fn two_of_bob(crm: &Crm, store: &str, first: &str, second: &str) {
    crm.sql(
        store,
        &format!(
            "INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value, is_primary)
             VALUES ('k1', '2', 'email', 'one@example.com', {first}), ('k2', '2', 'email', 'two@example.com', {second})"
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn which_address_is_the_first_goes_both_ways() {
    let crm = begun().await;
    two_of_bob(&crm, "supabase", "0", "1");
    crm.settle().await;
    assert_eq!(emails(&crm.person("2")), ["two@example.com", "one@example.com"]);
    assert_eq!(alike(&crm, PRIMARY), ["i9|1", "k1|0", "k2|1"]);
    crm.sql(
        "local_sqlite",
        "UPDATE contact_identifiers SET is_primary = identifier_id = 'k1' WHERE identifier_id LIKE 'k%'",
    );
    crm.settle().await;
    assert_eq!(emails(&crm.person("2")), ["one@example.com", "two@example.com"]);
    let mails = json!({ "primaryEmail": "two@example.com", "additionalEmails": ["one@example.com"] });
    crm.patch_person("2", &json!({ "emails": mails }));
    crm.settle().await;
    assert_eq!(alike(&crm, PRIMARY), ["i9|1", "k1|0", "k2|1"]);
    // The first one goes: the other stands first there, and nobody said that it is.
    crm.sql("supabase", "DELETE FROM contact_identifiers WHERE identifier_id = 'k2'");
    crm.settle().await;
    assert_eq!(emails(&crm.person("2")), ["one@example.com"]);
    assert_eq!(alike(&crm, PRIMARY), ["i9|1", "k1|0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_nobody_named_is_no_edit() {
    for (first, second, expected) in [
        ("NULL", "NULL", ["k1|-", "k2|-"]),
        ("1", "1", ["k1|1", "k2|1"]),
        ("0", "0", ["k1|0", "k2|0"]),
        ("0", "NULL", ["k1|0", "k2|-"]),
    ] {
        let crm = begun().await;
        two_of_bob(&crm, "supabase", first, second);
        crm.settle().await;
        assert_eq!(alike(&crm, PRIMARY)[1..], expected);
        assert_eq!(emails(&crm.person("2")), ["one@example.com", "two@example.com"]);
        // Another value of one of them says nothing of the order, and does not change it.
        crm.sql(
            "supabase",
            "UPDATE contact_identifiers SET identifier_value = 'ten@example.com' WHERE identifier_id = 'k2'",
        );
        crm.settle().await;
        assert_eq!(emails(&crm.person("2")), ["one@example.com", "ten@example.com"]);
        assert_eq!(alike(&crm, PRIMARY)[1..], expected);
        // A state that was lost meets everything again, and still fills nothing in.
        let mut crm = crm;
        crm.lose_state();
        crm.settle().await;
        assert_eq!(alike(&crm, PRIMARY)[1..], expected);
        // What somebody says is done.
        crm.sql(
            "supabase",
            "UPDATE contact_identifiers SET is_primary = identifier_id = 'k2' WHERE identifier_id LIKE 'k%'",
        );
        crm.settle().await;
        assert_eq!(emails(&crm.person("2")), ["ten@example.com", "one@example.com"]);
        assert_eq!(alike(&crm, PRIMARY)[1..], ["k1|0", "k2|1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_exchange_their_addresses_have_them_everywhere() {
    let crm = begun().await;
    two_of_bob(&crm, "supabase", "1", "0");
    crm.settle().await;
    crm.sql(
        "supabase",
        "UPDATE contact_identifiers SET identifier_value = CASE identifier_id WHEN 'i1' THEN 'one@example.com' ELSE 'ann@example.com' END
         WHERE identifier_id IN ('i1', 'k1')",
    );
    assert_eq!(crm.settle().await, 1, "in one pass");
    assert_eq!(emails(&crm.person("1")), ["one@example.com", "ann.e@example.com"]);
    assert_eq!(emails(&crm.person("2")), ["ann@example.com", "two@example.com"]);
    // And in the CRM, where one of them has to let go first.
    crm.patch_person(
        "2",
        &json!({ "emails": { "primaryEmail": "", "additionalEmails": ["two@example.com"] } }),
    );
    crm.patch_person("1", &json!({ "emails": { "primaryEmail": "ann@example.com", "additionalEmails": ["ann.e@example.com"] } }));
    crm.patch_person(
        "2",
        &json!({ "emails": { "primaryEmail": "one@example.com", "additionalEmails": ["two@example.com"] } }),
    );
    assert_eq!(crm.settle().await, 1);
    let rows = "SELECT identifier_id, identifier_value, is_primary FROM contact_identifiers WHERE identifier_id IN ('i1', 'k1') ORDER BY 1";
    assert_eq!(alike(&crm, rows), ["i1|ann@example.com|1", "k1|one@example.com|1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_somebody_empties_is_put_back() {
    let crm = begun().await;
    let ann = id(&crm.person("1"));
    crm.patch("people", &ann, &json!({ "contactId": "" }));
    crm.settle().await;
    assert_eq!(id(&crm.person("1")), ann);
    // One that is changed waits for a person, and nothing else does.
    crm.patch("people", &ann, &json!({ "contactId": "77" }));
    crm.sql("supabase", "UPDATE contacts_master SET notes = 'seen' WHERE contact_id = '2'");
    crm.pass().await;
    let plan = crm.plan().await;
    assert!(text(&plan).contains("its key was \"1\" and is \"77\" now"), "{}", text(&plan));
    assert_eq!(crm.person("2")["notes"], json!("seen"));
    assert_eq!(alike(&crm, "SELECT contact_id FROM contacts_master ORDER BY 1"), ["1", "2", "3"]);
}

/// The pass dies right after the server has made people, before anybody remembers it, and then the state is lost.
#[tokio::test(flavor = "multi_thread")]
async fn killed_between_making_and_remembering_with_the_state_lost_there_is_no_second_person() {
    use trueup::sandbox::{Calls, Fault};
    for path in ["/rest/batch/people", "/rest/batch/peopleBusinesses", "/rest/people/"] {
        let mut crm = Crm::new(shipped::in_files_and_a_crm(), 1_000_000).await;
        crm.sql("bigquery", BEGIN);
        crm.make("people", &json!({ "name": { "firstName": "Ann", "lastName": "E." }, "emails": { "primaryEmail": "ann@example.com", "additionalEmails": [] } }));
        let died = tokio_util::sync::CancellationToken::new();
        let kill = died.clone();
        crm.sandbox.faults().add(Calls::all().path(path), Fault::then(move |_| kill.cancel()));
        tokio::select! {
            biased;
            () = died.cancelled() => {}
            _ = crm.pass() => panic!("nothing was made by {path}"),
        }
        crm.sandbox.faults().clear();
        crm.lose_state();
        crm.settle().await;
        assert_eq!(crm.all("people").len(), 2, "{path}");
        assert_eq!(
            alike(&crm, "SELECT contact_id FROM contacts_master ORDER BY 1"),
            ["1", "2", "3"],
            "{path}"
        );
        assert_eq!(alike(&crm, VALUES).len(), 10, "{path}");
        assert_eq!(crm.all("peopleBusinesses").len(), 2, "{path}");
        assert_eq!(crm.all("companies").len(), 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_nobody_gives_out_and_odd_links_are_named_and_not_sent() {
    let crm = begun().await;
    crm.sql(
        "bigquery",
        "INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value) VALUES
             ('j1', 2, 'phone', '+1 999 555 0123'), ('j2', 2, 'phone', '+44 791234567'), ('j3', 2, 'email', 'bob@localhost');
         UPDATE businesses SET website = 'mailto:works@example.com' WHERE business_id = 'B1';",
    );
    crm.settle().await;
    let before = crm.person("2");
    assert_eq!((phones(&before), emails(&before)), (vec!["+12025550109".to_owned()], vec![]));
    let firm = crm.one("companies", "businessId", "B1");
    assert_eq!(firm["domainName"]["primaryLinkUrl"], "https://works.example.com", "as it was");
    // They are said in every plan, and sent in none.
    let writes = crm.writes();
    for _ in 0..2 {
        let said = text(&crm.plan().await);
        for record in ["\"j1\"", "\"j2\"", "\"j3\"", "\"B1\""] {
            assert_eq!(said.lines().filter(|line| line.contains(record)).count(), 1, "{record}: {said}");
        }
        assert!(said.contains("it is no phone number that its country gives out"), "{said}");
        assert_eq!(crm.pass().await.applied.sum(), 0);
    }
    assert_eq!(crm.writes(), writes);
    assert_eq!(alike(&crm, VALUES).len(), 13, "the others have them");
    // What can be held again is sent again.
    crm.sql(
        "supabase",
        "UPDATE contact_identifiers SET identifier_value = '+1 202 555 0144' WHERE identifier_id = 'j1'",
    );
    crm.sql("supabase", "UPDATE businesses SET website = 'Works.example.com/shop/' WHERE business_id = 'B1'");
    crm.settle().await;
    assert!(phones(&crm.person("2")).contains(&"+12025550144".to_owned()));
    let firm = crm.one("companies", "businessId", "B1");
    assert_eq!(firm["domainName"]["primaryLinkUrl"], "https://works.example.com/shop");
    assert_eq!(alike(&crm, "SELECT website FROM businesses"), ["Works.example.com/shop/"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_share_an_address_both_have_it() {
    let crm = begun().await;
    crm.sql(
        "supabase",
        "INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value, is_primary)
         VALUES ('s1', '2', 'email', 'ann@example.com', 1)",
    );
    crm.settle().await;
    // Only one person may have it as the primary one there.
    let bob = crm.person("2");
    assert_eq!(bob["emails"]["primaryEmail"], json!(""));
    assert_eq!(emails(&bob), ["ann@example.com"]);
    assert_eq!(emails(&crm.person("1")), ["ann@example.com", "ann.e@example.com"]);
    let row = "SELECT contact_id, is_primary FROM contact_identifiers WHERE identifier_value = 'ann@example.com' OR identifier_id = 'i1' ORDER BY 1";
    assert_eq!(alike(&crm, row), ["1|1", "2|1"]);
    // It is his alone once she has another one.
    crm.sql(
        "supabase",
        "UPDATE contact_identifiers SET identifier_value = 'ann@new.example.com' WHERE identifier_id = 'i1'",
    );
    crm.sql(
        "supabase",
        "UPDATE contact_identifiers SET identifier_value = 'bob@example.com' WHERE identifier_id = 's1'",
    );
    crm.settle().await;
    assert_eq!(crm.person("2")["emails"]["primaryEmail"], json!("bob@example.com"));
    // A person who is new with it is made all the same.
    crm.sql(
        "supabase",
        "INSERT INTO contacts_master (contact_id, canonical_name) VALUES ('9', 'Nina New');
         INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value) VALUES ('s2', '9', 'email', 'bob@example.com')",
    );
    crm.settle().await;
    assert_eq!(emails(&crm.person("9")), ["bob@example.com"]);
    assert_eq!(alike(&crm, "SELECT is_primary FROM contact_identifiers WHERE identifier_id = 's2'"), ["-"]);
}

/// Somebody who stays out of the CRM is typed in there: what is new is taken, and the person stays out.
#[tokio::test(flavor = "multi_thread")]
async fn who_stays_out_and_is_typed_in_is_nobody_new() {
    let crm = begun().await;
    crm.make(
        "people",
        &json!({
            "name": { "firstName": "Cy", "lastName": "Hidden" }, "jobTitle": "Boss",
            "emails": { "primaryEmail": "cy@example.com", "additionalEmails": ["cy.h@example.com"] },
            "phones": { "primaryPhoneNumber": "2025550133", "primaryPhoneCountryCode": "US", "primaryPhoneCallingCode": "+1" },
        }),
    );
    passes(&crm).await;
    crm.settle().await;
    assert_eq!(alike(&crm, "SELECT contact_id FROM contacts_master ORDER BY 1"), ["1", "2", "3"]);
    assert_eq!(crm.all("people").len(), 2);
    let values = "SELECT identifier_value FROM contact_identifiers WHERE contact_id = '3' ORDER BY 1";
    assert_eq!(alike(&crm, values), ["+12025550133", "cy.h@example.com", "cy@example.com"]);
}

const LINKS: &str = "SELECT contact_id, business_id, role FROM people_businesses ORDER BY 1, 2";

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_led_to_another_company_is_another_link() {
    let crm = begun().await;
    crm.sql("supabase", "INSERT INTO businesses (business_id, name) VALUES ('B2', 'Placeholder Labs')");
    crm.settle().await;
    let company = |key: &str| id(&crm.one("companies", "businessId", key));
    let link = id(&crm.one("peopleBusinesses", "workRole", "buyer"));
    crm.patch("peopleBusinesses", &link, &json!({ "companyId": company("B2") }));
    crm.settle().await;
    assert_eq!(alike(&crm, LINKS), ["1|B1|maker", "2|B2|buyer", "3|B1|ghost"]);
    let moved = crm.one("peopleBusinesses", "workRole", "buyer");
    assert_eq!((id(&moved), &moved["linkKey"]), (link.clone(), &json!("[\"2\",\"B2\"]")));
    // What is edited in it is that pair's, and the old pair can come again.
    crm.patch("peopleBusinesses", &link, &json!({ "workRole": "partner" }));
    crm.sql(
        "supabase",
        "INSERT INTO people_businesses (contact_id, business_id, role) VALUES ('2', 'B1', 'guest')",
    );
    crm.settle().await;
    assert_eq!(alike(&crm, LINKS), ["1|B1|maker", "2|B1|guest", "2|B2|partner", "3|B1|ghost"]);
    assert_eq!(crm.all("peopleBusinesses").len(), 3);
    // Where two rows would be one pair's, a person has to say.
    crm.patch("peopleBusinesses", &link, &json!({ "companyId": company("B1") }));
    let plan = text(&crm.plan().await);
    assert!(plan.contains("it joins what another row joins already"), "{plan}");
    crm.settle().await;
    assert_eq!(alike(&crm, LINKS).len(), 4);
    // The old company goes, and no link that leads elsewhere goes with it.
    crm.patch("peopleBusinesses", &link, &json!({ "companyId": company("B2") }));
    crm.sql("supabase", "DELETE FROM businesses WHERE business_id = 'B1'");
    crm.settle().await;
    assert_eq!(alike(&crm, LINKS), ["2|B2|partner"]);
    assert_eq!(id(&crm.one("peopleBusinesses", "workRole", "partner")), link);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_lost_its_person_leads_to_it_again() {
    let crm = begun().await;
    let link = id(&crm.one("peopleBusinesses", "workRole", "buyer"));
    crm.patch("peopleBusinesses", &link, &json!({ "personId": null }));
    crm.settle().await;
    let bob = id(&crm.person("2"));
    assert_eq!(crm.one("peopleBusinesses", "workRole", "buyer")["personId"], json!(bob));
    // Who is destroyed there, and comes back because he was changed elsewhere.
    crm.sandbox.edit(|editor| editor.destroy("people", &bob)).unwrap();
    crm.sql("supabase", "UPDATE contacts_master SET job_title = 'Buyer' WHERE contact_id = '2'");
    crm.settle().await;
    assert_eq!(crm.one("peopleBusinesses", "workRole", "buyer")["personId"], crm.person("2")["id"]);
    assert_eq!(alike(&crm, LINKS), ["1|B1|maker", "2|B1|buyer", "3|B1|ghost"]);
    // Half a change is not plain.
    let firm = crm.make("companies", &json!({ "name": "Placeholder Labs" }));
    crm.settle().await;
    let link = id(&crm.one("peopleBusinesses", "workRole", "buyer"));
    crm.patch("peopleBusinesses", &link, &json!({ "personId": null, "companyId": firm }));
    let plan = text(&crm.plan().await);
    assert!(plan.contains("what it joins was changed, and it is not plain to what"), "{plan}");
    crm.settle().await;
    assert_eq!(alike(&crm, LINKS), ["1|B1|maker", "2|B1|buyer", "3|B1|ghost"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_addresses_that_goes_away_takes_none_of_them_along() {
    let elsewhere = |text: &str| text.replace("email: {path: emails,", "email: {path: reachedBy,");
    let crm = Crm::new(shipped::in_files_and_a_crm_where(elsewhere), 1_000_000).await;
    crm.sql("bigquery", BEGIN);
    crm.settle().await;
    let (before, labels) =
        (alike(&crm, VALUES), "SELECT identifier_id, source_label FROM contact_identifiers ORDER BY 1");
    assert_eq!(crm.person("1")["reachedBy"]["primaryEmail"], json!("ann@example.com"));
    crm.sandbox.edit(|editor| editor.drop_field("person", "reachedBy")).unwrap();
    crm.hand.advance(std::time::Duration::from_secs(10));
    let plan = text(&crm.plan().await);
    assert!(plan.contains("column `reachedBy` is missing"), "{plan}");
    crm.sql("supabase", "UPDATE contact_identifiers SET source_label = 'Cell' WHERE identifier_id = 'i3'");
    crm.settle().await;
    assert_eq!(alike(&crm, VALUES), before);
    let labelled = alike(&crm, labels);
    // It comes back empty, which is no delete either.
    crm.engine.migrate(&crm.engine.migration().await.unwrap()).await.unwrap();
    crm.hand.advance(std::time::Duration::from_secs(10));
    crm.settle().await;
    assert_eq!((alike(&crm, VALUES), alike(&crm, labels)), (before, labelled));
    let ann = crm.person("1");
    assert_eq!(ann["reachedBy"]["primaryEmail"], json!("ann@example.com"));
    assert_eq!(ann["reachedBy"]["additionalEmails"], json!(["ann.e@example.com"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_people_cannot_be_read_to_their_end_nobody_is_asked_whose_things_are() {
    let crm = Crm::paged(shipped::in_files_and_a_crm(), 1_000_000, 1).await;
    crm.sql("bigquery", BEGIN);
    crm.settle().await;
    for pages in [0, 1] {
        crm.sandbox.faults().add(Calls::all().body("people(").skip(pages), Fault::Status(502));
        let plan = crm.engine.plan(&PassOptions::default(), &Silent).await.unwrap();
        assert!(crm.sandbox.faults().hits() > 0);
        assert_eq!(plan.guards, [], "{}", text(&plan));
        let text = text(&plan);
        assert!(!text.contains("held") && !text.contains("waits for a person"), "{text}");
        crm.sandbox.faults().clear();
    }
    let plan = crm.plan().await;
    assert!(plan.is_empty(), "{}", text(&plan));
}
