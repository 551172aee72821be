//! The seam between the commands and the manifests: the one place that knows how a folder becomes a spec.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::model::Diagnostics;
use crate::spec::{self, Spec};

use super::Failure;

/// Manifests, read and compiled.
pub(super) struct Loaded {
    /// What they say.
    pub spec: Arc<Spec>,
    /// What is worth knowing.
    pub warnings: Diagnostics,
    /// The warnings as text for people.
    pub rendered: String,
    /// The manifests with everything written out.
    pub expanded: String,
}

/// Why a folder is no spec.
pub(super) enum Refused {
    /// It cannot be read.
    Unreadable(Failure),
    /// There are mistakes in it.
    Mistakes {
        /// All of them, and the warnings.
        diagnostics: Diagnostics,
        /// The same as text for people.
        rendered: String,
    },
}

/// Reads and compiles a folder.
pub(super) fn load(folder: &Path, color: bool) -> Result<Loaded, Refused> {
    if !folder.is_dir() {
        let message = format!("there is no folder of manifests at {}", folder.display());
        return Err(Refused::Unreadable(
            Failure::new(message).hint("name it with -f DIR, or try `trueup demo`"),
        ));
    }
    match super::load::load_all(folder) {
        Ok(loaded) => {
            let compiled = loaded.compiled;
            Ok(Loaded {
                spec: Arc::new(compiled.spec),
                rendered: spec::render(&compiled.warnings, &loaded.sources, color),
                warnings: compiled.warnings,
                expanded: compiled.expanded,
            })
        }
        Err(error) => {
            let rendered = error.render(color);
            Err(Refused::Mistakes { diagnostics: error.diagnostics, rendered })
        }
    }
}

/// The JSON Schemas of manifests by file name.
pub(super) fn schemas() -> BTreeMap<String, String> {
    spec::schemas().into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}
