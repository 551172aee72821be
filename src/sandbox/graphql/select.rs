//! Selections: which fields of which records are answered, relations fetched a page at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_graphql_parser::Positioned;
use async_graphql_parser::types::{Field as Selected, FragmentDefinition, Selection, SelectionSet};
use async_graphql_value::{Name, Value as Literal};
use serde_json::Value;

use super::super::answer::{Out, Refusal};
use super::super::list::Page;
use super::super::schema::{Field, FieldType, Object};
use super::super::world::World;

/// How deep selections may be nested.
const DEEPEST: usize = 12;

/// What selections may refer to.
#[derive(Clone, Copy)]
pub(super) struct Fragments<'a> {
    pub known: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    pub variables: &'a BTreeMap<String, Value>,
}

impl Fragments<'_> {
    /// The fields of a selection with fragments put in their place.
    pub(super) fn flattened<'s>(
        &'s self,
        set: &'s SelectionSet,
        on: &str,
    ) -> Result<Vec<&'s Selected>, Refusal> {
        let mut fields = Vec::new();
        self.flatten(set, on, 0, &mut fields)?;
        if fields.is_empty() {
            return Err(Refusal::bad(format!("A {on} needs a selection of its fields")));
        }
        let mut named: BTreeMap<&str, &Selected> = BTreeMap::new();
        let mut once = Vec::new();
        for field in fields {
            match named.insert(field.response_key().node.as_str(), field) {
                None => once.push(field),
                Some(earlier)
                    if earlier.name.node == field.name.node && is_leaf(field) && is_leaf(earlier) => {}
                Some(_) => {
                    let what = format!("\"{}\" selected twice", field.response_key().node);
                    return Err(Refusal::not_covered(what, "select it once, or by an alias"));
                }
            }
        }
        Ok(once)
    }

    fn flatten<'s>(
        &'s self,
        set: &'s SelectionSet,
        on: &str,
        depth: usize,
        fields: &mut Vec<&'s Selected>,
    ) -> Result<(), Refusal> {
        if depth > DEEPEST {
            return Err(Refusal::bad("Fragments are nested too deeply"));
        }
        for selection in set.items.iter().map(|item| &item.node) {
            let (condition, directives, inner) = match selection {
                Selection::Field(field) => {
                    if !field.node.directives.is_empty() {
                        return Err(Refusal::not_covered("directives", "leave them out"));
                    }
                    fields.push(&field.node);
                    continue;
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    let fragment = self.known.get(name);
                    let fragment =
                        fragment.ok_or_else(|| Refusal::bad(format!("Unknown fragment \"{name}\"")))?;
                    (
                        Some(&fragment.node.type_condition),
                        &spread.node.directives,
                        &fragment.node.selection_set,
                    )
                }
                Selection::InlineFragment(inline) => {
                    (inline.node.type_condition.as_ref(), &inline.node.directives, &inline.node.selection_set)
                }
            };
            if !directives.is_empty() {
                return Err(Refusal::not_covered("directives", "leave them out"));
            }
            if let Some(condition) = condition.filter(|condition| condition.node.on.node != on) {
                let message =
                    format!("A fragment on \"{}\" cannot be spread in a {on}", condition.node.on.node);
                return Err(Refusal::bad(message));
            }
            self.flatten(&inner.node, on, depth + 1, fields)?;
        }
        Ok(())
    }

    /// An argument's value with variables put in; none when it is a variable that was not given.
    pub(super) fn value(&self, literal: &Positioned<Literal>) -> Result<Option<Value>, Refusal> {
        if let Literal::Variable(name) = &literal.node {
            return Ok(self.variables.get(name.as_str()).cloned());
        }
        self.json(&literal.node).map(Some)
    }

    /// A literal with variables put in.
    pub(super) fn json(&self, literal: &Literal) -> Result<Value, Refusal> {
        Ok(match literal {
            Literal::Variable(name) => {
                let value = self.variables.get(name.as_str()).cloned();
                value.ok_or_else(|| {
                    Refusal::bad(format!("Variable \"${name}\" is not defined or not given"))
                })?
            }
            Literal::Null => Value::Null,
            Literal::Number(number) => Value::Number(number.clone()),
            Literal::String(text) => Value::String(text.clone()),
            Literal::Boolean(value) => Value::Bool(*value),
            Literal::Enum(name) => Value::String(name.to_string()),
            Literal::List(items) => {
                Value::Array(items.iter().map(|item| self.json(item)).collect::<Result<_, _>>()?)
            }
            Literal::Object(map) => {
                let entries = map.iter().map(|(key, value)| Ok((key.to_string(), self.json(value)?)));
                Value::Object(entries.collect::<Result<_, Refusal>>()?)
            }
            Literal::Binary(_) => return Err(Refusal::bad("bytes are not a value")),
        })
    }
}

fn is_leaf(field: &Selected) -> bool {
    field.selection_set.node.items.is_empty() && field.arguments.is_empty()
}

/// A field's value under the key that the client chose.
type Entries = Vec<(String, Out)>;

/// A page as a connection.
pub(super) fn connection(
    world: &World,
    fragments: &Fragments<'_>,
    object: &Arc<Object>,
    set: &SelectionSet,
    page: Page,
) -> Result<Out, Refusal> {
    let mut entries: Entries = Vec::new();
    let on = format!("{}Connection", object.type_name());
    let info: BTreeMap<&str, Value> = page.info().into();
    let mut rows = Some((page.rows, page.cursors));
    for field in fragments.flattened(set, &on)? {
        no_arguments(field)?;
        let inner = &field.selection_set.node;
        let value = match field.name.node.as_str() {
            "__typename" => Out::text(&on),
            "totalCount" => Out::Plain(page.total.into()),
            "pageInfo" => {
                let picked = fragments.flattened(inner, "PageInfo")?.into_iter().map(|field| {
                    let value = match field.name.node.as_str() {
                        "__typename" => Value::from("PageInfo"),
                        name => info.get(name).cloned().unwrap_or(Value::Null),
                    };
                    (field.response_key().node.to_string(), Out::Plain(value))
                });
                Out::Object(picked.collect())
            }
            "edges" => {
                let taken = rows
                    .take()
                    .ok_or_else(|| Refusal::not_covered("edges selected twice", "select them once"))?;
                edges(world, fragments, object, inner, taken)?
            }
            _ => Out::NULL,
        };
        entries.push((field.response_key().node.to_string(), value));
    }
    Ok(Out::Object(entries))
}

fn edges(
    world: &World,
    fragments: &Fragments<'_>,
    object: &Arc<Object>,
    set: &SelectionSet,
    (rows, cursors): (Vec<Out>, Vec<String>),
) -> Result<Out, Refusal> {
    let on = format!("{}Edge", object.type_name());
    let mut edges: Vec<Entries> = cursors.iter().map(|_| Vec::new()).collect();
    let mut rows = Some(rows);
    for field in fragments.flattened(set, &on)? {
        no_arguments(field)?;
        let key = field.response_key().node.to_string();
        let values: Vec<Out> = match field.name.node.as_str() {
            "cursor" => cursors.iter().map(Out::text).collect(),
            "__typename" => cursors.iter().map(|_| Out::text(&on)).collect(),
            "node" => {
                let rows = rows
                    .take()
                    .ok_or_else(|| Refusal::not_covered("node selected twice", "select it once"))?;
                records(world, fragments, object, &field.selection_set.node, &rows)?
            }
            _ => cursors.iter().map(|_| Out::NULL).collect(),
        };
        for (edge, value) in edges.iter_mut().zip(values) {
            edge.push((key.clone(), value));
        }
    }
    Ok(Out::List(edges.into_iter().map(Out::Object).collect()))
}

/// What is selected of some records of one object, in their order.
pub(super) fn records(
    world: &World,
    fragments: &Fragments<'_>,
    object: &Arc<Object>,
    set: &SelectionSet,
    rows: &[Out],
) -> Result<Vec<Out>, Refusal> {
    let mut picked: Vec<Entries> = rows.iter().map(|_| Vec::new()).collect();
    for selected in fragments.flattened(set, &object.type_name())? {
        no_arguments(selected)?;
        let key = selected.response_key().node.to_string();
        let name = selected.name.node.as_str();
        let field = object.field(name);
        let values: Vec<Out> = match field {
            Some(field) if field.kind == FieldType::Relation => {
                related(world, fragments, field, &selected.selection_set.node, rows)?
            }
            Some(field) if !field.kind.parts().is_empty() => {
                let parts = fragments.flattened(&selected.selection_set.node, &type_of(field))?;
                rows.iter().map(|row| composite(field, &parts, row)).collect()
            }
            _ if !selected.selection_set.node.items.is_empty()
                && (field.is_some() || name == "__typename") =>
            {
                return Err(Refusal::bad(format!(
                    "Field \"{name}\" must not have a selection: it has no sub-fields"
                )));
            }
            _ if name == "__typename" => rows.iter().map(|_| Out::text(object.type_name())).collect(),
            // Also ids of relations; what there is not comes back null.
            _ => rows.iter().map(|row| row.get(name).cloned().unwrap_or(Out::NULL)).collect(),
        };
        for (entries, value) in picked.iter_mut().zip(values) {
            entries.push((key.clone(), value));
        }
    }
    Ok(picked.into_iter().map(Out::Object).collect())
}

fn type_of(field: &Field) -> String {
    field
        .kind
        .name()
        .split('_')
        .map(|word| super::super::schema::capitalised(&word.to_ascii_lowercase()))
        .collect()
}

fn composite(field: &Field, parts: &[&Selected], row: &Out) -> Out {
    let value = row.get(&field.name);
    let entries = parts.iter().map(|part| {
        let name = part.name.node.as_str();
        let value = match name {
            "__typename" => Out::text(type_of(field)),
            _ => value.and_then(|value| value.get(name)).cloned().unwrap_or(Out::NULL),
        };
        (part.response_key().node.to_string(), value)
    });
    Out::Object(entries.collect())
}

fn related(
    world: &World,
    fragments: &Fragments<'_>,
    field: &Field,
    set: &SelectionSet,
    rows: &[Out],
) -> Result<Vec<Out>, Refusal> {
    if field.relation.as_ref().is_none_or(|relation| !relation.to_one) {
        let what = format!("selecting the many records of \"{}\"", field.name);
        return Err(Refusal::not_covered(what, "list them from their own side"));
    }
    let target = world.target(field)?;
    let (ids, found): (Vec<String>, Vec<Out>) = world.targets(&target, field, rows)?.into_iter().unzip();
    let picked = records(world, fragments, &target, set, &found)?;
    let by_id: BTreeMap<String, Out> = ids.into_iter().zip(picked).collect();
    let column = field.id_name();
    let pick = |row: &Out| row.get(&column).and_then(Out::as_text).and_then(|id| by_id.get(id)).cloned();
    Ok(rows.iter().map(|row| pick(row).unwrap_or(Out::NULL)).collect())
}

fn no_arguments(field: &Selected) -> Result<(), Refusal> {
    match field.arguments.first() {
        None => Ok(()),
        Some((name, _)) => {
            let what = format!("the argument \"{}\" of {}", name.node, field.name.node);
            Err(Refusal::not_covered(what, "leave it out"))
        }
    }
}
