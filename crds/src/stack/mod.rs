//! `OdooAiStack`: one environment of the Odoo AI Platform.

mod app;
mod database;
mod history;
mod ingress;
mod progress;
mod redis;
mod rollout;
mod status;
mod workloads;

pub use app::*;
pub use database::*;
pub use history::*;
pub use ingress::*;
pub use progress::*;
pub use redis::*;
pub use rollout::*;
pub use status::*;
pub use workloads::*;

use crate::common::{EnvFromSource, EnvVar, LocalRef, display_as_name, is_unset};
use crate::rules;
use crate::schema;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the stack is for. It chooses defaults only; `status.effective` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum Environment {
    /// Development: secrets are generated, nothing waits for an approval, no backup before a migration.
    Local,
    /// Tests and demonstrations: an approval is needed.
    Staging,
    /// Real business data: an approval and a backup before each migration are needed.
    #[default]
    Production,
}

/// The application's log level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What may need attention.
    Warning,
    /// What failed.
    Error,
}

display_as_name!(Environment, LogLevel);

/// The desired state of one environment.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "odoo-ai.atmatasolutions.com",
    version = "v1alpha1",
    kind = "OdooAiStack",
    plural = "odooaistacks",
    shortname = "oas",
    category = "odooai",
    namespaced,
    status = "OdooAiStackStatus",
    derive = "PartialEq",
    cel,
    doc = "One environment of the Odoo AI Platform: ai-service, worker, beat and dashboard with their PostgreSQL, Redis and routes.",
    validation = (
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 40",
        "the name of an OdooAiStack must begin with a letter, use lower case letters, digits and '-' only and have at most 40 characters: the names of its Services are made from it"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "This spec runs and passed its watch"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "Why it is, or is not, ready"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.currentRevision", description = "The revision that passed its watch"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.urls.dashboard", description = "Where the dashboard is"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "AI-Service", type_ = "string", json_path = ".spec.images.aiService", description = "Image of ai-service, worker and beat", priority = 1),
    printcolumn(name = "Dashboard", type_ = "string", json_path = ".spec.images.dashboard", description = "Image of the dashboard", priority = 1),
    printcolumn(name = "Routes", type_ = "string", json_path = r#".status.conditions[?(@.type=="RoutesReady")].reason"#, description = "Whether the routes answer", priority = 1),
    printcolumn(name = "Schema", type_ = "string", json_path = ".status.database.schemaRevision", description = "Alembic revision of the database", priority = 1),
    printcolumn(name = "Head", type_ = "string", json_path = ".status.database.schemaHead", description = "Alembic revision that the image of the spec needs", priority = 1),
    printcolumn(name = "Last-Backup", type_ = "date", json_path = ".status.lastBackup.completedAt", description = "When the last good backup was completed", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "What is going on", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "self.environment == 'Local' || has(self.appSecretsRef)",
        "appSecretsRef must name a Secret with AI_SECRET_KEY and WEBHOOK_SECRET: they are generated only where environment is Local, because Odoo's module must know them"
    ),
    validation = Rule::new(rules::pinned_unless_local(&["images", "aiService"]))
        .message("images.aiService must name a version or a digest: the tag latest (or none) is allowed only where environment is Local")
        .field_path(".images.aiService"),
    validation = Rule::new(rules::pinned_unless_local(&["images", "dashboard"]))
        .message("images.dashboard must name a version or a digest: the tag latest (or none) is allowed only where environment is Local")
        .field_path(".images.dashboard"),
    validation = Rule::new(rules::pinned_unless_local(&["database", "managed", "image"]))
        .message("database.managed.image must name a version or a digest: the tag latest (or none) is allowed only where environment is Local"),
    validation = Rule::new(rules::pinned_unless_local(&["redis", "managed", "image"]))
        .message("redis.managed.image must name a version or a digest: the tag latest (or none) is allowed only where environment is Local"),
    validation = Rule::new(format!(
            "self.environment == 'Local' || !has(self.rollout) || !has(self.rollout.checks) || self.rollout.checks.all(c, {})",
            rules::is_pinned("c.image")
        ))
        .message("rollout.checks must name a version or a digest in each image: the tag latest (or none) is allowed only where environment is Local"),
    validation = Rule::new(rules::unchanged(&["database", "type"], "'Managed'"))
        .message("database.type must not change: make a new stack and restore the data into it"),
    validation = Rule::new(rules::unchanged(&["database", "managed", "majorVersion"], "17"))
        .message("database.managed.majorVersion must not change: PostgreSQL's files of one major version can't be read by another, so make a new stack and restore the data into it"),
    validation = Rule::new(rules::unchanged(&["database", "managed", "storage", "size"], "'10Gi'"))
        .message("database.managed.storage.size must not change (unset is 10Gi): the volume can't be resized in place"),
    validation = Rule::new(rules::unchanged(&["database", "managed", "storage", "storageClassName"], "''"))
        .message("database.managed.storage.storageClassName must not change: a volume can't move to another class"),
)]
pub struct OdooAiStackSpec {
    /// What the stack is for: Local, Staging or Production. It chooses defaults only (approval, backup before a
    /// migration, length of the watch, generated secrets); `status.effective` shows what results.
    pub environment: Environment,
    /// Stop reconciling: nothing is created, changed or rolled back while it is true. What runs keeps running, and
    /// backups go on. Default: false.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub suspend: bool,
    /// The application's images.
    pub images: Images,
    /// The Odoo server that the application automates.
    pub odoo: Odoo,
    /// The language model.
    pub ai: Ai,
    /// Secret with the keys AI_SECRET_KEY (the API's key) and WEBHOOK_SECRET (Odoo's module signs with it). Needed
    /// unless environment is Local, where one is generated. Known placeholders are refused outside Local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_secrets_ref: Option<LocalRef>,
    /// Log level of ai-service, worker and beat. Default: Info.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Origins that browsers may call the API from, for example `https://dashboard.example.com`. At most 32.
    /// Default: the application's own list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::origins")]
    pub cors_origins: Vec<String>,
    /// Environment of ai-service, worker and beat, for the application's settings that have no field here (for
    /// example SMTP_HOST). Names that the operator sets are refused. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new(rules::env_names_are_free()).message(rules::RESERVED_ENV_MESSAGE)
    )]
    pub env: Vec<EnvVar>,
    /// Secrets and ConfigMaps whose keys become environment of ai-service, worker and beat. What the operator sets
    /// wins over a key of the same name. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub env_from: Vec<EnvFromSource>,
    /// The API and WebSocket server.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub ai_service: AiService,
    /// The Celery worker.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub worker: Worker,
    /// The Celery scheduler. There is always exactly one.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub beat: Beat,
    /// The web interface.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub dashboard: Dashboard,
    /// The application's database. Default: a PostgreSQL that the operator runs.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub database: Database,
    /// The broker and cache. Default: a Redis that the operator runs.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub redis: Redis,
    /// Routes from outside. Default: none, the stack is reached inside the cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
    /// How the database's schema is brought up to date.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub migrations: Migrations,
    /// How a new revision is brought in, watched and taken back.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub rollout: Rollout,
    /// What happens to automation rules that no FeatureFlag declares.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub rules: Rules,
}
