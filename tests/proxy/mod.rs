//! A proxy in front of a BigQuery that counts what goes through, and breaks what it is told to break.
#![allow(dead_code)] // Every test uses some of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value as Json, json};

/// What a dry run of a query of the table of records says.
pub(crate) const DRY_RUN_BYTES: u64 = 50 << 20;

/// A value for which the service refuses the whole statement that it is in.
pub(crate) const REFUSED_VALUE: &str = "refused value";

/// More than this the service takes in no request.
const REQUEST_BYTES: usize = 10_485_760;

/// What every query is billed for.
pub(crate) const BILLED_BYTES: u64 = 10 << 20;

/// Which calls a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// Jobs with a statement that writes the table of records.
    Merge,
    /// Queries that read the table of records.
    Select,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// This status, and the service's word for it.
    Status(u16, &'static str),
    /// A status without JSON.
    Page(u16),
    /// An error that says that another statement was in the way.
    Serialize,
    /// It is a job, which then fails for that.
    SerializeLater,
    /// The call never arrives, and no answer comes.
    LostBefore,
    /// The call arrives, and no answer comes.
    LostAfter,
    /// An answer that says that all is well, with errors in it; the call never arrives.
    OkWithErrors,
    /// The same, but the call arrives.
    OkWithErrorsAfter,
    /// A row less than promised.
    Short,
}

#[derive(Default)]
struct Seen {
    faults: VecDeque<(On, How)>,
    struck: usize,
    /// Statements that writes came in, with the number of their rows.
    merges: Vec<usize>,
    /// Rows of records that were answered.
    rows: u64,
    calls: u64,
    /// Statements that changed something, in order.
    changes: Vec<String>,
    /// What each query and statement was allowed to be billed for, where that was said.
    caps: Vec<u64>,
    /// The moments that tables were read as of.
    moments: BTreeSet<i64>,
    /// Jobs that read the table of records: what more they answer comes by their ids.
    jobs: BTreeSet<String>,
    /// Row access policies hide rows from whoever comes this way.
    hides: bool,
    /// What another application does just before the next statement that writes the table of records.
    between: Vec<String>,
}

struct Inner {
    upstream: String,
    table: String,
    http: reqwest::Client,
    seen: Mutex<Seen>,
}

/// A proxy that runs.
pub(crate) struct Proxy {
    pub(crate) url: String,
    inner: Arc<Inner>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the address; records are in the table of this name.
    pub(crate) async fn start(upstream: &str, table: &str) -> Self {
        let inner = Arc::new(Inner {
            upstream: upstream.to_owned(),
            table: format!(".{table}`"),
            http: reqwest::Client::new(),
            seen: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().fallback(pass).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self { url, inner, task }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.inner.seen.lock().expect("whole")
    }

    /// Breaks the next calls of a kind, one fault each.
    pub(crate) fn strike(&self, on: On, faults: &[How]) {
        let mut seen = self.seen();
        seen.faults = faults.iter().map(|how| (on, *how)).collect();
        seen.struck = 0;
    }

    /// From here on whoever comes this way is one from whom row access policies hide rows, or no longer is: tables cannot be listed, and
    /// what jobs tell of themselves speaks of it. The emulator filters what queries answer, and does neither.
    pub(crate) fn hide(&self, hides: bool) {
        self.seen().hides = hides;
    }

    /// Lets another application run statements just before the next one that writes the table of records.
    pub(crate) fn between(&self, statements: &[String]) {
        self.seen().between = statements.to_vec();
    }

    /// How many calls were broken since.
    pub(crate) fn struck(&self) -> usize {
        self.seen().struck
    }

    /// Forgets what was counted.
    pub(crate) fn reset(&self) {
        let mut seen = self.seen();
        (seen.merges, seen.rows, seen.calls, seen.caps) = (Vec::new(), 0, 0, Vec::new());
        seen.moments.clear();
    }

    /// How many rows each statement had that wrote records.
    pub(crate) fn merges(&self) -> Vec<usize> {
        self.seen().merges.clone()
    }

    /// How many rows of records were answered.
    pub(crate) fn rows(&self) -> u64 {
        self.seen().rows
    }

    /// What each query and statement was allowed to be billed for.
    pub(crate) fn caps(&self) -> Vec<u64> {
        self.seen().caps.clone()
    }

    /// The moments that tables were read as of, in microseconds since 1970.
    pub(crate) fn moments(&self) -> BTreeSet<i64> {
        self.seen().moments.clone()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.seen().calls
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(status: u16, body: impl Into<Body>) -> Response {
    let builder = Response::builder().status(status).header("content-type", "application/json");
    builder.body(body.into()).expect("an answer")
}

fn error(status: u16, reason: &str, message: &str) -> Response {
    let told = json!({ "reason": reason, "message": message });
    answer(status, json!({ "error": { "code": status, "message": message, "errors": [told] } }).to_string())
}

async fn pass(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.expect("a body");
    let json: Json = serde_json::from_slice(&bytes).unwrap_or(Json::Null);
    let query = json.pointer("/configuration/query").unwrap_or(&json);
    let sql = query.get("query").and_then(Json::as_str).unwrap_or("").to_owned();
    let ours = sql.contains(&inner.table);
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let merges = ours && sql.starts_with("MERGE");
    let selects = ours && sql.starts_with("SELECT");
    if query.get("dryRun").is_some() {
        let bytes = if ours { DRY_RUN_BYTES } else { 0 };
        return answer(
            200,
            json!({ "jobComplete": true, "totalBytesProcessed": bytes.to_string() }).to_string(),
        );
    }
    let hides = inner.seen.lock().expect("whole").hides;
    let listed = format!("/tables/{}/data?", inner.table.trim_matches(['.', '`']));
    if hides && path.contains(&listed) {
        return error(403, "accessDenied", "Access Denied: s3cret");
    }
    if bytes.len() > REQUEST_BYTES {
        return error(400, "badRequest", "Request payload size exceeds the limit: 10485760 bytes.");
    }
    if merges && String::from_utf8_lossy(&bytes).contains(REFUSED_VALUE) {
        let told = json!({ "reason": "invalidQuery", "message": format!("Bad int64 value: {REFUSED_VALUE} s3cret in `note`") });
        let status = json!({ "state": "DONE", "errorResult": told, "errors": [told] });
        return answer(
            200,
            json!({ "jobReference": json.get("jobReference"), "status": status }).to_string(),
        );
    }
    let how = {
        let mut seen = inner.seen.lock().expect("whole");
        seen.calls += 1;
        let moments = sql.split("AS OF TIMESTAMP_MICROS(").skip(1).map(|rest| rest.split(')').next());
        seen.moments.extend(moments.map(|moment| moment.unwrap_or("").parse::<i64>().expect("a moment")));
        seen.caps
            .extend(query["maximumBytesBilled"].as_str().map(|cap| cap.parse::<u64>().expect("a number")));
        if merges {
            let rows = query.pointer("/queryParameters/0/parameterValue/arrayValues");
            seen.merges.push(rows.and_then(Json::as_array).map_or(0, Vec::len));
        }
        let next = seen.faults.front().copied();
        match next {
            Some((On::Merge, how)) if merges => Some(how),
            Some((On::Select, how)) if selects => Some(how),
            _ => None,
        }
        .inspect(|_| {
            seen.faults.pop_front();
            seen.struck += 1;
        })
    };
    match how {
        Some(How::Status(status, reason)) => return error(status, reason, "s3cret"),
        Some(How::Page(status)) => return answer(status, "<html>s3cret</html>"),
        Some(How::Serialize) => {
            let message = "Could not serialize access to table d.t due to concurrent update";
            return error(400, "invalidQuery", message);
        }
        Some(How::SerializeLater) => {
            let message = "Could not serialize access to table d.t due to concurrent update";
            let told = json!({ "reason": "invalidQuery", "message": message });
            let status = json!({ "state": "DONE", "errorResult": told, "errors": [told] });
            let reference = json.get("jobReference").cloned();
            return answer(200, json!({ "jobReference": reference, "status": status }).to_string());
        }
        Some(How::LostBefore) => std::future::pending().await,
        Some(How::OkWithErrors) => return ok_with_errors(),
        _ => {}
    }
    let between =
        if merges { std::mem::take(&mut inner.seen.lock().expect("whole").between) } else { Vec::new() };
    for sql in between {
        let url = format!("{}{}/queries", inner.upstream, path.strip_suffix("/jobs").expect("a job"));
        let body = json!({ "query": sql, "useLegacySql": false, "timeoutMs": 180_000 });
        let done = inner.http.post(url).json(&body).send().await.expect("an answer");
        assert!(done.status().is_success(), "{sql}: {}", done.text().await.unwrap_or_default());
    }
    let mut forwarded = inner.http.request(parts.method.clone(), format!("{}{path}", inner.upstream));
    if parts.method != axum::http::Method::GET {
        forwarded = forwarded.header("content-type", "application/json").body(bytes);
    }
    let Ok(response) = forwarded.send().await else { return error(503, "backendError", "gone") };
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap_or_default();
    let mut json: Json = serde_json::from_slice(&bytes).unwrap_or(Json::Null);
    match how {
        Some(How::LostAfter) => std::future::pending().await,
        Some(How::OkWithErrorsAfter) => return ok_with_errors(),
        Some(How::Short) => {
            let rows = json.get_mut("rows").and_then(Json::as_array_mut).expect("rows to leave one out of");
            rows.pop();
            return answer(status, json.to_string());
        }
        _ => {}
    }
    if hides && path.contains("/jobs/") && json.get("statistics").is_some() {
        json["statistics"]["rowLevelSecurityStatistics"] = json!({ "rowLevelSecurityApplied": true });
        return answer(status, json.to_string());
    }
    let mut seen = inner.seen.lock().expect("whole");
    // A count is no row of a record.
    if selects && !sql.contains("COUNT(*)") {
        let job = json.pointer("/jobReference/jobId").and_then(Json::as_str);
        seen.jobs.extend(job.map(str::to_owned));
    }
    if json.pointer("/jobReference/jobId").and_then(Json::as_str).is_some_and(|job| seen.jobs.contains(job)) {
        seen.rows += json.get("rows").and_then(Json::as_array).map_or(0, |rows| rows.len() as u64);
    }
    if ["MERGE", "INSERT", "UPDATE", "DELETE", "ALTER", "CREATE"].iter().any(|verb| sql.starts_with(verb)) {
        seen.changes.push(sql.chars().take(300).collect());
    }
    // What the emulator says of a table's last change is not so: here it is.
    if let Some((_, table)) = path.split_once("/tables/")
        && json.get("lastModifiedTime").is_some()
    {
        let of_table = format!(".{}`", table.split('?').next().unwrap_or(""));
        let last = seen.changes.iter().rposition(|sql| sql.contains(&of_table)).map_or(0, |at| at + 1);
        json["lastModifiedTime"] = (1_700_000_000_000 + last).to_string().into();
        json["etag"] = format!("e{last}").into();
        return answer(status, json.to_string());
    }
    // Nor does it bill.
    if json.get("totalBytesBilled").is_some() {
        json["totalBytesBilled"] = BILLED_BYTES.to_string().into();
        return answer(status, json.to_string());
    }
    answer(status, bytes)
}

fn ok_with_errors() -> Response {
    let told = json!({ "reason": "backendError", "message": "s3cret" });
    answer(
        200,
        json!({ "kind": "bigquery#queryResponse", "errors": [told], "jobComplete": true }).to_string(),
    )
}
