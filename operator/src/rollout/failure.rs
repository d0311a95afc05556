//! Has the revision that is brought in failed? Thresholds over what gates say and what the status keeps;
//! nothing here decides what comes of it.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::{RolloutStatus, Step};

use super::gates::{Gate, View};
use super::steps::{Position, has_deadline};
use super::watch;

/// An image that can't be pulled for so long makes a revision fail.
pub const PULL: SignedDuration = SignedDuration::from_secs(60);

/// A threshold that was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub step: Step,
    /// Condition reason of the cause.
    pub reason: String,
    /// The cause.
    pub message: String,
}

/// The failure of the target, if a threshold is met. Never on a first install: there is nothing to go back
/// to, so it keeps trying. What current pods do outside of a rollout is no failure of a revision either.
#[must_use]
pub fn of(view: &View<'_>, position: &Position) -> Option<Failure> {
    let (step, rollout) = (position.step?, view.status.rollout.as_ref()?);
    let settled = view.is_current() && !view.back;
    if view.is_first() || settled || rollout.interrupted_at.is_some() || step < Step::Plan {
        return None;
    }
    let (reason, message) = cause(view, rollout, step, &position.gate)?;
    Some(Failure { step: at(rollout, step), reason, message })
}

/// The watch goes on while a component of it stumbles.
fn at(rollout: &RolloutStatus, step: Step) -> Step {
    if rollout.step == Some(Step::Watch) { Step::Watch } else { step }
}

fn cause(view: &View<'_>, rollout: &RolloutStatus, step: Step, gate: &Gate) -> Option<(String, String)> {
    let (reason, message) = match gate {
        Gate::Failed { reason, message } => return Some((reason.clone(), message.clone())),
        Gate::Wait { reason, message } => (reason, message),
        Gate::Open | Gate::Blocked { .. } => return None,
    };
    let past = |at: Option<Timestamp>| at.is_some_and(|at| at <= view.now);
    let pulling = rollout.pull_failing_since.as_ref().map(|since| since.0 + PULL);
    if reason == reasons::IMAGE_PULL_FAILED && past(pulling) {
        return Some((reason.clone(), message.clone()));
    }
    let rules = view.stack.rollout;
    let watched = step == Step::Watch || has_deadline(step);
    if rollout.step == Some(Step::Watch) && watched && rollout.failed_samples >= rules.failure_threshold {
        let saw = rollout.bad_sample.as_ref().unwrap_or(message);
        let message = format!("{} samples of the watch in a row were bad: {saw}", rollout.failed_samples);
        return Some((reasons::HEALTH_CHECK_FAILED.to_owned(), message));
    }
    if rollout.step == Some(step) && past(watch::deadline(rollout, view.leading_since)) {
        let limit = rules.progress_deadline;
        let message = format!("not done within {limit} s (rollout.progressDeadlineSeconds): {message}");
        return Some((reasons::PROGRESS_DEADLINE_EXCEEDED.to_owned(), message));
    }
    None
}

/// When the next threshold may be met without any event.
#[must_use]
pub fn due(rollout: &RolloutStatus) -> Option<Timestamp> {
    let pull = rollout.pull_failing_since.as_ref().map(|since| since.0 + PULL);
    [pull, rollout.deadline.as_ref().map(|at| at.0)].into_iter().flatten().min()
}
