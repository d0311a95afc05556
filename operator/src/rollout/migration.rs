//! The migrate Job as it was observed: what it reported, whether it runs, when to try again.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::reasons;
use serde::Deserialize;

use crate::cluster::cache::Children;
use crate::stack::build::job;
pub use crate::stack::build::job::COMPONENT;
use crate::stack::model::Stack;

/// First pause after a Job that failed; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(30);
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

/// Where the migration of a revision stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A Job must be created.
    Start {
        /// Its number, from 1.
        attempt: u32,
        /// Why the one before failed.
        failure: Option<String>,
    },
    /// A Job runs.
    Running {
        /// What can be said of it.
        message: String,
    },
    /// A Job failed; the next one comes later.
    Pause {
        /// When, from now.
        after: SignedDuration,
        /// Why it failed.
        failure: String,
    },
    /// The agent decided that it must not be done.
    Refused {
        /// Condition reason.
        reason: String,
        /// What to do.
        message: String,
    },
    /// Done.
    Succeeded(Box<Report>),
}

/// Reads the Jobs of `revision`, in the order of their attempts.
#[must_use]
pub fn progress(stack: &Stack, children: &Children, revision: &str, now: Timestamp) -> Progress {
    let newest = (1..).map_while(|attempt| Some((attempt, children.jobs.get(&name(stack, revision, attempt))?))).last();
    let Some((attempt, job)) = newest else {
        return Progress::Start { attempt: 1, failure: None };
    };
    let report =
        children.pods_of(COMPONENT).filter(|pod| belongs(pod, job)).filter_map(report_of).max_by_key(|(at, _)| *at);
    let report = report.map(|(_, report)| report);
    match (ended(job), report) {
        (None, report) => Progress::Running { message: running(job, report.as_ref()) },
        (Some((true, _)), Some(report)) => Progress::Succeeded(Box::new(report)),
        // The pod and its message are gone (eviction, a lost node): the Job is idempotent, ask again.
        (Some((true, _)), None) => Progress::Start { attempt: attempt + 1, failure: None },
        (Some((false, _)), Some(report)) if report.result == "Refused" => {
            Progress::Refused { reason: report.reason, message: report.message }
        }
        (Some((false, at)), report) => {
            let failure = report.map_or_else(
                || format!("Job {} failed; see kubectl logs job/{0}", job.metadata.name.as_deref().unwrap_or_default()),
                |report| report.message,
            );
            let pause = (FIRST_PAUSE * 2_i32.saturating_pow(attempt.min(10) - 1)).min(LONGEST_PAUSE);
            let after = at.duration_until(now);
            if after >= pause {
                Progress::Start { attempt: attempt + 1, failure: Some(failure) }
            } else {
                Progress::Pause { after: pause - after, failure }
            }
        }
    }
}

fn name(stack: &Stack, revision: &str, attempt: u32) -> String {
    stack.child(&job::suffix(revision, attempt))
}

fn running(job: &Job, report: Option<&Report>) -> String {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    match report {
        Some(report) if report.result != "Succeeded" => format!("Job {name} runs again: {}", report.message),
        _ => format!("Job {name} prepares the schema"),
    }
}

/// Whether the Job ended, well or not, and when.
fn ended(job: &Job) -> Option<(bool, Timestamp)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().filter(|condition| condition.status == "True").find_map(|condition| {
        let at = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        match condition.type_.as_str() {
            "Complete" => Some((true, at)),
            "Failed" => Some((false, at)),
            _ => None,
        }
    })
}

fn belongs(pod: &Pod, job: &Job) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
}

fn report_of(pod: &Pod) -> Option<(Timestamp, Report)> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let state = containers.iter().find(|container| container.name == COMPONENT)?.state.as_ref()?;
    let terminated = state.terminated.as_ref()?;
    let at = terminated.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let text = terminated.message.as_deref().unwrap_or_default();
    let report = serde_json::from_str(text).unwrap_or_else(|_| Report {
        result: "Failed".to_owned(),
        reason: reasons::MIGRATION_FAILED.to_owned(),
        message: format!("the migration ended with exit code {} and left no report", terminated.exit_code),
        ..Report::default()
    });
    Some((at, report))
}
