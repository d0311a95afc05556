//! What a policy makes, keeps, proves and tells.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use odoo_ai_crds::backup::{Backup, BackupReason, RunResult};
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::json;

use super::look::{BACKUP, RUN, ask, backup, change, ended, ids, make, status, summary, told, wait};
use crate::migrations::look::{READY, incarnation, make_backup, revision};
use crate::operator::{self, Metrics};
use crate::room::{COMPONENT, Room, sample};
use crate::steady::{unchanged, versions};

pub(crate) async fn installs(room: &Room) -> Result<String> {
    room.apply(&sample("local.yaml")?).await?;
    room.wait_ready(READY).await?;
    Ok(String::new())
}

/// The first thing is to read what is there: the storage works, or not, and that is known at once.
pub(super) async fn begins(room: &Room) -> Result<String> {
    make_backup(room).await?;
    let ready = wait(room, "Ready", "Unknown", "NoBackupYet", RUN).await?;
    let status = status(room).await?;
    let read = status.catalogue.context("no catalogue")?;
    ensure!(read.read_at.is_some() && read.total == 0 && read.owner.is_none(), "it is {read:?}");
    ensure!(status.next_schedule_time.is_some(), "no next time");
    for (name, schedule) in [("nightly-backup", "0 3 * * *"), ("nightly-verify", "0 4 * * 0")] {
        let spec = room.api::<CronJob>().get(name).await?.spec.context("no spec")?;
        let found = (spec.schedule.as_str(), spec.time_zone.as_deref(), spec.concurrency_policy.as_deref());
        ensure!(found == (schedule, Some("Europe/Berlin"), Some("Forbid")), "{name} is {found:?}");
    }
    Ok(ready.message)
}

pub(super) async fn on_request(room: &Room) -> Result<String> {
    let id = make(room).await?;
    let ready = wait(room, "Ready", "True", "BackedUp", RUN).await?;
    let status = status(room).await?;
    let made = status.last_success.clone().context("no success")?;
    ensure!(made.id == id && made.reason == BackupReason::Requested, "it is {made:?}");
    ensure!(made.incarnation == Some(incarnation(room).await?), "of {:?}", made.incarnation);
    ensure!(made.alembic_revision == Some(revision(room).await?), "at {:?}", made.alembic_revision);
    let handled = status.last_handled.and_then(|it| it.backup_requested_at);
    ensure!(
        handled == backup(room).await?.annotations().get("odoo-ai.atmatasolutions.com/backup-requested-at").cloned()
    );
    told(room, "BackupSucceeded").await?;
    Ok(ready.message)
}

/// Three minutes of its schedule: each run leaves one, and of the old ones two and the verified one are kept.
pub(super) async fn by_its_schedule(room: &Room) -> Result<String> {
    let before = ids(room).await?;
    let verified = status(room).await?.last_verified.context("no verification")?.id;
    change(room, json!({"schedule": "* * * * *", "retention": {"keepLast": 2}})).await?;
    let left = wait_for("three runs of the schedule", Duration::from_mins(5), || async {
        let status = status(room).await?;
        let scheduled = status.runs.iter().filter(|run| run.reason == BackupReason::Scheduled);
        let good = scheduled.filter(|run| run.result == RunResult::Succeeded).count();
        ensure!(good >= 3, "{good} runs; the conditions are {}", summary(&status));
        Ok(Some(status))
    })
    .await?;
    change(room, json!({"schedule": "0 3 * * *"})).await?;
    let left: Vec<_> = left.artifacts.into_iter().map(|it| it.id).collect();
    ensure!(
        left.len() == 3 && left.contains(&verified),
        "{left:?} are left, verified is {verified}, before {before:?}"
    );
    quiet(room).await?;
    Ok(format!("{} kept", left.len()))
}

/// Until no run is under way.
async fn quiet(room: &Room) -> Result<()> {
    wait_for("all runs to end", RUN, || async {
        let jobs = room.list::<Job>().await?;
        let runs = |job: &Job| job.status.as_ref().is_some_and(|status| status.active.unwrap_or_default() > 0);
        ensure!(!jobs.iter().any(runs), "a Job runs");
        let status = status(room).await?;
        ensure!(status.runs.iter().all(|run| run.result != RunResult::Running), "{:?}", status.runs);
        Ok(Some(()))
    })
    .await
}

pub(super) async fn rests(room: &Room) -> Result<String> {
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (before, counted) = (versions(room).await?, Metrics::read(&room.client).await?.writes());
    tokio::time::sleep(Duration::from_secs(75)).await;
    unchanged(&before, &versions(room).await?)?;
    let now = Metrics::read(&room.client).await?.writes();
    ensure!(counted == now, "writes went from {counted:?} to {now:?}");
    Ok(format!("{} objects", before.len()))
}

/// Backups are made by their `CronJob`, whoever looks; who comes back tells of them.
pub(super) async fn without_the_operator(room: &Room, cluster: &Cluster) -> Result<String> {
    change(room, json!({"schedule": "* * * * *", "retention": {"keepLast": 30}})).await?;
    wait_for("the CronJob to have it", Duration::from_secs(30), || async {
        let spec = room.api::<CronJob>().get("nightly-backup").await?.spec.context("no spec")?;
        Ok((spec.schedule == "* * * * *").then_some(()))
    })
    .await?;
    let began = Timestamp::now();
    operator::uninstall(cluster).await?;
    let made = wait_for("two runs without the operator", Duration::from_mins(5), || async {
        let parameters = ListParams::default().labels(&format!("{COMPONENT}=backup"));
        let jobs = room.api::<Job>().list(&parameters).await?.items;
        let after =
            |job: &&Job| job.creation_timestamp().is_some_and(|time| time.0 > began + SignedDuration::from_secs(5));
        let good = |job: &&Job| job.status.as_ref().is_some_and(|status| status.succeeded == Some(1));
        let made: Vec<_> = jobs.iter().filter(after).filter(good).map(ResourceExt::name_any).collect();
        ensure!(made.len() >= 2, "{made:?}");
        Ok(Some(made))
    })
    .await;
    operator::install(cluster).await?;
    let made = made?;
    wait_for("the operator to tell of them", RUN, || async {
        let status = status(room).await?;
        let good = |job: &String| status.runs.iter().any(|run| run.job == *job && run.result == RunResult::Succeeded);
        ensure!(made.iter().all(good), "{made:?} are not in {:?}", status.runs);
        Ok(Some(()))
    })
    .await?;
    change(room, json!({"schedule": "0 3 * * *"})).await?;
    wait(room, "Ready", "True", "BackedUp", RUN).await?;
    quiet(room).await?;
    Ok(format!("{} runs", made.len()))
}

/// As on a new cluster: nothing is there but the storage.
pub(super) async fn is_rebuilt(room: &Room) -> Result<String> {
    let before = status(room).await?;
    room.api::<Backup>().delete(BACKUP, &DeleteParams::foreground()).await?;
    wait_for("the Backup and its CronJobs to go", RUN, || async {
        let gone = room.api::<Backup>().get_opt(BACKUP).await?.is_none();
        Ok((gone && room.list::<CronJob>().await?.is_empty()).then_some(()))
    })
    .await?;
    make_backup(room).await?;
    wait(room, "Ready", "True", "BackedUp", RUN).await?;
    let after = status(room).await?;
    ensure!(before.artifacts == after.artifacts, "before {:?}, after {:?}", before.artifacts, after.artifacts);
    ensure!(
        before.last_success == after.last_success,
        "before {:?}, after {:?}",
        before.last_success,
        after.last_success
    );
    let verified = (&before.last_verified, &after.last_verified);
    ensure!(verified.0 == verified.1 && verified.0.is_some(), "{verified:?}");
    wait(room, "Verified", "True", "Verified", RUN).await?;
    Ok(format!("{} artifacts", after.artifacts.len()))
}

/// As if neither the operator nor the controller of `CronJob`s had been there for a hundred minutes: one run catches up,
/// and the others are told as missed.
pub(super) async fn misses(room: &Room) -> Result<String> {
    change(room, json!({"schedule": "* * * * *", "suspend": true})).await?;
    wait(room, "Ready", "Unknown", "Suspended", RUN).await?;
    quiet(room).await?;
    let long_ago = Timestamp::now() - SignedDuration::from_mins(101);
    let text = long_ago.strftime("%Y-%m-%dT%H:%M:00Z").to_string();
    let jobs = room.list::<Job>().await?.len();
    let last = Patch::Merge(json!({"status": {"lastScheduleTime": text}}));
    room.api::<CronJob>().patch_status("nightly-backup", &PatchParams::default(), &last).await?;
    change(room, json!({"suspend": false})).await?;
    // The operator counts from when it is to run again; that is set back too.
    wait_for("it to be counted", RUN, || async {
        let status = status(room).await?;
        ensure!(status.last_schedule_time.is_some(), "not yet");
        Ok(Some(()))
    })
    .await?;
    room.api::<Backup>().patch_status(BACKUP, &PatchParams::default(), &last).await?;
    wait_for("the Event", RUN, || async { Ok(told(room, "MissedRuns").await.is_ok().then_some(())) }).await?;
    let status = wait_for("a run to catch up", RUN, || async {
        let status = status(room).await?;
        ensure!(status.missed_runs == 0, "{} missed", status.missed_runs);
        Ok(Some(status))
    })
    .await?;
    change(room, json!({"schedule": "0 3 * * *"})).await?;
    quiet(room).await?;
    let new = room.list::<Job>().await?.len().saturating_sub(jobs);
    ensure!(new <= 4, "{new} Jobs for what was missed");
    // Whoever asks is answered as before.
    let request = ask(room, "backup").await?;
    ended(room, &request, RUN).await?;
    Ok(summary(&status))
}
