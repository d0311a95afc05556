//! The docker command, for what testcontainers does not offer: images, restart, look-ups by label.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// Runs `docker` and gives what it printed.
///
/// # Errors
/// When docker fails; the message holds its standard error.
pub async fn docker<I, S>(arguments: I) -> Result<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let arguments: Vec<String> = arguments.into_iter().map(|part| part.as_ref().to_owned()).collect();
    let output = Command::new("docker")
        .args(&arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("running docker")?;
    if !output.status.success() {
        bail!("docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Like [`docker`], for a look-up where a failure only means "no".
pub async fn docker_quiet<I, S>(arguments: I) -> Option<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    docker(arguments).await.ok()
}

/// `docker save` into the node's containerd.
pub(crate) async fn copy_images(container: &str, images: &[String]) -> Result<()> {
    let mut save = Command::new("docker")
        .arg("save")
        .args(images)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("running docker save")?;
    let stream: Stdio = save.stdout.take().context("docker save has no output")?.try_into().context("its pipe")?;
    let import = Command::new("docker")
        .args(["exec", "-i", container, "ctr", "-n", "k8s.io", "images", "import", "-"])
        .stdin(stream)
        .kill_on_drop(true)
        .output()
        .await
        .context("running ctr images import")?;
    let saved = save.wait().await?;
    if !saved.success() || !import.status.success() {
        bail!("loading {} into the node: {}", images.join(" "), String::from_utf8_lossy(&import.stderr).trim());
    }
    Ok(())
}
