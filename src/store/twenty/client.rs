//! Calls to the server: paced, timed, tried again where that does no harm, and their answers told apart.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value as Json;

use crate::model::{ErrorKind, StoreError, StoreName};

use super::error::{Failure, of_graphql, of_status, senseless, unanswered};
use super::pace::{Clock, Pace, Pacer};

/// How often a call is sent that the server turned away for being too many, with growing waits in between: over a minute and a half in
/// all, in which an empty bucket is full again.
const TRIES_WHEN_LIMITED: u32 = 8;

/// The wait before a call is sent again that was turned away, at first. A token comes back in 0.6 s.
const FIRST_WAIT_MS: u64 = 700;

/// The longest such wait.
const LONGEST_WAIT_MS: u64 = 30_000;

/// How often reading is tried: it does no harm.
const TRIES_TO_READ: u32 = 2;

/// The wait before reading is tried again.
const WAIT_TO_READ_MS: u64 = 500;

/// Longer answers are not taken in: something is wrong.
const LONGEST_ANSWER_BYTES: usize = 512 << 20;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server, and how it is talked to.
pub(super) struct Client {
    store: StoreName,
    http: reqwest::Client,
    base: Url,
    pub(super) pacer: Pacer,
}

/// A call.
#[derive(Clone, Copy)]
struct Call<'a> {
    does: Does,
    method: &'a Method,
    path: &'a str,
    query: &'a [(&'a str, &'a str)],
    body: Option<&'a Json>,
    what: &'a str,
    /// How many tokens it takes.
    tokens: u64,
}

/// What a call does, for what may be done when its answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Read,
    Write,
}

impl Client {
    pub(super) fn new(
        store: &StoreName,
        url: &str,
        api_key: &str,
        pace: Pace,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let invalid = |message: &str| StoreError::new(ErrorKind::Invalid, store, message);
        // The error would show the address, which may hold a password.
        let mut base = Url::parse(url.trim())
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                invalid("the store's `url` is no web address").hint("write `https://crm.example.com`")
            })?;
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let mut headers = HeaderMap::new();
        let mut key = HeaderValue::from_str(&format!("Bearer {}", api_key.trim())).map_err(|_| {
            invalid("the API key has characters that no key has").hint("see what `api_key` refers to")
        })?;
        if api_key.trim().is_empty() {
            return Err(invalid("the API key is empty").hint("see what `api_key` refers to"));
        }
        key.set_sensitive(true);
        headers.insert(AUTHORIZATION, key);
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT)
            // Another address is not given the key.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("trueup/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| invalid("no client could be made for the server"))?;
        Ok(Self { store: store.clone(), http, base, pacer: Pacer::new(pace, clock) })
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.pacer.clock().now_ms()
    }

    /// Asks in GraphQL. `roots` is how many things are asked for: a server may count each.
    pub(super) async fn ask(
        &self,
        what: &str,
        query: &str,
        variables: Json,
        roots: u64,
    ) -> Result<Json, Failure> {
        self.pacer.take(roots).await;
        self.ask_paced(what, query, variables, roots).await
    }

    /// Asks in GraphQL, when the tokens for it have been taken.
    pub(super) async fn ask_paced(
        &self,
        what: &str,
        query: &str,
        variables: Json,
        roots: u64,
    ) -> Result<Json, Failure> {
        let body = serde_json::json!({ "query": query, "variables": variables });
        let mut tries = 1;
        loop {
            match self
                .call(Call {
                    does: Does::Read,
                    method: &Method::POST,
                    path: "graphql",
                    query: &[],
                    body: Some(&body),
                    what,
                    tokens: roots,
                })
                .await
            {
                Err(failure) if failure.error.kind == ErrorKind::Unavailable && tries < TRIES_TO_READ => {
                    tries += 1;
                    self.pacer.clock().sleep(Duration::from_millis(WAIT_TO_READ_MS)).await;
                    self.pacer.take(roots).await;
                }
                Err(failure) => return Err(failure),
                Ok(answer) => {
                    return match answer.get("data") {
                        Some(data) if data.is_object() => Ok(data.clone()),
                        _ => Err(senseless(&self.store, what)),
                    };
                }
            }
        }
    }

    /// Reads over REST.
    pub(super) async fn get(&self, what: &str, path: &str, query: &[(&str, &str)]) -> Result<Json, Failure> {
        let mut tries = 1;
        loop {
            self.pacer.take(1).await;
            match self
                .call(Call {
                    does: Does::Read,
                    method: &Method::GET,
                    path,
                    query,
                    body: None,
                    what,
                    tokens: 1,
                })
                .await
            {
                Err(failure) if failure.error.kind == ErrorKind::Unavailable && tries < TRIES_TO_READ => {
                    tries += 1;
                    self.pacer.clock().sleep(Duration::from_millis(WAIT_TO_READ_MS)).await;
                }
                done => return done,
            }
        }
    }

    /// Writes over REST.
    pub(super) async fn write(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: &Json,
    ) -> Result<Json, Failure> {
        self.pacer.take(1).await;
        self.write_paced(what, method, path, &[], Some(body)).await
    }

    /// Writes over REST, when the token for it has been taken.
    pub(super) async fn write_paced(
        &self,
        what: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Json>,
    ) -> Result<Json, Failure> {
        self.call(Call { does: Does::Write, method: &method, path, query, body, what, tokens: 1 }).await
    }

    /// A call whose token has been taken; sent again as long as the server turns it away for being too many.
    async fn call(&self, call: Call<'_>) -> Result<Json, Failure> {
        let mut wait = FIRST_WAIT_MS;
        let mut tries = 1;
        loop {
            let limited = match self.send(call).await {
                Err(failure) if failure.error.kind == ErrorKind::RateLimited => failure,
                Err(failure) if call.does == Does::Read => return Err(Failure::certain(failure.error)),
                done => return done,
            };
            if tries == TRIES_WHEN_LIMITED {
                let error = StoreError { retry_after_ms: Some(LONGEST_WAIT_MS), ..limited.error };
                return Err(Failure::certain(error));
            }
            tries += 1;
            self.pacer.drain();
            self.pacer.wait(Duration::from_millis(limited.error.retry_after_ms.unwrap_or(wait))).await;
            self.pacer.take(call.tokens).await;
            wait = (wait * 2).min(LONGEST_WAIT_MS);
        }
    }

    async fn send(&self, call: Call<'_>) -> Result<Json, Failure> {
        let Call { method, path, query, body, what, .. } = call;
        self.pacer.spent.calls.fetch_add(1, Ordering::Relaxed);
        let url = self.base.join(path).map_err(|_| senseless(&self.store, what))?;
        let mut request = self.http.request(method.clone(), url).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let lost = |error: reqwest::Error| unanswered(&self.store, &error);
        let answer = request.send().await.map_err(lost)?;
        let status = answer.status().as_u16();
        let retry_after = answer
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        let text = self.body(answer, what).await?;
        let json = serde_json::from_slice::<Json>(&text);
        let known = json.as_ref().unwrap_or(&Json::Null);
        if let Some(mut failure) = of_status(&self.store, status, known, what) {
            failure.error.retry_after_ms =
                retry_after.map(|seconds| seconds.saturating_mul(1_000).min(LONGEST_WAIT_MS));
            return Err(failure);
        }
        let json = json.map_err(|_| senseless(&self.store, what))?;
        of_graphql(&self.store, &json, what).map_or(Ok(json), Err)
    }

    async fn body(&self, mut answer: reqwest::Response, what: &str) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| unanswered(&self.store, &error))? {
            if bytes.len() + piece.len() > LONGEST_ANSWER_BYTES {
                return Err(senseless(&self.store, what));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}
