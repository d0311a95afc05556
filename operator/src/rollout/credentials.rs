//! Changed credentials: proven by a login before they become live, then taken up by one component
//! after the other.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use odoo_ai_crds::conditions::reasons;

use super::gates::Gate;
use super::jobs::{self, Progress, Work};
use super::migration;
use super::workload::{self, Workload};
use crate::cluster::children::Children;
use crate::cluster::intent::Key;
use crate::component::{APPLICATION, Component, ComponentExt};
use crate::labels;
use crate::stack::build::credentials::{self as build, COMPONENT};
use crate::stack::credentials::{Live, Values, logins_differ, unproven};
use crate::stack::model::Stack;

/// Where the credentials stand.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What the live Secret holds, or gets now; `None` while there is none and nothing is proven.
    pub live: Option<Live>,
    /// What is being proven.
    pub candidate: Option<Candidate>,
    /// What the names of the Jobs of this change begin with.
    pub prefix: Option<String>,
    /// What keeps the wanted credentials from being live; `None` where they are.
    pub waits: Option<Gate>,
}

/// Credentials that are not live yet.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its values.
    pub values: Values,
    /// Name suffix of the Job that is to run, and of the Secret that it proves.
    pub name: String,
    /// UID of that Job, once it exists; it owns the Secret that it proves.
    pub job: Option<String>,
}

impl Standing {
    /// Nothing is known of what is wanted: what is live stays.
    #[must_use]
    pub fn keep(live: Option<&Live>) -> Self {
        Self { live: live.cloned(), ..Self::default() }
    }

    /// The generation that pods shall be started with.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.live.as_ref().map_or(1, |live| live.generation)
    }
}

/// Compares what is wanted with what is live. `digest` names this change of this stack.
#[must_use]
pub fn settle(
    stack: &Stack,
    wanted: Values,
    live: Option<&Live>,
    children: &Children,
    digest: &str,
    now: Timestamp,
) -> Standing {
    let started = APPLICATION.into_iter().filter_map(|component| of(stack, children, component));
    let newest = started.map(|it| generation(&it)).max();
    if let Some(live) = live.filter(|live| live.values == wanted) {
        // Somebody may have removed the annotation.
        let generation = live.generation.max(newest.unwrap_or(1));
        return Standing { live: Some(Live { values: wanted, generation }), ..Standing::default() };
    }
    if live.is_none() && newest.is_none() {
        // A new stack: its servers start with these, and an External one is asked first.
        let values = unproven(stack, &wanted);
        let waits = Gate::wait(reasons::PROGRESSING, "the credentials are stored");
        return Standing { live: Some(Live { values, generation: 1 }), waits: Some(waits), ..Standing::default() };
    }
    let generation = live.map_or(0, |live| live.generation).max(newest.unwrap_or(0));
    let next = generation + 1;
    let prefix = build::job_prefix(next, digest);
    let full = stack.child(&prefix);
    let work = Work { prefix: &full, component: COMPONENT, does: "logs in with the new credentials", limit: "5 min" };
    // It sets the role's password when it begins: to the one that is live.
    if migration::unfinished(children).next().is_some() {
        let waits = Gate::wait(reasons::PROVING_CREDENTIALS, "the end of the migration is awaited");
        return Standing { live: live.cloned(), waits: Some(waits), ..Standing::default() };
    }
    let mut attempt = None;
    let waits = match jobs::progress(work, children, |job| jobs::is_owned(job, stack), |_| true, |_| true, now) {
        Progress::Succeeded(_) => {
            let restart = live.is_none_or(|live| logins_differ(&live.values, &wanted));
            let live = Live { values: wanted, generation: if restart { next } else { generation } };
            let waits = Gate::wait(reasons::PROGRESSING, "the proven credentials are stored");
            return Standing { live: Some(live), waits: Some(waits), ..Standing::default() };
        }
        Progress::Refused { reason, message } => Gate::Blocked { reason, message },
        Progress::Start { attempt: next, failure } => {
            attempt = Some((next, None));
            let message = failure.unwrap_or_else(|| "a login with the new credentials is tried".to_owned());
            Gate::wait(reasons::PROVING_CREDENTIALS, message)
        }
        Progress::Running { attempt: number, job, trouble, message } => {
            attempt = Some((number, job));
            Gate::wait(trouble.unwrap_or(reasons::PROVING_CREDENTIALS), message)
        }
        Progress::Pause { failure } => Gate::wait(reasons::PROVING_CREDENTIALS, failure),
    };
    let candidate = attempt.map(|(attempt, job)| Candidate { values: wanted, name: format!("{prefix}{attempt}"), job });
    Standing { live: live.cloned(), candidate, waits: Some(waits), prefix: Some(prefix) }
}

/// Unfinished Jobs of changes that nobody waits for any more, with their UIDs.
#[must_use]
pub fn obsolete(stack: &Stack, children: &Children, standing: &Standing) -> Vec<(Key, String)> {
    let prefix = standing.prefix.as_ref().map(|prefix| stack.child(prefix));
    jobs::obsolete(stack, children, COMPONENT, |name, job| {
        !jobs::is_owned(job, stack) || prefix.as_ref().is_some_and(|prefix| name.starts_with(prefix.as_str()))
    })
}

/// The generation that each component runs with: one after the other takes up the live one, each
/// when the one before it serves with it. A component that `moves` to another revision takes it too.
#[must_use]
pub fn generations(
    stack: &Stack,
    children: &Children,
    moves: impl Fn(Component) -> bool,
    live: i64,
) -> BTreeMap<Component, i64> {
    let mut turn = true;
    let mut next = |component: Component| {
        let Some(workload) = of(stack, children, component) else { return (component, live) };
        let has = generation(&workload);
        let key = stack.key(component.kind(), component.name());
        let takes = turn || moves(component);
        turn = turn && has == live && workload.counts.settled() && !children.behind.contains(&key);
        (component, if takes { live } else { has })
    };
    APPLICATION.into_iter().filter(|component| component.runs_ai_service_image()).map(&mut next).collect()
}

/// The generation that a workload's pods were started with.
#[must_use]
pub fn generation(workload: &Workload<'_>) -> i64 {
    let metadata = workload.template.and_then(|template| template.metadata.as_ref());
    let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
    let value = annotations.and_then(|all| all.get(labels::CREDENTIALS_GENERATION));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn of<'a>(stack: &Stack, children: &'a Children, component: Component) -> Option<Workload<'a>> {
    workload::observed(children, component, &stack.child(component.name()))
}
