//! A contact's context, put before a question to a language model: any service with `OpenAI`'s chat interface.
//!
//!     OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=… OPENAI_MODEL=… \
//!         cargo run --example chat -- manifests/contacts 'contacts["7"]' 'What shall I ask her?'
//!
//! The prompt is what `trueup prompt` writes; here it is made with the library.

#![allow(clippy::print_stdout, clippy::print_stderr)] // It talks to whoever runs it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use trueup::controller::Engine;
use trueup::model::{EntityName, RecordId, RecordKey};
use trueup::prompt::{Budget, PRIVATE_FIELD, Prompt, TEMPLATE, build};

/// A service with `OpenAI`'s chat interface.
pub(crate) struct Service {
    /// Its address, up to `/v1`.
    pub(crate) url: String,
    /// What it knows its customers by.
    pub(crate) key: String,
    /// Which of its models is asked.
    pub(crate) model: String,
}

impl Service {
    /// Asks a model, and gives its answer.
    ///
    /// # Errors
    /// When the service cannot be reached, refuses, or answers something else.
    pub(crate) async fn ask(&self, prompt: &str, question: &str) -> Result<String, Box<dyn Error>> {
        let body = serde_json::json!({
            "model": self.model,
            "messages": [{"role": "system", "content": prompt}, {"role": "user", "content": question}],
        });
        let client = reqwest::Client::builder().timeout(std::time::Duration::from_mins(1)).build()?;
        let url = format!("{}/chat/completions", self.url.trim_end_matches('/'));
        let answer = client.post(url).bearer_auth(&self.key).json(&body).send().await?.error_for_status()?;
        let answer: serde_json::Value = answer.json().await?;
        let text = answer["choices"][0]["message"]["content"].as_str();
        text.map(str::to_owned).ok_or_else(|| "the service answered without a message".into())
    }
}

/// The prompt for a record, of at most so many tokens.
///
/// # Errors
/// When the manifests have mistakes, the canonical store cannot be read or has no such record, or the budget is too small.
pub(crate) async fn prompt(
    manifests: &Path,
    record: RecordId,
    base: &str,
    tokens: usize,
) -> Result<Prompt, Box<dyn Error>> {
    let (spec, _) = trueup::cli::load::load(manifests)?;
    let engine = Engine::open_to_look(Arc::new(spec)).await;
    let found = engine.related(&record, PRIVATE_FIELD).await?;
    let found = found.ok_or_else(|| format!("there is no {record}"))?;
    Ok(build(TEMPLATE, base, &found, Budget::Tokens(tokens))?)
}

/// `contacts["7"]` as a record's address.
fn address(text: &str) -> Option<RecordId> {
    let (entity, key) = text.split_once('[')?;
    let parts: Vec<String> = serde_json::from_str(&format!("[{key}")).ok()?;
    Some(RecordId { entity: EntityName::new(entity).ok()?, key: RecordKey::new(parts) })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [manifests, record, question] = arguments.as_slice() else {
        return Err("arguments: MANIFESTS RECORD QUESTION".into());
    };
    let record = address(record).ok_or("a record is written as contacts[\"7\"]")?;
    let service = Service {
        url: std::env::var("OPENAI_BASE_URL")?,
        key: std::env::var("OPENAI_API_KEY")?,
        model: std::env::var("OPENAI_MODEL")?,
    };
    let base = "Help the user to prepare for a conversation with the contact below.";
    let prompt = prompt(Path::new(manifests), record, base, 2000).await?;
    if !prompt.left_out.is_empty() {
        eprintln!("left out: {}", prompt.left_out.join(", "));
    }
    println!("{}", service.ask(&prompt.text, question).await?);
    Ok(())
}
