//! What a rollout costs: an update beside `kubectl rollout` of the same workloads, one after the other, and how
//! long a revision that has failed is still there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt, watcher};
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_tests::{Cluster, docker, with_namespace_in};
use serde_json::{Value, json};

use crate::cluster::scale;
use crate::figures::{aim, table};
use crate::operator;
use crate::poller::Poller;
use crate::room::{COMPONENT, Room, STACK, sample};

const READY: u64 = 240;
const STEP: Duration = Duration::from_mins(3);
const RELEASE: &str = "odoo-ai-platform/ai-service:1.0.0";
const REVISION: &str = "odoo-ai.atmatasolutions.com/revision";
const RESTARTS: i32 = 3;

/// Seconds of each round.
#[derive(Default)]
struct Found {
    operator: Vec<f64>,
    kubectl: Vec<f64>,
    /// From the threshold to the first write of the way back, and to everything running again.
    crash: Vec<(f64, f64)>,
    deadline: Vec<(f64, f64)>,
    answers: Vec<String>,
}

pub(crate) async fn run(rounds: u32) -> Result<()> {
    ensure!(rounds > 0, "at least one round");
    let cluster = operator::cluster().await?;
    let found = Arc::new(Mutex::new(Found::default()));
    let result = Arc::clone(&found);
    let work = with_namespace_in(cluster, "bench-rollout", |client, ns| async move {
        let room = Room::new(client, ns).await?;
        room.apply(&sample("local.yaml")?).await?;
        room.wait_ready(READY).await?;
        let mut found = Found::default();
        // Before the updates, which restart the operator: one that has just come gives a late step two minutes.
        for _ in 0..rounds {
            let poller = Poller::start(&room).await?;
            let count = poller.count().await?;
            found.crash.push(Box::pin(crash(&room)).await?);
            found.deadline.push(Box::pin(deadline(&room)).await?);
            found.answers.push(poller.never_failed(&count).await.unwrap_or_else(|failed| failed.to_string()));
        }
        for round in 1..=rounds {
            let image = tagged(cluster, round).await?;
            found.operator.push(Box::pin(by_operator(&room, &image)).await?);
            scale(cluster, 0).await?;
            let by_hand = by_kubectl(&room, round).await;
            scale(cluster, 1).await?;
            found.kubectl.push(by_hand?);
            room.wait_ready(READY).await?;
        }
        // Its pods go with the namespace: one that hangs takes its whole grace.
        *result.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    });
    Box::pin(work).await?;
    print(&found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

/// The release under another name: an image that no revision has had, so its plan Job is part of it.
async fn tagged(cluster: &Cluster, round: u32) -> Result<String> {
    let image = format!("odoo-ai-platform/ai-service:rollout-{round}");
    docker(&["tag", RELEASE, &image]).await?;
    cluster.load_images(std::slice::from_ref(&image)).await?;
    Ok(image)
}

/// From the changed spec to the begin of the watch: all four workloads run the new revision.
async fn by_operator(room: &Room, image: &str) -> Result<f64> {
    let began = Instant::now();
    room.change(json!({
        "images": {"aiService": image}, "dashboard": {"env": [{"name": "ROUND", "value": image}]},
    }))
    .await?;
    let watched = await_condition(room.api::<OdooAiStack>(), STACK, |stack: Option<&OdooAiStack>| {
        let conditions = stack.and_then(|stack| Some(&stack.status.as_ref()?.conditions));
        conditions.is_some_and(|all| all.iter().any(|it| it.type_ == "Ready" && it.reason == "Watching"))
    });
    Box::pin(tokio::time::timeout(STEP, watched)).await.context("the watch doesn't begin")??;
    let seconds = began.elapsed().as_secs_f64();
    room.wait_ready(READY).await?;
    Ok(seconds)
}

/// `kubectl rollout restart` and `rollout status` of each, in the same order; each wait is a watch.
async fn by_kubectl(room: &Room, round: u32) -> Result<f64> {
    let began = Instant::now();
    let restart = Patch::Merge(json!({"spec": {"template": {"metadata": {"annotations": {
        "kubectl.kubernetes.io/restartedAt": format!("round {round}"),
    }}}}}));
    for component in ["ai-service", "worker", "beat", "dashboard"] {
        let name = format!("{STACK}-{component}");
        if component == "beat" {
            let set = room.api::<StatefulSet>().patch(&name, &PatchParams::default(), &restart).await?;
            let done =
                await_condition(room.api::<StatefulSet>(), &name, rolled::<StatefulSet>(set.metadata.generation));
            tokio::time::timeout(STEP, done).await.context(name)??;
        } else {
            let deployment = room.api::<Deployment>().patch(&name, &PatchParams::default(), &restart).await?;
            let wanted = deployment.metadata.generation;
            let done = await_condition(room.api::<Deployment>(), &name, rolled::<Deployment>(wanted));
            tokio::time::timeout(STEP, done).await.context(name)??;
        }
    }
    Ok(began.elapsed().as_secs_f64())
}

/// As `kubectl rollout status` sees it: all pods are new, available, and no old one is left.
fn rolled<K: serde::Serialize>(generation: Option<i64>) -> impl Fn(Option<&K>) -> bool {
    move |object: Option<&K>| {
        let Some(object) = object.and_then(|it| serde_json::to_value(it).ok()) else { return false };
        let status = &object["status"];
        let number = |field: &str| status[field].as_i64().unwrap_or(0);
        let seen = status["observedGeneration"].as_i64() >= generation;
        let same = status["currentRevision"] == status["updateRevision"];
        // A StatefulSet keeps no updatedReplicas once both revisions are the same.
        let new = status["currentRevision"].is_string() || number("updatedReplicas") == 1;
        seen && same && new && number("availableReplicas") == 1 && number("replicas") == 1
    }
}

/// A worker that can't start: the third restart is the threshold.
async fn crash(room: &Room) -> Result<(f64, f64)> {
    let old = current(room).await?;
    room.change(json!({"worker": {"env": [{"name": "SAMPLE_BREAK_WORKER", "value": "1"}]}})).await?;
    let config = watcher::Config::default().labels(&format!("{COMPONENT}=worker"));
    let restarted = async {
        let mut pods = std::pin::pin!(watcher(room.api::<Pod>(), config).applied_objects());
        while let Some(pod) = pods.try_next().await? {
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            if statuses.into_iter().any(|it| it.restart_count >= RESTARTS) {
                return anyhow::Ok(());
            }
        }
        anyhow::bail!("the watch of pods ended")
    };
    tokio::time::timeout(STEP, restarted).await.context("no third restart")??;
    let found = back(room, old, Timestamp::now()).await?;
    settle(room, json!({"worker": {"env": null}})).await?;
    Ok(found)
}

/// An ai-service that never starts: the step's deadline is the threshold.
async fn deadline(room: &Room) -> Result<(f64, f64)> {
    let old = current(room).await?;
    let env = json!([{"name": "SAMPLE_START_SECONDS", "value": "86400"}]);
    room.change(json!({"rollout": {"progressDeadlineSeconds": 30}, "aiService": {"env": env}})).await?;
    let deadline = odoo_ai_tests::wait_for("the step's deadline", STEP, || async {
        let rollout = room.stack().await?.status.and_then(|it| it.rollout);
        Ok(rollout.and_then(|rollout| rollout.deadline).map(|at| at.0))
    })
    .await?;
    let left = Timestamp::now().duration_until(deadline);
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    let found = back(room, old, deadline).await?;
    settle(room, json!({"rollout": {"progressDeadlineSeconds": null}, "aiService": {"env": null}})).await?;
    Ok(found)
}

/// Seconds from `threshold` to the first write of the way back, and to its end.
async fn back(room: &Room, old: String, threshold: Timestamp) -> Result<(f64, f64)> {
    let name = format!("{STACK}-ai-service");
    let moved = await_condition(room.api::<Deployment>(), &name, move |deployment: Option<&Deployment>| {
        deployment.is_some_and(|deployment| deployment.labels().get(REVISION) == Some(&old))
    });
    tokio::time::timeout(STEP, moved).await.context("nothing goes back")??;
    let written = threshold.duration_until(Timestamp::now()).as_secs_f64();
    room.wait("Ready", "False", "RolledBack", 180).await?;
    Ok((written, threshold.duration_until(Timestamp::now()).as_secs_f64()))
}

async fn current(room: &Room) -> Result<String> {
    room.stack().await?.status.and_then(|it| it.current_revision).context("no current revision")
}

async fn settle(room: &Room, spec: Value) -> Result<()> {
    room.change(spec).await?;
    room.wait_ready(READY).await?;
    // Its pods have gone.
    odoo_ai_tests::wait_for("the old pods to go", STEP, || async {
        let pods = room.api::<Pod>().list(&ListParams::default().labels(&format!("{COMPONENT}=worker"))).await?;
        Ok((pods.items.len() == 1).then_some(()))
    })
    .await
}

fn print(found: &Found) {
    let rows: Vec<Vec<String>> = (0..found.operator.len())
        .map(|round| {
            let (crash, deadline) = (found.crash[round], found.deadline[round]);
            let all = [found.operator[round], found.kubectl[round], crash.0, crash.1, deadline.0, deadline.1];
            std::iter::once((round + 1).to_string()).chain(all.map(|it| format!("{it:.1}"))).collect()
        })
        .collect();
    let head = ["round", "operator s", "kubectl s", "crash: written s", "back s", "deadline: written s", "back s"];
    table(&head, &rows);
    println!();
    let ratio = found.operator.iter().sum::<f64>() / found.kubectl.iter().sum::<f64>();
    aim("an update takes at most 1.2 times as long as kubectl's", &format!("{ratio:.2}"), ratio <= 1.2);
    let all = || found.crash.iter().chain(&found.deadline);
    let mut written: Vec<f64> = all().map(|it| it.0).collect();
    written.sort_by(f64::total_cmp);
    let (median, most) = (written[written.len() / 2], written[written.len() - 1]);
    aim("from the threshold to the first write: median at most 5 s", &format!("{median:.1} s"), median <= 5.0);
    aim("and never more than 15 s", &format!("{most:.1} s"), most <= 15.0);
    let longest = all().map(|it| it.1).fold(0.0, f64::max);
    aim("from the threshold to everything running again: at most 60 s", &format!("{longest:.1} s"), longest <= 60.0);
    let lost = found.answers.iter().filter(|it| it.contains("failed:")).count();
    aim("no request fails", &found.answers.join("; "), lost == 0);
}
