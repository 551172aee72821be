//! A canonical store and another one in memory, Twenty as its sandbox, and a clock that no test waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use trueup::controller::{Engine, PassOptions};
use trueup::model::{Cell, EntityName, FieldName, Mapped, RecordKey, StateId, StoreName, Value};
use trueup::plan::GuardName;
use trueup::reconcile::Report;
use trueup::sandbox::{Hand, Options, Sandbox};
use trueup::spec::{Source, Spec, compile, render_lines};
use trueup::state::memory::MemoryState;
use trueup::store::Store;
use trueup::store::memory::{MemoryRow, MemoryStore};
use trueup::store::twenty::{Clock, Pace, TwentyOptions, TwentyStore};
use trueup::telemetry::Silent;

pub(crate) const KEY: &str = "a key of the sandbox";

pub(crate) const MANIFESTS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: base}
spec: {canonical: true, memory: {}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: local}
spec: {memory: {}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: crm}
spec: {twenty: {url: "http://127.0.0.1:1", api_key: "${env:TWENTY_KEY}"}, limits: {calls_per_minute: 100}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: people}
spec:
  key: {contact_id: string}
  fields:
    first_name: string
    last_name: string
    job_title: string
    email: string
    phone: string
    profile: string
    category: {enum: [A, B, X]}
    notes: {type: string, description: What is worth knowing.}
    llm_context: json
    tags: string_list
    score: int64
    seen_at: timestamp
  times: {created: created_at, updated: updated_at}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: firms}
spec:
  key: {firm_id: string}
  fields: {name: string, website: string, city: string}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: jobs}
spec:
  key: {contact_id: string, firm_id: string}
  fields: {role: string}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: people}
spec:
  entity: people
  stores:
    base: {table: people, fields: {"*": same}, sync: {columns: same}}
    local: {table: people, fields: {"*": same}, sync: {columns: same}}
    crm:
      object: person
      key: contactId
      fields:
        first_name: name.firstName
        last_name: name.lastName
        job_title: jobTitle
        email: emails.primaryEmail
        phone: {path: phones, form: crm-phone}
        profile: linkedinLink.primaryLinkUrl
        category: same
        notes: same
        llm_context: llmContext
        tags: same
        score: same
        seen_at: seenAt
        created_at: createdAt
        updated_at: updatedAt
      sync: {json-text: syncMetadata}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: firms}
spec:
  entity: firms
  stores:
    base: {table: firms, fields: {"*": same}, sync: {columns: same}}
    local: {table: firms, fields: {"*": same}, sync: {columns: same}}
    crm:
      object: company
      key: firmId
      fields: {name: same, website: domainName.primaryLinkUrl, city: address.addressCity}
      sync: {json-text: syncMetadata}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: jobs}
spec:
  entity: jobs
  stores:
    base: {table: jobs, fields: {"*": same}, sync: {columns: same}}
    crm:
      object: job
      key: {contact_id: contactId, firm_id: firmId}
      fields: {role: workRole}
      sync: {json-text: syncMetadata}
"#;

/// The sandbox's hand as the store's clock: whoever waits moves it.
pub(crate) struct Moved(pub(crate) Hand);

impl Moved {
    fn now(&self) -> u64 {
        u64::try_from(self.0.now_ms()).expect("after 1970")
    }
}

#[async_trait]
impl Clock for Moved {
    fn now_ms(&self) -> u64 {
        self.now()
    }

    async fn sleep(&self, time: Duration) {
        // The rest of a millisecond is waited for as well.
        let until = self.now() + u64::try_from(time.as_micros().div_ceil(1_000)).expect("short");
        tokio::task::yield_now().await;
        self.0.advance(Duration::from_millis(until.saturating_sub(self.now())));
    }
}

pub(crate) fn spec() -> Arc<Spec> {
    let source = Source { file: "crm.yaml".to_owned(), text: MANIFESTS.to_owned() };
    let compiled = compile(Path::new("."), &[source], &BTreeMap::new());
    Arc::new(compiled.map_err(|found| render_lines(&found)).expect("compiled").0)
}

pub(crate) fn key(text: &str) -> RecordKey {
    RecordKey::new(vec![text.to_owned()])
}

pub(crate) fn store_name(text: &str) -> StoreName {
    StoreName::new(text).expect("a name")
}

pub(crate) fn mapped(spec: &Spec, entity: &str, store: &str) -> Mapped {
    let entity = EntityName::new(entity).expect("a name");
    let mapping = spec.mapping(&entity, &store_name(store)).expect("mapped").clone();
    Mapped { entity: spec.entity(&entity).expect("known").clone(), mapping }
}

/// How the sandbox and the store are set up.
pub(crate) struct Set {
    pub(crate) calls_per_minute: u32,
    pub(crate) page_rows: u64,
    pub(crate) timeout: Duration,
}

impl Default for Set {
    fn default() -> Self {
        Self { calls_per_minute: 1_000_000, page_rows: 5_000, timeout: Duration::from_secs(20) }
    }
}

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) hand: Hand,
    pub(crate) spec: Arc<Spec>,
    pub(crate) base: MemoryStore,
    pub(crate) local: MemoryStore,
    pub(crate) crm: TwentyStore,
    pub(crate) engine: Engine,
}

impl World {
    pub(crate) async fn new(set: Set) -> Self {
        let start = jiff::Timestamp::now().as_millisecond() - 86_400_000;
        let (clock, hand) = trueup::sandbox::Clock::manual(start);
        let calls_per_second = set.calls_per_minute.max(100);
        let options =
            Options { clock, calls_per_minute: set.calls_per_minute, calls_per_second, ..Options::new(KEY) };
        let sandbox = Sandbox::start(options).expect("started");
        let spec = spec();
        let known = ["people", "firms", "jobs"].map(|entity| mapped(&spec, entity, "crm"));
        let options = TwentyOptions {
            pace: Pace { per_second: calls_per_second, per_minute: set.calls_per_minute },
            page_rows: set.page_rows,
            timeout: set.timeout,
            clock: Arc::new(Moved(hand.clone())),
            mapped: known.to_vec(),
            ..TwentyOptions::default()
        };
        let crm = TwentyStore::open(store_name("crm"), &sandbox.url(), KEY, options).expect("opened");
        let (base, local) = (MemoryStore::new(store_name("base")), MemoryStore::new(store_name("local")));
        let all: [Arc<dyn Store>; 3] =
            [Arc::new(base.clone()), Arc::new(local.clone()), Arc::new(crm.clone())];
        let stores = all.into_iter().map(|store| (store.name().clone(), Ok(store))).collect();
        let state = Arc::new(MemoryState::new(StateId("twenty".to_owned())));
        let engine = Engine::with(spec.clone(), stores, state);
        engine.migrate(&engine.migration().await.expect("planned")).await.expect("migrated");
        Self { sandbox, hand, spec, base, local, crm, engine }
    }

    pub(crate) fn people(&self) -> Mapped {
        mapped(&self.spec, "people", "crm")
    }

    /// A pass in which much may be deleted and changed.
    pub(crate) async fn pass(&self) -> Report {
        let allowed: BTreeSet<GuardName> =
            [GuardName::Deletes, GuardName::Updates, GuardName::Emptied].into();
        let options = PassOptions { allow: allowed, ..PassOptions::default() };
        self.engine.pass(&options, &Silent, &CancellationToken::new()).await.expect("a pass")
    }

    /// Passes until nothing is left to do; panics when that takes too many.
    pub(crate) async fn settle(&self) {
        for _ in 0..6 {
            self.pass().await;
            if self.engine.plan(&PassOptions::default(), &Silent).await.expect("a plan").is_empty() {
                return;
            }
        }
        let plan = self.engine.plan(&PassOptions::default(), &Silent).await.expect("a plan");
        panic!("not settled: {}", trueup::plan::render(&plan, &trueup::plan::RenderOptions::default()));
    }

    pub(crate) fn put(
        &self,
        store: &MemoryStore,
        entity: &str,
        record: &RecordKey,
        fields: &[(&str, Value)],
    ) {
        let mapped = mapped(&self.spec, entity, store.name().as_str());
        let mut row = MemoryRow::default();
        for (name, value) in fields {
            row.fields.insert(FieldName::new(*name).expect("a name"), Cell::Value(value.clone()));
        }
        store.db().put(&mapped, record, row);
    }

    pub(crate) fn edit(
        &self,
        store: &MemoryStore,
        entity: &str,
        record: &RecordKey,
        field: &str,
        value: Value,
    ) {
        let mapped = mapped(&self.spec, entity, store.name().as_str());
        let field = FieldName::new(field).expect("a name");
        let there = store.db().edit(&mapped, record, |row| {
            row.fields.insert(field, Cell::Value(value));
        });
        assert!(there, "the row is there");
    }

    pub(crate) fn held(
        &self,
        store: &MemoryStore,
        entity: &str,
        record: &RecordKey,
        field: &str,
    ) -> Option<Value> {
        let mapped = mapped(&self.spec, entity, store.name().as_str());
        let db = store.db();
        let row = db.table(&mapped).and_then(|table| table.rows.get(record));
        row.and_then(|row| row.fields.get(&FieldName::new(field).expect("a name")))
            .and_then(Cell::value)
            .cloned()
    }

    /// All records of an object as somebody in the CRM sees them.
    pub(crate) fn all(&self, plural: &str) -> Vec<Json> {
        self.sandbox.edit(|editor| editor.all(plural)).expect("listed")
    }

    /// The person with a key; panics where there are none or several.
    pub(crate) fn person(&self, record: &str) -> Json {
        let all = self.all("people").into_iter().filter(|person| person["contactId"] == json!(record));
        let own: Vec<Json> = all.collect();
        assert_eq!(own.len(), 1, "one person has the key {record}");
        own.into_iter().next().expect("one")
    }

    pub(crate) fn patch(&self, record: &str, body: &Json) {
        let id = id(&self.person(record));
        self.sandbox.edit(|editor| editor.patch("people", &id, body)).expect("edited");
    }

    pub(crate) fn calls(&self) -> usize {
        self.sandbox.calls().len()
    }

    /// How many writes came in.
    pub(crate) fn writes(&self) -> usize {
        let calls = self.sandbox.calls();
        calls.iter().filter(|call| call.target.starts_with("/rest/") && call.method != "GET").count()
    }
}

pub(crate) fn id(record: &Json) -> String {
    record["id"].as_str().expect("an id").to_owned()
}
