//! What every command begins with: the manifests, the opened stores, and how a pass is to be made.

use std::sync::Arc;

use crate::controller::{Engine, PassOptions};
use crate::model::{EntityName, RecordId, RecordKey};
use crate::plan::Target;
use crate::spec::Spec;

use super::args::{PassArgs, Refresh, Shared, WorkArgs};
use super::manifests::{self, Loaded, Refused};
use super::output::{Ui, now};
use super::{Failure, progress};

/// A command being carried out.
pub(crate) struct Session<'a> {
    /// Where text goes.
    pub ui: &'a Ui,
    /// The options of all commands.
    pub shared: &'a Shared,
}

impl Session<'_> {
    /// Reads the manifests, shows their warnings, and refuses them when there are mistakes.
    pub(crate) fn load(&self) -> Result<Arc<Spec>, Failure> {
        let Loaded { spec, warnings, rendered, .. } = self.loaded()?;
        if !warnings.is_empty() {
            self.ui.message(&rendered);
        }
        Ok(spec)
    }

    /// Reads the manifests, and refuses them when there are mistakes.
    pub(super) fn loaded(&self) -> Result<Loaded, Failure> {
        match manifests::load(&self.shared.manifests, self.ui.error_color) {
            Ok(loaded) => Ok(loaded),
            Err(Refused::Unreadable(failure)) => Err(failure),
            Err(Refused::Mistakes { diagnostics, rendered }) => {
                if self.ui.json {
                    let at = now();
                    for found in &diagnostics {
                        self.ui.json_line(&crate::plan::json::stream::diagnostic(found, at));
                    }
                } else {
                    self.ui.message(&rendered);
                }
                Err(Failure::new("the manifests have mistakes; no store was contacted")
                    .hint("correct them and run `trueup validate`"))
            }
        }
    }

    /// Reads the manifests and opens what they name.
    pub(crate) async fn open(&self) -> Result<Engine, Failure> {
        Ok(Engine::open(self.load()?, false).await?)
    }

    /// Progress on the terminal, where one is to be drawn.
    pub(crate) fn progress(&self) -> progress::Progress {
        progress::Progress::start(self.ui.progress)
    }
}

/// How a pass is to be made.
pub(crate) fn pass_options(spec: &Spec, args: &PassArgs) -> Result<PassOptions, Failure> {
    let refresh = match args.refresh {
        Refresh::Normal => crate::controller::Refresh::Changed,
        Refresh::Full => crate::controller::Refresh::Full,
    };
    let named = |text: &String| {
        let told = |failure: Failure| Failure { message: format!("--target {}", failure.message), ..failure };
        target(spec, text).map_err(told)
    };
    let targets = args.target.iter().map(named).collect::<Result<_, _>>()?;
    let allow = args.allow.iter().copied().collect();
    Ok(PassOptions { targets, allow, refresh, ..work_options(&args.work) })
}

/// How work is shared out, as the engine takes it.
pub(crate) fn work_options(args: &WorkArgs) -> PassOptions {
    PassOptions {
        parallelism: args.parallelism.map(usize::from),
        lock_timeout_ms: u64::try_from(args.lock_timeout.as_millis()).unwrap_or(u64::MAX),
        ..PassOptions::default()
    }
}

/// An entity or record by its address: `contacts`, `contacts["C000127"]`, `people_businesses["a", "b"]`.
pub(crate) fn target(spec: &Spec, text: &str) -> Result<Target, Failure> {
    let bad = |why: String| {
        Failure::new(format!("{text}: {why}"))
            .hint("write `articles`, `articles[\"A-100\"]` or `stock[\"north\", \"A-100\"]`")
    };
    let text = text.trim();
    let (name, key) = match text.split_once('[') {
        Some((name, rest)) => (name, Some(format!("[{rest}"))),
        None => (text, None),
    };
    let known = EntityName::new(name).ok().filter(|name| spec.entity(name).is_some());
    let Some(entity) = known else { return Err(bad(unknown_entity(spec, name))) };
    let Some(key) = key else { return Ok(Target { entity, key: None }) };
    let parts: Vec<serde_json::Value> =
        serde_json::from_str(&key).map_err(|_| bad("the key is not in brackets and quotes".to_owned()))?;
    let parts: Option<Vec<String>> = parts
        .into_iter()
        .map(|part| match part {
            serde_json::Value::String(text) => Some(text),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect();
    let parts = parts.ok_or_else(|| bad("a part of a key is a text or a number".to_owned()))?;
    let wanted = spec.entity(&entity).map_or(0, |entity| entity.key.len());
    if parts.len() != wanted {
        return Err(bad(format!("the key of {entity} has {wanted} parts, not {}", parts.len())));
    }
    Ok(Target { entity, key: Some(RecordKey::new(parts)) })
}

/// A record by its address.
pub(crate) fn record(spec: &Spec, text: &str) -> Result<RecordId, Failure> {
    let Target { entity, key } = target(spec, text)?;
    let Some(key) = key else {
        return Err(Failure::new(format!("{text} names no record"))
            .hint(format!("write its key too: {entity}[\"…\"]")));
    };
    Ok(RecordId { entity, key })
}

/// Who gives the command, as far as the environment says, for people to read.
pub(crate) fn person() -> String {
    let user = ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    user.unwrap_or_else(|| "somebody on the command line".to_owned())
}

fn unknown_entity(spec: &Spec, name: &str) -> String {
    let store = name.split_once('.').filter(|(store, rest)| {
        let is_entity = EntityName::new(rest).is_ok_and(|rest| spec.entity(&rest).is_some());
        is_entity && spec.stores.keys().any(|known| known.as_str() == *store)
    });
    if let Some((store, rest)) = store {
        return format!("a record is made to agree in all stores: leave out `{store}.` and write `{rest}`");
    }
    let near = spec
        .entities
        .iter()
        .map(|entity| (strsim::levenshtein(name, entity.name.as_str()), &entity.name))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    let near = near.map_or(String::new(), |(_, near)| format!("; did you mean `{near}`?"));
    format!("there is no entity `{name}`{near}")
}
