//! `draft`: manifests for what stands in the stores.

use serde_json::json;

use crate::controller::tables;
use crate::plan::clean;
use crate::spec::draft::{Draft, draft as draft_of, missing};

use super::args::DraftArgs;
use super::session::Session;
use super::{Exit, Failure};

pub(super) async fn draft(session: &Session<'_>, args: &DraftArgs) -> Result<Exit, Failure> {
    // That a store has nothing mapped in it is why one drafts.
    let spec = session.loaded()?.spec;
    let wanted: Vec<Vec<String>> =
        args.tables.iter().map(|names| names.split('=').map(str::to_owned).collect()).collect();
    let found = tables(&spec).await?;
    let Draft { text, entities } = draft_of(&spec, &found, &wanted);
    let missing = missing(&spec, &found, &wanted);
    let message = if entities == 0 && wanted.is_empty() {
        Some("nothing to draft: every table that stands in the stores is mapped".to_owned())
    } else if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(|name| format!("`{}`", clean(name))).collect();
        let name = if names.len() == 1 { "name" } else { "names" };
        Some(format!(
            "no table of the {name} {} stands in the stores without being mapped",
            names.join(" and ")
        ))
    } else {
        None
    };
    if let Some(message) = message {
        return Err(Failure::new(message)
            .hint("`trueup validate --expand` shows what is mapped; views, and tables of other schemas, are not drafted"));
    }
    if session.ui.json {
        session.ui.json_page(&json!({"format_version": "1.0", "manifests": text}));
    } else {
        session.ui.out(&text);
    }
    Ok(Exit::Ok)
}
