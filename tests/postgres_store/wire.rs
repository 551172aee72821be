//! What goes over the wire, and what becomes of a write when the wire breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;

/// Stands between a store and the server.
#[derive(Clone, Default)]
struct Wire {
    /// Bytes from the server.
    received: Arc<AtomicU64>,
    /// Breaks at the next commit: after it went through, or before.
    cut_after: Arc<AtomicBool>,
    cut_before: Arc<AtomicBool>,
}

impl Wire {
    /// Lets connections through from now on.
    async fn lay(&self, database: &Database) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let wire = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(wire.clone().pass(client));
            }
        });
        format!("postgres://postgres@127.0.0.1:{port}/{}", database.name)
    }

    async fn pass(self, client: TcpStream) {
        let server = TcpStream::connect(("127.0.0.1", shared().port())).await.expect("the server");
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let received = Arc::clone(&self.received);
        // From when on answers are not passed on, and that one came.
        let (muted, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (mute, answer) = (Arc::clone(&muted), Arc::clone(&answered));
        let back = tokio::spawn(async move {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
                received.fetch_add(length as u64, Ordering::SeqCst);
                if mute.load(Ordering::SeqCst) {
                    answer.notify_one();
                    continue;
                }
                if to_client.write_all(&bytes[..length]).await.is_err() {
                    return;
                }
            }
        });
        let mut bytes = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
            let commits = bytes[..length].windows(7).any(|word| word == b"COMMIT\0");
            if commits && self.cut_before.swap(false, Ordering::SeqCst) {
                back.abort();
                return;
            }
            if commits && self.cut_after.swap(false, Ordering::SeqCst) {
                // It goes through; nobody hears of it.
                muted.store(true, Ordering::SeqCst);
                to_server.write_all(&bytes[..length]).await.expect("sent");
                answered.notified().await;
                back.abort();
                return;
            }
            if to_server.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown() {
    let (database, direct) = theirs(THINGS).await;
    let wire = Wire::default();
    let store = open(&wire.lay(&database).await);
    let mapped = bare();
    assert!(snapshot(&store, &mapped).await.1.is_complete());
    for (cut, made) in [(&wire.cut_after, true), (&wire.cut_before, false)] {
        cut.store(true, Ordering::SeqCst);
        let id = key(if made { "made" } else { "not made" });
        let write = batch("1", vec![(id.clone(), create(&mapped, &[], &none()))]);
        let error = store.apply(&mapped, &write).await.expect_err("no answer");
        assert_eq!(error.kind, ErrorKind::OutcomeUnknown, "{error}");
        assert_eq!(read_one(&direct, &mapped, &id).await.is_some(), made);
    }
    let write = vec![(key("again"), create(&mapped, &[], &none()))];
    row_of(&apply(&store, &mapped, write).await[0]);
}

#[tokio::test]
async fn what_did_not_change_is_not_sent() {
    let (database, _) = theirs(&format!(
        "{THINGS} INSERT INTO things SELECT n::text, repeat('x', 100), n FROM generate_series(1, 20000) AS n"
    ))
    .await;
    let wire = Wire::default();
    let store = open(&wire.lay(&database).await);
    let mapped = bare();
    assert!(snapshot(&store, &mapped).await.1.is_complete());
    let whole = wire.received();
    let mark = mark_of(&store, &mapped).await;
    assert!(whole > 20_000 * 100, "{whole}");
    let look = async |expected: usize| {
        let before = wire.received();
        let mut changes = store.changes(&mapped, &mark).await.expect("an answer").expect("it can tell");
        let mut rows = 0;
        while let Some(more) = changes.rows().await.expect("rows") {
            rows += more.len();
        }
        assert_eq!(rows, expected);
        wire.received() - before
    };
    assert!(look(0).await < 20_000, "nothing");
    database.sql("UPDATE things SET count = -1 WHERE count <= 100").await;
    assert!(look(100).await < 20_000 + 100 * 200, "a hundred rows");
}
