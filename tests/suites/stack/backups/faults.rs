//! What goes wrong while a backup is made. Whatever it is: never a false success, never fewer good ones.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use odoo_ai_crds::backup::RunResult;
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::json;

use super::look::{RUN, ask, change, ended, ids, make, status, wait};
use crate::migrations::look::{READY, make_backup};
use crate::operator::{self, End};
use crate::room::{COMPONENT, Room, STACK, sample};

/// A run that is tried three times.
const TRIES: Duration = Duration::from_mins(5);
/// Longer than a try waits for a lock.
const LONG: u32 = 240;
/// Long enough to be found at work, shorter than a try waits.
const SHORT: u32 = 20;

pub(super) async fn begins(room: &Room) -> Result<String> {
    room.sql("CREATE TABLE ballast AS SELECT g AS id, md5(g::text) || md5((g + 1)::text) AS t FROM generate_series(1, 300000) g")
        .await?;
    make_backup(room).await?;
    make(room).await
}

/// Somebody works on the table: a dump waits in the middle of its work.
async fn lock(room: &Room, seconds: u32) -> Result<()> {
    let sql = format!("BEGIN; LOCK TABLE ballast; SELECT pg_sleep({seconds}); COMMIT");
    let command = format!("psql -U postgres -d odoo_ai -qc \"{sql}\" >/dev/null 2>&1 &");
    room.run("postgresql", &["sh", "-c", &command]).await?;
    wait_for("the lock", Duration::from_secs(20), || async {
        let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'ballast'::regclass AND granted";
        Ok((room.sql(held).await? == "1").then_some(()))
    })
    .await
}

/// Asks for a backup, and waits until its pod is at work.
async fn at_work(room: &Room) -> Result<(String, Job)> {
    let request = ask(room, "backup").await?;
    let job = wait_for("a pod at work", RUN, || async {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' OR wait_event_type = 'Lock'";
        ensure!(room.sql(waits).await? != "0", "no dump waits");
        let jobs = room.api::<Job>().list(&ListParams::default().labels(&format!("{COMPONENT}=backup"))).await?.items;
        let ours = |job: &Job| job.annotations().values().any(|value| *value == request);
        Ok(jobs.into_iter().find(ours))
    })
    .await?;
    Ok((request, job))
}

/// Nothing that was good is gone, and there are so many more.
async fn kept(room: &Room, before: &[String], more: usize) -> Result<()> {
    wait_for("the catalogue", RUN, || async {
        let now = ids(room).await?;
        ensure!(before.iter().all(|id| now.contains(id)), "of {before:?} only {now:?} are left");
        ensure!(now.len() == before.len() + more, "{} were there, now {}", before.len(), now.len());
        let status = status(room).await?;
        ensure!(status.catalogue.is_some_and(|it| it.stale_since.is_none()), "it is read again");
        Ok(Some(()))
    })
    .await
}

/// What comes next is good again.
async fn recovers(room: &Room) -> Result<()> {
    make(room).await?;
    wait(room, "Ready", "True", "BackedUp", RUN).await.map(drop)
}

pub(super) async fn job_deleted(room: &Room) -> Result<String> {
    let before = ids(room).await?;
    lock(room, SHORT).await?;
    let (request, job) = at_work(room).await?;
    room.api::<Job>().delete(&job.name_any(), &DeleteParams::background()).await?;
    let run = ended(room, &request, RUN).await?;
    ensure!(run.result == RunResult::Failed, "it is {run:?}");
    let failed = wait(room, "LastBackupSucceeded", "False", "", RUN).await?;
    ensure!(failed.message.contains("was deleted"), "{}", failed.message);
    kept(room, &before, 0).await?;
    recovers(room).await?;
    Ok(failed.message)
}

async fn pod_of(room: &Room, job: &Job) -> Result<Pod> {
    let labels = format!("batch.kubernetes.io/job-name={}", job.name_any());
    let pods = room.api::<Pod>().list(&ListParams::default().labels(&labels)).await?.items;
    pods.into_iter().next().context("the Job has no pod")
}

/// The Job tries again.
pub(super) async fn pod_killed(room: &Room) -> Result<String> {
    let before = ids(room).await?;
    lock(room, SHORT).await?;
    let (request, job) = at_work(room).await?;
    let pod = pod_of(room, &job).await?.name_any();
    room.api::<Pod>().delete(&pod, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await?;
    let run = ended(room, &request, TRIES).await?;
    ensure!(run.result == RunResult::Succeeded, "it is {run:?}");
    kept(room, &before, 1).await?;
    Ok(run.message.unwrap_or_default())
}

pub(super) async fn database_killed(room: &Room) -> Result<String> {
    let before = ids(room).await?;
    lock(room, SHORT).await?;
    let (request, _) = at_work(room).await?;
    let server = room.pod_of("postgresql").await?.name_any();
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    room.api::<Pod>().delete(&server, &now).await?;
    let run = ended(room, &request, TRIES).await?;
    let more = usize::from(run.result == RunResult::Succeeded);
    kept(room, &before, more).await?;
    room.wait_ready(READY).await?;
    recovers(room).await?;
    Ok(run.message.unwrap_or_default())
}

pub(super) async fn table_locked(room: &Room) -> Result<String> {
    let before = ids(room).await?;
    lock(room, LONG).await?;
    let request = ask(room, "backup").await?;
    let run = ended(room, &request, TRIES).await?;
    ensure!(run.result == RunResult::Failed && run.failure.as_deref() == Some("TableLocked"), "it is {run:?}");
    let failed = wait(room, "Ready", "False", "BackupFailed", RUN).await?;
    kept(room, &before, 0).await?;
    room.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'ballast'::regclass AND granted").await?;
    recovers(room).await?;
    Ok(failed.message)
}

pub(super) async fn other_version(room: &Room) -> Result<String> {
    let before = ids(room).await?;
    change(room, json!({"job": {"image": "postgres:15"}})).await?;
    let request = ask(room, "backup").await?;
    let run = ended(room, &request, RUN).await?;
    ensure!(run.refused, "it is {run:?}");
    let stalled = wait(room, "Stalled", "True", "PostgresVersionMismatch", RUN).await?;
    kept(room, &before, 0).await?;
    change(room, json!({"job": {"image": null}})).await?;
    recovers(room).await?;
    wait(room, "Stalled", "False", "", RUN).await?;
    Ok(stalled.message)
}

/// One byte of the newest dump becomes another.
pub(crate) async fn flip_a_byte(room: &Room) -> Result<()> {
    let newest = status(room).await?.last_success.context("no backup")?.id;
    let dump = format!("/backups/{}/{STACK}/{newest}/dump", room.ns);
    on_the_volume(room, &format!("printf '\\377' | dd of={dump} bs=1 seek=4000 conv=notrunc")).await
}

pub(super) async fn changed_on_the_volume(room: &Room) -> Result<String> {
    flip_a_byte(room).await?;
    let request = ask(room, "verify").await?;
    let run = ended(room, &request, RUN).await?;
    ensure!(run.result == RunResult::Failed && run.failure.as_deref() == Some("ArtifactDamaged"), "it is {run:?}");
    wait(room, "Verified", "False", "ArtifactDamaged", RUN).await?;
    let failed = wait(room, "Ready", "False", "VerificationFailed", RUN).await?;
    make(room).await?;
    let request = ask(room, "verify").await?;
    ended(room, &request, RUN).await?;
    wait(room, "Ready", "True", "BackedUp", RUN).await?;
    Ok(failed.message)
}

/// Runs a command where the volume is.
pub(crate) async fn on_the_volume(room: &Room, command: &str) -> Result<()> {
    let security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "hand"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 999, "fsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "hand", "image": "postgres:17", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command],
                "securityContext": security, "volumeMounts": [{"name": "b", "mountPath": "/backups"}]}],
            "volumes": [{"name": "b", "persistentVolumeClaim": {"claimName": "nightly-backups"}}],
        },
    }))?;
    room.api::<Pod>().create(&PostParams::default(), &pod).await?;
    wait_for("the hand", RUN, || async {
        let pod = room.api::<Pod>().get("hand").await?;
        let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
        ensure!(phase != "Failed", "it failed");
        Ok((phase == "Succeeded").then_some(()))
    })
    .await?;
    room.api::<Pod>().delete("hand", &DeleteParams::default()).await?;
    Ok(())
}

/// The run goes on, and who comes after tells of it, once.
pub(super) async fn operator_killed(room: &Room, cluster: &Cluster) -> Result<String> {
    let before = ids(room).await?;
    lock(room, SHORT).await?;
    let (request, _) = at_work(room).await?;
    operator::replace(cluster, &room.client, End::Forced).await?;
    let run = ended(room, &request, TRIES).await?;
    ensure!(run.result == RunResult::Succeeded, "it is {run:?}");
    kept(room, &before, 1).await?;
    let runs = status(room).await?.runs.into_iter().filter(|run| run.request_id.as_ref() == Some(&request)).count();
    ensure!(runs == 1, "{runs} runs for one request");
    Ok(run.message.unwrap_or_default())
}

pub(super) async fn node_restarts(room: &Room, cluster: &Cluster) -> Result<String> {
    let before = ids(room).await?;
    lock(room, SHORT).await?;
    let (request, _) = at_work(room).await?;
    cluster.reboot().await?;
    let room = &Room { client: cluster.client().await?, ns: room.ns.clone() };
    room.wait_ready(READY).await?;
    let run = ended(room, &request, TRIES).await?;
    let more = usize::from(run.result == RunResult::Succeeded);
    kept(room, &before, more).await?;
    recovers(room).await?;
    Ok(format!("{:?}: {}", run.result, run.message.unwrap_or_default()))
}

/// The stack is made anew, with an empty volume: its catalogue is not that of the old one.
pub(super) async fn foreign_owner(room: &Room, cluster: &Cluster) -> Result<String> {
    let room = &Room { client: cluster.client().await?, ns: room.ns.clone() };
    let before = ids(room).await?;
    room.api::<OdooAiStack>().delete(STACK, &DeleteParams::default()).await?;
    wait(room, "Ready", "False", "StackNotFound", RUN).await?;
    room.api::<PersistentVolumeClaim>().delete(&format!("{STACK}-postgresql"), &DeleteParams::default()).await?;
    wait_for("the volume to go", RUN, || async {
        let claims = room.api::<PersistentVolumeClaim>();
        Ok(claims.get_opt(&format!("{STACK}-postgresql")).await?.is_none().then_some(()))
    })
    .await?;
    room.apply(&sample("local.yaml")?).await?;
    room.wait_ready(READY).await?;
    let request = ask(room, "backup").await?;
    let run = ended(room, &request, RUN).await?;
    ensure!(run.refused && run.failure.as_deref() == Some("ForeignOwner"), "it is {run:?}");
    let stalled = wait(room, "Stalled", "True", "ForeignOwner", RUN).await?;
    kept(room, &before, 0).await?;
    let owner = status(room).await?.catalogue.and_then(|it| it.owner).context("nobody's")?;
    ensure!(stalled.message.contains(&owner), "{} doesn't name {owner}", stalled.message);
    change(room, json!({"adopt": owner})).await?;
    recovers(room).await?;
    kept(room, &before, 1).await?;
    Ok(stalled.message)
}
