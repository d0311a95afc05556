//! What `agent serve` beside each ai-service says. Asked with a short time-out, never waited for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;

use super::build::AGENT_PORT;
use super::facts::{Facts, Idle, Memory};
use crate::cluster::children::Children;
use crate::component::{Component, ComponentExt};

/// Longest time for one answer.
const TIMEOUT: Duration = Duration::from_secs(4);
/// An answer is as good as a new one for this long.
const FRESH: Duration = Duration::from_secs(10);
/// An agent that is silent so often in a row says nothing any more.
const SILENCE: u32 = 3;

/// Facts by pod name; a pod whose agent doesn't answer is missing.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    facts: BTreeMap<String, Facts>,
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
    pub redis: Redis,
    /// The application in the same pod.
    pub application: Part,
    /// Odoo.
    pub odoo: Odoo,
    /// Queues of the application.
    pub queues: Vec<Queue>,
    /// Webhooks that the application took.
    pub webhooks: Webhooks,
    /// Databases that a Restore made.
    pub restores: Vec<Restored>,
}

/// A database that a Restore made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Restored {
    /// UID of the Restore.
    pub owner: String,
    /// Its size, where the agent may know.
    pub bytes: Option<i64>,
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

/// Redis as the agent sees it. What it could not read is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Redis {
    /// Whether it answers.
    #[serde(flatten)]
    pub part: Part,
    /// Memory in use.
    pub used_memory_bytes: Option<u64>,
    /// Memory limit; 0: none.
    pub max_memory_bytes: Option<u64>,
    /// `maxmemory-policy`; agents of 0.1.0 don't tell.
    pub eviction_policy: Option<String>,
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

/// One queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Waiting tasks.
    pub length: u64,
    /// How long the oldest one has been the same, as this agent saw it.
    pub unconsumed_seconds: u64,
}

/// Webhooks that the application took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Webhooks {
    /// Those that nobody has worked on.
    pub unprocessed: Option<i64>,
}

impl Agents {
    /// The given facts, by pod name.
    #[must_use]
    pub fn new(facts: BTreeMap<String, Facts>) -> Self {
        Self { facts }
    }

    /// What the agents of all running ai-service pods said lately; who has said nothing is asked.
    pub async fn ask(http: &reqwest::Client, directory: &Directory, children: &Children) -> Self {
        let pods = children.pods_of(Component::AiService.name()).filter(|pod| runs(pod));
        let answers = join_all(pods.map(|pod| async move {
            let (name, uid) = (pod.metadata.name.clone()?, pod.metadata.uid.as_deref()?);
            if let Some(facts) = directory.fresh(uid, Instant::now()) {
                return Some((name, facts?));
            }
            directory.note(uid, ask_one(http, pod).await, Instant::now());
            Some((name, directory.facts(uid)?))
        }));
        Self { facts: answers.await.into_iter().flatten().collect() }
    }

    /// No agent answers.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.facts.is_empty()
    }

    /// Why `component` may not be ready yet, if an agent knows.
    #[must_use]
    pub fn explain(&self, component: Component) -> Option<String> {
        if component != Component::AiService {
            return None;
        }
        let missing = |facts: &Facts| {
            [("database", &facts.database), ("Redis", &facts.redis), ("application", &facts.application)]
                .into_iter()
                .filter(|(_, part)| !part.reachable)
                .map(|(name, part)| match part.message.as_str() {
                    "" => format!("{name} doesn't answer"),
                    message => format!("{name}: {message}"),
                })
                .collect::<Vec<_>>()
        };
        self.facts.values().map(missing).find(|parts| !parts.is_empty()).map(|parts| parts.join(", "))
    }

    /// Odoo as the first agent that knows sees it.
    #[must_use]
    pub fn odoo(&self) -> Option<&Odoo> {
        self.facts.values().map(|facts| &facts.odoo).find(|odoo| !matches!(odoo.state.as_str(), "" | "Unknown"))
    }

    /// What no agent reaches, though agents answer: database or Redis.
    #[must_use]
    pub fn unreachable(&self, component: Component) -> Option<&Part> {
        let parts = || {
            self.facts.values().map(|facts| match component {
                Component::Database => (&facts.database, facts.database_lost),
                _ => (&facts.redis, facts.redis_lost),
            })
        };
        parts().next().filter(|_| parts().all(|(_, lost)| lost)).map(|(part, _)| part)
    }

    /// What the running Redis does when it is full.
    #[must_use]
    pub fn eviction_policy(&self) -> Option<&str> {
        self.facts.values().find_map(|facts| facts.eviction_policy.as_deref())
    }

    /// Redis is nearly full.
    #[must_use]
    pub fn redis_full(&self) -> bool {
        self.facts.values().any(|facts| facts.redis_full)
    }

    /// Queues that nobody consumes, as the agent that watched for longest sees it; `None`: unknown.
    #[must_use]
    pub fn idle(&self) -> Option<&[Idle]> {
        let known = || self.facts.values().filter_map(|facts| facts.idle.as_deref());
        known().find(|idle| !idle.is_empty()).or_else(|| known().next())
    }

    /// Webhooks that were left behind; `None`: unknown.
    #[must_use]
    pub fn left_behind(&self) -> Option<u64> {
        self.facts.values().filter_map(|facts| facts.left_behind).max()
    }
}

/// What is known of each pod, by UID. It can be lost at any time.
#[derive(Debug, Default)]
pub struct Directory {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    facts: Option<Facts>,
    /// No fact of the stack's: nobody is woken by it.
    restores: Vec<Restored>,
    memory: Memory,
    asked: Instant,
    silent: u32,
}

impl Directory {
    /// Notes an answer, or that there was none. True when the facts became others.
    pub fn note(&self, uid: &str, answer: Option<Answer>, now: Instant) -> bool {
        let mut all = self.lock();
        let known = all.entry(uid.to_owned()).or_insert_with(|| Known {
            facts: None,
            restores: vec![],
            memory: Memory::new(now),
            asked: now,
            silent: 0,
        });
        known.asked = now;
        let facts = if let Some(mut answer) = answer {
            known.silent = 0;
            known.restores = std::mem::take(&mut answer.restores);
            Some(known.memory.facts(answer, known.facts.as_ref(), now))
        } else {
            known.silent = known.silent.saturating_add(1);
            known.facts.clone().filter(|_| known.silent < SILENCE)
        };
        let changed = facts != known.facts;
        known.facts = facts;
        changed
    }

    /// Facts that needn't be asked for again; `Some(None)`: it was asked and is silent.
    #[must_use]
    pub fn fresh(&self, uid: &str, now: Instant) -> Option<Option<Facts>> {
        let all = self.lock();
        let known = all.get(uid).filter(|known| now.duration_since(known.asked) < FRESH)?;
        Some(known.facts.clone())
    }

    /// Bytes of the database that the Restore with this UID made, as an agent saw it lately.
    #[must_use]
    pub fn restored(&self, owner: &str) -> Option<i64> {
        let all = self.lock();
        let mut told = all.values().flat_map(|known| &known.restores).filter(|restored| restored.owner == owner);
        told.find_map(|restored| restored.bytes)
    }

    /// Forgets all pods but these.
    pub fn keep(&self, uids: &HashSet<&str>) {
        self.lock().retain(|uid, _| uids.contains(uid.as_str()));
    }

    fn facts(&self, uid: &str) -> Option<Facts> {
        self.lock().get(uid)?.facts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pod can answer.
pub(super) fn runs(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod.status.as_ref().is_some_and(|status| {
            let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
            status.pod_ip.is_some() && !ended
        })
}

/// Asks the agent of one pod.
pub(super) async fn ask_one(http: &reqwest::Client, pod: &Pod) -> Option<Answer> {
    let address = pod.status.as_ref()?.pod_ip.as_deref()?;
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let url = format!("http://{host}:{AGENT_PORT}/status");
    let response = http.get(url).timeout(TIMEOUT).send().await.ok()?;
    let answer: Answer = response.json().await.ok()?;
    (answer.version > 0).then_some(answer)
}
