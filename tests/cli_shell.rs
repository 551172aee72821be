//! The command itself, as far as it needs no stores: streams, exit codes, and plan files.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod plans;

use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::OutputAssertExt;
use plans::{full, troubled};
use trueup::plan::file;

fn trueup(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("trueup").unwrap();
    command.current_dir(folder);
    for name in [
        "NO_COLOR",
        "TRUEUP_LOG",
        "TRUEUP_INPUT",
        "TRUEUP_IN_AUTOMATION",
        "TRUEUP_CLI_ARGS",
        "TRUEUP_CLI_ARGS_plan",
    ] {
        command.env_remove(name);
    }
    command
}

fn stdout(command: &mut Command, code: i32) -> String {
    let done = command.assert().code(code);
    assert!(done.get_output().stderr.is_empty(), "{}", String::from_utf8_lossy(&done.get_output().stderr));
    String::from_utf8(done.get_output().stdout.clone()).unwrap()
}

fn stderr(command: &mut Command, code: i32) -> String {
    let done = command.assert().code(code);
    assert!(done.get_output().stdout.is_empty(), "{}", String::from_utf8_lossy(&done.get_output().stdout));
    String::from_utf8(done.get_output().stderr.clone()).unwrap()
}

#[test]
fn the_version_is_a_result() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["version"][..], &["--version"], &["-version"]] {
        assert_eq!(
            stdout(trueup(folder.path()).args(args), 0),
            format!("trueup {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
}

#[test]
fn mistakes_go_to_standard_error_and_exit_with_1() {
    let folder = tempfile::tempdir().unwrap();
    assert!(stderr(trueup(folder.path()).arg("plam"), 1).contains("plan"));
    let text = stderr(trueup(folder.path()).args(["plan", "-detailed-exitcode"]), 1);
    assert!(text.starts_with("Error: there is no folder of manifests at manifests\n"), "{text}");
    assert!(
        stderr(trueup(folder.path()).args(["plan", "--allow", "everything"]), 1)
            .contains("deletes, updates, emptied")
    );
    assert!(stderr(trueup(folder.path()).args(["apply", "x.plan", "--target", "a"]), 1).contains("--target"));
    assert!(
        stderr(trueup(folder.path()).env("TRUEUP_CLI_ARGS", "'open").arg("plan"), 1)
            .contains("TRUEUP_CLI_ARGS")
    );
}

#[test]
fn a_saved_plan_can_be_shown_without_manifests() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.plan"), file::encode(&full(), "0.0.9").unwrap()).unwrap();
    let page = stdout(trueup(folder.path()).args(["show", "p.plan"]), 0);
    assert!(page.contains("Plan: 1 to add, 1 to change, 1 to destroy.\n"), "{page}");
    assert!(!page.contains('\u{1b}'), "colour without a terminal");
    let json: serde_json::Value =
        serde_json::from_str(&stdout(trueup(folder.path()).args(["show", "-json", "p.plan"]), 0)).unwrap();
    assert_eq!(json["format_version"], "1.0");
    assert_eq!(json["resource_changes"].as_array().unwrap().len(), 5);
    let elsewhere = tempfile::tempdir().unwrap();
    let chdir = format!("-chdir={}", folder.path().display());
    assert_eq!(stdout(trueup(elsewhere.path()).args([&chdir, "show", "p.plan"]), 0), page);
}

#[test]
fn what_is_no_plan_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.plan"), "hello").unwrap();
    assert!(
        stderr(trueup(folder.path()).args(["show", "p.plan"]), 1)
            .contains("p.plan: this is not a plan file of trueup")
    );
    std::fs::write(folder.path().join("p.plan"), "trueup-plan 9.1\n{}\n{}\n").unwrap();
    let text = stderr(trueup(folder.path()).args(["show", "p.plan"]), 1);
    assert!(text.contains("format 9.1, and this version of trueup reads 1.x"), "{text}");
    assert!(stderr(trueup(folder.path()).args(["show", "none.plan"]), 1).contains("none.plan"));
}

#[test]
fn with_json_errors_are_json_too() {
    let folder = tempfile::tempdir().unwrap();
    let line = stdout(trueup(folder.path()).args(["plan", "-json"]), 1);
    let json: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!((json["type"].as_str(), json["@level"].as_str()), (Some("diagnostic"), Some("error")));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = troubled();
    let record = plan.records.to_vec().remove(0);
    plan.records = vec![record; 20_000].into(); // more than a pipe holds
    std::fs::write(folder.path().join("p.plan"), file::encode(&plan, "0.0.9").unwrap()).unwrap();
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("trueup"));
    command.current_dir(folder.path()).args(["show", "--verbose", "p.plan"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    done.assert().code(0);
}
