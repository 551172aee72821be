//! The controller's settings, and their defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::store::has_password;
use super::{Doc, Docs, unknown};
use crate::model::StoreName;
use crate::model::{Diagnostic, Diagnostics};
use crate::spec::raw::{ControllerBody, PostgresState};
use crate::spec::words::{duration_ms, ratio, reference};
use crate::spec::{
    Breaker, ControllerSpec, Guards, Reference, StateSpec, StoreKind, Triggers, Webhook, WebhookKind,
};

const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

impl Default for ControllerSpec {
    /// What holds where no Controller document says otherwise.
    fn default() -> Self {
        Self {
            interval_ms: MINUTE_MS,
            deep_check_interval_ms: DAY_MS,
            guards: Guards { max_delete_ratio: 0.1, max_update_ratio: 0.3, min_records: 10 },
            state: StateSpec::Sqlite(PathBuf::from(".trueup/state.db")),
            lease_ms: MINUTE_MS,
            http_address: SocketAddr::from(([127, 0, 0, 1], 9464)),
            http_token: None,
            triggers: Triggers::default(),
            breaker: Breaker { writes: 20, window_ms: 10 * MINUTE_MS },
            retention_ms: 90 * DAY_MS,
            drift_alert_ratio: 0.05,
            latency_alert_ms: 5 * MINUTE_MS,
        }
    }
}

impl Default for Triggers {
    /// No triggers; half a second gathers what an application writes in one go and is hardly noticed.
    fn default() -> Self {
        Self { debounce_ms: 500, webhooks: BTreeMap::new(), notify: BTreeSet::new(), files: BTreeSet::new() }
    }
}

pub(super) fn controller(docs: &Docs, _folder: &Path, out: &mut Diagnostics) -> ControllerSpec {
    let mut spec = ControllerSpec::default();
    let Some(doc) = docs.controllers.first() else { return spec };
    let body = &doc.body;
    let mut reader = Reader { doc, out };
    reader.period(&["interval"], body.interval.as_deref(), &mut spec.interval_ms);
    reader.period(
        &["deep_check_interval"],
        body.deep_check_interval.as_deref(),
        &mut spec.deep_check_interval_ms,
    );
    reader.period(&["lease"], body.lease.as_deref(), &mut spec.lease_ms);
    reader.duration(&["retention"], body.retention.as_deref(), &mut spec.retention_ms);
    reader.duration(&["alerts", "latency"], body.alerts.latency.as_deref(), &mut spec.latency_alert_ms);
    reader.ratio(&["alerts", "drift"], body.alerts.drift.as_deref(), &mut spec.drift_alert_ratio);
    reader.ratio(
        &["guards", "max_deletes"],
        body.guards.max_deletes.as_deref(),
        &mut spec.guards.max_delete_ratio,
    );
    reader.ratio(
        &["guards", "max_updates"],
        body.guards.max_updates.as_deref(),
        &mut spec.guards.max_update_ratio,
    );
    if let Some(breaker) = &body.breaker {
        reader.period(&["breaker", "window"], breaker.window.as_deref(), &mut spec.breaker.window_ms);
        spec.breaker.writes = breaker.writes.unwrap_or(spec.breaker.writes);
    }
    if let Some(triggers) = &body.triggers {
        reader.duration(
            &["triggers", "debounce"],
            triggers.debounce.as_deref(),
            &mut spec.triggers.debounce_ms,
        );
    }
    if let Some(records) = body.guards.min_records {
        spec.guards.min_records = records;
    }
    if let Some(path) = &body.state.sqlite {
        if path.trim().is_empty() || path.contains('\0') {
            out.push(Diagnostic::error("the state's file has no name").at(doc.place(&["state", "sqlite"])));
        }
        spec.state = StateSpec::Sqlite(PathBuf::from(path));
    }
    if let Some(postgres) = &body.state.postgres {
        spec.state = postgres_state(doc, postgres, out);
    }
    if let Some(address) = &body.http.address {
        match address.parse() {
            Ok(address) => spec.http_address = address,
            Err(_) => out.push(
                Diagnostic::error(format!("`{address}` is no address to serve on"))
                    .at(doc.place(&["http", "address"]))
                    .hint("write an IP address and a port: `127.0.0.1:9464`, or `0.0.0.0:9464` for all interfaces"),
            ),
        }
    }
    spec.http_token =
        body.http.token.as_deref().and_then(|token| secret(doc, token, &["http", "token"], out));
    triggers(doc, docs, &mut spec.triggers, out);
    spec
}

fn postgres_state(doc: &Doc<ControllerBody>, body: &PostgresState, out: &mut Diagnostics) -> StateSpec {
    let place = |field: &str| doc.place(&["state", "postgres", field]);
    if doc.body.state.sqlite.is_some() {
        out.push(
            Diagnostic::error("the state is kept in two places")
                .at(doc.key_place(&["state", "postgres"]))
                .hint("keep one of `sqlite` and `postgres`"),
        );
    }
    if has_password(&body.url) {
        out.push(
            Diagnostic::error("the state's address carries a password")
                .at(place("url"))
                .hint("give it as `${env:NAME}` or `${file:PATH}`"),
        );
    }
    let url = reference(&body.url).unwrap_or_else(|why| {
        out.push(Diagnostic::error(why).at(place("url")));
        Reference::Plain(String::new())
    });
    let schema = body.schema.clone().unwrap_or_else(|| "trueup".to_owned());
    if schema.is_empty() || schema.contains('\0') {
        out.push(Diagnostic::error("the schema has no name").at(place("schema")));
    }
    StateSpec::Postgres { url, schema }
}

/// Reads the texts of one document.
struct Reader<'a> {
    doc: &'a Doc<ControllerBody>,
    out: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn duration(&mut self, path: &[&str], text: Option<&str>, into: &mut u64) {
        match text.map(duration_ms) {
            None => {}
            Some(Ok(ms)) => *into = ms,
            Some(Err(why)) => self.out.push(Diagnostic::error(why).at(self.doc.place(path))),
        }
    }

    /// A duration that something is repeated after.
    fn period(&mut self, path: &[&str], text: Option<&str>, into: &mut u64) {
        let errors = self.out.len();
        self.duration(path, text, into);
        if text.is_some() && *into == 0 && self.out.len() == errors {
            let name = path.last().copied().unwrap_or_default();
            self.out.push(
                Diagnostic::error(format!("`{name}` must be longer than nothing")).at(self.doc.place(path)),
            );
        }
    }

    fn ratio(&mut self, path: &[&str], text: Option<&str>, into: &mut f64) {
        match text.map(ratio) {
            None => {}
            Some(Ok(share)) => *into = share,
            Some(Err(why)) => self.out.push(Diagnostic::error(why).at(self.doc.place(path))),
        }
    }
}

/// A reference to something that stands in no manifest.
fn secret(doc: &Doc<ControllerBody>, text: &str, path: &[&str], out: &mut Diagnostics) -> Option<Reference> {
    match reference(text) {
        Ok(Reference::Plain(_)) => {
            out.push(
                Diagnostic::error("a secret stands in the manifest")
                    .at(doc.place(path))
                    .hint("give it as `${env:NAME}` or `${file:PATH}`"),
            );
            None
        }
        Ok(reference) => Some(reference),
        Err(why) => {
            out.push(Diagnostic::error(why).at(doc.place(path)));
            None
        }
    }
}

fn triggers(doc: &Doc<ControllerBody>, docs: &Docs, spec: &mut Triggers, out: &mut Diagnostics) {
    let Some(triggers) = &doc.body.triggers else { return };
    let mut known = |list: &str, at: &str, name: &str| {
        let known = docs.stores.iter().any(|store| store.name == name) || docs.may_be("Store", name);
        if !known {
            let place = doc.place(&["triggers", list, at]);
            out.push(unknown("store", name, place, docs.stores.iter().map(|store| store.name.as_str())));
        }
        StoreName::new(name).ok().filter(|_| known)
    };
    let names =
        |list: &str, names: &[String], known: &mut dyn FnMut(&str, &str, &str) -> Option<StoreName>| {
            let found = names.iter().enumerate().filter_map(|(at, name)| known(list, &at.to_string(), name));
            found.collect::<BTreeSet<StoreName>>()
        };
    let webhooks: Vec<(StoreName, &String)> = triggers
        .webhooks
        .keys()
        .filter_map(|name| known("webhooks", name, name).map(|store| (store, name)))
        .collect();
    spec.notify = names("notify", &triggers.notify, &mut known);
    spec.files = names("files", &triggers.files, &mut known);
    for (store, name) in webhooks {
        let body = &triggers.webhooks[name];
        let kind = body.kind.as_deref().unwrap_or("generic");
        let Some(kind) = WebhookKind::parse(kind) else {
            out.push(
                Diagnostic::error(format!("there are no webhooks of kind `{kind}`"))
                    .at(doc.place(&["triggers", "webhooks", name, "kind"]))
                    .hint("write `generic`, `supabase` or `twenty`"),
            );
            continue;
        };
        let path = ["triggers", "webhooks", name, "secret"];
        if let Some(secret) = secret(doc, &body.secret, &path, out) {
            spec.webhooks.insert(store, Webhook { kind, secret });
        }
    }
}

/// Says where a trigger does not suit its store.
pub(super) fn suit(
    docs: &Docs,
    spec: &ControllerSpec,
    stores: &BTreeMap<StoreName, crate::spec::StoreSpec>,
    out: &mut Diagnostics,
) {
    let Some(doc) = docs.controllers.first() else { return };
    for (list, names) in [("notify", &spec.triggers.notify), ("files", &spec.triggers.files)] {
        for name in names {
            let suits = stores.get(name).is_none_or(|store| match list {
                "notify" => matches!(store.kind, StoreKind::Postgres { .. }),
                _ => matches!(store.kind, StoreKind::Sqlite { .. }),
            });
            if !suits {
                let what = if list == "notify" { "sends no notifications" } else { "is no file" };
                out.push(
                    Diagnostic::error(format!("the store `{name}` {what}"))
                        .at(doc.place(&["triggers", list]))
                        .hint("`notify` is for Postgres, `files` for SQLite, `webhooks` for all"),
                );
            }
        }
    }
}
