//! The demo's CRM: a stand-in for Twenty, served by this process, with people in it whom nobody gave a key.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::sandbox::{Editor, Options, Sandbox};

use super::super::Failure;
use super::folder::{MANIFESTS, Moment};
use super::place;

/// The store that it is.
pub(super) const NAME: &str = "crm";

const MANIFEST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/twenty/twenty.yaml"));
const FIRST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/twenty/first.json"));
const LATER: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/twenty/later.json"));
const SERVE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/twenty/serve.json"));

/// What the manifest says in place of the address.
const ADDRESS: &str = "CRM_URL";

/// The key that it asks for. It serves this machine alone, and invented people.
const KEY: &str = "demo";

/// Calls a minute: the demo is not to wait. The manifest says the same.
const CALLS_PER_MINUTE: u32 = 6_000;

/// What somebody does in the CRM.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// For the reader.
    #[serde(default, rename = "why")]
    _why: String,
    /// Makes a record of this object, in the plural.
    create: Option<String>,
    /// Changes a record of this object, in the plural.
    change: Option<String>,
    /// Which record is changed, by its fields.
    #[serde(default, rename = "where")]
    which: serde_json::Map<String, Value>,
    record: Value,
}

/// The CRM, as long as it serves.
pub(super) struct Crm {
    sandbox: Sandbox,
    data: PathBuf,
}

impl Crm {
    /// Starts it over a file of its own, with what people typed in, and writes into the demo's manifests where it is.
    pub(super) fn start(dir: &Path) -> Result<Self, Failure> {
        let data = dir.join("stores").join(format!("{NAME}.db"));
        let options =
            Options { data: Some(data.clone()), calls_per_minute: CALLS_PER_MINUTE, ..Options::new(KEY) };
        let sandbox = Sandbox::start(options).map_err(Failure::new)?;
        let write = |path: &Path, text: &str| {
            let failed = |error| Failure::new(format!("cannot write {}: {error}", path.display()));
            fs::write(path, text).map_err(failed)
        };
        write(&dir.join("stores").join(format!("{NAME}.key")), KEY)?;
        let manifest = MANIFEST.replace("../../../schemas/", "../schemas/").replace(ADDRESS, &sandbox.url());
        write(&dir.join(MANIFESTS).join("twenty.yaml"), &manifest)?;
        let crm = Self { sandbox, data };
        crm.run(Moment::First)?;
        Ok(crm)
    }

    /// Where it serves.
    pub(super) fn url(&self) -> String {
        self.sandbox.url()
    }

    /// Does in it what its own people did.
    pub(super) fn run(&self, moment: Moment) -> Result<(), Failure> {
        let text = if moment == Moment::First { FIRST } else { LATER };
        steps(text)?.iter().try_for_each(|step| self.take(step))
    }

    /// Makes the edit number `n` of those that go on for ever.
    pub(super) fn edit(&self, n: usize) -> Result<(), Failure> {
        let steps = steps(&SERVE.replace("{n}", &n.to_string()))?;
        steps.get(n % steps.len().max(1)).map_or(Ok(()), |step| self.take(step))
    }

    fn take(&self, step: &Step) -> Result<(), Failure> {
        self.sandbox.edit(|editor| taken(editor, step))
    }

    /// The command that serves it again, in the demo's folder.
    pub(super) fn again(&self) -> String {
        let file = self.data.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!(
            "{} sandbox twenty --port {} --key {KEY} --data stores/{file} --calls-per-minute {CALLS_PER_MINUTE}",
            place::program(),
            self.sandbox.address().port()
        )
    }
}

fn steps(text: &str) -> Result<Vec<Step>, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::new(format!("the demo's own steps: {error}")))
}

fn taken(editor: &mut Editor<'_>, step: &Step) -> Result<(), Failure> {
    let refused = |error: crate::sandbox::Refused| Failure::new(format!("the CRM refused an edit: {error}"));
    if let Some(plural) = &step.create {
        editor.create(plural, &step.record).map_err(refused)?;
    }
    if let Some(plural) = &step.change {
        let is_it = |record: &&Value| step.which.iter().all(|(name, value)| record.get(name) == Some(value));
        let all = editor.all(plural).map_err(refused)?;
        let id = all.iter().find(is_it).and_then(|record| record.get("id")?.as_str());
        let id = id.ok_or_else(|| Failure::new("the CRM has lost somebody whom the demo meant to edit"))?;
        editor.patch(plural, id, &step.record).map_err(refused)?;
    }
    Ok(())
}
