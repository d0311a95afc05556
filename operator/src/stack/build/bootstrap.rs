//! The Job that gives an empty database its first data, and what it may reach.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::restore::RestoreStatus;

use super::job::{self, KEEP_SECONDS};
use super::meta;
use crate::backup::build::reach;
use crate::cluster::intent::Intent;
use crate::labels;
use crate::restore::build::{GRACE, Task, pod_spec};
use crate::rollout::bootstrap::Run;

/// The policy as long as the step lasts, and the Job where there is none.
#[must_use]
pub fn bootstrap(run: &Run) -> Vec<Intent> {
    let (plan, component) = (&run.plan, Task::Bootstrap.component());
    let stack = &plan.stack;
    let policy = stack.network.as_ref().map(|_| {
        let selected = labels::selector(&stack.name, component);
        let spec = reach(stack, plan.storage.bucket.as_ref(), selected);
        Intent::apply(&NetworkPolicy { metadata: meta::owned(stack, component, component), spec: Some(spec) })
    });
    policy.into_iter().chain(run.attempt.map(|attempt| job(run, attempt))).collect()
}

fn job(run: &Run, attempt: u32) -> Intent {
    let (plan, task) = (&run.plan, Task::Bootstrap);
    let component = task.component();
    let mut metadata = meta::owned(&plan.stack, component, &format!("{component}-{attempt}"));
    metadata.labels.get_or_insert_default().insert(labels::VOLUME.to_owned(), plan.uid.clone());
    metadata.annotations.get_or_insert_default().insert(annotations::BOOTSTRAP_SOURCE.to_owned(), run.source());
    let spec = pod_spec(plan, &RestoreStatus::default(), task);
    let run =
        job::Run { container: component, seconds: i64::from(plan.timeout) + GRACE, keep_seconds: KEEP_SECONDS, spec };
    job::run(metadata, meta::pod_labels(&plan.stack, component, None), run)
}
