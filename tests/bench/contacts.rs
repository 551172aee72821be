//! The records: contacts of 22 columns, five of them `jsonb`, and the manifests for them. All of it is made up.

/// The names of the columns that hold a record's fields, without the key, clocks and sync metadata.
pub(crate) const FIELDS: [&str; 18] = [
    "canonical_name",
    "name_normalized",
    "first_name",
    "last_name",
    "organization",
    "job_title",
    "department",
    "category_code",
    "subcategory_code",
    "relationship_category",
    "notes",
    "birthday",
    "is_business",
    "is_me",
    "llm_context",
    "communication_stats",
    "social_network",
    "ai_insights",
];

const TABLE: &str = r#"
CREATE TABLE contacts (
    contact_id text COLLATE "C" PRIMARY KEY, canonical_name text NOT NULL, name_normalized text, first_name text,
    last_name text, organization text, job_title text, department text, category_code text, subcategory_code text,
    relationship_category text, notes text, birthday date, is_business boolean, is_me boolean, llm_context jsonb,
    communication_stats jsonb, social_network jsonb, ai_insights jsonb, sync_metadata jsonb, created_at timestamptz,
    updated_at timestamptz
)"#;

/// Numbers 1 to `$rows`; the same number is the same record, everywhere and always.
const ROWS: &str = r"
INSERT INTO contacts
SELECT 'C' || digits, 'Person ' || digits, 'person ' || digits, 'Person', digits,
    'Sample Works ' || n % 4999, (ARRAY['Engineer', 'Buyer', 'Editor', 'Teacher', 'Planner', 'Welder', 'Nurse'])[1 + n % 7],
    (ARRAY['Research', 'Purchasing', 'Print', 'Training', 'Logistics'])[1 + n % 5], code, code || 1 + n % 4 || '_GENERAL',
    (ARRAY['colleague', 'friend', 'family', 'supplier', 'customer', 'neighbour'])[1 + n % 6],
    'Met at the example fair, hall ' || n % 11 || ', about order ' || n * 7919 % 100003,
    date '1950-01-01' + (n % 20000)::int, n % 10 = 0, n = 1,
    jsonb_build_object('summary', 'Likes short letters and long walks', 'topics', jsonb_build_array('paper', 'trains', n % 97)),
    jsonb_build_object('calls', n % 31, 'emails', n % 173, 'phone', '555-01' || lpad((n % 100)::text, 2, '0')),
    jsonb_build_object('email', 'person' || digits || '@example.com', 'site', 'https://example.com/p/' || n),
    jsonb_build_object('score', trim_scale(n % 1000 / 1000.0), 'next', 'write in spring'),
    NULL, timestamptz '2020-01-01 00:00:00Z' + n * interval '1 second',
    timestamptz '2024-01-01 00:00:00Z' + n * interval '7 seconds'
FROM (SELECT n, lpad(n::text, 7, '0') AS digits, (ARRAY['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'X'])[1 + n % 9] AS code
    FROM generate_series(1::bigint, $rows) AS n) AS numbers";

/// The table, empty.
pub(crate) fn table() -> &'static str {
    TABLE
}

/// Puts so many records into the table.
pub(crate) fn rows(rows: u64) -> String {
    ROWS.replace("$rows", &rows.to_string())
}

/// Something happens to a hundred records all over the table.
pub(crate) fn edit_a_hundred(rows: u64, set: &str) -> String {
    let step = rows / 101;
    format!(
        "UPDATE contacts SET {set} WHERE contact_id IN
        (SELECT 'C' || lpad((n * {step})::text, 7, '0') FROM generate_series(1, 100) AS n)"
    )
}

/// Something happens to every tenth record.
pub(crate) fn edit_a_tenth(set: &str) -> String {
    format!("UPDATE contacts SET {set} WHERE contact_id LIKE '%3'")
}

const ENTITY: &str = r#"
apiVersion: trueup/v1
kind: Entity
metadata: {name: contacts}
spec:
  key: {contact_id: string}
  fields:
    canonical_name: {type: string, required: true}
    name_normalized: {derive: name(canonical_name)}
    first_name: string
    last_name: string
    organization: string
    job_title: string
    department: string
    category_code: {enum: [A, B, C, D, E, F, G, H, X]}
    subcategory_code: {pattern: "^{category_code}[0-9]+_[A-Z0-9_]+$"}
    relationship_category: string
    notes: string
    birthday: {type: date, range: {min: 1850-01-01}}
    is_business: bool
    is_me: bool
    llm_context: {type: json, sensitive: true}
    communication_stats: json
    social_network: json
    ai_insights: json
  groups: [[category_code, subcategory_code]]
  times: {created: created_at, updated: updated_at}
"#;

/// The manifests of these stores (name and kind with its place), the first one canonical.
pub(crate) fn manifests(stores: &[(&str, String)]) -> String {
    let head = |kind: &str, name: &str| {
        format!("---\napiVersion: trueup/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n")
    };
    let mut text = ENTITY.to_owned();
    for (at, (name, place)) in stores.iter().enumerate() {
        let canonical = at == 0;
        text += &[head("Store", name), format!("  canonical: {canonical}\n  {place}\n")].concat();
    }
    text += &head("Mapping", "contacts");
    text += "  entity: contacts\n  stores:\n";
    for (name, _) in stores {
        text += &["    ", name, ": {table: contacts, fields: {\"*\": same}, sync: {json: sync_metadata}}\n"]
            .concat();
    }
    text
}
