//! The JSON of `/startup` and `/status`; docs/internals.md is the contract.

use serde::Serialize;

use crate::odoo;
use crate::restore::note::State;
use crate::serve::observe::{Basics, Observation, Reached};

/// Of both formats.
const VERSION: u32 = 1;

/// `GET /startup`.
#[derive(Debug, Serialize)]
pub(crate) struct Startup {
    version: u32,
    database: bool,
    redis: bool,
    application: bool,
    message: String,
}

impl Startup {
    /// What answers, and how long the pod is held back all the same.
    pub(crate) fn new(basics: &Basics, held_back: Option<std::time::Duration>) -> Self {
        let message = match held_back {
            Some(left) if basics.all() => {
                format!("held back for {} s more, in case it ends soon after its start", left.as_secs_f64().ceil())
            }
            _ => basics.message(),
        };
        Self {
            version: VERSION,
            database: basics.database.is_ok(),
            redis: basics.redis.is_ok(),
            application: basics.application.is_ok(),
            message,
        }
    }
}

/// `GET /status`. What could not be read is null.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    version: u32,
    agent_version: &'static str,
    database: DatabaseStatus,
    redis: RedisStatus,
    application: ApplicationStatus,
    odoo: odoo::Answer,
    queues: Vec<QueueStatus>,
    webhooks: WebhookStatus,
    restores: Vec<RestoreStatus>,
}

#[derive(Debug, Serialize)]
struct DatabaseStatus {
    reachable: bool,
    schema: Vec<String>,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RedisStatus {
    reachable: bool,
    used_memory_bytes: Option<u64>,
    max_memory_bytes: Option<u64>,
    eviction_policy: Option<String>,
    message: String,
}

#[derive(Debug, Serialize)]
struct ApplicationStatus {
    reachable: bool,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct QueueStatus {
    name: String,
    length: u64,
    /// Rounded, since a status that differs in each reading is hard to compare.
    unconsumed_seconds: u64,
}

#[derive(Debug, Serialize)]
struct WebhookStatus {
    unprocessed: Option<i64>,
}

/// A database that a restore made or moved.
#[derive(Debug, Serialize)]
struct RestoreStatus {
    owner: String,
    database: String,
    artifact: String,
    state: State,
    bytes: Option<i64>,
}

impl From<Observation> for Status {
    fn from(seen: Observation) -> Self {
        let text = |reached: &Reached, detail: String| reached.clone().err().unwrap_or(detail);
        Self {
            version: VERSION,
            agent_version: env!("CARGO_PKG_VERSION"),
            database: DatabaseStatus {
                reachable: seen.basics.database.is_ok(),
                schema: seen.database.schema,
                message: text(&seen.basics.database, seen.database.message),
            },
            redis: RedisStatus {
                reachable: seen.basics.redis.is_ok(),
                used_memory_bytes: seen.redis.used_memory,
                max_memory_bytes: seen.redis.max_memory,
                eviction_policy: seen.redis.eviction_policy,
                message: text(&seen.basics.redis, seen.redis.message),
            },
            application: ApplicationStatus {
                reachable: seen.basics.application.is_ok(),
                message: text(&seen.basics.application, String::new()),
            },
            odoo: seen.odoo,
            queues: seen
                .redis
                .queues
                .into_iter()
                .map(|queue| QueueStatus {
                    name: queue.name,
                    length: queue.length,
                    unconsumed_seconds: std::time::Duration::from_secs_f64(queue.unconsumed_seconds).as_secs(),
                })
                .collect(),
            webhooks: WebhookStatus { unprocessed: seen.database.unprocessed },
            restores: seen
                .database
                .restores
                .into_iter()
                .map(|it| RestoreStatus {
                    owner: it.note.owner,
                    database: it.database,
                    artifact: it.note.artifact,
                    state: it.note.state,
                    bytes: it.bytes,
                })
                .collect(),
        }
    }
}
