//! What is BigQuery's own: STRUCTs and ARRAYs, the two ways of reading, what a change costs, a service that fails, and kills.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "emulator/mod.rs"]
mod emulator;
#[path = "bigquery/faults.rs"]
mod faults;
#[path = "bigquery/hidden.rs"]
mod hidden;
#[path = "bigquery/kills.rs"]
mod kills;
#[path = "proxy/mod.rs"]
mod proxy;
#[path = "bigquery/reading.rs"]
mod reading;
#[path = "server/mod.rs"]
mod server;
#[path = "bigquery/setting.rs"]
mod setting;
#[path = "bigquery/shapes.rs"]
mod shapes;
#[path = "bigquery/types.rs"]
mod types;
