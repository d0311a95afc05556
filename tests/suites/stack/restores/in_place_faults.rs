//! What goes wrong while the live database is replaced. Whatever it is: it ends whole, or the live database is as it was;
//! and the writers come back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use odoo_ai_crds::restore::{Restore, RestoreStep};
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::{Value, json};

use super::in_place::{WHOLE, annotate, at, replace};
use super::look::{RUN, contents, databases, gone, status, wait};
use crate::backups::look::make;
use crate::migrations::look::incarnation;
use crate::operator::{self, End};
use crate::room::{COMPONENT, Room, STACK, condition};
use crate::{ready, traps};

/// Of a task that goes on until long after the worker was told to end.
const TASK_SECONDS: u64 = 180;

/// A backup, and a row that it has not.
pub(super) async fn changed(room: &Room) -> Result<(Value, String)> {
    room.sql("DROP TABLE IF EXISTS later").await?;
    let id = make(room).await?;
    let backup = contents(room, "odoo_ai").await?;
    room.sql("CREATE TABLE later (id int); INSERT INTO later VALUES (7)").await?;
    Ok((json!({"id": id}), backup))
}

/// The live one is the backup; what it replaced goes.
pub(super) async fn is_replaced(room: &Room, name: &str, backup: &str) -> Result<String> {
    let told = is_live(room, name, backup).await?;
    leaves(room, name, 1).await?;
    Ok(told)
}

/// The live one is the backup, and the application runs with it.
pub(super) async fn is_live(room: &Room, name: &str, backup: &str) -> Result<String> {
    let told = ends(room, name).await?;
    room.wait_ready(180).await?;
    writers_are_back(room).await?;
    ensure!(contents(room, "odoo_ai").await? == backup, "the live database is not the backup");
    Ok(told)
}

/// It ends well, however often it must be asked.
async fn ends(room: &Room, name: &str) -> Result<String> {
    for _ in 0..3 {
        let (well, message) = wait_for(&format!("{name} to end"), WHOLE, || async {
            let status = status(room, name).await?;
            let complete = status.conditions.iter().find(|it| it.type_ == "Complete").context("no Complete")?;
            let stalled = status.conditions.iter().any(|it| it.type_ == "Stalled" && it.status == "True");
            ensure!(stalled || complete.status == "True", "{complete:?}");
            Ok(Some((complete.status == "True", complete.message.clone())))
        })
        .await?;
        if well {
            return Ok(message);
        }
        writers_are_back(room).await?;
        annotate(room, name, "retry-requested-at").await?;
        at(room, name, RestoreStep::Drain).await?;
    }
    anyhow::bail!("it stalls again and again: {:?}", status(room, name).await?)
}

/// Beside the two that every server has there are so many that it left; they are dropped.
pub(super) async fn leaves(room: &Room, name: &str, count: usize) -> Result<()> {
    let all = databases(room).await?;
    let left: Vec<_> = all.iter().filter(|it| !["odoo_ai", "postgres"].contains(&it.as_str())).collect();
    ensure!(left.len() == count, "there is {all:?}");
    for database in left {
        room.sql(&format!("DROP DATABASE \"{database}\"")).await?;
    }
    room.api::<Restore>().delete(name, &DeleteParams::default()).await?;
    gone(room, name).await
}

async fn writers_are_back(room: &Room) -> Result<()> {
    wait_for("the writers", RUN, || async {
        for component in ["ai-service", "worker", "beat"] {
            let pods = room.pods_of(component).await?;
            let ready = |pod: &Pod| {
                let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
                conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
            };
            ensure!(pods.iter().any(ready), "{component} is away");
        }
        Ok(Some(()))
    })
    .await
}

/// The operator is killed at each step, on the way there and on the way back.
pub(super) async fn operator_killed(room: &Room, cluster: &Cluster) -> Result<String> {
    let (id, backup) = changed(room).await?;
    replace(room, "orphan", id).await?;
    for step in [RestoreStep::Load, RestoreStep::Drain, RestoreStep::Swap, RestoreStep::Start] {
        at(room, "orphan", step).await?;
        operator::replace(cluster, &room.client, End::Forced).await?;
    }
    let told = is_live(room, "orphan", &backup).await?;
    annotate(room, "orphan", "undo-requested-at").await?;
    for step in [RestoreStep::Migrate, RestoreStep::Drain, RestoreStep::Swap] {
        at(room, "orphan", step).await?;
        operator::replace(cluster, &room.client, End::Forced).await?;
    }
    ends(room, "orphan").await?;
    room.wait_ready(180).await?;
    ensure!(room.sql("SELECT id FROM later").await? == "7", "it is not undone");
    leaves(room, "orphan", 1).await?;
    Ok(told)
}

/// PostgreSQL is killed at each step.
pub(super) async fn database_killed(room: &Room) -> Result<String> {
    let (id, backup) = changed(room).await?;
    replace(room, "server", id).await?;
    for step in [RestoreStep::Load, RestoreStep::Migrate, RestoreStep::Drain, RestoreStep::Swap] {
        at(room, "server", step).await?;
        let pod = room.pod_of("postgresql").await?.name_any();
        room.api::<Pod>().delete(&pod, &DeleteParams::default().grace_period(0)).await?;
        wait_for("PostgreSQL", RUN, || async { Ok(room.sql("SELECT 1").await.is_ok().then_some(())) }).await?;
    }
    is_replaced(room, "server", &backup).await
}

/// Its agents are killed at each step.
pub(super) async fn agent_killed(room: &Room) -> Result<String> {
    let (id, backup) = changed(room).await?;
    replace(room, "killed", id).await?;
    for step in ["load", "migrate", "swap"] {
        let of_step = ListParams::default().labels(&format!("{COMPONENT}=restore-{step}"));
        let pod = wait_for(&format!("the Job of {step}"), WHOLE, || async {
            let pods = room.api::<Pod>().list(&of_step).await?.items;
            Ok(pods.into_iter().find(|pod| pod.name_any().starts_with("killed-")))
        })
        .await?;
        room.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    }
    is_replaced(room, "killed", &backup).await
}

/// Somebody is in the live database whom nobody can log out: the application comes back with it, and another try is asked for.
pub(super) async fn somebody_stays(room: &Room) -> Result<String> {
    let (id, backup) = changed(room).await?;
    let live = incarnation(room).await?;
    room.sql("BEGIN; INSERT INTO later VALUES (8); PREPARE TRANSACTION 'stays'").await?;
    replace(room, "blocked", id).await?;
    let told = wait(room, "blocked", "False", "DatabaseInUse", WHOLE).await?;
    ensure!(told.contains("'stays'") || told.contains("\"stays\""), "it says {told}");
    room.wait_ready(180).await?;
    writers_are_back(room).await?;
    ensure!(incarnation(room).await? == live && room.sql("SELECT id FROM later").await? == "7", "another database");
    room.sql("COMMIT PREPARED 'stays'").await?;
    annotate(room, "blocked", "retry-requested-at").await?;
    is_replaced(room, "blocked", &backup).await?;
    Ok(told)
}

/// The worker takes long to finish; meanwhile the Restore is given up.
pub(super) async fn is_given_up(room: &Room) -> Result<String> {
    // Without one the worker has nothing to do for an event.
    ready::enable_a_rule(room).await?;
    let (id, _) = changed(room).await?;
    let (live, before) = (incarnation(room).await?, databases(room).await?);
    let pod = traps::a_running_task(room, TASK_SECONDS).await?.worker;
    replace(room, "nevermind", id).await?;
    at(room, "nevermind", RestoreStep::Drain).await?;
    wait_for("the worker to be told", RUN, || async {
        Ok(room.api::<Pod>().get(&pod).await?.metadata.deletion_timestamp.map(|_| ()))
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (answered, _) = room.ask("GET", "/openapi.json", None, None).await?;
    ensure!(answered == 200, "the API is away while the worker finishes");
    // No rollout begins meanwhile.
    let revision = room.stack().await?.status.and_then(|status| status.update_revision);
    room.change(json!({"logLevel": "Debug"})).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let status = room.stack().await?.status.context("no status")?;
    ensure!(status.update_revision == revision && status.rollout.is_none(), "a rollout begins");
    ensure!(condition(&room.stack().await?, "Ready").is_some_and(|it| it.reason == "Restoring"), "it doesn't say why");
    room.api::<Restore>().delete("nevermind", &DeleteParams::default()).await?;
    gone(room, "nevermind").await?;
    ensure!(room.api::<Pod>().get_opt(&pod).await?.is_some(), "the task has ended meanwhile: nothing is shown");
    room.wait_ready(240).await?;
    writers_are_back(room).await?;
    ensure!(incarnation(room).await? == live && databases(room).await? == before, "something is left");
    let rolled = room.stack().await?.status.and_then(|status| status.current_revision);
    ensure!(rolled != revision, "the rollout never came");
    // Nobody waits for its task any more; it may have ended by itself.
    let _ended = room.api::<Pod>().delete(&pod, &DeleteParams::default().grace_period(0)).await;
    Ok(String::new())
}

/// Two at once are one after the other, and the second was meant for a database that is not live any more.
pub(super) async fn two_at_once(room: &Room) -> Result<String> {
    let (id, backup) = changed(room).await?;
    let confirmed = format!("{STACK}/{}/{}", id["id"].as_str().unwrap_or_default(), incarnation(room).await?);
    for name in ["one", "two"] {
        super::in_place::unconfirmed(room, name, id.clone(), json!(null)).await?;
        super::in_place::confirm(room, name, &confirmed).await?;
    }
    let first = wait_for("one of them", WHOLE, || async {
        for (name, other) in [("one", "two"), ("two", "one")] {
            if status(room, name).await?.completed_at.is_some() {
                return Ok(Some((name, other)));
            }
        }
        Ok(None)
    })
    .await?;
    let other = wait_for("the other one to say so", RUN, || async {
        let status = status(room, first.1).await?;
        let complete = status.conditions.iter().find(|it| it.type_ == "Complete").cloned().context("no Complete")?;
        ensure!(complete.reason == "ConfirmationMismatch", "it is {complete:?}");
        Ok(Some(complete.message))
    })
    .await?;
    room.wait_ready(180).await?;
    ensure!(contents(room, "odoo_ai").await? == backup, "the live database is not the backup");
    room.api::<Restore>().delete(first.1, &DeleteParams::default()).await?;
    gone(room, first.1).await?;
    leaves(room, first.0, 1).await?;
    Ok(other)
}

/// A rollout goes on: the Restore prepares everything, and waits for its end before anything stops.
pub(super) async fn during_a_rollout(room: &Room) -> Result<String> {
    let (id, backup) = changed(room).await?;
    room.change(json!({"logLevel": "Warning", "rollout": {"healthCheck": {"durationSeconds": 60}}})).await?;
    wait_for("its watch", WHOLE, || async {
        let rollout = room.stack().await?.status.and_then(|status| status.rollout);
        Ok(rollout.filter(|rollout| rollout.step == Some(odoo_ai_crds::stack::Step::Watch)).map(|_| ()))
    })
    .await?;
    replace(room, "patient", id).await?;
    wait(room, "patient", "Unknown", "WaitingForRollout", WHOLE).await?;
    let told = is_replaced(room, "patient", &backup).await?;
    room.change(json!({"logLevel": null, "rollout": null})).await?;
    room.wait_ready(240).await?;
    Ok(told)
}
