//! Memory as the kubelet counts it: images from scratch have nothing to ask inside.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::operator;
use crate::room::Room;

/// Container, working set and resident memory of the operator and of this room's agents, bytes.
pub(crate) async fn used(room: &Room) -> Result<Vec<(String, u64, u64)>> {
    let nodes = Api::<Node>::all(room.client.clone()).list(&ListParams::default()).await?;
    let mut found = Vec::new();
    for node in nodes {
        let uri = format!("/api/v1/nodes/{}/proxy/stats/summary", node.name_any());
        let text = room.client.request_text(http::Request::get(uri).body(Vec::new())?).await?;
        let summary: Value = serde_json::from_str(&text)?;
        for pod in summary["pods"].as_array().context("the kubelet tells of no pods")? {
            let namespace = pod["podRef"]["namespace"].as_str().unwrap_or_default();
            for container in pod["containers"].as_array().into_iter().flatten() {
                let name = container["name"].as_str().unwrap_or_default();
                let wanted = (namespace == operator::NAMESPACE && name == "operator")
                    || (namespace == room.ns && name == "agent");
                if wanted {
                    let of = |field: &str| container["memory"][field].as_u64().unwrap_or_default();
                    found.push((name.to_owned(), of("workingSetBytes"), of("rssBytes")));
                }
            }
        }
    }
    Ok(found)
}

/// Working set and resident memory of operator and agent, MiB; both well below their limits.
pub(crate) async fn of_operator_and_agent(room: &Room) -> Result<String> {
    let found = used(room).await?;
    for (name, limit) in [("operator", 128), ("agent", 64)] {
        let (_, used, _) = found.iter().find(|(found, ..)| found == name).with_context(|| format!("no {name}"))?;
        ensure!(*used > 0 && used >> 20 < limit / 2, "{name} uses {} of {limit} MiB", used >> 20);
    }
    let mib = |bytes: u64| format!("{}.{}", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20);
    let text = found.iter().map(|(name, used, rss)| format!("{name} {} MiB (rss {})", mib(*used), mib(*rss)));
    Ok(text.collect::<Vec<_>>().join(", "))
}
