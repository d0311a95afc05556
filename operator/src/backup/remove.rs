//! A Backup whose artifacts go with it (`deletionPolicy: Delete`): a finalizer keeps it until a Job has removed them.
//! It lets go after a while in any case, and says what stays then.

use std::time::Duration;

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::jiff::SignedDuration;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::common::DeletionPolicy;
use odoo_ai_crds::conditions::{annotations, reasons, types};
use serde_json::json;

use super::build;
use super::observe::Observed;
use crate::cluster::delete::{self, Doomed};
use crate::cluster::finalizer;
use crate::cluster::status::{self, Verdict};
use crate::context::Context;
use crate::rollout::jobs::{self, Progress, Work};
use crate::stack::error::Error;

/// Whoever deletes a Backup waits no longer than this for its artifacts.
const LIMIT: SignedDuration = SignedDuration::from_mins(10);
const AGAIN: Duration = Duration::from_secs(5);

/// What to do about a Backup that is being deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// End what runs, so that nothing comes after.
    Quiet(Vec<Doomed>),
    /// Create the Job that removes the artifacts, with this number.
    Purge(u32),
    /// It is at work, or failed and is tried again: what can be said of it.
    Wait(String),
    /// Let go; `Some`: why artifacts stay.
    Release(Option<String>),
}

/// Decides. Plain.
#[must_use]
pub fn step(seen: &Observed) -> Step {
    let status = seen.status();
    let Some(owner) = status.catalogue.and_then(|it| it.owner) else { return Step::Release(None) };
    let began = seen.object.metadata.deletion_timestamp.as_ref().map_or(seen.now, |time| time.0);
    if began + LIMIT < seen.now {
        return Step::Release(Some(format!("the backups of {owner} could not be removed in time")));
    }
    let running = seen.children.jobs.iter().filter(|(name, job)| !name.contains("-purge-") && !jobs::is_finished(job));
    let running: Vec<_> = running.filter_map(|(_, job)| Doomed::job(job)).collect();
    if !running.is_empty() {
        return Step::Quiet(running);
    }
    let prefix = format!("{}-purge-", seen.object.name_any());
    let work = Work { prefix: &prefix, component: build::PURGE, does: "removes the backups", limit: "10 minutes" };
    match jobs::progress(work, &seen.children, |_| true, |_| true, |_| true, seen.now) {
        Progress::Start { attempt, .. } => Step::Purge(attempt),
        Progress::Running { message, .. } => Step::Wait(message),
        Progress::Pause { failure } => Step::Wait(failure),
        Progress::Refused { message, .. } => Step::Release(Some(message)),
        Progress::Succeeded(_) => Step::Release(None),
    }
}

/// Carries out one step.
///
/// # Errors
/// The client's error.
pub async fn remove(ctx: &Context, seen: &Observed) -> Result<Action, Error> {
    match step(seen) {
        Step::Quiet(running) => {
            suspend(ctx, seen).await?;
            for doomed in &running {
                delete::delete(&ctx.client, doomed).await?;
            }
            say(ctx, seen, "runs are ended before the backups are removed").await?;
        }
        Step::Purge(attempt) => {
            suspend(ctx, seen).await?;
            let owner = seen.status().catalogue.and_then(|it| it.owner).unwrap_or_default();
            let intent = build::purge(seen, &ctx.operator, &owner, attempt);
            if let Err(error) = ctx.applier.apply(&intent, seen.children.meta(&intent.key()), "").await {
                // A namespace that is going takes no new Job.
                let Some(why) = error.forbidden() else { return Err(error.into()) };
                return release(ctx, seen, Some(why)).await;
            }
            say(ctx, seen, "a Job removes the backups").await?;
        }
        Step::Wait(message) => say(ctx, seen, &message).await?,
        Step::Release(kept) => return release(ctx, seen, kept).await,
    }
    Ok(Action::requeue(AGAIN))
}

/// Nothing new is started. Foreground deletion may have taken the `CronJob`s already.
async fn suspend(ctx: &Context, seen: &Observed) -> Result<(), Error> {
    let api: Api<CronJob> = Api::namespaced(ctx.client.clone(), &seen.object.namespace().unwrap_or_default());
    let patch = Patch::Merge(json!({"spec": {"suspend": true}}));
    for name in seen.children.cron_jobs.keys() {
        match api.patch(name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(())
}

async fn say(ctx: &Context, seen: &Observed, message: &str) -> Result<(), Error> {
    let mut object = seen.object.clone();
    let conditions = &mut object.status.get_or_insert_default().conditions;
    let verdict = Verdict::new(false, reasons::DELETING, message);
    status::set(conditions, types::READY, &verdict, seen.generation(), seen.now);
    if object.status != seen.object.status {
        ctx.write_status(&mut object).await?;
    }
    Ok(())
}

async fn release(ctx: &Context, seen: &Observed, kept: Option<String>) -> Result<Action, Error> {
    match &kept {
        Some(why) => ctx.events.publish(&seen.object, true, "Delete", "ArtifactsKept", why).await,
        None => ctx.events.publish(&seen.object, false, "Delete", "ArtifactsRemoved", "its backups were removed").await,
    }
    ctx.hold(&seen.object, annotations::ARTIFACTS_FINALIZER, false).await?;
    Ok(Action::await_change())
}

/// The finalizer is there exactly where artifacts go with the Backup.
///
/// # Errors
/// The client's error.
pub async fn hold(ctx: &Context, mut seen: Box<Observed>) -> Result<Box<Observed>, Error> {
    let wanted = goes_with_it(&seen.object);
    if wanted != is_held(&seen.object) {
        let status = seen.object.status.take();
        seen.object = ctx.hold(&seen.object, annotations::ARTIFACTS_FINALIZER, wanted).await?;
        seen.object.status = status;
    }
    Ok(seen)
}

/// Its artifacts go with it.
#[must_use]
pub fn goes_with_it(object: &Backup) -> bool {
    object.spec.deletion_policy == Some(DeletionPolicy::Delete)
}

/// It has our finalizer.
#[must_use]
pub fn is_held(object: &Backup) -> bool {
    finalizer::is_held(object, annotations::ARTIFACTS_FINALIZER)
}
