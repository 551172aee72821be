//! The demo, from nothing to agreement, and what it says to try next.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;

use shell::Place;

/// A place in which the demo ran.
fn demo() -> (Place, String) {
    let place = Place::new();
    let page = place.run(&["demo", "-auto-approve"], 0);
    (place.inside("trueup-demo"), page)
}

/// Fails naming what is missing.
fn says(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "`{part}` is not said in:\n{page}");
    }
}

#[test]
fn it_shows_every_way_of_drifting_repairs_it_and_finds_nothing_left() {
    let (place, page) = demo();
    let order = [
        "Wrote trueup-demo",
        "Each holds\n4 businesses, 20 contacts, 33 contact_identifiers, 11 people_businesses.\n",
        "contacts 1001   edited in app\n",
        "Plan: 9 to add, 21 to change, 8 to destroy.\n",
        "Apply complete! Records: 9 added, 21 changed, 8 destroyed.\n",
        "\nNo changes. Nothing can be written now: 1 record held, 1 with a rejected change (named above).\n",
        "    cd trueup-demo\n",
    ];
    let places: Vec<Option<usize>> = order.iter().map(|part| page.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{page}");
    let (plan, after) = page.split_once("Apply complete!").unwrap();
    says(
        plan,
        &[
            "~ job_title = \"baker\" -> \"head baker\"  # from app (only change)\n",
            "~ organization = \"Sample Printworks\" -> \"Placeholder Labs\"  # from app (only change)\n",
            "~ notes        = null -> \"back from holiday\"  # from local (only change)\n",
            "~ nickname = \"Clee\" -> \"Cle\"  # from local (higher version)\n",
            "~ job_title = \"pilot\" -> \"dispatcher\"  # from app (later timestamp)\n",
            "# app.contacts[\"1007\"] will be deleted",
            "# warehouse.contact_identifiers[\"I1007-1\"] will be deleted",
            "# app.contacts[\"1008\"] will be created",
            "# merged JSON\n",
            "~ llm_context = (sensitive value)",
            "+ warehouse.contacts[\"1021\"] {\n",
            "~ identifier_normalized = \"+12025550112\" -> \"+12025550199\"  # derived\n",
            "+ app.people_businesses[\"1013\", \"B004\"] {\n",
        ],
    );
    assert!(!page.contains("long letters"), "a sensitive value is shown:\n{page}");
    says(
        after,
        &[
            "  contacts[\"1005\"]: notes differs",
            "app.contacts[\"1009\"]: category_code in app breaks the rule",
        ],
    );
    place.run(&["plan", "-detailed-exitcode"], 0);
    // What no manifest names is as the applications left it.
    assert_eq!(place.text("app", "SELECT avatar_color FROM people WHERE id = '1021'"), "violet");
    assert_eq!(place.text("local", "SELECT ringtone FROM contacts WHERE contact_id = '1001'"), "bells");
    assert_eq!(
        place.text("warehouse", "SELECT notes FROM contacts_master WHERE contact_id = 1005"),
        "met at the spring fair"
    );
    assert_eq!(place.text("app", "SELECT category FROM people WHERE id = '1009'"), "Q");
}

#[test]
fn running_it_again_starts_afresh_and_keeps_what_is_not_the_demos() {
    let (place, _) = demo();
    std::fs::write(place.path().join("notes.txt"), "mine").unwrap();
    place.sql("app", "DELETE FROM people");
    let above = place.above();
    let page = above.run(&["demo", "-auto-approve"], 0);
    says(&page, &["Plan: 9 to add, 21 to change, 8 to destroy.\n", "No changes."]);
    assert_eq!(std::fs::read_to_string(place.path().join("notes.txt")).unwrap(), "mine");
    assert_eq!(place.text("app", "SELECT count(*) || '' FROM people"), "20");
}

#[test]
fn a_folder_that_no_demo_made_is_refused_and_left_as_it_is() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("mine")).unwrap();
    std::fs::write(place.path().join("mine/letter.txt"), "mine").unwrap();
    let page = place.run(&["demo", "mine", "-auto-approve"], 1);
    says(&page, &["Error: mine is not empty, and no earlier demo made it", "trueup demo DIR"]);
    let there: Vec<_> = std::fs::read_dir(place.path().join("mine")).unwrap().collect();
    assert_eq!(there.len(), 1);
    says(&place.run(&["demo", "-json"], 1), &["has no JSON"]);
}

#[test]
fn where_nobody_can_be_asked_it_shows_the_plan_and_stops() {
    let place = Place::new();
    let page = place.run(&["demo", "elsewhere"], 1);
    says(
        &page,
        &["Plan: 9 to add, 21 to change, 8 to destroy.\n", "Error: approval is needed", "--auto-approve"],
    );
    place.inside("elsewhere").run(&["plan", "-detailed-exitcode"], 2);
}

#[test]
fn a_person_takes_a_side_and_the_stores_agree() {
    let (place, _) = demo();
    let id = place.conflict();
    let page = place.run(&["conflicts", "show", &id[..6]], 0);
    says(
        &page,
        &["contacts[\"1005\"]", "\"prefers e-mail\"", "\"prefers the phone\"", "manual_resolution_required"],
    );
    says(&place.run(&["conflicts", "resolve", &id], 1), &["--take <STORE>"]);
    says(&place.run(&["conflicts", "resolve", &id, "--take", "app"], 1), &["--auto-approve"]);
    says(
        &place.run(&["conflicts", "resolve", &id, "--take", "warehouse", "-auto-approve"], 1),
        &["take one of app, local"],
    );
    says(
        &place.run(&["conflicts", "resolve", &id, "--take", "app", "-auto-approve"], 0),
        &["Apply complete!"],
    );
    for (store, query) in NOTES {
        assert_eq!(place.text(store, query), "prefers e-mail", "{store}");
    }
    says(&place.run(&["conflicts", "list"], 0), &["No conflict waits for a person.\n"]);
    says(&place.run(&["conflicts", "list", "--all"], 0), &[&id]);
    place.run(&["plan", "-detailed-exitcode"], 0);

    // What lost can be had all the same, as a new edit.
    says(&place.run(&["conflicts", "show", &id], 0), &[&format!("conflicts resolve {id} --take local")]);
    let after_all = place.run(&["conflicts", "resolve", &id, "--take", "local", "-auto-approve"], 0);
    says(&after_all, &["Plan: 0 to add, 2 to change, 0 to destroy."]);
    for (store, query) in NOTES {
        assert_eq!(place.text(store, query), "prefers the phone", "{store}");
    }
    place.run(&["plan", "-detailed-exitcode"], 0);
    says(
        &place.run(&["conflicts", "resolve", &id, "--take", "local", "-auto-approve"], 1),
        &["contacts[\"1005\"] has no other values than these"],
    );
}

#[test]
fn a_person_sets_another_value_and_a_rejected_one_is_corrected() {
    let (place, _) = demo();
    let id = place.conflict();
    says(
        &place.run(&["conflicts", "resolve", &id, "--set", "nickname=E", "-auto-approve"], 1),
        &["is not about that field"],
    );
    place.run(&["conflicts", "resolve", &id, "--set", "notes=prefers letters", "-auto-approve"], 0);
    for (store, query) in NOTES {
        assert_eq!(place.text(store, query), "prefers letters", "{store}");
    }
    place.sql("app", "UPDATE people SET category = 'A' WHERE id = '1009'");
    place.run(&["apply", "-auto-approve"], 0);
    let page = place.run(&["plan", "-detailed-exitcode"], 0);
    assert_eq!(page, "No changes. Every store holds what the manifests say it should.\n");
    says(&place.run(&["status"], 0), &["To do: 0 to add, 0 to change, 0 to destroy, 0 metadata only."]);
}

const NOTES: [(&str, &str); 3] = [
    ("warehouse", "SELECT notes FROM contacts_master WHERE contact_id = 1005"),
    ("app", "SELECT notes FROM people WHERE id = '1005'"),
    ("local", "SELECT remarks FROM contacts WHERE contact_id = '1005'"),
];

/// What it says to try is tried as it is printed, in a shell.
#[cfg(unix)]
#[test]
fn the_commands_it_ends_with_work_as_printed() {
    let place = Place::new();
    let page = place.run(&["demo", "my demo", "-auto-approve"], 0);
    let lines: Vec<&str> = page
        .split_once("What to try next:")
        .unwrap()
        .1
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("sqlite3 "))
        .collect();
    let mut codes = Vec::new();
    for line in &lines[1..] {
        // Where it would ask or go on for ever, it is told not to.
        let more = match line.rsplit(' ').next() {
            Some("apply" | "app") => " --auto-approve",
            Some("run") => " --once",
            _ => "",
        };
        let done =
            place.command("sh").args(["-c", &format!("{} && {line}{more}", lines[0])]).output().unwrap();
        codes.push(done.status.code());
        assert!(
            done.status.code().is_some_and(|code| code != 127),
            "{line}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    assert_eq!(codes, vec![Some(0); lines.len() - 1], "{lines:?}");
}

/// What a plan is about, without what is different in every run.
fn outline(page: &str) -> String {
    let plan = page.split_once("will perform the following actions:\n").unwrap().1;
    let plan = plan.split_once("Apply complete!").unwrap().0;
    let lines = plan.lines().filter(|line| {
        // Of what is shown in full, what is done and why.
        line.starts_with("  # ") || line.starts_with("  · ") || line.chars().next().is_some_and(|c| c != ' ')
    });
    let shown = lines.collect::<Vec<_>>().join("\n");
    let times = regex::Regex::new(r"\d{4}-\d\d-\d\dT[0-9:.]+Z").unwrap();
    let ids = regex::Regex::new("`[0-9a-f]{16}`").unwrap();
    ids.replace_all(&times.replace_all(&shown, "TIME"), "`ID`").into_owned()
}

/// The CRM that the demo left, served again as the demo says.
#[cfg(unix)]
struct Served(std::process::Child);

#[cfg(unix)]
impl Served {
    fn start(place: &Place, line: &str) -> Self {
        use std::io::BufRead as _;
        // In place of the shell, so that it can be ended.
        let line = format!("exec {}", line.trim_end_matches(" &"));
        let mut command = place.command("sh");
        let mut child = command
            .args(["-c", &line])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http://127.0.0.1:"), "{line} said {url:?}");
        Self(child)
    }
}

#[cfg(unix)]
impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_crm_takes_part_and_is_served_again_as_the_demo_says() {
    let place = Place::new();
    let page = place.run(&["demo", "-twenty", "-auto-approve"], 0);
    says(
        &page,
        &[
            "Each holds\n4 businesses, 20 contacts, 33 contact_identifiers, 11 people_businesses.\n",
            "  businesses in crm: 2 linked by name\n",
            "  contacts in crm: 2 linked by contact_identifiers.email; 1 linked by contact_identifiers.phone + name_normalized\n",
            "~ job_title = null -> \"night editor\"  # from crm (only change)\n",
            "~ identifier_value      = \"sol.sample@example.com\" -> \"sol@sample.example.com\"  # from crm (only change)\n",
            "~ canonical_name = null -> \"Vic Walkin\"  # derived\n",
            "\nNo changes. Nothing can be written now: 1 record held, 1 with a rejected change (named above).\n",
            "Four stores agree again",
        ],
    );
    insta::assert_snapshot!("the_plan_of_the_demo_with_a_crm", outline(&page));
    assert_eq!(
        place.inside("trueup-demo").text("app", "SELECT display_name FROM people WHERE id = '1022'"),
        "Vic Walkin"
    );
    let demo = place.inside("trueup-demo");
    says(&demo.run(&["plan"], 1), &["crm", "the server cannot be reached"]);
    let line = page.lines().map(str::trim).find(|line| line.contains("sandbox twenty --port ")).unwrap();
    let _served = Served::start(&demo, line);
    demo.run(&["plan", "-detailed-exitcode"], 0);
    demo.sql("local", "UPDATE contacts SET job = 'mayor' WHERE contact_id = '1006'");
    says(
        &demo.run(&["plan", "-detailed-exitcode"], 2),
        &["crm.contacts[\"1006\"]", "crm 1 row (about 2 calls)"],
    );
    demo.run(&["apply", "-auto-approve"], 0);
    demo.run(&["plan", "-detailed-exitcode"], 0);
    // What stands inside a person there is not to be read by itself.
    let page = demo.run(&["explain", "contact_identifiers[\"I1003-1\"]"], 0);
    says(&page, &["as the last pass left it\n"]);
    assert_eq!(page.matches("in sync\n").count(), 3, "{page}");
}
