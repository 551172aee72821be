//! Queries of mapped tables, of which every row must be seen: the service leaves those that row access policies hide out of an answer
//! without a word, and what is hidden must never pass for deleted.

use reqwest::Method;
use serde_json::Value as Json;

use super::BigQueryStore;
use super::error::Failure;
use super::layout::Layout;
use super::rest::{Cells, Pages, encoded};

impl BigQueryStore {
    /// Begins a query of a table.
    ///
    /// # Errors
    /// When the query fails, or may have left out rows that are there.
    pub(super) async fn query_seen(
        &self,
        layout: &Layout,
        sql: &str,
        parameters: Vec<Json>,
    ) -> Result<Pages, Failure> {
        let pages = self.rest.query(sql, parameters).await;
        let pages = pages.map_err(|failure| failure.of_table(&layout.names.title))?;
        // Looked at afterwards: a policy that was there while the query ran is still there now.
        self.check_seen(layout, &pages).await?;
        Ok(pages)
    }

    /// A query's rows, all of them: for queries with few.
    ///
    /// # Errors
    /// As for [`Self::query_seen`].
    pub(super) async fn rows_seen(
        &self,
        layout: &Layout,
        sql: &str,
        parameters: Vec<Json>,
    ) -> Result<Vec<Cells>, Failure> {
        self.query_seen(layout, sql, parameters).await?.all().await
    }

    /// Checks that this account sees all rows of a table. Listing one is refused to whom a policy may hide some, and costs nothing.
    async fn check_seen(&self, layout: &Layout, pages: &Pages) -> Result<(), Failure> {
        let names = &layout.names;
        let hidden = || Err(Failure { hidden: true, ..Failure::default() }.of_table(&names.title));
        if layout.info.writable {
            let path = format!("/datasets/{}/tables/{}/data", encoded(&names.dataset), encoded(&names.table));
            let column = layout.key.first().and_then(|slot| slot.path.first()).cloned();
            let query = [("maxResults", "1".to_owned()), ("selectedFields", column.unwrap_or_default())];
            match self.rest.call(Method::GET, &path, &query, None).await {
                Ok(_) => return Ok(()),
                Err(failure) if failure.status == Some(403) && !failure.may_pass() => return hidden(),
                Err(failure) if failure.status != Some(400) => return Err(failure),
                // There are tables that cannot be listed at all.
                Err(_) => {}
            }
        }
        // Of what cannot be listed, as a view, the query itself tells whether a policy had a hand in it.
        let job = self.rest.job(pages).await?;
        match job.pointer("/statistics/rowLevelSecurityStatistics/rowLevelSecurityApplied") {
            Some(Json::Bool(true)) => hidden(),
            _ => Ok(()),
        }
    }
}
