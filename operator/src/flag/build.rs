//! The Job that disables a rule in the database. It cannot fail and holds no client.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use odoo_ai_crds::flag::FeatureFlag;

use crate::cluster::intent::Intent;
use crate::labels;
use crate::stack::build::application::{connection, credentials};
use crate::stack::build::credentials::keys;
use crate::stack::build::job::{self, Run};
use crate::stack::build::pod;
use crate::stack::model::Stack;

/// Component label of the Job and its pods, and name of the container.
pub const COMPONENT: &str = "flag-disable";
/// Longest time of all its tries together.
const SECONDS: i64 = 300;
/// The operator's image has the user.
const USER: i64 = 65_532;

/// The Job of this name.
#[must_use]
pub fn disable(stack: &Stack, flag: &FeatureFlag, owner: OwnerReference, name: &str) -> Intent {
    let rule = &flag.spec.rule;
    let (volume, mount) = credentials(stack, &[keys::DATABASE_PASSWORD, keys::DATABASE_CA]);
    let mut env = connection(stack);
    env.push(pod::env("ODOOAI_RULE_NAME", rule.name.clone()));
    env.push(pod::env("ODOOAI_RULE_TYPE", rule.automation_type.clone()));
    env.push(pod::env("ODOOAI_RULE_ACTION", rule.action_name.clone()));
    let id = flag.status.as_ref().and_then(|status| status.rule_id);
    env.extend(id.map(|id| pod::env("ODOOAI_RULE_ID", id.to_string())));
    let container = Container {
        name: COMPONENT.to_owned(),
        image: Some(stack.operator_image.clone()),
        image_pull_policy: Some(pod::PULL_POLICY.to_owned()),
        command: Some(["/agent", "flag", "disable"].map(str::to_owned).to_vec()),
        env: Some(env),
        resources: Some(pod::resources("5m", "16Mi", "64Mi")),
        security_context: pod::locked_down(),
        volume_mounts: Some(vec![mount]),
        ..Container::default()
    };
    let spec = PodSpec { containers: vec![container], volumes: Some(vec![volume]), ..pod::spec(stack, USER, USER) };
    let labels = labels::child(&stack.name, COMPONENT);
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(stack.namespace.clone()),
        labels: Some(labels.clone()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    job::run(metadata, labels, Run { container: COMPONENT, seconds: SECONDS, keep_seconds: job::KEEP_SECONDS, spec })
}
