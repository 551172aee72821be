//! Postgres says what changed, by triggers that `migrate` makes, and `run` listens.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.
#![allow(clippy::float_cmp)] // Metrics that count are whole numbers.

#[path = "server/mod.rs"]
mod server;
#[path = "service_kit/mod.rs"]
mod service_kit;
#[path = "shell/mod.rs"]
mod shell;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use service_kit::{MANIFESTS, Service};
use shell::Place;

/// What stands between a server and whoever listens to it. When it forgets, connections lead nowhere from then on, and neither end hears of
/// it; new ones go through.
struct Between {
    port: u16,
    forgotten: Arc<AtomicUsize>,
}

impl Between {
    fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let forgotten = Arc::new(AtomicUsize::new(0));
        let now = forgotten.clone();
        std::thread::spawn(move || {
            for here in listener.incoming().map_while(Result::ok) {
                let Ok(there) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                for (from, to) in [(&here, &there), (&there, &here)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (known, now) = (now.load(Ordering::SeqCst), now.clone());
                    std::thread::spawn(move || pass_on(from, to, &|| now.load(Ordering::SeqCst) == known));
                }
            }
        });
        Self { port, forgotten }
    }

    fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, known: &dyn Fn() -> bool) {
    let mut bytes = [0; 8192];
    while let Ok(read) = from.read(&mut bytes) {
        if !known() {
            // Open on both sides for as long as the test takes.
            std::thread::park();
        }
        if read == 0 || to.write_all(&bytes[..read]).is_err() {
            let _ = to.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// A place with a store in Postgres, reached over a port, whose notifications are listened to, and a controller that makes no pass without
/// a hint.
fn listened_to(url: &str) -> (Place, Service) {
    let text = MANIFESTS
        .replace("CONTROLLER", "  interval: 1h\n  triggers: {debounce: 50ms, notify: [app]}\n")
        .replace("STATE", "{sqlite: ../state.db}")
        .replace("sqlite: {path: ../stores/app.db}", &format!("postgres: {{url: \"{url}\"}}"));
    let place = Place::with(&text);
    let steps = place.run(&["migrate", "-auto-approve"], 0);
    assert!(steps.contains("_note"), "{steps}");
    assert!(!place.run(&["migrate", "-auto-approve"], 0).contains("_note"), "once is enough");
    place.sql("hub", "INSERT INTO things (id, label) VALUES ('1', 'one'), ('2', 'two')");
    place.run(&["apply", "-auto-approve"], 0);
    let service = Service::start(&place, &[]);
    // Listening begins with a look at whatever happened before.
    service.until("it listens", |service| {
        let passes = ["clean", "incomplete"]
            .map(|result| service.metric(&format!("trueup_passes_total{{result=\"{result}\"}}")));
        passes.iter().sum::<f64>() >= 2.0
    });
    (place, service)
}

fn edited(
    runtime: &tokio::runtime::Runtime,
    database: &server::Database,
    place: &Place,
    service: &Service,
    label: &str,
) {
    runtime.block_on(database.sql(&format!("UPDATE things SET label = '{label}' WHERE id = '2'")));
    service.until("the edit is everywhere", |_| {
        ["hub", "local"].map(|at| place.text(at, "SELECT label FROM things WHERE id = '2'")) == [label; 2]
    });
}

#[test]
fn a_notification_brings_a_record_everywhere() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(server::database());
    let (place, service) = listened_to(&database.url);
    let looks = service.metric("trueup_looks_total{result=\"alone\"}");
    edited(&runtime, &database, &place, &service, "from Postgres");
    assert_eq!(
        service.metric("trueup_hints_total{result=\"taken\"}"),
        1.0,
        "trueup's own writes are no hints"
    );
    assert_eq!(service.metric("trueup_looks_total{result=\"alone\"}"), looks + 1.0);
}

#[test]
fn a_connection_that_was_forgotten_in_between_is_noticed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(server::database());
    let port = server::shared().port();
    let between = Between::start(port);
    let (place, service) =
        listened_to(&database.url.replace(&format!(":{port}/"), &format!(":{}/", between.port)));
    between.forget();
    edited(&runtime, &database, &place, &service, "unheard at first");
}
