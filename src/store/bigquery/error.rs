//! What went wrong at the service, in the closed set of kinds and without a value in the text.
//!
//! The service's own messages quote values: of them only words of a fixed set are passed on, as its reasons are.

use crate::model::{ErrorKind, StoreError, StoreName};

/// How a call, or a job, failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Failure {
    /// The status of the answer; none where none came.
    pub(super) status: Option<u16>,
    /// The service's word for it, such as `rateLimitExceeded`.
    pub(super) reason: String,
    /// The service asks to wait this long.
    pub(super) retry_after_ms: Option<u64>,
    /// Another statement was in the way.
    pub(super) serialization: bool,
    /// What was sent may have arrived.
    pub(super) sent: bool,
    /// What made no sense in an answer, in our words.
    pub(super) senseless: Option<&'static str>,
    /// The credentials could not be had, in our words.
    pub(super) credentials: Option<&'static str>,
    /// What the service said, in words of a fixed set.
    pub(super) said: Box<str>,
    /// The table that was read, where that is known.
    pub(super) table: Option<Box<str>>,
    /// Row access policies hide rows of it.
    pub(super) hidden: bool,
}

impl Failure {
    /// An answer that makes no sense.
    pub(super) fn senseless(what: &'static str) -> Self {
        Self { senseless: Some(what), sent: true, ..Self::default() }
    }

    /// What the service says of an error, as it stands in its answers and in jobs.
    pub(super) fn told(status: Option<u16>, error: &serde_json::Value) -> Self {
        let text = |json: &serde_json::Value, name: &str| {
            json.get(name).and_then(serde_json::Value::as_str).unwrap_or("").to_owned()
        };
        let first = error.get("errors").and_then(|errors| errors.get(0));
        let reason = match text(error, "reason") {
            reason if reason.is_empty() => first.map_or(String::new(), |first| text(first, "reason")),
            reason => reason,
        };
        let message = text(error, "message") + &first.map_or(String::new(), |first| text(first, "message"));
        let said = match text(error, "message") {
            said if said.is_empty() => message.clone(),
            said => said,
        };
        let is_too_large = status == Some(400)
            && reason != "invalidQuery"
            && ["payload size exceeds", "too large"].iter().any(|words| message.contains(words));
        // There is a status for it.
        let status = if is_too_large { Some(413) } else { status };
        let denied = status == Some(403) || reason == "accessDenied";
        Self {
            status,
            reason: reason.chars().filter(char::is_ascii_alphanumeric).take(40).collect(),
            serialization: message.contains("Could not serialize access")
                || message.contains("due to concurrent update"),
            said: known_words(&said).into(),
            hidden: denied && speaks_of_policies(&message),
            ..Self::default()
        }
    }

    /// The same, of a table that was read.
    pub(super) fn of_table(self, title: &str) -> Self {
        Self { table: Some(title.into()), ..self }
    }

    /// Whether the same once more is worth a try.
    pub(super) fn may_pass(&self) -> bool {
        self.credentials.is_none()
            && !self.hidden
            && (self.serialization
                || matches!(
                    self.reason.as_str(),
                    "rateLimitExceeded"
                        | "jobRateLimitExceeded"
                        | "backendError"
                        | "internalError"
                        | "tableUnavailable"
                        | "jobBackendError"
                        | "jobInternalError"
                )
                || match self.status {
                    None => self.reason.is_empty(),
                    Some(status) => status == 429 || status == 408 || status >= 500,
                })
            || self.reason == "quotaExceeded"
    }

    /// Whether it was the statement that was refused, so that a part of it may go through.
    pub(super) fn is_refusal(&self) -> bool {
        !self.may_pass()
            && (self.is_too_large() || matches!(self.reason.as_str(), "invalidQuery" | "invalid"))
    }

    /// Whether the call was larger than what the service takes.
    fn is_too_large(&self) -> bool {
        self.status == Some(413)
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.status == Some(404) || self.reason == "notFound"
    }

    pub(super) fn is_duplicate(&self) -> bool {
        self.status == Some(409) || self.reason == "duplicate"
    }

    pub(super) fn store_error(&self, store: &StoreName) -> StoreError {
        let new = |kind, message: String| StoreError::new(kind, store, message);
        if let Some(what) = self.credentials {
            return new(ErrorKind::Unauthorised, what.to_owned()).hint(
                "set the store's `credentials` to a service account's key, or log in with application-default credentials",
            );
        }
        if let Some(what) = self.senseless {
            return new(
                ErrorKind::Corrupt,
                format!("BigQuery answered in a way that makes no sense: {what}"),
            );
        }
        if self.hidden {
            let of = self.table.as_ref().map_or(String::new(), |table| format!(" of `{table}`"));
            return new(
                ErrorKind::Unauthorised,
                format!("row access policies may hide rows{of} from this account"),
            )
            .hint(SEEN_WHOLE_HINT);
        }
        let reason = match (self.status, self.reason.as_str()) {
            (Some(status), "") => format!("status {status}"),
            (_, reason) => format!("`{reason}`"),
        };
        if self.serialization {
            return new(ErrorKind::Unavailable, "other statements stood in the way again and again".into());
        }
        if self.is_too_large() {
            return new(
                ErrorKind::Invalid,
                "a row is larger than the 10 MB that BigQuery takes in a request".into(),
            )
            .hint("shorten it, or map the field that is as large elsewhere");
        }
        match self.reason.as_str() {
            "rateLimitExceeded" | "jobRateLimitExceeded" | "quotaExceeded" => {
                let told = new(ErrorKind::RateLimited, format!("BigQuery's quota is used up ({reason})"));
                return StoreError { retry_after_ms: self.retry_after_ms, ..told }
                    .hint("it is tried again in the next pass; raise the project's quota if this goes on");
            }
            "bytesBilledLimitExceeded" => {
                return new(ErrorKind::Invalid, "a query would read more bytes than it may".into())
                    .hint("raise the store's `limits.max_bytes_per_pass`");
            }
            "accessDenied" => {
                return new(ErrorKind::Unauthorised, "the account may not do this".into()).hint(ROLES_HINT);
            }
            "billingNotEnabled" => {
                return new(
                    ErrorKind::Unauthorised,
                    "the project has no billing, and cannot be written".into(),
                );
            }
            "responseTooLarge" | "resourcesExceeded" => {
                return new(ErrorKind::Unavailable, format!("BigQuery ran out of resources ({reason})"));
            }
            _ => {}
        }
        match self.status {
            None if self.reason.is_empty() => {
                new(ErrorKind::Unavailable, "BigQuery cannot be reached, or did not answer in time".into())
                    .hint("check the network, and the store's `emulator` if it names one")
            }
            Some(401) => new(ErrorKind::Unauthorised, "BigQuery refuses the credentials".into())
                .hint("check the store's `credentials`"),
            Some(403) => {
                new(ErrorKind::Unauthorised, format!("BigQuery refuses this ({reason})")).hint(ROLES_HINT)
            }
            Some(429) => StoreError {
                retry_after_ms: self.retry_after_ms,
                ..new(ErrorKind::RateLimited, "BigQuery takes no more calls for now".into())
            },
            Some(status) if status >= 500 || status == 408 => {
                new(ErrorKind::Unavailable, format!("BigQuery cannot answer now ({reason})"))
            }
            _ if self.is_not_found() => {
                new(ErrorKind::NotFound, "there is no such project, dataset, table or job".into()).hint(
                    "check the store's `project`, `dataset` and `location`; `trueup migrate` adds tables",
                )
            }
            _ if self.may_pass() => {
                new(ErrorKind::Unavailable, format!("BigQuery failed to do this ({reason})"))
            }
            _ => {
                let doing = self.table.as_ref().map_or(String::new(), |table| format!("reading `{table}`: "));
                let said = if self.said.is_empty() { String::new() } else { format!(": {}", self.said) };
                new(ErrorKind::Invalid, format!("{doing}BigQuery refuses this ({reason}){said}"))
            }
        }
    }
}

const ROLES_HINT: &str = "grant it BigQuery Data Editor on the dataset, and BigQuery Job User and Read Session User on the project";

const SEEN_WHOLE_HINT: &str = "a store has to be seen whole, for what is hidden looks deleted: grant this account a row access policy with \
    FILTER USING (TRUE) on the table, and the permission `bigquery.rowAccessPolicies.overrideTimeTravelRestrictions` (BigQuery Admin \
    has it), or do not map the table";

/// The words of a message that say what is wrong; any other may be a value.
fn known_words(message: &str) -> String {
    const MOST: usize = 40;
    const WORDS: &str = " a affect already an and argument array at aggregate bad be bignumeric bool but by bytes can cannot cast clause \
        coerce coerced column columns column(s) constraint could cluster date datetime delete denied dml does each elimination error exceed \
        exceeds exist exists expected field fields filter float64 for format found from function geography got has have in insert int64 \
        invalid is it json key least length limit long longer match matches matching maximum merge missing mode most must name no not null \
        number numeric of on one operator or out over overflow parameter partition partitioning precision query quota range read required row rows \
        scale schema signature size source statement statements streaming buffer string struct supported syntax table target than that the this time \
        timestamp to too large type types unexpected unknown unrecognized update used value values view was where which with without would write ";
    let mut said: Vec<&str> = Vec::new();
    for word in message.split_whitespace().take(MOST) {
        let plain = word.trim_matches(|char: char| !char.is_ascii_alphanumeric()).to_ascii_lowercase();
        let is_known = !plain.is_empty() && WORDS.contains(&format!(" {plain} "));
        match (is_known, said.last()) {
            (true, _) => said.push(word.trim_matches(|char: char| !char.is_ascii_alphanumeric())),
            (false, Some(&"…")) => {}
            (false, _) => said.push("…"),
        }
    }
    if said.iter().all(|word| *word == "…") { String::new() } else { said.join(" ") }
}

/// Whether the service's words for a refusal are about row access policies.
pub(super) fn speaks_of_policies(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["row access polic", "row-level access", "row level access", "row-level security", "row level security"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        let told = |status, reason: &str, message: &str| {
            let error = serde_json::json!({ "errors": [{ "reason": reason, "message": message }] });
            Failure::told(status, &error)
        };
        assert!(told(Some(403), "rateLimitExceeded", "").may_pass());
        assert!(told(Some(503), "", "").may_pass() && Failure::default().may_pass());
        let aborted = told(Some(400), "invalidQuery", "Could not serialize access to table d.t");
        assert!(aborted.may_pass() && !aborted.is_refusal());
        let wrong = told(Some(400), "invalidQuery", "Bad int64 value: s3cret");
        assert!(!wrong.may_pass() && wrong.is_refusal());
        let name = StoreName::new("bq").expect("a name");
        let text = wrong.of_table("people").store_error(&name).to_string();
        assert!(
            text.contains("reading `people`: BigQuery refuses this (`invalidQuery`): Bad int64 value …"),
            "{text}"
        );
        let buffer = "UPDATE or DELETE statement over table p.d.secret would affect rows in the streaming buffer, which is not supported";
        let text = told(Some(400), "invalidQuery", buffer).store_error(&name).to_string();
        let said = "UPDATE or DELETE statement over table … would affect rows in the streaming buffer which is not supported";
        assert!(text.contains(said) && !text.contains("secret"), "{text}");
        assert_eq!(known_words("s3cret 12.5 'Ada'"), "");
        assert_eq!(told(Some(403), "accessDenied", "").store_error(&name).kind, ErrorKind::Unauthorised);
        assert_eq!(told(Some(404), "notFound", "").store_error(&name).kind, ErrorKind::NotFound);
    }
}
