//! What the Jobs of a Backup tell, taken into its status, each once. Plain.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use odoo_ai_crds::backup::{Attempt, BackupReason, BackupStatus, RunResult, RunTask};
use odoo_ai_crds::conditions::annotations;
use serde_json::json;

use super::build::Task;
use super::catalogue;
use crate::cluster::children::Children;
use crate::labels;
use crate::rollout::jobs::{self, Report};

/// Runs that a status remembers.
pub const REMEMBERED: usize = 20;
/// Of what came of a run.
const LONGEST: usize = 1024;
/// What a run is called that left no word.
const NO_REPORT: &str = "NoReport";

/// One Job, as it was seen.
struct Seen<'a> {
    name: &'a str,
    job: &'a Arc<Job>,
    task: RunTask,
    started: Timestamp,
    end: Option<jobs::End>,
    report: Option<Report>,
}

/// Takes into `status` what is new. What was taken once isn't again, however often the Jobs are looked at.
/// `backup`: UID of the Backup; `location`: digest of where its artifacts are now.
pub fn take(status: &mut BackupStatus, children: &Children, backup: &str, location: &str, now: Timestamp) {
    gone(status, children, now);
    let jobs = children.jobs.iter().filter(|(_, job)| is_of(job, children, backup));
    let mut seen: Vec<_> = jobs.filter_map(|(name, job)| Seen::of(name, job, children, now)).collect();
    // As they ended; those that run come last.
    seen.sort_by_key(|it| (it.end.map_or(Timestamp::MAX, |end| end.at), it.started, it.name));
    for run in seen {
        run.take(status, location, now);
    }
    status.runs.sort_by(|one, other| started(other).cmp(&started(one)).then_with(|| other.job.cmp(&one.job)));
    while status.runs.len() > REMEMBERED {
        // What runs is never forgotten: how it ends would be told to nobody.
        let oldest = status.runs.iter().rposition(|run| run.result != RunResult::Running);
        status.runs.remove(oldest.unwrap_or(status.runs.len() - 1));
    }
}

/// The last run that was to make a backup.
#[must_use]
pub fn last(status: &BackupStatus) -> Option<Attempt> {
    status.runs.iter().find(|run| run.task == RunTask::Backup).cloned()
}

/// The Job is this Backup's or one of its `CronJob`s', and not that of one that had the name before.
fn is_of(job: &Job, children: &Children, backup: &str) -> bool {
    let owned = |meta: &ObjectMeta, by: &str| meta.owner_references.iter().flatten().any(|owner| owner.uid == by);
    let schedules = children.cron_jobs.values().filter(|it| owned(&it.metadata, backup));
    let mut owners = schedules.filter_map(|it| it.metadata.uid.as_deref()).chain([backup]);
    owners.any(|owner| owned(&job.metadata, owner))
}

/// Runs whose Job somebody deleted.
fn gone(status: &mut BackupStatus, children: &Children, now: Timestamp) {
    let mut failed = 0;
    for run in &mut status.runs {
        if run.result == RunResult::Running && !children.jobs.contains_key(&run.job) {
            let message = format!("Job {} was deleted before it ended", run.job);
            end(run, now, Some(NO_REPORT), &message);
            failed += i32::from(run.task == RunTask::Backup);
        }
    }
    if failed > 0 {
        status.consecutive_failures += failed;
        catalogue::mark_stale(status, now);
    }
}

impl<'a> Seen<'a> {
    fn of(name: &'a str, job: &'a Arc<Job>, children: &Children, now: Timestamp) -> Option<Self> {
        let label = job.metadata.labels.as_ref()?.get(labels::COMPONENT)?;
        let tasks = [(Task::Backup, RunTask::Backup), (Task::Verify, RunTask::Verification)];
        let (_, task) = tasks.into_iter().find(|(task, _)| task.component() == label)?;
        let created = job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let started = job.status.as_ref().and_then(|it| it.start_time.as_ref()).map_or(created, |time| time.0);
        let report = jobs::report(job, children, label);
        Some(Self { name, job, task, started, end: jobs::ended(job, now), report })
    }

    fn take(&self, status: &mut BackupStatus, location: &str, now: Timestamp) {
        let at = status.runs.iter().position(|run| run.job == self.name);
        let known = at.map(|at| status.runs[at].result);
        if known.is_some_and(|result| result != RunResult::Running) || (known.is_none() && self.is_forgotten(status)) {
            return;
        }
        let mut run = self.attempt();
        let result = match (self.end, &self.report) {
            (Some(over), Some(report)) if over.well && report.result == "Succeeded" => {
                end(&mut run, over.at, None, &report.message);
                run.copied = report.backup.as_ref().and_then(|made| made.offsite);
                Some(RunResult::Succeeded)
            }
            // Its pod's last word may come a moment later, but not that of a pod that its Job ended.
            (Some(over), None) if !over.late && over.at.duration_until(now) < jobs::FIRST_PAUSE => None,
            (Some(over), report) => {
                let (word, message) = self.failure(over, report.as_ref());
                end(&mut run, over.at, Some(word), &message);
                run.refused = report.as_ref().is_some_and(|report| report.result == "Refused");
                Some(RunResult::Failed)
            }
            (None, _) => None,
        };
        match at {
            Some(at) => status.runs[at] = run,
            None => status.runs.push(run),
        }
        let Some(result) = result else { return };
        self.account(status, result, location, now);
    }

    /// What an end changes besides.
    fn account(&self, status: &mut BackupStatus, result: RunResult, location: &str, now: Timestamp) {
        let over = self.end.map_or(now, |end| end.at);
        match (self.task, result) {
            (RunTask::Backup, RunResult::Succeeded) => status.consecutive_failures = 0,
            (RunTask::Backup, RunResult::Failed) => status.consecutive_failures += 1,
            _ => {}
        }
        let here = self.annotation(annotations::BACKUP_LOCATION) == Some(location);
        let told = self.report.as_ref().and_then(|report| report.catalogue.as_ref()).filter(|_| here);
        match told {
            Some(told) => catalogue::take(status, told, over),
            // Whatever it did there, nobody has said.
            None if self.report.is_none() || result == RunResult::Succeeded => catalogue::mark_stale(status, over),
            None => {}
        }
    }

    fn attempt(&self) -> Attempt {
        let purpose = self.job.metadata.labels.as_ref().and_then(|labels| labels.get(labels::PURPOSE));
        let reason =
            purpose.and_then(|word| serde_json::from_value(json!(word)).ok()).unwrap_or(BackupReason::Scheduled);
        Attempt {
            job: self.name.to_owned(),
            task: self.task,
            reason,
            request_id: self.annotation(annotations::BACKUP_REQUEST).map(str::to_owned),
            started_at: Some(Time(self.started)),
            ..Attempt::default()
        }
    }

    fn failure<'b>(&self, end: jobs::End, report: Option<&'b Report>) -> (&'b str, String) {
        let name = self.name;
        match (end.late, report) {
            (true, _) => ("TimedOut", format!("Job {name} took longer than it may and was ended")),
            (false, Some(report)) => (&report.reason, report.message.clone()),
            (false, None) => (NO_REPORT, format!("Job {name} ended without a word; see kubectl logs job/{name}")),
        }
    }

    /// It was taken, and is not remembered any more.
    fn is_forgotten(&self, status: &BackupStatus) -> bool {
        let oldest = status.runs.iter().map(started).min();
        status.runs.len() >= REMEMBERED && self.end.is_some() && Some(self.started) < oldest
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.job.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

fn started(run: &Attempt) -> Timestamp {
    run.started_at.as_ref().map_or(Timestamp::MIN, |time| time.0)
}

/// `failure`: in one word, where it failed.
fn end(run: &mut Attempt, at: Timestamp, failure: Option<&str>, message: &str) {
    run.result = if failure.is_none() { RunResult::Succeeded } else { RunResult::Failed };
    run.completed_at = Some(Time(at));
    let word = failure.map(|word| if word.is_empty() { NO_REPORT } else { word });
    run.failure = word.map(|word| word.chars().take(128).collect());
    run.message = Some(message.chars().take(LONGEST).collect());
}
