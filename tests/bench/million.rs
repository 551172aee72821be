//! trueup on a million wide records, next to what else there is. `tests/bench/run` sets up what this needs and runs it; its arguments
//! name scenarios: `plan`, `load` and `edits` (which loads first), all where none is named.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod contacts;
mod measure;
mod scenarios;
#[path = "../server/mod.rs"]
mod server;
mod table;
mod world;

use std::process::ExitCode;

use table::Table;
use world::Ground;

/// What comes of something that may go wrong in any way: then it is told and all ends.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SCENARIOS: [&str; 3] = ["plan", "load", "edits"];

/// The fewest records of which a hundred and a tenth can be edited.
const FEWEST: u64 = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo says so when it is asked for benchmarks, and not when it tests all there is.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("not run: this is a benchmark; tests/bench/run runs it");
        return ExitCode::SUCCESS;
    }
    let scenarios: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
    let mut table = Table::default();
    let outcome = run(&scenarios, &mut table);
    print!("\n{}", table.markdown());
    for missed in table.missed() {
        eprintln!("missed: {missed}");
    }
    match outcome {
        Ok(()) if table.missed().is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(scenarios: &[&str], table: &mut Table) -> Outcome<()> {
    if let Some(unknown) = scenarios.iter().find(|word| !SCENARIOS.contains(word)) {
        return Err(format!("there is no scenario `{unknown}`; there are {}", SCENARIOS.join(", ")).into());
    }
    let rows = std::env::var("TRUEUP_BENCH_ROWS").map_or(Ok(1_000_000), |rows| rows.parse())?;
    if !(FEWEST..=9_999_990).contains(&rows) || rows % 10 != 0 {
        return Err(format!("TRUEUP_BENCH_ROWS is a multiple of ten from {FEWEST} to 9999990").into());
    }
    let ground = Ground::new(rows, std::env::var_os("TRUEUP_BENCH_RELADIFF").map(Into::into))?;
    let postgres = ground.ask(&ground.database(), "SELECT current_setting('server_version')")?;
    println!("{}", table::machine(&postgres));
    println!(
        "(memory is that of the command, without the Postgres server's; that has shared_buffers = 1GB and flushes)"
    );
    let asked = |name: &str| scenarios.is_empty() || scenarios.contains(&name);
    if asked("plan") {
        scenarios::plan(&ground, table)?;
    }
    if asked("load") || asked("edits") {
        scenarios::load(&ground, table, asked("edits"))?;
    }
    Ok(())
}
