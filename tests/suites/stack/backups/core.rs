//! What the core tier asks of backups; the backup before a migration is with the migrations.

use anyhow::{Context, Result, ensure};
use odoo_ai_crds::backup::RunResult;
use odoo_ai_tests::{Cluster, kubectl};
use tokio::process::Command;

use super::look::{BACKUP, RUN, ask, ended, status, summary, told, wait};
use crate::room::Room;

/// The newest backup is restored completely, and people can see that.
pub(crate) async fn is_verified(room: &Room, cluster: &Cluster) -> Result<String> {
    let newest = status(room).await?.last_success.context("there is no backup")?.id;
    let request = ask(room, "verify").await?;
    let run = ended(room, &request, RUN).await?;
    ensure!(run.result == RunResult::Succeeded, "the run is {run:?}");
    wait(room, "Verified", "True", "Verified", RUN).await?;
    let status = status(room).await?;
    let verified = status.last_verified.clone().context("no verification")?;
    ensure!(verified.id == newest && verified.restore_seconds.is_some(), "it is {verified:?}");
    let artifact = status.last_success.clone().context("no backup")?;
    ensure!(artifact.verified, "it is not noted: {artifact:?}");
    let ready = wait(room, "Ready", "True", "BackedUp", RUN).await?;
    ensure!(ready.message.contains("does not survive"), "Ready doesn't say that there is no copy: {}", ready.message);
    ensure!(status.conditions.iter().all(|it| it.type_ != "OffsiteCopied"), "{}", summary(&status));
    told(room, "BackupSucceeded").await?;
    told(room, "Verified").await?;
    let wide = columns(room, cluster).await?;
    let size = artifact.size.context("no size")?;
    for wanted in ["LAST-SUCCESS", "VERIFIED", "NEXT", "SIZE", "BackedUp", &size] {
        ensure!(wide.contains(wanted), "there is no {wanted}:\n{wide}");
    }
    Ok(format!("{size}, restored in {} s", verified.restore_seconds.unwrap_or_default()))
}

async fn columns(room: &Room, cluster: &Cluster) -> Result<String> {
    let output = Command::new(kubectl()?)
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args(["get", "aibackup", BACKUP, "--namespace", &room.ns, "-o", "wide"])
        .output()
        .await?;
    ensure!(output.status.success(), "kubectl get: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
