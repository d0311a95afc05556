//! What a migration costs: the operator's Job beside `alembic upgrade head` by hand in a pod of the same
//! image, and what a new image adds to a rollout when nothing is pending.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use odoo_ai_tests::{Cluster, docker, with_namespace_in};
use serde_json::{Value, json};

use crate::figures::{aim, table};
use crate::operator;
use crate::room::{COMPONENT, LABEL, Room, STACK, sample};
use crate::script;

const READY: u64 = 240;
const STEP: Duration = Duration::from_mins(2);
const RELEASE: &str = "odoo-ai-platform/ai-service:1.1.0";
/// As its migration's own downgrade does it.
const UNDO: &str = "DROP INDEX idx_audit_logs_timestamp; DROP TABLE rule_usage; \
    ALTER TABLE automation_rules DROP COLUMN last_used_at; UPDATE alembic_version SET version_num = '003_phase2_tables'";
const BY_HAND: &str = "PGPASSWORD=\"$(cat /var/run/odooai/credentials/database-password)\" && export PGPASSWORD && exec alembic upgrade head";

/// Seconds of each round.
#[derive(Default)]
struct Found {
    job: Vec<f64>,
    hand: Vec<f64>,
    image: Vec<f64>,
    setting: Vec<f64>,
}

pub(crate) async fn run(rounds: u32) -> Result<()> {
    ensure!(rounds > 0, "at least one round");
    let cluster = operator::cluster().await?;
    let found = Arc::new(Mutex::new(Found::default()));
    let result = Arc::clone(&found);
    let work = with_namespace_in(cluster, "bench-migrate", |client, ns| async move {
        let room = Room::new(client, ns).await?;
        room.apply(&sample("local.yaml")?).await?;
        room.wait_ready(READY).await?;
        let mut found = Found::default();
        room.change(json!({"images": {"aiService": RELEASE}})).await?;
        // Not the Ready of before.
        rolled(&room).await?;
        let job = pattern(&room).await?;
        for round in 1..=rounds {
            room.sql(UNDO).await?;
            found.job.push(by_job(&room, &job, round).await?);
            room.sql(UNDO).await?;
            found.hand.push(by_hand(&room, &job, round).await?);
        }
        for round in 1..=rounds {
            let image = tagged(cluster, round).await?;
            found.image.push(until_the_first_pod(&room, json!({"images": {"aiService": image}})).await?);
            let level = if round % 2 == 0 { "Info" } else { "Debug" };
            found.setting.push(until_the_first_pod(&room, json!({"logLevel": level})).await?);
        }
        *result.lock().unwrap_or_else(PoisonError::into_inner) = found;
        room.clear().await
    });
    Box::pin(work).await?;
    print(&found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

/// The migrate Job of the present revision, as the operator made it.
async fn pattern(room: &Room) -> Result<Value> {
    let revision = room.stack().await?.status.and_then(|it| it.current_revision).context("no revision")?;
    let labels = format!("{LABEL}={STACK},{COMPONENT}=migrate,odoo-ai.atmatasolutions.com/revision={revision}");
    let jobs = room.api::<Job>().list(&ListParams::default().labels(&labels)).await?;
    let job = jobs.items.first().context("the new image had nothing to migrate")?;
    script::without_its_place(&serde_json::to_value(job)?)
}

/// From the Job's creation to its end.
async fn by_job(room: &Room, pattern: &Value, round: u32) -> Result<f64> {
    let mut job = pattern.clone();
    // The operator takes it for nothing of its own.
    job["metadata"] = json!({"name": format!("bench-{round}")});
    let began = Instant::now();
    let made = room.api::<Job>().create(&PostParams::default(), &serde_json::from_value(job)?).await?;
    let name = made.name_any();
    let done = await_condition(room.api::<Job>(), &name, |job: Option<&Job>| {
        let conditions = job.and_then(|job| job.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|it| it.type_ == "Complete" && it.status == "True"))
    });
    tokio::time::timeout(STEP, done).await.context("the Job doesn't end")??;
    let seconds = began.elapsed().as_secs_f64();
    at_head(room).await?;
    room.api::<Job>().delete(&name, &DeleteParams::background()).await?;
    Ok(seconds)
}

/// From the pod's creation to its end; the same environment, and nothing but Alembic.
async fn by_hand(room: &Room, pattern: &Value, round: u32) -> Result<f64> {
    let mut spec = pattern["spec"]["template"]["spec"].clone();
    spec.as_object_mut().context("a spec")?.remove("initContainers");
    spec["containers"][0]["command"] = json!(["sh", "-c", BY_HAND]);
    let labels = pattern["spec"]["template"]["metadata"]["labels"].clone();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("hand-{round}"), "labels": labels}, "spec": spec,
    });
    let began = Instant::now();
    let made = room.api::<Pod>().create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    let name = made.name_any();
    let done = await_condition(room.api::<Pod>(), &name, |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        phase.is_some_and(|phase| ["Succeeded", "Failed"].contains(&phase))
    });
    tokio::time::timeout(STEP, done).await.context("the pod doesn't end")??;
    let seconds = began.elapsed().as_secs_f64();
    at_head(room).await?;
    room.api::<Pod>().delete(&name, &DeleteParams::default()).await?;
    Ok(seconds)
}

async fn at_head(room: &Room) -> Result<()> {
    let at = room.sql("SELECT version_num FROM alembic_version").await?;
    ensure!(at == "004_rule_usage", "the database is at {at}");
    Ok(())
}

/// The release under another name: an image that no revision has had.
async fn tagged(cluster: &Cluster, round: u32) -> Result<String> {
    let image = format!("odoo-ai-platform/ai-service:bench-{round}");
    docker(&["tag", RELEASE, &image]).await?;
    cluster.load_images(std::slice::from_ref(&image)).await?;
    Ok(image)
}

/// From a change to the moment in which ai-service gets its template; then to Ready, unmeasured.
async fn until_the_first_pod(room: &Room, spec: Value) -> Result<f64> {
    let revision = |deployment: &Deployment| deployment.labels().get("odoo-ai.atmatasolutions.com/revision").cloned();
    let name = format!("{STACK}-ai-service");
    let before = revision(&room.api::<Deployment>().get(&name).await?);
    let began = Instant::now();
    room.change(spec).await?;
    let moved = await_condition(room.api::<Deployment>(), &name, move |deployment: Option<&Deployment>| {
        deployment.is_some_and(|deployment| revision(deployment) != before)
    });
    tokio::time::timeout(STEP, moved).await.context("the rollout doesn't begin")??;
    let seconds = began.elapsed().as_secs_f64();
    rolled(room).await?;
    Ok(seconds)
}

/// The revision of the newest spec runs.
async fn rolled(room: &Room) -> Result<()> {
    room.wait("Ready", "False", "", 60).await?;
    room.wait_ready(READY).await.map(drop)
}

fn print(found: &Found) {
    let cell = |all: &[f64], round: usize| format!("{:.2}", all[round]);
    let rows: Vec<Vec<String>> = (0..found.job.len())
        .map(|round| {
            let all = [&found.job, &found.hand, &found.image, &found.setting];
            std::iter::once((round + 1).to_string()).chain(all.map(|it| cell(it, round))).collect()
        })
        .collect();
    table(&["round", "Job s", "by hand s", "new image s", "setting s"], &rows);
    println!();
    let overhead = median(&found.job) - median(&found.hand);
    aim("the Job takes less than 2 s more than Alembic by hand in a pod", &format!("{overhead:.2} s"), overhead < 2.0);
    let added = median(&found.image) - median(&found.setting);
    println!("A new image without pending migrations adds {added:.2} s to a rollout: its plan");
}

fn median(all: &[f64]) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
