//! The step Checks: the user's own tests of a revision, one Job after the other. What has passed is in the
//! status; what failed makes the revision fail.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::PassedCheck;
use serde_json::json;

use super::gates::{Gate, View};
use super::{jobs, pods};
use crate::cluster::children::Children;
use crate::cluster::intent::{Key, hash};
use crate::stack::build::check::COMPONENT;
use crate::stack::model::{Check, Stack};

/// Characters of what a check wrote about itself that are shown.
const SHOWN: usize = 300;

/// The Job of a check to create.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckRun {
    /// What it runs.
    pub check: Check,
    /// Its name without the stack's.
    pub suffix: String,
}

/// Where a check stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// A Job must be created, with this number.
    Start(u32),
    /// It runs, or can't begin to.
    Running { trouble: Option<&'static str>, message: String },
    /// It ended with exit code 0.
    Passed { job: String, message: String },
    /// It failed.
    Failed(String),
    /// It failed on a first install, and is tried again after a pause.
    Pause(String),
}

/// All checks have passed.
#[must_use]
pub fn gate(view: &View<'_>) -> Gate {
    if view.is_current() {
        return Gate::Open;
    }
    let Some((number, check)) = next(view) else { return Gate::Open };
    let which = format!("check {} ({number} of {})", check.name, view.stack.checks.len());
    match state(view, check) {
        State::Start(_) => Gate::wait(reasons::CHECKING, format!("{which} is started")),
        State::Running { trouble, message } => {
            Gate::wait(trouble.unwrap_or(reasons::CHECKING), format!("{which}: {message}"))
        }
        State::Passed { .. } => Gate::wait(reasons::CHECKING, format!("the result of {which} is recorded")),
        State::Failed(why) => {
            Gate::Failed { reason: reasons::CHECK_FAILED.to_owned(), message: format!("{which} failed: {why}") }
        }
        State::Pause(why) => Gate::wait(reasons::CHECK_FAILED, format!("{which} failed and is run again soon: {why}")),
    }
}

/// The check that has passed now and isn't recorded yet.
#[must_use]
pub fn passed(view: &View<'_>) -> Option<PassedCheck> {
    let (_, check) = next(view).filter(|_| is_due(view))?;
    let State::Passed { job, message } = state(view, check) else { return None };
    Some(PassedCheck { name: check.name.clone(), job, message, passed_at: Some(Time(view.now)) })
}

/// The Job to create now.
#[must_use]
pub fn wanted(view: &View<'_>) -> Option<CheckRun> {
    let (_, check) = next(view).filter(|_| is_due(view))?;
    let State::Start(attempt) = state(view, check) else { return None };
    Some(CheckRun { check: check.clone(), suffix: format!("{}{attempt}", prefix(view, check)) })
}

/// Unfinished Jobs of checks that nobody waits for any more.
#[must_use]
pub fn obsolete(view: &View<'_>) -> Vec<(Key, String)> {
    let View { stack, children, .. } = *view;
    let due = stack.checks.iter().filter(|_| is_due(view)).map(|check| stack.child(&prefix(view, check)));
    let due: Vec<_> = due.collect();
    jobs::obsolete(stack, children, COMPONENT, |name, job| {
        !jobs::is_owned(job, stack) || due.iter().any(|prefix| name.starts_with(prefix.as_str()))
    })
}

/// A revision comes in. What ran before isn't checked again.
fn is_due(view: &View<'_>) -> bool {
    !view.back && !view.is_current()
}

/// The first check that hasn't passed, and its number.
fn next<'a>(view: &View<'a>) -> Option<(usize, &'a Check)> {
    let passed = view.status.rollout.as_ref().map(|rollout| rollout.checks.as_slice()).unwrap_or_default();
    let has_passed = |check: &Check| {
        let prefix = view.stack.child(&prefix(view, check));
        passed.iter().any(|it| it.job.starts_with(&prefix))
    };
    let stack: &'a Stack = view.stack;
    (1..).zip(&stack.checks).find(|(_, check)| !has_passed(check))
}

/// Name of the Jobs of a check without the stack's, the number of the attempt follows. A changed check is another
/// one, and each rollout has its own.
fn prefix(view: &View<'_>, check: &Check) -> String {
    format!("{COMPONENT}-{:.10}-", hash(&json!([view.target, view.rollout(), check.inputs])))
}

fn state(view: &View<'_>, check: &Check) -> State {
    let View { stack, children, now, .. } = *view;
    let prefix = stack.child(&prefix(view, check));
    let number = |name: &str| name.strip_prefix(&prefix)?.parse::<u32>().ok();
    let ours = children.jobs.iter().filter(|(_, job)| jobs::is_owned(job, stack));
    let newest = ours.filter_map(|(name, job)| Some((number(name)?, name, job))).max_by_key(|(number, ..)| *number);
    let Some((attempt, name, job)) = newest else { return State::Start(1) };
    let Some(end) = jobs::ended(job, now) else {
        let found = pods::trouble(children, COMPONENT, |pod| jobs::belongs(pod, job), now);
        let (trouble, message) = found.map_or_else(
            || (None, format!("Job {name} runs, for {} s at most", check.timeout)),
            |it| (Some(it.reason), it.message),
        );
        return State::Running { trouble, message };
    };
    let said = last_end(children, job);
    if end.well {
        return State::Passed { job: name.clone(), message: said.as_ref().map(words).unwrap_or_default() };
    }
    if was_interrupted(view, job) {
        return match view.status.rollout.as_ref().and_then(|rollout| rollout.interrupted_at.as_ref()) {
            Some(_) => State::Running { trouble: None, message: "it is run again: it was interrupted".to_owned() },
            None => State::Start(attempt + 1),
        };
    }
    let why = failure(check, name, end.late, said.as_ref());
    match end.at.duration_until(now) >= jobs::pause(attempt) {
        _ if !view.is_first() => State::Failed(why),
        true => State::Start(attempt + 1),
        false => State::Pause(why),
    }
}

/// Something around the revision was away while the Job existed: its failure says nothing.
fn was_interrupted(view: &View<'_>, job: &Job) -> bool {
    let Some(rollout) = &view.status.rollout else { return false };
    let created = job.metadata.creation_timestamp.as_ref().map(|at| at.0);
    let last = rollout.last_interrupted_at.as_ref().map(|at| at.0);
    rollout.interrupted_at.is_some() || last.is_some_and(|last| created.is_some_and(|created| created < last))
}

fn failure(check: &Check, job: &str, late: bool, said: Option<&ContainerStateTerminated>) -> String {
    let log = format!("see kubectl logs job/{job}");
    if late {
        return format!("it took longer than its timeoutSeconds ({}) and was ended; {log}", check.timeout);
    }
    let Some(end) = said else { return format!("its pod is gone; {log}") };
    if end.reason.as_deref() == Some("OOMKilled") {
        return format!("it used more memory than its limit: raise its resources.limits.memory; {log}");
    }
    let words = words(end);
    let words = if words.is_empty() { words } else { format!(": {words}") };
    format!("exit code {}{words}; {log}", end.exit_code)
}

/// What a check wrote about itself, as one line. Never its log, which may hold anything.
fn words(end: &ContainerStateTerminated) -> String {
    let text = end.message.as_deref().unwrap_or_default();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|character| !character.is_control()).take(SHOWN).collect()
}

/// How the last pod of the Job ended.
fn last_end(children: &Children, job: &Job) -> Option<ContainerStateTerminated> {
    let end = |pod: &Pod| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        statuses.iter().find(|it| it.name == COMPONENT)?.state.as_ref()?.terminated.clone()
    };
    let pods = children.pods_of(COMPONENT).filter(|pod| jobs::belongs(pod, job));
    pods.filter_map(end).max_by_key(|end| end.finished_at.as_ref().map(|at| at.0))
}
