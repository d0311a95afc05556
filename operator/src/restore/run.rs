//! Wires the controller: which events wake which Restore.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use kube::runtime::controller::Config;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, ResourceExt};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::restore::Restore;

use super::{KIND, is_active, is_in_place, reconcile};
use crate::cluster::cache::Scope;
use crate::cluster::cached::Filler;
use crate::cluster::watch::{calm, patient};
use crate::context::Context;
use crate::controller::drive;

/// Restores that are reconciled at the same time.
const CONCURRENCY: u16 = 2;
/// Events of one Restore within this time are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Runs until `shutdown` resolves and the reconciles under way have ended.
pub async fn run(
    ctx: Arc<Context>,
    scope: &Scope,
    filler: Filler<Restore>,
    heard: UnboundedReceiver<ObjectRef<Restore>>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let api: Api<Restore> = scope.api(&ctx.client);
    let restores = ctx.restores.clone();
    // A status write is no reason to look again.
    let wanted = predicates::generation.combine(predicates::annotations);
    let (known, memory) = (restores.clone(), Arc::clone(&ctx));
    let changes = patient(watcher(api, watcher::Config::default())).inspect_ok(move |event| match event {
        watcher::Event::Apply(now) | watcher::Event::InitApply(now) => {
            let before = known.get(&ObjectRef::from_obj(now));
            if before.is_none_or(|before| claim(&before) != claim(now)) {
                wake(&memory, now);
            }
        }
        watcher::Event::Delete(gone) => {
            memory.metrics.restore(&(gone.namespace().unwrap_or_default(), gone.name_any()), None);
            wake(&memory, gone);
        }
        watcher::Event::Init | watcher::Event::InitDone => {}
    });
    let trigger = calm(filler.fill(changes).touched_objects()).predicate_filter(wanted, PredicateConfig::default());
    let controller = Controller::for_stream(trigger, restores.store())
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .reconcile_on(heard)
        .graceful_shutdown_on(shutdown);
    drive(controller, KIND, ctx, reconcile).await;
}

/// What others go by: whether it reads a backup, and what it asks of the stack.
fn claim(restore: &Restore) -> impl PartialEq {
    let status = restore.status.as_ref();
    let step = status.filter(|_| is_in_place(restore)).map(|status| (status.step, status.round));
    (is_active(restore), step, restore.metadata.deletion_timestamp.is_some())
}

/// A Backup removes nothing while a Restore reads from it; stack and Backups rest while their database is replaced.
fn wake(ctx: &Context, restore: &Restore) {
    let Some(namespace) = restore.namespace() else { return };
    let stack = &restore.spec.stack_ref.name;
    if let Some(backup) = &restore.spec.source.backup_ref {
        ctx.backup_bell.ring_for(&ObjectRef::new(&backup.name).within(&namespace));
    }
    if is_in_place(restore) {
        ctx.stack_bell.ring_for(&ObjectRef::new(stack).within(&namespace));
        for backup in ctx.caches.backups_of(&namespace, stack) {
            ctx.backup_bell.ring_for(&ObjectRef::from_obj(&*backup));
        }
    }
}

/// The Restore reads from the Backup.
#[must_use]
pub fn is_from(restore: &Restore, backup: &Backup) -> bool {
    let source = restore.spec.source.backup_ref.as_ref();
    restore.namespace() == backup.namespace() && source.is_some_and(|it| it.name == backup.name_any())
}
