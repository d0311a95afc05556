//! What the controllers of all kinds share: a reconcile is measured and bounded, and a failed one comes again later and
//! later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::Controller;
use kube::runtime::controller::Action;

use crate::context::{Context, Custom, Name};
use crate::metrics::Reconciled;
use crate::stack::error::Error;

/// Longest time for one reconcile.
const LONGEST: Duration = Duration::from_mins(2);
/// Longest time for the first lists of all caches.
const FILLED: Duration = Duration::from_secs(30);

/// Runs a controller until it ends: its own streams, or whoever asked for a graceful end, say when.
pub async fn drive<K, F>(
    controller: Controller<K>,
    kind: &'static str,
    ctx: Arc<Context>,
    reconcile: fn(Arc<K>, Arc<Context>) -> F,
) where
    K: Custom + Send + Sync + 'static,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let run = controller.run(
        move |object, ctx| measured(kind, object, ctx, reconcile),
        move |object, error, ctx| failed(kind, &*object, error, &ctx),
        ctx,
    );
    run.for_each(|_| std::future::ready(())).await;
}

/// Runs one reconcile of an object of this kind.
///
/// # Errors
/// The reconcile's; [`Error::NotReady`] while the caches are not filled, [`Error::TimedOut`].
pub async fn measured<K: ResourceExt, F: Future<Output = Result<Action, Error>>>(
    kind: &'static str,
    object: Arc<K>,
    ctx: Arc<Context>,
    reconcile: impl FnOnce(Arc<K>, Arc<Context>) -> F,
) -> Result<Action, Error> {
    // The streams fill the stores only while the stacks' controller polls them.
    if tokio::time::timeout(FILLED, ctx.caches.ready()).await.is_err() {
        return Err(Error::NotReady);
    }
    let start = Instant::now();
    // The client repeats refused requests by itself, many times; a bound keeps one object from hanging.
    let work = Box::pin(reconcile(Arc::clone(&object), Arc::clone(&ctx)));
    let result = tokio::time::timeout(LONGEST, work).await.unwrap_or(Err(Error::TimedOut));
    let labels = Reconciled { kind, result: if result.is_ok() { "success" } else { "error" } };
    ctx.metrics.duration.get_or_create(&labels).observe(start.elapsed().as_secs_f64());
    if result.is_ok() {
        ctx.metrics.reconciles.get_or_create(&labels).inc();
        ctx.backoff.succeeded(&(kind, name(&*object)));
    }
    result
}

/// When to try again after a failure.
pub fn failed<K: ResourceExt>(kind: &'static str, object: &K, error: &Error, ctx: &Context) -> Action {
    ctx.metrics.reconciles.get_or_create(&Reconciled { kind, result: "error" }).inc();
    if error.is_conflict() {
        return Action::requeue(Duration::from_millis(200));
    }
    let (namespace, name) = name(object);
    let after = ctx.backoff.failed((kind, (namespace.clone(), name.clone())));
    tracing::warn!(kind, namespace, name, %error, retry_after = ?after, "reconcile failed");
    Action::requeue(after)
}

fn name<K: ResourceExt>(object: &K) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}
