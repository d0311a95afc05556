//! Rollouts under load: nobody notices them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use odoo_ai_crds::stack::Step;
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::json;

use super::fails::{annotate, current, image, rolled_back, settle};
use super::midway::at;
use crate::operator;
use crate::poller::Poller;
use crate::ready::enable_a_rule;
use crate::room::{COMPONENT, Room, sample};

const TASKS: i64 = 24;
/// Seconds that one takes.
const SECONDS: i64 = 2;

pub(crate) async fn installs(room: &Room, cluster: &Cluster) -> Result<String> {
    if cluster.container().is_ok() {
        cluster.load_images(&["1.1.0", "1.2.0-crash", "1.2.0-unhealthy"].map(image)).await?;
    }
    room.apply(&sample("local.yaml")?).await?;
    // One child: what the application itself loses between its children is not counted here.
    let check = json!({"durationSeconds": 5, "periodSeconds": 1});
    room.change(json!({"worker": {"concurrency": 1}, "rollout": {"healthCheck": check}})).await?;
    room.wait_ready(180).await?;
    Ok(String::new())
}

async fn quietly(room: &Room, work: impl Future<Output = Result<()>>) -> Result<String> {
    let poller = Poller::start(room).await?;
    let count = poller.count().await?;
    work.await?;
    // Old pods that still drain are part of it.
    tokio::time::sleep(Duration::from_secs(12)).await;
    poller.never_failed(&count).await
}

pub(crate) async fn config_change(room: &Room) -> Result<String> {
    quietly(room, settle(room, json!({"logLevel": "Debug"}))).await
}

pub(crate) async fn image_update(room: &Room) -> Result<String> {
    quietly(room, settle(room, json!({"images": {"aiService": image("1.1.0")}}))).await
}

/// Only the dashboard's pod is another one.
pub(crate) async fn dashboard_only(room: &Room) -> Result<String> {
    let others = || async {
        let mut uids = Vec::new();
        for component in ["ai-service", "worker", "beat"] {
            uids.push(room.pod_of(component).await?.uid());
        }
        anyhow::Ok((uids, room.pod_of("dashboard").await?.uid()))
    };
    let before = others().await?;
    let work = settle(room, json!({"dashboard": {"env": [{"name": "SOMETHING", "value": "new"}]}}));
    let answers = quietly(room, work).await?;
    let after = wait_for("the old pods to go", Duration::from_mins(1), || async { Ok(others().await.ok()) }).await?;
    ensure!(before.0 == after.0, "other pods were replaced");
    ensure!(before.1 != after.1, "the dashboard was not replaced");
    Ok(answers)
}

/// It ends ten seconds after its start, again and again.
pub(crate) async fn bad_version(room: &Room) -> Result<String> {
    let old = current(room).await?;
    room.change(json!({"rollout": {"progressDeadlineSeconds": 45}})).await?;
    let work = async {
        room.change(json!({"images": {"aiService": image("1.2.0-crash")}})).await?;
        rolled_back(room, &old, &["ai-service"]).await.map(drop)
    };
    let answers = quietly(room, work).await?;
    settle(room, json!({"images": {"aiService": image("1.1.0")}, "rollout": {"progressDeadlineSeconds": null}}))
        .await?;
    Ok(answers)
}

/// An unhealthy version comes in, and nobody is there to take it back: the old pods serve.
pub(crate) async fn without_the_operator(room: &Room, cluster: &Cluster) -> Result<String> {
    let old = current(room).await?;
    let work = async {
        room.change(json!({"images": {"aiService": image("1.2.0-unhealthy")}})).await?;
        at(room, Step::AiService).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        operator::uninstall(cluster).await?;
        let before = room.pods_of("ai-service").await?.len();
        ensure!(before == 2, "{before} pods of ai-service, not the old and the new one");
        tokio::time::sleep(Duration::from_secs(30)).await;
        operator::install(cluster).await?;
        settle(room, json!({"images": {"aiService": image("1.1.0")}})).await
    };
    let answers = quietly(room, work).await?;
    ensure!(current(room).await? == old, "another revision runs");
    Ok(answers)
}

pub(crate) async fn on_request(room: &Room) -> Result<String> {
    let old = current(room).await?;
    settle(room, json!({"logLevel": "Info"})).await?;
    let to = json!({
        "odoo-ai.atmatasolutions.com/rollback-to": old, "odoo-ai.atmatasolutions.com/rollback-requested-at": "now",
    });
    let work = async {
        annotate(room, to).await?;
        rolled_back(room, &old, &["was taken back"]).await.map(drop)
    };
    let answers = quietly(room, work).await?;
    settle(room, json!({"logLevel": "Debug"})).await?;
    Ok(answers)
}

/// Tasks straight on the queue while the worker is replaced: each ran, and once. There are never two beats.
pub(crate) async fn no_task_is_lost(room: &Room) -> Result<String> {
    enable_a_rule(room).await?;
    let insert = format!(
        "INSERT INTO webhook_events (event_type, odoo_model, odoo_record_id, payload, processed, received_at) \
         SELECT 'write', 'crm.lead', 900000 + n, '{{\"values\": {{\"sleep\": {SECONDS}}}}}', false, now() \
         FROM generate_series(1, {TASKS}) n RETURNING id"
    );
    let ids: Vec<i64> = room.sql(&insert).await?.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(i64::try_from(ids.len())? == TASKS, "{ids:?}");
    let send = format!(
        "from app.tasks.celery_tasks import process_webhook_event as task\nfor event in {ids:?}: task.delay(event)"
    );
    // Redis' URL is the agent's to give.
    let agent = ["/odooai/bin/agent", "run", "--needs", "redis", "--", "python", "-c", &send];
    room.run("ai-service", &agent).await?;
    let done = "SELECT count(*) FROM webhook_events WHERE processed AND odoo_record_id > 900000";
    wait_for("the first tasks to be done", Duration::from_secs(30), || async {
        Ok((room.sql(done).await?.parse::<i64>()? >= 2).then_some(()))
    })
    .await?;
    let old = room.pod_of("worker").await?.name_any();
    room.change(json!({"logLevel": "Info"})).await?;
    let watched = async {
        let mut most = 0;
        while !all_done(room).await? {
            most = most.max(beats(room).await?);
            ensure!(most < 2, "two beats at the same time");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(most)
    };
    let limit = Duration::from_secs(200);
    let most = tokio::time::timeout(limit, watched).await.context("not all tasks were done in time")??;
    room.wait_ready(120).await?;
    ensure!(most == 1, "no beat was seen");
    ensure!(room.pod_of("worker").await?.name_any() != old, "the worker was not replaced");
    let rows = "SELECT odoo_record_id, count(*) FROM audit_logs WHERE odoo_record_id > 900000 GROUP BY 1";
    let rows = room.sql(rows).await?;
    let once: BTreeSet<&str> = rows.lines().filter(|line| line.ends_with("|1")).collect();
    ensure!(once.len() == ids.len() && rows.lines().count() == ids.len(), "of {} tasks ran: {rows}", ids.len());
    Ok(format!("{TASKS} tasks, each once"))
}

async fn all_done(room: &Room) -> Result<bool> {
    let left = "SELECT count(*) FROM webhook_events WHERE NOT processed AND odoo_record_id > 900000";
    Ok(room.sql(left).await? == "0" && room.pods_of("worker").await?.len() == 1)
}

/// Beats whose process runs.
async fn beats(room: &Room) -> Result<usize> {
    let pods = room.api::<Pod>().list(&ListParams::default().labels(&format!("{COMPONENT}=beat"))).await?;
    let runs = |pod: &Pod| {
        let mut statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        statuses.any(|it| it.state.as_ref().is_some_and(|state| state.running.is_some()))
    };
    Ok(pods.iter().filter(|pod| runs(pod)).count())
}
