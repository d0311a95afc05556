//! A request to the API server, read from its path.

use std::fmt::{Display, Formatter};

use axum::http::{Method, Uri};
use serde_json::Value;

use crate::compare::nameless;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Apply,
    Merge,
    UpdateStatus,
    Delete,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    pub(crate) plural: String,
    /// Empty where there is none.
    pub(crate) name: String,
    pub(crate) manager: String,
    pub(crate) selector: Option<String>,
    /// Where a watch begins.
    pub(crate) version: u64,
    pub(crate) body: Value,
}

impl Call {
    /// `None` for what this API server doesn't serve.
    pub(crate) fn read(method: &Method, uri: &Uri, content_type: &str, body: Value) -> Option<Self> {
        let mut parts = uri.path().trim_start_matches('/').split('/');
        match parts.next()? {
            "api" => {}
            "apis" => drop(parts.next()?),
            _ => return None,
        }
        let _version = parts.next()?;
        let ("namespaces", Some(_namespace)) = (parts.next()?, parts.next()) else { return None };
        let plural = parts.next()?.to_owned();
        let name = parts.next().unwrap_or_default().to_owned();
        let sub = parts.next().unwrap_or_default();
        let query = uri.query().unwrap_or_default();
        let parameter = |wanted: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == wanted).map(|(_, value)| value.replace("%2F", "/").replace("%3D", "="))
        };
        let verb = match (method, sub, content_type) {
            (&Method::GET, "", _) if parameter("watch").is_some() => Verb::Watch,
            (&Method::GET, "", _) if name.is_empty() => Verb::List,
            (&Method::GET, "", _) => Verb::Get,
            (&Method::POST, "", _) => Verb::Create,
            (&Method::PATCH, "", "application/apply-patch+yaml") => Verb::Apply,
            (&Method::PATCH, "", "application/merge-patch+json") => Verb::Merge,
            (&Method::PUT, "status", _) => Verb::UpdateStatus,
            (&Method::DELETE, "", _) if !name.is_empty() => Verb::Delete,
            _ => return None,
        };
        let name = match body["metadata"]["name"].as_str() {
            Some(in_body) if name.is_empty() => in_body.to_owned(),
            _ => name,
        };
        Some(Self {
            verb,
            plural,
            name,
            manager: parameter("fieldManager").unwrap_or_else(|| "unknown".to_owned()),
            selector: parameter("labelSelector"),
            version: parameter("resourceVersion").and_then(|it| it.parse().ok()).unwrap_or_default(),
            body,
        })
    }

    pub(crate) fn mutates(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }

    /// Writes a Deployment or a `StatefulSet`.
    pub(crate) fn is_workload(&self) -> bool {
        self.mutates() && ["deployments", "statefulsets"].contains(&self.plural.as_str())
    }
}

/// As two runs can be compared: names of revisions and of Events are left out.
impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let verb = match self.verb {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Apply | Verb::Merge => "patch",
            Verb::UpdateStatus => "update",
            Verb::Delete => "delete",
        };
        if self.plural == "events" {
            // One that was told before is counted up by who remembers it, and told anew by who doesn't.
            return write!(f, "event");
        }
        let sub = if self.verb == Verb::UpdateStatus { "/status" } else { "" };
        write!(f, "{verb} {}{sub} {}", self.plural, nameless(&self.name))
    }
}
