//! Charts by the helm that `hack/` built.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::cluster::Cluster;
use crate::paths::{repository, tool};

/// `helm upgrade --install` of a chart of the repository, for example `charts/odoo-ai-operator`;
/// `values` are `--set` arguments.
///
/// # Errors
/// When helm fails; the message holds what it said.
pub async fn helm_upgrade(
    cluster: &Cluster,
    release: &str,
    chart: &str,
    namespace: &str,
    values: &[&str],
) -> Result<()> {
    let mut command = Command::new(tool("helm", "helm")?);
    command
        .args(["upgrade", "--install", "--wait", "--timeout", "120s", "--create-namespace"])
        .args(["--namespace", namespace, release])
        .arg(repository().join(Path::new(chart)))
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .kill_on_drop(true);
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.output().await.context("running helm")?;
    if !output.status.success() {
        bail!("helm upgrade {release}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
