//! Stores: exactly one kind each, exactly one canonical, secrets by reference only.

use std::collections::BTreeMap;

use super::{Doc, Docs};
use crate::model::{Diagnostic, Diagnostics, StoreName};
use crate::spec::raw::{BigQueryStore, Limits, Size, StoreBody, TwentyStore};
use crate::spec::words::{list, reference, size_bytes};
use crate::spec::{BigQuerySpec, Reference, StoreKind, StoreSpec};

/// The stores, and which of them is canonical.
#[derive(Default)]
pub(super) struct Stores {
    pub(super) specs: BTreeMap<StoreName, StoreSpec>,
    pub(super) canonical: Option<StoreName>,
}

impl Stores {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.specs.keys().map(StoreName::as_str)
    }
}

pub(super) fn stores(docs: &Docs, out: &mut Diagnostics) -> Stores {
    let mut stores = Stores::default();
    for doc in &docs.stores {
        let kind = kind(doc, out);
        limits(doc, &kind, out);
        if doc.body.canonical && doc.body.read_only {
            out.push(
                Diagnostic::error(format!("the canonical store `{}` is read-only", doc.name))
                    .at(doc.key_place(&["read_only"]))
                    .hint("every record is written to the canonical store first: remove `read_only` here"),
            );
        }
        // A bad or second name has been named already; the first document of a name counts.
        let Ok(name) = StoreName::new(&doc.name) else { continue };
        let batch_size = doc.body.limits.as_ref().and_then(|limits| limits.batch_size);
        stores.specs.entry(name.clone()).or_insert_with(|| StoreSpec {
            name,
            kind,
            read_only: doc.body.read_only,
            batch_size: batch_size.and_then(|size| usize::try_from(size).ok()),
        });
    }
    stores.canonical = canonical(docs, out);
    stores
}

fn canonical(docs: &Docs, out: &mut Diagnostics) -> Option<StoreName> {
    let chosen: Vec<&Doc<StoreBody>> = docs.stores.iter().filter(|doc| doc.body.canonical).collect();
    for other in chosen.iter().skip(1) {
        let first = chosen.first().map_or("", |doc| doc.name.as_str());
        out.push(
            Diagnostic::error(format!("`{}` is a second canonical store", other.name))
                .at(other.key_place(&["canonical"]))
                .hint(format!("one store is canonical; `{first}` is one already")),
        );
    }
    let Some(first) = chosen.first() else {
        if !docs.any_broken("Store") {
            let message = Diagnostic::error("no store is canonical");
            let message = match docs.stores.first() {
                Some(doc) => {
                    message.at(doc.name_place()).hint("add `canonical: true` to the `spec` of one store")
                }
                None => message.hint("add a document of kind Store with `canonical: true`"),
            };
            out.push(message);
        }
        return None;
    };
    if first.body.twenty.is_some() || first.body.memory.as_ref().is_some_and(|memory| memory.own_ids) {
        out.push(
            Diagnostic::error(format!("`{}` cannot be canonical", first.name))
                .at(first.key_place(&["canonical"]))
                .hint("a canonical store needs conditional writes and tables of trueup's own: choose an SQL store"),
        );
    }
    StoreName::new(&first.name).ok()
}

fn kind(doc: &Doc<StoreBody>, out: &mut Diagnostics) -> StoreKind {
    let body = &doc.body;
    let given: Vec<&str> = [
        ("sqlite", body.sqlite.is_some()),
        ("memory", body.memory.is_some()),
        ("postgres", body.postgres.is_some()),
        ("bigquery", body.bigquery.is_some()),
        ("twenty", body.twenty.is_some()),
    ]
    .into_iter()
    .filter_map(|(kind, given)| given.then_some(kind))
    .collect();
    for second in given.iter().skip(1) {
        out.push(
            Diagnostic::error(format!("`{}` is of two kinds: {}", doc.name, list(given.iter().copied())))
                .at(doc.key_place(&[second]))
                .hint("keep one, and write another Store for the other"),
        );
    }
    if given.is_empty() {
        out.push(
            Diagnostic::error(format!("the store `{}` does not say what it is", doc.name))
                .at(doc.name_place())
                .hint("add one of `sqlite: {path: …}`, `memory: {}`, `postgres`, `bigquery` and `twenty`"),
        );
    }
    connection(doc, out);
    if let Some(sqlite) = &body.sqlite {
        let path = reference(&sqlite.path).unwrap_or_else(|_| Reference::Plain(String::new()));
        if sqlite.path.trim().is_empty() || sqlite.path.contains('\0') {
            out.push(Diagnostic::error("the SQLite file has no name").at(doc.place(&["sqlite", "path"])));
        }
        return StoreKind::Sqlite { path };
    }
    if let Some(postgres) = &body.postgres {
        if postgres.schema.as_deref().is_some_and(|schema| schema.is_empty() || schema.contains('\0')) {
            out.push(Diagnostic::error("the schema has no name").at(doc.place(&["postgres", "schema"])));
        }
        return StoreKind::Postgres {
            url: reference(&postgres.url).unwrap_or_else(|_| Reference::Plain(String::new())),
            schema: postgres.schema.clone(),
        };
    }
    if let Some(bigquery) = &body.bigquery {
        return StoreKind::BigQuery(Box::new(dataset(doc, bigquery, out)));
    }
    if let Some(twenty) = &body.twenty {
        return twenty_kind(doc, twenty, out);
    }
    StoreKind::Memory { own_ids: body.memory.as_ref().is_some_and(|memory| memory.own_ids) }
}

fn dataset(doc: &Doc<StoreBody>, body: &BigQueryStore, out: &mut Diagnostics) -> BigQuerySpec {
    for (name, text) in [("project", &body.project), ("dataset", &body.dataset)] {
        if text.trim().is_empty() {
            out.push(Diagnostic::error(format!("the {name} has no name")).at(doc.place(&["bigquery", name])));
        }
    }
    for (name, text) in [("emulator", &body.emulator), ("emulator_grpc", &body.emulator_grpc)] {
        let plain = text.as_ref().filter(|text| matches!(reference(text), Ok(Reference::Plain(_))));
        if plain.is_some_and(|text| !text.starts_with("http://") && !text.starts_with("https://")) {
            out.push(
                Diagnostic::error(format!("`{name}` is no address"))
                    .at(doc.place(&["bigquery", name]))
                    .hint("write it like `http://127.0.0.1:9050`"),
            );
        }
    }
    if body.emulator.is_none() && body.emulator_grpc.is_some() {
        out.push(
            Diagnostic::error("`emulator_grpc` is given without `emulator`")
                .at(doc.key_place(&["bigquery", "emulator_grpc"]))
                .hint("name the emulator's REST address in `emulator`"),
        );
    }
    let said = |text: &str| reference(text).unwrap_or_else(|_| Reference::Plain(String::new()));
    let maybe = |text: &Option<String>| text.as_deref().map(said);
    let size = doc.body.limits.as_ref().and_then(|limits| limits.max_bytes_per_pass.as_ref());
    BigQuerySpec {
        project: said(&body.project),
        dataset: said(&body.dataset),
        location: maybe(&body.location),
        credentials: maybe(&body.credentials),
        emulator: maybe(&body.emulator),
        emulator_grpc: maybe(&body.emulator_grpc),
        skip_unmodified: body.skip_unmodified,
        max_bytes: size.and_then(|size| match size {
            Size::Bytes(bytes) => Some(*bytes),
            // A text that is no size is told among the limits.
            Size::Text(text) => size_bytes(text).ok(),
        }),
    }
}

/// A Twenty workspace.
fn twenty_kind(doc: &Doc<StoreBody>, twenty: &TwentyStore, out: &mut Diagnostics) -> StoreKind {
    let url = reference(&twenty.url).unwrap_or_else(|_| Reference::Plain(String::new()));
    if let Reference::Plain(text) = &url
        && !text.starts_with("http://")
        && !text.starts_with("https://")
    {
        out.push(
            Diagnostic::error("the address of a Twenty server begins with `https://` or `http://`")
                .at(doc.place(&["twenty", "url"])),
        );
    }
    if let Some(seconds) = twenty.timeout_seconds.filter(|seconds| !(1..=600).contains(seconds)) {
        out.push(
            Diagnostic::error(format!("`timeout_seconds` is from 1 to 600, not {seconds}"))
                .at(doc.place(&["twenty", "timeout_seconds"])),
        );
    }
    let limits = doc.body.limits.as_ref();
    StoreKind::Twenty {
        url,
        api_key: reference(&twenty.api_key).unwrap_or_else(|_| Reference::Plain(String::new())),
        webhook_secret: twenty.webhook_secret.as_deref().and_then(|secret| reference(secret).ok()),
        timeout_ms: twenty.timeout_seconds.map(|seconds| u64::from(seconds) * 1_000),
        calls: (
            limits.and_then(|limits| limits.calls_per_second),
            limits.and_then(|limits| limits.calls_per_minute),
        ),
    }
}

/// Checks every text of the connection: references are well formed, and secrets are nothing but references.
fn connection(doc: &Doc<StoreBody>, out: &mut Diagnostics) {
    let body = &doc.body;
    let mut texts: Vec<([&str; 2], Option<&str>, bool)> = Vec::new();
    if let Some(sqlite) = &body.sqlite {
        texts.push((["sqlite", "path"], Some(&sqlite.path), false));
    }
    if let Some(postgres) = &body.postgres {
        texts.push((["postgres", "url"], Some(&postgres.url), has_password(&postgres.url)));
        texts.push((["postgres", "schema"], postgres.schema.as_deref(), false));
    }
    if let Some(bigquery) = &body.bigquery {
        texts.push((["bigquery", "project"], Some(&bigquery.project), false));
        texts.push((["bigquery", "dataset"], Some(&bigquery.dataset), false));
        texts.push((["bigquery", "location"], bigquery.location.as_deref(), false));
        texts.push((["bigquery", "credentials"], bigquery.credentials.as_deref(), true));
        texts.push((["bigquery", "emulator"], bigquery.emulator.as_deref(), false));
        texts.push((["bigquery", "emulator_grpc"], bigquery.emulator_grpc.as_deref(), false));
    }
    if let Some(twenty) = &body.twenty {
        texts.push((["twenty", "url"], Some(&twenty.url), has_password(&twenty.url)));
        texts.push((["twenty", "api_key"], Some(&twenty.api_key), true));
        texts.push((["twenty", "webhook_secret"], twenty.webhook_secret.as_deref(), true));
    }
    for (path, text, secret) in texts {
        let Some(text) = text else { continue };
        match reference(text) {
            Err(why) => out.push(Diagnostic::error(why).at(doc.place(&path))),
            Ok(Reference::Plain(_)) if secret => out.push(
                Diagnostic::error(format!(
                    "`{}` is a secret, and secrets do not stand in manifests",
                    path[1]
                ))
                .at(doc.key_place(&path))
                .hint("put it into a file or an environment variable: `${file:PATH}` or `${env:NAME}`"),
            ),
            Ok(_) => {}
        }
    }
}

/// Whether an address carries a password: `scheme://user:password@host`.
pub(super) fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let in_address = rest
        .split('/')
        .next()
        .unwrap_or_default()
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'));
    in_address || url.to_ascii_lowercase().contains("password=")
}

fn limits(doc: &Doc<StoreBody>, kind: &StoreKind, out: &mut Diagnostics) {
    let Some(Limits { max_bytes_per_pass, calls_per_second, calls_per_minute, .. }) = &doc.body.limits else {
        return;
    };
    if let Some(Size::Text(text)) = max_bytes_per_pass
        && let Err(why) = size_bytes(text)
    {
        out.push(Diagnostic::error(why).at(doc.place(&["limits", "max_bytes_per_pass"])));
    }
    let bills = kind.bills_bytes();
    let paced = matches!(kind, StoreKind::Twenty { .. });
    let idle = [
        ("max_bytes_per_pass", max_bytes_per_pass.is_some() && !bills),
        ("calls_per_second", calls_per_second.is_some() && !paced),
        ("calls_per_minute", calls_per_minute.is_some() && !paced),
    ];
    for (name, _) in idle.into_iter().filter(|(_, given)| *given) {
        out.push(
            Diagnostic::warning(format!("`{name}` limits nothing in a store of this kind"))
                .at(doc.key_place(&["limits", name])),
        );
    }
}
