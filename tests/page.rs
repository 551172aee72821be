//! The page for people, in a real browser.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "browser/mod.rs"]
mod browser;
#[path = "service_kit/mod.rs"]
mod service_kit;
#[path = "shell/mod.rs"]
mod shell;

use browser::Browser;
use service_kit::{Service, settled};
use shell::Place;

/// Passes that never come by themselves: what a click decides is carried out because it was clicked.
const QUIET: &str = r#"
  interval: 1h
  http: {token: "${env:API_TOKEN}"}
"#;

/// A value that would take a page over that trusts what records say.
const HOSTILE: &str =
    "<img src=x onerror=\"document.title='taken over'\"><script>document.title='taken over'</script>";

fn everywhere(place: &Place, id: usize) -> [String; 3] {
    ["hub", "app", "local"].map(|at| place.text(at, &format!("SELECT label FROM things WHERE id = '{id}'")))
}

#[test]
fn a_person_sees_what_is_wrong_and_settles_it_with_a_click() {
    let place = settled(QUIET, 12);
    place.sql("app", &format!("UPDATE things SET label = '{}' WHERE id = '3'", HOSTILE.replace('\'', "''")));
    place.sql("local", "UPDATE things SET label = 'said in local', secret_note = 'hush' WHERE id = '3'");
    place.sql("app", "UPDATE things SET kind = 'medium' WHERE id = '4'");
    let service = Service::start(&place, &[]);
    service.until("the first pass", |service| service.get("/readyz", None).0 == 200);

    let browser = Browser::start();
    browser.open(&format!("http://Pat%20Example:api-hush@{}/", service.address));
    let page = browser.text();
    let shown = HOSTILE.replace('"', "\\\"");
    for text in ["Not everything is as it should be.", "things[\"3\"]", &shown, "said in local", "medium"] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    assert_eq!(browser.value("document.title"), "! trueup", "what records say is text, whatever it says");
    assert!(!page.contains("api-hush") && !page.contains("hush"), "{page}");
    // On a telephone the tables are moved, not the page.
    browser.widen(360);
    let [within, wide] = ["clientWidth", "scrollWidth"]
        .map(|name| browser.value(&format!("document.documentElement.{name}")).as_u64().unwrap());
    assert!(within <= 360 && wide == within, "{wide} in {within}");
    browser.widen(1200);

    browser.click("button[aria-label='Take this: local']");
    assert_eq!(browser.value("location.pathname"), "/", "the click leads back to the page");
    service.until("it stands everywhere", |_| everywhere(&place, 3) == ["said in local"; 3]);
    service.until("the conflict is gone from the page", |_| {
        browser.open(&service.url("/"));
        !browser.text().contains("Take this")
    });
    let by = place.run(&["conflicts", "list", "-all", "-json"], 0);
    assert!(by.contains("Pat Example"), "{by}");
    assert_eq!(browser.complaints(), Vec::<String>::new(), "nothing was kept from being loaded or run");
}

#[test]
fn a_browser_without_the_password_sees_nothing() {
    let place = settled(QUIET, 2);
    let service = Service::start(&place, &[]);
    service.until("the first pass", |service| service.get("/readyz", None).0 == 200);
    let browser = Browser::start();
    for user in ["", "Pat:wrong@"] {
        browser.open(&format!("http://{user}{}/", service.address));
        assert!(!browser.text().contains("things"), "{user}: {}", browser.text());
    }
}
