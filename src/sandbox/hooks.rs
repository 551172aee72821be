//! Webhooks: one POST a record and webhook, signed, tried once, in no order.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;
use tokio::sync::{OnceCell, Semaphore, watch};

use super::answer::Out;
use super::value;
use super::world::{Happening, Webhook, World};

/// Deliveries at once; the rest wait their turn.
const MOST_AT_ONCE: usize = 32;

/// Sends what happened to those who asked.
#[derive(Debug, Clone)]
pub(super) struct Hooks {
    client: Arc<OnceCell<reqwest::Client>>,
    timeout: Duration,
    permits: Arc<Semaphore>,
    /// How many deliveries have neither arrived nor failed.
    pending: watch::Sender<usize>,
}

/// A POST to be made.
#[derive(Debug)]
pub(super) struct Delivery {
    url: String,
    secret: String,
    timestamp_ms: i64,
    body: Vec<u8>,
}

impl Hooks {
    /// Hooks whose receivers have so long to answer.
    pub(super) fn new(timeout: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(MOST_AT_ONCE));
        Self { client: Arc::default(), timeout, permits, pending: watch::Sender::new(0) }
    }

    /// The client, made when there is something to send: most sandboxes never have a webhook.
    async fn client(&self) -> Result<&reqwest::Client, reqwest::Error> {
        let client = || async {
            let builder = reqwest::Client::builder().timeout(self.timeout).no_proxy();
            builder.redirect(reqwest::redirect::Policy::none()).build()
        };
        self.client.get_or_try_init(client).await
    }

    /// Sends deliveries in the background.
    pub(super) fn send(&self, deliveries: Vec<Delivery>) {
        self.pending.send_modify(|pending| *pending += deliveries.len());
        // Last first: whoever counts on an order should notice.
        for delivery in deliveries.into_iter().rev() {
            let hooks = self.clone();
            tokio::spawn(async move {
                // Nobody closes the semaphore; a permit is there sooner or later.
                let _permit = hooks.permits.acquire().await;
                if let Err(error) = hooks.post(delivery).await {
                    // Nobody tries again.
                    tracing::debug!("a webhook was not delivered: {}", error.without_url());
                }
                hooks.pending.send_modify(|pending| *pending -= 1);
            });
        }
    }

    async fn post(&self, delivery: Delivery) -> Result<(), reqwest::Error> {
        let Delivery { url, secret, timestamp_ms, body } = delivery;
        let request = self.client().await?.post(&url);
        let request = request
            .header("Content-Type", "application/json")
            .header("X-Twenty-Webhook-Timestamp", timestamp_ms.to_string())
            .header("X-Twenty-Webhook-Signature", signature(&secret, timestamp_ms, &body))
            .header("X-Twenty-Webhook-Nonce", value::hex(&value::random()))
            .body(body);
        request.send().await.map(drop)
    }

    /// Tells when nothing is on its way.
    pub(super) fn pending(&self) -> watch::Receiver<usize> {
        self.pending.subscribe()
    }
}

/// Hexadecimal HMAC-SHA256 of `timestamp:body`.
fn signature(secret: &str, timestamp_ms: i64, body: &[u8]) -> String {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(format!("{timestamp_ms}:").as_bytes());
    mac.update(body);
    value::hex(&mac.finalize().into_bytes())
}

/// The deliveries for what happened in a workspace since the last time.
pub(super) fn deliveries(world: &mut World) -> Vec<Delivery> {
    let happenings = std::mem::take(&mut world.happenings);
    let now = world.clock.now_ms();
    let mut deliveries = Vec::new();
    for happening in happenings {
        for webhook in world.webhooks.iter().filter(|webhook| asked(webhook, &happening)) {
            deliveries.push(Delivery {
                url: webhook.target_url.clone(),
                secret: webhook.secret.clone(),
                timestamp_ms: now,
                body: body(world, webhook, &happening, now).bytes(),
            });
        }
    }
    deliveries
}

/// Whether a webhook's operations name what happened.
fn asked(webhook: &Webhook, happening: &Happening) -> bool {
    webhook.operations.iter().filter_map(|operation| operation.split_once('.')).any(|(object, what)| {
        (object == "*" || object == happening.object.singular) && (what == "*" || what == happening.what)
    })
}

fn body(world: &World, webhook: &Webhook, happening: &Happening, now_ms: i64) -> Out {
    let object = &happening.object;
    let mut entries = vec![
        ("targetUrl", Out::text(&webhook.target_url)),
        ("eventName", Out::text(format!("{}.{}", object.singular, happening.what))),
        ("objectMetadata", Out::Plain(json!({"id": object.id, "nameSingular": object.singular}))),
        ("workspaceId", Out::text(&world.workspace)),
        ("webhookId", Out::text(&webhook.id)),
        ("eventDate", Out::text(value::time_text(now_ms))),
        ("record", happening.record.clone()),
    ];
    if let Some(fields) = &happening.updated_fields {
        entries.push(("updatedFields", Out::Plain(json!(fields))));
    }
    Out::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_the_time_and_the_body() {
        // By `printf '1700000000000:{"a":1}' | openssl dgst -sha256 -hmac secret`
        let expected = "2771fa9d831c2c34306a777725c9743ffdedaf3030596bc7b488c970ff31f61c";
        assert_eq!(signature("secret", 1_700_000_000_000, b"{\"a\":1}"), expected);
        assert_ne!(signature("secret", 1_700_000_000_001, b"{\"a\":1}"), expected);
    }
}
