//! Asks for the routes of all stacks beside the controller, and wakes a stack only when the answers have become others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::reflector::ObjectRef;
use odoo_ai_crds::stack::OdooAiStack;
use tokio::time::MissedTickBehavior;

use super::probe::{self, Answer, Look, Question};
use super::{backends, verdict};
use crate::component::ComponentExt;
use crate::context::{Context, Name};

/// How often it is looked who is to be asked.
const TICK: Duration = Duration::from_secs(1);
/// Routes that are asked for at the same time.
const CONCURRENCY: usize = 8;

/// Asks for ever; `wake` gets a stack when something changed about its routes.
pub async fn poll(ctx: Arc<Context>, wake: UnboundedSender<ObjectRef<OdooAiStack>>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (ctx, wake) = (&ctx, &wake);
        futures::stream::iter(ctx.routes.due(Instant::now()))
            .for_each_concurrent(CONCURRENCY, |(name, questions)| async move {
                if round(ctx, &name, questions).await {
                    let (namespace, name) = name;
                    // Nobody listens: the controller is about to end.
                    let _ = wake.unbounded_send(ObjectRef::new(&name).within(&namespace));
                }
            })
            .await;
    }
}

/// One round of a stack; true when what was seen isn't what it was.
pub async fn round(ctx: &Context, name: &Name, questions: Vec<Question>) -> bool {
    let strangers = strangers(ctx, name, &questions).await;
    let mut looks = Vec::with_capacity(questions.len());
    for question in questions {
        ctx.metrics.probes.inc();
        let answer = probe::ask(&ctx.proxy, &question).await;
        if let Answer::Http { certificate: Some(it), .. } = &answer {
            ctx.metrics.certificate(name, &question.host, Some(it.until.as_second()));
        }
        let stranger = strangers.get(&service(name, &question)).cloned();
        looks.push(Look { question, answer, stranger });
    }
    let well = looks.iter().all(verdict::is_well);
    ctx.routes.note(name, looks, well, Instant::now())
}

/// Whoever stands behind the routes besides the components' pods, by Service.
async fn strangers(ctx: &Context, name: &Name, questions: &[Question]) -> BTreeMap<String, String> {
    let (namespace, stack) = name;
    let services: BTreeMap<_, _> = questions.iter().map(|it| (service(name, it), it.component.name())).collect();
    let is_own = |service: &str, target: &ObjectReference| {
        let pod = ctx.caches.pod(namespace, target.name.as_deref().unwrap_or_default());
        let component = services.get(service).copied().unwrap_or_default();
        pod.is_some_and(|pod| pod.metadata.uid == target.uid && backends::is_of(&pod, stack, component))
    };
    let names: Vec<_> = services.keys().cloned().collect();
    backends::strangers(&ctx.client, namespace, &names, is_own).await.unwrap_or_else(|error| {
        // What answers is still seen.
        tracing::warn!(%namespace, %stack, %error, "EndpointSlices can't be listed");
        BTreeMap::new()
    })
}

/// Name of the Service that a route leads to.
fn service((_, stack): &Name, question: &Question) -> String {
    format!("{stack}-{}", question.component.name())
}
