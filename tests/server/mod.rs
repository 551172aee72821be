//! A Postgres for tests: Debian's server, started in a folder of its own when the first test asks for it, and gone with the
//! process, however that ends.
//!
//! `database()` gives a fresh database on the server that the process shares; a test that kills its server starts one of
//! its own with [`Server::start`]. Where no Postgres is installed the tests fail and say what to install.
#![allow(dead_code, clippy::unwrap_used)] // Every test takes what it needs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// How long a server may take to start or to stop, also on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Names the folder with the programs of the Postgres to take, instead of the newest one found.
const CHOICE: &str = "TRUEUP_TEST_POSTGRES";

/// What is done with what was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Flushed, as in production.
    Flushed,
    /// Left to the operating system: faster, and nobody pulls a plug here.
    Lazy,
}

/// A database of its own for a test.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// Its name on the server.
    pub(crate) name: String,
    /// How to reach it, without a password: any is taken.
    pub(crate) url: String,
}

impl Database {
    /// A connection to it, as another application would have.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap_or_else(|error| panic!("{}: {error}", self.url))
    }

    /// Runs statements in it.
    pub(crate) async fn sql(&self, statements: &str) {
        let mut connection = self.connect().await;
        let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{error}: {statements}"));
        connection.close().await.unwrap();
    }
}

/// A fresh, empty database on the server that this process shares.
pub(crate) async fn database() -> Database {
    shared().database().await
}

/// The server that this process shares.
pub(crate) fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(Disk::Lazy))
}

/// A running server.
pub(crate) struct Server {
    programs: PathBuf,
    folder: PathBuf,
    user: Option<User>,
    port: u16,
    process: Option<Child>,
    /// A shell that waits for the end of its input, which is the end of this process, and cleans up then. Statics are
    /// never dropped, and a killed process drops nothing.
    guardian: Child,
    databases: AtomicU32,
}

/// Who the server runs as where the tests run as root, which it refuses.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

const GUARDIAN: &str = r#"
trap '' INT TERM HUP
while read -r _; do :; done
pid=$(sed -n 1p "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
    kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$1"
"#;

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 32MB
max_wal_size = 256MB
# In the folder, and gone with it: what a killed server shares elsewhere stays for ever.
dynamic_shared_memory_type = mmap
logging_collector = off
log_min_messages = warning
# As far from what we should not depend on as a real server may be.
timezone = 'Asia/Kathmandu'
datestyle = 'SQL, DMY'
bytea_output = 'escape'
";

impl Server {
    /// Starts a server in a new folder.
    pub(crate) fn start(disk: Disk) -> Self {
        Self::start_with(disk, "")
    }

    /// The same with more settings, as lines of `postgresql.conf`.
    pub(crate) fn start_with(disk: Disk, more: &str) -> Self {
        let programs = programs();
        let user = not_root();
        let folder = tempfile::Builder::new().prefix("trueup-pg-").tempdir().unwrap().keep();
        let guardian = guardian(&folder);
        let mut server =
            Self { programs, folder, user, port: 0, process: None, guardian, databases: AtomicU32::new(0) };
        server.own(&server.folder);
        server.init();
        let flush = if disk == Disk::Lazy { "fsync = off\nfull_page_writes = off\n" } else { "" };
        let settings = server.data().join("postgresql.conf");
        std::fs::write(&settings, format!("{SETTINGS}{flush}{more}")).unwrap();
        server.own(&settings);
        // Another process may take a port between our look and the server's.
        for _ in 0..5 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            server.port = listener.local_addr().unwrap().port();
            drop(listener);
            if server.run() {
                return server;
            }
        }
        panic!("Postgres does not start: {}", server.log())
    }

    /// The port on the loopback address.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the server's socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.folder
    }

    /// How to reach a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A fresh, empty database.
    pub(crate) async fn database(&self) -> Database {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let url = self.url(&name);
        Database { name: "postgres".to_owned(), url: self.url("postgres") }
            .sql(&format!("CREATE DATABASE {name}"))
            .await;
        Database { name, url }
    }

    /// A copy of a database that nobody is connected to.
    pub(crate) async fn copy_of(&self, template: &str) -> Database {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let url = self.url(&name);
        Database { name: "postgres".to_owned(), url: self.url("postgres") }
            .sql(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .await;
        Database { name, url }
    }

    /// Kills the server with all its processes, as a power cut would.
    pub(crate) fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let pid = process.id();
        let family: Vec<u32> = children_of(pid).into_iter().chain([pid]).collect();
        signal("KILL", &family);
        process.wait().unwrap();
        // They do not outlive their parent; the next start waits for their memory.
        let began = Instant::now();
        while family.iter().any(|pid| is_alive(*pid)) && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again, on the same port, after [`Server::kill`].
    pub(crate) fn restart(&mut self) {
        self.kill();
        let began = Instant::now();
        while !self.run() {
            assert!(began.elapsed() < PATIENCE, "Postgres does not start again: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn own(&self, path: &Path) {
        if let Some(user) = self.user {
            std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).unwrap();
        }
    }

    /// One of Postgres' programs, as somebody who may run it.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
                command.args(["--clear-groups", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        // Variables such as PGDATA and PGOPTIONS are for somebody's own server.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command.current_dir(&self.folder).env("LC_ALL", "C").stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn init(&self) {
        let init = |more: &[&str]| {
            let _ = std::fs::remove_dir_all(self.data());
            let mut command = self.program("initdb");
            command.args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ]);
            command.args(more).arg("-D").arg(self.data()).status().is_ok_and(|status| status.success())
        };
        // Texts sorted by a language's rules, as on most servers: the order of bytes has to be asked for. Before version
        // 15 the order came from the system's locales, of which a small system has none.
        let done = init(&["--locale-provider=icu", "--icu-locale=en-US"]) || init(&[]);
        assert!(done, "initdb failed: {}", self.log());
    }

    /// Starts the server and waits until it takes connections; false when it gave up.
    fn run(&mut self) -> bool {
        use std::os::unix::process::CommandExt as _;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.folder).args(["-p", &self.port.to_string()]);
        // Not stopped by the terminal with the tests: the guardian does it in order.
        let mut process = command.process_group(0).spawn().unwrap();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            // The first line is the server's number (an older file may lie there), the eighth how far it is.
            let status = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let mut lines = status.lines();
            let number = lines.next().and_then(|line| line.trim().parse().ok());
            if number == Some(process.id()) && lines.nth(6).is_some_and(|line| line.trim() == "ready") {
                self.process = Some(process);
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = process.kill();
        let _ = process.wait();
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal("QUIT", &[process.id()]);
            let began = Instant::now();
            while process.try_wait().is_ok_and(|ended| ended.is_none()) && began.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

/// A program as the user that servers run as, who may be another one than the tests' own.
pub(crate) fn as_user(program: &Path) -> Command {
    let Some(user) = not_root() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
    command.args(["--clear-groups", "--"]).arg(program);
    command
}

/// Gives a file or folder to the user that servers run as.
pub(crate) fn give(path: &Path) {
    if let Some(user) = not_root() {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).unwrap();
    }
}

fn guardian(folder: &Path) -> Child {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("sh");
    command.args(["-c", GUARDIAN, "guardian"]).arg(folder).process_group(0).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Sends a signal; processes that are gone are left out.
pub(crate) fn signal(name: &str, pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let script = format!("for pid in {}; do kill -{name} $pid; done", pids.join(" "));
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = command.status();
}

/// A process' state and its parent; none: there is no such process.
fn look_at(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    let mut words = stat.rsplit(')').next()?.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

/// Whether a process can still do something: one that ended may wait for its parent for a while.
fn is_alive(pid: u32) -> bool {
    look_at(pid).is_some_and(|(state, _)| state != "Z")
}

fn children_of(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| look_at(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// The user to run as, if this is root: Debian's `postgres`, else `nobody`.
fn not_root() -> Option<User> {
    let number = |args: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(args).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if number(&["-u"]) != Some(0) {
        return None;
    }
    let user = ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| Some(User { uid: number(&["-u", name])?, gid: number(&["-g", name])? }));
    Some(user.expect("root may not run Postgres, and there is no user `postgres` or `nobody` to do it"))
}

/// The folder with the programs of the newest Postgres.
fn programs() -> PathBuf {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(choice) = std::env::var_os(CHOICE) {
        folders.push(choice.into());
    } else {
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        if let Ok(output) = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output() {
            folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
        }
        let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        folders.extend(debian.map(|version| version.path().join("bin")));
    }
    let found = folders.into_iter().filter_map(|folder| {
        // A link to the server may lie in a folder without the rest.
        let server = std::fs::canonicalize(folder.join("postgres")).ok()?;
        let folder = server.parent()?.to_owned();
        let output = Command::new(&server).arg("--version").stderr(Stdio::null()).output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        let major: u32 = version
            .split_whitespace()
            .nth(2)?
            .split(|char: char| !char.is_ascii_digit())
            .next()?
            .parse()
            .ok()?;
        folder.join("initdb").exists().then_some((major, folder))
    });
    match found.max() {
        Some((_, folder)) => folder,
        None => panic!(
            "no Postgres server (`postgres` with `initdb`) was found in PATH, `pg_config --bindir` or \
             /usr/lib/postgresql/*/bin: install one (`apt-get install postgresql`), or name its folder in {CHOICE}"
        ),
    }
}
