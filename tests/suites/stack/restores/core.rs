//! What the core tier asks of restores.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use odoo_ai_crds::restore::Restore;
use odoo_ai_tests::{Cluster, kubectl, wait_for};
use serde_json::json;
use tokio::process::Command;

use super::look::{RUN, ask, contents, databases, gone, restore, status, wait};
use crate::room::{COMPONENT, Room, sample};

/// A backup becomes a database of its own, every row of it, and the live one goes on.
pub(crate) async fn is_restored_beside(room: &Room, cluster: &Cluster) -> Result<String> {
    room.sql("CREATE TABLE IF NOT EXISTS later (id int); INSERT INTO later VALUES (1)").await?;
    let before = databases(room).await?;
    let look: Vec<_> =
        sample("restore.yaml")?.into_iter().filter(|document| document["metadata"]["name"] == "look").collect();
    room.apply(&look).await?;
    let told = wait(room, "look", "True", "Restored", RUN).await?;
    let status = status(room, "look").await?;
    let database = status.database.clone().context("no database")?;
    let mut now = databases(room).await?;
    now.retain(|it| !before.contains(it));
    ensure!(now == [database.clone()], "there is {now:?} besides {before:?}");
    ensure!(ask(room, &database, "SELECT to_regclass('later') IS NULL").await? == "t", "it is no backup");
    ensure!(room.sql("SELECT count(*) FROM later").await? == "1", "the live database changed");
    let (restored, live) = (contents(room, &database).await?, contents(room, "odoo_ai").await?);
    // No migration since has changed that table.
    let logs = |all: &str| all.lines().find(|it| it.starts_with("audit_logs ")).map(str::to_owned);
    ensure!(
        logs(&restored).is_some_and(|it| it.len() > 40) && logs(&restored) == logs(&live),
        "{restored}\nis not\n{live}"
    );
    let owner = format!("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{database}'");
    ensure!(room.sql(&owner).await? == "odoo_ai", "it belongs to {}", room.sql(&owner).await?);
    let seen = (status.tables > Some(5), status.rows > Some(10), status.bytes > Some(1_000_000), status.artifact_id);
    ensure!(matches!(seen, (true, true, true, Some(_))), "{seen:?}");
    wait_for("its finalizer to go", RUN, || async {
        Ok(room.api::<Restore>().get("look").await?.metadata.finalizers.unwrap_or_default().is_empty().then_some(()))
    })
    .await?;
    let events = room.api::<Event>().list(&ListParams::default()).await?.items;
    ensure!(events.iter().any(|event| event.reason.as_deref() == Some("Restored")), "no Event");
    let wide = columns(room, cluster).await?;
    for wanted in ["COMPLETE", "Restored", "DATABASE", "SIZE", &database] {
        ensure!(wide.contains(wanted), "there is no {wanted}:\n{wide}");
    }
    // What was restored is the user's.
    room.api::<Restore>().delete("look", &DeleteParams::default()).await?;
    gone(room, "look").await?;
    ensure!(databases(room).await?.contains(&database), "it went with its Restore");
    Ok(told)
}

/// A Restore that is deleted before its end leaves nothing.
pub(crate) async fn is_given_up(room: &Room) -> Result<String> {
    let before = databases(room).await?;
    restore(room, "nevermind", json!({"selector": "Latest"})).await?;
    wait_for("its Job", RUN, || async {
        let jobs = ListParams::default().labels(&format!("{COMPONENT}=restore-load"));
        let jobs = room.api::<Job>().list(&jobs).await?.items;
        let ours = |job: &Job| job.metadata.name.as_deref().is_some_and(|it| it.starts_with("nevermind-"));
        Ok(jobs.iter().any(ours).then_some(()))
    })
    .await?;
    room.api::<Restore>().delete("nevermind", &DeleteParams::default()).await?;
    gone(room, "nevermind").await?;
    let now = databases(room).await?;
    ensure!(now == before, "there is {now:?} instead of {before:?}");
    Ok(String::new())
}

async fn columns(room: &Room, cluster: &Cluster) -> Result<String> {
    let output = Command::new(kubectl()?)
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args(["get", "airestore", "look", "--namespace", &room.ns, "-o", "wide"])
        .output()
        .await?;
    ensure!(output.status.success(), "kubectl get: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
