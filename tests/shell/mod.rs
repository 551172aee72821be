//! A folder with manifests and real stores, and the command run in it.
#![allow(dead_code)] // Every test takes what it needs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use assert_cmd::assert::OutputAssertExt;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

/// Variables that would change what commands do.
const OURS: [&str; 6] = [
    "NO_COLOR",
    "TRUEUP_LOG",
    "TRUEUP_INPUT",
    "TRUEUP_IN_AUTOMATION",
    "TRUEUP_CLI_ARGS",
    "TRUEUP_CLI_ARGS_plan",
];

/// Manifests of stores in files, the first one canonical, and of one entity that all of them have with its metadata; its fields as in
/// `name: string, age: int64`.
pub(crate) fn manifests(stores: &[&str], entity: &str, fields: &str) -> String {
    let store = |(at, name): (usize, &&str)| {
        let canonical = if at == 0 { "canonical: true, " } else { "" };
        format!("metadata: {{name: {name}}}\nspec: {{{canonical}sqlite: {{path: ../stores/{name}.db}}}}")
    };
    let place = |name: &&str| {
        format!("    {name}: {{table: {entity}, fields: {{\"*\": same}}, sync: {{columns: same}}}}")
    };
    let named = format!("metadata: {{name: {entity}}}\nspec:");
    let fields = fields.replace(", ", "\n    ");
    let places: Vec<String> = stores.iter().map(place).collect();
    let documents = stores.iter().enumerate().map(|one| ("Store", store(one))).chain([
        ("Entity", format!("{named}\n  key: {{id: string}}\n  fields:\n    {fields}")),
        ("Mapping", format!("{named}\n  entity: {entity}\n  stores:\n{}", places.join("\n"))),
    ]);
    let documents: Vec<String> =
        documents.map(|(kind, text)| format!("---\napiVersion: trueup/v1\nkind: {kind}\n{text}\n")).collect();
    documents.concat()
}

/// A folder that is removed in the end.
#[derive(Clone)]
pub(crate) struct Place {
    root: Arc<tempfile::TempDir>,
    at: PathBuf,
}

impl Place {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { at: root.path().to_owned(), root: Arc::new(root) }
    }

    /// One with a `manifests` folder holding this text, and a `stores` folder.
    pub(crate) fn with(manifests: &str) -> Self {
        let place = Self::new();
        for name in ["manifests", "stores"] {
            std::fs::create_dir(place.at.join(name)).unwrap();
        }
        place.manifests(manifests);
        place
    }

    pub(crate) fn manifests(&self, text: &str) {
        std::fs::write(self.at.join("manifests/all.yaml"), text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    pub(crate) fn inside(&self, name: &str) -> Self {
        Self { root: self.root.clone(), at: self.at.join(name) }
    }

    pub(crate) fn above(&self) -> Self {
        Self { root: self.root.clone(), at: self.root.path().to_owned() }
    }

    /// A program in the folder, without what the environment would add.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for name in OURS {
            command.env_remove(name);
        }
        command.current_dir(&self.at).stdin(std::process::Stdio::null());
        command
    }

    /// The command in the folder.
    pub(crate) fn trueup(&self, args: &[&str]) -> Command {
        let mut command = self.command(assert_cmd::cargo::cargo_bin("trueup"));
        command.args(args);
        command
    }

    /// Both streams of a command that ends with this code.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str], code: i32) -> String {
        let done = self.trueup(args).assert().code(code);
        let output = done.get_output();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Standard output of a command that ends with this code, as an object a line.
    #[track_caller]
    pub(crate) fn stream(&self, args: &[&str], code: i32) -> Vec<serde_json::Value> {
        let output = self.trueup(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// The first conflict that waits for a person.
    pub(crate) fn conflict(&self) -> String {
        let page: serde_json::Value =
            serde_json::from_str(&self.run(&["conflicts", "list", "-json"], 0)).unwrap();
        page["conflicts"][0]["id"].as_str().unwrap_or_else(|| panic!("{page:#}")).to_owned()
    }

    /// Edits a store as another application would.
    pub(crate) fn sql(&self, store: &str, statements: &str) {
        self.connected(store, async |connection| {
            sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.unwrap();
        });
    }

    /// The text that a query gives.
    pub(crate) fn text(&self, store: &str, query: &str) -> String {
        self.connected(store, async |connection| {
            let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(connection).await.unwrap();
            row.get::<Option<String>, _>(0).unwrap_or_default()
        })
    }

    fn connected<T>(&self, store: &str, work: impl AsyncFnOnce(&mut sqlx::SqliteConnection) -> T) -> T {
        let file = self.at.join("stores").join(format!("{store}.db"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection =
                sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.unwrap();
            let result = work(&mut connection).await;
            connection.close().await.unwrap();
            result
        })
    }
}
