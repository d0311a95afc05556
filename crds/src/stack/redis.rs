//! The broker and cache.

use crate::common::{Resources, SecretKeyRef, Security, display_as_name, is_unset};
use crate::schema;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who runs Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum RedisType {
    /// The operator, in this namespace.
    #[default]
    Managed,
    /// Somebody else.
    External,
}

/// What Redis does when its memory is used up. Only `noeviction` is safe for a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum EvictionPolicy {
    /// Writes fail: nothing is lost silently.
    #[serde(rename = "noeviction")]
    NoEviction,
    /// The least recently used keys go, queues among them.
    #[serde(rename = "allkeys-lru")]
    AllKeysLru,
    /// The least recently used keys that have an expiry go.
    #[serde(rename = "volatile-lru")]
    VolatileLru,
}

impl EvictionPolicy {
    /// The name as Redis and the API write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoEviction => "noeviction",
            Self::AllKeysLru => "allkeys-lru",
            Self::VolatileLru => "volatile-lru",
        }
    }
}

impl std::fmt::Display for EvictionPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

display_as_name!(RedisType);

/// The broker and cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "(has(self.type) && self.type == 'External') == has(self.external)",
        "redis.external must be given exactly when redis.type is External"
    ),
    validation = (
        "!(has(self.managed) && has(self.type) && self.type == 'External')",
        "redis.managed must be given only when redis.type is Managed"
    )
)]
pub struct Redis {
    /// Who runs Redis: Managed (the operator, in this namespace) or External. Default: Managed.
    #[serde(rename = "type", default, skip_serializing_if = "is_unset")]
    pub kind: RedisType,
    /// The Redis that the operator runs; only with type Managed.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub managed: ManagedRedis,
    /// The Redis that somebody else runs; needed with type External.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalRedis>,
}

/// A Redis that the operator runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedRedis {
    /// Memory for data in MiB, 16 to 65536. Default: 256.
    #[serde(rename = "maxMemoryMiB", default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 65536))]
    pub max_memory_mib: Option<i32>,
    /// What happens when the memory is used up. Default: noeviction; with another one a full Redis drops queued tasks
    /// silently, which is said in a condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction_policy: Option<EvictionPolicy>,
    /// Image of Redis, with the official image's contract. Default: `redis:7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image")]
    pub image: Option<String>,
    /// CPU and memory. Default: 50m, memory request and limit `maxMemoryMiB` and half as much again.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub resources: Resources,
    /// Numeric user and group, 999 by default.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub security: Security,
}

/// A Redis that somebody else runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRedis {
    /// Secret key with the URL, for example `redis://:password@redis.example.com:6379/0`, or `rediss://` for TLS.
    pub url_secret_ref: SecretKeyRef,
    /// Secret key with the authority's certificate (PEM), for a `rediss://` server that no public authority signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}
