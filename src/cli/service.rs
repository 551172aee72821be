//! `run`: passes until told to stop, with metrics, health, webhooks and an API over HTTP.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::controller::{Engine, Inbox, Reload, RunOptions, Running, pace_options, run as run_loop, watch};
use crate::http::{self, Board, Current, Health, Site};
use crate::spec::Spec;
use crate::telemetry::{Event, LoggedOnce, Metrics, Observer};

use super::args::RunArgs;
use super::manifests::{self, Refused};
use super::output::Ui;
use super::session::{Session, work_options};
use super::{Exit, Failure, signals};

/// How often the manifests' folder is looked at.
const MANIFESTS_EVERY: Duration = Duration::from_secs(2);

/// What goes on beside the loop, for the manifests in force.
struct Beside {
    site: Arc<Site>,
    metrics: Arc<Metrics>,
    inbox: Arc<Inbox>,
    observer: Arc<dyn Observer>,
    watchers: std::sync::Mutex<CancellationToken>,
    stop: CancellationToken,
}

impl Beside {
    /// These manifests hold from now on.
    fn hold(&self, engine: &Arc<Engine>) {
        let (current, problems) = Current::of(Arc::clone(engine));
        for problem in problems {
            warn!("{problem}; whoever needs it is refused");
        }
        self.site.set(current);
        self.metrics.adopt(engine.spec());
        let watchers = self.stop.child_token();
        watch(engine.spec(), &self.inbox, &self.observer, &watchers);
        let mut before = self.watchers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *before, watchers).cancel();
    }
}

pub(super) async fn run(session: &Session<'_>, args: &RunArgs) -> Result<Exit, Failure> {
    let stop = signals::stop_on_signals(session.ui);
    serve(session, args, &stop).await
}

/// Runs until `stop` is cancelled, or once.
pub(super) async fn serve(
    session: &Session<'_>,
    args: &RunArgs,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let spec = session.load()?;
    let metrics = Arc::new(Metrics::new(&spec).map_err(|error| Failure::new(format!("metrics: {error}")))?);
    let board = Arc::new(Board::default());
    let told = Told { metrics: metrics.clone(), board: board.clone(), log: LoggedOnce::default() };
    let observer: Arc<dyn Observer> = Arc::new(told);
    let inbox = Arc::new(Inbox::default());
    let interval = args.interval.unwrap_or(Duration::from_millis(spec.controller.interval_ms));
    let health = Arc::new(Health::new(interval));
    let site = Arc::new(Site::new(metrics.clone(), health.clone(), board, inbox.clone(), observer.clone()));
    let address = args.listen.or((!args.once).then_some(spec.controller.http_address));
    let server = match address {
        Some(address) => Some(start_server(address, &site, stop, session.ui).await?),
        None => None,
    };
    let engine = Arc::new(Engine::open(spec, false).await?);
    let beside = Beside {
        site,
        metrics,
        inbox: inbox.clone(),
        observer: observer.clone(),
        watchers: std::sync::Mutex::new(stop.child_token()),
        stop: stop.clone(),
    };
    if args.once {
        let (current, _) = Current::of(engine.clone());
        beside.site.set(current);
    } else {
        beside.hold(&engine);
    }
    let (news, reloads) = mpsc::channel(1);
    if !args.once {
        let folder = session.shared.manifests.clone();
        tokio::spawn(reload(folder, engine.clone(), news, stop.clone()));
    }
    let options = RunOptions {
        interval: args.interval,
        once: args.once,
        dry_run: args.dry_run,
        seed: seed(),
        pass: work_options(&args.work),
    };
    health.set_interval(Duration::from_millis(pace_options(&engine, &options).interval_ms));
    let running = Running {
        engine,
        inbox: &inbox,
        health: &health,
        observer: &*observer,
        reloads,
        changed: &|engine| beside.hold(engine),
        stop: stop.clone(),
    };
    let summary = run_loop(running, &options).await;
    stop.cancel();
    if let Some(server) = server {
        // A server that failed has said so; there is nothing left to serve.
        let _ = server.await;
    }
    if let Some(failure) = summary.failure.filter(|_| args.once) {
        return Err(failure.into());
    }
    let incomplete =
        args.once && summary.last.is_some_and(|report| !report.is_clean() || !report.guards.is_empty());
    Ok(if incomplete { Exit::Incomplete } else { Exit::Ok })
}

async fn start_server(
    address: std::net::SocketAddr,
    site: &Arc<Site>,
    stop: &CancellationToken,
    ui: &Ui,
) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let listener = http::bind(address)
        .await
        .map_err(|message| Failure::new(message).hint("choose another address with --listen ADDRESS"))?;
    let bound = listener.local_addr().unwrap_or(address);
    info!(address = %bound, "serving /metrics, /livez, /healthz, /readyz, /webhooks, /api/v1 and the page");
    ui.message(&format!("Serving http://{bound}/metrics and http://{bound}/healthz\n"));
    let (site, stop) = (site.clone(), stop.clone());
    Ok(tokio::spawn(async move {
        if let Err(error) = http::serve(listener, site, stop).await {
            tracing::error!("the HTTP server failed: {error}");
        }
    }))
}

/// Reads the manifests again when they change, or when the process is told to (SIGHUP), and opens anew what they name when a file that they
/// refer to changes or a store that could not be opened can be. What cannot be used is told, and what holds goes on.
async fn reload(
    folder: PathBuf,
    mut engine: Arc<Engine>,
    news: mpsc::Sender<Reload>,
    stop: CancellationToken,
) {
    let mut before = looks(manifests_in(&folder));
    let mut behind = looks(engine.spec().files_referred_to());
    let mut hang_up = signals::HangUp::new();
    // What was refused is told once, until it changes.
    let mut refused: Option<String> = None;
    // Whether what was refused may be had later without a change here: a state that is away, for one.
    let mut again = false;
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(MANIFESTS_EVERY) => false,
            () = hang_up.wait() => true,
            () = stop.cancelled() => return,
        };
        let now = (looks(manifests_in(&folder)), looks(engine.spec().files_referred_to()));
        let anew = now.1 != behind || engine.opens_more().await;
        if now.0 == before && !asked && !again && !anew {
            continue;
        }
        (before, behind, again) = (now.0, now.1, false);
        let reload = match read(&folder) {
            Ok(spec) if spec.sha == engine.spec().sha && !asked && !anew && refused.is_none() => continue,
            Ok(spec) => {
                // Before they are read: what changes meanwhile is news.
                let files = looks(spec.files_referred_to());
                match Engine::open(spec, false).await.map(Arc::new) {
                    Ok(opened) => {
                        (engine, behind, refused) = (Arc::clone(&opened), files, None);
                        Reload::Changed(opened)
                    }
                    Err(error) => {
                        again = true;
                        Reload::Refused(error.message)
                    }
                }
            }
            Err(why) => Reload::Refused(why),
        };
        if let Reload::Refused(why) = &reload {
            if refused.as_ref() == Some(why) && !asked {
                continue;
            }
            refused = Some(why.clone());
        }
        if news.send(reload).await.is_err() {
            return;
        }
    }
}

fn read(folder: &Path) -> Result<Arc<Spec>, String> {
    match manifests::load(folder, false) {
        Ok(loaded) => Ok(loaded.spec),
        Err(Refused::Unreadable(failure)) => Err(failure.message),
        Err(Refused::Mistakes { diagnostics, .. }) => {
            Err(crate::spec::render_lines(&diagnostics).trim_end().to_owned())
        }
    }
}

/// The files of a folder. Schemas that manifests name lie there as well.
fn manifests_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// What changes about files whenever one of them is written.
fn looks(files: impl IntoIterator<Item = PathBuf>) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let files = files.into_iter().filter_map(|file| {
        let found = std::fs::metadata(&file).ok().filter(std::fs::Metadata::is_file)?;
        Some((file, found.len(), found.modified().ok()))
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

/// Happenings become log lines, metrics, and what is shown over HTTP.
struct Told {
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    log: LoggedOnce,
}

impl Observer for Told {
    fn notice(&self, event: &Event<'_>) {
        self.metrics.notice(event);
        self.board.notice(event);
        self.log.notice(event);
    }
}

/// Something that differs between controllers started at the same time.
fn seed() -> u64 {
    let nanos =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
    nanos ^ (u64::from(std::process::id()) << 32)
}
