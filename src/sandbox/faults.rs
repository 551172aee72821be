//! What can go wrong between a client and a server, on request: for tests in the same process, never over the network.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::editor::Editor;

/// An edit that somebody else makes.
type Edit = Arc<dyn Fn(&mut Editor<'_>) + Send + Sync>;

/// Something that goes wrong with a call.
#[derive(Clone)]
pub enum Fault {
    /// The connection is dropped; nothing is done.
    Down,
    /// Nothing happens for so long; then the call is carried out.
    Slow(Duration),
    /// This status, and nothing is done.
    Status(u16),
    /// 429 without a Retry-After (over GraphQL: 200 with `LIMIT_REACHED`), and nothing is done.
    Limited,
    /// HTTP 200 with `errors` of this message, and nothing is done.
    Errors(String),
    /// The call is carried out, and the connection dropped before the answer.
    LoseAnswer,
    /// Once the answer is made, somebody else makes this edit: a page changes under its reader.
    Then(Edit),
}

impl Fault {
    /// An edit by somebody else, once the answer is made.
    pub fn then(edit: impl Fn(&mut Editor<'_>) + Send + Sync + 'static) -> Self {
        Self::Then(Arc::new(edit))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => to.write_str("Down"),
            Self::Slow(time) => write!(to, "Slow({time:?})"),
            Self::Status(status) => write!(to, "Status({status})"),
            Self::Limited => to.write_str("Limited"),
            Self::Errors(message) => write!(to, "Errors({message:?})"),
            Self::LoseAnswer => to.write_str("LoseAnswer"),
            Self::Then(_) => to.write_str("Then(..)"),
        }
    }
}

/// Which calls a fault befalls: all, unless narrowed.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    method: Option<String>,
    path: Option<String>,
    body: Option<String>,
    skip: u64,
    times: Option<u64>,
}

impl Calls {
    /// All calls.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those with this method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: Some(method.to_owned()), ..self }
    }

    /// Only those with this in their path.
    #[must_use]
    pub fn path(self, part: &str) -> Self {
        Self { path: Some(part.to_owned()), ..self }
    }

    /// Only those with this in their body.
    #[must_use]
    pub fn body(self, part: &str) -> Self {
        Self { body: Some(part.to_owned()), ..self }
    }

    /// Not the first so many.
    #[must_use]
    pub fn skip(self, calls: u64) -> Self {
        Self { skip: calls, ..self }
    }

    /// At most so many.
    #[must_use]
    pub fn times(self, calls: u64) -> Self {
        Self { times: Some(calls), ..self }
    }

    fn mean(&self, method: &str, path: &str, body: &[u8]) -> bool {
        let has = |part: &String| {
            part.is_empty() || body.windows(part.len()).any(|window| window == part.as_bytes())
        };
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.path.as_ref().is_none_or(|part| path.contains(part.as_str()))
            && self.body.as_ref().is_none_or(has)
    }
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    calls: Calls,
    hits: u64,
}

/// The faults of a sandbox. The first that a call meets befalls it.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    rules: Arc<Mutex<Vec<Rule>>>,
}

impl Faults {
    /// Adds a fault.
    pub fn add(&self, calls: Calls, fault: Fault) {
        self.with(|rules| rules.push(Rule { fault, calls, hits: 0 }));
    }

    /// Takes all faults away.
    pub fn clear(&self) {
        self.with(Vec::clear);
    }

    /// How many calls a fault has befallen since the last [`Faults::clear`].
    pub fn hits(&self) -> u64 {
        self.with(|rules| rules.iter().map(|rule| rule.hits).sum())
    }

    /// The fault that befalls a call.
    pub(super) fn befall(&self, method: &str, path: &str, body: &[u8]) -> Option<Fault> {
        self.with(|rules| {
            for rule in rules.iter_mut().filter(|rule| rule.calls.mean(method, path, body)) {
                if rule.calls.skip > 0 {
                    rule.calls.skip -= 1;
                } else if rule.calls.times != Some(0) {
                    rule.calls.times = rule.calls.times.map(|times| times - 1);
                    rule.hits += 1;
                    return Some(rule.fault.clone());
                }
            }
            None
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Rule>) -> T) -> T {
        work(&mut self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
