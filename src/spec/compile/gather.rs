//! Files into documents: syntax, kind, form, names, and that nothing stands twice.

use serde::de::DeserializeOwned;

use super::prune::prune;
use super::{Doc, Docs};
use crate::model::{Diagnostic, Diagnostics, EntityName};
use crate::spec::Source;
use crate::spec::structure;
use crate::spec::words::mentions_reference;
use crate::spec::yaml::{self, Kind, Node, Scalar, shorten};

pub(super) fn gather(manifests: &[Source], out: &mut Diagnostics) -> Docs {
    let mut docs = Docs::default();
    for source in manifests {
        let (roots, whole) = yaml::parse(&source.file, &source.text, out);
        docs.cut |= !whole;
        for root in roots {
            add(&source.file, root, &mut docs, out);
        }
    }
    let nothing = docs.stores.is_empty() && docs.entities.is_empty() && docs.mappings.is_empty();
    if nothing && !docs.cut && docs.broken.is_empty() && out.is_empty() {
        out.push(
            Diagnostic::error("there are no manifests")
                .hint("write them as .yaml files, or try `trueup demo`"),
        );
    }
    out.extend(twice("store", &docs.stores));
    out.extend(twice("entity", &docs.entities));
    out.extend(twice("mapping", &docs.mappings));
    if let [first, rest @ ..] = docs.controllers.as_slice() {
        for other in rest {
            out.push(
                Diagnostic::error("there is a second Controller")
                    .at(other.root.mark_at(&["kind"]).in_file(&other.file))
                    .hint(format!("keep one; the first is `{}` in {}", first.name, first.file)),
            );
        }
    }
    docs
}

fn add(file: &str, root: Node, docs: &mut Docs, out: &mut Diagnostics) {
    let name = root.at(&["metadata", "name"]).and_then(Node::text).unwrap_or_default().to_owned();
    let before = out.len();
    let Some(kind) = structure::kind_of(file, &root, out) else {
        // What it was meant to declare is not known.
        docs.cut = true;
        return;
    };
    stray_references(file, kind, &root, &mut Vec::new(), out);
    let faults = structure::check(file, kind, &root, out);
    if root
        .at(&["metadata", "name"])
        .is_some_and(|node| matches!(node.kind, Kind::Scalar { is: Scalar::Text, .. }))
        && let Err(error) = EntityName::new(&name)
    {
        out.push(Diagnostic::error(error.to_string()).at(root.mark_at(&["metadata", "name"]).in_file(file)));
        docs.broken.insert((kind, name));
        return;
    }
    let root = if faults.is_empty() {
        root
    } else {
        // The rest of the document is checked all the same; what it declares may be what was taken out.
        docs.broken.insert((kind, name.clone()));
        let pruned = prune(file, &root, &faults, &mut docs.taints);
        if !structure::check(file, kind, &pruned, &mut Diagnostics::new()).is_empty() {
            return;
        }
        pruned
    };
    let read = match kind {
        "Store" => read(file, &name, root, &mut docs.stores, out),
        "Entity" => read(file, &name, root, &mut docs.entities, out),
        "Mapping" => read(file, &name, root, &mut docs.mappings, out),
        _ => read(file, &name, root, &mut docs.controllers, out),
    };
    if !read {
        debug_assert!(out.len() > before, "a document is dropped only with a message");
        docs.broken.insert((kind, name));
    }
}

fn read<B: DeserializeOwned>(
    file: &str,
    name: &str,
    root: Node,
    into: &mut Vec<Doc<B>>,
    out: &mut Diagnostics,
) -> bool {
    let body = root.get("spec").map(Node::to_yaml).unwrap_or_default();
    if let Ok(body) = serde_yaml::from_value(body) {
        into.push(Doc { file: file.to_owned(), root, name: name.to_owned(), body });
        return true;
    }
    // The schema comes from the same types, so this is a gap between the two; serde's own text may quote the manifest.
    out.push(
        Diagnostic::error("the document's `spec` cannot be read")
            .at(root.mark_at(&["spec"]).in_file(file))
            .hint("compare it with the JSON Schemas that `trueup schema` writes"),
    );
    false
}

fn twice<B>(what: &str, docs: &[Doc<B>]) -> Diagnostics {
    let mut found = Diagnostics::new();
    for (at, doc) in docs.iter().enumerate() {
        if let Some(first) = docs[..at].iter().find(|before| before.name == doc.name) {
            let line = first.name_place().line;
            found.push(
                Diagnostic::error(format!("there is a second {what} `{}`", doc.name))
                    .at(doc.name_place())
                    .hint(format!("rename or remove one; the first is at {}:{line}", first.file)),
            );
        }
    }
    found
}

/// References to the outside stand only where a store is connected to: anywhere else they would be taken as plain text.
fn stray_references(file: &str, kind: &str, node: &Node, path: &mut Vec<String>, out: &mut Diagnostics) {
    match &node.kind {
        Kind::Map(entries) => {
            for (key, value) in entries {
                path.push(key.text.clone());
                stray_references(file, kind, value, path, out);
                path.pop();
            }
        }
        Kind::Seq(items) => items.iter().for_each(|item| stray_references(file, kind, item, path, out)),
        Kind::Scalar { text, .. } => {
            let steps: Vec<&str> = path.iter().map(String::as_str).collect();
            let connects = kind == "Store"
                && matches!(steps.as_slice(), ["spec", "sqlite" | "postgres" | "bigquery" | "twenty", _]);
            let secret = kind == "Controller"
                && matches!(
                    steps.as_slice(),
                    ["spec", "http", "token"]
                        | ["spec", "state", "postgres", "url"]
                        | ["spec", "triggers", "webhooks", _, "secret"]
                );
            let free = matches!(steps.last(), Some(&("description" | "pattern")));
            if !connects && !secret && !free && mentions_reference(text) {
                out.push(
                    Diagnostic::error(format!("a reference cannot stand here: `{}`", shorten(text)))
                        .at(node.mark.in_file(file))
                        .hint(
                            "`${env:…}` and `${file:…}` are for a store's connection; write the value itself",
                        ),
                );
            }
        }
    }
}
