//! Wires the controller: which events wake which stack.

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Config;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Resource, ResourceExt};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::stack::OdooAiStack;

use super::references::{self, Reference};
use super::{KIND, poller, reconcile};
use crate::cluster::cache::{Scope, Streams};
use crate::cluster::cached::{Cached, Filler};
use crate::cluster::slim::Slim;
use crate::cluster::watch::{Events, calm, patient};
use crate::context::Context;
use crate::controller::drive;
use crate::labels;

/// Metadata of a Secret.
type Credentials = PartialObjectMeta<Secret>;

/// Stacks that are reconciled at the same time.
const CONCURRENCY: u16 = 4;
/// Events of one stack within this time are one reconcile. A first install waits for it a dozen times.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(100);

/// Runs until `shutdown` resolves and the reconciles under way have ended.
pub async fn run(
    ctx: Arc<Context>,
    scope: &Scope,
    streams: Streams,
    (stacks, filler): (Cached<OdooAiStack>, Filler<OdooAiStack>),
    heard: UnboundedReceiver<ObjectRef<OdooAiStack>>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let api: Api<OdooAiStack> = scope.api(&ctx.client);
    // A status write is no reason to look again; a request by annotation is.
    let wanted = predicates::generation.combine(predicates::annotations);
    let (wake, woken) = futures::channel::mpsc::unbounded();
    ctx.stacks.listen(scope.clone(), wake.clone());
    let (memory, known) = (Arc::clone(&ctx), stacks.clone());
    let changes = patient(watcher(api, watcher::Config::default()))
        .inspect_ok(move |event| match event {
            watcher::Event::Delete(stack) => {
                wake_backups(&memory, stack);
                memory.forget(&(stack.namespace().unwrap_or_default(), stack.name_any()));
                memory.stacks.changed(Some(stack), None);
            }
            watcher::Event::Apply(stack) | watcher::Event::InitApply(stack) => {
                let before = known.get(&ObjectRef::from_obj(stack));
                // Its status changes all the time.
                if before.is_none_or(|before| before.metadata.generation != stack.metadata.generation) {
                    wake_backups(&memory, stack);
                }
                memory.stacks.changed(known.get(&ObjectRef::from_obj(stack)).as_deref(), Some(stack));
            }
            watcher::Event::Init | watcher::Event::InitDone => {}
        })
        .modify(Slim::slim);
    let stacks = stacks.store();
    let trigger = calm(filler.fill(changes).touched_objects()).predicate_filter(wanted, PredicateConfig::default());
    let asking = poller::poll(Arc::clone(&ctx), |pod: &Pod| owner(pod), wake.clone());
    let probing = crate::routes::poller::poll(Arc::clone(&ctx), wake);
    let controller = Controller::for_stream(trigger, stacks.clone())
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .watches_stream(streams.deployments, |child| owner(&child))
        .watches_stream(streams.stateful_sets, |child| owner(&child))
        .watches_stream(ringing(&ctx, streams.jobs), |child| owner(&child))
        .watches_stream(ringing(&ctx, streams.pods), |child| owner(&child))
        .watches_stream(ringing(&ctx, streams.cron_jobs), |_| None)
        .watches_stream(streams.services, |child| owner(&child))
        .watches_stream(streams.accounts, |child| owner(&child))
        .watches_stream(streams.claims, |child| owner(&child))
        .watches_stream(streams.revisions, |child| owner(&child))
        .watches_stream(streams.policies, |child| owner(&child))
        .watches_stream(streams.budgets, |child| owner(&child))
        .watches_stream(streams.ingresses, |child| owner(&child))
        .watches_stream(streams.ingress_routes, |child| owner(&child))
        .watches_stream(streams.middlewares, |child| owner(&child))
        .watches_stream(ringing_for_buckets(&ctx, streams.secrets), referring(stacks.clone(), Reference::Secret))
        .watches_stream(streams.config_maps, referring(stacks.clone(), Reference::ConfigMap))
        .watches_stream(streams.backups, naming(stacks))
        .reconcile_on(woken)
        .reconcile_on(heard)
        .reconcile_all_on(ctx.caches.traefik_changes())
        .graceful_shutdown_on(shutdown);
    tokio::select! {
        () = drive(controller, KIND, ctx, reconcile) => {}
        () = asking => {}
        () = probing => {}
    }
}

/// The Backups of a stack are made anew of what it says now.
fn wake_backups(ctx: &Context, stack: &OdooAiStack) {
    for backup in ctx.caches.backups_of(&stack.namespace().unwrap_or_default(), &stack.name_any()) {
        ctx.backup_bell.ring_for(&ObjectRef::from_obj(&*backup));
    }
}

/// What a watch tells is told to the Backup or Restore that it is about, too.
fn ringing<K: Resource + Send + 'static>(ctx: &Context, events: Events<K>) -> Events<K> {
    let (backups, restores) = (ctx.backup_bell.clone(), ctx.restore_bell.clone());
    let ring = move |child: &K| {
        backups.ring(child);
        restores.ring(child);
    };
    events.inspect_ok(ring).boxed()
}

/// The same of the Secrets that Backups name.
fn ringing_for_buckets(ctx: &Arc<Context>, events: Events<Credentials>) -> Events<Credentials> {
    let memory = Arc::clone(ctx);
    events
        .inspect_ok(move |secret| {
            let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
            for backup in memory.caches.backups_with(&namespace, &name) {
                memory.backup_bell.ring_for(&ObjectRef::from_obj(&*backup));
            }
        })
        .boxed()
}

/// The stack that a child belongs to, by its label.
fn owner<K: Resource>(child: &K) -> Option<ObjectRef<OdooAiStack>> {
    let name = child.labels().get(labels::STACK)?;
    Some(ObjectRef::new(name).within(&child.namespace()?))
}

/// The stacks that name a Backup for their migrations, and the one that it is for.
fn naming(stacks: Store<OdooAiStack>) -> impl Fn(Backup) -> Vec<ObjectRef<OdooAiStack>> {
    move |backup| {
        let names = |stack: &OdooAiStack| {
            let reference = stack.spec.migrations.backup_ref.as_ref();
            let is_for = stack.name_any() == backup.spec.stack_ref.name;
            stack.namespace() == backup.namespace()
                && (is_for || reference.is_some_and(|it| it.name == backup.name_any()))
        };
        stacks.state_filter(names).into_iter().map(|stack| ObjectRef::from_obj(&*stack)).collect()
    }
}

/// The stacks that a Secret or `ConfigMap` belongs to or is referred to by.
fn referring<K: Resource>(
    stacks: Store<OdooAiStack>,
    reference: impl Fn(String) -> Reference,
) -> impl Fn(K) -> Vec<ObjectRef<OdooAiStack>> {
    move |object| {
        let wanted = reference(object.name_any());
        let refers = |stack: &OdooAiStack| {
            stack.namespace() == object.namespace() && references::of(&stack.spec, &stack.name_any()).contains(&wanted)
        };
        let referring = stacks.state_filter(refers).into_iter().map(|stack| ObjectRef::from_obj(&*stack));
        owner(&object).into_iter().chain(referring).collect()
    }
}
