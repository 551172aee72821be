//! From texts to a [`Spec`], a stage a file: documents are gathered and read, then stores, entities, the links between
//! entities, mappings, and what must hold across all of them. No stage stops at its first mistake.

pub(super) mod audit;
mod controller;
mod coverage;
mod entity;
mod field;
mod gather;
mod link;
mod mapping;
mod place;
mod prune;
mod related;
mod store;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::raw::{ControllerBody, EntityBody, MappingBody, StoreBody};

use super::words::{name_hint, nearest};
use super::yaml::{Mark, Node};
use super::{Compiled, Source, Spec, expand};
use crate::model::{Diagnostic, Diagnostics, Place, Severity};

/// A document that has the form of its kind.
pub(super) struct Doc<B> {
    pub(super) file: String,
    pub(super) root: Node,
    pub(super) name: String,
    pub(super) body: B,
}

impl<B> Doc<B> {
    fn full<'p>(path: &[&'p str]) -> Vec<&'p str> {
        std::iter::once("spec").chain(path.iter().copied()).collect()
    }

    /// The place of a value; the path begins inside `spec`.
    fn place(&self, path: &[&str]) -> Place {
        self.mark(path).in_file(&self.file)
    }

    fn mark(&self, path: &[&str]) -> Mark {
        self.root.mark_at(&Self::full(path))
    }

    /// The place of the key that leads to a value.
    fn key_place(&self, path: &[&str]) -> Place {
        self.root.key_mark_at(&Self::full(path)).in_file(&self.file)
    }

    /// The place of the document's own name.
    fn name_place(&self) -> Place {
        self.root.mark_at(&["metadata", "name"]).in_file(&self.file)
    }

    fn node(&self, path: &[&str]) -> Option<&Node> {
        self.root.at(&Self::full(path))
    }
}

/// All documents that could be read.
#[derive(Default)]
pub(super) struct Docs {
    pub(super) stores: Vec<Doc<StoreBody>>,
    pub(super) entities: Vec<Doc<EntityBody>>,
    pub(super) mappings: Vec<Doc<MappingBody>>,
    pub(super) controllers: Vec<Doc<ControllerBody>>,
    /// Names of documents, by kind, that are there and could not be read: what refers to them is no mistake.
    broken: BTreeSet<(&'static str, String)>,
    /// Whether something was cut off by a syntax error, so that any name may be one that was not reached.
    cut: bool,
    /// Parts of documents that could not be read.
    taints: Vec<prune::Taint>,
}

impl Docs {
    /// Whether a name that nothing has may belong to a document that could not be read.
    fn may_be(&self, kind: &'static str, name: &str) -> bool {
        if self.broken.contains(&(kind, name.to_owned())) {
            return true;
        }
        let known: Vec<&str> = match kind {
            "Store" => self.stores.iter().map(|doc| doc.name.as_str()).collect(),
            _ => self.entities.iter().map(|doc| doc.name.as_str()).collect(),
        };
        // A name next to a known one is more likely misspelt than cut off.
        self.cut && nearest(name, known).is_none()
    }

    /// Whether any document of a kind could not be read.
    fn any_broken(&self, kind: &'static str) -> bool {
        self.cut || self.broken.iter().any(|(broken, _)| *broken == kind)
    }
}

/// Says that a name is known to nobody, with the nearest one there is.
fn unknown<'a>(what: &str, name: &str, place: Place, known: impl IntoIterator<Item = &'a str>) -> Diagnostic {
    let hint = name_hint(name, known);
    Diagnostic { hint, ..Diagnostic::error(format!("there is no {what} `{name}`")).at(place) }
}

/// Compiles manifests, and spells out what their short forms mean.
///
/// # Errors
/// All mistakes found, with the warnings, in the order of files and lines.
pub fn compile_all(
    folder: &Path,
    manifests: &[Source],
    side_files: &BTreeMap<String, String>,
) -> Result<Compiled, Diagnostics> {
    let mut out = Diagnostics::new();
    let spec = build(folder, manifests, side_files, &mut out);
    out.sort_by(|a, b| (&a.place, a.severity, &a.message).cmp(&(&b.place, b.severity, &b.message)));
    out.dedup();
    shorten(&mut out);
    match spec {
        Some((spec, expanded)) if out.iter().all(|found| found.severity != Severity::Error) => {
            Ok(Compiled { spec, expanded, warnings: out })
        }
        _ => {
            if out.iter().all(|found| found.severity != Severity::Error) {
                out.push(Diagnostic::error("the manifests cannot be used"));
            }
            Err(out)
        }
    }
}

/// A person reads some dozens of messages; errors are kept before warnings.
const MOST_MESSAGES: usize = 200;

fn shorten(out: &mut Diagnostics) {
    let more = out.len().saturating_sub(MOST_MESSAGES);
    if more == 0 {
        return;
    }
    let errors = out.iter().filter(|found| found.severity == Severity::Error).count();
    if errors > 0 {
        out.retain(|found| found.severity == Severity::Error);
    }
    out.truncate(MOST_MESSAGES);
    let severity = if errors > 0 { Severity::Error } else { Severity::Warning };
    out.push(Diagnostic { severity, ..Diagnostic::error(format!("and {more} more")) });
}

fn build(
    folder: &Path,
    manifests: &[Source],
    side_files: &BTreeMap<String, String>,
    out: &mut Diagnostics,
) -> Option<(Spec, String)> {
    let docs = gather::gather(manifests, out);
    let of_form = out.len();
    let stores = store::stores(&docs, out);
    let controller = controller::controller(&docs, folder, out);
    controller::suit(&docs, &controller, &stores.specs, out);
    let mut drafts = entity::entities(&docs, side_files, out);
    link::link(&docs, &mut drafts, out);
    let order = link::in_reference_order(&docs, &drafts, out);
    let entities: Vec<Arc<crate::model::Entity>> = order
        .into_iter()
        .filter_map(|at| drafts.get(at).map(|draft| Arc::new(draft.entity.clone())))
        .collect();
    let mut mappings = mapping::mappings(&docs, &entities, &stores, out);
    place::set_homes(&mut mappings, &stores.specs);
    coverage::check(&docs, &entities, &stores, &mappings, out);
    prune::without_follow_ups(&docs, of_form, out);
    // Without a canonical store there is nothing to compile to, and the mistake has been named.
    let canonical = stores.canonical.clone()?;
    let mut spec = Spec {
        folder: folder.to_owned(),
        sha: String::new(),
        canonical,
        stores: stores.specs,
        entities,
        mappings,
        controller,
    };
    let documents = expand::documents(&spec, &docs);
    spec.sha = expand::sha(&documents, &spec, side_files);
    let expanded = expand::text(&documents);
    Some((spec, expanded))
}
