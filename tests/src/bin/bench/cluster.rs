//! One stack on a real node: apply → Ready by the operator, and by a script that applies the same
//! children in the same order with the same waits. In turns, because the machine's mood changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_tests::{Cluster, with_namespace_in};
use serde_json::{Value, json};

use crate::figures::{aim, table};
use crate::operator::{self, Metrics};
use crate::room::{Room, STACK, condition, sample};
use crate::script::{self, Child};
use crate::{memory, steady};

/// Seconds of the watch that `Room::apply` asks for; the script has none.
const WATCH: f64 = 2.0;
/// Longest time from apply to Ready.
const READY: Duration = Duration::from_mins(10);
/// Name of the operator's Deployment.
const OPERATOR: &str = "odoo-ai-operator";

/// What one turn of the operator found.
#[derive(Default)]
struct Turn {
    seconds: f64,
    children: Vec<Child>,
    namespace: String,
    /// To children, to statuses.
    writes: (u64, u64),
    idle: Option<Idle>,
}

/// What it found in the time without any change.
struct Idle {
    seconds: u64,
    writes: (u64, u64),
    changes: Option<String>,
    memory: Vec<(String, u64, u64)>,
}

pub(crate) async fn run(rounds: u32, idle_seconds: u64) -> Result<()> {
    ensure!(rounds > 0, "at least one round");
    let cluster = operator::cluster().await?;
    let mut rows: Vec<(f64, f64)> = Vec::new();
    let mut last = Turn::default();
    for round in 1..=rounds {
        scale(cluster, 1).await?;
        let idle = (round == rounds).then_some(idle_seconds);
        last = Box::pin(by_operator(cluster, idle)).await?;
        scale(cluster, 0).await?;
        let script = by_script(cluster, &last).await?;
        eprintln!("round {round}: operator {:.1} s, script {script:.1} s", last.seconds);
        rows.push((last.seconds, script));
    }
    scale(cluster, 1).await?;
    print(&rows, &last)
}

async fn by_operator(cluster: &Cluster, idle_seconds: Option<u64>) -> Result<Turn> {
    // The room goes with the closure; what was found must outlive it.
    let found = Arc::new(Mutex::new(Turn::default()));
    let result = Arc::clone(&found);
    let work = with_namespace_in(cluster, "bench-operator", |client, ns| async move {
        let room = Room::new(client, ns).await?;
        let before = Metrics::read(&room.client).await?.writes();
        let began = Instant::now();
        room.apply(&sample("local.yaml")?).await?;
        let ready = await_condition(room.api::<OdooAiStack>(), STACK, |stack: Option<&OdooAiStack>| {
            stack.and_then(|stack| condition(stack, "Ready")).is_some_and(|it| it.status == "True")
        });
        Box::pin(tokio::time::timeout(READY, ready)).await.context("the stack is not Ready in time")??;
        let seconds = began.elapsed().as_secs_f64() - WATCH;
        let after = Metrics::read(&room.client).await?.writes();
        let writes = (after.0 - before.0, after.1 - before.1);
        let children = script::children(&room).await?;
        let idle = match idle_seconds {
            Some(seconds) => Some(rest(&room, seconds).await?),
            None => None,
        };
        let turn = Turn { seconds, children, namespace: room.ns.clone(), writes, idle };
        *result.lock().unwrap_or_else(PoisonError::into_inner) = turn;
        room.clear().await
    });
    Box::pin(work).await?;
    Ok(std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner)))
}

async fn rest(room: &Room, seconds: u64) -> Result<Idle> {
    room.wait("OdooReachable", "True", "", 90).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (versions, before) = (steady::versions(room).await?, Metrics::read(&room.client).await?.writes());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let changes = steady::unchanged(&versions, &steady::versions(room).await?).err().map(|error| error.to_string());
    let after = Metrics::read(&room.client).await?.writes();
    let writes = (after.0 - before.0, after.1 - before.1);
    Ok(Idle { seconds, writes, changes, memory: memory::used(room).await? })
}

async fn by_script(cluster: &Cluster, turn: &Turn) -> Result<f64> {
    let (seconds, children, from) = (Mutex::new(0.0), &turn.children, &turn.namespace);
    with_namespace_in(cluster, "bench-script", |client, ns| {
        let seconds = &seconds;
        async move {
            let room = Room::new(client, ns).await?;
            let user: Vec<Value> =
                sample("local.yaml")?.into_iter().filter(|document| document["kind"] != "OdooAiStack").collect();
            let took = script::run(&room, &user, children, from).await?;
            *seconds.lock().unwrap_or_else(PoisonError::into_inner) = took;
            Ok(())
        }
    })
    .await?;
    Ok(seconds.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The operator is away while the script has its turn.
pub(crate) async fn scale(cluster: &Cluster, replicas: i32) -> Result<()> {
    let client = cluster.client().await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), operator::NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments.patch(OPERATOR, &PatchParams::default(), &patch).await?;
    let gone = await_condition(deployments, OPERATOR, move |it: Option<&Deployment>| {
        let status = it.and_then(|it| it.status.clone()).unwrap_or_default();
        let generation = it.and_then(|it| it.metadata.generation);
        status.observed_generation >= generation && status.replicas.unwrap_or(0) == replicas
    });
    tokio::time::timeout(READY, gone).await.context("scaling the operator")??;
    if replicas > 0 {
        operator::leading(&client).await?;
    }
    Ok(())
}

fn print(rows: &[(f64, f64)], last: &Turn) -> Result<()> {
    let cells = rows.iter().enumerate().map(|(round, (operator, script))| {
        let ratio = format!("{:.3}", operator / script);
        vec![(round + 1).to_string(), format!("{operator:.1}"), format!("{script:.1}"), ratio]
    });
    table(&["round", "operator s", "script s", "ratio"], &cells.collect::<Vec<_>>());
    let sum = |of: fn(&(f64, f64)) -> f64| rows.iter().map(of).sum::<f64>();
    let ratio = sum(|it| it.0) / sum(|it| it.1);
    println!("\nWrites from apply to Ready: {} to children, {} to the status\n", last.writes.0, last.writes.1);
    aim("apply → Ready at most 1.1 × the script, watch excluded", &format!("{ratio:.3}"), ratio <= 1.1);
    let idle = last.idle.as_ref().context("the last round rests")?;
    let (children, statuses) = idle.writes;
    let changes = idle.changes.clone().unwrap_or_default();
    let what = format!("no write in {} idle seconds", idle.seconds);
    aim(&what, &format!("{} {changes}", children + statuses), children + statuses == 0 && changes.is_empty());
    for (container, limit) in [("operator", 40), ("agent", 10)] {
        for (_, used, rss) in idle.memory.iter().filter(|(name, ..)| name == container) {
            let kib = |bytes: &u64| format!("{}.{} MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20);
            let found = format!("working set {}, resident {}", kib(used), kib(rss));
            aim(&format!("{container} below {limit} MiB"), &found, *used < limit << 20);
        }
    }
    Ok(())
}
