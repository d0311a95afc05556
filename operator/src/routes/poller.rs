//! Asks for the routes of all stacks beside the controller, and wakes a stack only when the answers have become others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::channel::mpsc::UnboundedSender;
use kube::runtime::reflector::ObjectRef;
use odoo_ai_crds::stack::OdooAiStack;
use tokio::time::MissedTickBehavior;

use super::probe::{self, Answer, Question};
use super::verdict;
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

/// One round of a stack; true when the answers are not what they were.
pub async fn round(ctx: &Context, name: &Name, questions: Vec<Question>) -> bool {
    let mut answers = Vec::with_capacity(questions.len());
    for question in questions {
        let answer = probe::ask(&ctx.proxy, &question).await;
        if let Answer::Http { certificate: Some(it), .. } = &answer {
            ctx.metrics.certificate(name, &question.host, Some(it.until.as_second()));
        }
        answers.push((question, answer));
    }
    let well = answers.iter().all(|(question, answer)| verdict::is_well(question, answer));
    ctx.routes.note(name, answers, well, Instant::now())
}
