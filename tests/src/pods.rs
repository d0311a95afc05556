//! Looking into pods: commands, logs, HTTP through the API server.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, LogParams};
use kube::{Api, Client};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::wait::wait_object;

const ANSWER: Duration = Duration::from_secs(10);

/// What a command in a pod has said.
#[derive(Clone, Debug)]
pub struct ExecOutput {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Whether it ended with 0.
    pub success: bool,
}

impl ExecOutput {
    /// The standard output of a command that has to succeed.
    ///
    /// # Errors
    /// When it did not.
    pub fn ok(self) -> Result<String> {
        if !self.success {
            bail!("the command failed: {}{}", self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

/// Runs a command in a pod's container (the default one for `None`).
///
/// # Errors
/// When it cannot be started.
pub async fn exec(
    client: &Client,
    namespace: &str,
    pod: &str,
    container: Option<&str>,
    command: &[&str],
) -> Result<ExecOutput> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let mut parameters = AttachParams::default().stdin(false).stdout(true).stderr(true);
    parameters.container = container.map(str::to_owned);
    let mut process =
        pods.exec(pod, command.to_vec(), &parameters).await.with_context(|| format!("exec in {namespace}/{pod}"))?;
    let status = process.take_status().context("exec gives no status")?;
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let (stdout, stderr, status) = tokio::join!(read(stdout), read(stderr), status);
    let success = status.is_some_and(|status| status.status.as_deref() == Some("Success"));
    Ok(ExecOutput { stdout: stdout?, stderr: stderr?, success })
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The log of a pod's container (the default one for `None`).
///
/// # Errors
/// When there is none.
pub async fn logs(client: &Client, namespace: &str, pod: &str, container: Option<&str>) -> Result<String> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let parameters = LogParams { container: container.map(str::to_owned), ..LogParams::default() };
    Ok(pods.logs(pod, &parameters).await?)
}

/// Waits until a pod is ready.
///
/// # Errors
/// When it is not in time.
pub async fn wait_pod_ready(client: &Client, namespace: &str, pod: &str, limit: Duration) -> Result<Pod> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    wait_object(&pods, pod, "Ready", limit, |pod| {
        pod.status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
    .await
}

/// GET through the API server's proxy from a Service; `port` is a number or the port's name.
///
/// # Errors
/// When the answer is no success, or does not come within ten seconds.
pub async fn service_get(client: &Client, namespace: &str, service: &str, port: &str, path: &str) -> Result<String> {
    let path = path.trim_start_matches('/');
    let uri = format!("/api/v1/namespaces/{namespace}/services/http:{service}:{port}/proxy/{path}");
    let request = http::Request::get(uri).body(Vec::new())?;
    // The client asks again for minutes when nobody answers behind the Service.
    let answer = tokio::time::timeout(ANSWER, client.request_text(request)).await;
    Ok(answer.with_context(|| format!("{service}:{port}/{path} does not answer"))??)
}
