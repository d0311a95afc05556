//! The `Restore` controller: observe → decide → apply → report.
//!
//! A Restore runs once: what came of it stays in its status. The work is the agent's, in Jobs; what it makes says on
//! the database itself whose it is and how far, so an attempt that was killed is begun anew.

pub mod apply;
pub mod before;
pub mod build;
pub mod conditions;
pub mod decide;
pub mod ended;
pub mod live;
pub mod load;
pub mod model;
pub mod observe;
pub mod remove;
pub mod report;
pub mod run;
pub mod source;
pub mod steps;
pub mod surroundings;
pub mod tables;
pub mod validate;

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use odoo_ai_crds::restore::{Restore, RestoreStep, RestoreTarget};

use crate::context::Context;
use crate::stack::error::Error;

/// Kind in logs and metrics.
const KIND: &str = "Restore";

/// Brings one Restore a step closer to its end.
///
/// # Errors
/// What kept it from doing so; the conditions say it too, where the API server could be reached.
pub async fn reconcile(object: Arc<Restore>, ctx: Arc<Context>) -> Result<Action, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let Some(seen) = observe::observe(&ctx, &name, &namespace).await? else {
        ctx.metrics.restore(&(namespace, name), None);
        return Ok(Action::await_change());
    };
    if seen.object.metadata.deletion_timestamp.is_some() && !remove::finishes(&seen) {
        return remove::remove(&ctx, &seen).await;
    }
    let seen = remove::hold(&ctx, seen).await?;
    let decision = decide::decide(&seen, &ctx.operator);
    let done = apply::apply(&ctx, &seen, &decision).await;
    Box::pin(report::outcome(&ctx, seen, decision, done)).await
}

/// It replaces the live database.
#[must_use]
pub fn is_in_place(object: &Restore) -> bool {
    object.spec.target == Some(RestoreTarget::InPlace)
}

/// It may still read the backup.
#[must_use]
pub fn reads(object: &Restore) -> bool {
    is_active(object) && object.status.as_ref().is_some_and(|status| status.step <= Some(RestoreStep::Load))
}

/// It has begun, and not ended.
#[must_use]
pub fn is_active(object: &Restore) -> bool {
    object.status.as_ref().is_some_and(|status| status.started_at.is_some() && status.completed_at.is_none())
}
