//! The application's automation rules, through its REST API. What it answers is in docs/traps.md.

pub mod audit;
pub mod board;
pub mod error;
pub mod rule;

use std::time::Duration;

use kube::ResourceExt;
use odoo_ai_crds::stack::OdooAiStack;
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::cluster::apply::words;
use crate::component::{Component, ComponentExt};
use crate::context::Context;
use crate::metrics::{Called, Metrics};
use crate::stack::build::API_PORT;
use crate::stack::model::AppSecrets;
use crate::stack::references::{self, Reference};
use crate::stack::{resolve, validate};

pub use error::Error;
pub use rule::Rule;

/// Key of the Secret, and variable of the application.
const KEY: &str = "AI_SECRET_KEY";

/// Longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The rules API of one stack.
pub struct Rules<'a> {
    /// The shared client, which follows no redirection: the key would go with it.
    http: &'a reqwest::Client,
    /// `http://host:port`.
    base: String,
    /// `AI_SECRET_KEY`.
    key: String,
    /// Where requests are counted.
    metrics: Option<&'a Metrics>,
}

impl<'a> Rules<'a> {
    /// Those of a stack, asked with its key.
    #[must_use]
    pub fn new(http: &'a reqwest::Client, namespace: &str, stack: &str, key: &str) -> Self {
        let base = format!("http://{stack}-{}.{namespace}.svc:{API_PORT}", Component::AiService.name());
        Self { http, base, key: key.to_owned(), metrics: None }
    }

    /// The same, and each request is counted.
    #[must_use]
    pub fn counted(self, metrics: &'a Metrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// The same, with the key from the stack's Secret. While another key is rolled out the application has the old one.
    ///
    /// # Errors
    /// [`Error::NoKey`]
    pub async fn of(ctx: &'a Context, stack: &OdooAiStack) -> Result<Self, Error> {
        let (namespace, name) = (stack.namespace().unwrap_or_default(), stack.name_any());
        let (AppSecrets::Referenced(secret) | AppSecrets::Generated(secret)) =
            validate::app_secrets(&stack.spec, &name);
        let reference = Reference::Secret(secret.clone());
        let data = references::read(&ctx.client, &namespace, vec![reference]).await;
        let data = data.map_err(|error| Error::NoKey(format!("Secret {secret} can't be read: {}", words(&error))))?;
        let key = resolve::secret_key(&data, &secret, KEY).map_err(|problem| Error::NoKey(problem.message))?;
        Ok(Self::new(&ctx.http, &namespace, &name, &key).counted(&ctx.metrics))
    }

    /// All of them, in no order.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn list(&self) -> Result<Vec<Rule>, Error> {
        let list = self.ask(Method::GET, "/api/rules", None).await;
        // The application always has one.
        list.map_err(|error| match error {
            Error::Refused { request, status: status @ (404 | 405), body } => {
                Error::Unreadable { request, why: format!("status {status}"), body }
            }
            other => other,
        })
    }

    /// Adds one. It is enabled where the body doesn't say otherwise.
    ///
    /// # Errors
    /// [`Error`]; where no answer came it may have been added all the same.
    pub async fn create(&self, body: &Map<String, Value>) -> Result<Rule, Error> {
        self.ask(Method::POST, "/api/rules", Some(body)).await
    }

    /// Replaces one, all of it.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn replace(&self, id: i64, body: &Map<String, Value>) -> Result<(), Error> {
        self.ask::<Value>(Method::PUT, &format!("/api/rules/{id}"), Some(body)).await.map(drop)
    }

    /// Deletes one; one that isn't there is no error.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn delete(&self, id: i64) -> Result<(), Error> {
        match self.ask::<Value>(Method::DELETE, &format!("/api/rules/{id}"), None).await {
            Err(Error::Refused { status: 404, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Disables every enabled rule but those that `spared` says, and reads the result back. Returns how many there were.
    ///
    /// # Errors
    /// The first failed call; what was disabled by then stays so, and another try finishes it.
    pub async fn disable_all(&self, spared: impl Fn(&Rule) -> bool) -> Result<usize, Error> {
        let wanted = |rule: &Rule| rule.enabled && !spared(rule);
        let enabled: Vec<Rule> = self.list().await?.into_iter().filter(wanted).collect();
        for rule in &enabled {
            self.replace(rule.id, &rule.disabled()).await?;
        }
        match self.list().await?.into_iter().find(wanted) {
            Some(rule) => Err(Error::NotDisabled(rule.id)),
            None => Ok(enabled.len()),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Map<String, Value>>,
    ) -> Result<T, Error> {
        let name = word(&method);
        let answer = self.answer(method, path, body).await;
        if let Some(metrics) = self.metrics {
            let result = if answer.is_ok() { "success" } else { "error" };
            metrics.rules_requests.get_or_create(&Called { method: name, result }).inc();
        }
        answer
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Map<String, Value>>,
    ) -> Result<T, Error> {
        let request = self.http.request(method.clone(), format!("{}{path}", self.base));
        let request = body.into_iter().fold(request, RequestBuilder::json);
        let answer = request.header("X-API-Key", &self.key).timeout(TIMEOUT).send().await.map_err(Error::no_answer)?;
        let status = answer.status();
        let text = answer.text().await.map_err(Error::no_answer)?;
        if !status.is_success() {
            return Err(Error::refused(method.as_str(), path, status.as_u16(), &self.hidden(&text)));
        }
        let unreadable = |why: serde_json::Error| {
            Error::unreadable(method.as_str(), path, &self.hidden(&text), self.hidden(&why.to_string()))
        };
        serde_json::from_str(&text).map_err(unreadable)
    }

    /// What is shown of an answer: whatever listens there may tell what it was asked with.
    fn hidden(&self, text: &str) -> String {
        if self.key.is_empty() { text.to_owned() } else { text.replace(&self.key, "…") }
    }
}

/// The methods that the rules API has, for a label.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        _ => "DELETE",
    }
}
