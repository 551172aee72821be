//! A server that behaves as Twenty, the CRM, was measured to: for demonstrations, and for tests that have to be hard to pass.
//!
//! It is strict. What a real server was seen to do, it does, unpleasant things first: values read back differently from how they
//! were written, an upsert takes over other people's records, pages lose rows. What nobody has measured it refuses with a message
//! that says so, rather than letting a client come to rely on it.
//!
//! It knows nothing of the store that talks to Twenty, nor that of it: a mistake made in one must not be made in the other. Records
//! are kept in SQLite, in memory or in a file.

mod answer;
mod clock;
mod editor;
mod faults;
mod filter;
mod graphql;
mod hooks;
mod limit;
mod list;
mod metadata;
mod records;
mod relations;
mod request;
mod rest;
mod schema;
mod server;
mod value;
mod wire;
mod world;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use clock::{Clock, Hand};
pub use editor::{Editor, Refused};
pub use faults::{Calls, Fault, Faults};

use hooks::Hooks;
use limit::Limiter;
use server::{Server, locked};
use wire::Door;
use world::World;

/// How a sandbox is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on loopback; 0 takes a free one.
    pub port: u16,
    /// The API key that clients have to send.
    pub key: String,
    /// The name of that key, which every write is signed with.
    pub key_name: String,
    /// The file that keeps everything; without one it is kept in memory.
    pub data: Option<PathBuf>,
    /// The size of the bucket that is filled in a minute.
    pub calls_per_minute: u32,
    /// The size of the bucket that is filled in a second.
    pub calls_per_second: u32,
    /// What `createdAt` and the buckets go by.
    pub clock: Clock,
    /// How long a webhook's receiver has to answer.
    pub webhook_timeout: Duration,
    /// Whether the metadata API wraps its answers: `{data: {objects: [..]}}`, `{data: {createOneField: {..}}}`, or, as servers have
    /// it that were told to, `{data: [..]}` and the field itself. Clients have to understand both.
    pub metadata_envelopes: bool,
}

impl Options {
    /// A sandbox in memory on a free port, with the limits of a real server.
    pub fn new(key: impl Into<String>) -> Self {
        Self {
            port: 0,
            key: key.into(),
            key_name: "Sandbox".to_owned(),
            data: None,
            calls_per_minute: 100,
            calls_per_second: 100,
            clock: Clock::system(),
            webhook_timeout: Duration::from_secs(5),
            metadata_envelopes: true,
        }
    }
}

/// A call that was answered, refusals included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSeen {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// When it was answered.
    pub at: std::time::Instant,
    /// When that was by the sandbox's own clock, in milliseconds since 1970.
    pub clock_ms: i64,
}

/// A running server. It has a thread and a runtime of its own, so it works from any test and does not see a test's paused time; it
/// stops when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    server: Arc<Server>,
    runtime: tokio::runtime::Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts one on loopback.
    ///
    /// # Errors
    /// When the port is taken, or the file cannot be used.
    pub fn start(options: Options) -> Result<Self, String> {
        if options.key.is_empty() {
            return Err("the API key is empty".to_owned());
        }
        let world = World::open(options.data.as_deref(), options.clock.clone(), &options.key_name);
        let mut world = world.map_err(|refusal| match &options.data {
            Some(file) => format!("cannot use {}: {}", file.display(), refusal.message),
            None => refusal.message,
        })?;
        world.metadata_envelopes = options.metadata_envelopes;
        let now = options.clock.now_ms();
        let server = Arc::new(Server {
            key: options.key,
            clock: options.clock,
            world: Mutex::new(world),
            limiter: Mutex::new(Limiter::new(options.calls_per_second, options.calls_per_minute, now)),
            faults: Faults::default(),
            hooks: Hooks::new(options.webhook_timeout),
            seen: Mutex::new(VecDeque::new()),
        });
        let stop = CancellationToken::new();
        let (ready, started) = mpsc::channel();
        let (shared, stopped, port) = (server.clone(), stop.clone(), options.port);
        let thread = std::thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn(move || run(port, shared, stopped, &ready))
            .map_err(|error| format!("cannot start: {error}"))?;
        let gone = |_| "the sandbox ended before it began".to_owned();
        let (address, runtime) = started.recv().map_err(gone).and_then(|started| started)?;
        Ok(Self { address, server, runtime, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What goes wrong, and when.
    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    /// Makes edits as other people do, without calls. Webhooks are told of them.
    pub fn edit<T>(&self, work: impl FnOnce(&mut Editor<'_>) -> T) -> T {
        // Deliveries are tasks, and this thread may have no runtime or another one.
        let _inside = self.runtime.enter();
        self.server.edit(work)
    }

    /// The calls that were answered, oldest first; the last 100,000 of them.
    pub fn calls(&self) -> Vec<CallSeen> {
        locked(&self.server.seen).iter().cloned().collect()
    }

    /// How many calls would be let in at this moment.
    pub fn calls_left(&self) -> u32 {
        locked(&self.server.limiter).left(self.server.clock.now_ms())
    }

    /// Waits until every webhook so far has been delivered or given up.
    pub async fn webhooks_settled(&self) {
        let mut pending = self.server.hooks.pending();
        // The sender lives as long as the server.
        let _ = pending.wait_for(|pending| *pending == 0).await;
    }

    /// Stops at once, as a killed process does: what is in flight gets no answer. The port is free afterwards.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has stopped as well.
            let _ = thread.join();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end();
    }
}

type Started = Result<(SocketAddr, tokio::runtime::Handle), String>;

/// The server's thread.
fn run(port: u16, server: Arc<Server>, stop: CancellationToken, ready: &mpsc::Sender<Started>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(format!("cannot start: {error}")));
            return;
        }
    };
    let handle = runtime.handle().clone();
    runtime.block_on(async {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let bound =
            TcpListener::bind(wanted).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
        match bound {
            Ok((address, listener)) => {
                // Whoever waits for this may be gone, and then stops the server.
                let _ = ready.send(Ok((address, handle)));
                server::serve(Door { listener }, server, stop).await;
            }
            Err(error) => {
                let _ = ready.send(Err(format!("cannot listen on {wanted}: {error}")));
            }
        }
    });
}
