//! The `Backup` controller: observe → decide → apply → report.
//!
//! Runs are Jobs of `CronJob`s, which work without the operator; a success is a manifest in the storage. What the
//! operator adds is in the status: it is taken from Jobs and catalogue, and can be made from them again.

pub mod apply;
pub mod ask;
pub mod build;
pub mod catalogue;
pub mod conditions;
pub mod decide;
pub mod model;
pub mod observe;
pub mod remove;
pub mod report;
pub mod run;
pub mod runs;
pub mod schedule;
pub mod validate;

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use odoo_ai_crds::backup::Backup;

use crate::context::Context;
use crate::stack::error::Error;

/// Kind in logs and metrics.
const KIND: &str = "Backup";

/// Brings one Backup a step closer to its spec.
///
/// # Errors
/// What kept it from doing so; the conditions say it too, where the API server could be reached.
pub async fn reconcile(object: Arc<Backup>, ctx: Arc<Context>) -> Result<Action, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let Some(seen) = observe::observe(&ctx, &name, &namespace).await? else {
        return Ok(Action::await_change());
    };
    if seen.object.metadata.deletion_timestamp.is_some() {
        return remove::remove(&ctx, &seen).await;
    }
    let seen = remove::hold(&ctx, seen).await?;
    let decision = decide::decide(&seen, &ctx.operator);
    let done = apply::apply(&ctx, &seen, &decision).await;
    Box::pin(report::outcome(&ctx, seen, decision, done)).await
}
