//! What must never be seen or owned: secret values in objects and logs, privileges, owners of data.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Event, PersistentVolumeClaim, Pod, Secret, Service};
use kube::{Resource, ResourceExt};
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_tests::logs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::operator;
use crate::room::{Room, STACK};

/// Shorter values would be found by chance.
const SHORTEST: usize = 8;
/// Secrets that the operator generates; they outlive the stack.
pub(crate) const GENERATED: [&str; 5] =
    ["revision-key", "database-admin-credentials", "database-credentials", "redis-credentials", "app-secrets"];
/// Volumes that outlive the stack.
pub(crate) const VOLUMES: [&str; 2] = ["postgresql", "beat"];

/// Where a secret could turn up, by name.
type Haystacks = BTreeMap<String, String>;

/// No value of any Secret of the namespace is in an object that more people may read, or in a log.
pub(crate) async fn no_secret_is_shown(room: &Room) -> Result<String> {
    let mut needles = BTreeMap::new();
    for secret in room.list::<Secret>().await? {
        let encoded = serde_json::to_value(&secret)?["data"].clone();
        for (key, value) in secret.data.clone().unwrap_or_default() {
            // Certificates are public, and a test's own server has its file of settings there.
            if [".crt", ".key", ".conf"].iter().any(|end| key.ends_with(end)) {
                continue;
            }
            let name = format!("{}/{key}", secret.name_any());
            let base64 = encoded[&key].as_str().unwrap_or_default().trim_end_matches('=').to_owned();
            let plain = String::from_utf8_lossy(&value.0).into_owned();
            // A file of several words holds one secret among them.
            let words = plain.split_whitespace().chain(plain.lines()).map(str::to_owned).chain([base64]);
            needles.extend(
                words.filter(|word| word.len() >= SHORTEST && word != "requirepass").map(|word| (word, name.clone())),
            );
        }
    }
    ensure!(needles.len() >= 10, "only {} secret values were found", needles.len());
    let haystacks = Box::pin(haystacks(room)).await?;
    let mut shown = Vec::new();
    for (place, text) in &haystacks {
        let found = needles.iter().filter(|(value, _)| text.contains(value.as_str()));
        shown.extend(found.map(|(_, name)| format!("{name} is in {place}")));
    }
    ensure!(shown.is_empty(), "{}", shown.join("; "));
    Ok(format!("{} values, {} places", needles.len(), haystacks.len()))
}

async fn haystacks(room: &Room) -> Result<Haystacks> {
    let mut all = Haystacks::new();
    objects::<Pod>(room, &mut all).await?;
    objects::<Deployment>(room, &mut all).await?;
    objects::<StatefulSet>(room, &mut all).await?;
    objects::<ReplicaSet>(room, &mut all).await?;
    objects::<ControllerRevision>(room, &mut all).await?;
    objects::<Job>(room, &mut all).await?;
    objects::<ConfigMap>(room, &mut all).await?;
    objects::<Service>(room, &mut all).await?;
    objects::<Event>(room, &mut all).await?;
    objects::<OdooAiStack>(room, &mut all).await?;
    let operator = operator::log(&room.client).await?;
    ensure!(operator.contains(&room.ns), "the operator's log says nothing of {}", room.ns);
    all.insert("the operator's log".to_owned(), operator);
    for pod in room.list::<Pod>().await? {
        let name = pod.name_any();
        let mut written = 0;
        for container in containers(&pod) {
            let text = logs(&room.client, &room.ns, &name, Some(&container.name)).await?;
            written += text.len();
            all.insert(format!("the log of {name}/{}", container.name), text);
        }
        ensure!(written > 0 || name.contains("dashboard"), "{name} has logged nothing");
    }
    // What a process was started with, which everybody on the node can read.
    let processes = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
    for component in ["postgresql", "redis", "ai-service", "worker", "beat", "dashboard"] {
        // Somebody else's servers have no pod here.
        if room.pods_of(component).await?.is_empty() {
            ensure!(["postgresql", "redis"].contains(&component), "{component} has no pod");
            continue;
        }
        let text = room.run(component, &["sh", "-c", processes]).await?;
        ensure!(text.len() > 20, "{component} shows no process: {text}");
        all.insert(format!("the arguments of {component}'s processes"), text);
    }
    Ok(all)
}

async fn objects<K>(room: &Room, all: &mut Haystacks) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
{
    let found = room.list::<K>().await?;
    let kind = K::kind(&());
    ensure!(!found.is_empty(), "there is no {kind}");
    for object in found {
        all.insert(format!("{kind} {}", object.name_any()), serde_json::to_string(&object)?);
    }
    Ok(())
}

fn containers(pod: &Pod) -> Vec<Container> {
    let spec = pod.spec.clone().unwrap_or_default();
    spec.init_containers.unwrap_or_default().into_iter().chain(spec.containers).collect()
}

/// All pods as the restricted standard wants them and a little more: nothing to write to, no token.
pub(crate) async fn pods_are_locked_down(room: &Room) -> Result<String> {
    let pods = room.list::<Pod>().await?;
    for pod in &pods {
        let name = pod.name_any();
        let spec = pod.spec.as_ref().context("a pod without a spec")?;
        let of_pod = spec.security_context.clone().unwrap_or_default();
        ensure!(spec.automount_service_account_token == Some(false), "{name} may have a service account token");
        ensure!(spec.enable_service_links == Some(false), "{name} gets service links");
        let token = |volume: &k8s_openapi::api::core::v1::Volume| {
            let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
            sources.into_iter().any(|source| source.service_account_token.is_some())
        };
        ensure!(!spec.volumes.iter().flatten().any(token), "{name} mounts a service account token");
        for container in containers(pod) {
            let at = format!("{name}/{}", container.name);
            let own = container.security_context.clone().unwrap_or_default();
            let non_root = own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true);
            let user = own.run_as_user.or(of_pod.run_as_user);
            ensure!(non_root && user.is_some_and(|user| user > 0), "{at} may run as root: {user:?}");
            ensure!(own.read_only_root_filesystem == Some(true), "{at} may write to its root");
            ensure!(
                own.privileged != Some(true) && own.allow_privilege_escalation == Some(false),
                "{at} may gain rights"
            );
            let dropped = own.capabilities.and_then(|capabilities| capabilities.drop).unwrap_or_default();
            ensure!(dropped.contains(&"ALL".to_owned()), "{at} keeps capabilities");
            ensure!(container.resources.is_some_and(|r| r.limits.is_some()), "{at} has no memory limit");
        }
    }
    // Not only written down.
    let look =
        "id -u; touch /odooai-suite 2>/dev/null && echo writable; ls /var/run/secrets/kubernetes.io 2>/dev/null; true";
    for component in ["postgresql", "redis", "ai-service", "worker", "beat", "dashboard"] {
        let said = room.run(component, &["sh", "-c", look]).await?;
        let user: u32 = said.trim().parse().with_context(|| format!("{component} said {said}"))?;
        ensure!(user > 0, "{component} runs as root");
    }
    Ok(format!("{} pods", pods.len()))
}

/// Nobody who is deleted takes data or keys along.
pub(crate) async fn data_has_no_owner(room: &Room) -> Result<String> {
    for suffix in VOLUMES {
        let claim = room.api::<PersistentVolumeClaim>().get(&format!("{STACK}-{suffix}")).await?;
        ensure!(claim.owner_references().is_empty(), "volume {suffix} is owned by {:?}", claim.owner_references());
    }
    for suffix in GENERATED {
        let secret = room.api::<Secret>().get(&format!("{STACK}-{suffix}")).await?;
        ensure!(secret.owner_references().is_empty(), "Secret {suffix} is owned by {:?}", secret.owner_references());
    }
    // Everything else goes with the stack.
    let owned = |owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]| !owners.is_empty();
    for service in room.list::<Service>().await? {
        let ours = service.name_any().starts_with(STACK);
        ensure!(!ours || owned(service.owner_references()), "Service {} has no owner", service.name_any());
    }
    Ok(String::new())
}
