//! Images, Odoo, the language model, automation rules.

use crate::common::{LocalRef, SecretKeyRef, display_as_name};
use crate::schema;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When the node pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum PullPolicy {
    /// Only when the node doesn't have it.
    IfNotPresent,
    /// At each start.
    Always,
    /// Never: it must be on the node.
    Never,
}

/// What happens to automation rules that no `FeatureFlag` declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum UnmanagedRules {
    /// On a new database the seeded rules are disabled, once, before worker and beat start.
    Disable,
    /// They are left as the application seeds them: all enabled.
    Ignore,
}

display_as_name!(PullPolicy, UnmanagedRules);

/// The application's images. Worker and beat run the image of ai-service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// Image of ai-service, worker, beat and the migration, for example
    /// `registry.example.com/odoo-ai-platform/ai-service:1.4.0`. The tag latest is refused outside Local.
    #[schemars(schema_with = "schema::image")]
    pub ai_service: String,
    /// Image of the dashboard. The tag latest is refused outside Local.
    #[schemars(schema_with = "schema::image")]
    pub dashboard: String,
    /// When nodes pull these images. Default: IfNotPresent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Secrets of type kubernetes.io/dockerconfigjson for private registries. At most 8. A change makes no new revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub pull_secrets: Vec<LocalRef>,
}

/// The Odoo server that the application automates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Odoo {
    /// Odoo's URL, for example `https://odoo.example.com`.
    #[schemars(schema_with = "schema::url")]
    pub url: String,
    /// Name of Odoo's database.
    #[schemars(schema_with = "schema::database_name")]
    pub database: String,
    /// Login of the user that the application acts as.
    #[schemars(length(min = 1, max = 255))]
    pub username: String,
    /// Secret with the user's password or API key.
    pub credentials_secret_ref: OdooCredentialsRef,
}

/// A Secret with Odoo's password or API key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "has(self.passwordKey) != has(self.apiKeyKey)",
        "odoo.credentialsSecretRef must have exactly one of passwordKey and apiKeyKey"
    )
)]
pub struct OdooCredentialsRef {
    /// Name of the Secret in this namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Key in the Secret that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::data_key")]
    pub password_key: Option<String>,
    /// Key in the Secret that holds an API key, which Odoo prefers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::data_key")]
    pub api_key_key: Option<String>,
}

/// The language model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ai {
    /// The Claude model, for example `claude-sonnet-4-5`. Default: the application's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::model")]
    pub model: Option<String>,
    /// Secret key with the Anthropic API key.
    pub api_key_secret_ref: SecretKeyRef,
}

/// What happens to automation rules that no `FeatureFlag` declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Disable: the application seeds all its rules enabled, so on a new database each one is disabled
    /// once, before worker and beat exist (those that a FeatureFlag enables will be spared when that kind is
    /// implemented); later edits by hand stay. Ignore leaves them.
    /// A database that was moved here is never touched. Default: Disable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged: Option<UnmanagedRules>,
}
