//! Jobs of the agent, and those that look at the schema, in the ai-service image of their revision.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use odoo_ai_crds::conditions::annotations;

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
/// A finished Job is kept for seven days, for its log; its result is in the status by then.
const KEEP_SECONDS: i32 = 7 * 24 * 3600;

/// A Job of a revision, for the database that `volume` stands for.
#[must_use]
pub fn schema(kind: SchemaJob, rendering: &Rendering<'_>, attempt: u32, volume: &str) -> Intent {
    let (stack, component) = (rendering.stack, kind.component());
    let suffix = format!("{}{attempt}", kind.prefix(rendering.revision));
    let labels = meta::pod_labels(stack, component, Some(rendering.revision));
    let mut metadata = meta::owned(stack, component, &suffix);
    let labels_of_job = metadata.labels.get_or_insert_default();
    labels_of_job.insert(labels::REVISION.to_owned(), rendering.revision.to_owned());
    labels_of_job.insert(labels::VOLUME.to_owned(), volume.to_owned());
    let told = (annotations::MIGRATION_BACKUP.to_owned(), backup(stack).to_owned());
    metadata.annotations.get_or_insert_default().extend([told]);
    let seconds = i64::from(stack.migration_timeout);
    let spec = pod_spec(rendering, component);
    run(metadata, labels, Run { container: component, seconds, keep_seconds: KEEP_SECONDS, spec })
}

/// Whether the Job may change a database that holds something without a backup; an annotation of the Job.
#[must_use]
pub fn backup(stack: &Stack) -> &'static str {
    if stack.backup_required { "Required" } else { "Never" }
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
    let rule = PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(run.container.to_owned()),
            operator: "In".to_owned(),
            values: vec![REFUSED],
        }),
        on_pod_conditions: None,
    };
    Intent::create_only(&Job {
        metadata,
        spec: Some(JobSpec {
            active_deadline_seconds: Some(run.seconds),
            backoff_limit: Some(TRIES - 1),
            pod_failure_policy: Some(PodFailurePolicy { rules: vec![rule] }),
            ttl_seconds_after_finished: Some(run.keep_seconds),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
                spec: Some(PodSpec { restart_policy: Some("Never".to_owned()), ..run.spec }),
            },
            ..JobSpec::default()
        }),
        status: None,
    })
}

fn pod_spec(rendering: &Rendering<'_>, command: &str) -> PodSpec {
    let stack = rendering.stack;
    let settings = &stack.components.ai_service;
    let (install, agent_volume, agent_mount) = pod::agent(&stack.operator_image);
    let (credentials_volume, credentials_mount) = credentials(stack, &APPLICATION_KEYS);
    let mut volumes = vec![agent_volume, pod::scratch("tmp", "1Gi"), credentials_volume];
    let mut mounts = vec![agent_mount, pod::mount("tmp", "/tmp", false), credentials_mount];
    let mut env = connection(stack);
    as_admin(stack, &mut volumes, &mut mounts, &mut env);
    env.extend([pod::env("ODOOAI_LOCK_DATABASE", stack.connection.lock_database.clone()), database_url(stack)]);
    if stack.backup_required {
        env.push(pod::env("ODOOAI_BACKUP_REQUIRED", "true"));
    }
    env.extend(settings_of(stack));
    env.extend(rendering.inputs.environment(Component::AiService, &rendering.copy()));
    let container = Container {
        name: command.to_owned(),
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
