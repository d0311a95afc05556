//! Gates: has a step reached its end? Pure functions of what was observed.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::{MigrationPlan, OdooAiStackStatus, RevisionHistory, UnmanagedRules};

use super::approval::Approval;
use super::credentials::{Standing, generation};
use super::jobs::Progress;
use super::migration;
use super::pods::{self, Trouble};
use super::revision;
use super::workload::{self, Counts, Workload};
use crate::cluster::children::Children;
use crate::component::{Component, ComponentExt};
use crate::restore::source::Source;
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
    /// The revision has failed: waiting changes nothing.
    Failed {
        /// Condition reason.
        reason: String,
        /// What is wrong, where, and what to do.
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

    /// A gate that stays shut until somebody acts.
    pub fn blocked(reason: &str, message: impl Into<String>) -> Self {
        Self::Blocked { reason: reason.to_owned(), message: message.into() }
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
    /// The target ran before and is put back.
    pub back: bool,
    /// What a person approved.
    pub approval: Approval<'a>,
    /// The Backup that the spec names.
    pub backup: Option<&'a Backup>,
    /// Where an empty database gets its first data from, while somebody has to look into it.
    pub source: Option<&'a Source>,
    /// Settings that the target changes, by name.
    pub changed: &'a [String],
    /// The children.
    pub children: &'a Children,
    /// What the agents said.
    pub agents: &'a Agents,
    /// The revision that the spec asks for.
    pub target: &'a str,
    /// The database's volume.
    pub volume: &'a Volume,
    /// Since when this operator acts.
    pub leading_since: Timestamp,
    /// Now.
    pub now: Timestamp,
}

impl View<'_> {
    /// The target's history entry.
    #[must_use]
    pub fn entry(&self) -> Option<&RevisionHistory> {
        self.status.history.iter().find(|entry| entry.revision == self.target)
    }

    /// The target passed its watch before: what runs now is it.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.status.current_revision.as_deref() == Some(self.target)
    }

    /// Nothing was ever brought in.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.status.current_revision.is_none()
    }

    /// When the target's rollout began, in full seconds as the status keeps them.
    #[must_use]
    pub fn began(&self) -> Option<Timestamp> {
        let rollout = self.status.rollout.as_ref().filter(|it| it.revision.as_deref() == Some(self.target))?;
        Timestamp::from_second(rollout.started_at.as_ref()?.0.as_second()).ok()
    }

    /// Which rollout of the target this is: when it started. Empty outside of one.
    #[must_use]
    pub fn rollout(&self) -> String {
        self.began().map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
    }

    /// Where a Job of the target that looks at the schema stands.
    #[must_use]
    pub fn progress(&self, kind: SchemaJob) -> Progress {
        migration::progress(kind, self)
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
    /// UID of its claim; `None` until it exists.
    pub claim: Option<String>,
    /// Which database is on it; `None` until it exists.
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
    inputs.map_or(Gate::Open, |inputs| component_gate(view, component, &revision::of_server(inputs)))
}

/// The credentials that the spec asks for are live.
#[must_use]
pub fn credentials(view: &View<'_>) -> Gate {
    view.credentials.waits.clone().unwrap_or(Gate::Open)
}

/// `component` runs the target revision, and nothing else of it is left but pods that terminate.
#[must_use]
pub fn application(view: &View<'_>, component: Component) -> Gate {
    component_gate(view, component, view.target)
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

fn component_gate(view: &View<'_>, component: Component, target: &str) -> Gate {
    let name = view.stack.child(component.name());
    let key = view.stack.key(component.kind(), component.name());
    let Some(workload) = workload::observed(view.children, component, &name) else {
        return Gate::wait(reasons::PROGRESSING, format!("{} is created", component.name()));
    };
    let old_login = component.runs_ai_service_image() && generation(&workload) != view.credentials.generation();
    // Pods of the template that is wanted now; the data servers' are of no revision.
    let of_pods = workload.introduced();
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
    match trouble {
        // What ended before a retry was asked for says nothing about it.
        Some(Trouble { reason, message, fatal: true, ended_at })
            if of_pods.is_some() && ended_at.is_none_or(|at| view.began().is_none_or(|began| began <= at)) =>
        {
            return Gate::Failed { reason: reason.to_owned(), message };
        }
        Some(Trouble { reason, message, .. }) => return Gate::Wait { reason: reason.to_owned(), message },
        None => {}
    }
    let why = pods::last_end(view.children, component.name(), matters).or_else(|| view.agents.explain(component));
    let waiting_for = why.map(|why| format!(": {why}")).unwrap_or_default();
    let Counts { available, wanted, .. } = counts;
    let name = component.name();
    let message = if available >= wanted {
        format!("the new pods of {name} are not ready yet, the old ones serve{waiting_for}")
    } else {
        format!("{name} has {available} of {wanted} pods ready{waiting_for}")
    };
    Gate::wait(reasons::POD_NOT_READY, message)
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
