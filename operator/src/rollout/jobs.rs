//! Jobs of the agent as they were observed: what they reported, whether they run, when to try again.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::pods;
use crate::cluster::children::Children;
use crate::cluster::intent::Key;
use crate::labels;
use crate::stack::model::Stack;

/// Between what a refusal says and the name of its Job.
const ASK_AGAIN: &str = "; to ask again at once, delete Job ";
/// First pause after a Job that failed; it doubles up to [`LONGEST_PAUSE`].
pub const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(30);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(1800);

/// What the agent writes into the termination message. Unknown fields of newer agents are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Version of the format.
    pub version: u32,
    /// `Succeeded`, `Refused` or `Failed`.
    pub result: String,
    /// `CamelCase` reason.
    pub reason: String,
    /// One sentence for the user, secrets redacted.
    pub message: String,
    /// The schema that was found or made.
    pub schema: ReportedSchema,
    /// `<system identifier>/<database OID>`.
    pub incarnation: Option<String>,
    /// Size of the database, bytes.
    pub database_bytes: Option<i64>,
    /// The rules table was absent or empty.
    pub rules_empty: bool,
    /// Where the database differs from the application's models.
    pub drift: Vec<String>,
    /// What `agent plan` found.
    pub plan: Option<PlanReport>,
    /// Enum labels that the image's code needs, by type.
    pub enum_labels: BTreeMap<String, Vec<String>>,
    /// The backup that was made.
    pub backup: Option<BackupReport>,
    /// What is in the catalogue.
    pub catalogue: Option<CatalogueReport>,
    /// The verification that restored a backup completely.
    pub verified: Option<VerifiedReport>,
    /// What was restored.
    pub restore: Option<RestoreReport>,
    /// The databases that changed names.
    pub swap: Option<SwapReport>,
    /// The tables that were brought back.
    pub tables: Option<TablesReport>,
}

/// Tables part of [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TablesReport {
    /// Each; empty where there was no room for them, or they were brought back already.
    pub copied: Vec<CopiedTable>,
}

/// A table that was brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CopiedTable {
    /// Its rows.
    pub rows: i64,
}

/// Swap part of [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SwapReport {
    /// Bytes of the database that was replaced.
    pub bytes: Option<i64>,
}

/// Restore part of [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreReport {
    /// Name of the backup.
    pub id: String,
    /// Name of the database that it is in.
    pub database: String,
    /// How many tables; absent where nobody knows any more.
    pub tables: Option<i32>,
    /// How many rows.
    pub rows: Option<i64>,
    /// Bytes of the database.
    pub bytes: Option<i64>,
    /// Seconds that it took; absent where it was there already.
    pub seconds: Option<i32>,
    /// Alembic's revisions.
    pub alembic: Vec<String>,
}

/// Backup part of [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupReport {
    /// Its name.
    pub id: String,
    /// Bytes of its dump.
    pub bytes: i64,
    /// When it was completed.
    pub completed_at: Option<Timestamp>,
    /// Alembic's revisions.
    pub alembic: Vec<String>,
    /// The bucket has all that the volume has; absent where there is only one of the two.
    pub offsite: Option<bool>,
}

/// Catalogue part of [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CatalogueReport {
    /// Whose it is.
    pub owner: Option<String>,
    /// Good backups.
    pub total: i32,
    /// Bytes of their dumps.
    pub bytes: i64,
    /// Those that have a manifest and are no good.
    pub damaged: i32,
    /// Alembic revisions of artifacts, by number.
    pub schemas: Vec<String>,
    /// Databases of artifacts, by number.
    pub incarnations: Vec<String>,
    /// The newest good ones, the newest first: id, letter of the reason, seconds since 1970 when it was completed,
    /// bytes, 1 if verified, number of its schema and of its incarnation.
    pub artifacts: Vec<(String, char, i64, i64, u8, usize, usize)>,
    /// Requests that artifacts answer, by id.
    pub requests: BTreeMap<String, String>,
    /// The newest verification.
    pub verified: Option<VerifiedReport>,
}

/// Verification part of [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VerifiedReport {
    /// Name of the backup.
    pub id: String,
    /// When.
    pub completed_at: Option<Timestamp>,
    /// Seconds that the restore took.
    pub restore_seconds: i32,
}

/// Plan part of [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanReport {
    /// Whether a migration would change anything.
    pub needed: bool,
    /// Where tables without a recorded revision are taken to be.
    pub stamp: Option<String>,
    /// The revisions that would run.
    pub pending: Vec<PendingReport>,
    /// Enum labels that the database can't store yet, by type.
    pub missing_labels: BTreeMap<String, Vec<String>>,
    /// The database is empty.
    pub bootstrap: bool,
    /// Rows that the code of an older image can't read.
    pub unreadable: Vec<UnreadableReport>,
    /// Why that isn't known.
    pub labels_unknown: Option<String>,
}

/// Rows that an image's code can't read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnreadableReport {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The enum label.
    pub label: String,
    /// How many.
    pub rows: i64,
}

/// One revision that would run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PendingReport {
    /// Its name.
    pub revision: String,
    /// An older release goes on working.
    pub additive: bool,
    /// Why not.
    pub why: String,
}

/// Schema part of [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedSchema {
    /// Heads of the image.
    pub heads: Vec<String>,
    /// Revisions that the image knows.
    pub known: Vec<String>,
    /// Revisions of the database.
    pub current: Vec<String>,
}

/// Where a piece of the agent's work stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A Job must be created.
    Start {
        /// Its number, from 1.
        attempt: u32,
        /// Why the one before failed.
        failure: Option<String>,
    },
    /// A Job runs, or can't begin to.
    Running {
        /// Its number.
        attempt: u32,
        /// Its UID.
        job: Option<String>,
        /// Condition reason of what keeps its pod from running.
        trouble: Option<&'static str>,
        /// What can be said of it.
        message: String,
    },
    /// A Job failed; the next one comes later.
    Pause {
        /// Why it failed.
        failure: String,
    },
    /// The agent decided that it must not be done; it is asked again after [`LONGEST_PAUSE`].
    Refused {
        /// Condition reason.
        reason: String,
        /// What to do.
        message: String,
    },
    /// Done.
    Succeeded(Box<Report>),
}

/// One piece of work and its Jobs.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// What the names of its Jobs begin with; the number of the attempt follows.
    pub prefix: &'a str,
    /// Component label of the Jobs, and the name of their container.
    pub component: &'static str,
    /// What a Job does, for a message: `prepares the schema`.
    pub does: &'static str,
    /// How long it may take, for a message.
    pub limit: &'a str,
}

/// Reads the Jobs of `work`. Results of Jobs that are not `about` what is wanted say nothing about
/// it; a success whose report isn't `complete` is asked for again, and so is what was refused unless the
/// Job was `told` what it would be told now.
#[must_use]
pub fn progress(
    work: Work<'_>,
    children: &Children,
    about: impl Fn(&Job) -> bool,
    complete: impl Fn(&Report) -> bool,
    told: impl Fn(&Job) -> bool,
    now: Timestamp,
) -> Progress {
    let number = |name: &str| name.strip_prefix(work.prefix)?.parse::<u32>().ok();
    let newest = children.jobs.iter().filter_map(|(name, job)| Some((number(name)?, job))).max_by_key(|(n, _)| *n);
    let Some((attempt, job)) = newest else {
        return Progress::Start { attempt: 1, failure: None };
    };
    let next = |failure| Progress::Start { attempt: attempt + 1, failure };
    if !about(job) {
        return next(None);
    }
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let report = report(job, children, work.component);
    let running = |message| {
        let found = pods::trouble(children, work.component, |pod| belongs(pod, job), now);
        let (trouble, message) = found.map_or((None, message), |it| (Some(it.reason), it.message));
        Progress::Running { attempt, job: job.metadata.uid.clone(), trouble, message }
    };
    let end = ended(job, now);
    let late = end.is_some_and(|end| end.late);
    match (end.map(|end| (end.well, end.at)), report) {
        (None, report) => running(what_runs(job, work.does, report.as_ref())),
        (Some((true, _)), Some(report)) if report.result == "Succeeded" && complete(&report) => {
            Progress::Succeeded(Box::new(report))
        }
        // The pod and its message are gone (eviction, a lost node): the Job is idempotent, ask again.
        (Some((true, at)), _) if at.duration_until(now) >= FIRST_PAUSE => next(None),
        (Some((true, _)), _) => running(format!("the result of Job {name} is awaited")),
        (Some((false, at)), Some(report)) if report.result == "Refused" => {
            let message = format!("{}{ASK_AGAIN}{name}", report.message);
            if !told(job) {
                next(None)
            } else if at.duration_until(now) >= LONGEST_PAUSE {
                next(Some(message))
            } else {
                Progress::Refused { reason: report.reason, message }
            }
        }
        (Some((false, at)), report) => {
            let failure = match report {
                _ if late => format!("Job {name} took longer than it may ({}) and was ended", work.limit),
                Some(report) => format!("{} (Job {name})", report.message),
                None => format!("Job {name} failed; see kubectl logs job/{name}"),
            };
            if at.duration_until(now) >= pause(attempt) { next(Some(failure)) } else { Progress::Pause { failure } }
        }
    }
}

/// What was refused, where deleting the Job is not how to ask again.
#[must_use]
pub fn refusal(message: &str) -> &str {
    message.rsplit_once(ASK_AGAIN).map_or(message, |(refusal, _)| refusal)
}

/// How long to wait after the `attempt`th failure in a row.
#[must_use]
pub fn pause(attempt: u32) -> SignedDuration {
    (FIRST_PAUSE * 2_i32.saturating_pow(attempt.clamp(1, 10) - 1)).min(LONGEST_PAUSE)
}

fn what_runs(job: &Job, does: &str, report: Option<&Report>) -> String {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    match report {
        Some(report) if report.result != "Succeeded" => format!("Job {name} runs again: {}", report.message),
        _ => format!("Job {name} {does}"),
    }
}

/// Jobs of a component that still run, or will; those that are being deleted included.
pub fn unfinished<'a>(children: &'a Children, component: &'a str) -> impl Iterator<Item = (&'a String, &'a Job)> {
    let of_component = move |job: &Job| {
        job.metadata.labels.as_ref().and_then(|labels| labels.get(labels::COMPONENT)).map(String::as_str)
            == Some(component)
    };
    let jobs = children.jobs.iter().map(|(name, job)| (name, job.as_ref()));
    jobs.filter(move |(_, job)| of_component(job) && !is_finished(job))
}

/// Unfinished Jobs of a component that nobody waits for any more, by key and UID: all that aren't `wanted`, also those
/// of a stack that had the name before.
#[must_use]
pub fn obsolete(
    stack: &Stack,
    children: &Children,
    component: &str,
    wanted: impl Fn(&str, &Job) -> bool,
) -> Vec<(Key, String)> {
    let key = |name: &str| Key { kind: "Job".to_owned(), namespace: stack.namespace.clone(), name: name.to_owned() };
    unfinished(children, component)
        .filter(|(name, job)| job.metadata.deletion_timestamp.is_none() && !wanted(name, job))
        .filter_map(|(name, job)| Some((key(name), job.metadata.uid.clone()?)))
        .collect()
}

/// The Job is this stack's, and not that of one that had its name before.
#[must_use]
pub fn is_owned(job: &Job, stack: &Stack) -> bool {
    is_of(job, &stack.owner.uid)
}

/// The Job belongs to the object with this UID.
#[must_use]
pub fn is_of(job: &Job, uid: &str) -> bool {
    job.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

/// The Job has come to its end, well or not.
#[must_use]
pub fn is_finished(job: &Job) -> bool {
    ended(job, Timestamp::UNIX_EPOCH).is_some()
}

/// How a Job ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// It did what it should.
    pub well: bool,
    /// It took longer than it may.
    pub late: bool,
    /// When.
    pub at: Timestamp,
}

/// The end of a Job, once it has come; `now` where the Job doesn't say when.
#[must_use]
pub fn ended(job: &Job, now: Timestamp) -> Option<End> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().filter(|condition| condition.status == "True").find_map(|condition| {
        let at = condition.last_transition_time.as_ref().map_or(now, |time| time.0);
        let late = condition.reason.as_deref() == Some("DeadlineExceeded");
        match condition.type_.as_str() {
            "Complete" => Some(End { well: true, late, at }),
            "Failed" => Some(End { well: false, late, at }),
            _ => None,
        }
    })
}

/// The pod is one of the Job's.
#[must_use]
pub fn belongs(pod: &Pod, job: &Job) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
}

/// What the last pod of a Job told, where one of its component did.
#[must_use]
pub fn report(job: &Job, children: &Children, component: &str) -> Option<Report> {
    let pods = children.pods_of(component).filter(|pod| belongs(pod, job));
    pods.filter_map(|pod| report_of(pod, component)).max_by_key(|(at, _)| *at).map(|(_, report)| report)
}

fn report_of(pod: &Pod, container: &str) -> Option<(Timestamp, Report)> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let state = containers.iter().find(|it| it.name == container)?.state.as_ref()?;
    let terminated = state.terminated.as_ref()?;
    let at = terminated.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let text = terminated.message.as_deref().unwrap_or_default();
    let report = serde_json::from_str(text).unwrap_or_else(|_| Report {
        result: "Failed".to_owned(),
        message: format!("the agent ended with exit code {} and left no report", terminated.exit_code),
        ..Report::default()
    });
    Some((at, report))
}
