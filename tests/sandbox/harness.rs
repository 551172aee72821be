//! A Twenty to test: the sandbox, or a real server where `TRUEUP_TEST_TWENTY_URL` and `TRUEUP_TEST_TWENTY_KEY` name one.
//!
//! Tests that take [`Twenty::any`] run on both. They use ids and values of their own and remove what they made. The others need what
//! no real server offers: a clock to move, faults, a bucket to empty.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use trueup::sandbox::{Options, Sandbox};

pub(crate) const KEY: &str = "key-of-the-sandbox";

pub(crate) struct Twenty {
    pub url: String,
    pub key: String,
    pub client: reqwest::Client,
    pub sandbox: Option<Sandbox>,
    made: Mutex<Vec<(String, String)>>,
}

/// Options of a sandbox that does not stand in a test's way.
pub(crate) fn roomy() -> Options {
    Options { calls_per_minute: 1_000_000, calls_per_second: 1_000_000, ..Options::new(KEY) }
}

impl Twenty {
    pub(crate) fn any() -> Self {
        let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (named("TRUEUP_TEST_TWENTY_URL"), named("TRUEUP_TEST_TWENTY_KEY")) {
            (Some(url), Some(key)) => Self::at(url.trim_end_matches('/').to_owned(), key, None),
            _ => Self::local(),
        }
    }

    pub(crate) fn local() -> Self {
        Self::with(roomy())
    }

    pub(crate) fn with(options: Options) -> Self {
        let sandbox = Sandbox::start(options).unwrap();
        Self::at(sandbox.url(), KEY.to_owned(), Some(sandbox))
    }

    fn at(url: String, key: String, sandbox: Option<Sandbox>) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, key, client, sandbox, made: Mutex::default() }
    }

    pub(crate) fn inside(&self) -> &Sandbox {
        self.sandbox.as_ref().unwrap()
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        loop {
            let (status, answer) = self.try_call(method, path, body).await.unwrap();
            let limited = answer["errors"][0]["extensions"]["subCode"] == "LIMIT_REACHED";
            if self.sandbox.is_some() || !(status == 429 || limited) {
                return (status, answer);
            }
            // A real server's limit, which nothing tells the end of.
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }

    pub(crate) async fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), reqwest::Error> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("POST", path, Some(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("PATCH", path, Some(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.call("DELETE", path, None).await
    }

    pub(crate) async fn graphql(&self, query: &str, variables: Value) -> (u16, Value) {
        self.post("/graphql", json!({"query": query, "variables": variables})).await
    }

    /// The records of a listing with this filter.
    pub(crate) async fn found(&self, plural: &str, filter: &str) -> Vec<Value> {
        let (status, answer) = self.get(&format!("/rest/{plural}?filter={}", encoded(filter))).await;
        assert_eq!(status, 200, "{filter}: {answer}");
        answer["data"][plural].as_array().unwrap().clone()
    }

    /// A record that is removed in the end.
    pub(crate) async fn create(&self, plural: &str, body: Value) -> Value {
        let (status, answer) = self.post(&format!("/rest/{plural}"), body).await;
        assert_eq!(status, 201, "{answer}");
        let record = answer["data"].as_object().unwrap().values().next().unwrap().clone();
        self.remember(plural, record["id"].as_str().unwrap());
        record
    }

    pub(crate) async fn person(&self, body: Value) -> Value {
        self.create("people", body).await
    }

    pub(crate) async fn read(&self, id: &Value) -> Value {
        let (status, answer) = self.get(&format!("/rest/people/{}", id.as_str().unwrap())).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"]["person"].clone()
    }

    /// Patches a person and gives it as it reads back.
    pub(crate) async fn change(&self, id: &Value, body: Value) -> Value {
        let (status, answer) = self.patch(&format!("/rest/people/{}", id.as_str().unwrap()), body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(self.read(id).await, answer["data"]["updatePerson"], "the answer is what reads back");
        answer["data"]["updatePerson"].clone()
    }

    /// A patch that is refused, with the status and message.
    pub(crate) async fn refused(&self, id: &Value, body: Value) -> (u16, String) {
        let before = self.read(id).await;
        let (status, answer) =
            self.patch(&format!("/rest/people/{}", id.as_str().unwrap()), body.clone()).await;
        assert!(status >= 400, "{body} was accepted: {answer}");
        assert_eq!(self.read(id).await, before, "a refusal changes nothing");
        (status, message(&answer))
    }

    pub(crate) fn remember(&self, plural: &str, id: &str) {
        self.made.lock().unwrap().push((plural.to_owned(), id.to_owned()));
    }

    /// Removes what was made.
    pub(crate) async fn clean(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap());
        for (plural, id) in made {
            self.delete(&format!("/rest/{plural}/{id}")).await;
        }
    }

    /// The objects with their fields, whichever of its two envelopes a server has.
    pub(crate) async fn objects(&self) -> Vec<Value> {
        let (status, answer) = self.get("/rest/metadata/objects?limit=1000").await;
        assert_eq!(status, 200, "{answer}");
        let data = &answer["data"];
        data.as_array().or_else(|| data["objects"].as_array()).unwrap().clone()
    }

    pub(crate) async fn object(&self, singular: &str) -> Value {
        let objects = self.objects().await;
        objects.into_iter().find(|object| object["nameSingular"] == singular).unwrap_or(Value::Null)
    }

    /// Sees to it that an object has a field.
    pub(crate) async fn field(&self, singular: &str, name: &str, more: Value) {
        let object = self.object(singular).await;
        let fields = object["fields"].as_array().unwrap();
        if fields.iter().any(|field| field["name"] == name) {
            return;
        }
        let mut body = json!({"objectMetadataId": object["id"], "name": name, "label": name});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = self.post("/rest/metadata/fields", body).await;
        assert_eq!(status, 201, "{answer}");
    }
}

/// What an error says.
pub(crate) fn message(answer: &Value) -> String {
    answer["messages"][0].as_str().unwrap_or_else(|| panic!("no message in {answer}")).to_owned()
}

/// Percent-encoded for a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
    }
    encoded
}

fn number() -> (u64, u64) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    (u64::try_from(nanos & 0xffff_ffff_ffff).unwrap(), NEXT.fetch_add(1, Ordering::SeqCst))
}

/// A UUID that no other test has; later ones are greater.
pub(crate) fn uuid() -> String {
    let (nanos, next) = number();
    format!("{:08x}-{:04x}-4{:03x}-8000-{nanos:012x}", next, std::process::id() & 0xffff, next & 0xfff)
}

/// An email that no other test has.
pub(crate) fn email() -> String {
    let (nanos, next) = number();
    format!("p{nanos:x}.{next}@example.com")
}
