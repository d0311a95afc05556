//! What keeps a pod from its start and is told by Events only: its volumes. Read live, and only for
//! a pod that waits: a stack whose pods run costs nothing here.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, PodSpec};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::{Api, Client};

use super::children::Children;

/// A container needs a moment to be created, and some first words are wrong.
const MOMENT: SignedDuration = SignedDuration::from_secs(5);
/// Events about one object that are looked at.
const EVENTS: u32 = 100;

/// A `PersistentVolumeClaim` of a pod without a node, read live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// `Pending`, `Bound` or `Lost`.
    pub phase: String,
    /// Its `StorageClass`; `None`: it names none.
    pub class: Option<String>,
    /// The newest Event about it.
    pub said: Option<Said>,
}

/// What an Event says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// A Warning.
    pub warning: bool,
    /// Its words.
    pub message: String,
}

/// What keeps pods from their start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Claims of pods that have no node, by name.
    pub claims: BTreeMap<String, Claim>,
    /// Why a pod's volumes can't be mounted, by the pod's name.
    pub mounts: BTreeMap<String, String>,
    /// Why a `StatefulSet` may not even make its pod, by name; a Deployment says it in its status.
    pub refused: BTreeMap<String, String>,
    /// A pod waits for something that is told by Events: it is worth another look soon.
    pub waiting: bool,
}

/// Reads what keeps the pods that wait.
///
/// # Errors
/// The client's error.
pub async fn read(client: &Client, namespace: &str, children: &Children, now: Timestamp) -> kube::Result<Pending> {
    let pods: Vec<&Pod> =
        children.pods.values().map(AsRef::as_ref).filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    let without_node = pods.iter().filter_map(|pod| pod.spec.as_ref()).filter(|spec| spec.node_name.is_none());
    let mut names: Vec<&str> = without_node.flat_map(claims_of).collect();
    names.sort_unstable();
    names.dedup();
    let claims = try_join_all(names.into_iter().map(|name| claim(client, namespace, name)));
    let without_pods = children.stateful_sets.values().map(AsRef::as_ref).filter(|set| has_no_pods(set));
    let refusals = try_join_all(without_pods.map(|set| refusal(client, namespace, set)));
    let creating: Vec<&Pod> = pods.into_iter().filter(|pod| is_being_created(pod)).collect();
    let since = |pod: &Pod| Some(pod.status.as_ref()?.start_time.as_ref()?.0);
    let stuck = creating.iter().filter(|pod| since(pod).is_some_and(|since| since.duration_until(now) >= MOMENT));
    let mounts = try_join_all(stuck.map(|pod| mounts(client, namespace, pod)));
    let (claims, mounts, refused) = futures::future::try_join3(claims, mounts, refusals).await?;
    let claims: BTreeMap<_, _> = claims.into_iter().flatten().map(|claim| (claim.name.clone(), claim)).collect();
    let refused: BTreeMap<_, _> = refused.into_iter().flatten().collect();
    let waiting = !claims.is_empty() || !refused.is_empty() || !creating.is_empty();
    Ok(Pending { claims, mounts: mounts.into_iter().flatten().collect(), refused, waiting })
}

/// Its controller has seen it, and it has no pod at all.
fn has_no_pods(set: &StatefulSet) -> bool {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = set.status.as_ref().filter(|status| status.observed_generation >= set.metadata.generation);
    wanted > 0 && set.metadata.deletion_timestamp.is_none() && status.is_some_and(|status| status.replicas == 0)
}

async fn refusal(client: &Client, namespace: &str, set: &StatefulSet) -> kube::Result<Option<(String, String)>> {
    let (Some(name), Some(uid)) = (&set.metadata.name, &set.metadata.uid) else { return Ok(None) };
    let mut events = events(client, namespace, uid).await?;
    events.retain(|event| matches!(event.reason.as_deref(), Some("FailedCreate" | "SuccessfulCreate")));
    Ok(newest(events).filter(|said| said.warning).map(|said| (name.clone(), said.message)))
}

/// Claims that a pod mounts.
pub fn claims_of(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let volumes = spec.volumes.iter().flatten();
    volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()).map(|source| source.claim_name.as_str())
}

/// It has a node, and no container of it has ever started.
fn is_being_created(pod: &Pod) -> bool {
    let Some(status) = pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Pending")) else {
        return false;
    };
    let mut containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    status.start_time.is_some()
        && containers.all(|container| {
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
            container.restart_count == 0 && matches!(reason, Some("ContainerCreating" | "PodInitializing"))
        })
}

async fn claim(client: &Client, namespace: &str, name: &str) -> kube::Result<Option<Claim>> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let Some(claim) = api.get_opt(name).await? else { return Ok(None) };
    let phase = claim.status.and_then(|status| status.phase).unwrap_or_default();
    let said = match (phase.as_str(), claim.metadata.uid) {
        ("Bound", _) | (_, None) => None,
        (_, Some(uid)) => newest(events(client, namespace, &uid).await?),
    };
    let class = claim.spec.and_then(|spec| spec.storage_class_name).filter(|class| !class.is_empty());
    Ok(Some(Claim { name: name.to_owned(), phase, class, said }))
}

async fn mounts(client: &Client, namespace: &str, pod: &Pod) -> kube::Result<Option<(String, String)>> {
    let (Some(name), Some(uid)) = (&pod.metadata.name, &pod.metadata.uid) else { return Ok(None) };
    let mut events = events(client, namespace, uid).await?;
    // A time-out that only sums up others comes between them.
    events.retain(|event| {
        matches!(event.reason.as_deref(), Some("FailedMount" | "FailedAttachVolume"))
            && event.message.as_deref().is_some_and(|message| !message.starts_with("Unable to attach or mount"))
    });
    Ok(newest(events).map(|said| (name.clone(), said.message)))
}

async fn events(client: &Client, namespace: &str, uid: &str) -> kube::Result<Vec<Event>> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(EVENTS);
    match api.list(&about).await {
        Ok(list) => Ok(list.items),
        // A Role of an older chart: the cause stays unsaid, everything else goes on.
        Err(kube::Error::Api(status)) if status.code == 403 => {
            tracing::debug!(namespace, "Events may not be read");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn newest(events: Vec<Event>) -> Option<Said> {
    let warning = |event: &Event| event.type_.as_deref() == Some("Warning");
    let newest = events.into_iter().max_by_key(|event| (time(event), warning(event)))?;
    Some(Said { warning: warning(&newest), message: newest.message.unwrap_or_default().trim().to_owned() })
}

fn time(event: &Event) -> Timestamp {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let times = [
        series,
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.first_timestamp.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().max().unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(second: u32, kind: &str, message: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "type": kind, "message": message,
            "lastTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
        }))
        .expect("an Event")
    }

    #[test]
    fn the_newest_word_counts_and_a_warning_before_others_of_the_same_second() {
        let said = |events: Vec<Event>| newest(events).map(|said| said.message);
        assert_eq!(said(vec![]), None);
        let failed = event(5, "Warning", "failed");
        assert_eq!(said(vec![event(1, "Normal", "a"), failed.clone()]).as_deref(), Some("failed"));
        assert_eq!(said(vec![failed.clone(), event(9, "Normal", "later")]).as_deref(), Some("later"));
        assert_eq!(said(vec![failed, event(5, "Normal", "z")]).as_deref(), Some("failed"));
    }

    #[test]
    fn only_a_pod_whose_containers_are_all_being_created_is_asked_about() {
        let start = "2026-01-01T00:00:00Z";
        let pod = |phase: &str, reason: &str| -> Pod {
            let state = json!({"waiting": {"reason": reason}});
            serde_json::from_value(json!({"metadata": {}, "status": {"phase": phase, "startTime": start,
                "containerStatuses": [{"name": "a", "image": "b", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}}))
            .expect("a pod")
        };
        assert!(is_being_created(&pod("Pending", "ContainerCreating")));
        assert!(!is_being_created(&pod("Pending", "ImagePullBackOff")));
        assert!(!is_being_created(&pod("Running", "ContainerCreating")));
    }
}
