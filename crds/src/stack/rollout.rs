//! Migrations and rollouts.

use crate::common::{EnvVar, LocalRef, Resources, display_as_name, is_unset};
use crate::schema;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether something goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum Mode {
    /// By itself.
    Automatic,
    /// When a person asks for it.
    Manual,
}

/// Whether a backup is made before a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum MigrationBackup {
    /// A good backup, made after the request, must exist before the migration starts.
    Required,
    /// None is made.
    Never,
}

display_as_name!(Mode, MigrationBackup);

/// How the database's schema is brought up to date.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Migrations {
    /// Automatic: pending migrations are run as a step of the rollout. Manual: they wait for the annotation
    /// `odoo-ai.atmatasolutions.com/approved-migration`, so that a person says when; whoever brings the database to the
    /// image's revision by hand before has nothing left for the Job to do. An empty database gets its schema in any
    /// case. Default: Automatic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Mode>,
    /// Whether there must be a backup first. Required: the Backup named by `backupRef` is asked for one, and the migration
    /// starts only with a good artifact of this very database at its present revision. Default: Required in Production,
    /// else Never. An empty database needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<MigrationBackup>,
    /// The Backup that is asked for the backup; needed when `backup` is Required and the database holds something. Its
    /// `stackRef` must be this stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<LocalRef>,
    /// Alembic revisions that older images are known to work with although the plan doesn't recognise them as
    /// additive; they don't keep an older image from running on the newer schema. At most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::alembic_revisions")]
    pub backward_compatible: Vec<String>,
    /// Seconds that a migration may take, 30 to 86400. Default: 1800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 86_400))]
    pub timeout_seconds: Option<i32>,
}

/// How a new revision is brought in, watched and taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Manual: a new revision waits for the annotation `odoo-ai.atmatasolutions.com/approved-revision`. Not asked for
    /// on a first install, a rollback or a retry. Default: Automatic in Local, else Manual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Mode>,
    /// Automatic: a revision that fails is replaced by the one before. Manual: it is left and reported. Default:
    /// Automatic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Mode>,
    /// Seconds that one step may take, 30 to 86400; waiting for a lock, an approval or the watch doesn't count.
    /// It is for steps that bring in a component; the migration has `migrations.timeoutSeconds`. Default: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 86_400))]
    pub progress_deadline_seconds: Option<i32>,
    /// The watch after the last step.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub health_check: HealthCheck,
    /// Smoke and end-to-end tests of a new revision that run as Jobs after the last component, one after the other; one
    /// that fails makes the revision fail. At most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub checks: Vec<Check>,
    /// Old revisions that `status.history` keeps, with their stored templates and Secrets, 1 to 50. The current, the
    /// new, the failed one and those that a pod still runs are kept in any case. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub revision_history_limit: Option<i32>,
}

/// The watch after the last step of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "!(has(self.durationSeconds) && has(self.periodSeconds)) || self.periodSeconds <= self.durationSeconds",
        "rollout.healthCheck.periodSeconds must not be greater than durationSeconds"
    )
)]
pub struct HealthCheck {
    /// Seconds of samples that must be good, 1 to 86400. Default: 10 in Local, else 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub duration_seconds: Option<i32>,
    /// Seconds between two samples, 1 to 300. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: Option<i32>,
    /// Bad samples in a row that count as a failure, 1 to 100. A bad one starts the watch anew. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: Option<i32>,
}

/// A test that runs as a Job after the last component: passed with exit code 0, failed with any other. Its pod gets no
/// volumes but `/tmp`, no rights in the cluster, no privileges, and reaches neither PostgreSQL nor Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Name of the check, unique in the list, at most 40 characters.
    #[schemars(schema_with = "schema::label_name")]
    pub name: String,
    /// Image to run. The tag latest is refused outside Local.
    #[schemars(schema_with = "schema::image")]
    pub image: String,
    /// Command and arguments; `$(NAME)` becomes the value of that variable, as in a pod. Default: the image's own. At
    /// most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::command")]
    pub command: Vec<String>,
    /// Environment of the check; the operator adds ODOOAI_API_URL, ODOOAI_DASHBOARD_URL and ODOOAI_REVISION, and HOME,
    /// which is /tmp where unset. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(e, !e.name.upperAscii().startsWith('ODOOAI_'))")
            .message("env of a check must not set a name that begins with ODOOAI_: the operator sets those itself")
    )]
    pub env: Vec<EnvVar>,
    /// CPU and memory. Default: 50m CPU, 64Mi memory, at most 512Mi.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub resources: Resources,
    /// Numeric user of the container; never 0. Default: 65534 (nobody).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub run_as_user: Option<i64>,
    /// Seconds after which the check has failed, the pull of its image included, 1 to 86400. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: Option<i32>,
}
