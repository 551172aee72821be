//! `trueup run` as others see it: webhooks, the API, pauses, reloads, and its end.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.
#![allow(clippy::float_cmp)] // Metrics that count are whole numbers.

#[path = "service_kit/mod.rs"]
mod service_kit;
#[path = "shell/mod.rs"]
mod shell;

use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use service_kit::{Service, settled};
use sha2::Sha256;
use shell::Place;

/// Passes that never come by themselves: whatever happens, a hint made it happen.
const HINTED: &str = r#"
  interval: 1h
  guards: {max_updates: 100%}
  triggers:
    debounce: 50ms
    webhooks:
      app: {secret: "${env:HOOK_SECRET}"}
      local: {kind: supabase, secret: "${env:HOOK_SECRET}"}
  http: {token: "${env:API_TOKEN}"}
"#;

fn everywhere(place: &Place, id: usize) -> [String; 3] {
    ["hub", "app", "local"].map(|at| place.text(at, &format!("SELECT label FROM things WHERE id = '{id}'")))
}

fn signed(secret: &str, body: &str) -> [(&'static str, String); 2] {
    let time =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    signed_at(secret, body, &time)
}

fn signed_at(secret: &str, body: &str, time: &str) -> [(&'static str, String); 2] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    let signature = trueup::model::hex(&mac.finalize().into_bytes());
    [("x-trueup-timestamp", time.to_owned()), ("x-trueup-signature", format!("sha256={signature}"))]
}

fn as_text<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn taken(service: &Service, store: &str, result: &str) -> f64 {
    service.metric(&format!("trueup_webhooks_total{{result=\"{result}\",store=\"{store}\"}}"))
}

fn started(place: &Place) -> Service {
    let service = Service::start(place, &[]);
    service.until("the first pass", |service| service.get("/readyz", None).0 == 200);
    service
}

#[test]
fn a_webhook_brings_a_record_everywhere_and_others_change_nothing() {
    let place = settled(HINTED, 20);
    let service = started(&place);
    let edit = |id: usize, label: &str| {
        place.sql("app", &format!("UPDATE things SET label = '{label}' WHERE id = '{id}'"));
    };
    edit(1, "hinted at");
    edit(2, "not hinted at");
    let body = r#"{"entity": "things", "key": "1"}"#;
    let headers = signed("hook-hush", body);
    assert_eq!(service.post("/webhooks/app", &as_text(&headers), body), 202);
    service.until("the edit is everywhere", |_| everywhere(&place, 1) == ["hinted at"; 3]);
    assert_eq!(everywhere(&place, 2), ["label 2", "not hinted at", "label 2"]);

    // The same again, another's, an old one, one for another body, one without any proof.
    let refused =
        |headers: &[(&str, &str)], body: &str| service.post("/webhooks/app", headers, body.to_owned());
    let body = r#"{"entity": "things", "key": "2"}"#;
    assert_eq!(refused(&as_text(&headers), r#"{"entity": "things", "key": "1"}"#), 401, "replayed");
    assert_eq!(refused(&as_text(&signed("other", body)), body), 401);
    assert_eq!(refused(&as_text(&signed_at("hook-hush", body, "1700000000")), body), 401);
    assert_eq!(refused(&as_text(&headers), body), 401);
    assert_eq!(refused(&[], body), 401);
    assert_eq!(service.post("/webhooks/nobody", &[], body), 401);
    let bad = "{\"entity\": \"things\"";
    assert_eq!(refused(&as_text(&signed("hook-hush", bad)), bad), 400);
    let huge = format!("{{\"entity\": \"things\", \"key\": \"{}\"}}", "9".repeat(2 << 20));
    // The connection may be cut while the body is still being sent: it is one of its own, which nobody else comes by later.
    let mut post = reqwest::Client::new().post(service.url("/webhooks/app"));
    for (name, value) in signed("hook-hush", &huge) {
        post = post.header(name, value);
    }
    let status = service.block_on(post.body(huge).send()).map_or(0, |answer| answer.status().as_u16());
    assert!([413, 0].contains(&status), "{status}");
    assert_eq!(service.post("/webhooks/local", &[("x-trueup-secret", "wrong")], body), 401);

    for (store, result, count) in [
        ("app", "accepted", 1.0),
        ("app", "replayed", 2.0),
        ("app", "forged", 3.0),
        ("app", "malformed", 1.0),
        ("app", "oversized", 1.0),
        ("none", "forged", 1.0),
        ("local", "forged", 1.0),
    ] {
        assert_eq!(taken(&service, store, result), count, "{store} {result}");
    }
    assert_eq!(everywhere(&place, 2), ["label 2", "not hinted at", "label 2"], "nobody hinted at it");
    assert_eq!(service.metric("trueup_looks_total{result=\"alone\"}"), 1.0);
}

#[test]
fn nothing_is_shown_without_the_token_and_no_sensitive_value_with_it() {
    let place = settled(HINTED, 12);
    // Two edits without versions or times: only a person can decide.
    for (store, value) in [("app", "hush from app"), ("local", "hush from local")] {
        place.sql(
            store,
            &format!("UPDATE things SET secret_note = '{value}', label = '{store} says' WHERE id = '3'"),
        );
    }
    place.sql("app", "UPDATE things SET kind = 'medium' WHERE id = '4'");
    let service = started(&place);
    for page in ["status", "drift", "plans", "conflicts", "errors", "passes", "nothing"] {
        let path = format!("/api/v1/{page}");
        assert_eq!(service.get(&path, None).0, 401, "{page}");
        assert_eq!(service.get(&path, Some("wrong")).0, 401, "{page}");
    }
    let mut pages = String::new();
    for page in ["status", "drift", "plans", "conflicts", "errors", "passes"] {
        let (status, text) = service.get(&format!("/api/v1/{page}"), Some("api-hush"));
        assert_eq!(status, 200, "{page}: {text}");
        let _: serde_json::Value = serde_json::from_str(&text).unwrap();
        pages += &text;
    }
    assert_eq!(service.get("/api/v1/nothing", Some("api-hush")).0, 404);
    assert!(pages.contains("app says") && pages.contains("conflicts resolve"), "{pages}");
    assert!(pages.contains("medium"), "a rejected value that is not sensitive is named");
    pages += &service.get("/metrics", None).1;
    for secret in ["hush from", "hook-hush", "api-hush", "hush 3"] {
        assert!(!pages.contains(secret), "{secret} is shown");
    }
    assert_eq!((service.get("/healthz", None).0, service.get("/readyz", None).0), (200, 200));
}

/// A page of the site as a browser shows it, with the name and the password that a person gave.
fn browse(service: &Service, user: Option<(&str, &str)>) -> (u16, String) {
    let mut request = service.client.get(service.url("/"));
    if let Some((name, password)) = user {
        request = request.basic_auth(name, Some(password));
    }
    service.block_on(async {
        let answer = request.send().await.unwrap();
        let asks = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(asks.is_some(), answer.status() == 401, "{asks:?}");
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

#[test]
fn a_person_settles_a_conflict_on_the_page() {
    let place = settled(HINTED, 12);
    for (store, label) in [("app", "<b>app</b>"), ("local", "local")] {
        place.sql(store, &format!("UPDATE things SET label = '{label}' WHERE id = '3'"));
        place.sql(store, &format!("UPDATE things SET secret_note = 'hush {store}' WHERE id = '6'"));
    }
    place.sql("app", "UPDATE things SET kind = 'medium' WHERE id = '4'");
    place.run(&["pause", "local.things[\"5\"]", "-reason", "being looked at"], 0);
    let service = started(&place);
    for user in [None, Some(("pat", "wrong")), Some(("api-hush", "")), Some(("", ""))] {
        let (status, page) = browse(&service, user);
        assert!(status == 401 && !page.contains("things"), "{user:?}: {status} {page}");
    }
    let me = Some(("Pat Example", "api-hush"));
    let (status, page) = browse(&service, me);
    assert_eq!(status, 200, "{page}");
    for text in ["&lt;b&gt;app&lt;", "medium", "being looked at", "(sensitive", "2 held"] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    for secret in ["hush app", "hush local", "api-hush", "<b>"] {
        assert!(!page.contains(secret), "{secret} is shown");
    }

    let between = |before: &str, after: &str| {
        let form = page.split_once("things[&quot;3&quot;]").unwrap().1;
        let rest = form.split_once(before).unwrap().1;
        rest.split_once(after).unwrap().0.to_owned()
    };
    let (path, proof) = (between("action=\"", "\""), between("name=\"proof\" value=\"", "\""));
    let send = |user: Option<(&str, &str)>, take: &str, proof: &str| {
        let form = [("take", take), ("proof", proof)];
        let mut request = service.client.post(service.url(&path)).form(&form);
        if let Some((name, password)) = user {
            request = request.basic_auth(name, Some(password));
        }
        service.block_on(async { request.send().await.unwrap().status().as_u16() })
    };
    assert_eq!(send(None, "app", &proof), 401);
    assert_eq!(send(me, "app", "made up elsewhere"), 403, "another site sent it");
    assert_eq!(send(me, "nobody", &proof), 409);
    assert_eq!(everywhere(&place, 3), ["label 3", "<b>app</b>", "local"], "nothing was decided");
    assert_eq!(send(me, "app", &proof), 200, "after it the page is shown again");
    service.until("it stands everywhere", |_| everywhere(&place, 3) == ["<b>app</b>"; 3]);
    // Until it is carried out, and on record as settled, a decision may be changed.
    let buttons = |page: &str| page.matches(">Take this<").count();
    assert_eq!(buttons(&page), 4);
    service.until("only the other one is left", |service| buttons(&browse(service, me).1) == 2);
    service.until("it is carried out", |service| !browse(service, me).1.contains("Decided; the next pass"));
    assert_eq!(send(me, "local", &proof), 409, "it is decided");
    let by = place.run(&["conflicts", "list", "-all", "-json"], 0);
    assert!(by.contains("Pat Example"), "{by}");
}

#[test]
fn ten_thousand_webhooks_at_once_take_little_memory_and_miss_nothing() {
    let place = settled(HINTED, 500);
    let service = started(&place);
    let before = service.memory();
    place.sql("local", "UPDATE things SET label = 'burst ' || id");
    let began = Instant::now();
    let accepted = service.block_on(async {
        let senders = (0..16).map(|sender| {
            let (client, url) = (service.client.clone(), service.url("/webhooks/local"));
            tokio::spawn(async move {
                let mut accepted = 0;
                for at in 0..625 {
                    let id = (sender * 625 + at) % 500;
                    let body = format!(
                        r#"{{"type":"UPDATE","table":"things","schema":"main","record":{{"id":"{id}","label":"x"}},"old_record":null}}"#
                    );
                    let request = client.post(&url).header("x-trueup-secret", "hook-hush").body(body);
                    accepted += usize::from(request.send().await.unwrap().status().as_u16() == 202);
                }
                accepted
            })
        });
        let senders: Vec<_> = senders.collect();
        let mut accepted = 0;
        for sender in senders {
            accepted += sender.await.unwrap();
        }
        accepted
    });
    println!("10,000 webhooks in {:?}, {accepted} accepted", began.elapsed());
    assert_eq!(accepted, 10_000);
    service.until("all records are right", |_| {
        let wrong =
            |at: &str| place.text(at, "SELECT count(*) || '' FROM things WHERE label <> 'burst ' || id");
        ["hub", "app", "local"].map(wrong) == ["0"; 3]
    });
    let grown = service.memory().saturating_sub(before);
    println!("memory grew by {} KiB", grown / 1024);
    assert!(grown < 48 << 20, "{grown} bytes");
    assert_eq!(taken(&service, "local", "accepted"), 10_000.0);
}

#[test]
fn a_bad_edit_of_the_manifests_is_refused_and_a_good_one_taken() {
    let place = settled("  interval: 300ms\n", 12);
    let service = started(&place);
    let good = std::fs::read_to_string(place.path().join("manifests/all.yaml")).unwrap();
    place.manifests(&good.replace("table: things", "tabel: things"));
    service.until("the refusal is told", |service| service.metric("trueup_manifests_refused") == 1.0);
    place.sql("app", "UPDATE things SET label = 'still at work' WHERE id = '1'");
    service.until("the old manifests go on", |_| everywhere(&place, 1) == ["still at work"; 3]);
    // Without one of the stores: its series go, the others stay.
    let without = good
        .replace("    local: {table: things, fields: {\"*\": same}}\n", "")
        .replace("---\napiVersion: trueup/v1\nkind: Store\nmetadata: {name: local}\nspec: {sqlite: {path: ../stores/local.db}}\n", "");
    assert_ne!(without, good);
    let passes = service.metric("trueup_passes_total{result=\"clean\"}");
    place.manifests(&without);
    service.until("the new manifests hold", |service| service.metric("trueup_manifests_refused") == 0.0);
    let metrics = service.metrics();
    assert!(!metrics.keys().any(|name| name.contains("store=\"local\"")), "series of what left");
    assert!(metrics["trueup_passes_total{result=\"clean\"}"] >= passes, "counters go on");
    place.sql("app", "UPDATE things SET label = 'two are left' WHERE id = '2'");
    service.until("the new manifests are at work", |_| {
        everywhere(&place, 2) == ["two are left", "two are left", "label 2"]
    });
    let reloads = service.metric("trueup_manifest_reloads_total{result=\"taken\"}");
    service.signal("-HUP");
    service.until("a hang-up is heard", |service| {
        service.metric("trueup_manifest_reloads_total{result=\"taken\"}") > reloads
    });
}

#[test]
fn a_store_that_comes_after_the_controller_is_taken_up() {
    let place = settled("  interval: 300ms\n", 12);
    let [here, away] = ["local.db", "local.away"].map(|name| place.path().join("stores").join(name));
    std::fs::rename(&here, &away).unwrap();
    let service = Service::start(&place, &[]);
    service.until("it is told", |service| {
        service.metric("trueup_store_down_since_timestamp_seconds{store=\"local\"}") > 0.0
    });
    std::fs::rename(&away, &here).unwrap();
    place.sql("app", "UPDATE things SET label = 'for all' WHERE id = '3'");
    service.until("the edit is everywhere", |_| everywhere(&place, 3) == ["for all"; 3]);
}

#[test]
fn a_secret_that_is_changed_is_taken_up() {
    let place = settled("  interval: 1h\n  http: {token: \"${file:../token.txt}\"}\n", 12);
    let token = place.path().join("token.txt");
    std::fs::write(&token, "first\n").unwrap();
    let service = started(&place);
    let status = |token| service.get("/api/v1/status", Some(token)).0;
    assert_eq!((status("first"), status("second of them")), (200, 401));
    std::fs::write(&token, "second of them\n").unwrap();
    service.until("the new one holds", |_| status("second of them") == 200);
    assert_eq!(status("first"), 401);
}

#[test]
fn manifests_that_only_waited_for_their_state_are_taken_when_it_is_there() {
    let place = settled("  interval: 1h\n", 12);
    let service = started(&place);
    let file = place.path().join("manifests/all.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    // A file stands where the state's folder would be.
    std::fs::write(place.path().join("later"), "").unwrap();
    place.manifests(&text.replace("{sqlite: ../state.db}", "{sqlite: ../later/state.db}"));
    service.until("it is told", |service| service.metric("trueup_manifests_refused") == 1.0);
    std::fs::remove_file(place.path().join("later")).unwrap();
    std::fs::create_dir(place.path().join("later")).unwrap();
    service.until("they hold", |service| service.metric("trueup_manifests_refused") == 0.0);
}

#[test]
fn connections_that_say_nothing_and_bodies_that_never_end_leave_room_for_the_rest() {
    use std::io::Write as _;
    let place = settled(&HINTED.replace("1h", "300ms"), 12);
    let service = started(&place);
    let connect = || std::net::TcpStream::connect(&service.address).unwrap();
    // More bodies that never end than are worked on at a time.
    let half: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect();
            stream
                .write_all(b"POST /webhooks/app HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
                .unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    for page in ["/livez", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(service.get(page, None).0, 200, "{page}");
    }
    // Of more connections only so many are taken: the stores need files as well. (Of still more, the system lets none come about.)
    let silent: Vec<_> = (0..250).map(|_| connect()).collect();
    std::thread::sleep(Duration::from_millis(500));
    let files = std::fs::read_dir(format!("/proc/{}/fd", service.id())).unwrap().count();
    assert!(files < 320, "{files} files are open");
    place.sql("app", "UPDATE things SET label = 'goes on' WHERE id = '4'");
    service.until("the edit is everywhere", |_| everywhere(&place, 4) == ["goes on"; 3]);
    drop((half, silent));
    service.until("there is room again", |service| service.get("/livez", None).0 == 200);
}

#[test]
fn it_ends_when_it_is_told_to() {
    let place = settled("  interval: 1h\n", 12);
    let mut service = started(&place);
    let began = Instant::now();
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    // Another one leads at once.
    let _another = started(&place);
}

#[test]
fn files_are_watched_where_manifests_say_so() {
    let place = settled("  interval: 1h\n  triggers: {debounce: 50ms, files: [app]}\n", 12);
    let service = started(&place);
    place.sql("app", "UPDATE things SET label = 'seen in the file' WHERE id = '5'");
    service.until("the edit is everywhere", |_| everywhere(&place, 5) == ["seen in the file"; 3]);
}

#[test]
fn a_command_that_has_the_lease_for_a_while_makes_no_pass_fail() {
    let place = settled("  interval: 200ms\n", 2);
    let service = started(&place);
    let state = rusqlite::Connection::open(place.path().join("state.db")).unwrap();
    state.busy_timeout(Duration::from_secs(10)).unwrap();
    let end = std::time::SystemTime::now() + Duration::from_secs(2);
    let lapses = end.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros().to_string();
    let take = "INSERT OR IGNORE INTO lease (one, holder, expires) VALUES (1, 'by hand', CAST(? AS INTEGER))";
    while state.execute(take, [&lapses]).unwrap() == 0 {}
    let clean = "trueup_passes_total{result=\"clean\"}";
    let before = service.metric(clean);
    service.until("passes go on afterwards", |service| service.metric(clean) >= before + 2.0);
    assert!(std::time::SystemTime::now() >= end, "nobody worked meanwhile");
    assert_eq!(service.metric("trueup_passes_total{result=\"failed\"}"), 0.0);
    assert_eq!(service.get("/healthz", None).0, 200);
}

#[test]
fn commands_pause_approve_and_tell() {
    let place = settled("  interval: 300ms\n", 20);
    let service = started(&place);
    assert!(place.run(&["pause", "app", "--reason", " "], 1).contains("--reason"));
    assert!(place.run(&["pause", "nothing", "--reason", "x"], 1).contains("no entity `nothing`"));
    let page = place.run(&["pause", "app", "--reason", "a migration there", "--for", "1h"], 0);
    assert!(page.starts_with("Paused app: nothing is written there until "), "{page}");
    place.sql("hub", "UPDATE things SET label = 'not in app' WHERE id = '1'");
    service.until("the others have it", |_| everywhere(&place, 1) == ["not in app", "label 1", "not in app"]);
    service.until("the pause is told", |service| service.metric("trueup_pauses") == 1.0);
    let drift = "trueup_drift_records{entity=\"things\",kind=\"changed\",store=\"app\"}";
    service.until("drift is told all the same", |service| service.metric(drift) == 1.0);
    assert!(place.run(&["status"], 0).contains("a migration there"));
    assert!(place.run(&["resume", "local"], 1).contains("paused are app"));
    place.run(&["resume", "app"], 0);
    service.until("it is brought up", |_| everywhere(&place, 1) == ["not in app"; 3]);

    place.sql("local", "DELETE FROM things WHERE id IN ('10', '11', '12', '13', '14')");
    let guard = "trueup_guard_tripped{entity=\"things\",guard=\"deletes\"}";
    service.until("the guard holds", |service| service.metric(guard) == 1.0);
    let errors: serde_json::Value = serde_json::from_str(&place.run(&["errors", "-json"], 0)).unwrap();
    let tripped =
        errors["errors"].as_array().unwrap().iter().find(|error| error["kind"] == "guard").unwrap().clone();
    let hint = tripped["hint"].as_str().unwrap();
    let code = hint.split("trueup approve ").nth(1).unwrap_or_else(|| panic!("{hint}")).trim_end_matches('`');
    assert!(place.run(&["approve", "0123456789"], 1).contains("waiting now"));
    let page = place.run(&["approve", code], 0);
    assert!(page.starts_with("Approved: things in "), "{page}");
    let count = |at: &str| place.text(at, "SELECT count(*) || '' FROM things");
    service.until("it is carried out", |_| ["hub", "app", "local"].map(&count) == ["15"; 3]);
    service.until("the guard is quiet", |service| service.metric(guard) == 0.0);
    place.sql("app", "UPDATE things SET kind = 'medium' WHERE id = '4'");
    service.until("a rejected change is told", |_| {
        let page = place.run(&["errors"], 0);
        page.contains("rejected since ")
            && page.contains("things[\"4\"]")
            && page.contains("To do: correct the value")
    });
}

/// People in a CRM, their addresses inside them, and passes that never come by themselves.
const CRM: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: hub}
spec: {canonical: true, sqlite: {path: ../stores/hub.db}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: crm}
spec: {twenty: {url: "CRM_URL", api_key: "${file:../crm.key}"}, limits: {calls_per_minute: 100000, calls_per_second: 1000}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: people}
spec: {key: {person_id: string}, fields: {name: string, job: string}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: ways}
spec:
  key: {way_id: string}
  fields:
    person_id: {type: string, references: people, on_delete: cascade}
    kind: {enum: [email, phone]}
    value: string
    normal: {derive: "identifier(kind, value)"}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: people}
spec:
  entity: people
  stores:
    hub: {table: people, fields: {"*": same}, sync: {columns: same}}
    crm:
      object: person
      key: personId
      fields: {name: name.firstName, job: jobTitle}
      embed: {ways: {email: emails, phone: phones}}
      sync: {json-text: syncMetadata}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: ways}
spec: {entity: ways, stores: {hub: {table: ways, fields: {"*": same}, sync: {columns: same}}}}
---
apiVersion: trueup/v1
kind: Controller
metadata: {name: controller}
spec:
  state: {sqlite: ../state.db}
  interval: 1h
  guards: {max_updates: 100%}
  triggers: {debounce: 50ms, webhooks: {crm: {kind: twenty, secret: "${env:HOOK_SECRET}"}}}
"#;

#[test]
fn what_a_crm_tells_is_everywhere_at_once_and_only_that_is_read() {
    use serde_json::json;
    let options = trueup::sandbox::Options {
        calls_per_minute: 100_000,
        calls_per_second: 1_000,
        ..trueup::sandbox::Options::new("crm-hush")
    };
    let sandbox = trueup::sandbox::Sandbox::start(options).unwrap();
    let place = Place::with(&CRM.replace("CRM_URL", &sandbox.url()));
    std::fs::write(place.path().join("crm.key"), "crm-hush").unwrap();
    place.run(&["migrate", "-auto-approve"], 0);
    let people: Vec<String> = (0..30).map(|at| format!("('P{at}', 'Given{at}')")).collect();
    let ways: Vec<String> =
        (0..30).map(|at| format!("('W{at}', 'P{at}', 'email', 'given{at}@example.com')")).collect();
    place.sql("hub", &format!("INSERT INTO people (person_id, name) VALUES {}", people.join(", ")));
    place
        .sql("hub", &format!("INSERT INTO ways (way_id, person_id, kind, value) VALUES {}", ways.join(", ")));
    place.run(&["apply", "-auto-approve"], 0);
    let service = started(&place);
    let hook = json!({
        "targetUrl": service.url("/webhooks/crm"), "operations": ["person.*"], "secret": "hook-hush",
    });
    let made = service.client.post(format!("{}/rest/metadata/webhooks", sandbox.url()));
    let made = service.block_on(made.bearer_auth("crm-hush").json(&hook).send()).unwrap();
    assert_eq!(made.status(), 201);
    let patch = |key: &str, body: serde_json::Value| {
        sandbox.edit(|editor| {
            let all = editor.all("people").unwrap();
            let one = all.iter().find(|person| person["personId"] == key).unwrap();
            editor.patch("people", one["id"].as_str().unwrap(), &body).unwrap();
        });
    };
    let calls = sandbox.calls().len();
    patch("P3", json!({ "jobTitle": "Baker" }));
    let job = "SELECT job FROM people WHERE person_id = 'P3'";
    service.until("the job is in the hub", |_| place.text("hub", job) == "Baker");
    // What the write of its metadata says comes back as a hint, too.
    service.until("all is quiet", |service| service.metric("trueup_hint_queue_records") == 0.0);
    let made = sandbox.calls()[calls..].to_vec();
    assert!(made.len() <= 8, "a few calls for one record: {made:?}");
    patch("P4", json!({ "emails": { "primaryEmail": "new@example.com", "additionalEmails": [] } }));
    let way = "SELECT value FROM ways WHERE way_id = 'W4'";
    service.until("the address is in the hub", |_| place.text("hub", way) == "new@example.com");
    assert!(taken(&service, "crm", "accepted") >= 2.0);
    assert_eq!(taken(&service, "crm", "forged"), 0.0);
}
