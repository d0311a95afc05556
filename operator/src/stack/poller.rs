//! Asks the agents of all running ai-service pods every few seconds, beside the controller, and
//! wakes a stack only when what they say has become something else. A reconcile is a dozen
//! requests to the API server; this costs it none.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;
use odoo_ai_crds::stack::OdooAiStack;
use tokio::time::MissedTickBehavior;

use super::agents::{ask_one, runs};
use crate::component::{Component, ComponentExt};
use crate::context::Context;

/// Time between two rounds. With an agent's longest answer it stays below ten seconds.
const EVERY: Duration = Duration::from_secs(5);
/// Agents that are asked at the same time.
const CONCURRENCY: usize = 64;

/// Asks for ever; `wake` gets a stack when something changed about it. `owner` finds it.
pub async fn poll(
    ctx: Arc<Context>,
    owner: impl Fn(&Pod) -> Option<ObjectRef<OdooAiStack>>,
    wake: UnboundedSender<ObjectRef<OdooAiStack>>,
) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let mut pods = ctx.caches.pods_of(Component::AiService.name());
        pods.retain(|pod| runs(pod));
        let uids: HashSet<_> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        ctx.agents.keep(&uids);
        let (ctx, owner, wake) = (&ctx, &owner, &wake);
        futures::stream::iter(&pods)
            .for_each_concurrent(CONCURRENCY, |pod| async move {
                let Some(uid) = pod.metadata.uid.as_deref() else { return };
                let answer = ask_one(&ctx.http, pod).await;
                if ctx.agents.note(uid, answer, Instant::now())
                    && let Some(stack) = owner(pod)
                {
                    // Nobody listens: the controller is about to end.
                    let _ = wake.unbounded_send(stack);
                }
            })
            .await;
    }
}
