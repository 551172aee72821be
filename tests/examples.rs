//! The examples do what they say.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};

/// The example for programs that use the crate, as part of this one: compiled again it would take as long as all else.
#[allow(dead_code)] // Its `main` is for running it alone.
#[path = "../examples/library.rs"]
mod library;

#[tokio::test]
async fn the_library_example_brings_two_stores_to_agree() {
    let page = library::agree().await.unwrap();
    assert!(page.contains("shelf = null -> \"A12\"") && page.contains("pages = 312 -> 320"), "{page}");
}

/// A copy of the stock example, its stores made from their SQL.
struct Stock(tempfile::TempDir);

impl Stock {
    async fn new() -> Self {
        let stock = Self(tempfile::tempdir().unwrap());
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/stock");
        for folder in ["manifests", "stores", "later"] {
            std::fs::create_dir(stock.0.path().join(folder)).unwrap();
            for entry in std::fs::read_dir(example.join(folder)).unwrap() {
                let from = entry.unwrap().path();
                // Somebody who tried the example left its databases there.
                if from.extension().is_some_and(|end| end == "sql" || end == "yaml") {
                    std::fs::copy(&from, stock.0.path().join(folder).join(from.file_name().unwrap()))
                        .unwrap();
                }
            }
        }
        stock.sql("stores").await;
        stock
    }

    fn database(&self, store: &str) -> PathBuf {
        self.0.path().join(format!("stores/{store}.db"))
    }

    /// Runs a folder's scripts, each on the store of its name.
    async fn sql(&self, folder: &str) {
        for store in ["ledger", "scanner", "shop"] {
            let text = std::fs::read_to_string(self.0.path().join(format!("{folder}/{store}.sql"))).unwrap();
            let options = SqliteConnectOptions::new().filename(self.database(store)).create_if_missing(true);
            let mut connection = options.connect().await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    /// One column of a query, as text.
    async fn ask(&self, store: &str, query: &'static str) -> Vec<String> {
        let mut connection =
            SqliteConnectOptions::new().filename(self.database(store)).connect().await.unwrap();
        let rows = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn run(&self, args: &[&str], code: i32) -> String {
        let mut command = Command::cargo_bin("trueup").unwrap();
        for name in ["NO_COLOR", "TRUEUP_LOG", "TRUEUP_INPUT", "TRUEUP_IN_AUTOMATION", "TRUEUP_CLI_ARGS"] {
            command.env_remove(name);
        }
        let done = command.current_dir(self.0.path()).args(args).assert().code(code);
        String::from_utf8_lossy(&done.get_output().stdout).into_owned()
    }
}

#[tokio::test]
async fn the_stock_example_goes_as_its_readme_says() {
    let stock = Stock::new().await;
    stock.run(&["validate"], 0);
    stock.run(&["migrate", "--auto-approve"], 0);
    stock.run(&["plan", "--detailed-exitcode"], 2);
    let page = stock.run(&["apply", "--auto-approve"], 0);
    assert!(page.contains("Apply complete! Records: 11 added, 0 changed, 0 destroyed."), "{page}");
    assert!(stock.run(&["plan", "--detailed-exitcode"], 0).contains("No changes."));
    assert_eq!(
        stock.ask("shop", "SELECT count(*) || '' FROM offers").await,
        ["5"],
        "damaged lamps are no offer"
    );

    stock.sql("later").await;
    let page = stock.run(&["plan", "--detailed-exitcode"], 2);
    for part in [
        "~ quantity   = 14 -> 11  # from scanner",
        "~ unit_price = 89 -> 79  # from shop",
        "+ ledger.stock[\"south\", \"rope-10m\"]",
        "- shop.stock[\"south\", \"paint-white\"]",
        "quantity in scanner breaks the rule `range` (-5)",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    stock.run(&["apply", "--auto-approve"], 0);
    let page = stock.run(&["plan", "--detailed-exitcode"], 0);
    assert!(page.contains("No changes.") && page.contains("1 with a rejected change"), "{page}");

    let lamps = "SELECT quantity || ' at ' || unit_price FROM stock_levels \
                 WHERE warehouse = 'north' AND article = 'lamp-oak'";
    assert_eq!(stock.ask("ledger", lamps).await, ["11 at 79"]);
    let hinges = "SELECT quantity || '' FROM stock_levels WHERE article = 'hinge-90'";
    assert_eq!(stock.ask("ledger", hinges).await, ["85"], "a count below nothing goes nowhere");
    assert_eq!(
        stock.ask("scanner", "SELECT counted || '' FROM counts WHERE sku = 'hinge-90'").await,
        ["-5"],
        "and is its author's to correct"
    );
    assert_eq!(stock.ask("shop", "SELECT article FROM offers WHERE article = 'paint-white'").await, [""; 0]);
    assert_eq!(
        stock.ask("scanner", "SELECT DISTINCT device FROM counts").await,
        ["unassigned"],
        "a column that no manifest names is left alone"
    );
}
