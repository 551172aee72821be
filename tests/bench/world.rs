//! Where a scenario happens: a Postgres, databases in it, and a folder with manifests that `trueup` is run in.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};
use tokio::runtime::Runtime;

use crate::measure::{Measured, measure};
use crate::server::{Database, Disk, Server};
use crate::{Outcome, contacts};

/// As somebody would set up a server of a few gigabytes; what is committed is flushed.
const SETTINGS: &str = "
shared_buffers = 1GB
max_wal_size = 4GB
checkpoint_timeout = 15min
maintenance_work_mem = 256MB
";

/// What a store holds, boiled down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// How many records there are.
    pub(crate) records: u64,
    digest: [u8; 32],
    /// The first of them, to be shown where something differs.
    pub(crate) first: String,
}

impl Contents {
    /// Fails where two stores differ.
    pub(crate) fn must_equal(&self, other: &Self, when: &str) -> Outcome<()> {
        if self == other {
            return Ok(());
        }
        let [one, two] = [self, other].map(|it| format!("{} records, the first\n  {}", it.records, it.first));
        Err(format!("two stores differ {when}:\n{one}\n{two}").into())
    }

    fn add(&mut self, record: &str) {
        if self.records == 0 {
            record.clone_into(&mut self.first);
        }
        self.records += 1;
        self.digest = Sha256::new().chain_update(self.digest).chain_update(record).finalize().into();
    }
}

/// What all worlds share.
pub(crate) struct Ground {
    server: Server,
    runtime: Runtime,
    /// How many records there are.
    pub(crate) rows: u64,
    /// The program to compare with, where there is one.
    pub(crate) reladiff: Option<PathBuf>,
}

impl Ground {
    /// Starts the server.
    pub(crate) fn new(rows: u64, reladiff: Option<PathBuf>) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { server: Server::start_with(Disk::Flushed, SETTINGS), runtime, rows, reladiff })
    }

    /// A fresh, empty database.
    pub(crate) fn database(&self) -> Database {
        self.runtime.block_on(self.server.database())
    }

    /// A database with all the records.
    pub(crate) fn filled(&self) -> Database {
        let database = self.database();
        self.sql(&database, contacts::table());
        self.sql(&database, &contacts::rows(self.rows));
        self.settle([&database]);
        database
    }

    /// Removes databases and what they take on the disk.
    pub(crate) fn remove<const COUNT: usize>(&self, databases: [&Database; COUNT]) {
        let all = Database { name: "postgres".to_owned(), url: self.server.url("postgres") };
        for database in databases {
            self.sql(&all, &format!("DROP DATABASE {} WITH (FORCE)", database.name));
        }
    }

    /// Runs a statement.
    pub(crate) fn sql(&self, database: &Database, statement: &str) {
        self.runtime.block_on(database.sql(statement));
    }

    /// Lets the server do now what it would do at some time during a measurement.
    pub(crate) fn settle<const COUNT: usize>(&self, databases: [&Database; COUNT]) {
        for database in databases {
            self.sql(database, "VACUUM ANALYZE");
            self.sql(database, "CHECKPOINT");
        }
    }

    /// The first column of the first row, as text.
    pub(crate) fn ask(&self, database: &Database, query: &str) -> Outcome<String> {
        self.runtime.block_on(async {
            let mut connection = database.connect().await;
            let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await?;
            connection.close().await?;
            Ok(row.try_get::<String, _>(0)?)
        })
    }

    /// How many records fulfil a condition.
    pub(crate) fn count(&self, database: &Database, condition: &str) -> Outcome<u64> {
        Ok(self.ask(database, &format!("SELECT count(*)::text FROM contacts WHERE {condition}"))?.parse()?)
    }

    /// All fields of all records of a database, as text that only Postgres writes like that.
    pub(crate) fn all_fields(&self, database: &Database) -> Outcome<Contents> {
        let fields = contacts::FIELDS.map(|field| format!("coalesce({field}::text, '')")).join(", ");
        self.contents(
            database,
            format!(
                "SELECT concat_ws('|', contact_id, {fields}, created_at::text) FROM contacts ORDER BY contact_id COLLATE \"C\""
            ),
        )
    }

    /// The texts of all records of a database.
    pub(crate) fn texts(&self, database: &Database) -> Outcome<Contents> {
        self.contents(database, format!("{TEXTS} COLLATE \"C\""))
    }

    fn contents(&self, database: &Database, query: String) -> Outcome<Contents> {
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect(&database.url).await?;
            let mut contents = Contents::default();
            let mut rows = sqlx::query(AssertSqlSafe(query)).fetch(&mut connection);
            while let Some(row) = rows.try_next().await? {
                contents.add(row.try_get(0)?);
            }
            Ok(contents)
        })
    }

    /// The texts of all records of a file, as [`Ground::texts`] has them.
    pub(crate) fn texts_of_file(&self, file: &Path) -> Outcome<Contents> {
        self.runtime.block_on(async {
            let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await?;
            let mut contents = Contents::default();
            let mut rows = sqlx::query(TEXTS).fetch(&mut connection);
            while let Some(row) = rows.try_next().await? {
                contents.add(row.try_get(0)?);
            }
            Ok(contents)
        })
    }
}

const TEXTS: &str = "
SELECT contact_id || '|' || canonical_name || '|' || name_normalized || '|' || first_name || '|' || last_name || '|' ||
    organization || '|' || job_title || '|' || department || '|' || category_code || '|' || subcategory_code || '|' ||
    relationship_category || '|' || notes
FROM contacts ORDER BY contact_id";

/// A folder with manifests and a state.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// Of these stores, as [`contacts::manifests`] has them.
    pub(crate) fn new(stores: &[(&str, String)]) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("trueup-bench-").tempdir()?;
        std::fs::create_dir(folder.path().join("manifests"))?;
        std::fs::write(folder.path().join("manifests/all.yaml"), contacts::manifests(stores))?;
        Ok(Self { folder })
    }

    /// A file or folder in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command of trueup's, which has to end well.
    pub(crate) fn trueup(&self, args: &[&str]) -> Outcome<Measured> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRUEUP_"))
        {
            command.env_remove(name);
        }
        command.current_dir(self.folder.path()).args(args).env("NO_COLOR", "1");
        measure(&mut command, self.folder.path())
    }

    /// Runs it and looks for a line that says it did what it should.
    pub(crate) fn trueup_says(&self, args: &[&str], line: &str) -> Outcome<Measured> {
        let measured = self.trueup(args)?;
        if measured.output.lines().any(|said| said.trim_end() == line) {
            return Ok(measured);
        }
        let lines: Vec<&str> = measured.output.lines().collect();
        let end = lines[lines.len().saturating_sub(15)..].join("\n");
        Err(format!("`trueup {}` did not say `{line}`, but:\n{end}", args.join(" ")).into())
    }

    /// Has the other program compare two databases; it has to find so many records that differ.
    pub(crate) fn reladiff(
        &self,
        ground: &Ground,
        [one, other]: [&Database; 2],
        differing: usize,
    ) -> Outcome<Option<Measured>> {
        let Some(program) = &ground.reladiff else { return Ok(None) };
        let mut command = Command::new(program);
        let [one, other] = [one, other].map(|database| database.url.replace("postgres://", "postgresql://"));
        command.args([one.as_str(), "contacts", other.as_str(), "contacts", "--json"]);
        command.args(["-k", "contact_id", "-c", "%"]);
        let measured = measure(&mut command, self.folder.path())?;
        let lines = measured.output.lines().filter(|line| line.starts_with("[\"")).count();
        if lines != 2 * differing {
            let start: String = (measured.output + &measured.errors).chars().take(2000).collect();
            return Err(format!("reladiff found {lines} lines of {}: {start}", 2 * differing).into());
        }
        Ok(Some(measured))
    }

    /// Forgets all that was remembered.
    pub(crate) fn forget(&self) -> Outcome<()> {
        let state = self.path("manifests/.trueup");
        if state.exists() {
            std::fs::remove_dir_all(state)?;
        }
        Ok(())
    }

    /// How big the state is, with what was not yet taken up into its main file.
    pub(crate) fn state_bytes(&self) -> Outcome<u64> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.path("manifests/.trueup"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("state.db") {
                bytes += entry.metadata()?.len();
            }
        }
        if bytes == 0 { Err("there is no state".into()) } else { Ok(bytes) }
    }
}

/// A Postgres store in a manifest.
pub(crate) fn postgres(database: &Database) -> String {
    format!("postgres: {{url: \"{}\"}}", database.url)
}
