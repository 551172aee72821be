//! The command where something is in the way: other people's edits, guards, tables and files that are not there; prompts
//! on a terminal; and the controller that goes on.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;

use std::fmt::Write as _;

use shell::Place;

const MANIFESTS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: hub}
spec: {canonical: true, sqlite: {path: ../stores/hub.db}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: app}
spec: {sqlite: {path: ../stores/app.db}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: parts}
spec:
  key: {part: string}
  fields: {label: string, bin: string}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: parts}
spec:
  entity: parts
  stores:
    hub: {table: parts, fields: {"*": same}, sync: {columns: same}}
    app: {table: items, fields: {"*": same, label: title}, sync: {json: sync}}
"#;

/// Twenty parts that both stores hold and remember.
fn agreed() -> Place {
    let place = Place::with(MANIFESTS);
    place.run(&["migrate", "-auto-approve"], 0);
    let mut rows = String::new();
    for number in 1..=20 {
        let _ = writeln!(
            rows,
            "INSERT INTO parts (part, label, bin) VALUES ('P{number:02}', 'part {number}', 'A');"
        );
    }
    place.sql("hub", &rows);
    let page = place.run(&["apply", "-auto-approve"], 0);
    assert!(page.contains("Apply complete! Records: 20 added, 0 changed, 0 destroyed.\n"), "{page}");
    place.run(&["plan", "-detailed-exitcode"], 0);
    place
}

fn title(place: &Place, part: &str) -> String {
    place.text("app", &format!("SELECT title FROM items WHERE part = '{part}'"))
}

#[test]
fn a_record_that_somebody_changed_since_the_plan_was_saved_is_skipped_by_name_and_the_rest_applied() {
    let place = agreed();
    place.sql("hub", "UPDATE parts SET label = 'new ' || part WHERE part IN ('P01', 'P02', 'P03')");
    place.run(&["plan", "-out", "p.plan"], 0);
    place.sql("app", "UPDATE items SET title = 'theirs' WHERE part = 'P02'");
    let page = place.run(&["apply", "p.plan"], 1);
    assert!(page.contains("parts[\"P02\"]") && page.contains("Apply incomplete!"), "{page}");
    assert!(!page.contains("parts[\"P01\"]") && !page.contains("parts[\"P03\"]"), "{page}");
    let titles = ["P01", "P02", "P03"].map(|part| title(&place, part));
    assert_eq!(titles, ["new P01", "theirs", "new P03"]);
    // Both edits of the one record are still there to be settled.
    let page = place.run(&["plan"], 0);
    assert!(page.contains("parts[\"P02\"]"), "{page}");
}

#[test]
fn a_plan_that_changes_too_much_is_refused_and_names_the_flag() {
    let place = agreed();
    place.sql("app", "UPDATE items SET title = 'x' WHERE part <= 'P07'");
    for args in [&["plan", "-detailed-exitcode"][..], &["apply", "-auto-approve"], &["run", "--once"]] {
        let page = place.run(args, 1);
        assert!(
            page.contains("7 of 20 records would be changed") && page.contains("--allow updates"),
            "{args:?}: {page}"
        );
    }
    assert_eq!(place.text("hub", "SELECT label FROM parts WHERE part = 'P01'"), "part 1");
    place.run(&["apply", "-auto-approve", "--allow", "updates"], 0);
    assert_eq!(place.text("hub", "SELECT label FROM parts WHERE part = 'P01'"), "x");
}

#[test]
fn an_emptied_table_deletes_nothing() {
    let place = agreed();
    place.sql("app", "DELETE FROM items");
    let page = place.run(&["apply", "-auto-approve"], 1);
    assert!(page.contains("guard `emptied`") && page.contains("--allow emptied"), "{page}");
    assert_eq!(place.text("hub", "SELECT count(*) || '' FROM parts"), "20");
}

#[test]
fn a_table_that_is_gone_is_named_with_the_command_that_adds_it_and_deletes_nothing() {
    let place = agreed();
    place.sql("app", "DROP TABLE items");
    let page = place.run(&["plan"], 1);
    assert!(page.contains("there is no table `items`") && page.contains("trueup migrate"), "{page}");
    assert!(!page.contains("deleted"), "{page}");
    let page = place.run(&["apply", "-auto-approve"], 1);
    assert!(page.contains("there is no table `items`"), "{page}");
    assert_eq!(place.text("hub", "SELECT count(*) || '' FROM parts"), "20");
}

#[test]
fn statements_are_printed_for_stores_that_are_not_there_and_nothing_is_made() {
    let place = Place::with(MANIFESTS);
    let page = place.run(&["migrate", "--print"], 0);
    for part in [
        "-- store app\nCREATE TABLE main.\"items\" (",
        "-- store hub\nCREATE TABLE main.\"parts\" (",
        "sync_conflicts",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(std::fs::read_dir(place.path().join("stores")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(place.path().join("manifests")).unwrap().count(), 1);
    // What is printed is what would be run: with it in place, nothing is missing.
    for part in page.split("-- store ").skip(1) {
        let (store, statements) = part.split_once('\n').unwrap();
        std::fs::write(place.path().join(format!("stores/{store}.db")), "").unwrap();
        place.sql(store, statements);
    }
    assert_eq!(place.run(&["migrate", "--print"], 0), "");
    assert!(place.run(&["migrate"], 0).starts_with("No changes."));
}

#[test]
fn a_stream_of_what_is_applied_is_an_object_a_line_and_ends_with_the_sums() {
    let place = agreed();
    place.sql("app", "UPDATE items SET bin = 'B' WHERE part = 'P05'");
    let lines = place.stream(&["apply", "-json", "-auto-approve"], 0);
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    for kind in ["version", "planned_change", "change_summary", "apply_start", "apply_complete"] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
    let complete = lines.iter().filter(|line| line["type"] == "apply_complete");
    let written: Vec<&str> = complete.map(|line| line["hook"]["address"].as_str().unwrap()).collect();
    assert!(written.contains(&"hub.parts[\"P05\"]"), "{written:?}");
    for line in &lines {
        assert!(
            line["@level"].is_string() && line["@message"].is_string() && line["@timestamp"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn only_the_records_named_are_looked_after() {
    let place = agreed();
    place.sql("hub", "UPDATE parts SET bin = 'C' WHERE part IN ('P01', 'P02')");
    let page = place.run(&["apply", "-auto-approve", "-target", "parts[\"P02\"]"], 0);
    assert!(page.contains("parts[\"P02\"]") && !page.contains("parts[\"P01\"]"), "{page}");
    let bins =
        ["P01", "P02"].map(|part| place.text("app", &format!("SELECT bin FROM items WHERE part = '{part}'")));
    assert_eq!(bins, ["A", "C"]);
}

/// On a terminal, as `script` makes one.
#[cfg(target_os = "linux")]
mod terminal {
    use std::io::Write as _;
    use std::process::Stdio;

    use super::*;

    /// What is on the screen after a command was answered, and its exit code.
    fn answered(place: &Place, args: &str, answer: &str) -> (String, Option<i32>) {
        let me = assert_cmd::cargo::cargo_bin("trueup");
        let mut command = place.command("script");
        command.args([
            "--quiet",
            "--return",
            "--command",
            &format!("'{}' {args}", me.display()),
            "/dev/null",
        ]);
        command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        (String::from_utf8_lossy(&done.stdout).into_owned(), done.status.code())
    }

    #[test]
    fn only_yes_approves() {
        let place = agreed();
        place.sql("hub", "UPDATE parts SET label = 'new' WHERE part = 'P01'");
        for answer in ["no\n", "y\n", "YES\n", "\n"] {
            let (screen, code) = answered(&place, "apply -no-color", answer);
            assert!(screen.contains("Only 'yes' will be accepted to approve."), "{screen}");
            assert!(screen.contains("Apply cancelled.") && code == Some(1), "{code:?}: {screen}");
        }
        assert_eq!(title(&place, "P01"), "part 1");
        let (screen, code) = answered(&place, "apply -no-color", "yes\n");
        assert!(
            screen.contains("Apply complete! Records: 0 added, 1 changed, 0 destroyed.") && code == Some(0),
            "{screen}"
        );
        assert!(!screen.contains('\u{1b}'), "colour in spite of the flag");
        assert_eq!(title(&place, "P01"), "new");
    }

    #[test]
    fn there_is_colour_on_a_terminal_and_no_question_where_input_is_off() {
        let place = agreed();
        place.sql("hub", "UPDATE parts SET label = 'new' WHERE part = 'P01'");
        assert!(answered(&place, "plan", "").0.contains('\u{1b}'));
        let (screen, code) = answered(&place, "apply -input=false", "yes\n");
        assert!(screen.contains("--auto-approve") && code == Some(1), "{screen}");
    }
}

/// A controller that goes on.
#[cfg(unix)]
mod running {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpStream;
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    fn get(address: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A controller that is ended with its test, however that ends.
    struct Controller {
        child: Child,
        lines: Receiver<String>,
    }

    impl Controller {
        fn start(place: &Place, args: &[&str]) -> Self {
            let mut command = place.trueup(args);
            command.env("TRUEUP_LOG", "info").stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let stderr = BufReader::new(child.stderr.take().unwrap());
            let (sender, lines) = channel();
            std::thread::spawn(move || {
                stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
            Self { child, lines }
        }

        /// The next line that says this; a minute is more than anything here takes.
        fn line(&self, part: &str) -> String {
            loop {
                match self.lines.recv_timeout(Duration::from_mins(1)) {
                    Ok(line) if line.contains(part) => return line,
                    Ok(_) => {}
                    Err(error) => panic!("`{part}` is never said: {error}"),
                }
            }
        }
    }

    impl Drop for Controller {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn it_serves_its_drift_and_health_and_stops_when_asked() {
        let place = agreed();
        place.sql("hub", "UPDATE parts SET label = 'new' WHERE part = 'P01'");
        let mut running = Controller::start(&place, &["run", "--listen", "127.0.0.1:0", "--interval", "1h"]);
        let serving = running.line("Serving http://");
        let address = serving["Serving http://".len()..].split('/').next().unwrap().to_owned();
        running.line("pass ended");
        assert_eq!(title(&place, "P01"), "new");
        let health = get(&address, "/healthz");
        assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("ok\n"), "{health}");
        let metrics = get(&address, "/metrics");
        for part in ["text/plain; version=0.0.4", "# TYPE trueup_", "entity=\"parts\"", "store=\"app\""] {
            assert!(metrics.contains(part), "{part}: {metrics}");
        }
        let asked = Command::new("kill").args(["-TERM", &running.child.id().to_string()]).status().unwrap();
        assert!(asked.success());
        running.line("Stopping");
        assert_eq!(running.child.wait().unwrap().code(), Some(0));
    }
}
