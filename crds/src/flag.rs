//! `FeatureFlag`: one automation rule of the application, declared.

use crate::common::{LocalRef, display_as_name, is_unset};
use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a rule may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum FlagState {
    /// It doesn't run.
    #[default]
    Disabled,
    /// It runs.
    Enabled,
}

/// What happens when somebody edits the rule in the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum DriftPolicy {
    /// It is put back.
    Revert,
    /// It is reported.
    Warn,
}

/// What happens to a rule that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum AdoptionPolicy {
    /// It is taken over.
    Adopt,
    /// It is left, and the flag is Stalled.
    Refuse,
}

/// What happens to the rule when its flag is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum FlagDeletionPolicy {
    /// It is disabled.
    Disable,
    /// It is left as it is.
    Orphan,
    /// It is deleted.
    Delete,
}

display_as_name!(FlagState, DriftPolicy, AdoptionPolicy, FlagDeletionPolicy);

/// One automation rule of the application, as it should be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "odoo-ai.atmatasolutions.com",
    version = "v1alpha1",
    kind = "FeatureFlag",
    plural = "featureflags",
    shortname = "aiflag",
    category = "odooai",
    namespaced,
    status = "FeatureFlagStatus",
    derive = "PartialEq",
    cel,
    selectable = ".spec.stackRef.name",
    doc = "One automation rule of an OdooAiStack, declared: whether it may run, with which settings, and when it is switched off by itself.",
    printcolumn(name = "Rule", type_ = "string", json_path = ".spec.rule.name", description = "The rule's name"),
    printcolumn(
        name = "Desired",
        type_ = "string",
        json_path = ".spec.state",
        description = "What it may do at most; empty is Disabled"
    ),
    printcolumn(
        name = "Effective",
        type_ = "boolean",
        json_path = ".status.effective.running",
        description = "Whether its type really runs"
    ),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Synced")].status"#,
        description = "The rule is as declared"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is, or isn't"
    ),
    printcolumn(
        name = "Error Rate",
        type_ = "integer",
        json_path = ".status.errorRate.percent",
        description = "Failed runs in the window, in percent"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Stack",
        type_ = "string",
        json_path = ".spec.stackRef.name",
        description = "The stack that has the rule",
        priority = 1
    ),
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".spec.rule.automationType",
        description = "The rule's type",
        priority = 1
    ),
    printcolumn(
        name = "Action",
        type_ = "string",
        json_path = ".spec.rule.actionName",
        description = "The rule's action",
        priority = 1
    ),
    printcolumn(
        name = "Id",
        type_ = "integer",
        json_path = ".status.ruleId",
        description = "The rule's id in the application",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "What is going on",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.stackRef == oldSelf.stackRef", "stackRef must not change: make another FeatureFlag for another stack"),
    validation = ("self.rule == oldSelf.rule", "rule must not change: make another FeatureFlag for another rule")
)]
pub struct FeatureFlagSpec {
    /// The OdooAiStack that has the rule. Immutable.
    pub stack_ref: LocalRef,
    /// Which rule. Immutable.
    pub rule: RuleIdentity,
    /// Disabled or Enabled: the most that the rule may do. Default: Disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::flag_state")]
    pub state: Option<FlagState>,
    /// The rule's configuration, any JSON object of at most 64 members. Default: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_object")]
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Confidence below which the application doesn't act, 0 to 100. Default: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub confidence_threshold_percent: Option<i32>,
    /// Let the application act without a person's approval. Default: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_approve: Option<bool>,
    /// Disable the rule when too many of its runs fail; it stays disabled until this spec changes. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<ErrorRate>,
    /// What happens when somebody edits the rule in the application. Default: Revert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_policy: Option<DriftPolicy>,
    /// What happens when the rule exists already. Default: Adopt, because the application seeds its rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption_policy: Option<AdoptionPolicy>,
    /// What happens to the rule when this flag is deleted. Default: Disable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<FlagDeletionPolicy>,
    /// Leave the rule alone while it is true. Default: false.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub suspend: bool,
    /// Seconds between two looks at the rule, 10 to 86400. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86_400))]
    pub resync_seconds: Option<i32>,
}

/// Which rule: the three together name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleIdentity {
    /// The rule's name as people read it, at most 255 characters.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Its type, for example `credit_management`.
    #[schemars(schema_with = "schema::automation_name")]
    pub automation_type: String,
    /// Its action, for example `credit_check`.
    #[schemars(schema_with = "schema::automation_name")]
    pub action_name: String,
}

/// When a rule is disabled because too many of its runs fail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorRate {
    /// Failed runs in percent, above which the rule is disabled, 0 to 99.
    #[schemars(range(min = 0, max = 99))]
    pub max_percent: i32,
    /// Runs that the window must hold before it counts, 1 to 5000. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5_000))]
    pub min_samples: Option<i32>,
    /// Length of the window in seconds, 60 to 604800. Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 604_800))]
    pub window_seconds: Option<i32>,
}

/// The rule as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureFlagStatus {
    /// The generation of the spec that this status is about; -1: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Synced, Effective, WithinErrorRate, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Id of the rule in the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_id: Option<i64>,
    /// The generation of the spec as which the rule was last seen in the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced_generation: Option<i64>,
    /// When a new rule was asked for that wasn't seen yet: a rule that is found since is this flag's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_requested_at: Option<Time>,
    /// When the controller first saw this generation of the spec: no earlier run counts for the error rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_changed_at: Option<Time>,
    /// Whether the rule's type really runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveFlag>,
    /// Failed runs over the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<ErrorRateStatus>,
    /// The last request (annotation) to disable the rule whatever it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_request: Option<DisableRequest>,
    /// The generation of the spec under which the error rate was exceeded; the rule stays disabled while it is the
    /// spec's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breached_generation: Option<i64>,
}

/// Whether a type really runs, and because of which rules: any enabled rule of a type opens its gate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveFlag {
    /// Whether the type runs.
    pub running: bool,
    /// The enabled rules of the type, by name. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 255)))]
    pub because_of: Vec<String>,
    /// The Odoo models whose webhooks the type is fed with. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub models: Vec<String>,
}

/// How far a request to disable a rule is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum DisableState {
    /// Something must change first.
    #[default]
    Waiting,
    /// A Job works on it.
    Running,
    /// The rule is disabled.
    Succeeded,
    /// It can't be.
    Refused,
}

/// A request (annotation) to disable the rule: through the application's API, and in its database where the API can't be
/// asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisableRequest {
    /// The annotation's value.
    #[schemars(length(max = 253))]
    pub id: String,
    /// How far it is; Succeeded and Refused are final.
    pub state: DisableState,
    /// What was done, or why not yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// When it was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Time>,
    /// When it was final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// Failed runs over the window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorRateStatus {
    /// Failed runs in percent, rounded up.
    pub percent: i32,
    /// Runs in the window.
    pub samples: i32,
}
