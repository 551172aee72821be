//! `prompt`: a record of the canonical store in the words of a template, for a language model.

use std::path::Path;

use serde_json::json;

use crate::controller::Engine;
use crate::prompt::{self, Budget, PromptError};

use super::args::{PromptArgs, PromptFormat};
use super::session::{Session, record};
use super::{Exit, Failure};

/// Larger files are neither templates nor prompts.
const LARGEST_BYTES: u64 = 4 << 20;

pub(super) async fn prompt(session: &Session<'_>, args: &PromptArgs) -> Result<Exit, Failure> {
    let template = match &args.template {
        Some(path) => read(path)?,
        None => prompt::TEMPLATE.to_owned(),
    };
    let base = args.base.as_deref().map(read).transpose()?.unwrap_or_default();
    // A file ends with a line end, a prompt's part does not.
    let base = base.trim_end_matches(['\r', '\n']);
    let budget = match (args.budget, args.tokens) {
        (Some(bytes), _) => Budget::Bytes(bytes),
        (None, Some(tokens)) => Budget::Tokens(tokens),
        (None, None) => Budget::Unlimited,
    };

    let spec = session.load()?;
    let record = record(&spec, &args.record)?;
    let engine = Engine::open_to_look(spec).await;
    let Some(found) = engine.related(&record, prompt::PRIVATE_FIELD).await? else {
        return Err(Failure::new(format!("the canonical store has no {record}"))
            .hint("check the key; a record that is only elsewhere gets there with `trueup apply`"));
    };
    let built = prompt::build(&template, base, &found, budget)?;
    if !prompt::speaks_of(&template, &found) {
        session.ui.message(&format!(
            "Warning: the template names no field of {}, so nothing is said of the record; give one that does with --template FILE\n",
            record.entity
        ));
    }
    if !built.left_out.is_empty() {
        session.ui.message(&format!(
            "Warning: left out to keep within the budget: {}\n",
            crate::plan::clean(&built.left_out.join(", "))
        ));
    }
    if args.format == PromptFormat::Json || session.ui.json {
        session.ui.json_page(&json!({
            "format_version": "1.0", "record": record.to_string(), "prompt": built.text,
            "bytes": built.bytes, "tokens": built.tokens, "left_out": built.left_out,
        }));
    } else {
        session.ui.out(&built.text);
    }
    Ok(Exit::Ok)
}

impl From<PromptError> for Failure {
    fn from(error: PromptError) -> Self {
        Self::new(error.message).hint(error.hint)
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(format!("{} cannot be read: {why}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > LARGEST_BYTES {
        return Err(failed(format!("it is larger than {} MiB", LARGEST_BYTES >> 20)));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}
