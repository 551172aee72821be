//! Who is asking: a service account's key, whatever account the environment has, or nobody in front of an emulator.

use std::sync::Arc;

use async_trait::async_trait;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::yup_oauth2;
use serde_json::Value as Json;
use tokio::sync::OnceCell;
use yup_oauth2::authenticator::ApplicationDefaultCredentialsTypes;

use super::error::Failure;

const SCOPES: [&str; 1] = ["https://www.googleapis.com/auth/bigquery"];

/// What is at hand to prove who asks.
#[derive(Clone)]
pub(super) enum Credentials {
    /// A fixed token, for an emulator that asks nobody.
    Fixed(&'static str),
    /// The JSON of a key or of credentials, as Google hands them out.
    Given(String),
    /// What the environment has: `GOOGLE_APPLICATION_CREDENTIALS`, the login of `gcloud auth application-default login`, or the
    /// account of the machine or workload that this runs on.
    Environment,
}

/// Gives tokens, and gets new ones before they expire.
pub(super) struct Tokens {
    credentials: Credentials,
    made: OnceCell<Arc<dyn Authenticator>>,
}

type Flow = yup_oauth2::authenticator::DefaultAuthenticator;

/// A flow of the OAuth library.
#[derive(Clone)]
struct ByFlow(Flow);

#[async_trait]
impl Authenticator for ByFlow {
    async fn access_token(&self) -> Result<String, BQError> {
        let token = self.0.token(&SCOPES).await?;
        token.token().map(str::to_owned).ok_or(BQError::NoToken)
    }
}

/// A token that never changes.
#[derive(Clone)]
struct Fixed(&'static str);

#[async_trait]
impl Authenticator for Fixed {
    async fn access_token(&self) -> Result<String, BQError> {
        Ok(self.0.to_owned())
    }
}

fn refused(what: &'static str) -> Failure {
    Failure { credentials: Some(what), ..Failure::default() }
}

impl Tokens {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, made: OnceCell::new() }
    }

    /// A token that holds for the next minutes.
    pub(super) async fn token(&self) -> Result<String, Failure> {
        let authenticator = self.made.get_or_try_init(|| authenticator(&self.credentials)).await?;
        authenticator.access_token().await.map_err(|error| match error {
            // The answer never came: the next try may get one.
            BQError::YupAuthError(yup_oauth2::Error::HttpClientError(_)) => Failure::default(),
            _ => refused("no access token could be had for the account"),
        })
    }
}

async fn authenticator(credentials: &Credentials) -> Result<Arc<dyn Authenticator>, Failure> {
    let flow = match credentials {
        Credentials::Fixed(token) => return Ok(Arc::new(Fixed(token))),
        Credentials::Given(text) => given(text).await?,
        Credentials::Environment => match environment_file().await? {
            Some(text) => given(&text).await?,
            None => machine().await?,
        },
    };
    Ok(Arc::new(ByFlow(flow)))
}

/// The credentials that a file of the environment holds, if there is one.
async fn environment_file() -> Result<Option<String>, Failure> {
    if let Some(path) = std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").filter(|path| !path.is_empty()) {
        let text = tokio::fs::read_to_string(path).await;
        return text
            .map(Some)
            .map_err(|_| refused("the file that GOOGLE_APPLICATION_CREDENTIALS names cannot be read"));
    }
    let Some(home) = std::env::var_os("HOME") else { return Ok(None) };
    let path = std::path::Path::new(&home).join(".config/gcloud/application_default_credentials.json");
    Ok(tokio::fs::read_to_string(path).await.ok())
}

/// The account of the machine, or of the workload where the cluster gives it one.
async fn machine() -> Result<Flow, Failure> {
    let options = yup_oauth2::ApplicationDefaultCredentialsFlowOpts::default();
    let built = match yup_oauth2::ApplicationDefaultCredentialsAuthenticator::builder(options).await {
        ApplicationDefaultCredentialsTypes::InstanceMetadata(builder) => builder.build().await,
        ApplicationDefaultCredentialsTypes::ServiceAccount(builder) => builder.build().await,
    };
    built.map_err(|_| refused("there are no application-default credentials here"))
}

/// Credentials as Google hands them out, by their `type`.
async fn given(text: &str) -> Result<Flow, Failure> {
    let senseless = || refused("the credentials are no key or credentials file of Google's");
    let json: Json = serde_json::from_str(text).map_err(|_| senseless())?;
    let kind = json.get("type").and_then(Json::as_str).unwrap_or("").to_owned();
    let built = match kind.as_str() {
        "service_account" => {
            let key = serde_json::from_value(json).map_err(|_| senseless())?;
            yup_oauth2::ServiceAccountAuthenticator::builder(key).build().await
        }
        "authorized_user" => {
            let secret = serde_json::from_value(json).map_err(|_| senseless())?;
            yup_oauth2::AuthorizedUserAuthenticator::builder(secret).build().await
        }
        "external_account" => {
            let secret = serde_json::from_value(json).map_err(|_| senseless())?;
            yup_oauth2::ExternalAccountAuthenticator::builder(secret).build().await
        }
        _ => return Err(senseless()),
    };
    built.map_err(|_| refused("the credentials cannot be used"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_are_no_credentials_is_told_without_showing_them() {
        for text in ["s3cret", r#"{"type":"s3cret"}"#, r#"{"type":"service_account","private_key":"s3cret"}"#]
        {
            let tokens = Tokens::new(Credentials::Given(text.to_owned()));
            let failure = tokens.token().await.expect_err("no credentials");
            assert!(failure.credentials.is_some() && !format!("{failure:?}").contains("s3cret"));
            assert!(!failure.may_pass());
        }
        assert_eq!(Tokens::new(Credentials::Fixed("t")).token().await.expect("a token"), "t");
    }
}
