//! The application's automation rules, through its REST API.
//!
//! A PUT replaces the whole rule, and an omitted `enabled` switches it on: always send all of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable answer.
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    /// The application answered, but not as wanted.
    #[error("{method} {path} answered {status}: {body}")]
    Refused {
        /// HTTP method.
        method: &'static str,
        /// Path of the request.
        path: String,
        /// Status code.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// A rule that was switched off was read back as on.
    #[error("rule {0} is still enabled after it was disabled")]
    NotDisabled(i64),
}

/// One rule: the fields we look at, and all the others as they came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its id.
    pub id: i64,
    /// Whether it acts.
    pub enabled: bool,
    /// The rest, kept as it is.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Rule {
    /// The body of a PUT that changes nothing but `enabled`.
    fn disabled(&self) -> Value {
        let mut body = self.rest.clone();
        for ours in ["created_at", "updated_at"] {
            body.remove(ours);
        }
        body.insert("enabled".to_owned(), Value::Bool(false));
        Value::Object(body)
    }
}

/// The rules API of one stack.
#[derive(Clone, Debug)]
pub struct Rules<'a> {
    /// The shared client.
    pub http: &'a reqwest::Client,
    /// `http://host:port`.
    pub base: String,
    /// `AI_SECRET_KEY`.
    pub key: &'a str,
}

impl Rules<'_> {
    /// Disables every enabled rule and reads the result back. Returns how many there were.
    ///
    /// # Errors
    /// The first failed call; what was disabled by then stays so, and another try finishes it.
    pub async fn disable_all(&self) -> Result<usize, Error> {
        let enabled: Vec<Rule> = self.list().await?.into_iter().filter(|rule| rule.enabled).collect();
        for rule in &enabled {
            self.put(rule.id, &rule.disabled()).await?;
        }
        match self.list().await?.into_iter().find(|rule| rule.enabled) {
            Some(rule) => Err(Error::NotDisabled(rule.id)),
            None => Ok(enabled.len()),
        }
    }

    async fn list(&self) -> Result<Vec<Rule>, Error> {
        let path = "/api/rules".to_owned();
        let request = self.http.get(format!("{}{path}", self.base));
        Ok(self.send("GET", path, request).await?.json().await?)
    }

    async fn put(&self, id: i64, body: &Value) -> Result<(), Error> {
        let path = format!("/api/rules/{id}");
        let request = self.http.put(format!("{}{path}", self.base)).json(body);
        self.send("PUT", path, request).await.map(|_| ())
    }

    async fn send(
        &self,
        method: &'static str,
        path: String,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Error> {
        let response = request.header("X-API-Key", self.key).timeout(TIMEOUT).send().await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.text().await.unwrap_or_default().chars().take(200).collect();
        Err(Error::Refused { method, path, status, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_put_keeps_everything_but_enabled() {
        let rule: Rule = serde_json::from_value(json!({
            "id": 7, "name": "n", "automation_type": "crm", "action_name": "a", "enabled": true,
            "confidence_threshold": 0.85, "auto_approve": false, "auto_approve_threshold": 0.95,
            "config": {"x": [1]}, "created_at": "2026-01-01T00:00:00", "updated_at": "2026-01-01T00:00:00",
        }))
        .expect("a rule");
        assert_eq!(
            rule.disabled(),
            json!({
                "name": "n", "automation_type": "crm", "action_name": "a", "enabled": false,
                "confidence_threshold": 0.85, "auto_approve": false, "auto_approve_threshold": 0.95,
                "config": {"x": [1]},
            })
        );
    }
}
