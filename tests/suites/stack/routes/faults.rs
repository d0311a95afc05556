//! Faults of routes, each made for real.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_tests::{apply_yaml, delete_yaml, wait_for, with_namespace};
use serde_json::json;

use super::answers::{DASHBOARD, hosts, settle};
use super::client::ask;
use super::proxy;
use crate::faults::names;
use crate::room::{Room, STACK, condition};

const OTHER: &str = r"
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: somebody-elses}
spec:
  entryPoints: [web]
  routes:
    - match: Host(`ai.example.com`)
      kind: Rule
      priority: 9999
      services: [{name: odoo-stub, port: 8069}]
";

pub(super) async fn another_route(room: &Room) -> Result<String> {
    apply_yaml(&room.client, &room.ns, OTHER).await?;
    let told = room.wait("RoutesReady", "False", "WrongBackend", 90).await?;
    names(&told, &["ai.example.com", "isn't of this operator"])?;
    delete_yaml(&room.client, &room.ns, OTHER).await?;
    room.wait("RoutesReady", "True", "Reachable", 90).await?;
    Ok(told.message)
}

/// Traefik then has no such route.
pub(super) async fn no_pod(room: &Room) -> Result<String> {
    room.change(json!({"dashboard": {"replicas": 0}})).await?;
    let told = room.wait("RoutesReady", "False", "BadGateway502", 60).await?;
    names(&told, &["ai.example.com", "no pod of dashboard is ready"])?;
    room.change(json!({"dashboard": {"replicas": null}})).await?;
    room.wait("RoutesReady", "True", "Reachable", 120).await?;
    Ok(told.message)
}

/// A dashboard that somebody started, which listens on localhost only. The operator's own can't: its HOSTNAME is set,
/// and refused in the spec.
pub(super) async fn wrong_hostname(room: &Room) -> Result<String> {
    let deployment = room.api::<Deployment>().get(&format!("{STACK}-dashboard")).await?;
    let template = deployment.spec.context("no spec")?.template;
    let mut pod = json!({"metadata": template.metadata, "spec": template.spec});
    pod["metadata"]["name"] = json!("by-hand");
    let container = pod["spec"]["containers"][0].as_object_mut().context("no container")?;
    container.retain(|field, _| !field.ends_with("Probe"));
    let env = container["env"].as_array_mut().context("no env")?;
    let hostname = env.iter_mut().find(|it| it["name"] == "HOSTNAME").context("no HOSTNAME")?;
    hostname["value"] = json!("127.0.0.1");
    let refused = room.change(json!({"dashboard": {"replicas": 0, "env": [hostname]}})).await.err().context("taken")?;
    ensure!(format!("{refused:#}").contains("HOSTNAME"), "{refused:#}");
    room.change(json!({"dashboard": {"replicas": 0}})).await?;
    room.api::<Pod>().create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    wait_for("a client's 502", Duration::from_mins(1), || async {
        Ok((ask(room, "GET", DASHBOARD, "/", "").await?.status == 502).then_some(()))
    })
    .await?;
    let told = wait_for("502", Duration::from_mins(2), || async {
        let found = condition(&room.stack().await?, "RoutesReady").context("no RoutesReady")?;
        Ok((found.reason == "BadGateway502" && found.message.contains(": 502")).then_some(found))
    })
    .await?;
    names(&told, &["ai.example.com", "Pod by-hand"])?;
    room.api::<Pod>().delete("by-hand", &DeleteParams::default()).await?;
    room.change(json!({"dashboard": {"replicas": null}})).await?;
    room.wait("RoutesReady", "True", "Reachable", 120).await?;
    Ok(told.message)
}

/// It answers, through our own route and beside the dashboard.
pub(super) async fn stranger(room: &Room) -> Result<String> {
    let address = room.pod_of("ai-service").await?.status.and_then(|status| status.pod_ip).context("no address")?;
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": format!("{STACK}-dashboard")}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    }))?;
    room.api().create(&PostParams::default(), &slice).await?;
    let told = room.wait("RoutesReady", "False", "WrongBackend", 90).await?;
    names(&told, &["ai.example.com", "EndpointSlice by-hand", &address])?;
    room.api::<EndpointSlice>().delete("by-hand", &DeleteParams::default()).await?;
    room.wait("RoutesReady", "True", "Reachable", 90).await?;
    Ok(told.message)
}

/// Traefik is told to watch another namespace only.
pub(super) async fn not_watched(room: &Room) -> Result<String> {
    const ONLY: &str = "--providers.kubernetesCRD.namespaces=kube-system";
    proxy::argument(&room.client, ONLY, true).await?;
    let told = room.wait("RoutesReady", "False", "NotFound404", 120).await?;
    names(&told, &["example.com", "watch this namespace"])?;
    proxy::argument(&room.client, ONLY, false).await?;
    room.wait("RoutesReady", "True", "Reachable", 120).await?;
    Ok(told.message)
}

/// The newer stack of two says so, and nothing of the older changes.
pub(super) async fn conflict(room: &Room) -> Result<String> {
    let mut other = room.stack().await?;
    let older = format!("{}/{STACK}", room.ns);
    let routes = || async {
        let api = room.api::<odoo_ai_operator::cluster::traefik::IngressRoute>();
        let all = api.list(&kube::api::ListParams::default()).await?;
        anyhow::Ok(all.into_iter().map(|it| (it.name_any(), it.resource_version())).collect::<Vec<_>>())
    };
    let before = routes().await?;
    other.metadata = kube::api::ObjectMeta { name: Some(STACK.to_owned()), ..kube::api::ObjectMeta::default() };
    other.status = None;
    let secrets = crate::room::sample("local.yaml")?;
    let told = Box::pin(with_namespace("newer", |client, ns| async move {
        let newer = Room::new(client, ns).await?;
        let secrets: Vec<_> = secrets.into_iter().filter(|it| it["kind"] == "Secret").collect();
        newer.apply(&secrets).await?;
        newer.api::<OdooAiStack>().create(&PostParams::default(), &other).await?;
        let told = wait_for("HostConflict", Duration::from_mins(1), || async {
            let found = condition(&newer.stack().await?, "RoutesReady").context("no RoutesReady")?;
            Ok((found.reason == "HostConflict").then_some(found))
        })
        .await?;
        names(&told, &[&older, "ai.example.com", "api.example.com"])?;
        let api = newer.api::<odoo_ai_operator::cluster::traefik::IngressRoute>();
        ensure!(api.list(&kube::api::ListParams::default()).await?.items.is_empty(), "it has routes");
        newer.clear().await?;
        Ok(told.message)
    }))
    .await?;
    ensure!(routes().await? == before, "the older stack's routes changed");
    room.wait("RoutesReady", "True", "Reachable", 5).await?;
    Ok(told)
}

/// The operator isn't on the list either: its 403 shows that the route is there.
pub(super) async fn kept_out(room: &Room) -> Result<String> {
    room.change(hosts(&json!({"ipAllowList": ["192.0.2.0/24"]}))).await?;
    wait_for("a refusal", Duration::from_secs(30), || async {
        let answer = ask(room, "GET", DASHBOARD, "/", "").await?;
        Ok((answer.status == 403 && answer.is_ours()).then_some(()))
    })
    .await?;
    // Traefik's Service takes requests in on any node, as k3s' does.
    let told = room.wait("RoutesReady", "True", "ClientAddressesHidden", 60).await?;
    names(&told, &["kube-system/traefik", "externalTrafficPolicy"])?;
    settle(room).await?;
    wait_for("an answer", Duration::from_secs(30), || async {
        Ok((ask(room, "GET", DASHBOARD, "/", "").await?.status == 200).then_some(()))
    })
    .await?;
    Ok(told.message)
}

pub(super) async fn traefik_away(room: &Room) -> Result<String> {
    proxy::scale(&room.client, 0).await?;
    let told = room.wait("RoutesReady", "False", "TraefikUnreachable", 120).await?;
    room.wait("Ready", "True", "Settled", 5).await?;
    proxy::scale(&room.client, 1).await?;
    room.wait("RoutesReady", "True", "Reachable", 120).await?;
    Ok(told.message)
}
