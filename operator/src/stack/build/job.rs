//! Jobs of the agent, and those that look at the schema, in the ai-service image of their revision.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::stack::PreMigrationBackup;

use super::application::{APPLICATION_KEYS, Rendering, connection, credentials, database_url, settings_of};
use super::credentials::as_admin;
use super::{AGENT, meta, pod};
use crate::cluster::intent::Intent;
use crate::component::Component;
use crate::labels;
use crate::stack::model::Stack;

/// A Job that looks at the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaJob {
    /// Reads what a migration would do.
    Plan,
    /// Does it.
    Migrate,
}

impl SchemaJob {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plan, Self::Migrate];

    /// Component label of the Job and its pods, name of its container, and the agent's command.
    #[must_use]
    pub fn component(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Migrate => "migrate",
        }
    }

    /// Name suffix of the Jobs of a revision; the number of the attempt follows.
    #[must_use]
    pub fn prefix(self, revision: &str) -> String {
        format!("{}-{revision}-", self.component())
    }
}

/// Exit code of the agent for a decision that another try would not change.
const REFUSED: i32 = 10;
/// Tries of one Job against a failing infrastructure.
const TRIES: i32 = 3;
/// A finished Job is kept for seven days, for its log; its result is in the status by then. Seconds.
pub const KEEP_SECONDS: i32 = 7 * 24 * 3600;

/// The Job of a revision to create that looks at the schema.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaRun {
    /// What it does.
    pub kind: SchemaJob,
    /// Its number, from 1.
    pub attempt: u32,
    /// UID of the volume that stands for the database.
    pub volume: String,
    /// The rollout that it is part of.
    pub rollout: String,
    /// The backup that it may go by.
    pub backup: Option<PreMigrationBackup>,
}

/// A Job of a revision.
#[must_use]
pub fn schema(rendering: &Rendering<'_>, wanted: &SchemaRun) -> Intent {
    let SchemaRun { kind, attempt, volume, rollout, backup } = wanted;
    let (kind, stack, component) = (*kind, rendering.stack, kind.component());
    let backup = backup.as_ref();
    let suffix = format!("{}{attempt}", kind.prefix(rendering.revision));
    let labels = meta::pod_labels(stack, component, Some(rendering.revision));
    let mut metadata = meta::owned(stack, component, &suffix);
    let labels_of_job = metadata.labels.get_or_insert_default();
    labels_of_job.insert(labels::REVISION.to_owned(), rendering.revision.to_owned());
    labels_of_job.insert(labels::VOLUME.to_owned(), volume.clone());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(annotations::ROLLOUT_STARTED_AT.to_owned(), rollout.clone());
    let mut spec = pod_spec(rendering, component, component, true);
    if kind == SchemaJob::Migrate {
        annotations.insert(annotations::MIGRATION_BACKUP.to_owned(), told(stack, backup).to_owned());
        let env = spec.containers.iter_mut().filter_map(|container| container.env.as_mut());
        env.for_each(|env| env.splice(0..0, guard(stack, backup)).for_each(drop));
    }
    let seconds = i64::from(stack.migration_timeout);
    run(metadata, labels, Run { container: component, seconds, keep_seconds: KEEP_SECONDS, spec })
}

/// What a migrate Job is told of backups, as its annotation says it.
#[must_use]
pub fn told<'a>(stack: &Stack, backup: Option<&'a PreMigrationBackup>) -> &'a str {
    match backup.and_then(|backup| backup.id.as_deref()) {
        Some(id) if stack.backup_required => id,
        None if stack.backup_required => "Required",
        _ => "Never",
    }
}

/// The same for the agent: it asks under its lock whether the backup is of what it is about to change.
fn guard(stack: &Stack, backup: Option<&PreMigrationBackup>) -> Vec<EnvVar> {
    if !stack.backup_required {
        return Vec::new();
    }
    let mut env = vec![pod::env("ODOOAI_BACKUP_REQUIRED", "true")];
    if let Some(backup) = backup {
        let text = |it: &Option<String>| it.clone().unwrap_or_default();
        env.push(pod::env("ODOOAI_BACKUP_INCARNATION", text(&backup.incarnation)));
        env.push(pod::env("ODOOAI_BACKUP_SCHEMA", text(&backup.alembic_revision)));
    }
    env
}

/// What a Job of the agent runs.
#[derive(Clone, Debug)]
pub struct Run {
    /// The container whose exit code says "refused".
    pub container: &'static str,
    /// Longest time of all its tries together.
    pub seconds: i64,
    /// How long it is kept once it is finished, seconds.
    pub keep_seconds: i32,
    /// Its pods.
    pub spec: PodSpec,
}

/// A Job of the agent: created once, tried again where the infrastructure failed, ended where the
/// agent refused.
#[must_use]
pub fn run(metadata: ObjectMeta, pod_labels: BTreeMap<String, String>, run: Run) -> Intent {
    Intent::create_only(&Job { metadata, spec: Some(spec(pod_labels, run)), status: None })
}

/// The spec of one.
#[must_use]
pub fn spec(pod_labels: BTreeMap<String, String>, run: Run) -> JobSpec {
    let rule = PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(run.container.to_owned()),
            operator: "In".to_owned(),
            values: vec![REFUSED],
        }),
        on_pod_conditions: None,
    };
    JobSpec {
        active_deadline_seconds: Some(run.seconds),
        backoff_limit: Some(TRIES - 1),
        pod_failure_policy: Some(PodFailurePolicy { rules: vec![rule] }),
        ttl_seconds_after_finished: Some(run.keep_seconds),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
            spec: Some(PodSpec { restart_policy: Some("Never".to_owned()), ..run.spec }),
        },
        ..JobSpec::default()
    }
}

/// Pods that look at the schema, in the ai-service image: the name of their container, the agent's command, and whether
/// role and database are to be made where they are missing.
#[must_use]
pub fn pod_spec(rendering: &Rendering<'_>, container: &str, command: &str, admin: bool) -> PodSpec {
    let stack = rendering.stack;
    let settings = &stack.components.ai_service;
    let (install, agent_volume, agent_mount) = pod::agent(&stack.operator_image);
    let (credentials_volume, credentials_mount) = credentials(stack, &APPLICATION_KEYS);
    let mut volumes = vec![agent_volume, pod::scratch("tmp", "1Gi"), credentials_volume];
    let mut mounts = vec![agent_mount, pod::mount("tmp", "/tmp", false), credentials_mount];
    let mut env = connection(stack);
    if admin {
        as_admin(stack, &mut volumes, &mut mounts, &mut env);
    }
    env.push(database_url(stack));
    env.extend(settings_of(stack));
    env.extend(rendering.inputs.environment(Component::AiService, &rendering.copy()));
    let container = Container {
        name: container.to_owned(),
        image: Some(stack.images.ai_service.clone()),
        image_pull_policy: Some(stack.images.pull_policy.clone()),
        command: Some(vec![AGENT.to_owned(), command.to_owned()]),
        env: Some(env),
        resources: Some(settings.resources.clone()),
        security_context: pod::locked_down(),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodSpec {
        init_containers: Some(vec![install]),
        containers: vec![container],
        node_selector: (!settings.node_selector.is_empty()).then(|| settings.node_selector.clone()),
        tolerations: (!settings.tolerations.is_empty()).then(|| settings.tolerations.clone()),
        volumes: Some(volumes),
        ..pod::spec(stack, settings.user_id, settings.group_id)
    }
}
