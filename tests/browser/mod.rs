//! A real browser without a window, told what to do as <https://www.w3.org/TR/webdriver2/> has it.
#![allow(unreachable_pub)] // A module of tests.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// What a browser does by itself and no test asked for: a sandbox that root cannot have, and calls to its maker.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// The name of an element in answers, which the standard fixes.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser; it ends when it is dropped.
pub struct Browser {
    driver: Child,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    session: String,
}

impl Browser {
    /// A browser with an empty page.
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("no chromedriver ({error}): install the packages chromium and chromium-driver")
            });
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("chromedriver says its port").unwrap();
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // It blocks when nobody reads what it says.
        std::thread::spawn(move || lines.for_each(drop));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let session = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { driver, client: reqwest::Client::new(), runtime, session };
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": ARGUMENTS},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let opened = browser.send("POST", "", &wanted);
        browser.session.push('/');
        browser.session.push_str(opened["sessionId"].as_str().unwrap());
        browser
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.session));
        if method == reqwest::Method::POST {
            request = request.json(body);
        }
        let mut answer: Value =
            self.runtime.block_on(async { request.send().await.unwrap().json().await.unwrap() });
        assert!(answer["value"]["error"].is_null(), "{path}: {answer:#}");
        answer["value"].take()
    }

    /// Shows a page.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.send("POST", "/url", &json!({"url": url}));
    }

    /// What an expression is in the page.
    #[track_caller]
    pub fn value(&self, expression: &str) -> Value {
        self.send("POST", "/execute/sync", &json!({"script": format!("return {expression}"), "args": []}))
    }

    /// The text that a person sees.
    #[track_caller]
    pub fn text(&self) -> String {
        self.value("document.body.innerText").as_str().unwrap().to_owned()
    }

    /// Clicks on the one element that a selector means, as a person would: it has to be in sight.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let found = self.send("POST", "/elements", &json!({"using": "css selector", "value": selector}));
        let found = found.as_array().unwrap();
        assert_eq!(found.len(), 1, "{selector}");
        self.send("POST", &format!("/element/{}/click", found[0][ELEMENT].as_str().unwrap()), &json!({}));
    }

    /// Makes the window so wide, in pixels of the page.
    #[track_caller]
    pub fn widen(&self, width: u32) {
        let metrics = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics});
        self.send("POST", "/goog/cdp/execute", &command);
    }

    /// What the browser complained about since it was last asked.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let log = self.send("POST", "/se/log", &json!({"type": "browser"}));
        log.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with its session; nobody is left to be told when it cannot.
        let _ = self.runtime.block_on(self.client.delete(&self.session).send());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
