//! The parsed stack: what `validate` makes of the custom resource, once. Builders take only this
//! and cannot fail.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use odoo_ai_crds::source::ArtifactSource;
use odoo_ai_crds::stack::{Environment, Mode, UnmanagedRules};
use serde_json::Value;

use crate::cluster::intent::Key;
use crate::routes::model::Routes;

/// How an empty database gets its first data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The backup.
    pub source: ArtifactSource,
    /// Longest time of one attempt, seconds.
    pub timeout: i32,
}

/// A stack whose spec was accepted, with every default resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// Name of the custom resource.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Owner reference to put on children.
    pub owner: OwnerReference,
    /// Which environment chose the defaults.
    pub environment: Environment,
    /// Images of the application.
    pub images: Images,
    /// The server of the application's database.
    pub database: Database,
    /// How an empty database gets its first data; `None`: from the application.
    pub bootstrap: Option<Bootstrap>,
    /// How the application's database is reached.
    pub connection: Connection,
    /// The broker and cache.
    pub redis: Redis,
    /// Storage class of the volumes, `None` for the cluster's default.
    pub storage_class: Option<String>,
    /// The stack owns volumes and generated Secrets: deleting the stack deletes the data.
    pub delete_with_stack: bool,
    /// The four processes of the application.
    pub components: Components,
    /// The application's settings that follow from the spec, name → value; none of them secret.
    pub settings: BTreeMap<String, String>,
    /// Secret with `AI_SECRET_KEY` and `WEBHOOK_SECRET`; `generated` where the operator makes it.
    pub app_secrets: AppSecrets,
    /// Times of the rollout.
    pub rollout: Rollout,
    /// Tests of a new revision, in their order.
    pub checks: Vec<Check>,
    /// Routes from outside.
    pub routes: Option<Routes>,
    /// What happens to seeded rules on a first install.
    pub unmanaged_rules: UnmanagedRules,
    /// Longest time of a migrate Job, seconds.
    pub migration_timeout: i32,
    /// An admission policy proves who approved.
    pub approvers_verified: bool,
    /// Whether pending migrations run by themselves.
    pub migration_policy: Mode,
    /// A database that holds something is only migrated after a backup.
    pub backup_required: bool,
    /// Name of the Backup that makes it.
    pub backup_ref: Option<String>,
    /// Alembic revisions that older images work with, as the user knows.
    pub backward_compatible: Vec<String>,
    /// The operator's own image: init containers and the sidecar run it.
    pub operator_image: String,
    /// Who else is on the network; `None`: no policies are made.
    pub network: Option<Network>,
    /// For tests: an annotation of new pod templates.
    pub template_annotation: Option<String>,
}

/// What children must know of the operator that cares for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operator {
    /// Its image, from which the agents come.
    pub image: String,
    /// Who else is on the network; `None`: no policies are made.
    pub network: Option<Network>,
    /// An admission policy proves that `approved-by` is who sent it.
    pub approvers_verified: bool,
    /// For tests: an annotation of new pod templates.
    pub template_annotation: Option<String>,
}

/// Who outside of a stack's namespace must reach its agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Namespace of the operator.
    pub operator_namespace: String,
    /// Namespaces from which metrics are collected.
    pub metrics_namespaces: Vec<String>,
}

/// Images of the application and how they are pulled.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// ai-service, worker and beat.
    pub ai_service: String,
    /// The dashboard.
    pub dashboard: String,
    /// `imagePullPolicy`.
    pub pull_policy: String,
    /// Names of pull Secrets.
    pub pull_secrets: Vec<String>,
}

/// Who runs PostgreSQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Database {
    /// The operator.
    Managed(Box<ManagedDatabase>),
    /// Somebody else.
    External,
}

/// Who runs Redis.
#[derive(Clone, Debug, PartialEq)]
pub enum Redis {
    /// The operator.
    Managed(Box<ManagedRedis>),
    /// Somebody else.
    External,
}

/// The application's database, as its pods reach it. The password is a credential, apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Host of the server.
    pub host: String,
    /// Port of the server.
    pub port: i32,
    /// Name of the database.
    pub database: String,
    /// Role of the application.
    pub user: String,
    /// libpq's `sslmode`.
    pub ssl_mode: &'static str,
    /// Database in which the advisory lock is taken.
    pub lock_database: String,
    /// What tells an External database from another, as a label value; a Managed one has its volume's UID.
    pub identity: Option<String>,
}

/// The PostgreSQL server that the operator runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagedDatabase {
    /// Image of the server.
    pub image: String,
    /// Size of the data volume, a quantity.
    pub storage_size: String,
    /// Compute resources.
    pub resources: ResourceRequirements,
    /// Server parameters, name → value.
    pub parameters: BTreeMap<String, String>,
    /// Major version of PostgreSQL.
    pub major_version: i32,
    /// Numeric user of the image.
    pub user_id: i64,
    /// Group of the volume.
    pub group_id: i64,
    /// C library of the image, `glibc` or `musl`: text sorts differently under the two.
    pub libc: &'static str,
    /// What the user wrote: the stored template is made anew only when this changes.
    pub inputs: Value,
}

/// The Redis server that the operator runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagedRedis {
    /// Image of the server.
    pub image: String,
    /// `maxmemory`, mebibytes.
    pub max_memory_mib: i32,
    /// `maxmemory-policy` in Redis' own spelling.
    pub eviction_policy: String,
    /// Compute resources.
    pub resources: ResourceRequirements,
    /// Numeric user of the image.
    pub user_id: i64,
    /// Group of the scratch volume.
    pub group_id: i64,
    /// What the user wrote: the stored template is made anew only when this changes.
    pub inputs: Value,
}

/// The processes of the application.
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    /// The API.
    pub ai_service: Component,
    /// The Celery worker.
    pub worker: Component,
    /// The Celery scheduler.
    pub beat: Component,
    /// The dashboard.
    pub dashboard: Component,
    /// Child processes of one worker.
    pub concurrency: i32,
    /// Queues that the worker consumes.
    pub queues: Vec<String>,
    /// Seconds that a running task has to finish.
    pub worker_grace_seconds: i64,
    /// `--log-level` of the three Python processes, lower case.
    pub log_level: String,
}

/// What the processes have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Wanted pods; not part of a revision.
    pub replicas: i32,
    /// Compute resources.
    pub resources: ResourceRequirements,
    /// Node labels that a pod needs.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that a pod tolerates.
    pub tolerations: Vec<Toleration>,
    /// Numeric user.
    pub user_id: i64,
    /// Group of the volumes.
    pub group_id: i64,
}

/// Where the application's own secrets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppSecrets {
    /// A Secret of the user.
    Referenced(String),
    /// Generated once by the operator (Local only), with this name.
    Generated(String),
}

/// How a rollout goes; times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Whether a new revision waits for a person.
    pub approval: Mode,
    /// Length of the watch after the last step.
    pub watch_duration: i32,
    /// Time between two samples.
    pub watch_period: i32,
    /// Failed samples in a row that end the watch.
    pub failure_threshold: i32,
    /// Whether a revision that fails is taken back by itself.
    pub rollback: Mode,
    /// Seconds that a step which brings in a component may take.
    pub progress_deadline: i32,
    /// Revisions kept for a rollback.
    pub history_limit: i32,
}

/// A test of a new revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The image.
    pub image: String,
    /// Command and arguments; empty: the image's own.
    pub command: Vec<String>,
    /// The user's variables.
    pub env: Vec<EnvVar>,
    /// Compute resources.
    pub resources: ResourceRequirements,
    /// Numeric user.
    pub user_id: i64,
    /// Longest time, seconds.
    pub timeout: i32,
    /// What the user wrote: what passed before says nothing once this changes.
    pub inputs: Value,
}

impl Database {
    /// The server, where the operator runs it.
    #[must_use]
    pub fn managed(&self) -> Option<&ManagedDatabase> {
        match self {
            Self::Managed(server) => Some(server),
            Self::External => None,
        }
    }
}

impl Redis {
    /// The server, where the operator runs it.
    #[must_use]
    pub fn managed(&self) -> Option<&ManagedRedis> {
        match self {
            Self::Managed(server) => Some(server),
            Self::External => None,
        }
    }
}

impl Stack {
    /// Name of a child: `<stack>-<suffix>`.
    #[must_use]
    pub fn child(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }

    /// Kind, namespace and name of a child.
    #[must_use]
    pub fn key(&self, kind: &str, suffix: &str) -> Key {
        Key { kind: kind.to_owned(), namespace: self.namespace.clone(), name: self.child(suffix) }
    }
}
