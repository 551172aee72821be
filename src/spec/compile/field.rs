//! Fields: their types, the rules their values keep, and how derived ones are computed.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use super::value::{compare, read};
use super::{Doc, entity::field_names, unknown};
use crate::model::{
    Check, Derive, DeriveFn, Diagnostic, Diagnostics, Entity, Field, FieldName, FieldRef, FieldType, Range,
    Value,
};
use crate::spec::raw::{EntityBody, FieldBody, FieldEntry};
use crate::spec::words::{list, name_hint};
use crate::spec::yaml::{Kind, shorten};

/// A field in its long form.
pub(super) fn field_body(entry: &FieldEntry) -> FieldBody {
    match entry {
        FieldEntry::Short(ty) => FieldBody { ty: Some(*ty), ..FieldBody::default() },
        FieldEntry::Long(body) => body.as_ref().clone(),
    }
}

/// The fields, without what depends on other fields of the entity.
pub(super) fn fields(
    doc: &Doc<EntityBody>,
    side_files: &BTreeMap<String, String>,
    out: &mut Diagnostics,
) -> Vec<Field> {
    let mut fields = Vec::new();
    for (name, entry) in doc.body.fields.iter() {
        let body = field_body(entry);
        let ty = field_type(doc, name, &body, out);
        let mut reader = FieldReader { doc, name, body: &body, ty, out };
        let checks = reader.checks(side_files);
        reader.flags();
        match FieldName::new(name) {
            Err(error) => {
                out.push(Diagnostic::error(error.to_string()).at(doc.key_place(&["fields", name])));
            }
            Ok(name) => fields.push(Field {
                name,
                ty,
                required: body.required,
                unique: body.unique,
                sensitive: body.sensitive,
                checks,
                derive: None,
                description: body.description.clone(),
            }),
        }
    }
    fields
}

/// The type given, or the one that follows from what else is said.
fn field_type(doc: &Doc<EntityBody>, name: &str, body: &FieldBody, out: &mut Diagnostics) -> FieldType {
    if let Some(ty) = body.ty {
        return ty;
    }
    if body.schema.is_some() {
        return FieldType::Json;
    }
    if body.one_of.is_none() && body.pattern.is_none() && body.derive.is_none() {
        out.push(
            Diagnostic::error(format!("`{name}` has no type"))
                .at(doc.key_place(&["fields", name]))
                .hint("add `type: string`, or another of the types"),
        );
    }
    FieldType::String
}

struct FieldReader<'a> {
    doc: &'a Doc<EntityBody>,
    name: &'a str,
    body: &'a FieldBody,
    ty: FieldType,
    out: &'a mut Diagnostics,
}

impl FieldReader<'_> {
    fn error(&mut self, step: &str, message: String, hint: &str) {
        let place = self.doc.place(&["fields", self.name, step]);
        let found = Diagnostic::error(message).at(place);
        self.out.push(if hint.is_empty() { found } else { found.hint(hint) });
    }

    fn is_text(&self) -> bool {
        matches!(self.ty, FieldType::String | FieldType::StringList)
    }

    fn checks(&mut self, side_files: &BTreeMap<String, String>) -> Vec<Check> {
        let checks = [self.one_of(), self.pattern(), self.range(), self.schema(side_files)];
        checks.into_iter().flatten().collect()
    }

    fn one_of(&mut self) -> Option<Check> {
        let words = self.body.one_of.as_ref()?;
        if !self.is_text() {
            let message = format!("`enum` is for texts, and `{}` is `{}`", self.name, self.ty.as_str());
            let place = self.doc.key_place(&["fields", self.name, "enum"]);
            self.out
                .push(Diagnostic::error(message).at(place).hint("use `range`, or make the field a `string`"));
        }
        if words.is_empty() {
            self.error("enum", format!("`{}` allows no value at all", self.name), "list the texts allowed");
        }
        for (at, word) in words.iter().enumerate() {
            let step = at.to_string();
            let path = ["fields", self.name, "enum", &step];
            if words[..at].contains(word) {
                let place = self.doc.place(&path);
                self.out.push(Diagnostic::error(format!("`{}` is listed twice", shorten(word))).at(place));
            }
            let plain =
                matches!(self.doc.node(&path).map(|node| &node.kind), Some(Kind::Scalar { plain: true, .. }));
            if plain && matches!(word.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off" | "y" | "n")
            {
                let place = self.doc.place(&path);
                self.out.push(
                    Diagnostic::warning(format!(
                        "`{word}` is a text here, and a truth value to readers of YAML 1.1"
                    ))
                    .at(place)
                    .hint(format!("put it in quotes: `\"{word}\"`")),
                );
            }
        }
        Some(Check::Enum(words.iter().cloned().collect()))
    }

    fn pattern(&mut self) -> Option<Check> {
        let pattern = self.body.pattern.clone()?;
        if !self.is_text() {
            let message = format!("`pattern` is for texts, and `{}` is `{}`", self.name, self.ty.as_str());
            let place = self.doc.key_place(&["fields", self.name, "pattern"]);
            self.out.push(Diagnostic::error(message).at(place));
        }
        Some(Check::Pattern(pattern))
    }

    fn range(&mut self) -> Option<Check> {
        self.body.range.as_ref()?;
        let ordered = matches!(
            self.ty,
            FieldType::Int64
                | FieldType::Float64
                | FieldType::Numeric
                | FieldType::Date
                | FieldType::Timestamp
        );
        if !ordered {
            let message = format!(
                "`range` is for numbers, dates and timestamps, and `{}` is `{}`",
                self.name,
                self.ty.as_str()
            );
            let place = self.doc.key_place(&["fields", self.name, "range"]);
            self.out.push(Diagnostic::error(message).at(place));
            return None;
        }
        let range = Range { min: self.bound("min", "0"), max: self.bound("max", "1") };
        if let (Some(min), Some(max)) = (&range.min, &range.max)
            && compare(min, max).is_some_and(std::cmp::Ordering::is_gt)
        {
            self.error(
                "range",
                format!("nothing is between {min} and {max}"),
                "the lesser bound comes first",
            );
        }
        if range.min.is_none() && range.max.is_none() && self.body_has_no_bounds() {
            self.error("range", "the range has neither `min` nor `max`".to_owned(), "");
        }
        Some(Check::Range(range))
    }

    fn body_has_no_bounds(&self) -> bool {
        self.doc
            .node(&["fields", self.name, "range"])
            .is_some_and(|node| node.get("min").or(node.get("max")).is_none())
    }

    fn bound(&mut self, key: &str, index: &str) -> Option<Value> {
        let range = self.doc.node(&["fields", self.name, "range"])?;
        let step = if range.get(key).is_some() { key } else { index };
        match read(range.get(step)?, self.ty) {
            Ok(value) => Some(value),
            Err((why, hint)) => {
                let place = self.doc.place(&["fields", self.name, "range", step]);
                self.out.push(Diagnostic { hint, ..Diagnostic::error(why).at(place) });
                None
            }
        }
    }

    fn schema(&mut self, side_files: &BTreeMap<String, String>) -> Option<Check> {
        let file = self.body.schema.clone()?;
        if self.ty != FieldType::Json {
            let message = format!("`schema` is for JSON, and `{}` is `{}`", self.name, self.ty.as_str());
            self.error("schema", message, "make the field `type: json`");
            return None;
        }
        let Some(text) = side_files.get(&file) else {
            let hint = name_hint(&file, side_files.keys().map(String::as_str));
            let place = self.doc.place(&["fields", self.name, "schema"]);
            let message = format!("there is no file `{}` beside the manifests", shorten(&file));
            let hint = hint.or_else(|| Some("a JSON Schema stands in the manifests' folder".to_owned()));
            self.out.push(Diagnostic { hint, ..Diagnostic::error(message).at(place) });
            return None;
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let schema: serde_json::Value = match serde_json::from_str(text) {
            Ok(schema) => schema,
            Err(error) => {
                self.error("schema", format!("`{}` is not JSON: {error}", shorten(&file)), "");
                return None;
            }
        };
        // References to other files or to the network are not followed: the manifests' folder is all there is.
        match jsonschema::validator_for(&schema) {
            Ok(validator) => Some(Check::JsonSchema { file, validator: Arc::new(validator) }),
            Err(error) => {
                let at = error.instance_path().as_str().to_owned();
                let at = if at.is_empty() { String::new() } else { format!(" (at `{}`)", shorten(&at)) };
                let why = format!("`{}` is no JSON Schema that can be used{at}", shorten(&file));
                self.error("schema", why, "a schema stands alone: `$ref` leads to places in the same file");
                None
            }
        }
    }

    fn flags(&mut self) {
        if self.body.unique && matches!(self.ty, FieldType::Json | FieldType::StringList) {
            let message = format!("a `{}` field cannot be unique", self.ty.as_str());
            self.error("unique", message, "make a field of the part that is unique");
        }
        if self.body.recompute.is_some() && self.body.derive.is_none() {
            self.error(
                "recompute",
                format!("`{}` is not derived", self.name),
                "remove `recompute`, or add `derive`",
            );
        }
    }
}

/// What fields say of other fields of their entity: derivations and patterns with placeholders.
pub(super) fn link_fields(doc: &Doc<EntityBody>, entity: &mut Entity, out: &mut Diagnostics) {
    let mut derived: BTreeMap<usize, Derive> = BTreeMap::new();
    for (at, field) in entity.fields.iter().enumerate() {
        let name = field.name.as_str();
        let Some(body) = doc.body.fields.get(name).map(field_body) else { continue };
        if let Some(pattern) = &body.pattern {
            check_pattern(doc, entity, name, pattern, out);
        }
        if let Some(text) = &body.derive {
            if field.ty != FieldType::String {
                out.push(
                    Diagnostic::error(format!("`{name}` is derived, and cannot be `{}`", field.ty.as_str()))
                        .at(doc.place(&["fields", name, "type"]))
                        .hint("what is derived is a `string`"),
                );
            }
            let mut parsed = derivation(doc, entity, name, text, out);
            if let Some(derive) = &mut parsed {
                derive.recompute = body.recompute.unwrap_or_default();
            }
            derived.extend(parsed.map(|derive| (at, derive)));
        }
    }
    for (at, derive) in derived {
        if let Some(field) = entity.fields.get_mut(at) {
            field.derive = Some(derive);
        }
    }
    derive_cycles(doc, entity, out);
}

/// `name(canonical_name)`, resolved.
fn derivation(
    doc: &Doc<EntityBody>,
    entity: &Entity,
    name: &str,
    text: &str,
    out: &mut Diagnostics,
) -> Option<Derive> {
    let place = doc.place(&["fields", name, "derive"]);
    let call = text.trim().strip_suffix(')').and_then(|text| text.split_once('('));
    let Some((function, args)) = call.filter(|(_, args)| !args.contains(['(', ')'])) else {
        out.push(
            Diagnostic::error(format!("`{}` is no derivation", shorten(text)))
                .at(place)
                .hint("write a function and its fields: `name(full_name)`"),
        );
        return None;
    };
    let function = function.trim();
    let known = DeriveFn::ALL.iter().find(|(known, ..)| *known == function);
    let Some((_, function, least, most)) = known.copied() else {
        out.push(unknown("function", function, place, DeriveFn::ALL.iter().map(|(known, ..)| *known)));
        return None;
    };
    let args: Vec<&str> = args.split(',').map(str::trim).filter(|arg| !arg.is_empty()).collect();
    if args.len() < least || args.len() > most {
        let wanted = if least == most { format!("{least}") } else { format!("{least} to {most}") };
        out.push(
            Diagnostic::error(format!("`{}` has {} fields and takes {wanted}", shorten(text), args.len()))
                .at(place),
        );
        return None;
    }
    let mut resolved = Vec::new();
    for arg in args {
        match entity.resolve(arg) {
            None => out.push(unknown("field", arg, place.clone(), field_names(entity))),
            Some(FieldRef::Field(id))
                if matches!(entity.field(id).ty, FieldType::Json | FieldType::StringList) =>
            {
                out.push(
                    Diagnostic::error(format!(
                        "`{arg}` is `{}`, and nothing is derived from that",
                        entity.field(id).ty.as_str()
                    ))
                    .at(place.clone()),
                );
            }
            Some(field) => resolved.push(field),
        }
    }
    Some(Derive { function, args: resolved, recompute: crate::model::Recompute::default() })
}

fn derive_cycles(doc: &Doc<EntityBody>, entity: &mut Entity, out: &mut Diagnostics) {
    let sources: Vec<Vec<usize>> = entity
        .fields
        .iter()
        .map(|field| {
            let args = field.derive.iter().flat_map(|derive| &derive.args);
            args.filter_map(|arg| if let FieldRef::Field(id) = arg { Some(id.index()) } else { None })
                .collect()
        })
        .collect();
    let mut named: BTreeSet<usize> = BTreeSet::new();
    for cycle in super::link::cycles(&sources) {
        let Some(first) = cycle.first() else { continue };
        let names = cycle
            .iter()
            .chain([first])
            .filter_map(|at| entity.fields.get(*at))
            .map(|field| field.name.as_str());
        let text = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" from ");
        let name = entity.fields.get(*first).map_or("", |field| field.name.as_str());
        out.push(
            Diagnostic::error(format!("derived in a circle: {text}"))
                .at(doc.place(&["fields", name, "derive"]))
                .hint("one of them must be a field of its own"),
        );
        named.extend(cycle);
    }
    // What is left must be safe to walk, for the other checks still run.
    for at in named {
        if let Some(field) = entity.fields.get_mut(at) {
            field.derive = None;
        }
    }
}

/// A pattern is a regular expression in which `{field}` stands for another field's text.
fn check_pattern(doc: &Doc<EntityBody>, entity: &Entity, name: &str, pattern: &str, out: &mut Diagnostics) {
    let place = doc.place(&["fields", name, "pattern"]);
    let mut filled = String::new();
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        filled.push_str(before);
        let named =
            after.find('}').map(|close| &after[1..close]).filter(|inside| FieldName::new(inside).is_ok());
        // `\p{Greek}` and `\x{41}` are the regular expression's own.
        let escape = ["\\p", "\\P", "\\x", "\\u", "\\U"].iter().any(|escape| before.ends_with(escape));
        match named {
            Some(inside) if !escape => {
                match entity.resolve(inside) {
                    None => out.push(unknown("field", inside, place.clone(), field_names(entity))),
                    Some(_) if inside == name => out.push(
                        Diagnostic::error(format!("the pattern of `{name}` refers to itself"))
                            .at(place.clone()),
                    ),
                    Some(_) => {}
                }
                filled.push_str("(?:x)");
                rest = &after[inside.len() + 2..];
            }
            Some(inside) if entity.resolve(inside).is_some() => {
                out.push(
                    Diagnostic::error(format!(
                        "`{{{inside}}}` in the pattern is an escape's, and a field's name as well"
                    ))
                    .at(place.clone())
                    .hint("rename the field, or write the escape in another way"),
                );
                return;
            }
            _ => {
                filled.push('{');
                rest = &after[1..];
            }
        }
    }
    filled.push_str(rest);
    if let Err(error) = regex::Regex::from_str(&filled) {
        // The last line says what is wrong; those before draw the expression, with the placeholders filled in.
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        out.push(
            Diagnostic::error(format!("`{}` is no regular expression: {why}", shorten(pattern)))
                .at(place)
                .hint(format!("special characters are escaped with `\\`: {}", list(["\\.", "\\(", "\\{"]))),
        );
    }
}
