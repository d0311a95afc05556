//! What `agent serve` beside each ai-service says. Asked with a short time-out, never waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;

use super::build::AGENT_PORT;
use crate::cluster::cache::Children;
use crate::component::{Component, ComponentExt};

/// Longest time for one answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Answers by pod name; a pod that didn't answer is missing.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    answers: BTreeMap<String, Answer>,
}

/// `GET /status` of one agent; unknown fields of newer agents are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Answer {
    /// Version of the format.
    pub version: u32,
    /// The application's database.
    pub database: Part,
    /// Redis.
    pub redis: Part,
    /// The application in the same pod.
    pub application: Part,
    /// Odoo.
    pub odoo: Odoo,
}

/// One thing that the agent reaches, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Part {
    /// It answered.
    pub reachable: bool,
    /// What went wrong.
    pub message: String,
}

/// Odoo as the agent sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Odoo {
    /// `Reachable`, `AccessDenied`, `Unreachable` or `Unknown`.
    pub state: String,
    /// What went wrong.
    pub message: String,
}

impl Agents {
    /// Asks all running ai-service pods at once.
    pub async fn ask(http: &reqwest::Client, children: &Children) -> Self {
        let pods = children.pods_of(Component::AiService.name()).filter(|pod| runs(pod));
        let answers = join_all(pods.map(|pod| ask_one(http, pod))).await;
        Self { answers: answers.into_iter().flatten().collect() }
    }

    /// Why `component` may not be ready yet, if an agent knows.
    #[must_use]
    pub fn explain(&self, component: Component) -> Option<String> {
        if component != Component::AiService {
            return None;
        }
        let missing = |answer: &Answer| {
            [("database", &answer.database), ("Redis", &answer.redis), ("application", &answer.application)]
                .into_iter()
                .filter(|(_, part)| !part.reachable)
                .map(|(name, part)| match part.message.as_str() {
                    "" => format!("{name} doesn't answer"),
                    message => format!("{name}: {message}"),
                })
                .collect::<Vec<_>>()
        };
        self.answers.values().map(missing).find(|parts| !parts.is_empty()).map(|parts| parts.join(", "))
    }

    /// What an agent says of a server that it doesn't reach.
    #[must_use]
    pub fn unreachable(&self, component: Component) -> Option<&str> {
        let parts = self.answers.values().map(|answer| match component {
            Component::Database => &answer.database,
            _ => &answer.redis,
        });
        parts.into_iter().find(|part| !part.reachable).map(|part| part.message.as_str())
    }

    /// Odoo as the first agent that knows sees it.
    #[must_use]
    pub fn odoo(&self) -> Option<&Odoo> {
        self.answers.values().map(|answer| &answer.odoo).find(|odoo| !matches!(odoo.state.as_str(), "" | "Unknown"))
    }
}

fn runs(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod
            .status
            .as_ref()
            .is_some_and(|status| status.phase.as_deref() == Some("Running") || status.pod_ip.is_some())
}

async fn ask_one(http: &reqwest::Client, pod: &Pod) -> Option<(String, Answer)> {
    let address = pod.status.as_ref()?.pod_ip.as_deref()?;
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let url = format!("http://{host}:{AGENT_PORT}/status");
    let response = http.get(url).timeout(TIMEOUT).send().await.ok()?;
    let answer = response.json().await.ok()?;
    Some((pod.metadata.name.clone()?, answer))
}
