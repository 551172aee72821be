//! Fields in STRUCTs and ARRAYs, big integers, and columns that are nobody's business.

use serde_json::json;

use crate::emulator::Emulator;
use crate::setting::{Setting, clean_pass, plan};

#[tokio::test(flavor = "multi_thread")]
async fn structs_and_arrays_are_written_whole_and_keep_what_is_not_ours() {
    let emulator = Emulator::shared();
    let more = format!(", emulator_grpc: \"{}\"", emulator.grpc_url());
    let setting = Setting::new(emulator, &emulator.rest_url(), &more).await;
    let insert = format!(
        "INSERT INTO {} (id, name, size, address, tags, links, theirs) VALUES \
         ('a', 'Ada Example', 9007199254740993, STRUCT('Town', '0001'), ['x', 'y'], [STRUCT('web', 1)], STRUCT('mine', ['k'])), \
         ('b', 'Ben Sample', NULL, NULL, NULL, NULL, NULL)",
        setting.table()
    );
    emulator.query(&insert, &[]).await;
    let engine = setting.engine().await;
    let first = clean_pass(&engine).await;
    assert_eq!(first.applied.create, 2, "{first:?}");
    let of_ada = |column: &str| {
        setting.local_text(&format!("SELECT CAST({column} AS TEXT) FROM people WHERE id = 'a'"))
    };
    assert_eq!(of_ada("size").as_deref(), Some("9007199254740993"));
    assert_eq!((of_ada("city").as_deref(), of_ada("tags").as_deref()), (Some("Town"), Some("[\"x\",\"y\"]")));
    assert_eq!(of_ada("links").as_deref(), Some("[{\"kind\":\"web\",\"n\":1}]"));
    assert!(
        plan(&engine).await.is_empty(),
        "nothing is left: {:?}",
        plan(&engine).await.records.iter().next()
    );

    setting.local(
        "UPDATE people SET city = 'Village', size = 9007199254740995, tags = '[\"z\"]', \
         links = '[{\"kind\":\"mail\",\"n\":2},{\"kind\":\"web\",\"n\":1}]', facts = '{\"k\":[1,null]}' WHERE id = 'a'; \
         UPDATE people SET city = 'Town' WHERE id = 'b'; \
         INSERT INTO people (id, name, tags) VALUES ('c', 'Cleo Placeholder', '[\"q\"]');",
    );
    clean_pass(&engine).await;
    let rows = setting
        .cells(
            emulator,
            "SELECT id, CAST(size AS STRING), TO_JSON_STRING(address), TO_JSON_STRING(tags), TO_JSON_STRING(links), \
             TO_JSON_STRING(theirs), TO_JSON_STRING(facts), CAST(sync_metadata.version AS STRING), \
             sync_metadata.last_updated_by FROM PEOPLE ORDER BY id",
        )
        .await;
    let ada = json!([
        "a",
        "9007199254740995",
        "{\"city\":\"Village\",\"zip\":\"0001\"}",
        "[\"z\"]",
        "[{\"kind\":\"mail\",\"n\":2},{\"kind\":\"web\",\"n\":1}]",
        "{\"a\":\"mine\",\"b\":[\"k\"]}",
        "{\"k\":[1,null]}",
    ]);
    assert_eq!(json!(rows[0][..7]), ada);
    assert_eq!(rows[0][8], "local");
    assert_eq!((&rows[1][0], &rows[1][2]), (&json!("b"), &json!("{\"city\":\"Town\",\"zip\":null}")));
    assert_eq!((&rows[2][0], &rows[2][3]), (&json!("c"), &json!("[\"q\"]")));
    assert!(
        plan(&engine).await.is_empty(),
        "nothing is left: {:?}",
        plan(&engine).await.records.iter().next()
    );

    // Edited by hand in the warehouse, without raising the version.
    emulator.query(&format!("UPDATE {} SET note = 'by hand' WHERE id = 'a'", setting.table()), &[]).await;
    clean_pass(&engine).await;
    assert_eq!((of_ada("note").as_deref(), of_ada("tags").as_deref()), (Some("by hand"), Some("[\"z\"]")));
    // An emptied list, which is no value there, is none everywhere, and stays so.
    setting.local("UPDATE people SET tags = '[]' WHERE id = 'a'");
    clean_pass(&engine).await;
    clean_pass(&engine).await;
    assert!(plan(&engine).await.is_empty(), "it settles: {:?}", plan(&engine).await.records.iter().next());
}

/// One after the other: two that begin at once would take one dataset.
#[test]
fn the_demo_runs_on_an_emulator_with_a_crm_beside_it_and_without() {
    demo(&[], "Three stores agree again");
    demo(&["--twenty"], "Four stores agree again");
}

fn demo(more: &[&str], end: &str) {
    let emulator = Emulator::shared();
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_trueup"))
        .args(["demo", "-auto-approve", "--bigquery", &emulator.rest_url()])
        .args(more)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(said.contains(end), "{said}");
    let manifest = std::fs::read_to_string(folder.path().join("trueup-demo/manifests/stores.yaml")).unwrap();
    assert!(manifest.contains("bigquery: {project: demo"), "{manifest}");
}
