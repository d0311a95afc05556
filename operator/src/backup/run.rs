//! Wires the controller: which events wake which Backup.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender};
use kube::runtime::controller::Config;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Resource, ResourceExt};
use odoo_ai_crds::backup::Backup;

use super::{KIND, reconcile};
use crate::cluster::cache::Scope;
use crate::cluster::watch::{calm, patient};
use crate::context::Context;
use crate::controller::drive;
use crate::labels;

/// Backups that are reconciled at the same time.
const CONCURRENCY: u16 = 2;
/// Events of one Backup within this time are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Wakes Backups for what is seen by the stacks' watches: one watch serves both.
#[derive(Clone, Debug, Default)]
pub struct Bell(Option<UnboundedSender<ObjectRef<Backup>>>);

impl Bell {
    /// A bell, and what is heard of it.
    #[must_use]
    pub fn new() -> (Self, UnboundedReceiver<ObjectRef<Backup>>) {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        (Self(Some(sender)), receiver)
    }

    /// Something of a Backup changed.
    pub fn ring<K: Resource>(&self, child: &K) {
        if let (Some(name), Some(namespace)) = (child.labels().get(labels::BACKUP), child.namespace()) {
            self.ring_for(&ObjectRef::new(name).within(&namespace));
        }
    }

    /// Something that the Backup depends on changed.
    pub fn ring_for(&self, backup: &ObjectRef<Backup>) {
        // Nobody hears it while the process ends.
        self.0.iter().for_each(|sender| _ = sender.unbounded_send(backup.clone()));
    }
}

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
