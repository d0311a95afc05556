//! The `FeatureFlag` controller: observe → decide → apply → report.
//!
//! The rule itself is in the application's database; it is seen and changed through the rules API only. All flags of one
//! stack look at one list, one after the other.

pub mod apply;
pub mod build;
pub mod conditions;
pub mod decide;
pub mod disable;
pub mod effective;
pub mod guard;
pub mod matching;
pub mod observe;
pub mod remove;
pub mod report;
pub mod run;
pub mod tally;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use odoo_ai_crds::flag::FeatureFlag;
use serde_json::Map;

use self::decide::{Write, decide};
use self::guard::Audit;
use crate::cluster::status::Tri;
use crate::context::Context;
use crate::stack::error::Error;

/// How old the rules may be that a write is made of.
const FRESH: Duration = Duration::from_secs(5);

/// Kind in logs and metrics.
const KIND: &str = "FeatureFlag";

/// Brings one flag's rule a step closer to its spec.
///
/// # Errors
/// What kept it from doing so; the conditions say it too, where the API server could be reached.
pub async fn reconcile(object: Arc<FeatureFlag>, ctx: Arc<Context>) -> Result<Action, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    // First, because it may take a while; the flag is of one stack for ever.
    let mut board = ctx.rules.open(&(namespace.clone(), object.spec.stack_ref.name.clone()), &name).await;
    let Some(flag) = observe::observe(&ctx, &name, &namespace).await? else {
        ctx.metrics.flag(&(namespace, name), None);
        return Ok(Action::await_change());
    };
    if flag.object.metadata.deletion_timestamp.is_some() {
        return remove::remove(&ctx, &flag, &mut board).await;
    }
    let flag = disable::note(&ctx, remove::hold(&ctx, flag).await?).await?;
    if flag.asked.is_some() {
        // Answered by what is there now; and a Job may write, of which an older list says nothing.
        board.writes(&Map::new());
    }
    let rules = observe::rules(&ctx, &flag, &mut board, report::resync(&flag.object)).await;
    tally::tell(&ctx, &flag);
    let audit = if rules.is_ok() { observe::audit(&ctx, &flag).await } else { Audit::Unwanted };
    let mut decision = decide(&flag, &rules, &audit);
    if let Some(write) = &decision.write {
        // What is written is made of what is there now; what another flag added a moment ago is not added again.
        let age = if matches!(write, Write::Create(_)) { Duration::ZERO } else { FRESH };
        decision = decide(&flag, &observe::rules(&ctx, &flag, &mut board, age).await, &audit);
    }
    if decision.synced.status == Tri::True {
        board.settled();
    }
    let done = Box::pin(apply::apply(&ctx, flag, &mut decision, &mut board)).await?;
    drop(board);
    Box::pin(report::outcome(&ctx, done, decision)).await
}
