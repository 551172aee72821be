//! A folder with manifests, three stores that agree, and edits in all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::server::{Database, Server};

/// The stores, the canonical one first.
pub(crate) const STORES: [&str; 3] = ["hub", "app", "local"];

/// Records that all stores agree on in the beginning.
const RECORDS: usize = 150;

/// Where stores and state are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Three files, and a file for the state.
    Files,
    /// The canonical store and a replica in Postgres, a replica and the state in files.
    Postgres,
    /// The same with the state in Postgres.
    PostgresState,
}

/// A folder, in memory where there is room for it: it is processes that are killed here, and no plug is pulled.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A small generator: the same numbers for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, run: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    /// A moment between two.
    pub(crate) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let micros = usize::try_from(to.saturating_sub(from).as_micros()).unwrap();
        from + Duration::from_micros(u64::try_from(self.below(micros)).unwrap())
    }
}

/// A store as another application reaches it.
enum Reach {
    File(PathBuf),
    Database(String, String),
}

/// What somebody did and must not be lost.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// A value that nobody else ever wrote.
    Edit { key: String, field: &'static str, value: String },
    /// A delete that nobody's edit competes with.
    Delete { key: String },
}

/// A row's mapped fields.
type Fields = [Option<String>; 3];

/// Rows by key.
pub(crate) type Records = BTreeMap<String, Fields>;

/// The world.
pub(crate) struct World {
    folder: tempfile::TempDir,
    reach: Vec<Reach>,
    runtime: tokio::runtime::Runtime,
    pub(crate) deeds: Vec<Deed>,
    /// What no mapping names, of the records that nobody deletes.
    theirs: BTreeSet<String>,
    edits: usize,
}

const FIELDS: [&str; 3] = ["a", "b", "n"];

const MANIFESTS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: hub}
spec: {canonical: true, HUB, limits: {batch_size: 12}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: app}
spec: {APP, limits: {batch_size: 12}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: local}
spec: {LOCAL, limits: {batch_size: 12}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: things}
spec:
  key: {id: string}
  fields: {a: string, b: string, n: int64}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: things}
spec:
  entity: things
  stores:
    hub: {table: hub_things, fields: {"*": same}, sync: {columns: same}}
    app: {table: app_things, fields: {"*": same}, sync: {columns: same}}
    local: {table: local_things, fields: {"*": same}, sync: {columns: same}}
---
apiVersion: trueup/v1
kind: Controller
metadata: {name: controller}
spec:
  state: {STATE}
  lease: 250ms
  guards: {max_deletes: 100%, max_updates: 100%}
"#;

impl World {
    /// A world in which everything agrees.
    pub(crate) fn agreed(kind: Kind, server: Option<&Server>) -> Self {
        let folder = folder();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = server.map(|server| runtime.block_on(server.database()));
        let reach = STORES.iter().map(|store| match (&database, *store) {
            (Some(database), "hub" | "local") => Reach::Database(database.url.clone(), database.name.clone()),
            _ => Reach::File(folder.path().join(format!("{store}.db"))),
        });
        let reach = reach.collect();
        let world = Self { folder, reach, runtime, deeds: Vec::new(), theirs: BTreeSet::new(), edits: 0 };
        world.write_manifests(kind, database.as_ref());
        for (at, store) in STORES.iter().enumerate() {
            if let Reach::File(path) = &world.reach[at] {
                rusqlite::Connection::open(path).unwrap();
            }
            // Replicas take a key twice, so that a record made twice shows.
            let unique = if at == 0 { "PRIMARY KEY" } else { "" };
            world.sql(at, &format!("CREATE TABLE {store}_things (id text {unique}, theirs text)"));
        }
        world.done(&["migrate", "-auto-approve"]);
        let rows: Vec<String> =
            (0..RECORDS).map(|id| format!("('r{id}', 'a{id}', 'b{id}', {id}, 'of r{id}')")).collect();
        world.sql(0, &format!("INSERT INTO hub_things (id, a, b, n, theirs) VALUES {}", rows.join(", ")));
        world.done(&["apply", "-auto-approve"]);
        world.sql(2, "UPDATE local_things SET theirs = 'of ' || id");
        world
    }

    fn write_manifests(&self, kind: Kind, database: Option<&Database>) {
        let postgres = |schema: &str| {
            database.map(|database| format!("postgres: {{url: \"{}\"{schema}}}", database.url))
        };
        let file = |store: &str| format!("sqlite: {{path: ../{store}.db}}");
        let state = match kind {
            Kind::PostgresState => postgres(", schema: state").unwrap(),
            _ => "sqlite: ../state.db".to_owned(),
        };
        let manifests = MANIFESTS
            .replace("HUB", &postgres("").unwrap_or_else(|| file("hub")))
            .replace("APP", &file("app"))
            .replace("LOCAL", &postgres("").unwrap_or_else(|| file("local")))
            .replace("STATE", &state);
        std::fs::create_dir_all(self.folder.path().join("manifests")).unwrap();
        std::fs::write(self.folder.path().join("manifests/all.yaml"), manifests).unwrap();
    }

    /// The same world again, in a folder and a database of its own.
    pub(crate) fn copy(&self, kind: Kind, server: Option<&Server>) -> Self {
        let folder = folder();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = server.map(|server| {
            let template = self.reach.iter().find_map(|reach| match reach {
                Reach::Database(_, name) => Some(name.clone()),
                Reach::File(_) => None,
            });
            runtime.block_on(server.copy_of(&template.unwrap()))
        });
        let reach = self.reach.iter().zip(STORES).map(|(reach, store)| match (reach, &database) {
            (Reach::Database(..), Some(database)) => {
                Reach::Database(database.url.clone(), database.name.clone())
            }
            _ => Reach::File(folder.path().join(format!("{store}.db"))),
        });
        let reach = reach.collect();
        let world = Self { folder, reach, runtime, deeds: Vec::new(), theirs: BTreeSet::new(), edits: 0 };
        world.write_manifests(kind, database.as_ref());
        world
    }

    /// Runs statements in a store, as another application.
    fn sql(&self, store: usize, statements: &str) {
        match &self.reach[store] {
            Reach::File(path) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.busy_timeout(Duration::from_secs(10)).unwrap();
                connection
                    .execute_batch(&format!("BEGIN IMMEDIATE; {statements}; COMMIT"))
                    .unwrap_or_else(|error| panic!("{error}: {statements}"));
            }
            Reach::Database(url, _) => self.runtime.block_on(async {
                let mut connection = PgConnection::connect(url).await.unwrap();
                let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await;
                done.unwrap_or_else(|error| panic!("{error}: {statements}"));
                connection.close().await.unwrap();
            }),
        }
    }

    /// Rows of texts.
    fn rows(&self, store: usize, query: &str, columns: usize) -> Vec<Vec<Option<String>>> {
        match &self.reach[store] {
            Reach::File(path) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.busy_timeout(Duration::from_secs(10)).unwrap();
                let mut statement = connection.prepare(query).unwrap();
                let rows = statement.query_map([], |row| (0..columns).map(|at| row.get(at)).collect());
                rows.unwrap().map(Result::unwrap).collect()
            }
            Reach::Database(url, _) => self.runtime.block_on(async {
                let mut connection = PgConnection::connect(url).await.unwrap();
                let query = sqlx::query(AssertSqlSafe(query.to_owned()));
                let rows = query.fetch_all(&mut connection).await.unwrap();
                connection.close().await.unwrap();
                rows.iter().map(|row| (0..columns).map(|at| row.get(at)).collect()).collect()
            }),
        }
    }

    /// The command, to be run here.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in ["TRUEUP_LOG", "TRUEUP_CLI_ARGS", "TRUEUP_CLI_ARGS_apply", "TRUEUP_CLI_ARGS_plan"] {
            command.env_remove(name);
        }
        command
    }

    /// Begins to apply.
    pub(crate) fn begin(&self) -> Child {
        let mut command = self.command(&["apply", "-auto-approve", "-lock-timeout=15s"]);
        // What is not read would stop a command that says much.
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// What a command says that has to end well.
    fn done(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {}\n{said}", output.status);
        said
    }

    /// A value that nobody wrote before.
    fn fresh(&mut self, field: &str) -> String {
        self.edits += 1;
        if field == "n" { (9_000_000 + self.edits).to_string() } else { format!("new{}x", self.edits) }
    }

    fn edit(&mut self, store: usize, key: &str, field: &'static str, raise: usize) -> String {
        let value = self.fresh(field);
        let table = format!("{}_things", STORES[store]);
        let stamp = if raise == 0 {
            String::new()
        } else {
            format!(
                ", version = version + {raise}, last_updated = '2026-01-01T00:00:00Z', last_updated_by = '{}'",
                STORES[store]
            )
        };
        let edit = format!("UPDATE {table} SET {field} = '{value}'{stamp} WHERE id = '{key}'");
        self.deeds.push(Deed::Edit { key: key.to_owned(), field, value });
        edit
    }

    /// Somebody makes edits in every store: alone and against each other, new records and deletes.
    pub(crate) fn disturb(&mut self, dice: &mut Dice) {
        let mut keys: Vec<String> = (0..RECORDS).map(|id| format!("r{id}")).collect();
        let mut statements: [Vec<String>; 3] = Default::default();
        let mut key = |dice: &mut Dice| keys.swap_remove(dice.below(keys.len()));
        self.theirs = (0..RECORDS).map(|id| format!("r{id}")).collect();
        for number in 0..24 {
            let (key, store, field) = (key(dice), dice.below(3), FIELDS[dice.below(3)]);
            statements[store].push(self.edit(store, &key, field, number % 2));
        }
        // Two fields in two stores, and one field in two or three: the version decides.
        for number in 0..12 {
            let (key, first) = (key(dice), dice.below(3));
            let second = (first + 1 + dice.below(2)) % 3;
            let fields = if number % 2 == 0 { ["a", "b"] } else { ["a", "a"] };
            statements[first].push(self.edit(first, &key, fields[0], 1));
            statements[second].push(self.edit(second, &key, fields[1], 2));
            if number % 3 == 1 {
                let third = 3 - first - second;
                statements[third].push(self.edit(third, &key, "a", 3));
            }
        }
        // Nobody knows who was first: a person decides.
        for _ in 0..2 {
            let key = key(dice);
            for store in [1, 2] {
                statements[store].push(self.edit(store, &key, "b", 0));
            }
        }
        for number in 0..9 {
            let (key, store) = (key(dice), dice.below(3));
            statements[store].push(format!("DELETE FROM {}_things WHERE id = '{key}'", STORES[store]));
            self.theirs.remove(&key);
            if number % 3 == 0 {
                let other = (store + 1 + dice.below(2)) % 3;
                statements[other].push(self.edit(other, &key, "a", 0));
            } else {
                self.deeds.push(Deed::Delete { key });
            }
        }
        for number in 0..10 {
            let (key, first) = (format!("new{number}"), dice.below(3));
            // Now and then two make a record of the same key.
            let stores = if number % 4 == 0 { vec![first, (first + 1) % 3] } else { vec![first] };
            for store in stores {
                let values = FIELDS.map(|field| (field, self.fresh(field)));
                let texts: Vec<String> = values.iter().map(|(_, value)| format!("'{value}'")).collect();
                statements[store].push(format!(
                    "INSERT INTO {}_things (id, a, b, n) VALUES ('{key}', {})",
                    STORES[store],
                    texts.join(", ")
                ));
                self.deeds.extend(values.map(|(field, value)| Deed::Edit { key: key.clone(), field, value }));
            }
        }
        for (store, statements) in statements.iter().enumerate() {
            self.sql(store, &statements.join("; "));
        }
    }

    /// One more edit in each store, of records that nothing has happened to.
    pub(crate) fn disturb_again(&mut self, dice: &mut Dice) {
        let touched: BTreeSet<String> = self
            .deeds
            .iter()
            .map(|deed| match deed {
                Deed::Edit { key, .. } | Deed::Delete { key } => key.clone(),
            })
            .collect();
        let free: Vec<String> =
            (0..RECORDS).map(|id| format!("r{id}")).filter(|key| !touched.contains(key)).collect();
        let first = dice.below(free.len());
        for store in 0..3 {
            let key = free[(first + store) % free.len()].clone();
            let edit = self.edit(store, &key, FIELDS[dice.below(3)], 0);
            self.sql(store, &edit);
        }
    }

    /// Some of those who see another's edit put back what was there before: an edit of theirs, which looks like nothing to who
    /// does not know that the other value had come to them.
    pub(crate) fn revert(&mut self, dice: &mut Dice) -> usize {
        let records = [0, 1, 2].map(|store| self.records(store).unwrap());
        let mut reverted = 0;
        for number in 0..self.deeds.len() {
            let Deed::Edit { key, field, value } = &self.deeds[number] else { continue };
            let Some(id) = key.strip_prefix('r').filter(|_| *field != "n") else { continue };
            let at = FIELDS.iter().position(|name| name == field).unwrap();
            let holds =
                |store: usize| records[store].get(key).and_then(|row| row[at].as_ref()) == Some(value);
            let holders: Vec<usize> = (0..3).filter(|store| holds(*store)).collect();
            // A value that went there and back before anybody else had it was never seen.
            if !holds(0) || holders.len() < 2 || dice.below(2) == 0 {
                continue;
            }
            let (key, field, store) = (key.clone(), *field, holders[dice.below(holders.len())]);
            let value = format!("{field}{id}");
            let table = format!("{}_things", STORES[store]);
            self.sql(store, &format!("UPDATE {table} SET {field} = '{value}' WHERE id = '{key}'"));
            self.deeds[number] = Deed::Edit { key, field, value };
            reverted += 1;
        }
        reverted
    }

    fn records(&self, store: usize) -> Result<Records, String> {
        let name = STORES[store];
        let query = format!("SELECT id, a, b, CAST(n AS text) FROM {name}_things ORDER BY id");
        let mut records = BTreeMap::new();
        for mut row in self.rows(store, &query, 4) {
            let n = row.pop().flatten();
            let b = row.pop().flatten();
            let a = row.pop().flatten();
            let key = row.pop().flatten().unwrap_or_default();
            if records.insert(key.clone(), [a, b, n]).is_some() {
                return Err(format!("{name} has {key} twice"));
            }
        }
        Ok(records)
    }

    /// What the canonical store holds.
    pub(crate) fn canonical(&self) -> Records {
        self.records(0).unwrap()
    }

    /// Applies once more, and looks whether everything that was promised holds.
    pub(crate) fn check(&self) -> Result<(), String> {
        let output = self.command(&["apply", "-auto-approve", "-lock-timeout=15s"]).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("the next apply ends with {}:\n{said}", output.status));
        }
        self.look().map_err(|why| format!("{why}\nthe next apply said:\n{said}"))?;
        let output = self.command(&["plan", "-detailed-exitcode"]).output().unwrap();
        if output.status.code() != Some(0) {
            return Err(format!("the next plan is not empty:\n{}", String::from_utf8_lossy(&output.stdout)));
        }
        Ok(())
    }

    fn look(&self) -> Result<(), String> {
        let records =
            (0..STORES.len()).map(|store| self.records(store)).collect::<Result<Vec<_>, String>>()?;
        let conflicts = self.rows(
            0,
            "SELECT key, status, CAST(fields AS text), CAST(source_record AS text), CAST(target_record AS text), \
             CAST(detail AS text) FROM sync_conflicts",
            6,
        );
        let of = |key: &str| {
            let named = format!("\"{key}\"");
            let of = conflicts.iter().filter(move |row| {
                row[0].as_deref().is_some_and(|whose| whose == key || whose.contains(&named))
            });
            of.cloned().collect::<Vec<_>>()
        };
        let keys: BTreeSet<&String> = records.iter().flat_map(BTreeMap::keys).collect();
        for key in keys {
            for (at, field) in FIELDS.iter().enumerate() {
                let values: BTreeSet<_> =
                    records.iter().map(|store| store.get(key).map(|row| row[at].clone())).collect();
                let held = of(key).iter().any(|row| {
                    row[1].as_deref() == Some("open")
                        && row[2].as_deref().is_some_and(|fields| {
                            fields.contains(&format!("\"{field}\"")) || fields.contains(field)
                        })
                });
                if values.len() > 1 && !held {
                    let each: Vec<_> = records.iter().map(|store| store.get(key)).collect();
                    return Err(format!("{key}.{field} differs, and no conflict says so: {each:?}"));
                }
            }
        }
        for deed in &self.deeds {
            match deed {
                Deed::Delete { key } => {
                    if let Some(row) = records[0].get(key) {
                        return Err(format!("{key} was deleted and is there again: {row:?}"));
                    }
                }
                Deed::Edit { key, field, value } => {
                    let at = FIELDS.iter().position(|name| name == field).unwrap();
                    let canonical = records[0].get(key).and_then(|row| row[at].clone());
                    let on_record = || {
                        of(key).iter().any(|row| row[3..].iter().flatten().any(|text| text.contains(value)))
                    };
                    if canonical.as_ref() != Some(value) && !on_record() {
                        let each: Vec<_> = records.iter().map(|store| store.get(key)).collect();
                        return Err(format!(
                            "the edit of {key}.{field} to {value} is lost: {each:?}, {:?}",
                            of(key)
                        ));
                    }
                }
            }
        }
        // What no mapping names is left alone.
        for (store, query) in
            [(0, "SELECT id, theirs FROM hub_things"), (2, "SELECT id, theirs FROM local_things")]
        {
            for row in self.rows(store, query, 2) {
                let key = row[0].clone().unwrap_or_default();
                if self.theirs.contains(&key) && row[1] != Some(format!("of {key}")) {
                    return Err(format!("{}: what stands beside {key} is {:?}", STORES[store], row[1]));
                }
            }
        }
        Ok(())
    }

    /// The folder, for messages.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder where it is.
    pub(crate) fn keep(self) {
        let _ = self.folder.keep();
    }
}
