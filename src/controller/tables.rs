//! What stands in the stores, for drafting manifests.

use crate::spec::Spec;
use crate::spec::draft::Found;

use super::{EngineError, open};

/// The tables of every store of a spec. Nothing is made, and no state is looked for.
///
/// # Errors
/// When a store cannot be looked at: a draft without it would leave it out.
pub async fn tables(spec: &Spec) -> Result<Found, EngineError> {
    let mut found = Found::new();
    for (name, store) in open::stores(spec, false).await {
        found.insert(name, store?.tables().await?);
    }
    Ok(found)
}
