//! The decision: what the status says now, what is applied, and which Jobs are started. A plain function of what was
//! observed.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use odoo_ai_crds::backup::{BackupReason, BackupStatus};
use odoo_ai_crds::conditions::annotations;
use serde_json::json;

use super::build::{Start, Task};
use super::model::{Pause, Policy};
use super::observe::Observed;
use super::{catalogue, runs, validate};
use crate::cluster::intent::{Key, hash};
use crate::restore;
use crate::rollout::jobs::{self, Progress, Work};
use crate::rollout::pods::{self, Trouble};
use crate::rollout::requests;
use crate::stack::model::Operator;
use crate::stack::validate::Problem;

/// What to do now.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The status, but for its conditions, and for the requests that are answered by `start`.
    pub status: BackupStatus,
    /// The policy, or why there is none.
    pub policy: Result<Arc<Policy>, Problem>,
    /// Jobs to create.
    pub start: Vec<Start>,
    /// The requests that `start` answers.
    pub handled: BTreeMap<&'static str, String>,
    /// What keeps a Job's pod from running.
    pub trouble: Option<Trouble>,
    /// Why the catalogue can't be read, where that is so.
    pub unreadable: Option<String>,
}

/// Decides.
#[must_use]
pub fn decide(seen: &Observed, operator: &Operator) -> Decision {
    let mut status = seen.status();
    status.observed_generation = Some(seen.generation());
    let uid = seen.object.uid().unwrap_or_default();
    let policy = validate::policy(seen, operator).map(Arc::new);
    let trouble = [Task::Backup, Task::Verify, Task::Catalogue]
        .into_iter()
        .find_map(|task| pods::trouble(&seen.children, task.component(), |_| true, seen.now));
    let mut decision = Decision { status, policy, start: vec![], handled: BTreeMap::new(), trouble, unreadable: None };
    let accepted = decision.policy.clone().ok();
    let location = accepted.as_ref().map(|policy| catalogue::digest(policy)).unwrap_or_default();
    if let Some(policy) = &accepted {
        catalogue::settle(&mut decision.status, &policy.storage.location(), seen.now);
    }
    runs::take(&mut decision.status, &seen.children, &uid, &location, seen.now);
    if let Some(policy) = &accepted {
        let scheduled = scheduled(seen, policy);
        catalogue::look_for_unseen(&mut decision.status, scheduled, seen.now);
        catalogue::look_for_another_owner(&mut decision.status, seen.stack.as_ref());
        decision.requests(seen, policy);
        decision.read_catalogue(seen, policy);
        decision.slots(seen, policy, scheduled);
    }
    decision.status.last_attempt = runs::last(&decision.status);
    decision
}

/// The last time that a backup was started for by its schedule.
fn scheduled(seen: &Observed, policy: &Policy) -> Option<Timestamp> {
    let cron_job = seen.children.cron_jobs.get(&policy.child(Task::Backup.component()))?;
    Some(cron_job.status.as_ref()?.last_schedule_time.as_ref()?.0)
}

impl Decision {
    /// Counts what was missed since the last good one, and says when the next one comes.
    fn slots(&mut self, seen: &Observed, policy: &Policy, scheduled: Option<Timestamp>) {
        let (status, now) = (&mut self.status, seen.now);
        let newer = completed(status).filter(|newer| Some(*newer) > completed(&seen.status()));
        if newer.is_some() {
            status.missed_runs = 0;
        }
        let schedule = Some(format!("{} {}", policy.schedule.zone(), policy.schedule.text()));
        if policy.suspended || status.schedule != schedule {
            // Nobody waits for what passes while it is suspended, or passed before there was this schedule.
            (status.next_schedule_time, status.last_schedule_time) = (None, None);
        }
        status.schedule = schedule;
        if policy.suspended {
            return;
        }
        let counted = status.last_schedule_time.as_ref().map_or(now, |time| time.0);
        let missed = policy.schedule.missed(newer.map_or(counted, |newer| newer.max(counted)), scheduled, now);
        status.missed_runs = status.missed_runs.saturating_add(missed.times);
        status.last_schedule_time = policy.schedule.until(missed.counted).map(Time);
        status.next_schedule_time = policy.schedule.after(now).map(Time);
    }

    fn requests(&mut self, seen: &Observed, policy: &Policy) {
        let handled = self.status.last_handled.clone().unwrap_or_default();
        let asked = |name| requests::token(&seen.object, name);
        // While its database is replaced the application would wait for it.
        if let Some(request) = asked(annotations::BACKUP_REQUESTED_AT).filter(|_| policy.paused != Pause::All)
            && handled.backup_requested_at.as_ref() != Some(&request)
        {
            let reason = reason(seen, policy, &request);
            self.answer(annotations::BACKUP_REQUESTED_AT, Task::Backup, "run", reason, request);
        }
        if let Some(request) = asked(annotations::VERIFY_REQUESTED_AT)
            && handled.verify_requested_at.as_ref() != Some(&request)
        {
            let reason = BackupReason::Requested;
            self.answer(annotations::VERIFY_REQUESTED_AT, Task::Verify, "verify-now", reason, request);
        }
    }

    /// The name follows from the request: it is answered by one Job, however often this is decided.
    fn answer(&mut self, annotation: &'static str, task: Task, prefix: &str, reason: BackupReason, request: String) {
        let suffix = format!("{prefix}-{}", &hash(&json!(request))[..8]);
        self.handled.insert(annotation, request.clone());
        self.start.push(Start { task, suffix, reason, request: Some(request) });
    }

    fn read_catalogue(&mut self, seen: &Observed, policy: &Policy) {
        let Some(since) = self.status.catalogue.as_ref().and_then(|it| it.stale_since.clone()) else { return };
        // Other credentials are asked at once, not after a pause.
        let credentials = policy.storage.bucket.as_ref().and_then(|bucket| {
            let (kind, name) = ("Secret".to_owned(), bucket.credentials_secret_ref.name.clone());
            let key = Key { kind, namespace: policy.namespace.clone(), name };
            seen.children.meta(&key)?.resource_version.clone()
        });
        let digest = &hash(&json!([catalogue::digest(policy), since, credentials]))[..8];
        let prefix = format!("{}-{digest}-", Task::Catalogue.component());
        let work = Work {
            prefix: &policy.child(&prefix),
            component: Task::Catalogue.component(),
            does: "reads the catalogue",
            limit: "timeoutSeconds",
        };
        match jobs::progress(work, &seen.children, |_| true, |report| report.catalogue.is_some(), |_| true, seen.now) {
            Progress::Start { attempt, failure } => {
                self.unreadable = failure;
                let suffix = format!("{prefix}{attempt}");
                let reason = BackupReason::Requested;
                self.start.push(Start { task: Task::Catalogue, suffix, reason, request: None });
            }
            Progress::Running { .. } => {}
            Progress::Pause { failure } => self.unreadable = Some(failure),
            Progress::Refused { message, .. } => self.unreadable = Some(message),
            Progress::Succeeded(report) => {
                let ends = seen.children.jobs.iter().filter(|(name, _)| name.starts_with(work.prefix));
                let at = ends.filter_map(|(_, job)| jobs::ended(job, seen.now)).map(|end| end.at).max();
                let at = at.unwrap_or(seen.now).max(since.0);
                report.catalogue.iter().for_each(|told| catalogue::take(&mut self.status, told, at));
            }
        }
    }
}

/// When the last good backup was completed.
fn completed(status: &BackupStatus) -> Option<Timestamp> {
    Some(status.last_success.as_ref()?.completed_at.as_ref()?.0)
}

/// A stack, or a Restore, notes what it asks for before it asks: nobody else's request is a migration's.
fn reason(seen: &Observed, policy: &Policy, request: &str) -> BackupReason {
    let asked = || seen.stack.as_ref()?.status.as_ref()?.database.as_ref()?.pre_migration_backup.as_ref();
    let of_migration = asked().is_some_and(|asked| asked.backup == policy.name && asked.request_id == request);
    let of_restore = seen.asks.as_ref().is_some_and(|it| restore::before::is_noted(it, &policy.name, request));
    match (of_migration, of_restore) {
        (true, _) => BackupReason::PreMigration,
        (_, true) => BackupReason::PreRestore,
        _ => BackupReason::Requested,
    }
}
