//! The migrate Jobs of a revision.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use odoo_ai_crds::conditions::annotations;

use super::jobs::{self, Progress, Work};
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
    let told = |job: &Job| {
        let annotations = job.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(annotations::MIGRATION_BACKUP)).map(String::as_str)
            == Some(job::backup(stack))
    };
    jobs::progress(work, children, about, |report| !report.schema.heads.is_empty(), told, now)
}

/// Unfinished Jobs of other revisions: they would prepare the schema for what nobody wants any more.
#[must_use]
pub fn obsolete(stack: &Stack, children: &Children, revision: &str) -> Vec<(Key, String)> {
    let other = |job: &Job| revision::label(&job.metadata) != Some(revision);
    unfinished(children)
        .filter(|(_, job)| other(job) && job.metadata.deletion_timestamp.is_none())
        .filter_map(|(name, job)| jobs::identity(stack, name, job))
        .collect()
}

/// Jobs that may still change the database, those that are being deleted included.
pub fn unfinished(children: &Children) -> impl Iterator<Item = (&String, &Job)> {
    jobs::unfinished(children, COMPONENT)
}

fn is_about(job: &Job, stack_uid: &str, volume: &str) -> bool {
    let owned = job.metadata.owner_references.iter().flatten().any(|owner| owner.uid == stack_uid);
    let about = job.metadata.labels.as_ref().and_then(|labels| labels.get(labels::VOLUME)).map(String::as_str);
    owned && about == Some(volume)
}
