//! How fast a whole BigQuery table is read, in the order of its keys: 200,000 rows of 30 columns, and two of metadata, from the emulator that tests use.
//!
//! `cargo bench --bench bigquery` runs it, once Python 3.13 or what `tests/needs.bash` installs is there. The figures are of the emulator
//! as much as of trueup: they share the processors.
#![allow(clippy::print_stdout)]

#[path = "../emulator/mod.rs"]
mod emulator;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use emulator::{Emulator, PROJECT};
use trueup::model::{Mapped, StoreName};
use trueup::store::bigquery::BigQueryStore;
use trueup::store::{SnapshotItem, Store as _};

const ROWS: u64 = 200_000;
const RUNS: usize = 3;

/// Besides the key: 16 texts, 4 integers, 2 floats, 2 truths, 2 times, a date, JSON, and a list.
const COLUMNS: [(&str, &str, usize); 8] = [
    ("string", "CONCAT('value ', CAST(n AS STRING), ' of column NUMBER')", 16),
    ("int64", "n * 7919 + NUMBER", 4),
    ("float64", "n / 8 + NUMBER", 2),
    ("bool", "MOD(n, 2 + NUMBER) = 0", 2),
    ("timestamp", "TIMESTAMP_MICROS(1700000000000000 + n * 1000003 + NUMBER)", 2),
    ("date", "DATE_ADD(DATE '2000-01-01', INTERVAL MOD(n, 9000) DAY)", 1),
    ("json", "PARSE_JSON(CONCAT('{\"n\":', CAST(n AS STRING), ',\"of\":[1,2,3]}'))", 1),
    ("string_list", "['a', CAST(n AS STRING)]", 1),
];

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("not run: this is a benchmark; `cargo bench --bench bigquery` runs it");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

fn manifests(dataset: &str) -> String {
    let mut fields = String::new();
    for (ty, _, many) in COLUMNS {
        for number in 0..many {
            let _ = writeln!(fields, "    {ty}_{number}: {ty}");
        }
    }
    format!(
        "apiVersion: trueup/v1\nkind: Store\nmetadata: {{name: warehouse}}\n\
         spec: {{canonical: true, bigquery: {{project: {PROJECT}, dataset: {dataset}}}}}\n---\n\
         apiVersion: trueup/v1\nkind: Entity\nmetadata: {{name: things}}\nspec:\n  key: {{id: string}}\n  fields:\n{fields}---\n\
         apiVersion: trueup/v1\nkind: Mapping\nmetadata: {{name: things}}\nspec:\n  entity: things\n  stores:\n    \
         warehouse: {{table: things, fields: {{\"*\": same}}, sync: {{columns: {{version: version, last_updated: last_updated}}}}}}\n"
    )
}

fn mapped(folder: &Path) -> Mapped {
    let (spec, _) = trueup::cli::load::load(folder).unwrap_or_else(|error| panic!("{error}"));
    let entity =
        spec.entities.iter().find(|entity| entity.name.as_str() == "things").expect("things").clone();
    let store = StoreName::new("warehouse").expect("a name");
    let mapping = spec.mapping(&entity.name, &store).expect("mapped").clone();
    Mapped { entity, mapping }
}

async fn run() {
    let emulator = Emulator::start();
    let dataset = emulator.dataset().await;
    let mut columns = String::new();
    for (ty, sql, many) in COLUMNS {
        for number in 0..many {
            let _ = write!(columns, ", {} AS {ty}_{number}", sql.replace("NUMBER", &number.to_string()));
        }
    }
    // In an order that is not that of the keys.
    let sql = format!(
        "CREATE TABLE `{PROJECT}.{dataset}.things` AS SELECT CONCAT('k', CAST(MOD(n * 7919, 1000003) AS STRING)) AS id{columns}, \
         CAST(1 AS INT64) AS version, TIMESTAMP_MICROS(1700000000000000) AS last_updated \
         FROM UNNEST(GENERATE_ARRAY(1, {ROWS})) AS n"
    );
    emulator.query(&sql, &[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), manifests(&dataset)).expect("written");
    let mapped = mapped(folder.path());
    let name = StoreName::new("warehouse").expect("a name");
    println!("\n| what | rows | columns | seconds | rows/s |\n|---|---|---|---|---|");
    for (what, arrow) in [("Storage Read API (Arrow)", true), ("pages over REST", false)] {
        let mut options = emulator.options(&dataset);
        if !arrow && let Some(address) = &mut options.emulator {
            address.grpc = None;
        }
        let store = BigQueryStore::open(name.clone(), options).expect("opened");
        for _ in 0..if arrow { RUNS } else { 1 } {
            let begun = Instant::now();
            let mut stream = store.snapshot(mapped.clone()).await.expect("a stream");
            let (mut rows, mut whole) = (0_u64, false);
            while let Some(item) = stream.recv().await {
                match item.expect("a piece") {
                    SnapshotItem::Rows(more) => rows += more.len() as u64,
                    SnapshotItem::End(certificate) => whole = certificate.is_complete(),
                    SnapshotItem::Strays(_) => {}
                }
            }
            let seconds = begun.elapsed().as_secs_f64();
            assert!(whole && rows == ROWS, "{rows} rows, whole: {whole}");
            assert_eq!((store.read_paths().storage > 0, store.read_paths().rest > 0), (arrow, !arrow));
            #[allow(clippy::cast_precision_loss)]
            let speed = rows as f64 / seconds;
            println!("| {what} | {rows} | {} | {seconds:.2} | {speed:.0} |", 1 + mapped.entity.fields.len());
        }
    }
}
