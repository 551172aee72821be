//! `draft`: manifests for what stands in the stores.

use crate::controller::tables;
use crate::spec::draft::{Draft, draft as draft_of};

use super::args::DraftArgs;
use super::session::Session;
use super::{Exit, Failure};

pub(super) async fn draft(session: &Session<'_>, args: &DraftArgs) -> Result<Exit, Failure> {
    // That a store has nothing mapped in it is why one drafts.
    let spec = session.loaded()?.spec;
    let wanted: Vec<Vec<String>> =
        args.tables.iter().map(|names| names.split('=').map(str::to_owned).collect()).collect();
    let Draft { text, entities } = draft_of(&spec, &tables(&spec).await?, &wanted);
    if entities == 0 {
        let message = if args.tables.is_empty() {
            "nothing to draft: every table that stands in the stores is mapped"
        } else {
            "nothing to draft: no table of such a name stands in the stores without being mapped"
        };
        return Err(Failure::new(message)
            .hint("`trueup validate --expand` shows what is mapped; views, and tables of other schemas, are not drafted"));
    }
    session.ui.out(&text);
    Ok(Exit::Ok)
}
