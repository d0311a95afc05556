//! Gates: has a step reached its end? Pure functions of what was observed.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::{MigrationPlan, OdooAiStackStatus, RevisionHistory, UnmanagedRules};

use super::approval::Approval;
use super::credentials::{Standing, generation};
use super::jobs::Progress;
use super::migration;
use super::pods::{self, Trouble};
use super::revision;
use super::workload::{self, Counts, Workload};
use crate::cluster::cache::Children;
use crate::component::{Component, ComponentExt};
use crate::stack::agents::Agents;
use crate::stack::build::job::SchemaJob;
use crate::stack::model::Stack;

/// What a gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The step is done.
    Open,
    /// Not yet; nothing is wrong as far as anyone can see.
    Wait {
        /// Condition reason.
        reason: String,
        /// What is waited for.
        message: String,
    },
    /// Not without a person, or at least not soon.
    Blocked {
        /// Condition reason.
        reason: String,
        /// What is wrong, where, and what to do.
        message: String,
    },
}

impl Gate {
    /// A gate that waits.
    pub fn wait(reason: &str, message: impl Into<String>) -> Self {
        Self::Wait { reason: reason.to_owned(), message: message.into() }
    }
}

/// Everything that a gate may look at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The accepted spec.
    pub stack: &'a Stack,
    /// The credentials of database and Redis.
    pub credentials: &'a Standing,
    /// The status as it was read.
    pub status: &'a OdooAiStackStatus,
    /// What a person approved.
    pub approval: Approval<'a>,
    /// The children.
    pub children: &'a Children,
    /// What the agents said.
    pub agents: &'a Agents,
    /// The revision that the spec asks for.
    pub target: &'a str,
    /// The database's volume.
    pub volume: &'a Volume,
    /// Now.
    pub now: Timestamp,
}

impl View<'_> {
    /// The target's history entry.
    #[must_use]
    pub fn entry(&self) -> Option<&RevisionHistory> {
        self.status.history.iter().find(|entry| entry.revision == self.target)
    }

    /// Where a Job of the target that looks at the schema stands.
    #[must_use]
    pub fn progress(&self, kind: SchemaJob) -> Progress {
        let volume = self.volume.uid.as_deref().unwrap_or_default();
        migration::progress(kind, self.stack, self.children, self.target, volume, self.now)
    }

    /// What the target's migration would do, once it was found out.
    #[must_use]
    pub fn plan(&self) -> Option<&MigrationPlan> {
        let rollout = self.status.rollout.as_ref();
        rollout.filter(|rollout| rollout.revision.as_deref() == Some(self.target))?.plan.as_ref()
    }
}

/// The database's volume as it was observed, with what is written on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its UID; `None` until it exists.
    pub uid: Option<String>,
    /// The annotation `rules-gate`.
    pub rules_gate: Option<String>,
}

/// Value of the annotation `rules-gate` until the gate is passed.
pub const PENDING: &str = "Pending";
/// Value of the annotation `rules-gate` afterwards.
pub const PASSED: &str = "Passed";

/// The server of `component` runs, as the spec wants it.
#[must_use]
pub fn server(view: &View<'_>, component: Component) -> Gate {
    let inputs = match component {
        Component::Database => view.stack.database.managed().map(|server| &server.inputs),
        _ => view.stack.redis.managed().map(|server| &server.inputs),
    };
    inputs.map_or(Gate::Open, |inputs| component_gate(view, component, &revision::of_server(inputs), None))
}

/// The credentials that the spec asks for are live.
#[must_use]
pub fn credentials(view: &View<'_>) -> Gate {
    view.credentials.waits.clone().unwrap_or(Gate::Open)
}

/// `component` runs the target revision, and nothing else of it is left but pods that terminate.
#[must_use]
pub fn application(view: &View<'_>, component: Component) -> Gate {
    component_gate(view, component, view.target, Some(view.target))
}

/// Wanted pods of `component`: live, never part of a revision. While a new database is seeded there
/// is one ai-service: two that start together seed twice.
#[must_use]
pub fn replicas(stack: &Stack, component: Component, seeding: bool) -> i32 {
    match component {
        Component::AiService if seeding => 1,
        Component::AiService => stack.components.ai_service.replicas,
        Component::Worker => stack.components.worker.replicas,
        Component::Dashboard => stack.components.dashboard.replicas,
        Component::Database | Component::Redis | Component::Beat => 1,
    }
}

/// `of_pods`: the revision label of the pods that count.
fn component_gate(view: &View<'_>, component: Component, target: &str, of_pods: Option<&str>) -> Gate {
    let name = view.stack.child(component.name());
    let key = view.stack.key(component.kind(), component.name());
    let Some(workload) = workload::observed(view.children, component, &name) else {
        return Gate::wait(reasons::PROGRESSING, format!("{} is created", component.name()));
    };
    let old_login = component.runs_ai_service_image() && generation(&workload) != view.credentials.generation();
    let Workload { meta, counts, refused, .. } = workload;
    let wanted = replicas(view.stack, component, seeding(view.stack, view.status, view.volume));
    if revision::label(meta) != Some(target) || counts.wanted != wanted || view.children.behind.contains(&key) {
        return Gate::wait(reasons::PROGRESSING, format!("{} is updated", component.name()));
    }
    if old_login {
        return Gate::wait(reasons::PROGRESSING, format!("{} is restarted with the new credentials", component.name()));
    }
    if counts.settled() {
        return Gate::Open;
    }
    let matters = |pod: &Pod| of_pods.is_none() || revision::label(&pod.metadata) == of_pods;
    let trouble = pods::trouble(view.children, component.name(), matters, view.now).or(refused);
    if let Some(Trouble { reason, message }) = trouble {
        return Gate::Wait { reason: reason.to_owned(), message };
    }
    let waiting_for = view.agents.explain(component).map(|why| format!(": {why}")).unwrap_or_default();
    let Counts { available, wanted, .. } = counts;
    let name = component.name();
    let message = if available >= wanted {
        format!("the new pods of {name} are not ready yet, the old ones serve{waiting_for}")
    } else {
        format!("{name} has {available} of {wanted} pods ready{waiting_for}")
    };
    Gate::wait(reasons::POD_NOT_READY, message)
}

/// The target's image is known, and this very database is at its schema or, after a step back to an
/// older image, beyond it.
#[must_use]
pub fn migrated(view: &View<'_>) -> bool {
    let Some(entry) = view.entry().filter(|entry| !entry.schema_heads.is_empty()) else { return false };
    let Some(database) = view.status.database.as_ref() else { return false };
    let same = database.volume_uid.is_some() && database.volume_uid == view.volume.uid;
    let at = database.schema_revision.iter().flat_map(|all| all.split(','));
    let at: BTreeSet<&str> = at.filter(|revision| !revision.is_empty()).collect();
    let heads: BTreeSet<&str> = entry.schema_heads.iter().map(String::as_str).collect();
    // An image with too many revisions reports none.
    let known = |it: &&str| entry.known_revisions.is_empty() || entry.known_revisions.iter().any(|known| known == it);
    let beyond = at.iter().any(|it| !known(it));
    let needed = view.plan().is_some_and(|plan| plan.needed);
    same && !needed && !at.is_empty() && (at == heads || beyond)
}

/// What the migration would do is known. On a first install nobody is asked, and where no new revision
/// comes the migrate Job finds out by itself.
#[must_use]
pub fn plan(view: &View<'_>) -> Gate {
    let current = view.status.current_revision.as_deref();
    if current.is_none_or(|current| current == view.target) || view.plan().is_some() || migrated(view) {
        return Gate::Open;
    }
    schema_job(view.progress(SchemaJob::Plan), reasons::PLANNING, reasons::PLAN_FAILED)
}

/// The schema is what the target's image needs, as its Job found or made it.
#[must_use]
pub fn migration(view: &View<'_>) -> Gate {
    if migrated(view) {
        return Gate::Open;
    }
    schema_job(view.progress(SchemaJob::Migrate), reasons::MIGRATING, reasons::MIGRATION_FAILED)
}

fn schema_job(progress: Progress, routine: &str, failed: &str) -> Gate {
    match progress {
        Progress::Succeeded(_) => Gate::wait(routine, "the Job's result is recorded"),
        Progress::Start { failure: None, .. } => Gate::wait(routine, "the Job is started"),
        Progress::Running { trouble, message, .. } => Gate::wait(trouble.unwrap_or(routine), message),
        Progress::Start { failure: Some(message), .. } | Progress::Pause { failure: message } => {
            Gate::wait(failed, message)
        }
        Progress::Refused { reason, message } => Gate::Blocked { reason, message },
    }
}

/// A new database's rules were seeded, and are not disabled yet although they shall be.
#[must_use]
pub fn seeding(stack: &Stack, status: &OdooAiStackStatus, volume: &Volume) -> bool {
    // The volume remembers for a stack that was deleted before its gate.
    let pending = seeded(status) || volume.rules_gate.as_deref() == Some(PENDING);
    pending && !seeds_disabled(status) && stack.unmanaged_rules != UnmanagedRules::Ignore
}

/// A migrate Job of this stack found the rules table empty: what is in it since, was seeded.
#[must_use]
pub fn seeded(status: &OdooAiStackStatus) -> bool {
    status.history.iter().any(|entry| entry.rules_empty == Some(true))
}

/// The rules gate was passed.
#[must_use]
pub fn seeds_disabled(status: &OdooAiStackStatus) -> bool {
    status.rules.as_ref().is_some_and(|rules| rules.seeded_disabled)
}

/// The rules that a new database was seeded with are off before anything acts on them.
#[must_use]
pub fn rules(view: &View<'_>) -> Gate {
    if seeding(view.stack, view.status, view.volume) {
        Gate::wait(reasons::PROGRESSING, "the automation rules that the application seeded are disabled")
    } else {
        Gate::Open
    }
}

/// The revision was watched for long enough.
#[must_use]
pub fn watch(view: &View<'_>) -> Gate {
    if view.status.current_revision.as_deref() == Some(view.target) {
        return Gate::Open;
    }
    let rollout = view.stack.rollout;
    let samples = view.status.rollout.as_ref().map_or(0, |rollout| rollout.samples);
    let wanted = samples_wanted(rollout.watch_duration, rollout.watch_period);
    if samples >= wanted {
        return Gate::Open;
    }
    Gate::wait(reasons::WATCHING, format!("all components run; {wanted} good samples in a row end the watch"))
}

fn samples_wanted(duration: i32, period: i32) -> i32 {
    (duration + period - 1) / period
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(10, 5, 2)]
    #[case(11, 5, 3)]
    #[case(1, 1, 1)]
    fn the_watch_counts_samples(#[case] duration: i32, #[case] period: i32, #[case] samples: i32) {
        assert_eq!(samples_wanted(duration, period), samples);
    }
}
