//! The `OdooAiStack` controller: observe → validate → decide → build → apply → report.

pub mod agents;
pub mod apply;
pub mod base;
pub mod build;
pub mod conditions;
pub mod credentials;
pub mod decide;
pub mod error;
pub mod facts;
pub mod health;
pub mod keys;
pub mod limits;
pub mod model;
pub mod observe;
pub mod poller;
pub mod prune;
pub mod references;
pub mod report;
pub mod resolve;
pub mod restoring;
pub mod roll;
pub mod run;
pub mod status;
pub mod telling;
pub mod validate;

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use odoo_ai_crds::stack::OdooAiStack;

use self::error::Error;
use crate::context::Context;

/// Kind in logs and metrics.
pub const KIND: &str = "OdooAiStack";

/// Brings one stack a step closer to its spec.
///
/// # Errors
/// What kept it from doing so; the conditions say it too, where the API server could be reached.
pub async fn reconcile(object: Arc<OdooAiStack>, ctx: Arc<Context>) -> Result<Action, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let Some(seen) = observe::observe(&ctx, &name, &namespace).await? else {
        return Ok(Action::await_change());
    };
    let decision = decide::decide(&seen, &ctx.operator);
    let seen = Box::pin(report::intent(&ctx, seen, &decision)).await?;
    let done = apply::apply(&ctx, &seen, &decision).await;
    Box::pin(report::outcome(&ctx, seen, &decision, done)).await
}
