//! The Jobs of a revision that look at the schema: `plan` says what a migration would do, `migrate`
//! does it.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use odoo_ai_crds::conditions::annotations;

use super::jobs::{self, Progress, Report, Work};
use super::revision;
use crate::cluster::cache::Children;
use crate::cluster::intent::Key;
use crate::labels;
use crate::stack::build::job::{self, SchemaJob};
use crate::stack::model::Stack;

/// Reads the Jobs of `revision` for the database that `volume` stands for; other databases' and other
/// stacks' results say nothing about it.
#[must_use]
pub fn progress(
    kind: SchemaJob,
    stack: &Stack,
    children: &Children,
    revision: &str,
    volume: &str,
    now: Timestamp,
) -> Progress {
    let prefix = stack.child(&kind.prefix(revision));
    let does = match kind {
        SchemaJob::Plan => "looks what the migration would do",
        SchemaJob::Migrate => "prepares the schema",
    };
    let work = Work { prefix: &prefix, component: kind.component(), does };
    let about = |job: &Job| is_about(job, &stack.owner.uid, volume);
    let complete =
        |report: &Report| !report.schema.heads.is_empty() && (kind == SchemaJob::Migrate || report.plan.is_some());
    let told = |job: &Job| {
        let annotations = job.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(annotations::MIGRATION_BACKUP)).map(String::as_str)
            == Some(job::backup(stack))
    };
    jobs::progress(work, children, about, complete, told, now)
}

/// Unfinished Jobs of other revisions: they would look at the schema for what nobody wants any more.
#[must_use]
pub fn obsolete(stack: &Stack, children: &Children, revision: &str) -> Vec<(Key, String)> {
    let other = |job: &Job| revision::label(&job.metadata) != Some(revision);
    SchemaJob::ALL
        .into_iter()
        .flat_map(|kind| jobs::unfinished(children, kind.component()))
        .filter(|(_, job)| other(job) && job.metadata.deletion_timestamp.is_none())
        .filter_map(|(name, job)| jobs::identity(stack, name, job))
        .collect()
}

/// Jobs that may still change the database, those that are being deleted included.
pub fn unfinished(children: &Children) -> impl Iterator<Item = (&String, &Job)> {
    jobs::unfinished(children, SchemaJob::Migrate.component())
}

fn is_about(job: &Job, stack_uid: &str, volume: &str) -> bool {
    let owned = job.metadata.owner_references.iter().flatten().any(|owner| owner.uid == stack_uid);
    let about = job.metadata.labels.as_ref().and_then(|labels| labels.get(labels::VOLUME)).map(String::as_str);
    owned && about == Some(volume)
}
