//! What is wrong with a component's pods, in the words of a condition: what, where, and what to do.
//!
//! The kubelet tells one failure in several ways, in turns, and counts up: a condition says it in
//! one way for as long as it lasts.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::reasons;

use super::scheduling;
use crate::cluster::children::Children;

/// Restarts of one container that count as a crash loop.
const CRASH_LOOP: i32 = 3;
/// Name of the sidecar.
pub const SIDECAR: &str = "agent";
/// A pod that was put off its node explains for this long why its component has too few.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// A trouble that a person should read about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Condition reason.
    pub reason: &'static str,
    /// What, where and, where it is known, why and what to do.
    pub message: String,
    /// One container was restarted so often that its revision has failed.
    pub fatal: bool,
    /// When that container ended last.
    pub ended_at: Option<Timestamp>,
}

impl Trouble {
    /// A trouble that may pass.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), fatal: false, ended_at: None }
    }
}

/// It runs no container any more, and never will.
#[must_use]
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The first trouble among the `wanted` pods of `component`.
#[must_use]
pub fn trouble(children: &Children, component: &str, wanted: impl Fn(&Pod) -> bool, now: Timestamp) -> Option<Trouble> {
    let pods = || children.pods_of(component).filter(|pod| wanted(pod) && pod.metadata.deletion_timestamp.is_none());
    let alive = pods().find_map(|pod| of_pod(pod, component, children, now));
    alive.or_else(|| pods().find_map(|pod| put_off(pod, component, now)))
}

/// How a container of the `wanted` pods that isn't ready ended, before that counts as a crash loop: it explains a
/// deadline that comes first.
#[must_use]
pub fn last_end(children: &Children, component: &str, wanted: impl Fn(&Pod) -> bool) -> Option<String> {
    let pods = children.pods_of(component).filter(|pod| wanted(pod) && pod.metadata.deletion_timestamp.is_none());
    let said = |pod: &Pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let status = pod.status.as_ref()?;
        let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        containers.filter(|it| it.name != SIDECAR && !it.ready).find_map(|container| {
            let code = terminated(container).filter(|_| container.restart_count > 0)?.exit_code;
            let at = format!("pod {name}, container {}", container.name);
            Some(format!("{at} ended with exit code {code} and was started again"))
        })
    };
    pods.into_iter().find_map(said)
}

/// How a container ended last.
fn terminated(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let mut states = [&container.state, &container.last_state].into_iter().flatten();
    states.find_map(|state| state.terminated.as_ref())
}

fn of_pod(pod: &Pod, component: &str, children: &Children, now: Timestamp) -> Option<Trouble> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let mut containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers
        .find_map(|container| {
            let trouble = of_container(name, component, container)?;
            // The agent beside the application is no part of the revision.
            let fatal = container.name != SIDECAR && container.restart_count >= CRASH_LOOP;
            let told = [&container.state, &container.last_state].into_iter().flatten();
            let ends = told.filter_map(|state| state.terminated.as_ref()?.finished_at.as_ref());
            let ended_at = ends.map(|time| time.0).max();
            Some(Trouble { fatal: fatal && trouble.reason != reasons::IMAGE_PULL_FAILED, ended_at, ..trouble })
        })
        .or_else(|| scheduling::trouble(pod, component, &children.pending.claims, now))
        .or_else(|| {
            let words = children.pending.mounts.get(name)?;
            Some(not_created(&format!("pod {name}"), "its volumes can't be mounted", words))
        })
}

fn of_container(pod: &str, component: &str, container: &ContainerStatus) -> Option<Trouble> {
    let name = &container.name;
    let at = format!("pod {pod}, container {name}");
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let waiting_reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let detail = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    match waiting_reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable"
        | "ImageInspectError" => {
            let cause = cause(detail);
            let remedy = pull_remedy(waiting_reason, cause);
            let message = format!("{at}: image {} can't be pulled: {cause}{remedy}", container.image);
            return Some(Trouble::new(reasons::IMAGE_PULL_FAILED, message));
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            return Some(not_created(&at, waiting_reason, detail));
        }
        _ => {}
    }
    if container.ready {
        return None;
    }
    let ended = terminated(container)?;
    match ended.reason.as_deref().unwrap_or_default() {
        "OOMKilled" => Some(Trouble::new(
            reasons::OUT_OF_MEMORY,
            format!("{at} was killed: it used more memory than its limit{}", memory_remedy(component, name)),
        )),
        // Its back-off looks like a crash loop, but the process has never run.
        reason @ ("StartError" | "ContainerCannotRun") => {
            Some(not_created(&at, reason, ended.message.as_deref().unwrap_or_default()))
        }
        _ if container.restart_count >= CRASH_LOOP => Some(crash_loop(&at, pod, name, ended)),
        _ => None,
    }
}

fn crash_loop(at: &str, pod: &str, container: &str, ended: &ContainerStateTerminated) -> Trouble {
    let code = ended.exit_code;
    let meaning = match code {
        126 => ": its command can't be executed",
        127 => ": its command doesn't exist in the image",
        137 => ": it was killed from outside, mostly for memory or because a probe failed",
        139 => ": it broke a memory rule of the processor (is the image for this kind of machine?)",
        _ => "",
    };
    Trouble::new(
        reasons::CRASH_LOOP,
        format!(
            "{at} ends again and again ({CRASH_LOOP} times or more), last with exit code {code}{meaning}; see kubectl logs {pod} -c {container} --previous"
        ),
    )
}

fn not_created(at: &str, kind: &str, detail: &str) -> Trouble {
    let says = |words: &[&str]| words.iter().all(|word| detail.contains(word));
    let remedy = if says(&["couldn't find key"]) || says(&["non-existent secret key"]) || says(&["secret", "not found"])
    {
        "; put the Secret or the key back"
    } else if says(&["executable file not found"]) || says(&["no such file or directory"]) {
        "; the image lacks this program: is it the right image?"
    } else if says(&["runAsNonRoot"]) {
        "; set security.runAsUser of this component to a number"
    } else {
        ""
    };
    Trouble::new(reasons::CONTAINER_NOT_CREATED, format!("{at}: {kind}: {detail}{remedy}"))
}

/// The kubelet tells the same failure in two ways, in turns; a condition says it in one.
fn cause(detail: &str) -> &str {
    detail.split_once("ErrImagePull: ").map_or(detail, |(_, cause)| cause)
}

fn pull_remedy(reason: &str, detail: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    match reason {
        "InvalidImageName" => "; correct the image's name",
        "ErrImageNeverPull" => "; load it onto the node, or set images.pullPolicy to IfNotPresent",
        _ if says(&["401", "403", "unauthorized", "denied", "no basic auth"]) => {
            "; check the name, and the Secrets in images.pullSecrets"
        }
        _ if says(&["not found", "manifest unknown", "404", "no match for platform"]) => {
            "; check name and tag, and that the image was pushed for this kind of machine"
        }
        _ if says(&["toomanyrequests", "429"]) => {
            "; the registry limits pulls: log in with images.pullSecrets, or wait"
        }
        _ if says(&["x509", "tls:", "HTTP response to HTTPS"]) => {
            "; the node must trust the registry's certificate, or be told that it has none"
        }
        _ if says(&["no space left"]) => "; free disk space on the node",
        _ if says(&["dial tcp", "no such host", "timeout", "connection refused", "EOF"]) => {
            "; the node doesn't reach the registry: check its name, DNS and network"
        }
        _ => "",
    }
}

/// Only the component's own container has a limit that a person can set.
fn memory_remedy(component: &str, container: &str) -> String {
    let hint = match component {
        "worker" => ", or lower worker.concurrency",
        "redis" => ", or lower redis.managed.maxMemoryMiB",
        _ => "",
    };
    match scheduling::field(component) {
        Some(field) if container == component => format!("; raise {field}.resources.limits.memory{hint}"),
        _ => String::new(),
    }
}

/// A pod that the node put off or did not take. Its successor may be on the way, and the dead pod
/// stays for a long time: it says something only while it is recent and nothing else is known.
fn put_off(pod: &Pod, component: &str, now: Timestamp) -> Option<Trouble> {
    let status = pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Failed"))?;
    let changes = status.conditions.iter().flatten().filter_map(|it| it.last_transition_time.as_ref());
    let at = changes.map(|time| time.0).max().or(status.start_time.as_ref().map(|time| time.0))?;
    if at.duration_until(now) > RECENT {
        return None;
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let words = status.message.as_deref().unwrap_or_default().trim();
    let (reason, what, remedy) = match status.reason.as_deref()? {
        "Evicted" if words.starts_with("The node") => {
            let kept = scheduling::field(component).map(|field| format!(", or raise {field}.resources.requests"));
            let remedy = format!("; free that on the node{}", kept.unwrap_or_default());
            (reasons::EVICTED, "was put off its node", remedy)
        }
        "Evicted" => (reasons::EVICTED, "was put off its node", String::new()),
        reason if reason.starts_with("OutOf") => {
            (reasons::UNSCHEDULABLE, "was not taken by its node", scheduling::room_remedy(pod, component))
        }
        _ => return None,
    };
    Some(Trouble::new(reason, format!("pod {name} {what}: {words}{remedy}")))
}
