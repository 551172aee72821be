//! What tables a dataset has, for those who have yet to map them.

use reqwest::Method;
use serde_json::Value as Json;

use crate::model::{FieldType, FoundColumn, FoundTable};

use super::BigQueryStore;
use super::error::Failure;
use super::rest::encoded;
use super::schema::{Kind, Node, TableInfo};

impl BigQueryStore {
    /// The tables of the dataset; views are not among them.
    pub(super) async fn found_tables(&self) -> Result<Vec<FoundTable>, Failure> {
        let mut tables = Vec::new();
        for name in self.table_names().await? {
            // One that went meanwhile is not there.
            let Some(json) = self.rest.table(&self.dataset, &name).await? else { continue };
            let info = TableInfo::parse(&json);
            if !info.writable {
                continue;
            }
            let declared = json.pointer("/tableConstraints/primaryKey/columns").and_then(Json::as_array);
            let key = declared.into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect();
            let required = json.pointer("/schema/fields").and_then(Json::as_array);
            let required = required
                .into_iter()
                .flatten()
                .filter(|field| field.get("mode").and_then(Json::as_str) == Some("REQUIRED"))
                .filter_map(|field| field.get("name")?.as_str())
                .collect::<Vec<_>>();
            let mut columns = Vec::new();
            for node in &info.columns {
                found(node, &[], required.contains(&node.name.as_str()), &mut columns);
            }
            tables.push(FoundTable { name, key, columns });
        }
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }

    async fn table_names(&self) -> Result<Vec<String>, Failure> {
        let path = format!("/datasets/{}/tables", encoded(&self.dataset));
        let (mut names, mut page) = (Vec::new(), None);
        loop {
            let mut query = vec![("maxResults", "1000".to_owned())];
            query.extend(page.map(|page| ("pageToken", page)));
            let answer = self.rest.call(Method::GET, &path, &query, None).await?;
            let tables = answer.get("tables").and_then(Json::as_array).into_iter().flatten();
            let named = tables.filter_map(|table| table.pointer("/tableReference/tableId")?.as_str());
            names.extend(named.map(str::to_owned));
            page = answer.get("nextPageToken").and_then(Json::as_str).map(str::to_owned);
            if page.is_none() {
                return Ok(names);
            }
        }
    }
}

/// A column, or each field of a STRUCT.
fn found(node: &Node, outer: &[String], required: bool, columns: &mut Vec<FoundColumn>) {
    let path: Vec<String> = outer.iter().chain([&node.name]).cloned().collect();
    if node.kind == Kind::Record && !node.repeated {
        for inner in &node.fields {
            found(inner, &path, false, columns);
        }
        return;
    }
    columns.push(FoundColumn { path, ty: field_type(node), required, ..FoundColumn::default() });
}

fn field_type(node: &Node) -> FieldType {
    match node.kind {
        Kind::Text if node.repeated => FieldType::StringList,
        _ if node.repeated => FieldType::Json,
        Kind::Int => FieldType::Int64,
        Kind::Float => FieldType::Float64,
        Kind::Numeric | Kind::BigNumeric => FieldType::Numeric,
        Kind::Bool => FieldType::Bool,
        Kind::Date => FieldType::Date,
        Kind::Timestamp | Kind::DateTime => FieldType::Timestamp,
        Kind::Json => FieldType::Json,
        _ => FieldType::String,
    }
}
