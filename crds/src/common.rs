//! Small types that several kinds share.

use crate::schema;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether a value is its type's default: such a section counts as unset and is not written.
pub fn is_unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Implements `Display` with the name that the API uses.
macro_rules! display_as_name {
    ($($kind:ty),+ $(,)?) => {$(
        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self, f)
            }
        }
    )+};
}
pub(crate) use display_as_name;

/// What happens to data when its owner is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum DeletionPolicy {
    /// It is kept; a stack of the same name finds it again.
    Retain,
    /// It is deleted with its owner.
    Delete,
}

/// Another object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object in this namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// One key of a Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret in this namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Key in the Secret's data.
    #[schemars(schema_with = "schema::data_key")]
    pub key: String,
}

/// One key of a `ConfigMap` of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap in this namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Key in the ConfigMap's data.
    #[schemars(schema_with = "schema::data_key")]
    pub key: String,
}

/// An environment variable: a value, or where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!(has(self.value) && has(self.valueFrom))", "an env entry must have either value or valueFrom, not both")
)]
pub struct EnvVar {
    /// Name of the variable. Names that the operator sets itself are refused.
    #[schemars(schema_with = "schema::env_name")]
    pub name: String,
    /// Its value, taken as it is: `$(VAR)` is not expanded. Default: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub value: Option<String>,
    /// A key of a Secret or ConfigMap that holds the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// Where an environment variable's value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.secretKeyRef) != has(self.configMapKeyRef)", "valueFrom must have exactly one of secretKeyRef and configMapKeyRef")
)]
pub struct EnvVarSource {
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// A key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
}

impl From<&EnvVar> for core::EnvVar {
    /// The entry as a pod has it, its references included.
    fn from(entry: &EnvVar) -> Self {
        let source = entry.value_from.as_ref().map(|source| core::EnvVarSource {
            secret_key_ref: source.secret_key_ref.as_ref().map(|key| core::SecretKeySelector {
                name: key.name.clone(),
                key: key.key.clone(),
                optional: None,
            }),
            config_map_key_ref: source.config_map_key_ref.as_ref().map(|key| core::ConfigMapKeySelector {
                name: key.name.clone(),
                key: key.key.clone(),
                optional: None,
            }),
            ..core::EnvVarSource::default()
        });
        Self { name: entry.name.clone(), value: entry.value.clone(), value_from: source }
    }
}

/// All keys of a Secret or `ConfigMap` as environment variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.secretRef) != has(self.configMapRef)", "an envFrom entry must have exactly one of secretRef and configMapRef")
)]
pub struct EnvFromSource {
    /// Put in front of every key. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::env_prefix")]
    pub prefix: Option<String>,
    /// A Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// A ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<LocalRef>,
}

/// CPU and memory of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler reserves.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub requests: ResourceAmounts,
    /// What the container may use at most; above the memory limit it is killed.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub limits: ResourceAmounts,
}

/// Amounts of CPU and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// CPUs, for example `250m` or `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub cpu: Option<String>,
    /// Memory, for example `768Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub memory: Option<String>,
    /// Local scratch space, for example `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub ephemeral_storage: Option<String>,
}

impl ResourceAmounts {
    /// The amounts as a container of the Kubernetes API has them.
    #[must_use]
    pub fn to_quantities(&self) -> Option<BTreeMap<String, Quantity>> {
        let quantities: BTreeMap<String, Quantity> =
            [("cpu", &self.cpu), ("memory", &self.memory), ("ephemeral-storage", &self.ephemeral_storage)]
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), Quantity(value.clone()?))))
                .collect();
        (!quantities.is_empty()).then_some(quantities)
    }
}

impl Resources {
    /// The resources as a container of the Kubernetes API has them.
    #[must_use]
    pub fn to_requirements(&self) -> core::ResourceRequirements {
        core::ResourceRequirements {
            requests: self.requests.to_quantities(),
            limits: self.limits.to_quantities(),
            ..core::ResourceRequirements::default()
        }
    }
}

/// The numeric user and group that a pod runs as. Everything else (not root, no capabilities, no privilege
/// escalation) is fixed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// Numeric user of the containers; never 0. Default: the user that the image is known for (ai-service,
    /// worker and beat 1000, dashboard 1001, PostgreSQL and Redis 999).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub run_as_user: Option<i64>,
    /// Group that owns the pod's volumes. Default: the same number as `runAsUser`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub fs_group: Option<i64>,
}

/// How a toleration compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum TolerationOperator {
    /// The taint's value must be the same.
    #[default]
    Equal,
    /// Any value.
    Exists,
}

/// What a tolerated taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum TaintEffect {
    /// New pods are not placed.
    NoSchedule,
    /// New pods are placed elsewhere if possible.
    PreferNoSchedule,
    /// Running pods are evicted too.
    NoExecute,
}

/// A taint that a pod accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "!(has(self.operator) && self.operator == 'Exists' && has(self.value))",
        "a toleration with operator Exists must not have a value"
    ),
    validation = (
        "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
        "a toleration without key must have operator Exists"
    )
)]
pub struct Toleration {
    /// Key of the taint. Default: every taint (operator must then be Exists).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub key: Option<String>,
    /// How the value is compared. Default: Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Value of the taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect of the taint. Default: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// Seconds that a NoExecute taint is tolerated. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub toleration_seconds: Option<i32>,
}

impl From<&Toleration> for core::Toleration {
    fn from(toleration: &Toleration) -> Self {
        Self {
            key: toleration.key.clone(),
            operator: toleration.operator.map(|operator| operator.to_string()),
            value: toleration.value.clone(),
            effect: toleration.effect.map(|effect| effect.to_string()),
            toleration_seconds: toleration.toleration_seconds.map(i64::from),
        }
    }
}

display_as_name!(DeletionPolicy, TolerationOperator, TaintEffect);
