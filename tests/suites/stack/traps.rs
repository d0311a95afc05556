//! The application's traps where only a kubelet can show that they don't snap.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use odoo_ai_tests::{apply_yaml, exec, logs, wait_for};
use serde_json::{Value, json};

use crate::ready;
use crate::room::{COMPONENT, Room, STACK};

const STARTS: Duration = Duration::from_mins(1);
const DONE: u64 = 240;
const AI_SERVICE: &str = "odoo-ai-platform/ai-service:1.0.0";
/// Outlasts the rollout of ai-service, which comes before the worker's.
const TASK_SECONDS: u64 = 90;
/// The application drops some events by itself.
const ATTEMPTS: u32 = 5;

/// Their service links would be `AI_SERVICE_PORT` and `SMTP_PORT`.
pub(crate) async fn services_of_bad_names(room: &Room) -> Result<String> {
    let services = ["ai-service", "smtp"].map(|name| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": "nobody"}, "ports": [{"port": 8000}]}})
        .to_string()
    });
    apply_yaml(&room.client, &room.ns, &services.join("\n---\n")).await?;
    Ok(String::new())
}

/// A pod of the application's image like ours, but for what `spec` says.
async fn bare_pod(room: &Room, name: &str, spec: Value) -> Result<()> {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "main",
            "image": AI_SERVICE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-c", "from app.config import get_settings; get_settings()"],
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    }});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    apply_yaml(&room.client, &room.ns, &pod.to_string()).await
}

fn states(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

/// Waits for a state of a bare pod's container, and removes the pod.
async fn state_of<T>(room: &Room, name: &str, seen: impl Fn(&ContainerState) -> Option<T>) -> Result<T> {
    let found = wait_for(&format!("the end of pod {name}"), STARTS, || async {
        let pod = room.api::<Pod>().get(name).await?;
        Ok(states(&pod).find_map(|status| seen(status.state.as_ref()?)))
    })
    .await;
    room.api::<Pod>().delete(name, &DeleteParams::default()).await?;
    found
}

async fn ended_with(room: &Room, name: &str) -> Result<i32> {
    state_of(room, name, |state| Some(state.terminated.as_ref()?.exit_code)).await
}

/// Any pod of the namespace gets the links and dies of them; ours don't.
pub(crate) async fn service_links_bite_others_only(room: &Room) -> Result<String> {
    bare_pod(room, "linked", json!({"enableServiceLinks": true})).await?;
    bare_pod(room, "plain", json!({})).await?;
    let codes = (ended_with(room, "linked").await?, ended_with(room, "plain").await?);
    ensure!(codes == (1, 0), "with and without service links the settings end with {codes:?}");
    for component in ["ai-service", "worker", "beat", "dashboard"] {
        let environment = room.run(component, &["sh", "-c", "tr '\\0' '\\n' </proc/1/environ"]).await?;
        // The API server's own link is always there.
        let linked = |line: &&str| line.contains("=tcp://") && !line.starts_with("KUBERNETES_");
        let found: Vec<_> = environment.lines().filter(linked).collect();
        ensure!(found.is_empty(), "{component} has service links: {found:?}");
    }
    Ok(String::new())
}

/// The image's `USER appuser` is refused without a number; ours have one.
pub(crate) async fn a_user_by_name_bites_others_only(room: &Room) -> Result<String> {
    let unnumbered = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    bare_pod(room, "by-name", json!({"securityContext": unnumbered})).await?;
    let refused = |state: &ContainerState| state.waiting.as_ref()?.message.clone();
    let message = state_of(room, "by-name", refused).await?;
    ensure!(message.contains("non-numeric user"), "the kubelet says {message}");
    for component in ["ai-service", "worker", "beat", "dashboard"] {
        let user = room.run(component, &["id", "-u"]).await?;
        ensure!(user.trim().parse::<u32>().is_ok_and(|user| user > 0), "{component} runs as {user}");
    }
    Ok(String::new())
}

/// A task that runs.
pub(crate) struct Task {
    event: i64,
    record: u32,
    /// Name of the pod that it runs in.
    pub(crate) worker: String,
}

/// Sends events until one is being worked on, for so many seconds.
pub(crate) async fn a_running_task(room: &Room, seconds: u64) -> Result<Task> {
    for record in 4711..4711 + ATTEMPTS {
        let values = json!({"sleep": seconds, "confidence": 0.9});
        let event = json!({"event_type": "write", "model": "crm.lead", "record_id": record, "values": values});
        let event = ready::send(room, &event).await?;
        // A task holds its transaction open while it works; requests don't for that long.
        let working = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'odoo_ai' \
                       AND state = 'idle in transaction' AND state_change < now() - interval '1 s'";
        let running = wait_for("the task to run", Duration::from_secs(6), || async {
            Ok((room.sql(working).await? != "0").then_some(()))
        });
        if running.await.is_ok() {
            return Ok(Task { event, record, worker: room.pod_of("worker").await?.name_any() });
        }
    }
    anyhow::bail!("{ATTEMPTS} events in a row got lost")
}

async fn processed(room: &Room, id: i64) -> Result<bool> {
    Ok(room.sql(&format!("SELECT processed FROM webhook_events WHERE id = {id}")).await? == "t")
}

async fn rows(room: &Room, record: u32) -> Result<String> {
    room.sql(&format!("SELECT count(*) FROM audit_logs WHERE odoo_record_id = {record}")).await
}

/// The old worker ends only when its task is done, and the task is done once.
pub(crate) async fn a_running_task_survives_a_rollout(room: &Room) -> Result<String> {
    let Task { event, record, worker } = a_running_task(room, TASK_SECONDS).await?;
    let began = Instant::now();
    room.change(json!({"logLevel": "Debug"})).await?;
    let limit = Duration::from_secs(TASK_SECONDS);
    wait_for("the old worker to be told to end", limit, || async {
        let pod = room.api::<Pod>().get(&worker).await.context("the old worker is gone")?;
        Ok(pod.metadata.deletion_timestamp.map(drop))
    })
    .await?;
    let told = began.elapsed();
    ensure!(!processed(room, event).await?, "the task was done before the worker was told to end: nothing is shown");
    wait_for("the task to be done", limit, || async { Ok(processed(room, event).await?.then_some(())) }).await?;
    let done = began.elapsed();
    wait_for("the old worker to be gone", Duration::from_secs(20), || async {
        Ok(room.api::<Pod>().get_opt(&worker).await?.is_none().then_some(()))
    })
    .await?;
    room.wait_ready(DONE).await?;
    let rows = rows(room, record).await?;
    ensure!(rows == "1", "the task left {rows} audit rows");
    Ok(format!("told to end after {:.0} s, done after {:.0} s", told.as_secs_f64(), done.as_secs_f64()))
}

async fn scale<K>(room: &Room, component: &str, replicas: i32) -> Result<()>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    room.api::<K>().patch(&format!("{STACK}-{component}"), &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn gone(room: &Room, component: &str) -> Result<()> {
    wait_for(&format!("{component} to be gone"), STARTS, || async {
        let pods = room.list::<Pod>().await?;
        let left = pods.iter().any(|pod| pod.labels().get(COMPONENT).is_some_and(|it| it == component));
        Ok((!left).then_some(()))
    })
    .await
}

const WAITING: &str = "import os, redis; \
    print(redis.from_url(open('/var/run/odooai/credentials/redis-url').read().strip()).llen('webhooks'))";

/// An event waits in the queue; the worker's container starts, and starts again, without a database:
/// it takes the event only when it can handle it. There is never another beat.
pub(crate) async fn a_worker_restarts_while_the_database_is_away(room: &Room) -> Result<String> {
    const RECORD: u32 = 815;
    let beat = room.pod_of("beat").await?.uid();
    // Or the operator would put the replicas back.
    room.change(json!({"suspend": true})).await?;
    room.wait("Ready", "Unknown", "Suspended", 30).await?;
    scale::<Deployment>(room, "worker", 0).await?;
    gone(room, "worker").await?;
    let event = json!({"event_type": "write", "model": "crm.lead", "record_id": RECORD, "values": {"confidence": 0.9}});
    let id = ready::send(room, &event).await?;
    scale::<StatefulSet>(room, "postgresql", 0).await?;
    gone(room, "postgresql").await?;
    scale::<Deployment>(room, "worker", 1).await?;
    let waits = restarted_and_waiting(room).await;
    let queued = room.run("ai-service", &["python", "-c", WAITING]).await;
    scale::<StatefulSet>(room, "postgresql", 1).await?;
    room.change(json!({"suspend": false})).await?;
    waits?;
    let queued = queued?;
    ensure!(queued.trim() == "1", "{} events are queued", queued.trim());
    room.wait_ready(120).await?;
    wait_for("the event to be processed", Duration::from_secs(20), || async {
        Ok(processed(room, id).await?.then_some(()))
    })
    .await?;
    let rows = rows(room, RECORD).await?;
    ensure!(rows == "1", "the event left {rows} audit rows");
    ensure!(room.pod_of("beat").await?.uid() == beat, "there was another beat");
    Ok(String::new())
}

/// The container, not the pod: init containers don't run again.
async fn restarted_and_waiting(room: &Room) -> Result<()> {
    let is_waiting = |restarts: i32| async move {
        let pod = room.pod_of("worker").await?;
        let running = states(&pod).any(|status| {
            status.restart_count == restarts && status.state.as_ref().is_some_and(|state| state.running.is_some())
        });
        let waits = running
            && logs(&room.client, &room.ns, &pod.name_any(), Some("worker"))
                .await?
                .contains("\"waiting_for\":\"Database");
        Ok(waits.then(|| pod.name_any()))
    };
    let pod = wait_for("the worker to wait", STARTS, || is_waiting(0)).await?;
    // It may end before this is answered.
    let _answer = exec(&room.client, &room.ns, &pod, Some("worker"), &["sh", "-c", "kill -TERM 1"]).await;
    wait_for("the worker's container to wait again", STARTS, || is_waiting(1)).await.map(drop)
}
