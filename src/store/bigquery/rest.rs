//! Calls to the service over HTTP: queries page by page, jobs to their end, and what is tried again.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use crate::model::hex;

use super::auth::Tokens;
use super::error::Failure;

/// Rows asked for in a page; the service sends fewer where they would be more than it puts into one answer.
const PAGE_ROWS: u32 = 20_000;
/// How long the service may take before it answers that a query goes on.
const QUERY_WAIT_MS: u64 = 20_000;
/// Tries of a call, the first one included.
const TRIES: usize = 6;
/// The service takes 25 statements that change a table in 10 seconds, and aborts what runs side by side: at most 4 at once and one
/// every half second is 24.
const BURST: NonZeroU32 = NonZeroU32::new(4).unwrap();
const PACE: Duration = Duration::from_millis(500);

/// A connection to the service; copies share it.
#[derive(Clone)]
pub(super) struct Rest {
    http: reqwest::Client,
    base: String,
    pub(super) project: String,
    location: Option<String>,
    pub(super) tokens: Arc<Tokens>,
    max_bytes: Option<u64>,
    pub(super) meter: Arc<Meter>,
    first_wait: Duration,
    paces: Arc<Mutex<BTreeMap<String, Arc<Pace>>>>,
}

/// What the service was asked, and what for it bills.
#[derive(Default)]
pub(super) struct Meter {
    pub(super) calls: AtomicU64,
    pub(super) billed: AtomicU64,
    /// What had been billed for when the pass began.
    before: AtomicU64,
}

impl Meter {
    /// What is billed for is counted against the limit of a pass from here on.
    pub(super) fn begin_pass(&self) {
        self.before.store(self.billed.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn of_pass(&self) -> u64 {
        self.billed.load(Ordering::Relaxed).saturating_sub(self.before.load(Ordering::Relaxed))
    }
}

/// Keeps statements that change one table apart.
struct Pace {
    alone: tokio::sync::Mutex<()>,
    limiter: DefaultDirectRateLimiter,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    /// Rows that it changed, where the service says so.
    pub(super) affected: Option<u64>,
    /// Bytes that it is billed for.
    billed: u64,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JobEnd {
    /// It did all of what it was to do.
    Done(Done),
    /// It did nothing.
    Failed(Failure),
    /// Whether it did, or is going to, could not be found out.
    Unknown(Failure),
}

/// The rows of a query, each cell as text.
pub(super) type Cells = Vec<Option<String>>;

/// A query that was begun.
pub(super) struct Pages {
    rest: Rest,
    job: String,
    location: Option<String>,
    total: u64,
    taken: u64,
    next: Next,
}

enum Next {
    Here(Vec<Cells>, Option<String>),
    Token(String),
    End,
}

/// How to reach the service.
pub(super) struct Reach {
    pub(super) base: String,
    pub(super) project: String,
    pub(super) location: Option<String>,
    pub(super) max_bytes: Option<u64>,
    pub(super) timeout: Duration,
    /// How long to wait before the second try.
    pub(super) first_wait: Duration,
}

impl Pages {
    /// How many rows there are in all.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// All rows.
    pub(super) async fn all(mut self) -> Result<Vec<Cells>, Failure> {
        let mut rows = Vec::new();
        while let Some(more) = self.next().await? {
            rows.extend(more);
        }
        Ok(rows)
    }
}

impl Rest {
    pub(super) fn new(reach: Reach, tokens: Arc<Tokens>) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .timeout(reach.timeout)
            .user_agent(concat!("trueup/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|_| Failure::senseless("no HTTP client could be made"))?;
        Ok(Self {
            http,
            base: reach.base,
            project: reach.project,
            location: reach.location,
            tokens,
            max_bytes: reach.max_bytes,
            meter: Arc::default(),
            first_wait: reach.first_wait,
            paces: Arc::default(),
        })
    }

    /// The waits between tries, each longer than the one before, by chance a little more.
    pub(super) fn waits(&self) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.first_wait)
            .with_max_delay(Duration::from_secs(20))
            .with_max_times(TRIES - 1)
            .build()
    }

    fn pace(&self, table: &str) -> Arc<Pace> {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            let quota = Quota::with_period(PACE).unwrap_or_else(|| Quota::per_second(BURST));
            Arc::new(Pace {
                alone: tokio::sync::Mutex::new(()),
                limiter: RateLimiter::direct(quota.allow_burst(BURST)),
            })
        };
        Arc::clone(paces.entry(table.to_owned()).or_insert_with(made))
    }

    /// One call, once.
    async fn once(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Json>,
    ) -> Result<Json, Failure> {
        let token = self.tokens.token().await?;
        self.meter.calls.fetch_add(1, Ordering::Relaxed);
        let url = format!("{}/projects/{}{path}", self.base, encoded(&self.project));
        let mut request = self.http.request(method, url).bearer_auth(token).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| Failure {
            // Where no connection came about nothing was sent.
            sent: !error.is_connect(),
            ..Failure::default()
        })?;
        let status = response.status();
        let retry_after_ms = response
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok())
            .map(|seconds| seconds.saturating_mul(1000));
        let lost = |_| Failure { sent: true, ..Failure::default() };
        let bytes = response.bytes().await.map_err(lost)?;
        let json: Result<Json, _> = serde_json::from_slice(&bytes);
        if !status.is_success() {
            let error = json.ok().and_then(|json| json.get("error").cloned()).unwrap_or(Json::Null);
            let told = Failure::told(Some(status.as_u16()), &error);
            return Err(Failure { retry_after_ms, sent: true, ..told });
        }
        json.map_err(|_| Failure::senseless("what came is no JSON"))
    }

    /// One call, again while that is of any use. Only for calls that do no harm when they are made twice.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Json>,
    ) -> Result<Json, Failure> {
        let mut waits = self.waits();
        loop {
            match self.once(method.clone(), path, query, body).await {
                Err(failure) if failure.may_pass() => match waits.next() {
                    Some(wait) => tokio::time::sleep(longer(wait, &failure)).await,
                    None => return Err(failure),
                },
                done => return done,
            }
        }
    }

    /// A table's description; none where there is no such table.
    pub(super) async fn table(&self, dataset: &str, table: &str) -> Result<Option<Json>, Failure> {
        let path = format!("/datasets/{}/tables/{}", encoded(dataset), encoded(table));
        match self.call(Method::GET, &path, &[], None).await {
            Err(failure) if failure.is_not_found() => Ok(None),
            done => done.map(Some),
        }
    }

    /// Where the datasets are, as the store's settings say.
    pub(super) fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// Whether there is a dataset of this name.
    pub(super) async fn dataset(&self, dataset: &str) -> Result<bool, Failure> {
        match self.call(Method::GET, &format!("/datasets/{}", encoded(dataset)), &[], None).await {
            Err(failure) if failure.is_not_found() => Ok(false),
            done => done.map(|_| true),
        }
    }

    /// When a dataset was made; none where there is none, or where the service does not say.
    pub(super) async fn dataset_made(&self, dataset: &str) -> Result<Option<String>, Failure> {
        match self.call(Method::GET, &format!("/datasets/{}", encoded(dataset)), &[], None).await {
            Err(failure) if failure.is_not_found() => Ok(None),
            done => Ok(done?.get("creationTime").and_then(Json::as_str).map(str::to_owned)),
        }
    }

    /// Begins a query that changes nothing.
    pub(super) async fn query(&self, sql: &str, parameters: Vec<Json>) -> Result<Pages, Failure> {
        let mut body = self.query_body(sql, parameters);
        body.insert("maxResults".into(), PAGE_ROWS.into());
        body.insert("timeoutMs".into(), QUERY_WAIT_MS.into());
        if let Some(location) = &self.location {
            body.insert("location".into(), location.clone().into());
        }
        let body = Json::Object(body);
        // What is told in an answer that says that all is well is tried again as well.
        let mut waits = self.waits();
        loop {
            let answer = self.call(Method::POST, "/queries", &[], Some(&body)).await?;
            match self.begun(answer).await {
                Err(failure) if failure.may_pass() => match waits.next() {
                    Some(wait) => tokio::time::sleep(longer(wait, &failure)).await,
                    None => return Err(failure),
                },
                done => return done,
            }
        }
    }

    /// A query's rows, all of them: for queries with few.
    pub(super) async fn rows(&self, sql: &str, parameters: Vec<Json>) -> Result<Vec<Cells>, Failure> {
        self.query(sql, parameters).await?.all().await
    }

    /// What the service tells of a query that was begun.
    pub(super) async fn job(&self, pages: &Pages) -> Result<Json, Failure> {
        let location: Vec<_> = pages.location.iter().map(|location| ("location", location.clone())).collect();
        self.call(Method::GET, &format!("/jobs/{}", encoded(&pages.job)), &location, None).await
    }

    fn query_body(&self, sql: &str, parameters: Vec<Json>) -> Map<String, Json> {
        let mut body = Map::new();
        body.insert("query".into(), sql.into());
        body.insert("useLegacySql".into(), false.into());
        if !parameters.is_empty() {
            body.insert("parameterMode".into(), "NAMED".into());
            body.insert("queryParameters".into(), parameters.into());
        }
        if let Some(bytes) = self.max_bytes {
            // A limit of nothing would be none.
            let left = bytes.saturating_sub(self.meter.of_pass()).max(1);
            body.insert("maximumBytesBilled".into(), left.to_string().into());
        }
        body
    }

    /// What a query would be billed for, in bytes. It is not run.
    pub(super) async fn dry_run(&self, sql: &str) -> Result<u64, Failure> {
        let mut body = self.query_body(sql, Vec::new());
        body.insert("dryRun".into(), true.into());
        body.extend(self.location.iter().map(|location| ("location".to_owned(), location.clone().into())));
        let answer = self.call(Method::POST, "/queries", &[], Some(&Json::Object(body))).await?;
        told_errors(&answer)?;
        number(&answer, "totalBytesProcessed").ok_or(Failure::senseless("a dry run without a number"))
    }

    async fn begun(&self, mut answer: Json) -> Result<Pages, Failure> {
        told_errors(&answer)?;
        let reference = answer.get("jobReference").cloned().unwrap_or(Json::Null);
        let text = |name: &str| reference.get(name).and_then(Json::as_str).map(str::to_owned);
        let (job, location) = (text("jobId"), text("location").or_else(|| self.location.clone()));
        while answer.get("jobComplete").and_then(Json::as_bool) != Some(true) {
            let job = job.as_deref().ok_or(Failure::senseless("a query without a job"))?;
            answer = self.page(job, location.as_deref(), None).await?;
            told_errors(&answer)?;
        }
        let billed = number(&answer, "totalBytesBilled").or_else(|| number(&answer, "totalBytesProcessed"));
        self.meter.billed.fetch_add(billed.unwrap_or(0), Ordering::Relaxed);
        let total = number(&answer, "totalRows");
        let (rows, token) = cells(&answer)?;
        Ok(Pages {
            rest: self.clone(),
            job: job.unwrap_or_default(),
            location,
            total: total.unwrap_or(rows.len() as u64),
            taken: 0,
            next: Next::Here(rows, token),
        })
    }

    async fn page(&self, job: &str, location: Option<&str>, token: Option<&str>) -> Result<Json, Failure> {
        let mut query = vec![("maxResults", PAGE_ROWS.to_string()), ("timeoutMs", QUERY_WAIT_MS.to_string())];
        query.extend(location.map(|location| ("location", location.to_owned())));
        query.extend(token.map(|token| ("pageToken", token.to_owned())));
        self.call(Method::GET, &format!("/queries/{}", encoded(job)), &query, None).await
    }

    /// Runs a statement that changes a table: paced, one at a time, as the job of this id, to its end. However often it is sent, it
    /// happens once.
    pub(super) async fn change(&self, table: &str, job: &str, sql: &str, parameters: Vec<Json>) -> JobEnd {
        let pace = self.pace(table);
        let _alone = pace.alone.lock().await;
        pace.limiter.until_ready().await;
        let end = self.run_job(job, sql, parameters).await;
        if let JobEnd::Done(done) = &end {
            self.meter.billed.fetch_add(done.billed, Ordering::Relaxed);
        }
        end
    }

    /// Runs a statement again under new ids while what stops it may pass. For statements that do no harm when they are done twice.
    pub(super) async fn change_again(
        &self,
        table: &str,
        sql: &str,
        parameters: Vec<Json>,
    ) -> Result<Done, Failure> {
        let mut waits = self.waits();
        let id = unique();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let job = format!("trueup_{id}_{attempt}");
            match self.change(table, &job, sql, parameters.clone()).await {
                JobEnd::Done(done) => return Ok(done),
                JobEnd::Failed(failure) if failure.may_pass() => match waits.next() {
                    Some(wait) => tokio::time::sleep(longer(wait, &failure)).await,
                    None => return Err(failure),
                },
                JobEnd::Failed(failure) | JobEnd::Unknown(failure) => return Err(failure),
            }
        }
    }

    /// Sends a job and waits for its end.
    async fn run_job(&self, job: &str, sql: &str, parameters: Vec<Json>) -> JobEnd {
        let body = self.job_body(job, sql, parameters);
        let mut waits = self.waits();
        // Whether a call may have arrived whose answer did not.
        let mut doubtful = false;
        loop {
            let failure = match self.once(Method::POST, "/jobs", &[], Some(&body)).await {
                Ok(answer) if is_done(&answer) => return ended(&answer),
                Ok(answer) if answer.get("status").is_some() => return self.wait_for(job).await,
                // All is well, it says, and yet it does not speak of a job.
                Ok(answer) => {
                    told_errors(&answer).err().unwrap_or(Failure::senseless("a job without a status"))
                }
                // It was sent before, or an answer to it was lost.
                Err(failure) if failure.is_duplicate() => return self.wait_for(job).await,
                Err(failure) => failure,
            };
            doubtful |= failure.sent && failure.status.is_none_or(|status| status >= 500);
            if failure.may_pass()
                && let Some(wait) = waits.next()
            {
                tokio::time::sleep(longer(wait, &failure)).await;
                continue;
            }
            if !doubtful {
                return JobEnd::Failed(failure);
            }
            // What was sent may still be under way: only what takes its place, or the job itself, has the last word.
            return match self.fence(job).await {
                Ok(None) => JobEnd::Failed(failure),
                Ok(Some(end)) => end,
                Err(_) => JobEnd::Unknown(failure),
            };
        }
    }

    fn job_body(&self, job: &str, sql: &str, parameters: Vec<Json>) -> Json {
        let mut reference = json!({ "projectId": self.project, "jobId": job });
        if let Some(location) = &self.location {
            reference["location"] = location.clone().into();
        }
        json!({ "jobReference": reference, "configuration": { "query": self.query_body(sql, parameters) } })
    }

    /// Waits for a job's end, and tells of it where that takes long.
    pub(super) async fn wait_for(&self, job: &str) -> JobEnd {
        let location: Vec<(&str, String)> =
            self.location.iter().map(|location| ("location", location.clone())).collect();
        let path = format!("/jobs/{}", encoded(job));
        let mut wait = Duration::from_millis(50);
        let begun = Instant::now();
        let mut told = 0;
        loop {
            let minutes = begun.elapsed().as_secs() / 60;
            if minutes > told {
                told = minutes;
                tracing::warn!(
                    job,
                    minutes,
                    "the service still works on a job; nothing goes on before it has ended"
                );
            }
            match self.call(Method::GET, &path, &location, None).await {
                Ok(answer) if is_done(&answer) => return ended(&answer),
                Ok(_) => {}
                Err(failure) => return JobEnd::Unknown(failure),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// Takes the place of a job: when this has gone through, no job of this id comes to anything any more; when there was one, its end
    /// is told.
    pub(super) async fn fence(&self, job: &str) -> Result<Option<JobEnd>, Failure> {
        let body = self.job_body(job, "SELECT 1", Vec::new());
        match self.call(Method::POST, "/jobs", &[], Some(&body)).await {
            Ok(_) => Ok(None),
            Err(failure) if failure.is_duplicate() => match self.wait_for(job).await {
                JobEnd::Unknown(failure) => Err(failure),
                end => Ok(Some(end)),
            },
            Err(failure) => Err(failure),
        }
    }
}

impl Pages {
    /// The next rows; none after the last. An end before all rows have come is an error.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Cells>>, Failure> {
        loop {
            let (rows, token) = match std::mem::replace(&mut self.next, Next::End) {
                Next::End if self.taken == self.total => return Ok(None),
                Next::End => return Err(Failure::senseless("fewer rows came than were promised")),
                Next::Here(rows, token) => (rows, token),
                Next::Token(token) => {
                    let answer = self.rest.page(&self.job, self.location.as_deref(), Some(&token)).await?;
                    told_errors(&answer)?;
                    cells(&answer)?
                }
            };
            self.taken += rows.len() as u64;
            if let Some(token) = token {
                self.next = Next::Token(token);
            }
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
    }
}

/// What the service asks to wait, where that is longer.
fn longer(wait: Duration, failure: &Failure) -> Duration {
    const LONGEST: Duration = Duration::from_mins(1);
    failure.retry_after_ms.map_or(wait, |ms| Duration::from_millis(ms).min(LONGEST).max(wait))
}

/// Answers that say that all is well may hold errors.
fn told_errors(answer: &Json) -> Result<(), Failure> {
    match answer.get("errors").and_then(Json::as_array).and_then(|errors| errors.first()) {
        Some(error) => Err(Failure { sent: true, ..Failure::told(None, error) }).map_err(|failure| {
            let unnamed = failure.reason.is_empty();
            if unnamed { Failure { reason: "unknown".into(), ..failure } } else { failure }
        }),
        None => Ok(()),
    }
}

fn is_done(answer: &Json) -> bool {
    answer.pointer("/status/state").and_then(Json::as_str) == Some("DONE")
}

fn ended(answer: &Json) -> JobEnd {
    if let Some(error) = answer.pointer("/status/errorResult").filter(|error| !error.is_null()) {
        return JobEnd::Failed(Failure::told(Some(200), error));
    }
    let told = |name| answer.pointer("/statistics/query").and_then(|query| number(query, name));
    JobEnd::Done(Done { affected: told("numDmlAffectedRows"), billed: told("totalBytesBilled").unwrap_or(0) })
}

/// A number, which the service writes as text.
fn number(json: &Json, name: &str) -> Option<u64> {
    match json.get(name)? {
        Json::String(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}

/// The rows of an answer, and the token of the next page.
fn cells(answer: &Json) -> Result<(Vec<Cells>, Option<String>), Failure> {
    let senseless = || Failure::senseless("a row that is none");
    let none = Vec::new();
    let rows = answer.get("rows").and_then(Json::as_array).unwrap_or(&none);
    let rows = rows
        .iter()
        .map(|row| {
            let cells = row.get("f").and_then(Json::as_array).ok_or_else(senseless)?;
            cells
                .iter()
                .map(|cell| match cell.get("v") {
                    None | Some(Json::Null) => Ok(None),
                    Some(Json::String(text)) => Ok(Some(text.clone())),
                    Some(_) => Err(senseless()),
                })
                .collect()
        })
        .collect::<Result<_, _>>()?;
    let token = answer.get("pageToken").and_then(Json::as_str).filter(|token| !token.is_empty());
    Ok((rows, token.map(str::to_owned)))
}

/// A text that nobody else has.
pub(super) fn unique() -> String {
    let mut bytes = [0; 10];
    // Without chance, the time tells processes apart well enough.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes[..8].copy_from_slice(&u64::try_from(now.as_nanos()).unwrap_or(0).to_be_bytes());
    }
    hex(&bytes)
}

/// A part of a path.
pub(super) fn encoded(part: &str) -> String {
    let mut text = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':') {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push_str(&hex(&[byte]).to_uppercase());
        }
    }
    text
}
