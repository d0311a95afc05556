//! Wires the controller: which events wake which flag.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use kube::runtime::controller::Config;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, ResourceExt};
use odoo_ai_crds::flag::FeatureFlag;

use super::{KIND, reconcile, tally};
use crate::cluster::cache::Scope;
use crate::cluster::cached::Filler;
use crate::cluster::watch::{calm, patient};
use crate::context::Context;
use crate::controller::drive;

/// Flags that are reconciled at the same time; those of one stack come one after the other.
const CONCURRENCY: u16 = 4;
/// Events of one flag within this time are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Runs until `shutdown` resolves and the reconciles under way have ended.
pub async fn run(
    ctx: Arc<Context>,
    scope: &Scope,
    filler: Filler<FeatureFlag>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let api: Api<FeatureFlag> = scope.api(&ctx.client);
    let flags = ctx.flags.clone();
    // A status write is no reason to look again; a request by annotation is.
    let wanted = predicates::generation.combine(predicates::annotations);
    let (wake, woken) = futures::channel::mpsc::unbounded();
    let (known, memory) = (flags.clone(), Arc::clone(&ctx));
    let changes = patient(watcher(api, watcher::Config::default())).inspect_ok(move |event| {
        if let watcher::Event::Delete(gone) = event {
            // The younger one of two has the rule now. Nobody hears it while the process ends.
            for flag in rivals(&known, gone) {
                let _ = wake.unbounded_send(flag);
            }
            tally::gone(&memory, gone);
        }
    });
    let trigger = calm(filler.fill(changes).touched_objects()).predicate_filter(wanted, PredicateConfig::default());
    let controller = Controller::for_stream(trigger, flags.store())
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .reconcile_on(woken)
        .graceful_shutdown_on(shutdown);
    drive(controller, KIND, ctx, reconcile).await;
}

/// The other flags of the same rule.
fn rivals(flags: &Store<FeatureFlag>, gone: &FeatureFlag) -> Vec<ObjectRef<FeatureFlag>> {
    let same = |flag: &FeatureFlag| {
        flag.namespace() == gone.namespace()
            && flag.spec.stack_ref == gone.spec.stack_ref
            && flag.spec.rule == gone.spec.rule
    };
    flags.state_filter(same).into_iter().map(|flag| ObjectRef::from_obj(&*flag)).collect()
}
