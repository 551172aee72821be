//! Reading a folder of manifests, for [`crate::spec`] to compile: the files at its top, and the JSON Schemas that they name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path};

use crate::model::{Diagnostic, Diagnostics};
use crate::spec::{self, Compiled, Source, Spec};

/// Larger files are no manifests; reading one whole would only fill memory.
const LARGEST_BYTES: u64 = 16 << 20;

/// Why a folder could not be loaded: what was found, and the texts to show it in.
#[derive(Debug)]
pub struct LoadError {
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
    /// The manifests as read.
    pub sources: Vec<Source>,
}

impl LoadError {
    /// The messages with the lines they are about.
    pub fn render(&self, colour: bool) -> String {
        spec::render(&self.diagnostics, &self.sources, colour)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spec::render_lines(&self.diagnostics))
    }
}
impl std::error::Error for LoadError {}

/// A folder's manifests, compiled, with the texts that warnings can be shown in.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The spec, its expanded form and the warnings.
    pub compiled: Compiled,
    /// The manifests as read.
    pub sources: Vec<Source>,
}

/// Loads a folder's manifests: `*.yaml` and `*.yml` at its top, in the order of their names.
///
/// # Errors
/// Every mistake found, or that the folder cannot be read.
pub fn load(folder: &Path) -> Result<(Spec, Diagnostics), LoadError> {
    load_all(folder).map(|loaded| (loaded.compiled.spec, loaded.compiled.warnings))
}

/// As [`load`], with the expanded form and the texts.
///
/// # Errors
/// As [`load`].
pub fn load_all(folder: &Path) -> Result<Loaded, LoadError> {
    let mut diagnostics = Diagnostics::new();
    let sources = read_manifests(folder, &mut diagnostics);
    let side_files = read_side_files(folder, &sources);
    if !diagnostics.is_empty() {
        // Without a file that cannot be read, what refers to it would look wrong as well.
        return Err(LoadError { diagnostics, sources });
    }
    match spec::compile_all(folder, &sources, &side_files) {
        Ok(compiled) => Ok(Loaded { compiled, sources }),
        Err(diagnostics) => Err(LoadError { diagnostics, sources }),
    }
}

fn read_manifests(folder: &Path, out: &mut Diagnostics) -> Vec<Source> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            out.push(
                Diagnostic::error(format!("the folder `{}` cannot be read: {error}", folder.display()))
                    .hint("name the manifests' folder with `-f DIR`"),
            );
            return Vec::new();
        }
    };
    let mut files: Vec<std::path::PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml") && path.is_file())
        // Editors leave their own files beside those being edited.
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
        .collect();
    files.sort();
    if files.is_empty() {
        out.push(
            Diagnostic::error(format!("there are no .yaml files in `{}`", folder.display()))
                .hint("write manifests there, or try `trueup demo`"),
        );
    }
    let mut sources = Vec::new();
    for path in files {
        match read_text(&path) {
            Ok(text) => sources.push(Source { file: path.display().to_string(), text }),
            Err(why) => out.push(Diagnostic::error(format!("`{}` cannot be read: {why}", path.display()))),
        }
    }
    sources
}

fn read_text(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > LARGEST_BYTES {
        return Err(format!("it is larger than {} MiB", LARGEST_BYTES >> 20));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| {
        let line = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()])
            .matches('\n')
            .count()
            + 1;
        format!("line {line} is not UTF-8")
    })
}

/// The files that the manifests name as schemas and that are there. One that is missing or outside the folder is left out,
/// and named by the compiler where it is used.
fn read_side_files(folder: &Path, sources: &[Source]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for name in spec::schema_files(sources) {
        let inside = Path::new(&name)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if inside && let Ok(text) = read_text(&folder.join(&name)) {
            files.insert(name, text);
        }
    }
    files
}
