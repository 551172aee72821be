//! A BigQuery dataset under test, in the emulator. The other application writes through statements of its own.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value as Json, json};
use trueup::model::{Column, FieldType, Form, Mapped, RecordKey, Shape, SyncMeta, Value};
use trueup::store::Store;
use trueup::store::bigquery::BigQueryStore;

use crate::emulator::{Emulator, PROJECT};
use crate::harness::{Harness, id_of, store_name};

pub(crate) struct OnBigQuery {
    emulator: &'static Emulator,
    store: BigQueryStore,
    dataset: String,
}

fn text(name: &str, value: Option<&str>) -> Json {
    json!({ "name": name, "parameterType": { "type": "STRING" }, "parameterValue": { "value": value } })
}

/// An expression for a field's value, and its parameter.
fn parameter(name: &str, ty: FieldType, form: Form, value: &Value) -> (String, Json) {
    if let Value::List(items) = value {
        let values: Vec<Json> = items.iter().map(|item| json!({ "value": item })).collect();
        let ty = json!({ "type": "ARRAY", "arrayType": { "type": "STRING" } });
        let value = json!({ "arrayValues": values });
        return (format!("@{name}"), json!({ "name": name, "parameterType": ty, "parameterValue": value }));
    }
    let plain = match value {
        Value::Null => None,
        Value::Text(text) => Some(text.as_ref().to_owned()),
        other => Some(other.to_string().trim_matches('"').to_owned()),
    };
    let cast = match (form, ty) {
        (Form::Native, FieldType::Int64) => "INT64",
        (Form::Native, FieldType::String) => "STRING",
        other => panic!("the harness edits no {other:?}"),
    };
    (format!("CAST(@{name} AS {cast})"), text(name, plain.as_deref()))
}

impl OnBigQuery {
    fn table(&self, mapped: &Mapped) -> String {
        let Shape::Table(table) = &mapped.mapping.shape else { unreachable!("tables only") };
        format!("`{PROJECT}.{}.{}`", self.dataset, table.name)
    }

    fn column(mapped: &Mapped, field: &str) -> String {
        format!("`{}`", mapped.mapping.fields[&id_of(mapped, field)].column.head())
    }

    async fn run(&self, sql: &str, parameters: &[Json]) -> Json {
        self.emulator.query(sql, parameters).await
    }

    /// A condition for a key, with its parameters.
    fn named(mapped: &Mapped, key: &RecordKey) -> (String, Vec<Json>) {
        let columns = mapped.mapping.key.iter().map(|part| part.column.head());
        let terms: Vec<String> = columns
            .enumerate()
            .map(|(at, column)| format!("CAST(`{column}` AS STRING) = @key{at}"))
            .collect();
        let parts = key.parts().iter().enumerate();
        let parameters = parts.map(|(at, part)| text(&format!("key{at}"), Some(part))).collect();
        (terms.join(" AND "), parameters)
    }

    async fn set(&self, mapped: &Mapped, key: &RecordKey, sets: &[String], more: Vec<Json>) {
        let (condition, mut parameters) = Self::named(mapped, key);
        parameters.extend(more);
        let sql = format!("UPDATE {} SET {} WHERE {condition}", self.table(mapped), sets.join(", "));
        let answer = self.run(&sql, &parameters).await;
        assert_eq!(answer["numDmlAffectedRows"], "1", "{sql}");
    }
}

#[async_trait]
impl Harness for OnBigQuery {
    const HOSTILE_NAMES: [&'static str; 3] = ["order", "from", "select"];

    fn holds(value: &Value) -> bool {
        match value {
            // NULL and an empty ARRAY are one.
            Value::List(items) => !items.is_empty(),
            // NUMERIC has 29 digits before the point.
            Value::Numeric(text) => text.split('.').next().is_none_or(|whole| whole.len() <= 29),
            // A number that is neither a 64-bit integer nor a float would lose digits.
            Value::Json(json) => {
                json.as_value().as_number().is_none_or(|number| number.to_string().len() < 20)
            }
            _ => true,
        }
    }

    async fn new() -> Self {
        let emulator = Emulator::shared();
        let dataset = emulator.dataset().await;
        let store = BigQueryStore::open(store_name(), emulator.options(&dataset)).expect("opened");
        Self { emulator, store, dataset }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    async fn insert(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)], meta: &SyncMeta) {
        let (mut names, mut values, mut parameters) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (part, known)) in mapped.mapping.key.iter().zip(&mapped.entity.key).enumerate() {
            let name = format!("key{at}");
            names.push(format!("`{}`", part.column.head()));
            let ty = if known.ty == FieldType::Int64 { "INT64" } else { "STRING" };
            values.push(format!("CAST(@{name} AS {ty})"));
            parameters.push(text(&name, Some(&key.parts()[at])));
        }
        for (at, (field, value)) in fields.iter().enumerate() {
            let id = id_of(mapped, field);
            let (ty, form) = (mapped.entity.field(id).ty, mapped.mapping.fields[&id].form);
            let (sql, parameter) = parameter(&format!("field{at}"), ty, form, value);
            names.push(Self::column(mapped, field));
            values.push(sql);
            parameters.push(parameter);
        }
        if let Some(version) = meta.version {
            names.push("`version`".into());
            values.push(version.to_string());
        }
        if let Some(time) = meta.last_updated {
            names.push("`last_updated`".into());
            values.push(format!("TIMESTAMP_MICROS({})", time.micros()));
        }
        if let Some(by) = &meta.last_updated_by {
            names.push("`last_updated_by`".into());
            values.push("@by".into());
            parameters.push(text("by", Some(by)));
        }
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.table(mapped),
            names.join(", "),
            values.join(", ")
        );
        self.run(&sql, &parameters).await;
    }

    async fn edit(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)]) {
        let (mut sets, mut parameters) = (Vec::new(), Vec::new());
        for (at, (field, value)) in fields.iter().enumerate() {
            let id = id_of(mapped, field);
            let (ty, form) = (mapped.entity.field(id).ty, mapped.mapping.fields[&id].form);
            let (sql, parameter) = parameter(&format!("field{at}"), ty, form, value);
            sets.push(format!("{} = {sql}", Self::column(mapped, field)));
            parameters.push(parameter);
        }
        self.set(mapped, key, &sets, parameters).await;
    }

    async fn set_version(&self, mapped: &Mapped, key: &RecordKey, version: i64) {
        self.set(mapped, key, &[format!("`version` = {version}")], Vec::new()).await;
    }

    async fn delete(&self, mapped: &Mapped, key: &RecordKey) {
        let (condition, parameters) = Self::named(mapped, key);
        self.run(&format!("DELETE FROM {} WHERE {condition}", self.table(mapped)), &parameters).await;
    }

    async fn spoil(&self, mapped: &Mapped, key: &RecordKey, field: &str, spoilt: &str) {
        // Columns hold nothing but what their type admits: another application gave it another type.
        let (table, column) = (self.table(mapped), Self::column(mapped, field));
        self.run(&format!("ALTER TABLE {table} DROP COLUMN {column}"), &[]).await;
        self.run(&format!("ALTER TABLE {table} ADD COLUMN {column} STRING"), &[]).await;
        self.set(mapped, key, &[format!("{column} = @text")], vec![text("text", Some(spoilt))]).await;
    }

    async fn drop_column(&self, mapped: &Mapped, field: &str) {
        let sql = format!("ALTER TABLE {} DROP COLUMN {}", self.table(mapped), Self::column(mapped, field));
        self.run(&sql, &[]).await;
    }

    async fn duplicate(&self, mapped: &Mapped, key: &RecordKey) {
        let (condition, parameters) = Self::named(mapped, key);
        let table = self.table(mapped);
        self.run(&format!("INSERT INTO {table} SELECT * FROM {table} WHERE {condition}"), &parameters).await;
    }

    async fn add_extra(&self, mapped: &Mapped, extra: &str) {
        let table = self.table(mapped);
        self.run(&format!("ALTER TABLE {table} ADD COLUMN `extra` STRING"), &[]).await;
        self.run(&format!("UPDATE {table} SET `extra` = @text WHERE TRUE"), &[text("text", Some(extra))])
            .await;
    }

    async fn extra(&self, mapped: &Mapped, key: &RecordKey) -> String {
        let (condition, parameters) = Self::named(mapped, key);
        let sql = format!("SELECT `extra` FROM {} WHERE {condition}", self.table(mapped));
        let answer = self.run(&sql, &parameters).await;
        answer["rows"][0]["f"][0]["v"].as_str().expect("a text").to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_would_be_statements_are_refused() {
    let mut words = crate::harness::Words::new("things").field("name", FieldType::String);
    words.fields[0].3 = "na`me; DROP TABLE things".to_owned();
    let mapped = words.mapped();
    assert_eq!(
        mapped.mapping.fields[&id_of(&mapped, "name")].column,
        Column::plain("na`me; DROP TABLE things")
    );
    let harness = OnBigQuery::new().await;
    let error = harness.store.plan_migration(&[mapped]).await.expect_err("no such name");
    assert!(error.message.contains("DROP TABLE"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_told() {
    crate::schema::tables_are_told::<OnBigQuery>(false).await;
}
