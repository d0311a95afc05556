//! Wires the controller: which events wake which Backup.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use kube::runtime::controller::Config;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, ResourceExt};
use odoo_ai_crds::backup::Backup;

use super::{KIND, reconcile};
use crate::cluster::cache::Scope;
use crate::cluster::watch::{calm, patient};
use crate::context::Context;
use crate::controller::drive;

/// Backups that are reconciled at the same time.
const CONCURRENCY: u16 = 2;
/// Events of one Backup within this time are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Runs until `shutdown` resolves and the reconciles under way have ended.
pub async fn run(
    ctx: Arc<Context>,
    scope: &Scope,
    heard: UnboundedReceiver<ObjectRef<Backup>>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let api: Api<Backup> = scope.api(&ctx.client);
    let (backups, writer) = reflector::store();
    // A status write is no reason to look again; a request by annotation is.
    let wanted = predicates::generation.combine(predicates::annotations);
    let memory = Arc::clone(&ctx);
    let changes = patient(watcher(api, watcher::Config::default()))
        .inspect_ok(move |event| {
            if let watcher::Event::Delete(backup) = event {
                memory.metrics.forget_backup(&(backup.namespace().unwrap_or_default(), backup.name_any()));
            }
        })
        .reflect(writer)
        .touched_objects();
    let trigger = calm(changes).predicate_filter(wanted, PredicateConfig::default());
    let controller = Controller::for_stream(trigger, backups)
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .reconcile_on(heard)
        .graceful_shutdown_on(shutdown);
    drive(controller, KIND, ctx, reconcile).await;
}
