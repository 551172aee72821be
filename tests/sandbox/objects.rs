//! Objects and their fields, and the metadata API.

use serde_json::{Value, json};

use trueup::sandbox::Options;

use super::harness::{Twenty, email, message, roomy, uuid};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_person_has_its_fields_and_no_city() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({})).await;
    let expected = [
        "id",
        "createdAt",
        "updatedAt",
        "deletedAt",
        "name",
        "emails",
        "phones",
        "linkedinLink",
        "jobTitle",
        "avatarUrl",
        "position",
        "createdBy",
        "updatedBy",
        "companyId",
    ];
    for field in expected {
        assert!(person.get(field).is_some(), "{field} is not there: {person}");
    }
    assert!(person.get("city").is_none());
    assert_eq!(keys(&person["name"]), ["firstName", "lastName"]);
    assert_eq!(keys(&person["emails"]), ["additionalEmails", "primaryEmail"]);
    let phones =
        ["additionalPhones", "primaryPhoneCallingCode", "primaryPhoneCountryCode", "primaryPhoneNumber"];
    assert_eq!(keys(&person["phones"]), phones);
    assert!(person["position"].is_number());
    twenty.clean().await;
}

#[tokio::test]
async fn primary_email_is_unique_and_additional_ones_are_not() {
    let twenty = Twenty::any();
    let (one, two) = (email(), email());
    twenty.person(json!({"emails": {"primaryEmail": one, "additionalEmails": [two]}})).await;
    twenty.person(json!({"emails": {"primaryEmail": two, "additionalEmails": [one]}})).await;
    let (status, _) = twenty.post("/rest/people", json!({"emails": {"primaryEmail": one}})).await;
    assert_eq!(status, 400);
    twenty.person(json!({})).await;
    twenty.person(json!({"emails": {"primaryEmail": ""}})).await;
    twenty.clean().await;
}

#[tokio::test]
async fn a_company_has_its_fields_and_a_unique_domain() {
    let twenty = Twenty::any();
    let domain = format!("https://c{}.example.com", uuid());
    let company =
        twenty.create("companies", json!({"name": "Bakery", "domainName": {"primaryLinkUrl": domain}})).await;
    let expected = [
        "id",
        "createdAt",
        "updatedAt",
        "deletedAt",
        "name",
        "domainName",
        "address",
        "linkedinLink",
        "annualRevenue",
        "accountOwnerId",
        "createdBy",
        "position",
    ];
    for field in expected {
        assert!(company.get(field).is_some(), "{field} is not there: {company}");
    }
    assert_eq!(company["domainName"]["primaryLinkUrl"], domain.as_str());
    let twin =
        json!({"name": "Another", "domainName": {"primaryLinkUrl": format!("{}/", domain.to_uppercase())}});
    let (status, answer) = twenty.post("/rest/companies", twin).await;
    assert_eq!((status, message(&answer).as_str()), (400, "A duplicate entry was detected"));
    twenty.clean().await;
}

#[tokio::test]
async fn api_writes_are_signed_with_the_keys_name() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({})).await;
    let changed = twenty.change(&person["id"], json!({"jobTitle": "Baker"})).await;
    for by in ["createdBy", "updatedBy"] {
        assert_eq!(changed[by]["source"], "API");
        assert_eq!(changed[by]["workspaceMemberId"], Value::Null);
        assert!(!changed[by]["name"].as_str().unwrap().is_empty());
    }
    if twenty.sandbox.is_some() {
        assert_eq!(changed["updatedBy"]["name"], "Sandbox");
    }
    twenty.clean().await;
}

#[tokio::test]
async fn objects_are_listed_with_their_fields() {
    let twenty = Twenty::any();
    let person = twenty.object("person").await;
    assert_eq!(person["namePlural"], "people");
    let fields = person["fields"].as_array().unwrap();
    let emails = fields.iter().find(|field| field["name"] == "emails").unwrap();
    assert_eq!(emails["type"], "EMAILS");
    assert!(emails["id"].is_string());
    assert_eq!(twenty.object("company").await["namePlural"], "companies");
}

#[tokio::test]
async fn a_field_is_created_with_201_and_usable_at_once() {
    let twenty = Twenty::local();
    let person = twenty.person(json!({})).await;
    let object = twenty.object("person").await;
    let body = json!({
        "objectMetadataId": object["id"], "type": "TEXT", "name": "contactId", "label": "Contact id", "isUnique": true,
    });
    let (status, answer) = twenty.post("/rest/metadata/fields", body.clone()).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(twenty.read(&person["id"]).await["contactId"], "", "rows that were there have it, empty");
    assert_eq!(twenty.change(&person["id"], json!({"contactId": "C1"})).await["contactId"], "C1");
    assert_eq!(twenty.found("people", "contactId[eq]:C1").await.len(), 1);
    let query = "{ people(filter: {contactId: {in: [\"C1\"]}}) { edges { node { contactId } } } }";
    let (_, answer) = twenty.graphql(query, json!({})).await;
    assert_eq!(answer["data"]["people"]["edges"][0]["node"]["contactId"], "C1");
    let listed = twenty.object("person").await;
    let field = listed["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["name"] == "contactId")
        .unwrap()
        .clone();
    assert_eq!(
        (&field["type"], &field["label"], &field["isUnique"]),
        (&json!("TEXT"), &json!("Contact id"), &json!(true))
    );
    assert_eq!(twenty.post("/rest/metadata/fields", body).await.0, 400, "the name is taken");
}

#[tokio::test]
async fn names_are_letters_and_digits_and_some_are_reserved() {
    let twenty = Twenty::local();
    let id = twenty.object("person").await["id"].clone();
    for name in [
        "contact_id",
        "ContactId",
        "1st",
        "",
        "a b",
        "a-b",
        "field",
        "searchVector",
        "id",
        "jobTitle",
        "company",
        "companyId",
    ] {
        let body = json!({"objectMetadataId": id, "type": "TEXT", "name": name, "label": "Label"});
        assert_eq!(twenty.post("/rest/metadata/fields", body).await.0, 400, "{name}");
    }
    for name in ["contactId", "syncMetadata", "a1"] {
        let body = json!({"objectMetadataId": id, "type": "TEXT", "name": name, "label": "Label"});
        assert_eq!(twenty.post("/rest/metadata/fields", body).await.0, 201, "{name}");
    }
}

#[tokio::test]
async fn the_types_that_worked_work_and_no_others() {
    let twenty = Twenty::local();
    let id = twenty.object("company").await["id"].clone();
    let options = json!([{"value": "A_B", "label": "A", "position": 0, "color": "red"}]);
    let cases = [
        ("TEXT", json!("x")),
        ("NUMBER", json!(1.5)),
        ("BOOLEAN", json!(true)),
        ("RAW_JSON", json!({"a": 1})),
        ("DATE_TIME", json!("2026-01-31T08:15:00.000Z")),
        ("DATE", json!("2026-01-31")),
        ("SELECT", json!("A_B")),
        ("MULTI_SELECT", json!(["A_B"])),
        ("ARRAY", json!(["x"])),
        ("UUID", json!(uuid())),
        (
            "PHONES",
            json!({"primaryPhoneNumber": "2025550123", "primaryPhoneCountryCode": "US",
            "primaryPhoneCallingCode": "+1", "additionalPhones": []}),
        ),
        ("EMAILS", json!({"primaryEmail": "a@example.com", "additionalEmails": []})),
        (
            "LINKS",
            json!({"primaryLinkUrl": "https://example.com", "primaryLinkLabel": "", "secondaryLinks": []}),
        ),
    ];
    for (at, (kind, value)) in cases.iter().enumerate() {
        let name = format!("own{at}");
        let mut body = json!({"objectMetadataId": id, "type": kind, "name": name, "label": kind});
        if kind.contains("SELECT") {
            body["options"] = options.clone();
        }
        let (status, answer) = twenty.post("/rest/metadata/fields", body).await;
        assert_eq!(status, 201, "{kind}: {answer}");
        let company = twenty.create("companies", json!({name.clone(): value})).await;
        assert_eq!(company[&name], *value, "{kind}");
    }
    for kind in ["NUMERIC", "RATING", "CURRENCY", "text", "TS_VECTOR"] {
        let body = json!({"objectMetadataId": id, "type": kind, "name": "another", "label": "Another"});
        assert_eq!(twenty.post("/rest/metadata/fields", body).await.0, 400, "{kind}");
    }
}

#[tokio::test]
async fn options_are_upper_snake_with_label_position_and_color() {
    let twenty = Twenty::local();
    let id = twenty.object("person").await["id"].clone();
    let field = |options: Value| json!({"objectMetadataId": id, "type": "SELECT", "name": "kind", "label": "Kind", "options": options});
    for bad in [
        json!([{"value": "lower", "label": "L", "position": 0, "color": "red"}]),
        json!([{"value": "TWO WORDS", "label": "L", "position": 0, "color": "red"}]),
        json!([{"value": "A", "label": "L", "position": 0}]),
        json!([{"value": "A", "position": 0, "color": "red"}]),
        json!([]),
        json!("A"),
    ] {
        assert_eq!(twenty.post("/rest/metadata/fields", field(bad.clone())).await.0, 400, "{bad}");
    }
    let none = json!({"objectMetadataId": id, "type": "SELECT", "name": "kind", "label": "Kind"});
    assert_eq!(twenty.post("/rest/metadata/fields", none).await.0, 400);
    let good = json!([{"value": "UPPER_SNAKE", "label": "L", "position": 0, "color": "red"}]);
    assert_eq!(twenty.post("/rest/metadata/fields", field(good)).await.0, 201);
}

#[tokio::test]
async fn envelopes_of_metadata_can_be_left_out() {
    let twenty = Twenty::with(Options { metadata_envelopes: false, ..roomy() });
    let (_, listed) = twenty.get("/rest/metadata/objects?limit=1").await;
    assert_eq!(keys(&listed), ["data", "pageInfo", "totalCount"]);
    assert_eq!((listed["data"].as_array().unwrap().len(), &listed["totalCount"]), (1, &json!(2)));
    let after = listed["pageInfo"]["endCursor"].as_str().unwrap();
    let (_, rest) = twenty.get(&format!("/rest/metadata/objects?starting_after={after}")).await;
    assert_eq!(rest["data"][0]["nameSingular"], "company");
    assert_eq!(rest["pageInfo"]["hasNextPage"], false);
    let id = rest["data"][0]["id"].clone();
    let (_, one) = twenty.get(&format!("/rest/metadata/objects/{}", id.as_str().unwrap())).await;
    assert_eq!(one["id"], id);
    let body = json!({"objectMetadataId": id, "type": "TEXT", "name": "contactId", "label": "Contact id"});
    let (status, made) = twenty.post("/rest/metadata/fields", body).await;
    assert_eq!((status, &made["name"]), (201, &json!("contactId")));
}

/// A sandbox with a junction of people and companies.
async fn with_junction() -> Twenty {
    let twenty = Twenty::local();
    let body = json!({
        "nameSingular": "personBusiness", "namePlural": "personBusinesses", "labelSingular": "Business link",
        "labelPlural": "Business links", "icon": "IconLink",
    });
    let (status, answer) = twenty.post("/rest/metadata/objects", body).await;
    assert_eq!(status, 201, "{answer}");
    let junction = twenty.object("personBusiness").await["id"].clone();
    for (name, target) in [("person", "person"), ("company", "company")] {
        let body = json!({
            "objectMetadataId": junction, "type": "RELATION", "name": name, "label": "Label",
            "relationCreationPayload": {
                "type": "MANY_TO_ONE", "targetObjectMetadataId": twenty.object(target).await["id"],
                "targetFieldLabel": "Business links", "targetFieldIcon": "IconLink",
            },
        });
        let (status, answer) = twenty.post("/rest/metadata/fields", body).await;
        assert_eq!(status, 201, "{answer}");
    }
    let body = json!({
        "objectMetadataId": junction, "type": "TEXT", "name": "linkKey", "label": "Link key", "isUnique": true,
    });
    assert_eq!(twenty.post("/rest/metadata/fields", body).await.0, 201);
    twenty
}

#[tokio::test]
async fn an_object_is_created_and_listed() {
    let twenty = with_junction().await;
    let object = twenty.object("personBusiness").await;
    assert_eq!((&object["labelPlural"], &object["icon"]), (&json!("Business links"), &json!("IconLink")));
    let row = twenty.create("personBusinesses", json!({"name": "a link"})).await;
    assert_eq!(row["name"], "a link");
    let (_, answer) = twenty.get("/rest/personBusinesses").await;
    assert_eq!(answer["data"]["personBusinesses"][0]["id"], row["id"]);
    for body in [
        json!({"nameSingular": "person", "namePlural": "persons", "labelSingular": "P", "labelPlural": "Ps"}),
        json!({"nameSingular": "same", "namePlural": "same", "labelSingular": "P", "labelPlural": "Ps"}),
        json!({"nameSingular": "snake_case", "namePlural": "other", "labelSingular": "P", "labelPlural": "Ps"}),
        json!({"nameSingular": "robot", "namePlural": "robots", "labelSingular": "R"}),
    ] {
        assert_eq!(twenty.post("/rest/metadata/objects", body.clone()).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn a_junction_has_two_relations_by_id() {
    let twenty = with_junction().await;
    let person = twenty.person(json!({"name": {"firstName": "Ada"}})).await;
    let company = twenty.create("companies", json!({"name": "Bakery"})).await;
    let body = json!({"personId": person["id"], "companyId": company["id"], "linkKey": "C1|B1"});
    let row = twenty.create("personBusinesses", body).await;
    assert_eq!((&row["personId"], &row["companyId"]), (&person["id"], &company["id"]));
    let query = "query L($ids: [UUID!]) { personBusinesses(filter: {personId: {in: $ids}}) { edges { node {
        linkKey person { name { firstName } } company { name }
    } } } }";
    let (_, answer) = twenty.graphql(query, json!({"ids": [person["id"]]})).await;
    let expected =
        json!({"linkKey": "C1|B1", "person": {"name": {"firstName": "Ada"}}, "company": {"name": "Bakery"}});
    assert_eq!(answer["data"]["personBusinesses"]["edges"][0]["node"], expected, "{answer}");
    let fields = twenty.object("person").await["fields"].clone();
    let back = fields.as_array().unwrap().iter().find(|field| field["name"] == "businessLinks").unwrap();
    assert_eq!((&back["type"], &back["icon"]), (&json!("RELATION"), &json!("IconLink")));
}

#[tokio::test]
async fn destroying_a_person_leaves_orphan_junction_rows() {
    let twenty = with_junction().await;
    let person = twenty.person(json!({})).await;
    let row = twenty.create("personBusinesses", json!({"personId": person["id"], "linkKey": "C1|B1"})).await;
    let path = format!("/rest/people/{}", person["id"].as_str().unwrap());
    twenty.delete(&format!("{path}?soft_delete=true")).await;
    let id = row["id"].as_str().unwrap();
    let (_, answer) = twenty.get(&format!("/rest/personBusinesses/{id}")).await;
    assert_eq!(answer["data"]["personBusiness"]["personId"], person["id"], "a soft delete leaves the link");
    twenty.delete(&path).await;
    let (status, answer) = twenty.get(&format!("/rest/personBusinesses/{id}")).await;
    assert_eq!(status, 200);
    assert_eq!(answer["data"]["personBusiness"]["personId"], Value::Null);
    assert_eq!(answer["data"]["personBusiness"]["linkKey"], "C1|B1");
}

#[tokio::test]
async fn a_link_key_is_unique_where_no_pair_is() {
    let twenty = with_junction().await;
    let person = twenty.person(json!({})).await;
    for _ in 0..2 {
        twenty.create("personBusinesses", json!({"personId": person["id"]})).await;
    }
    twenty.create("personBusinesses", json!({"linkKey": "C1|B1"})).await;
    let (status, answer) = twenty.post("/rest/personBusinesses", json!({"linkKey": "C1|B1"})).await;
    assert_eq!((status, message(&answer).as_str()), (400, "A duplicate entry was detected"));
}

#[tokio::test]
async fn what_nobody_measured_of_metadata_is_refused() {
    let twenty = with_junction().await;
    let (person, junction) = (twenty.object("person").await, twenty.object("personBusiness").await);
    let relation = |kind: &str, label: &str| {
        json!({
            "objectMetadataId": junction["id"], "type": "RELATION", "name": "another", "label": "Another",
            "relationCreationPayload": {
                "type": kind, "targetObjectMetadataId": person["id"], "targetFieldLabel": label, "targetFieldIcon": "IconLink",
            },
        })
    };
    assert_eq!(twenty.post("/rest/metadata/fields", relation("ONE_TO_MANY", "Others")).await.0, 400);
    assert_eq!(twenty.post("/rest/metadata/fields", relation("MANY_TO_ONE", "Business links")).await.0, 400);
    let text = json!({"objectMetadataId": person["id"], "type": "TEXT", "name": "a", "label": "A", "defaultValue": "'x'"});
    assert_eq!(twenty.post("/rest/metadata/fields", text).await.0, 400);
    let unique = json!({"objectMetadataId": person["id"], "type": "RAW_JSON", "name": "a", "label": "A", "isUnique": true});
    assert_eq!(twenty.post("/rest/metadata/fields", unique).await.0, 400);
    let id = person["id"].as_str().unwrap();
    assert_eq!(twenty.delete(&format!("/rest/metadata/objects/{id}")).await.0, 400);
    assert_eq!(twenty.get("/rest/metadata/relations").await.0, 404);
}
