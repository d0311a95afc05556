//! When a node counts as ready: not because it says so (it may have said it before it was
//! restarted), but because its kubelet has spoken and its infrastructure runs since then.

use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::wait::wait_for;

const LIMIT: Duration = Duration::from_mins(2);
const INFRASTRUCTURE: [&str; 2] = ["kube-system", "local-path-storage"];

/// A fresh node: Ready, with DNS and storage.
pub(crate) async fn node(client: &Client) -> Result<()> {
    since(client, Timestamp::UNIX_EPOCH).await
}

/// A node that was restarted at `boot`.
pub(crate) async fn after_boot(client: &Client, boot: Timestamp) -> Result<()> {
    since(client, boot).await
}

async fn since(client: &Client, boot: Timestamp) -> Result<()> {
    wait_for("the node to be Ready", LIMIT, || async {
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
        if nodes.items.is_empty() {
            bail!("no node has registered");
        }
        for node in &nodes.items {
            node_since(client, node, boot).await?;
        }
        Ok(Some(()))
    })
    .await?;
    wait_for("DNS and storage to run", LIMIT, || async {
        for namespace in INFRASTRUCTURE {
            infrastructure_since(client, namespace, boot).await?;
        }
        // Pods of a new namespace need it, so the default one shows that the controllers work.
        Api::<ServiceAccount>::namespaced(client.clone(), "default").get("default").await?;
        Ok(Some(()))
    })
    .await
}

async fn node_since(client: &Client, node: &Node, boot: Timestamp) -> Result<()> {
    let name = node.name_any();
    let ready = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !ready {
        bail!("{name} is not Ready");
    }
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    let renewed = leases.get(&name).await?.spec.and_then(|spec| spec.renew_time);
    if renewed.is_none_or(|time| time.0 < boot) {
        bail!("the kubelet of {name} has not spoken since the boot");
    }
    Ok(())
}

async fn infrastructure_since(client: &Client, namespace: &str, boot: Timestamp) -> Result<()> {
    let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
    let deployments = deployments.list(&ListParams::default()).await?;
    if namespace == "kube-system" && deployments.items.is_empty() {
        bail!("kube-system has no Deployment yet");
    }
    for deployment in &deployments.items {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.clone().unwrap_or_default();
        if status.available_replicas.unwrap_or(0) < wanted {
            bail!("{namespace}/{} is not available", deployment.name_any());
        }
    }
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    for pod in pods.list(&ListParams::default()).await? {
        let of_job = pod.owner_references().iter().any(|owner| owner.kind == "Job");
        // helper-pod-…: local-path's, which come and go.
        if !of_job && !pod.owner_references().is_empty() && !running_since(&pod, boot) {
            bail!("{namespace}/{} has not run since the boot", pod.name_any());
        }
    }
    Ok(())
}

fn running_since(pod: &Pod, boot: Timestamp) -> bool {
    let Some(statuses) = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()) else {
        return false;
    };
    statuses.iter().all(|status| {
        let running = status.state.as_ref().and_then(|state| state.running.as_ref());
        // Kubernetes' times have whole seconds.
        status.ready
            && running
                .and_then(|running| running.started_at.as_ref())
                .is_some_and(|time| time.0.as_second() >= boot.as_second())
    })
}
