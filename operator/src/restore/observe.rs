//! Everything that a reconcile looks at, read once at its beginning.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::restore::{Restore, RestoreStatus};
use odoo_ai_crds::stack::OdooAiStack;

use super::source::Source;
use super::surroundings::Surroundings;
use super::{is_in_place, remove};
use crate::backup::build::Task;
use crate::cluster::children::Children;
use crate::cluster::pending;
use crate::context::Context;
use crate::labels;
use crate::rollout::jobs;
use crate::stack::error::Error;

/// One moment of a Restore.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The custom resource, read live.
    pub object: Restore,
    /// The stack whose database server is used, read live; one that is being deleted is none.
    pub stack: Option<OdooAiStack>,
    /// Where the backup comes from.
    pub source: Source,
    /// Its Jobs and their pods, and the metadata of the stack's children, from the caches.
    pub children: Children,
    /// The Job that makes a backup in the same storage at this moment.
    pub backing_up: Option<String>,
    /// Bytes of the database that is restored into, as an agent saw it lately.
    pub bytes: Option<i64>,
    /// What a restore in place looks at besides; nothing of another one.
    pub around: Surroundings,
    /// Now.
    pub now: Timestamp,
}

impl Observed {
    /// The status, or an empty one.
    #[must_use]
    pub fn status(&self) -> RestoreStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// Which database is live, as the stack knows it.
    #[must_use]
    pub fn live(&self) -> Option<&String> {
        self.stack.as_ref()?.status.as_ref()?.database.as_ref()?.incarnation.as_ref()
    }

    /// The generation of the spec.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or_default()
    }
}

/// Reads the Restore live and its surroundings; `None` when it is gone, or goes without us.
///
/// # Errors
/// [`Error::Api`] when the API server can't be asked.
pub async fn observe(ctx: &Context, name: &str, namespace: &str) -> Result<Option<Box<Observed>>, Error> {
    let api: Api<Restore> = Api::namespaced(ctx.client.clone(), namespace);
    let Some(object) = api.get_opt(name).await? else { return Ok(None) };
    if object.metadata.deletion_timestamp.is_some() && !remove::is_held(&object) {
        return Ok(None);
    }
    let (spec, now) = (&object.spec, (ctx.clock)());
    let mut children = ctx.caches.children_of_restore(namespace, &spec.stack_ref.name, name);
    if object.metadata.deletion_timestamp.is_some() {
        // One that the caches don't know yet would load what nobody drops any more.
        children.jobs = live_jobs(ctx, namespace, name).await?;
    }
    let stacks: Api<OdooAiStack> = Api::namespaced(ctx.client.clone(), namespace);
    let (stack, source, pending) = tokio::join!(
        stacks.get_opt(&spec.stack_ref.name),
        Source::read(ctx, namespace, &spec.stack_ref.name, &spec.source),
        pending::read(&ctx.client, namespace, &children, now),
    );
    children.pending = pending?;
    let (stack, source) = (stack?, source?);
    let stack = stack.filter(|it| it.metadata.deletion_timestamp.is_none());
    let backup = source.backup.as_ref();
    let backing_up = backup.and_then(|backup| backing_up(ctx, namespace, backup));
    let bytes = ctx.agents.restored(object.metadata.uid.as_deref().unwrap_or_default());
    let around = if is_in_place(&object) {
        let step = object.status.as_ref().and_then(|status| status.step);
        Box::pin(Surroundings::read(ctx, &object, stack.as_ref(), backup, step)).await?
    } else {
        Surroundings::default()
    };
    Ok(Some(Box::new(Observed { object, stack, source, children, backing_up, bytes, around, now })))
}

async fn live_jobs(ctx: &Context, namespace: &str, name: &str) -> Result<BTreeMap<String, Arc<Job>>, Error> {
    let api: Api<Job> = Api::namespaced(ctx.client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("{}={name}", labels::RESTORE));
    let jobs = api.list(&ours).await?.items.into_iter();
    Ok(jobs.map(|job| (job.name_any(), Arc::new(job))).collect())
}

/// What was started before this Restore goes by what it was told then, also of what it may remove.
fn backing_up(ctx: &Context, namespace: &str, backup: &Backup) -> Option<String> {
    let name = backup.metadata.name.as_deref().unwrap_or_default();
    let children = ctx.caches.children_of_backup(namespace, &backup.spec.stack_ref.name, name);
    jobs::unfinished(&children, Task::Backup.component()).map(|(name, _)| name.clone()).next()
}
