//! `trueup sandbox twenty`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;

/// A child that is killed when the test ends, however it ends.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        command.args(["sandbox", "twenty", "--port", "0", "--key", "k"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim_end().to_owned() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_prints_its_address_and_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("twenty.db");
    let file = file.to_str().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    {
        let served = Served::start(&["--data", file]);
        assert!(served.url.starts_with("http://127.0.0.1:"), "{}", served.url);
        let made = client.post(format!("{}/rest/people", served.url)).bearer_auth("k").json(&json!({}));
        assert_eq!(made.send().await.unwrap().status(), 201);
        // Killed, as the drop does.
    }
    let served = Served::start(&["--data", file, "--calls-per-minute", "2", "--calls-per-second", "50"]);
    let list = || client.get(format!("{}/rest/people", served.url)).bearer_auth("k").send();
    let listed: serde_json::Value = list().await.unwrap().json().await.unwrap();
    assert_eq!(listed["totalCount"], 1);
    assert_eq!(list().await.unwrap().status(), 200);
    assert_eq!(list().await.unwrap().status(), 429);
}

#[test]
fn it_says_once_that_it_serves() {
    use std::io::Read as _;
    let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
    command.args(["sandbox", "twenty", "--key", "k"]).env("TRUEUP_LOG", "info");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut url, mut said) = (String::new(), String::new());
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    errors.read_line(&mut said).unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    errors.read_to_string(&mut said).unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    assert_eq!(said, "Serving a Twenty of its own. Interrupt to stop.\n");
}

#[test]
fn it_needs_a_key_and_explains_itself() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        let output = command.args(arguments).env_remove("TRUEUP_SANDBOX_KEY").output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (ok, text) = run(&["sandbox", "twenty"]);
    assert!(!ok && text.contains("--key"), "{text}");
    let (ok, text) = run(&["sandbox", "--help"]);
    assert!(ok && text.contains("twenty"), "{text}");
    let (ok, text) = run(&["sandbox", "twenty", "--help"]);
    assert!(ok, "{text}");
    for option in ["--port", "--key", "--data", "--calls-per-minute", "--calls-per-second", "2.21"] {
        assert!(text.contains(option), "{option} is not explained: {text}");
    }
}
