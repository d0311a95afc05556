//! What happens around a revision while it comes in: names that don't resolve, servers and nodes that restart,
//! a node that is full, an image that is gone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use odoo_ai_tests::{Cluster, docker, wait_for};
use serde_json::json;

use super::calm::{holds, watched_again};
use super::fails::{annotate, current, env, image, resolved, rolled_back, settle, status};
use super::midway::at;
use crate::faults::names;
use crate::operator::{self, End};
use crate::room::Room;
use odoo_ai_crds::stack::Step;

const READY: u64 = 240;
/// An image that was there once.
const GONE: &str = "odoo-ai-platform/ai-service:gone";

/// Nobody resolves a name for a while: new connections fail.
pub(super) async fn no_names(room: &Room) -> Result<String> {
    let dns: Api<Deployment> = Api::namespaced(room.client.clone(), "kube-system");
    let scale = |replicas: i32| {
        let dns = dns.clone();
        async move {
            let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
            dns.patch("coredns", &PatchParams::default(), &patch).await
        }
    };
    scale(0).await?;
    tokio::time::sleep(Duration::from_secs(25)).await;
    let stands = holds(room).await;
    scale(1).await?;
    stands?;
    watched_again(room).await?;
    Ok(String::new())
}

/// The room with a client for the API server that has come back.
async fn reboot(room: &Room, cluster: &Cluster) -> Result<Room> {
    cluster.reboot().await?;
    Ok(Room { client: cluster.client().await?, ns: room.ns.clone() })
}

pub(super) async fn reboot_in_the_watch(room: &Room, cluster: &Cluster) -> Result<String> {
    let target = status(room).await?.update_revision.context("no updateRevision")?;
    let room = &reboot(room, cluster).await?;
    room.wait_ready(READY).await?;
    holds(room).await?;
    ensure!(current(room).await? == target, "another revision runs");
    Ok(String::new())
}

pub(super) async fn reboot_in_a_replacement(room: &Room, cluster: &Cluster) -> Result<String> {
    room.change(env("SOMETHING", "rebooted")).await?;
    let target = at(room, Step::AiService).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let room = &reboot(room, cluster).await?;
    room.wait_ready(READY).await?;
    holds(room).await?;
    ensure!(current(room).await? == target, "another revision runs");
    Ok(String::new())
}

pub(super) async fn servers_restart_in_a_replacement(room: &Room) -> Result<String> {
    room.change(env("SOMETHING", "else")).await?;
    let target = at(room, Step::AiService).await?;
    for component in ["postgresql", "redis"] {
        let pod = room.pod_of(component).await?.name_any();
        room.api::<Pod>().delete(&pod, &DeleteParams::default()).await?;
    }
    room.wait_ready(READY).await?;
    holds(room).await?;
    ensure!(current(room).await? == target, "another revision runs");
    Ok(String::new())
}

/// Environment and images are those of before the bad revision, after a reboot too; it isn't tried again.
pub(super) async fn taken_back_and_rebooted(room: &Room, cluster: &Cluster) -> Result<String> {
    let (old, before) = (current(room).await?, resolved(room).await?);
    room.change(env("SAMPLE_BREAK_WORKER", "1")).await?;
    rolled_back(room, &old, &["(Worker)", "CrashLoop"]).await?;
    ensure!(resolved(room).await? == before, "not as before the bad revision");
    let room = &reboot(room, cluster).await?;
    let now = wait_for("everything to run again", Duration::from_mins(3), || async {
        let (status, _) = room.ask("GET", "/openapi.json", None, None).await?;
        ensure!(status == 200, "the API answers {status}");
        let now = resolved(room).await?;
        Ok((now == before).then_some(now))
    })
    .await?;
    rolled_back(room, &old, &["(Worker)", "CrashLoop"]).await?;
    settle(room, json!({"env": null})).await?;
    Ok(format!("{} parts", now.len()))
}

/// It says so, and the database stays where it is.
pub(super) async fn does_not_fit(room: &Room) -> Result<String> {
    let (old, database) = (current(room).await?, room.pod_of("postgresql").await?.uid());
    let memory = json!({"requests": {"memory": "900Gi"}, "limits": {"memory": "900Gi"}});
    room.change(json!({"rollout": {"progressDeadlineSeconds": 40}, "aiService": {"resources": memory}})).await?;
    let told = room.wait("Ready", "False", "Unschedulable", 30).await?;
    names(&told, &["memory"])?;
    let stalled = rolled_back(room, &old, &["ProgressDeadlineExceeded", "memory"]).await?;
    ensure!(room.pod_of("postgresql").await?.uid() == database, "the database was put off");
    settle(room, json!({"rollout": {"progressDeadlineSeconds": null}, "aiService": {"resources": null}})).await?;
    Ok(stalled.message)
}

/// The way back needs an image that nobody has any more: what serves is kept.
pub(super) async fn history_image_is_gone(room: &Room, cluster: &Cluster) -> Result<String> {
    let node = cluster.container()?;
    let images = async |arguments: &[&str]| {
        let base = ["exec", &node, "ctr", "-n", "k8s.io", "images"];
        docker(base.iter().chain(arguments).copied()).await.map(drop)
    };
    let of = |image: &str| format!("docker.io/{image}");
    images(&["tag", "--force", &of(&image("1.0.0")), &of(GONE)]).await?;
    settle(room, json!({"images": {"aiService": GONE}})).await?;
    let gone = current(room).await?;
    settle(room, json!({"images": {"aiService": image("1.0.0")}})).await?;
    let runs = room.pod_of("ai-service").await?.uid();
    images(&["rm", &of(GONE)]).await?;
    let to = json!({
        "odoo-ai.atmatasolutions.com/rollback-to": gone, "odoo-ai.atmatasolutions.com/rollback-requested-at": "gone",
    });
    annotate(room, to).await?;
    let stalled = room.wait("Stalled", "True", "RollbackFailed", 180).await?;
    names(&stalled, &["ImagePullFailed", "ai-service:gone", "what serves is kept"])?;
    room.wait("Available", "True", "", 5).await?;
    let serves = wait_for("the pod that serves", Duration::from_mins(1), || async {
        let pods = room.pods_of("ai-service").await?;
        Ok(pods.iter().any(|pod| pod.uid() == runs).then_some(()))
    });
    serves.await.context("what served was replaced")?;
    // A new operator asks the nodes at once.
    operator::replace(cluster, &room.client, End::Crashed).await?;
    wait_for("the history to say that the image is gone", Duration::from_mins(3), || async {
        let history = status(room).await?.history;
        let entry = history.iter().find(|entry| entry.revision == gone).context("no entry")?;
        let image = entry.images.iter().find(|it| it.image == GONE).context("no image")?;
        Ok((image.on_node == Some(false)).then_some(()))
    })
    .await?;
    annotate(room, json!({"odoo-ai.atmatasolutions.com/retry-requested-at": "gone"})).await?;
    room.wait_ready(READY).await?;
    Ok(stalled.message)
}
