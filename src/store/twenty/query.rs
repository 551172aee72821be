//! Reading in GraphQL: pages of records, and records by what they hold.

use serde_json::{Value as Json, json};

use crate::model::StoreError;

use super::TwentyStore;
use super::error::{Failure, senseless};
use super::layout::Layout;

/// Records a page: a call for most workspaces, and an answer that is no burden.
pub(super) const PAGE_ROWS: u64 = 5_000;

/// Values that a filter names at a time.
pub(super) const VALUES_A_CALL: usize = 1_000;

/// A page of records.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// How many records the object has, as far as the filter goes.
    pub(super) total: u64,
    pub(super) more: bool,
    pub(super) cursor: Option<String>,
    pub(super) records: Vec<Json>,
}

/// Takes a page out of an answer.
pub(super) fn page(answer: &Json, root: &str) -> Option<Page> {
    let root = answer.get(root)?;
    let edges = root.get("edges").and_then(Json::as_array);
    Some(Page {
        total: root.get("totalCount")?.as_u64()?,
        more: root.pointer("/pageInfo/hasNextPage").and_then(Json::as_bool).unwrap_or(false),
        cursor: root.pointer("/pageInfo/endCursor").and_then(Json::as_str).map(str::to_owned),
        records: edges.into_iter().flatten().filter_map(|edge| edge.get("node").cloned()).collect(),
    })
}

/// A condition that a path has one of some values.
#[allow(clippy::needless_pass_by_value)] // Callers make the list for it.
pub(super) fn one_of(attribute: &str, part: Option<&str>, values: Json) -> Json {
    let test = json!({ "in": values });
    match part {
        Some(part) => json!({ attribute: { part: test } }),
        None => json!({ attribute: test }),
    }
}

/// The condition that one of several holds.
pub(super) fn any_of(mut conditions: Vec<Json>) -> Json {
    if conditions.len() == 1 { conditions.remove(0) } else { json!({ "or": conditions }) }
}

/// What is asked for of every record of a page.
fn connection(selection: &str) -> String {
    format!("{{ totalCount pageInfo {{ hasNextPage endCursor }} edges {{ node {{ {selection} }} }} }}")
}

/// Records that are there, and records that were deleted and can be restored.
#[derive(Debug, Default)]
pub(super) struct Everyone {
    pub(super) live: Vec<Json>,
    pub(super) gone: Vec<Json>,
}

impl TwentyStore {
    pub(super) fn senseless(&self, what: &str) -> StoreError {
        StoreError::from(senseless(&self.name, what))
    }

    /// A page of all records, in the order of their ids.
    pub(super) async fn page(
        &self,
        layout: &Layout,
        selection: &str,
        after: Option<&str>,
    ) -> Result<Page, StoreError> {
        let plural = &layout.object.plural;
        let (declared, given) = match after {
            Some(_) => (", $after: String", ", after: $after"),
            None => ("", ""),
        };
        let query = format!(
            "query List($first: Int{declared}) {{ {plural}(first: $first{given}) {} }}",
            connection(selection)
        );
        let mut variables = json!({ "first": self.page_rows });
        if let Some(after) = after {
            variables["after"] = after.into();
        }
        let what = format!("the list of `{plural}`");
        let answer = self.client.ask(&what, &query, variables, 1).await?;
        page(&answer, plural).ok_or_else(|| self.senseless(&what))
    }

    /// How many records there are.
    pub(super) async fn count(&self, layout: &Layout) -> Result<u64, StoreError> {
        let plural = &layout.object.plural;
        let query = format!("query Count {{ {plural}(first: 1) {{ totalCount }} }}");
        let what = format!("the number of `{plural}`");
        let answer = self.client.ask(&what, &query, json!({}), 1).await?;
        Ok(page(&answer, plural).ok_or_else(|| self.senseless(&what))?.total)
    }

    /// Records that a filter lets through, up to a page of them.
    pub(super) async fn changed(&self, layout: &Layout, filter: Json) -> Result<Page, StoreError> {
        let plural = &layout.object.plural;
        let query = format!(
            "query Changed($filter: {}FilterInput, $first: Int) {{ {plural}(filter: $filter, first: $first) {} }}",
            layout.object.kind(),
            connection(&layout.selection())
        );
        let what = format!("what changed of `{plural}`");
        let variables = json!({ "filter": filter, "first": self.page_rows });
        let answer = self.client.ask(&what, &query, variables, 1).await?;
        page(&answer, plural).ok_or_else(|| self.senseless(&what))
    }

    /// All records that a filter lets through.
    pub(super) async fn matching(
        &self,
        plural: &str,
        kind: &str,
        selection: &str,
        filter: &Json,
        paced: bool,
    ) -> Result<Vec<Json>, Failure> {
        let mut records = Vec::new();
        let mut after: Option<String> = None;
        let mut paced = paced;
        loop {
            let (declared, given) = match after {
                Some(_) => (", $after: String", ", after: $after"),
                None => ("", ""),
            };
            let query = format!(
                "query Find($filter: {kind}FilterInput, $first: Int{declared}) {{ \
                 {plural}(filter: $filter, first: $first{given}) {} }}",
                connection(selection)
            );
            let mut variables = json!({ "filter": filter, "first": self.page_rows });
            if let Some(after) = &after {
                variables["after"] = after.as_str().into();
            }
            let what = format!("reading `{plural}`");
            if !paced {
                self.client.pacer.take(1).await;
            }
            paced = false;
            let answer = self.client.ask_paced(&what, &query, variables, 1).await?;
            let found = page(&answer, plural).ok_or_else(|| senseless(&self.name, &what))?;
            records.extend(found.records);
            after = found.cursor.filter(|_| found.more);
            if after.is_none() {
                return Ok(records);
            }
        }
    }

    /// All records that a filter lets through, deleted ones apart.
    pub(super) async fn everyone(
        &self,
        layout: &Layout,
        selection: &str,
        filter: &Json,
    ) -> Result<Everyone, Failure> {
        // Deleted records are shown to whoever asks for them by name.
        let either =
            json!({ "or": [{ "deletedAt": { "is": "NULL" } }, { "deletedAt": { "is": "NOT_NULL" } }] });
        let filter = json!({ "and": [either, filter] });
        let (plural, kind) = (&layout.object.plural, layout.object.kind());
        let found = self.matching(plural, &kind, selection, &filter, false).await?;
        let deleted = |record: &Json| record.get("deletedAt").is_some_and(|at| !at.is_null());
        let (gone, live) = found.into_iter().partition(deleted);
        Ok(Everyone { live, gone })
    }
}
