//! The Job of a check: the user's own test, in a pod that may do nothing but ask.

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::job::KEEP_SECONDS;
use super::{API_PORT, DASHBOARD_PORT, meta, pod};
use crate::cluster::intent::Intent;
use crate::component::{Component, ComponentExt};
use crate::labels;
use crate::rollout::checks::CheckRun;
use crate::stack::model::Stack;

/// Component label of the Jobs and their pods, and name of the container.
pub const COMPONENT: &str = "check";
/// Exit codes of a process that somebody else ended, or that went with its node: such a check is run again.
const KILLED: [i32; 3] = [137, 143, 255];
/// Tries of one Job whose process was killed.
const TRIES: i32 = 3;

/// The Job that runs a check of `revision`.
#[must_use]
pub fn job(stack: &Stack, revision: &str, run: &CheckRun) -> Intent {
    let mut metadata = meta::owned(stack, COMPONENT, &run.suffix);
    metadata.labels.get_or_insert_default().insert(labels::REVISION.to_owned(), revision.to_owned());
    let pod_labels = meta::pod_labels(stack, COMPONENT, Some(revision));
    Intent::create_only(&Job {
        metadata,
        spec: Some(JobSpec {
            active_deadline_seconds: Some(i64::from(run.check.timeout)),
            backoff_limit: Some(TRIES - 1),
            pod_failure_policy: Some(PodFailurePolicy { rules: vec![put_off(), failed()] }),
            ttl_seconds_after_finished: Some(KEEP_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
                spec: Some(pod_spec(stack, revision, run)),
            },
            ..JobSpec::default()
        }),
        status: None,
    })
}

/// A pod that its node or somebody else put off says nothing.
fn put_off() -> PodFailurePolicyRule {
    let disrupted =
        PodFailurePolicyOnPodConditionsPattern { type_: "DisruptionTarget".to_owned(), status: "True".to_owned() };
    PodFailurePolicyRule { action: "Ignore".to_owned(), on_exit_codes: None, on_pod_conditions: Some(vec![disrupted]) }
}

/// A check that ends by itself has spoken.
fn failed() -> PodFailurePolicyRule {
    PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(COMPONENT.to_owned()),
            operator: "NotIn".to_owned(),
            values: KILLED.to_vec(),
        }),
        on_pod_conditions: None,
    }
}

fn pod_spec(stack: &Stack, revision: &str, run: &CheckRun) -> PodSpec {
    let check = &run.check;
    let url = |component: Component, port: i32| {
        format!("http://{}.{}.svc:{port}", stack.child(component.name()), stack.namespace)
    };
    let mut env = vec![
        pod::env("ODOOAI_API_URL", url(Component::AiService, API_PORT)),
        pod::env("ODOOAI_DASHBOARD_URL", url(Component::Dashboard, DASHBOARD_PORT)),
        pod::env("ODOOAI_REVISION", revision),
    ];
    if !check.env.iter().any(|variable| variable.name == "HOME") {
        env.push(pod::env("HOME", "/tmp"));
    }
    env.extend(check.env.iter().cloned().map(literal));
    let container = Container {
        name: COMPONENT.to_owned(),
        image: Some(check.image.clone()),
        image_pull_policy: Some(stack.images.pull_policy.clone()),
        command: (!check.command.is_empty()).then(|| check.command.clone()),
        env: Some(env),
        resources: Some(check.resources.clone()),
        security_context: pod::locked_down(),
        volume_mounts: Some(vec![pod::mount("tmp", "/tmp", false)]),
        ..Container::default()
    };
    PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        volumes: Some(vec![pod::scratch("tmp", "1Gi")]),
        ..pod::spec(stack, check.user_id, check.user_id)
    }
}

fn literal(variable: EnvVar) -> EnvVar {
    EnvVar { value: variable.value.as_deref().map(pod::literal), ..variable }
}
