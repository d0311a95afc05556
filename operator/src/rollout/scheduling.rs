//! Why a pod has no node: no room, rules of placement, or a volume that isn't there.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::reasons;

use super::pods::Trouble;
use crate::cluster::covers::quantity;
use crate::cluster::pending::{Claim, claims_of};

/// What the taints that Kubernetes itself sets mean.
const STATES: [(&str, &str); 6] = [
    ("not-ready", "is not ready"),
    ("unreachable", "can't be reached"),
    ("unschedulable", "takes no pods (cordoned)"),
    ("disk-pressure", "has too little disk space"),
    ("memory-pressure", "has too little memory"),
    ("pid-pressure", "has too many processes"),
];
/// A volume that is made only when its pod comes is waited for this long without a word.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Why `pod` has no node, where somebody said so, or its volume keeps it.
#[must_use]
pub fn trouble(pod: &Pod, component: &str, claims: &BTreeMap<String, Claim>, now: Timestamp) -> Option<Trouble> {
    let spec = pod.spec.as_ref().filter(|spec| spec.node_name.is_none())?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let conditions = pod.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
    let refusal = scheduled.filter(|condition| condition.status == "False");
    let words = refusal.map(|condition| without_preemption(condition.message.as_deref().unwrap_or_default()));
    let created = pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let patient = created.duration_until(now) < GRACE;
    let claims = || claims_of(spec).filter_map(|claim| claims.get(claim));
    if let Some(trouble) = claims().find_map(|it| of_claim(it, patient)).filter(|_| words.is_none_or(is_about_claims)) {
        return Some(trouble);
    }
    let words = words?;
    if is_about_claims(words) {
        let look = format!("pod {name} waits for its volume: {words}; see kubectl describe pvc");
        return (!patient).then(|| Trouble::new(reasons::VOLUME_PENDING, look));
    }
    let remedy = remedy(words, pod, component);
    Some(Trouble::new(reasons::UNSCHEDULABLE, format!("pod {name} can't be scheduled: {words}{remedy}")))
}

fn of_claim(claim: &Claim, patient: bool) -> Option<Trouble> {
    let Claim { name, phase, class, said } = claim;
    let of_class = class.as_ref().map(|class| format!(" (StorageClass {class})")).unwrap_or_default();
    match phase.as_str() {
        "Bound" => return None,
        "Lost" => {
            return Some(Trouble::new(
                reasons::VOLUME_LOST,
                format!(
                    "the volume behind PersistentVolumeClaim {name}{of_class} is gone, and what was on it: see kubectl describe pvc {name}; bring the PersistentVolume back, or delete the claim to begin without the data"
                ),
            ));
        }
        _ => {}
    }
    let words = said.as_ref().map(|said| said.message.as_str()).unwrap_or_default();
    if let Some(missing) = missing_class(words) {
        return Some(Trouble::new(
            reasons::STORAGE_CLASS_MISSING,
            format!(
                "PersistentVolumeClaim {name} asks for StorageClass {missing}, which doesn't exist: create it (kubectl get storageclass lists what there is). The class of a stack can't be changed: to use another one delete the stack and its empty volumes, and make it anew with database.managed.storage.storageClassName"
            ),
        ));
    }
    if words.contains("no storage class is set") {
        return Some(Trouble::new(
            reasons::STORAGE_CLASS_MISSING,
            format!(
                "PersistentVolumeClaim {name} asks for the cluster's default StorageClass, and there is none: mark one with the annotation storageclass.kubernetes.io/is-default-class=true, or delete the stack and its empty volumes, and make it anew with database.managed.storage.storageClassName"
            ),
        ));
    }
    if patient && said.as_ref().is_none_or(|said| !said.warning) {
        return None;
    }
    let words = if words.is_empty() { "nobody says why" } else { words };
    Some(Trouble::new(
        reasons::VOLUME_PENDING,
        format!(
            "PersistentVolumeClaim {name}{of_class} has no volume yet: {words}; is the storage provisioner running, and has it room? See kubectl describe pvc {name}"
        ),
    ))
}

/// `storageclass.storage.k8s.io "nope" not found`
fn missing_class(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("storageclass.storage.k8s.io \"")?;
    let (class, rest) = rest.split_once('"')?;
    rest.trim_start().starts_with("not found").then_some(class)
}

fn is_about_claims(words: &str) -> bool {
    let words = words.to_lowercase();
    ["persistentvolumeclaim", "persistent volumes to bind", "binding volumes", "storageclass.storage.k8s.io"]
        .iter()
        .any(|part| words.contains(part))
}

/// What preemption came to is of no use to anybody here: all pods have the same priority.
fn without_preemption(words: &str) -> &str {
    let words = words.split_once(" preemption:").map_or(words, |(before, _)| before);
    words.trim_end_matches(" no new claims to deallocate,").trim_end_matches(['.', ' '])
}

fn remedy(words: &str, pod: &Pod, component: &str) -> String {
    let application = !matches!(component, "postgresql" | "redis");
    if words.contains("Insufficient") || words.contains("Too many pods") {
        return room_remedy(pod, component);
    }
    if words.contains("volume node affinity conflict") {
        return "; its volume lies on a node that is away or full: bring that node back".to_owned();
    }
    let state = STATES.iter().find(|(taint, _)| words.contains(&format!("node.kubernetes.io/{taint}")));
    if let Some((_, state)) = state {
        return format!("; the node {state}: see kubectl describe node");
    }
    match field(component).filter(|_| application) {
        Some(field) if words.contains("untolerated taint") => {
            format!("; remove the taint, or tolerate it with {field}.tolerations")
        }
        Some(field) if words.contains("node affinity/selector") => {
            format!("; give a node these labels, or correct {field}.nodeSelector")
        }
        _ if words.contains("untolerated taint") => "; remove the taint".to_owned(),
        _ => String::new(),
    }
}

/// What a full node needs.
pub(super) fn room_remedy(pod: &Pod, component: &str) -> String {
    let lower = field(component).map(|field| format!(", or lower {field}.resources.requests")).unwrap_or_default();
    format!("{}; make room on a node or add one{lower}", asks(pod))
}

/// Part of the spec that a component's amounts are in; the migrate Job has those of ai-service.
pub(super) fn field(component: &str) -> Option<&'static str> {
    Some(match component {
        "postgresql" => "database.managed",
        "redis" => "redis.managed",
        "ai-service" | "migrate" => "aiService",
        "worker" => "worker",
        "beat" => "beat",
        "dashboard" => "dashboard",
        _ => return None,
    })
}

/// `; the pod asks for cpu 150m, memory 448Mi`
pub(super) fn asks(pod: &Pod) -> String {
    let Some(spec) = &pod.spec else { return String::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|it| it.restart_policy.as_deref() == Some("Always"));
    let requests: Vec<_> = spec
        .containers
        .iter()
        .chain(sidecars)
        .filter_map(|container| container.resources.as_ref()?.requests.as_ref())
        .collect();
    let sum = |name: &str| requests.iter().filter_map(|all| quantity(&all.get(name)?.0)).sum::<i128>();
    let (cpu, memory) = (sum("cpu"), sum("memory") / 1000);
    match (cpu, memory) {
        (0, 0) => String::new(),
        _ => format!("; the pod asks for cpu {cpu}m, memory {}Mi", memory >> 20),
    }
}
