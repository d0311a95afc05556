//! The application's four components.

use crate::common::{EnvVar, Resources, Security, Toleration, is_unset};
use crate::{rules, schema};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What every component's pod can be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// CPU and memory. Default: what the component is known to need.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub resources: Resources,
    /// Environment of this component only; it wins over `spec.env`. Names that the operator sets are refused. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new(rules::env_names_are_free()).message(rules::RESERVED_ENV_MESSAGE)
    )]
    pub env: Vec<EnvVar>,
    /// Labels that the node must have, for example `kubernetes.io/arch: amd64`. At most 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod accepts. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
    /// Numeric user and group of the pod.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub security: Security,
}

/// The API and WebSocket server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AiService {
    /// Number of pods, 1 to 10. Default: 1. A change makes no new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub replicas: Option<i32>,
    /// Resources, environment, scheduling and user.
    #[serde(flatten)]
    pub pod: PodSettings,
}

/// The Celery worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Number of pods, 0 to 20; 0 stops the automations while the queues grow. Default: 1. A change makes no new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub replicas: Option<i32>,
    /// Tasks that one pod runs at the same time, 1 to 64. Default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<i32>,
    /// Queues that are consumed. Default: webhooks, automations, scheduled, celery. Without `celery`, tasks that have
    /// no route (approved actions among them) are never run. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::queues")]
    pub queues: Vec<String>,
    /// Seconds that a running task has to finish when a pod ends, 1 to 3600. Default: 610, ten seconds above the
    /// application's hard limit of a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub termination_grace_period_seconds: Option<i32>,
    /// Resources (memory limit by default 768Mi), environment, scheduling and user.
    #[serde(flatten)]
    pub pod: PodSettings,
}

/// The Celery scheduler: always exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Beat {
    /// Resources, environment, scheduling and user.
    #[serde(flatten)]
    pub pod: PodSettings,
}

/// The web interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    /// Number of pods, 0 to 10. Default: 1. A change makes no new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub replicas: Option<i32>,
    /// Resources, environment, scheduling and user.
    #[serde(flatten)]
    pub pod: PodSettings,
}
