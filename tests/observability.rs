//! Metrics, alerts and the dashboard: what the README says of metrics is so, alert rules fire and are silent when they should, and every
//! panel of the dashboard shows something when a real Prometheus scrapes a real controller with drift, a conflict, records that wait, and
//! failures.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "service_kit/mod.rs"]
mod service_kit;
#[path = "shell/mod.rs"]
mod shell;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use service_kit::{Service, settled};
use trueup::spec::{Source, compile};
use trueup::telemetry::Metrics;

const BEGIN: &str = "<!-- metrics: kept by tests/observability.rs -->";
const END: &str = "<!-- end of metrics -->";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

/// Stores whose calls are counted, waited for, and billed, with nothing in them.
fn paid() -> String {
    let stores = [
        ("warehouse", "{bigquery: {project: demo, dataset: identity, emulator: \"http://127.0.0.1:9\"}}"),
        ("crm", "{twenty: {url: \"http://127.0.0.1:9\", api_key: \"${env:API_TOKEN}\"}}"),
    ];
    stores
        .map(|(name, spec)| {
            format!("\n---\napiVersion: trueup/v1\nkind: Store\nmetadata: {{name: {name}}}\nspec: {spec}\n")
        })
        .concat()
}

/// Metrics of a spec that has everything that labels can come from.
fn metrics() -> String {
    let mut text = service_kit::MANIFESTS.replace("CONTROLLER", "").replace("STATE", "{sqlite: s.db}");
    text += &paid();
    let source = Source { file: "m.yaml".to_owned(), text };
    let (spec, _) = compile(Path::new("."), &[source], &BTreeMap::new()).unwrap();
    Metrics::new(&spec).unwrap().text()
}

/// Name, kind, labels and help of every metric.
fn families() -> BTreeMap<String, (String, BTreeSet<String>, String)> {
    let text = metrics();
    let mut families: BTreeMap<String, (String, BTreeSet<String>, String)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().2 = String::from(help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().0 = String::from(kind);
        } else if let Some((name, labels)) = line.split_once('{') {
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let family = if families.contains_key(name) { name } else { base };
            let labels =
                labels.split('}').next().unwrap().split("\",").map(|label| label.split('=').next().unwrap());
            let labels = labels.filter(|label| *label != "le").map(ToOwned::to_owned);
            families.entry(family.to_owned()).or_default().1.extend(labels);
        }
    }
    families
}

/// `TRUEUP_UPDATE_README=1` writes the table instead of comparing it.
#[test]
fn the_readme_lists_every_metric() {
    let mut table = String::from("\n| metric | type | labels | |\n|---|---|---|---|\n");
    for (name, (kind, labels, help)) in families() {
        let labels = labels.into_iter().collect::<Vec<_>>().join(", ");
        let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {help} |");
    }
    table.push('\n');
    let readme = read("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("a place for the table");
    let (there, after) = rest.split_once(END).expect("an end of the table");
    if std::env::var_os("TRUEUP_UPDATE_README").is_some() {
        std::fs::write(file("README.md"), format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(there, table, "TRUEUP_UPDATE_README=1 cargo test --test observability writes it anew");
    }
}

fn rules() -> Vec<Value> {
    let rules: Value = serde_yaml::from_str(&read("manifests/prometheus/trueup.rules.yaml")).unwrap();
    rules["groups"][0]["rules"].as_array().unwrap().clone()
}

#[test]
fn alert_rules_have_what_people_need_and_name_metrics_that_there_are() {
    let readme = read("README.md");
    let anchors: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"))
        .collect();
    let families = families();
    let rules = rules();
    assert_eq!(rules.len(), 10);
    for rule in rules {
        let text = |path: &[&str]| {
            let found = path.iter().fold(&rule, |at, name| &at[*name]);
            found.as_str().unwrap_or_else(|| panic!("{path:?} of {rule}")).to_owned()
        };
        assert!(text(&["alert"]).starts_with("Trueup") && !text(&["for"]).is_empty());
        assert!(["warning", "critical"].contains(&text(&["labels", "severity"]).as_str()));
        assert!(!text(&["annotations", "summary"]).contains("{{"), "a summary groups alerts");
        assert!(text(&["annotations", "description"]).len() > 40);
        let anchor = text(&["annotations", "runbook_url"]).split_once('#').unwrap().1.to_owned();
        assert!(anchors.contains(&anchor), "the README has no section `{anchor}`");
        known(&text(&["expr"]), &families);
    }
}

/// Every metric that an expression names is one of ours.
fn known(expr: &str, families: &BTreeMap<String, (String, BTreeSet<String>, String)>) {
    let names = expr
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("trueup_"));
    let mut any = false;
    for name in names {
        any = true;
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(families.contains_key(name) || families.contains_key(base), "there is no {name}");
    }
    assert!(any, "{expr} names no metric");
}

fn program(name: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    assert!(
        found,
        "there is no {name}: `tests/run` installs it on Debian, as root; else install the package prometheus"
    );
    Command::new(name)
}

#[test]
fn alert_rules_fire_when_they_should() {
    for args in [&["check", "rules", "trueup.rules.yaml"][..], &["test", "rules", "trueup.rules.test.yaml"]] {
        let output =
            program("promtool").args(args).current_dir(file("manifests/prometheus")).output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}");
    }
    // Every alert is tried.
    let trials = read("manifests/prometheus/trueup.rules.test.yaml");
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        assert!(trials.matches(name).count() >= 3, "{name} is not tried thrice");
    }
}

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&read("manifests/grafana/trueup.json")).unwrap();
    let all = dashboard["panels"].as_array().unwrap().clone();
    all.into_iter().filter(|panel| panel["type"] != "row").collect()
}

#[test]
fn the_dashboard_can_be_imported_as_it_is() {
    let dashboard: Value = serde_json::from_str(&read("manifests/grafana/trueup.json")).unwrap();
    assert_eq!(dashboard["uid"], "trueup-overview");
    assert!(dashboard.get("__inputs").is_none() && dashboard.get("id").is_none());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!((&variables[0]["type"], &variables[0]["name"]), (&"datasource".into(), &"datasource".into()));
    let families = families();
    let mut ids = BTreeSet::new();
    for panel in panels() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        for name in ["title", "description"] {
            assert!(!panel[name].as_str().unwrap().is_empty(), "{name} of {panel}");
        }
        assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty());
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            known(expr, &families);
            assert_eq!(expr.contains("rate("), expr.contains("[$__rate_interval]"), "{expr}");
            assert!(expr.contains("$job"), "{expr}");
        }
    }
}

struct Prometheus {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// One that scrapes an address every half second.
    fn scraping(target: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
             scrape_configs: [{{job_name: trueup, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, config).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let child = program("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address, _folder: folder }
    }

    /// The values of a query; none: it is not there yet, or there is no data.
    async fn query(&self, expr: &str) -> Vec<f64> {
        let mut url = reqwest::Url::parse(&format!("http://{}/api/v1/query", self.address)).unwrap();
        url.query_pairs_mut().append_pair("query", expr);
        let Ok(answer) = reqwest::get(url).await else { return Vec::new() };
        let Ok(text) = answer.text().await else { return Vec::new() };
        let Ok(page) = serde_json::from_str::<Value>(&text) else { return Vec::new() };
        assert_ne!(page["status"], "error", "{expr}: {page}");
        let results = page["data"]["result"].as_array().cloned().unwrap_or_default();
        let values = results.iter().filter_map(|result| result["value"][1].as_str()?.parse::<f64>().ok());
        values.filter(|value| !value.is_nan()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_panel_shows_something_of_a_controller_in_trouble() {
    let place = settled("  interval: 400ms\n", 40);
    // A conflict that nothing decides, a change that breaks a rule, a write that a store refuses, and a pause.
    place.sql("app", "UPDATE things SET kind = 'medium' WHERE id = '1'");
    for (store, label) in [("local", "by local"), ("app", "by app")] {
        place.sql(store, &format!("UPDATE things SET label = '{label}' WHERE id = '2'"));
    }
    place.sql(
        "local",
        "CREATE TRIGGER refuse BEFORE UPDATE ON things WHEN NEW.label = 'refused' BEGIN SELECT RAISE(ABORT, 'no'); END",
    );
    place.sql("hub", "UPDATE things SET label = 'refused' WHERE id = '3'");
    place.run(&["pause", "app.things[\"4\"]", "--reason", "a trial"], 0);
    place.sql("hub", "UPDATE things SET label = 'not in app' WHERE id = '4'");
    let manifests = std::fs::read_to_string(place.path().join("manifests/all.yaml")).unwrap();
    place.manifests(&(manifests + &paid()));
    let service = Service::start(&place, &[]);
    let prometheus = Prometheus::scraping(&service.address);
    let mut missing: Vec<(String, String)> = Vec::new();
    for panel in panels() {
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap().replace("$__rate_interval", "30s");
            let expr = expr.replace("$job", ".*").replace("$store", ".*").replace("$entity", ".*");
            missing.push((panel["title"].as_str().unwrap().to_owned(), expr));
        }
    }
    let all = missing.len();
    let end = Instant::now() + service_kit::PATIENCE;
    let mut round = 0;
    while !missing.is_empty() {
        assert!(Instant::now() < end, "no data for {missing:#?}");
        // Somebody goes on editing, so that there is something to see.
        round += 1;
        place.sql(
            "hub",
            &format!("UPDATE things SET label = 'round {round}', version = coalesce(version, 0) + 1, last_updated = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE id = '{}'", 10 + round % 20),
        );
        std::thread::sleep(Duration::from_millis(500));
        service.block_on(async {
            let mut still = Vec::new();
            for (title, expr) in std::mem::take(&mut missing) {
                if prometheus.query(&expr).await.is_empty() {
                    still.push((title, expr));
                }
            }
            missing = still;
        });
    }
    // It is the scenario that it says it is.
    service.block_on(async {
        for (expr, least) in [
            ("sum(trueup_drift_records)", 1.0),
            ("sum(trueup_conflicts_open)", 1.0),
            ("sum(trueup_pending_records)", 1.0),
            ("sum(trueup_write_rejections_total)", 1.0),
            ("sum(trueup_validation_errors)", 1.0),
            ("sum(trueup_pauses)", 1.0),
        ] {
            let values = prometheus.query(expr).await;
            assert!(values.first().is_some_and(|value| *value >= least), "{expr} is {values:?}");
        }
    });
    println!("{all} queries have data after {round} rounds");
}
