//! What is answered: JSON whose keys keep their order, and refusals with their status.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

/// JSON to be answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Out {
    /// A value without a key order of its own.
    Plain(Value),
    /// A value as jsonb gives it: shorter keys first, then by bytes.
    Jsonb(Value),
    /// Keys in this order.
    Object(Vec<(String, Out)>),
    /// A list.
    List(Vec<Out>),
}

impl Out {
    /// Null.
    pub(super) const NULL: Self = Self::Plain(Value::Null);

    /// Text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Plain(Value::String(text.into()))
    }

    /// An object with these keys in this order.
    pub(super) fn object<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// `{data: {name: value}}`.
    pub(super) fn data(name: impl Into<String>, value: Self) -> Self {
        Self::object([("data", Self::Object(vec![(name.into(), value)]))])
    }

    /// The value of a key, in an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of it, if it is text.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Plain(value) => value.as_str(),
            _ => None,
        }
    }

    /// As bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        // Maps with text keys can always be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl From<Value> for Out {
    fn from(value: Value) -> Self {
        Self::Plain(value)
    }
}

impl Serialize for Out {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) => value.serialize(to),
            Self::Jsonb(value) => Jsonb(value).serialize(to),
            Self::Object(entries) => to.collect_map(entries.iter().map(|(key, value)| (key, value))),
            Self::List(items) => to.collect_seq(items),
        }
    }
}

/// A value with its keys as jsonb orders them.
struct Jsonb<'a>(&'a Value);

impl Serialize for Jsonb<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| (key.len(), key.as_bytes()));
                let mut to = to.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    to.serialize_entry(key, &Jsonb(value))?;
                }
                to.end()
            }
            Value::Array(items) => {
                let mut to = to.serialize_seq(Some(items.len()))?;
                for item in items {
                    to.serialize_element(&Jsonb(item))?;
                }
                to.end()
            }
            other => other.serialize(to),
        }
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Out,
}

impl Answer {
    /// 200.
    pub(super) fn ok(body: Out) -> Self {
        Self { status: 200, body }
    }

    /// 201.
    pub(super) fn created(body: Out) -> Self {
        Self { status: 201, body }
    }
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub error: &'static str,
    pub message: String,
    /// GraphQL's `extensions.subCode`.
    pub sub_code: Option<&'static str>,
}

impl Refusal {
    fn new(status: u16, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into(), sub_code: None }
    }

    /// 400.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequestException", message)
    }

    /// 400, for what nobody has measured on a real server.
    pub(super) fn not_covered(what: impl std::fmt::Display, instead: impl std::fmt::Display) -> Self {
        Self::bad(format!(
            "{what}: what a real server does here has not been measured, so the sandbox refuses it; {instead}"
        ))
    }

    /// 401.
    pub(super) fn unauthorised() -> Self {
        Self::new(401, "UnauthorizedException", "Token invalid.")
    }

    /// 403.
    pub(super) fn forbidden() -> Self {
        Self::new(403, "ForbiddenException", "Missing authentication token")
    }

    /// 404.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "NotFoundException", message)
    }

    /// 429, without a word on when to come back.
    pub(super) fn limited(message: impl Into<String>) -> Self {
        Self { sub_code: Some("LIMIT_REACHED"), ..Self::new(429, "ThrottlerException", message) }
    }

    /// 431.
    pub(super) fn too_long() -> Self {
        Self::new(431, "RequestHeaderFieldsTooLarge", "URL and headers are longer than 16 KB")
    }

    /// 500.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalServerErrorException", message)
    }

    /// Another row holds a value that has to be unique.
    pub(super) fn duplicate() -> Self {
        Self { sub_code: Some("DUPLICATE_ENTRY_DETECTED"), ..Self::bad("A duplicate entry was detected") }
    }

    /// The same for a part of the request.
    pub(super) fn at(self, place: impl std::fmt::Display) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }

    /// As REST answers it.
    pub(super) fn rest(&self) -> Answer {
        let body = serde_json::json!({
            "statusCode": self.status, "error": self.error, "messages": [self.message],
        });
        Answer { status: self.status, body: Out::Plain(body) }
    }

    /// As an entry of GraphQL's `errors`.
    pub(super) fn graphql(&self) -> Value {
        let code = match self.status {
            400 => "BAD_USER_INPUT",
            401 => "UNAUTHENTICATED",
            403 => "FORBIDDEN",
            404 => "NOT_FOUND",
            429 => "BAD_REQUEST",
            _ => "INTERNAL_SERVER_ERROR",
        };
        let mut extensions = serde_json::json!({"code": code});
        if let Some(sub_code) = self.sub_code {
            extensions["subCode"] = sub_code.into();
        }
        serde_json::json!({"message": self.message, "extensions": extensions})
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        if let rusqlite::Error::SqliteFailure(failure, _) = &error {
            let unique =
                [rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE, rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY];
            if unique.contains(&failure.extended_code) {
                return Self::duplicate();
            }
        }
        Self::internal(format!("the sandbox's database: {error}"))
    }
}
