//! The migrate Jobs of a revision.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;

use super::jobs::{self, Progress, Work, ended};
use super::revision;
use crate::cluster::cache::Children;
use crate::cluster::intent::Key;
use crate::labels;
use crate::stack::build::job;
pub use crate::stack::build::job::COMPONENT;
use crate::stack::model::Stack;

/// Reads the Jobs of `revision` for the database that `volume` stands for; other databases' and other
/// stacks' results say nothing about it.
#[must_use]
pub fn progress(stack: &Stack, children: &Children, revision: &str, volume: &str, now: Timestamp) -> Progress {
    let prefix = stack.child(&job::prefix(revision));
    let work = Work { prefix: &prefix, component: COMPONENT, does: "prepares the schema" };
    let about = |job: &Job| is_about(job, &stack.owner.uid, volume);
    jobs::progress(work, children, about, |report| !report.schema.heads.is_empty(), now)
}

/// Unfinished Jobs of other revisions: they would prepare the schema for what nobody wants any more.
#[must_use]
pub fn obsolete(stack: &Stack, children: &Children, revision: &str) -> Vec<(Key, String)> {
    let other = |job: &Job| revision::label(&job.metadata) != Some(revision);
    unfinished(children)
        .filter(|(_, job)| other(job) && job.metadata.deletion_timestamp.is_none())
        .filter_map(|(name, job)| {
            let key = Key { kind: "Job".to_owned(), namespace: stack.namespace.clone(), name: name.clone() };
            Some((key, job.metadata.uid.clone()?))
        })
        .collect()
}

/// Jobs that may still change the database, those that are being deleted included.
pub fn unfinished(children: &Children) -> impl Iterator<Item = (&String, &Job)> {
    let ours = |job: &Job| {
        job.metadata.labels.as_ref().and_then(|labels| labels.get(labels::COMPONENT)).map(String::as_str)
            == Some(COMPONENT)
    };
    let jobs = children.jobs.iter().map(|(name, job)| (name, job.as_ref()));
    jobs.filter(move |(_, job)| ours(job) && !is_finished(job))
}

/// The Job has come to its end, well or not.
#[must_use]
pub fn is_finished(job: &Job) -> bool {
    ended(job, Timestamp::UNIX_EPOCH).is_some()
}

fn is_about(job: &Job, stack_uid: &str, volume: &str) -> bool {
    let owned = job.metadata.owner_references.iter().flatten().any(|owner| owner.uid == stack_uid);
    let about = job.metadata.labels.as_ref().and_then(|labels| labels.get(labels::VOLUME)).map(String::as_str);
    owned && about == Some(volume)
}
