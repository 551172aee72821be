//! Records in tables of a BigQuery dataset, as another application writes and reads them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Records;
use crate::emulator::{Emulator, PROJECT};

/// Rows a statement.
const ROWS: usize = 500;

/// The types of a table's columns.
async fn types(table: &str) -> BTreeMap<String, String> {
    let answer = Emulator::shared().query(&format!("SELECT * FROM {table} LIMIT 0"), &[]).await;
    let fields = answer["schema"]["fields"].as_array().expect("columns");
    let text = |json: &Value| json.as_str().expect("text").to_owned();
    fields.iter().map(|field| (text(&field["name"]), text(&field["type"]))).collect()
}

fn plain(value: Option<&Value>) -> Value {
    match value {
        None | Some(Value::Null) => Value::Null,
        Some(Value::String(text)) => text.clone().into(),
        Some(other) => other.to_string().into(),
    }
}

/// Puts these records in the place of a table's rows, by statements that know nothing of sync metadata.
pub(crate) async fn replace(dataset: &str, entity: &str, key: &[&str], from: &Records, to: &Records) {
    let table = format!("`{PROJECT}.{dataset}.{entity}`");
    let types = types(&table).await;
    let mut columns: Vec<&String> =
        from.values().chain(to.values()).flat_map(|record| record.keys()).collect();
    columns.sort();
    columns.dedup();
    let gone = from.iter().filter(|(id, _)| !to.contains_key(*id)).map(|(_, record)| ("D", record));
    let changed =
        to.iter().filter(|(id, record)| from.get(*id) != Some(record)).map(|(_, record)| ("W", record));
    let lines: Vec<(&str, &Map<String, Value>)> = gone.chain(changed).collect();
    let value = |name: &str| match types[name].as_str() {
        "STRING" => format!("S.`{name}`"),
        "BOOLEAN" => format!("CAST(S.`{name}` AS BOOL)"),
        "INTEGER" => format!("CAST(S.`{name}` AS INT64)"),
        other => format!("CAST(S.`{name}` AS {other})"),
    };
    let on: Vec<String> = key.iter().map(|part| format!("T.`{part}` = S.`{part}`")).collect();
    let sets: Vec<String> = columns
        .iter()
        .filter(|name| !key.contains(&name.as_str()))
        .map(|name| format!("`{name}` = {}", value(name)))
        .collect();
    let names: Vec<String> = columns.iter().map(|name| format!("`{name}`")).collect();
    let values: Vec<String> = columns.iter().map(|name| value(name)).collect();
    let sql = format!(
        "MERGE INTO {table} AS T USING (SELECT r.* FROM UNNEST(@rows) AS r) AS S ON {} \
         WHEN MATCHED AND S.op = 'D' THEN DELETE WHEN MATCHED THEN UPDATE SET {} \
         WHEN NOT MATCHED THEN INSERT ({}) VALUES ({})",
        on.join(" AND "),
        sets.join(", "),
        names.join(", "),
        values.join(", ")
    );
    let mut fields = vec![json!({ "name": "op", "type": { "type": "STRING" } })];
    fields.extend(columns.iter().map(|name| json!({ "name": name, "type": { "type": "STRING" } })));
    for lines in lines.chunks(ROWS) {
        let rows: Vec<Value> = lines
            .iter()
            .map(|(op, record)| {
                let mut values = Map::new();
                values.insert("op".into(), json!({ "value": op }));
                for name in &columns {
                    values.insert((*name).clone(), json!({ "value": plain(record.get(*name)) }));
                }
                json!({ "structValues": values })
            })
            .collect();
        let parameter = json!({
            "name": "rows",
            "parameterType": { "type": "ARRAY", "arrayType": { "type": "STRUCT", "structTypes": fields } },
            "parameterValue": { "arrayValues": rows },
        });
        let answer = Emulator::shared().query(&sql, &[parameter]).await;
        assert_eq!(answer["numDmlAffectedRows"], lines.len().to_string(), "{entity}");
    }
}

/// The records that a table holds, by their data's own columns, null where there is nothing.
pub(crate) async fn held(dataset: &str, entity: &str, key: &[&str], columns: &[String]) -> Records {
    let table = format!("`{PROJECT}.{dataset}.{entity}`");
    let types = types(&table).await;
    let select: Vec<String> = columns.iter().map(|name| format!("CAST(`{name}` AS STRING)")).collect();
    let answer = Emulator::shared().query(&format!("SELECT {} FROM {table}", select.join(", ")), &[]).await;
    let rows = answer["rows"].as_array().cloned().unwrap_or_default();
    assert_eq!(answer["totalRows"], rows.len().to_string(), "all in one page");
    let mut records = Records::new();
    for row in rows {
        let mut record = Map::new();
        for (name, cell) in columns.iter().zip(row["f"].as_array().expect("cells")) {
            let Some(text) = cell["v"].as_str() else { continue };
            let value = match types[name].as_str() {
                "BOOLEAN" | "INTEGER" => serde_json::from_str(text).expect("plain"),
                _ => text.into(),
            };
            record.insert(name.clone(), value);
        }
        let id = key.iter().map(|part| record[*part].as_str().expect("text").to_owned()).collect();
        records.insert(id, record);
    }
    records
}
