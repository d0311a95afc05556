//! Which revision is brought in: that of the spec, or, where it failed, one that ran before. What is decided
//! is in the status, so that an operator that dies goes on where it was.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::{
    FailureOutcome, Mode, OdooAiStackStatus, RevisionHistory, RevisionResult, RolloutFailure, RolloutStatus,
};

use super::failure::Failure;
use super::requests::Requests;
use super::watch;

/// Where a stack goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// To the revision of the spec.
    Forward,
    /// Back to this one.
    Back(String),
    /// Nowhere: what serves is kept.
    Stay(RolloutFailure),
}

/// The course that the status prescribes for the revision of the spec.
#[must_use]
pub fn of(status: &OdooAiStackStatus, mode: Mode) -> Course {
    let Some(failure) = &status.failure else { return Course::Forward };
    let automatic = || status.current_revision.clone().filter(|_| mode == Mode::Automatic);
    match failure.outcome {
        FailureOutcome::RollbackFailed => Course::Stay(failure.clone()),
        _ => match failure.back_to.clone().or_else(automatic) {
            Some(to) => Course::Back(to),
            None => Course::Stay(failure.clone()),
        },
    }
}

/// Forgets the failure of another revision than `wanted`, and does what was asked for by annotation, once.
pub fn heed(status: &mut OdooAiStackStatus, wanted: &str, requests: Requests<'_>, now: Timestamp) {
    if status.failure.as_ref().is_some_and(|failure| failure.revision != wanted) {
        status.failure = None;
        status.failed_revision = None;
    }
    let handled = status.last_handled.clone().unwrap_or_default();
    if let Some(token) = requests.retry.filter(|token| handled.retry_requested_at.as_deref() != Some(*token)) {
        status.last_handled.get_or_insert_default().retry_requested_at = Some(token.to_owned());
        if status.failure.take().is_some() {
            status.failed_revision = None;
            again(status, wanted, now);
        } else if let Some(rollout) = status.rollout.as_mut().filter(|rollout| watch::is_inconclusive(rollout)) {
            rollout.interruptions = 0;
            rollout.samples = 0;
        }
    }
    if let Some(token) = requests.rollback.filter(|token| handled.rollback_requested_at.as_deref() != Some(*token)) {
        let target = requested(status, wanted, requests.rollback_to);
        let handled = status.last_handled.get_or_insert_default();
        handled.rollback_requested_at = Some(token.to_owned());
        handled.rollback_refused = target.as_ref().err().map(|why| why.chars().take(1000).collect());
        if let Ok(to) = target {
            let message = format!("the annotations asked for revision {to}");
            fail(status, wanted, (None, reasons::ROLLBACK_REQUESTED.to_owned(), message), Some(to), now);
        }
    }
}

/// The revision that a person asks for; where none is named the one that runs, or that ran before it.
///
/// # Errors
/// Why there is no way to it.
fn requested(status: &OdooAiStackStatus, wanted: &str, named: Option<&str>) -> Result<String, String> {
    let ran = |entry: &&RevisionHistory| matches!(entry.result, Some(RevisionResult::Succeeded));
    let all = || status.history.iter().filter(ran).map(|entry| entry.revision.as_str()).filter(|it| *it != wanted);
    let list = || all().collect::<Vec<_>>().join(", ");
    match named {
        None => {
            let current = status.current_revision.as_deref();
            let to = current.filter(|current| *current != wanted).or_else(|| all().next());
            to.map(str::to_owned).ok_or_else(|| "no other revision has run yet".to_owned())
        }
        Some(to) if to == wanted => Err(format!(
            "revision {to} is the one that the spec asks for: change the spec, or ask for a retry; others that ran: {}",
            list()
        )),
        Some(to) if all().any(|it| it == to) => Ok(to.to_owned()),
        Some(to) => Err(format!("revision {to} is not in status.history as Succeeded; those that are: {}", list())),
    }
}

/// A retry needs no approval: the one before counts.
fn again(status: &mut OdooAiStackStatus, wanted: &str, now: Timestamp) {
    let Some(entry) = status.history.iter_mut().find(|entry| entry.revision == wanted) else { return };
    entry.result = Some(RevisionResult::InProgress);
    entry.completed_at = None;
    status.rollout = Some(RolloutStatus {
        revision: Some(wanted.to_owned()),
        started_at: Some(Time(now)),
        approved_by: Some(entry.approved_by.clone().unwrap_or_else(|| super::approval::UNVERIFIED.to_owned())),
        migration_approved: true,
        ..RolloutStatus::default()
    });
}

/// Writes down that `wanted` failed. A failure on the way back is the end of it.
pub fn note(status: &mut OdooAiStackStatus, wanted: &str, failure: Failure, back: bool, mode: Mode, now: Timestamp) {
    let Failure { step, reason, message } = failure;
    if back {
        if let Some(failure) = &mut status.failure {
            failure.outcome = FailureOutcome::RollbackFailed;
            let to = failure.back_to.as_deref().unwrap_or("the one before");
            let also =
                format!("{}; and revision {to} failed too, at step {step}: {reason}: {message}", failure.message);
            failure.message = also.chars().take(4000).collect();
        }
        status.rollout = None;
        return;
    }
    let back_to = status.current_revision.clone().filter(|_| mode == Mode::Automatic);
    fail(status, wanted, (Some(step), reason, message), back_to, now);
}

type Cause = (Option<odoo_ai_crds::stack::Step>, String, String);

fn fail(status: &mut OdooAiStackStatus, wanted: &str, cause: Cause, back_to: Option<String>, now: Timestamp) {
    let (step, reason, message) = cause;
    status.failed_revision = Some(wanted.to_owned());
    status.failure = Some(RolloutFailure {
        revision: wanted.to_owned(),
        step,
        reason,
        message: message.chars().take(2000).collect(),
        failed_at: Some(Time(now)),
        outcome: if back_to.is_some() { FailureOutcome::RollingBack } else { FailureOutcome::Left },
        back_to,
    });
    status.rollout = None;
    if let Some(entry) = status.history.iter_mut().find(|entry| entry.revision == wanted) {
        entry.result = Some(RevisionResult::Failed);
        entry.completed_at = Some(Time(now));
    }
}

/// The way back to `to` begins, once.
pub fn begin(status: &mut OdooAiStackStatus, to: &str, now: Timestamp) {
    let under_way = status.rollout.as_ref().is_some_and(|it| it.rollback && it.revision.as_deref() == Some(to));
    let Some(failure) = &mut status.failure else { return };
    if failure.outcome == FailureOutcome::RolledBack || under_way {
        return;
    }
    failure.outcome = FailureOutcome::RollingBack;
    failure.back_to = Some(to.to_owned());
    status.rollout = Some(RolloutStatus {
        revision: Some(to.to_owned()),
        started_at: Some(Time(now)),
        rollback: true,
        ..RolloutStatus::default()
    });
}

/// The way back is done.
pub fn done(status: &mut OdooAiStackStatus, now: Timestamp) {
    let Some(failure) = &mut status.failure else { return };
    if failure.outcome != FailureOutcome::RollingBack {
        return;
    }
    failure.outcome = FailureOutcome::RolledBack;
    if let Some(entry) = status.history.iter_mut().find(|entry| entry.revision == failure.revision) {
        entry.result = Some(RevisionResult::RolledBack);
        entry.completed_at = Some(Time(now));
    }
}
