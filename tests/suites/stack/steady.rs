//! A settled stack costs nothing: no write, also not by an operator that has just started.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use kube::api::{Patch, PatchParams};
use kube::{Resource, ResourceExt};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_tests::{Cluster, wait_for};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::operator::{self, End, Metrics};
use crate::room::{Room, STACK, summary};

/// Many rounds of the agents' answers, and one look at the stack, which is asked for.
const WINDOW: Duration = Duration::from_secs(75);
/// After the last write before the window.
const QUIET: Duration = Duration::from_secs(5);

/// Version and last writer of each object, by kind and name.
pub(crate) type Versions = BTreeMap<String, (String, String)>;

/// The versions of the stack and of everything in its namespace but events.
pub(crate) async fn versions(room: &Room) -> Result<Versions> {
    let mut all = Versions::new();
    add::<OdooAiStack>(room, &mut all).await?;
    add::<Deployment>(room, &mut all).await?;
    add::<StatefulSet>(room, &mut all).await?;
    add::<ReplicaSet>(room, &mut all).await?;
    add::<ControllerRevision>(room, &mut all).await?;
    add::<Backup>(room, &mut all).await?;
    add::<CronJob>(room, &mut all).await?;
    add::<Job>(room, &mut all).await?;
    add::<Pod>(room, &mut all).await?;
    add::<Service>(room, &mut all).await?;
    add::<Secret>(room, &mut all).await?;
    add::<ConfigMap>(room, &mut all).await?;
    add::<PersistentVolumeClaim>(room, &mut all).await?;
    Ok(all)
}

async fn add<K>(room: &Room, all: &mut Versions) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    for object in room.list::<K>().await? {
        let newest = object.managed_fields().iter().max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
        let writer = newest.map(|entry| {
            let at = entry.time.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
            format!("{} at {at}", entry.manager.as_deref().unwrap_or_default())
        });
        let key = format!("{} {}", K::kind(&()), object.name_any());
        all.insert(key, (object.resource_version().unwrap_or_default(), writer.unwrap_or_default()));
    }
    Ok(())
}

/// # Errors
/// With each object that came, went or was written.
pub(crate) fn unchanged(before: &Versions, after: &Versions) -> Result<()> {
    let mut changes = Vec::new();
    for (key, (version, writer)) in after {
        match before.get(key) {
            None => changes.push(format!("{key} is new")),
            Some((old, _)) if old != version => changes.push(format!("{key} was written by {writer}")),
            Some(_) => {}
        }
    }
    changes.extend(before.keys().filter(|key| !after.contains_key(*key)).map(|key| format!("{key} is gone")));
    ensure!(changes.is_empty(), "{}", changes.join("; "));
    Ok(())
}

/// Nothing is written for 75 seconds. Nobody else may have work for the operator meanwhile.
pub(crate) async fn rests(room: &Room) -> Result<String> {
    room.wait("OdooReachable", "True", "", 90).await?;
    tokio::time::sleep(QUIET).await;
    let counted = Metrics::read(&room.client).await?;
    let touch = Patch::Merge(json!({"metadata": {"annotations": {"somebody": "wrote this"}}}));
    room.api::<OdooAiStack>().patch_metadata(STACK, &PatchParams::default(), &touch).await?;
    let before = versions(room).await?;
    let said = summary(&room.stack().await?);
    tokio::time::sleep(WINDOW).await;
    let (after, counts) = (versions(room).await?, Metrics::read(&room.client).await?);
    let stack = room.stack().await?;
    let reconciles = counts.value("reconciles_total") - counted.value("reconciles_total");
    if let Err(change) = unchanged(&before, &after) {
        anyhow::bail!("{change}; the conditions were {said}, now {}", summary(&stack));
    }
    ensure!(counted.writes() == counts.writes(), "writes went from {:?} to {:?}", counted.writes(), counts.writes());
    ensure!(reconciles > 0, "the operator has not looked once");
    Ok(format!("{} objects, {reconciles} reconciles, no write", after.len()))
}

/// A new operator finds everything in place: it reads, and writes nothing.
pub(crate) async fn restart_is_not_noticed(room: &Room, cluster: &Cluster) -> Result<String> {
    let (before, starts) = (versions(room).await?, starts(room).await?);
    let stacks = kube::Api::<OdooAiStack>::all(room.client.clone()).list(&kube::api::ListParams::default()).await?;
    operator::replace(cluster, &room.client, End::Asked).await?;
    let wanted = u64::try_from(stacks.items.len())?;
    wait_for("the new operator to look at each stack", Duration::from_mins(1), || async {
        let seen = Metrics::read(&room.client).await?.value("reconciles_total");
        Ok((seen >= wanted).then_some(()))
    })
    .await?;
    tokio::time::sleep(QUIET).await;
    let writes = Metrics::read(&room.client).await?.writes();
    unchanged(&before, &versions(room).await?)?;
    ensure!(writes == (0, 0), "the new operator wrote {} children and {} statuses", writes.0, writes.1);
    let now = self::starts(room).await?;
    ensure!(starts == now, "pods were {starts:?}, now {now:?}");
    Ok(format!("{wanted} stacks, {} pods untouched", now.len()))
}

/// UID and restarts of each pod.
pub(crate) async fn starts(room: &Room) -> Result<BTreeMap<String, (String, i32)>> {
    let pods = room.list::<Pod>().await?;
    Ok(pods
        .into_iter()
        .map(|pod| {
            let status = pod.status.clone().unwrap_or_default();
            let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
            let restarts = all.map(|container| container.restart_count).sum();
            (pod.name_any(), (pod.uid().unwrap_or_default(), restarts))
        })
        .collect())
}
