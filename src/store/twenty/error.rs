//! What a server answers, sorted into the closed set of errors. No answer's text is shown where it may hold somebody's data.

use serde_json::Value as Json;

use crate::model::{ErrorKind, StoreError, StoreName};

/// Why a call came to nothing.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) error: StoreError,
    /// The server may have done what it was asked to.
    pub(super) may_have_happened: bool,
    /// The server itself says that it failed over what it was sent, and nothing on the way to it.
    pub(super) of_it: bool,
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl Failure {
    /// A call that certainly did nothing.
    pub(super) fn certain(error: StoreError) -> Self {
        Self { error, may_have_happened: false, of_it: false }
    }
}

/// The server never answered.
pub(super) fn unanswered(store: &StoreName, error: &reqwest::Error) -> Failure {
    // The error's own text has the address, which may hold a name and a password.
    let (message, may_have_happened) = if error.is_connect() {
        ("the server cannot be reached", false)
    } else if error.is_timeout() {
        ("the server did not answer in time", true)
    } else if error.is_builder() {
        ("the call could not be made", false)
    } else {
        ("the connection was lost before the answer came", true)
    };
    let error = StoreError::new(ErrorKind::Unavailable, store, message)
        .hint("see that it runs and that `url` leads to it");
    Failure { error, may_have_happened, of_it: false }
}

/// An answer that is none.
pub(super) fn senseless(store: &StoreName, what: &str) -> Failure {
    let error =
        StoreError::new(ErrorKind::Corrupt, store, format!("{what} answered something that makes no sense"))
            .hint("see that `url` is the server's own address, without a path");
    Failure { error, may_have_happened: true, of_it: false }
}

/// What an answer of an HTTP status means; none for one that is as it should be.
pub(super) fn of_status(store: &StoreName, status: u16, body: &Json, what: &str) -> Option<Failure> {
    if (200..300).contains(&status) {
        return None;
    }
    let told = |kind, message: String| StoreError::new(kind, store, message);
    let failure = match status {
        401 => Failure::certain(
            told(ErrorKind::Unauthorised, "the API key is not accepted".into())
                .hint("make a new one in the workspace's settings, and put it where `api_key` points"),
        ),
        403 => Failure::certain(
            told(ErrorKind::Unauthorised, format!("the API key may not do this ({what})"))
                .hint("give the key's role the rights to read and write these objects"),
        ),
        404 => Failure::certain(told(ErrorKind::NotFound, format!("{what} is not there"))),
        429 => Failure::certain(limited(store)),
        431 => Failure::certain(told(ErrorKind::Invalid, format!("{what}: the request is too long"))),
        400..500 if is_duplicate(body) => Failure::certain(
            told(ErrorKind::Conflict, format!("{what}: another record has a value that only one may have"))
                .hint("a deleted record counts as well: look among them too"),
        ),
        400..500 => Failure::certain(told(
            ErrorKind::Invalid,
            format!("{what} was refused (HTTP {status}){}", reason(body)),
        )),
        _ => Failure {
            error: told(ErrorKind::Unavailable, format!("the server failed (HTTP {status}, {what})")),
            may_have_happened: true,
            of_it: status == 500,
        },
    };
    Some(failure)
}

/// What errors in a GraphQL answer mean; none where there are none.
pub(super) fn of_graphql(store: &StoreName, body: &Json, what: &str) -> Option<Failure> {
    let errors = body.get("errors")?.as_array().filter(|errors| !errors.is_empty())?;
    let says = |name: &str, word: &str| {
        errors
            .iter()
            .any(|error| error.pointer(&format!("/extensions/{name}")).and_then(Json::as_str) == Some(word))
    };
    let told = |kind, message: String| StoreError::new(kind, store, message);
    let error = if says("subCode", "LIMIT_REACHED") {
        limited(store)
    } else if says("code", "UNAUTHENTICATED") || says("code", "FORBIDDEN") {
        told(ErrorKind::Unauthorised, format!("the API key may not do this ({what})"))
            .hint("give the key's role the rights to read and write these objects")
    } else if says("code", "BAD_USER_INPUT") || says("code", "GRAPHQL_VALIDATION_FAILED") {
        told(ErrorKind::Invalid, format!("{what} was refused{}", reason(body)))
    } else {
        told(ErrorKind::Unavailable, format!("the server failed ({what})"))
    };
    Some(Failure { may_have_happened: error.kind == ErrorKind::Unavailable, error, of_it: false })
}

fn limited(store: &StoreName) -> StoreError {
    StoreError::new(ErrorKind::RateLimited, store, "the server has had too many calls")
        .hint("lower `limits: {calls_per_minute: …}` to what the plan allows")
}

fn messages(body: &Json) -> impl Iterator<Item = &str> {
    let many = body.get("messages").and_then(Json::as_array).into_iter().flatten();
    let one = body.get("message");
    let graphql = body.get("errors").and_then(Json::as_array).into_iter().flatten();
    many.chain(one).chain(graphql.filter_map(|error| error.get("message"))).filter_map(Json::as_str)
}

fn is_duplicate(body: &Json) -> bool {
    messages(body).any(|message| message.to_ascii_lowercase().contains("duplicate"))
}

/// What the server says is wrong, as far as it is words: quoted values are somebody's data, and so may be digits.
fn reason(body: &Json) -> String {
    let Some(message) = messages(body).next() else { return String::new() };
    let mut words = Vec::new();
    let mut quoted = false;
    for word in message.split_whitespace().take(16) {
        let quotes = word.chars().filter(|c| matches!(c, '"' | '\'' | '`' | '“' | '”')).count();
        if quoted || quotes > 0 {
            quoted ^= quotes % 2 == 1;
            words.push("…");
        } else if word.chars().all(|c| c.is_ascii_alphabetic() || ".,;:()-".contains(c)) {
            words.push(word);
        } else {
            words.push("…");
        }
    }
    words.dedup();
    format!(": {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> StoreName {
        StoreName::new("crm").expect("a name")
    }

    #[test]
    fn both_ways_of_saying_too_many_are_understood() {
        let limit =
            serde_json::json!({"errors": [{"message": "x", "extensions": {"subCode": "LIMIT_REACHED"}}]});
        for failure in [of_status(&store(), 429, &Json::Null, "a"), of_graphql(&store(), &limit, "a")] {
            let failure = failure.expect("a failure");
            assert_eq!((failure.error.kind, failure.may_have_happened), (ErrorKind::RateLimited, false));
        }
        assert!(of_graphql(&store(), &serde_json::json!({"data": {}}), "a").is_none());
        assert!(of_status(&store(), 201, &Json::Null, "a").is_none());
    }

    #[test]
    fn only_a_server_error_leaves_it_open_whether_it_happened() {
        for (status, kind, open) in [
            (400, ErrorKind::Invalid, false),
            (401, ErrorKind::Unauthorised, false),
            (403, ErrorKind::Unauthorised, false),
            (404, ErrorKind::NotFound, false),
            (500, ErrorKind::Unavailable, true),
            (503, ErrorKind::Unavailable, true),
        ] {
            let failure = of_status(&store(), status, &Json::Null, "a").expect("a failure");
            assert_eq!((failure.error.kind, failure.may_have_happened), (kind, open), "{status}");
        }
        let twice = serde_json::json!({"messages": ["A duplicate entry was detected"]});
        assert_eq!(of_status(&store(), 400, &twice, "a").expect("told").error.kind, ErrorKind::Conflict);
    }

    #[test]
    fn values_in_a_servers_words_are_not_shown() {
        let body = serde_json::json!({"messages": ["Invalid value \"ann s3cret\" for field, got s3cret@example.com here"]});
        let failure = of_status(&store(), 400, &body, "people").expect("told");
        let text = failure.error.to_string();
        assert!(!text.contains("s3cret") && text.contains("Invalid value … for field,"), "{text}");
    }
}
