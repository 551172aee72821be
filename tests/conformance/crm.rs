//! A Twenty with people in it: the sandbox, whose people need no calls, or a real server, whose people work over REST.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};
use trueup::sandbox::{Options, Sandbox};

const KEY: &str = "a key of the sandbox";

pub(crate) enum Crm {
    Inside(Sandbox),
    Real { url: String, key: String, client: reqwest::Client },
}

impl Crm {
    /// The server that `TRUEUP_TEST_TWENTY_URL` and `TRUEUP_TEST_TWENTY_KEY` name, with a word that no other case has, for names of objects; else
    /// a sandbox, where none is needed.
    pub(crate) fn open() -> (Self, String) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(url), Some(key)) = (named("TRUEUP_TEST_TWENTY_URL"), named("TRUEUP_TEST_TWENTY_KEY")) {
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            let begun =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            let own = format!("t{}x{}", begun.as_millis(), NEXT.fetch_add(1, Ordering::SeqCst));
            return (Self::Real { url: url.trim_end_matches('/').to_owned(), key, client }, own);
        }
        let much = 1_000_000;
        let options = Options { calls_per_minute: much, calls_per_second: much, ..Options::new(KEY) };
        (Self::Inside(Sandbox::start(options).expect("started")), String::new())
    }

    /// Address and key.
    pub(crate) fn address(&self) -> (String, String) {
        match self {
            Self::Inside(sandbox) => (sandbox.url(), KEY.to_owned()),
            Self::Real { url, key, .. } => (url.clone(), key.clone()),
        }
    }

    /// All records of an object; there are few.
    pub(crate) async fn all(&self, plural: &str) -> Vec<Json> {
        if let Self::Inside(sandbox) = self {
            return sandbox.edit(|editor| editor.all(plural)).expect("listed");
        }
        let answer = self.call("GET", &format!("rest/{plural}?limit=200"), &Json::Null).await;
        answer["data"][plural].as_array().expect("a list").clone()
    }

    pub(crate) async fn create(&self, plural: &str, body: &Json) {
        match self {
            Self::Inside(sandbox) => {
                drop(sandbox.edit(|editor| editor.create(plural, body)).expect("created"));
            }
            Self::Real { .. } => drop(self.call("POST", &format!("rest/{plural}"), body).await),
        }
    }

    pub(crate) async fn patch(&self, plural: &str, id: &str, body: &Json) {
        match self {
            Self::Inside(sandbox) => {
                drop(sandbox.edit(|editor| editor.patch(plural, id, body)).expect("edited"));
            }
            Self::Real { .. } => drop(self.call("PATCH", &format!("rest/{plural}/{id}"), body).await),
        }
    }

    pub(crate) async fn destroy(&self, plural: &str, id: &str) {
        match self {
            Self::Inside(sandbox) => sandbox.edit(|editor| editor.destroy(plural, id)).expect("destroyed"),
            Self::Real { .. } => drop(self.call("DELETE", &format!("rest/{plural}/{id}"), &Json::Null).await),
        }
    }

    /// Takes a field away, as somebody may in the settings.
    pub(crate) async fn drop_field(&self, singular: &str, name: &str) {
        if let Self::Inside(sandbox) = self {
            return sandbox.edit(|editor| editor.drop_field(singular, name)).expect("dropped");
        }
        let answer = self.call("GET", "rest/metadata/objects?limit=1000", &Json::Null).await;
        let data = &answer["data"];
        let objects = data.as_array().or_else(|| data["objects"].as_array()).expect("a list");
        let object = objects.iter().find(|object| object["nameSingular"] == singular).expect("the object");
        let fields = object["fields"].as_array().expect("fields");
        let field = fields.iter().find(|field| field["name"] == name).expect("the field");
        let path = format!("rest/metadata/fields/{}", field["id"].as_str().expect("an id"));
        // As its interface has it, says its documentation: nobody has seen a server do it yet, and the sandbox refuses.
        self.call("PATCH", &path, &json!({ "isActive": false })).await;
        self.call("DELETE", &path, &Json::Null).await;
    }

    /// A call that is sent again as long as there were too many: nothing tells how long that is.
    async fn call(&self, method: &str, path: &str, body: &Json) -> Json {
        let Self::Real { url, key, client } = self else { unreachable!("the sandbox needs no calls") };
        loop {
            let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
            let mut request = client.request(method, format!("{url}/{path}")).bearer_auth(key);
            if !body.is_null() {
                request = request.json(body);
            }
            let answer = request.send().await.expect("an answer");
            let status = answer.status().as_u16();
            let text = answer.text().await.expect("an answer");
            if status == 429 {
                tokio::time::sleep(Duration::from_millis(700)).await;
                continue;
            }
            assert!(status < 300, "{path}: {status} {text}");
            return serde_json::from_str(&text).unwrap_or(Json::Null);
        }
    }
}
