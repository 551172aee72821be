//! A document with mistakes in its form, without them: so that the rest of it is still checked, and every mistake is told at once.
//! What may only follow from a part that was taken out is not told.

use super::Docs;
use crate::model::{Diagnostic, Diagnostics};
use crate::spec::yaml::{Kind, Mark, Node, Scalar};

/// A part of a document that was taken out.
pub(super) struct Taint {
    file: String,
    /// The bytes from the part's key to its end.
    span: (usize, usize),
    /// Where messages about a missing part begin: at the key of what it was in, or at the document's name.
    heads: Vec<usize>,
    /// The field that the part said something of.
    field: Option<String>,
}

/// Takes the parts at these paths out of a document. Fields of unknown type become texts.
pub(super) fn prune(file: &str, root: &Node, paths: &[Vec<String>], taints: &mut Vec<Taint>) -> Node {
    let mut pruned = root.clone();
    for path in paths {
        let steps: Vec<&str> = path.iter().map(String::as_str).collect();
        taints.push(taint(file, root, &steps));
        match steps.as_slice() {
            ["spec", section @ ("fields" | "key"), name, rest @ ..]
                if rest.is_empty() || rest == ["type"] =>
            {
                let step = ["spec", section, name];
                let inner: Vec<&str> = step.into_iter().chain(rest.iter().copied()).collect();
                if let Some(node) = node_mut(&mut pruned, &inner) {
                    node.kind = Kind::Scalar { is: Scalar::Text, text: "string".to_owned(), plain: true };
                }
            }
            _ => remove(&mut pruned, &steps),
        }
    }
    pruned
}

/// Leaves out what may only follow from parts that were taken out; what was found before `from` stays.
pub(super) fn without_follow_ups(docs: &Docs, from: usize, out: &mut Diagnostics) {
    let later = out.split_off(from.min(out.len()));
    out.extend(later.into_iter().filter(|found| !docs.taints.iter().any(|taint| taint.explains(found))));
}

impl Taint {
    fn explains(&self, found: &Diagnostic) -> bool {
        if self.field.as_ref().is_some_and(|field| found.message.contains(&format!("`{field}`"))) {
            return true;
        }
        found.place.as_ref().is_some_and(|place| {
            let at = place.span.0;
            place.file == self.file && ((self.span.0..=self.span.1).contains(&at) || self.heads.contains(&at))
        })
    }
}

fn taint(file: &str, root: &Node, path: &[&str]) -> Taint {
    // A field's parts depend on each other, so a mistake in one taints the field.
    let part = match path {
        ["spec", "fields" | "key", _, ..] => &path[..3],
        ["spec", "stores", _, "fields" | "where", _, ..] => &path[..5],
        ["spec", "stores", _, "sync", ..] => &path[..4],
        _ => path,
    };
    let start = root.key_mark_at(part).span.0;
    let end = root.at(part).map_or(start, |node| node.mark.span.1);
    let parent = &part[..part.len().saturating_sub(1)];
    let name = root.mark_at(&["metadata", "name"]);
    let mut heads: Vec<Mark> = vec![root.key_mark_at(parent)];
    if parent.len() <= 1 {
        heads.push(name);
    }
    let field = match path {
        ["spec", "fields" | "key", field, ..] | ["spec", "stores", _, "fields", field, ..] => {
            Some((*field).to_owned())
        }
        _ => None,
    };
    let heads = heads.into_iter().map(|mark| mark.span.0).collect();
    Taint { file: file.to_owned(), span: (start, end.max(start)), heads, field }
}

fn node_mut<'a>(node: &'a mut Node, path: &[&str]) -> Option<&'a mut Node> {
    let Some((step, rest)) = path.split_first() else { return Some(node) };
    let next = match &mut node.kind {
        Kind::Map(entries) => entries.iter_mut().find(|(key, _)| key.text == *step).map(|(_, node)| node),
        Kind::Seq(items) => items.get_mut(step.parse::<usize>().ok()?),
        Kind::Scalar { .. } => None,
    };
    node_mut(next?, rest)
}

fn remove(root: &mut Node, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    let Some(parent) = node_mut(root, parents) else { return };
    match &mut parent.kind {
        Kind::Map(entries) => entries.retain(|(key, _)| key.text != *last),
        // The places of the other items stay what they are: the item is made empty text, and its part is tainted.
        Kind::Seq(items) => {
            if let Some(item) = last.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                item.kind = Kind::Scalar { is: Scalar::Text, text: String::new(), plain: false };
            }
        }
        Kind::Scalar { .. } => {}
    }
}
