//! `/graphql`.

use serde_json::{Value, json};
use trueup::sandbox::Clock;

use super::harness::{Twenty, email, roomy, uuid};

#[tokio::test]
async fn first_is_uncapped_for_one_token() {
    let (clock, _) = Clock::manual(0);
    let twenty = Twenty::with(trueup::sandbox::Options { clock, ..roomy() });
    for _ in 0..6 {
        let bodies: Vec<Value> = (0..200).map(|_| json!({})).collect();
        assert_eq!(twenty.post("/rest/batch/people", json!(bodies)).await.0, 201);
    }
    let before = twenty.inside().calls_left();
    let query =
        "{ people(first: 10000) { edges { node { id } cursor } totalCount pageInfo { hasNextPage } } }";
    let (status, answer) = twenty.graphql(query, json!({})).await;
    assert_eq!(status, 200);
    let people = &answer["data"]["people"];
    assert_eq!(people["edges"].as_array().unwrap().len(), 1_200);
    assert_eq!(people["totalCount"], 1_200);
    assert_eq!(people["pageInfo"]["hasNextPage"], false);
    assert_eq!(twenty.inside().calls_left(), before - 1);
}

#[tokio::test]
async fn pages_are_walked_by_cursor() {
    let twenty = Twenty::any();
    let mark = uuid();
    let mut ids: Vec<String> = (0..5).map(|_| uuid()).collect();
    for id in &ids {
        twenty.person(json!({"id": id, "avatarUrl": mark})).await;
    }
    ids.sort();
    let query = "query List($after: String, $filter: PersonFilterInput) {
        people(first: 2, after: $after, filter: $filter) {
            edges { node { id } cursor } pageInfo { hasNextPage endCursor startCursor hasPreviousPage } totalCount
        }
    }";
    let (mut found, mut after) = (Vec::new(), Value::Null);
    loop {
        let variables = json!({"after": after, "filter": {"avatarUrl": {"eq": mark}}});
        let (status, answer) = twenty.graphql(query, variables).await;
        assert_eq!(status, 200);
        let people = &answer["data"]["people"];
        assert_eq!(people["totalCount"], 5, "{answer}");
        let edges = people["edges"].as_array().unwrap();
        found.extend(edges.iter().map(|edge| edge["node"]["id"].as_str().unwrap().to_owned()));
        assert_eq!(people["pageInfo"]["endCursor"], edges.last().unwrap()["cursor"]);
        if people["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = people["pageInfo"]["endCursor"].clone();
    }
    assert_eq!(found, ids);
    twenty.clean().await;
}

#[tokio::test]
async fn composites_and_relations_are_selected() {
    let twenty = Twenty::any();
    let company = twenty.create("companies", json!({"name": "Bakery"})).await;
    let email = email();
    let person = twenty
        .person(json!({
            "name": {"firstName": "Ada"}, "emails": {"primaryEmail": email}, "companyId": company["id"],
        }))
        .await;
    let query = "query One($id: UUID!) { people(filter: {id: {eq: $id}}) { edges { node {
        __typename who: name { firstName lastName } emails { primaryEmail } companyId company { name id } createdBy { source }
    } } } }";
    let (_, answer) = twenty.graphql(query, json!({"id": person["id"]})).await;
    let expected = json!({
        "__typename": "Person", "who": {"firstName": "Ada", "lastName": ""}, "emails": {"primaryEmail": email},
        "companyId": company["id"], "company": {"name": "Bakery", "id": company["id"]}, "createdBy": {"source": "API"},
    });
    assert_eq!(answer["data"]["people"]["edges"][0]["node"], expected, "{answer}");
    twenty.clean().await;
}

#[tokio::test]
async fn external_keys_are_found_by_variables_with_in() {
    let twenty = Twenty::any();
    let mark = uuid();
    let titles = [format!("a, {mark}"), format!("(b \"{mark}"), format!("NULL {mark}"), format!("c {mark}")];
    for title in &titles {
        twenty.person(json!({"jobTitle": title})).await;
    }
    let query = "query Find($keys: [String!]!) {
        people(filter: {jobTitle: {in: $keys}}, first: 100) { edges { node { jobTitle } } totalCount }
    }";
    let (_, answer) = twenty.graphql(query, json!({"keys": titles[..3]})).await;
    assert_eq!(answer["data"]["people"]["totalCount"], 3, "{answer}");
    twenty.clean().await;
}

#[tokio::test]
async fn filters_join_and_ask_for_null() {
    let twenty = Twenty::any();
    let mark = uuid();
    for title in [json!("a"), json!("b"), Value::Null] {
        twenty.person(json!({"jobTitle": title, "avatarUrl": mark})).await;
    }
    let cases = [
        (json!({"avatarUrl": {"eq": mark}}), 3),
        (json!({"and": [{"avatarUrl": {"eq": mark}}, {"jobTitle": {"is": "NULL"}}]}), 1),
        (json!({"avatarUrl": {"eq": mark}, "jobTitle": {"is": "NOT_NULL"}}), 2),
        (
            json!({"avatarUrl": {"eq": mark}, "or": [{"jobTitle": {"eq": "a"}}, {"jobTitle": {"is": "NULL"}}]}),
            2,
        ),
        (json!({"avatarUrl": {"eq": mark}, "not": {"jobTitle": {"eq": "a"}}}), 1),
        (json!({"avatarUrl": {"eq": mark}, "jobTitle": {"neq": "a"}}), 1),
        (json!({"avatarUrl": {"eq": mark}, "deletedAt": {"is": "NOT_NULL"}}), 0),
        (json!({"avatarUrl": {"eq": mark}, "updatedAt": {"gte": "2001-01-01T00:00:00.000Z"}}), 3),
    ];
    let query = "query Find($filter: PersonFilterInput) { people(filter: $filter) { totalCount } }";
    for (filter, expected) in cases {
        let (_, answer) = twenty.graphql(query, json!({"filter": filter})).await;
        assert_eq!(answer["data"]["people"]["totalCount"], expected, "{filter}: {answer}");
    }
    let literal = format!(
        "{{ people(filter: {{avatarUrl: {{eq: \"{mark}\"}}, jobTitle: {{is: NULL}}}}) {{ totalCount }} }}"
    );
    assert_eq!(twenty.graphql(&literal, json!({})).await.1["data"]["people"]["totalCount"], 1);
    twenty.clean().await;
}

#[tokio::test]
async fn an_order_can_be_asked_for() {
    let twenty = Twenty::local();
    for title in ["b", "a", "c"] {
        twenty.person(json!({"jobTitle": title, "name": {"firstName": title}})).await;
    }
    let titles = |answer: &Value| -> Vec<String> {
        let edges = answer["data"]["people"]["edges"].as_array().unwrap();
        edges.iter().map(|edge| edge["node"]["jobTitle"].as_str().unwrap().to_owned()).collect()
    };
    for (order, expected) in [
        ("[{jobTitle: AscNullsFirst}]", ["a", "b", "c"]),
        ("[{name: {firstName: DescNullsLast}}]", ["c", "b", "a"]),
    ] {
        let query = format!("{{ people(orderBy: {order}) {{ edges {{ node {{ jobTitle }} }} }} }}");
        assert_eq!(titles(&twenty.graphql(&query, json!({})).await.1), expected);
    }
}

#[tokio::test]
async fn at_most_20_root_resolvers_are_answered() {
    let twenty = Twenty::local();
    let queries = |count: usize| {
        let roots: Vec<String> = (0..count).map(|at| format!("unknown{at}")).collect();
        format!("{{ {} }}", roots.join(" "))
    };
    let (status, answer) = twenty.graphql(&queries(20), json!({})).await;
    assert_eq!((status, &answer["errors"]), (200, &Value::Null));
    let (status, answer) = twenty.graphql(&queries(21), json!({})).await;
    assert_eq!(status, 200);
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("root resolvers"), "{answer}");
}

#[tokio::test]
async fn several_roots_cost_one_token() {
    let (clock, _) = Clock::manual(0);
    let twenty = Twenty::with(trueup::sandbox::Options { clock, ..roomy() });
    twenty.person(json!({})).await;
    let before = twenty.inside().calls_left();
    let query = "{ people(first: 10) { totalCount } companies(first: 10) { totalCount } }";
    let (_, answer) = twenty.graphql(query, json!({})).await;
    assert_eq!(answer["data"], json!({"people": {"totalCount": 1}, "companies": {"totalCount": 0}}));
    assert_eq!(twenty.inside().calls_left(), before - 1);
}

#[tokio::test]
async fn aliased_multi_updates_are_refused() {
    let twenty = Twenty::any();
    let ids = [twenty.person(json!({})).await["id"].clone(), twenty.person(json!({})).await["id"].clone()];
    let query = "mutation Two($a: UUID!, $b: UUID!) {
        a: updatePerson(id: $a, data: {jobTitle: \"x\"}) { id } b: updatePerson(id: $b, data: {jobTitle: \"y\"}) { id }
    }";
    let (_, answer) = twenty.graphql(query, json!({"a": ids[0], "b": ids[1]})).await;
    assert!(answer["errors"].is_array(), "{answer}");
    for id in &ids {
        assert_eq!(twenty.read(id).await["jobTitle"], "");
    }
    twenty.clean().await;
}

#[tokio::test]
async fn unknown_fields_come_back_null() {
    let twenty = Twenty::any();
    let person = twenty.person(json!({"name": {"firstName": "Ada"}})).await;
    let query = "query One($id: UUID!) { people(filter: {id: {eq: $id}}) {
        edges { node { id city name { firstName middleName } } }
    } }";
    let (status, answer) = twenty.graphql(query, json!({"id": person["id"]})).await;
    assert_eq!((status, &answer["errors"]), (200, &Value::Null));
    let node = &answer["data"]["people"]["edges"][0]["node"];
    assert_eq!(node["city"], Value::Null);
    assert_eq!(node["name"]["firstName"], "Ada");
    assert_eq!(node["name"]["middleName"], Value::Null);
    twenty.clean().await;
}

#[tokio::test]
async fn records_are_created_and_updated() {
    let twenty = Twenty::local();
    let query = "mutation Make($data: [PersonCreateInput!]!) { createPeople(data: $data) { id jobTitle } }";
    let id = uuid();
    let (_, answer) = twenty.graphql(query, json!({"data": [{"id": id, "jobTitle": "Baker"}]})).await;
    assert_eq!(answer["data"]["createPeople"], json!([{"id": id, "jobTitle": "Baker"}]), "{answer}");
    let query = "mutation Make($data: PersonCreateInput!) { createPerson(data: $data) { jobTitle } }";
    let (_, answer) = twenty.graphql(query, json!({"data": {"jobTitle": "Miller"}})).await;
    assert_eq!(answer["data"]["createPerson"]["jobTitle"], "Miller");
    let query = "mutation Change($id: UUID!, $data: PersonUpdateInput!) { updatePerson(id: $id, data: $data) { jobTitle } }";
    let (_, answer) = twenty.graphql(query, json!({"id": id, "data": {"jobTitle": "Farmer"}})).await;
    assert_eq!(answer["data"]["updatePerson"]["jobTitle"], "Farmer");
    assert_eq!(twenty.read(&json!(id)).await["jobTitle"], "Farmer");
    let (_, answer) = twenty.graphql(query, json!({"id": uuid(), "data": {}})).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn a_missing_key_over_graphql_is_403_and_a_bad_one_401() {
    let twenty = Twenty::local();
    let url = format!("{}/graphql", twenty.url);
    let body = json!({"query": "{ people { totalCount } }"});
    assert_eq!(twenty.client.post(&url).json(&body).send().await.unwrap().status(), 403);
    assert_eq!(
        twenty.client.post(&url).json(&body).bearer_auth("another").send().await.unwrap().status(),
        401
    );
}

#[tokio::test]
async fn fragments_are_understood() {
    let twenty = Twenty::local();
    twenty.person(json!({"jobTitle": "Baker"})).await;
    let query = "query { people { edges { ...E } ... on PersonConnection { totalCount } } }
        fragment E on PersonEdge { node { id jobTitle jobTitle } }";
    let (_, answer) = twenty.graphql(query, json!({})).await;
    assert_eq!(answer["data"]["people"]["edges"][0]["node"]["jobTitle"], "Baker", "{answer}");
    assert_eq!(answer["data"]["people"]["totalCount"], 1);
}

#[tokio::test]
async fn what_nobody_measured_is_refused() {
    let twenty = Twenty::local();
    twenty.person(json!({})).await;
    for query in [
        "{ people(last: 3) { totalCount } }",
        "{ people(filter: {city: {eq: \"x\"}}) { totalCount } }",
        "{ people(filter: {jobTitle: {like: \"%\"}}) { totalCount } }",
        "{ people(filter: {jobTitle: {gt: \"a\", lt: \"b\"}}) { totalCount } }",
        "{ people(filter: {company: {name: {eq: \"x\"}}}) { totalCount } }",
        "{ people(orderBy: [{jobTitle: AscNullsFirst}, {id: AscNullsFirst}]) { totalCount } }",
        "{ people(orderBy: [{jobTitle: Up}]) { totalCount } }",
        "{ people(first: -1) { totalCount } }",
        "{ people(after: \"x\") { totalCount } }",
        "{ people { edges { node { name } } } }",
        "{ people { edges { node { jobTitle { x } } } } }",
        "{ people { edges { node { company } } } }",
        "{ people { edges { node { jobTitle @include(if: true) } } } }",
        "{ companies { edges { node { people { edges { node { id } } } } } } }",
        "{ person(filter: {}) { id } }",
        "{ __schema { types { name } } }",
        "{ people { totalCount }",
        "query A { people { totalCount } } query B { people { totalCount } }",
        "query A($x: Nothing) { people { totalCount } }",
        "query A($x: UUID!) { people(filter: {id: {eq: $x}}) { totalCount } }",
        "{ people(filter: {id: {eq: $y}}) { totalCount } }",
        "mutation { deletePeople(filter: {}) { id } }",
        "mutation { createPerson(data: {city: \"x\"}) { id } }",
        "subscription { people { totalCount } }",
        "{ ...Missing }",
        "{ ...A } fragment A on Query { ...A }",
    ] {
        let (status, answer) = twenty.graphql(query, json!({})).await;
        assert_eq!(status, 200, "{query}: {answer}");
        assert!(answer["errors"][0]["message"].is_string(), "{query} was answered: {answer}");
        assert_eq!(answer["data"], Value::Null);
    }
}
