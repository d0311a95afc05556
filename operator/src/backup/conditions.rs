//! What the conditions say. Plain; the reasons are the API crate's, and those of the agent where a run failed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::backup::{Attempt, BackupStatus, RunResult, RunTask};
use odoo_ai_crds::conditions::{reasons, types};

use super::decide::Decision;
use super::model::Policy;
use super::observe::Observed;
use crate::cluster::status::{Tri, Verdict};

/// A condition to set, or to take away.
pub type Said = (&'static str, Option<Verdict>);

/// All conditions of a Backup.
#[must_use]
pub fn all(seen: &Observed, decision: &Decision, failed: Option<Verdict>) -> Vec<Said> {
    let status = &decision.status;
    let mut said = vec![(types::LAST_BACKUP_SUCCEEDED, Some(last_backup(status)))];
    let ready = match &decision.policy {
        Err(problem) => Verdict::new(false, problem.reason, problem.message.clone()),
        Ok(policy) => {
            let (fresh, verified) = (fresh(policy, status, seen.now), verified(policy, seen, status));
            said.push((types::FRESH, Some(fresh.clone())));
            said.push((types::VERIFIED, Some(verified.clone())));
            said.push((types::OFFSITE_COPIED, offsite(policy, status)));
            failed.unwrap_or_else(|| ready(policy, decision, &fresh, &verified))
        }
    };
    said.push((types::STALLED, Some(stalled(decision, &ready))));
    said.push((types::READY, Some(ready)));
    said
}

fn ready(policy: &Policy, decision: &Decision, fresh: &Verdict, verified: &Verdict) -> Verdict {
    let status = &decision.status;
    if let Some(trouble) = &decision.trouble {
        return Verdict::new(false, trouble.reason, trouble.message.clone());
    }
    if let Some(why) = &decision.unreadable {
        let message = format!("what is in the storage ({}) can't be read: {why}", policy.storage.location());
        return Verdict::new(false, reasons::CATALOGUE_UNREADABLE, message);
    }
    let last = last_backup(status);
    if last.status == Tri::False {
        let reason = if status.last_attempt.as_ref().is_some_and(|run| run.refused) {
            last.reason.as_str()
        } else {
            reasons::BACKUP_FAILED
        };
        return Verdict::new(false, reason, last.message);
    }
    let unproven = verified.status == Tri::False && verified.reason != reasons::VERIFICATION_TOO_OLD;
    if unproven && status.last_success.is_some() {
        return Verdict::new(false, reasons::VERIFICATION_FAILED, verified.message.clone());
    }
    let reading = status.catalogue.as_ref().is_none_or(|it| it.read_at.is_none());
    if reading {
        let message = format!("what is in the storage ({}) is being read", policy.storage.location());
        return Verdict::new(Tri::Unknown, reasons::READING_CATALOGUE, message);
    }
    if policy.suspended {
        return Verdict::new(Tri::Unknown, reasons::SUSPENDED, "spec.suspend is true: nothing runs by its schedule");
    }
    if fresh.reason == reasons::NO_BACKUP_YET && status.missed_runs == 0 {
        return Verdict { status: Tri::Unknown, ..fresh.clone() };
    }
    if fresh.status != Tri::True {
        return fresh.clone();
    }
    let host = if policy.storage.is_on_this_host_only() {
        "; it is on this host only and does not survive it: add storage.s3"
    } else {
        ""
    };
    let damaged = status.catalogue.as_ref().map_or(0, |it| it.damaged);
    let damaged = if damaged > 0 { format!("; {damaged} in the catalogue are damaged") } else { String::new() };
    Verdict::new(true, reasons::BACKED_UP, format!("{}{host}{damaged}", fresh.message))
}

/// A problem that only a person can change, or a run that was refused.
fn stalled(decision: &Decision, ready: &Verdict) -> Verdict {
    let of_spec = decision.policy.as_ref().is_err_and(|problem| problem.stalled);
    let of_run = decision.policy.is_ok()
        && ready.status == Tri::False
        && decision.status.last_attempt.as_ref().is_some_and(|run| run.refused && run.result == RunResult::Failed);
    if of_spec || of_run || ready.reason == reasons::NAME_CONFLICT {
        return Verdict::new(true, &ready.reason, ready.message.clone());
    }
    Verdict::new(false, reasons::PROGRESSING, "nothing keeps backups from being made")
}

fn last_backup(status: &BackupStatus) -> Verdict {
    let mut ended = ended(status, RunTask::Backup);
    match (ended.next(), &status.last_success) {
        (Some(run), _) if run.result == RunResult::Failed => {
            let word = run.failure.as_deref().unwrap_or(reasons::BACKUP_FAILED);
            let message = format!("Job {} failed: {}", run.job, run.message.as_deref().unwrap_or("it left no message"));
            Verdict::new(false, word, message)
        }
        (Some(run), _) => {
            let message = run.message.clone().unwrap_or_else(|| format!("Job {} succeeded", run.job));
            Verdict::new(true, reasons::BACKUP_SUCCEEDED, message)
        }
        (None, Some(success)) => {
            Verdict::new(true, reasons::BACKUP_SUCCEEDED, format!("backup {} is in the catalogue", success.id))
        }
        (None, None) => Verdict::new(Tri::Unknown, reasons::NO_BACKUP_YET, "no backup was made yet"),
    }
}

fn fresh(policy: &Policy, status: &BackupStatus, now: Timestamp) -> Verdict {
    let Some(success) = &status.last_success else {
        let next = policy.schedule.after(now).map(|next| format!("the first comes at {next}; ")).unwrap_or_default();
        let message =
            format!("there is no backup yet: {next}for one now, annotate {} with backup-requested-at", policy.name);
        let status = if policy.suspended { Tri::Unknown } else { Tri::False };
        return Verdict::new(status, reasons::NO_BACKUP_YET, message);
    };
    let completed = success.completed_at.as_ref().map_or(Timestamp::MIN, |time| time.0);
    let size = success.size.as_deref().unwrap_or("of unknown size");
    let last = format!("the last backup, {} ({size}), is of {completed}", success.id);
    if policy.suspended {
        return Verdict::new(Tri::Unknown, reasons::SUSPENDED, format!("spec.suspend is true; {last}"));
    }
    if fresh_until(policy, completed).is_none_or(|until| now < until) {
        return Verdict::new(true, reasons::UP_TO_DATE, last);
    }
    let missed = match status.missed_runs {
        0 => String::new(),
        missed => format!(", and {missed} scheduled times passed without a run"),
    };
    let message = format!("{last}, older than the schedule {:?} allows{missed}", policy.schedule.text());
    Verdict::new(false, reasons::BACKUP_TOO_OLD, message)
}

/// Until when a backup of this moment is fresh.
#[must_use]
pub fn fresh_until(policy: &Policy, completed: Timestamp) -> Option<Timestamp> {
    policy.schedule.fresh_until(completed, policy.timeout)
}

fn verified(policy: &Policy, seen: &Observed, status: &BackupStatus) -> Verdict {
    let last = status.last_verified.as_ref();
    let completed = last.and_then(|it| it.completed_at.as_ref()).map(|time| time.0);
    let failed = ended(status, RunTask::Verification).next().filter(|run| run.result == RunResult::Failed);
    if let Some(run) = failed.filter(|run| run.completed_at.as_ref().map(|it| it.0) > completed) {
        let word = run.failure.as_deref().unwrap_or(reasons::VERIFICATION_FAILED);
        let message = format!("Job {} failed: {}", run.job, run.message.as_deref().unwrap_or("it left no message"));
        return Verdict::new(false, word, message);
    }
    let age = SignedDuration::from_secs(policy.verification_max_age.into());
    let created = seen.object.metadata.creation_timestamp.as_ref().map_or(seen.now, |time| time.0);
    let Some((last, completed)) = last.zip(completed) else {
        let message = "no backup was restored as a test yet; for one now, annotate it with verify-requested-at";
        if created + age < seen.now {
            return Verdict::new(false, reasons::VERIFICATION_TOO_OLD, message);
        }
        return Verdict::new(Tri::Unknown, reasons::NOT_VERIFIED_YET, message);
    };
    let seconds = last.restore_seconds.unwrap_or_default();
    let message = format!("backup {} was restored completely in {seconds} s on {completed}", last.id);
    if completed + age < seen.now {
        let message = format!("{message}, longer ago than verification.maxAgeSeconds allows");
        return Verdict::new(false, reasons::VERIFICATION_TOO_OLD, message);
    }
    Verdict::new(true, reasons::VERIFIED, message)
}

/// Where the last good run left its copy; `None`: there is no bucket.
fn offsite(policy: &Policy, status: &BackupStatus) -> Option<Verdict> {
    policy.storage.bucket.as_ref()?;
    if policy.storage.volume.is_none() {
        return Some(match &status.last_success {
            Some(_) => Verdict::new(true, reasons::COPIED, "backups are made in the bucket"),
            None => Verdict::new(Tri::Unknown, reasons::NOT_COPIED_YET, "there is no backup yet"),
        });
    }
    let run = ended(status, RunTask::Backup).find(|run| run.copied.is_some());
    Some(match run {
        Some(run) if run.copied == Some(true) => {
            Verdict::new(true, reasons::COPIED, "the bucket has what the volume has")
        }
        Some(run) => Verdict::new(
            false,
            reasons::COPY_FAILED,
            format!("Job {}: {}", run.job, run.message.as_deref().unwrap_or_default()),
        ),
        None => Verdict::new(Tri::Unknown, reasons::NOT_COPIED_YET, "no run has copied anything yet"),
    })
}

/// Runs that ended, the last one first.
fn ended(status: &BackupStatus, task: RunTask) -> impl Iterator<Item = &Attempt> {
    let mut ended: Vec<_> =
        status.runs.iter().filter(|run| run.task == task && run.result != RunResult::Running).collect();
    let at = |run: &Attempt| run.completed_at.as_ref().map(|Time(at)| *at);
    ended.sort_by_key(|run| std::cmp::Reverse(at(run)));
    ended.into_iter()
}
