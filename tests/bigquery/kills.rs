//! The command, and the emulator under it, killed in the middle: the next apply completes, nothing is there twice, nothing is lost.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::emulator::Emulator;
use crate::setting::{Setting, clean_pass, plan};

const PEOPLE: u32 = 400;

async fn agreed(emulator: &Emulator) -> Setting {
    let setting = Setting::new(emulator, &emulator.rest_url(), "").await;
    let sql = format!(
        "INSERT INTO {} (id, name, size) SELECT CONCAT('p', CAST(n AS STRING)), 'N', n FROM UNNEST(GENERATE_ARRAY(1, {PEOPLE})) AS n",
        setting.table()
    );
    emulator.query(&sql, &[]).await;
    clean_pass(&setting.engine().await).await;
    setting
}

/// Edits in the file: changes, deletes and new people.
fn disturb(setting: &Setting, run: u32) {
    let first = run * 20 + 1;
    setting.local(&format!(
        "UPDATE people SET note = 'run {run}' WHERE size BETWEEN 1 AND 300; \
         DELETE FROM people WHERE id IN ('p{}', 'p{}'); \
         INSERT INTO people (id, name, note) VALUES ('new{run}a', 'New', 'made'), ('new{run}b', 'New', 'made');",
        300 + first,
        301 + first
    ));
}

fn begin(setting: &Setting) -> Child {
    Command::new(env!("CARGO_BIN_EXE_trueup"))
        .args(["apply", "-auto-approve", "-lock-timeout=15s"])
        .current_dir(setting.folder.path())
        .arg("-f")
        .arg(setting.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn check(emulator: &Emulator, setting: &Setting, run: u32) {
    let engine = setting.engine().await;
    // The lease of who was killed runs out first.
    tokio::time::sleep(Duration::from_millis(400)).await;
    clean_pass(&engine).await;
    let next = plan(&engine).await;
    assert!(next.is_empty(), "run {run}: {:?}", next.records.iter().next());
    let counted = setting
        .cells(emulator, "SELECT CAST(COUNT(*) AS STRING), CAST(COUNT(DISTINCT id) AS STRING), CAST(COUNTIF(id IN ('new0a', 'new0b')) AS STRING) FROM PEOPLE")
        .await;
    assert_eq!(counted[0][0], counted[0][1], "run {run}: nothing is there twice");
    assert_eq!(counted[0][2], json!("2"), "run {run}");
    let (notes, made) = (
        format!("SELECT CAST(COUNT(*) AS STRING) FROM PEOPLE WHERE note = 'run {run}'"),
        format!("SELECT CAST(COUNT(*) AS STRING) FROM PEOPLE WHERE id IN ('new{run}a', 'new{run}b')"),
    );
    assert_eq!(setting.cells(emulator, &notes).await, [["300"]], "run {run}: no edit is lost");
    assert_eq!(setting.cells(emulator, &made).await, [["2"]], "run {run}");
    let theirs =
        setting.cells(emulator, "SELECT CONCAT(id, ' ', COALESCE(note, '')) FROM PEOPLE ORDER BY id").await;
    let theirs: Vec<&str> = theirs.iter().map(|row| row[0].as_str().unwrap()).collect();
    let ours = setting
        .local_text("SELECT group_concat(line, ',') FROM (SELECT id || ' ' || coalesce(note, '') AS line FROM people ORDER BY id)")
        .unwrap();
    assert_eq!(ours.split(',').collect::<Vec<_>>(), theirs, "run {run}: both hold the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_killed_at_any_moment() {
    let emulator = Emulator::shared();
    let setting = agreed(emulator).await;
    disturb(&setting, 0);
    let begun = Instant::now();
    assert!(begin(&setting).wait().unwrap().success(), "undisturbed");
    let length = begun.elapsed();
    check(emulator, &setting, 0).await;
    let mut middle = 0;
    for run in 1..=5 {
        disturb(&setting, run);
        let mut child = begin(&setting);
        std::thread::sleep(length * (run + 2) / 8);
        middle += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        check(emulator, &setting, run).await;
    }
    assert!(middle > 0, "no kill came in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_emulator_killed_under_an_apply() {
    let mut emulator = Emulator::start();
    let setting = agreed(&emulator).await;
    disturb(&setting, 0);
    let begun = Instant::now();
    assert!(begin(&setting).wait().unwrap().success(), "undisturbed");
    let length = begun.elapsed();
    check(&emulator, &setting, 0).await;
    for run in 1..=3 {
        disturb(&setting, run);
        let mut child = begin(&setting);
        std::thread::sleep(length * (run + 3) / 7);
        emulator.kill();
        child.wait().unwrap();
        emulator.restart().await;
        check(&emulator, &setting, run).await;
    }
}
