//! SQL stores in files beside Twenty as its sandbox, with a clock that no test waits for, and what people do in them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each test takes what it needs, and may panic.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use trueup::apply::Opened;
use trueup::controller::{Engine, PassOptions};
use trueup::model::{Mapped, StateId};
use trueup::plan::{GuardName, Plan, RenderOptions, render};
use trueup::reconcile::Report;
use trueup::sandbox::{Hand, Options, Sandbox};
use trueup::spec::{Spec, StoreKind};
use trueup::state::memory::MemoryState;
use trueup::store::Store;
use trueup::store::sqlite::{SqliteOptions, SqliteStore};
use trueup::store::twenty::{Clock, Pace, TwentyOptions, TwentyStore};
use trueup::telemetry::Silent;

const KEY: &str = "a key of the sandbox";

/// The sandbox's hand as the store's clock: whoever waits moves it.
struct Moved(Hand);

#[async_trait]
impl Clock for Moved {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.now_ms()).unwrap()
    }

    async fn sleep(&self, time: Duration) {
        // The rest of a millisecond is waited for as well.
        let until = self.now_ms() + u64::try_from(time.as_micros().div_ceil(1_000)).unwrap();
        tokio::task::yield_now().await;
        self.0.advance(Duration::from_millis(until.saturating_sub(self.now_ms())));
    }
}

/// Stores that hold the same records, and what brings them to agree.
pub struct Crm {
    folder: tempfile::TempDir,
    pub sandbox: Sandbox,
    pub hand: Hand,
    pub spec: Arc<Spec>,
    stores: Opened,
    pub engine: Engine,
}

impl Crm {
    /// Opens the stores of a spec: files for SQLite, the sandbox for Twenty. Their tables, fields and objects are made.
    pub async fn new(spec: Spec, calls_per_minute: u32) -> Self {
        Self::paged(spec, calls_per_minute, TwentyOptions::default().page_rows).await
    }

    /// The same, where a call lists so many records.
    pub async fn paged(spec: Spec, calls_per_minute: u32, page_rows: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = jiff::Timestamp::now().as_millisecond() - 86_400_000;
        let (clock, hand) = trueup::sandbox::Clock::manual(start);
        let calls_per_second = calls_per_minute.max(100);
        let options = Options { clock, calls_per_minute, calls_per_second, ..Options::new(KEY) };
        let sandbox = Sandbox::start(options).unwrap();
        let spec = Arc::new(spec);
        let mut stores = Opened::new();
        for (name, store) in &spec.stores {
            let opened: Arc<dyn Store> = if let StoreKind::Twenty { .. } = &store.kind {
                let mapped = spec.entities.iter().filter_map(|entity| {
                    let mapping = spec.mapping(&entity.name, name)?.clone();
                    Some(Mapped { entity: entity.clone(), mapping })
                });
                let options = TwentyOptions {
                    pace: Pace { per_second: calls_per_second, per_minute: calls_per_minute },
                    clock: Arc::new(Moved(hand.clone())),
                    mapped: mapped.collect(),
                    page_rows,
                    ..TwentyOptions::default()
                };
                Arc::new(TwentyStore::open(name.clone(), &sandbox.url(), KEY, options).unwrap())
            } else {
                let file = folder.path().join(format!("{name}.db"));
                let options = SqliteOptions { create: true, ..SqliteOptions::default() };
                Arc::new(SqliteStore::open(name.clone(), &file, options).await.unwrap())
            };
            stores.insert(name.clone(), Ok(opened));
        }
        let state = Arc::new(MemoryState::new(StateId("crm".to_owned())));
        let engine = Engine::with(spec.clone(), stores.clone(), state);
        let crm = Self { folder, sandbox, hand, spec, stores, engine };
        crm.engine.migrate(&crm.engine.migration().await.unwrap()).await.unwrap();
        crm
    }

    /// The state is lost.
    pub fn lose_state(&mut self) {
        let state = Arc::new(MemoryState::new(StateId("another".to_owned())));
        self.engine = Engine::with(self.spec.clone(), self.stores.clone(), state);
    }

    /// What passes of tests are allowed: much changes at once in small tables.
    pub fn options() -> PassOptions {
        let allow: BTreeSet<GuardName> = [GuardName::Deletes, GuardName::Updates, GuardName::Emptied].into();
        PassOptions { allow, ..PassOptions::default() }
    }

    pub async fn plan(&self) -> Plan {
        self.engine.plan(&Self::options(), &Silent).await.unwrap()
    }

    pub async fn pass(&self) -> Report {
        self.engine.pass(&Self::options(), &Silent, &CancellationToken::new()).await.unwrap()
    }

    /// Passes until nothing is left to do; gives how many that took. Panics when that is more than these.
    pub async fn settle_within(&self, most: usize) -> usize {
        for passes in 1..=most {
            let report = self.pass().await;
            assert_eq!(report.guards, [], "no guard refuses");
            let plan = self.plan().await;
            if plan.is_empty() {
                let writes = self.writes();
                let quiet = self.pass().await;
                assert_eq!((quiet.pass, quiet.applied.sum()), (None, 0), "a further pass writes nothing");
                assert_eq!(self.writes(), writes, "and makes no write call");
                return passes;
            }
            if passes == most {
                let failed: Vec<_> = report.failed.iter().take(3).collect();
                panic!("not settled; failed: {failed:#?}; {}", text(&plan));
            }
        }
        unreachable!()
    }

    pub async fn settle(&self) -> usize {
        self.settle_within(4).await
    }

    /// How many writes came in.
    pub fn writes(&self) -> usize {
        let calls = self.sandbox.calls();
        calls.iter().filter(|call| call.target.starts_with("/rest/") && call.method != "GET").count()
    }

    fn file(&self, store: &str) -> PathBuf {
        self.folder.path().join(format!("{store}.db"))
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn connect(&self, store: &str) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.file(store)).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
    }

    pub fn sql(&self, store: &str, sql: &str) {
        self.connect(store).execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The rows of a query, their columns with bars between; null is `-`.
    pub fn rows(&self, store: &str, sql: &str) -> Vec<String> {
        let connection = self.connect(store);
        let mut query = connection.prepare(sql).unwrap();
        let columns = query.column_count();
        let rows = query.query_map([], |row| {
            let cells = (0..columns).map(|at| {
                Ok(match row.get::<_, rusqlite::types::Value>(at)? {
                    rusqlite::types::Value::Null => "-".to_owned(),
                    rusqlite::types::Value::Integer(number) => number.to_string(),
                    rusqlite::types::Value::Real(number) => number.to_string(),
                    rusqlite::types::Value::Text(text) => text,
                    rusqlite::types::Value::Blob(_) => "?".to_owned(),
                })
            });
            Ok(cells.collect::<rusqlite::Result<Vec<_>>>()?.join("|"))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// All records of an object as somebody in the CRM sees them.
    pub fn all(&self, plural: &str) -> Vec<Json> {
        self.sandbox.edit(|editor| editor.all(plural)).unwrap()
    }

    /// The record of an object that has this in a field; panics where there are none or several.
    pub fn one(&self, plural: &str, field: &str, value: &str) -> Json {
        let own: Vec<Json> =
            self.all(plural).into_iter().filter(|record| record[field] == json!(value)).collect();
        assert_eq!(own.len(), 1, "one of `{plural}` has `{field}` {value}: {own:#?}");
        own.into_iter().next().unwrap()
    }

    pub fn person(&self, key: &str) -> Json {
        self.one("people", "contactId", key)
    }

    /// Somebody edits a person.
    pub fn patch_person(&self, key: &str, body: &Json) {
        self.patch("people", &id(&self.person(key)), body);
    }

    pub fn patch(&self, plural: &str, id: &str, body: &Json) {
        self.sandbox.edit(|editor| editor.patch(plural, id, body)).unwrap();
    }

    /// Somebody makes a record; gives its id.
    pub fn make(&self, plural: &str, body: &Json) -> String {
        id(&self.sandbox.edit(|editor| editor.create(plural, body)).unwrap())
    }
}

pub fn id(record: &Json) -> String {
    record["id"].as_str().unwrap().to_owned()
}

/// A plan as people see it.
pub fn text(plan: &Plan) -> String {
    render(plan, &RenderOptions::default())
}

/// The addresses of a person, the primary one first.
pub fn emails(person: &Json) -> Vec<String> {
    let more = person["emails"]["additionalEmails"].as_array().into_iter().flatten();
    let all = std::iter::once(&person["emails"]["primaryEmail"]).chain(more).filter_map(Json::as_str);
    all.filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// The numbers of a person with their countries, the primary one first.
pub fn phones(person: &Json) -> Vec<String> {
    let phones = &person["phones"];
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let first = text(&phones["primaryPhoneCallingCode"]) + &text(&phones["primaryPhoneNumber"]);
    let more = phones["additionalPhones"].as_array().into_iter().flatten();
    let more = more.map(|phone| text(&phone["callingCode"]) + &text(&phone["number"]));
    std::iter::once(first).chain(more).filter(|text| !text.is_empty()).collect()
}
