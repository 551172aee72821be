//! The Postgres that tests run on: made anew, killed and started again, and gone in the end.

#[path = "server/mod.rs"]
mod server;

use std::path::Path;

use server::{Disk, Server};
use sqlx::Row as _;

#[tokio::test]
async fn every_database_is_new() {
    let (one, two) = (server::database().await, server::database().await);
    for database in [&one, &two] {
        database.sql("CREATE TABLE things (id text)").await;
    }
    assert_ne!(one.url, two.url);
}

#[tokio::test]
async fn the_order_of_bytes_is_not_the_servers_own() {
    let mut connection = server::database().await.connect().await;
    let query = "SELECT 'b' < 'A', 'b' < 'A' COLLATE \"C\"";
    let row = sqlx::query(query).fetch_one(&mut connection).await.unwrap();
    assert_eq!((row.get::<bool, _>(0), row.get::<bool, _>(1)), (false, false));
    let row =
        sqlx::query("SELECT 'a' < 'B', 'a' < 'B' COLLATE \"C\"").fetch_one(&mut connection).await.unwrap();
    assert_eq!((row.get::<bool, _>(0), row.get::<bool, _>(1)), (true, false));
}

#[tokio::test]
async fn what_was_committed_outlives_a_kill() {
    let mut server = Server::start(Disk::Flushed);
    let database = server.database().await;
    let mut open = database.connect().await;
    database.sql("CREATE TABLE things (id text); INSERT INTO things VALUES ('a')").await;
    server.kill();
    assert!(sqlx::query("SELECT 1").execute(&mut open).await.is_err());
    server.restart();
    let row = sqlx::query("SELECT id FROM things").fetch_one(&mut database.connect().await).await.unwrap();
    assert_eq!(row.get::<&str, _>(0), "a");
    let folder = server.socket().to_owned();
    assert!(folder.exists());
    drop(server);
    assert!(!Path::new(&folder).exists(), "nothing is left");
}
