//! What is wrong with a component's pods, in the words of a condition.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use odoo_ai_crds::conditions::reasons;

use super::revision;

/// Restarts of one container that count as a crash loop.
const CRASH_LOOP: i32 = 3;

/// A trouble that a person should read about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Condition reason.
    pub reason: &'static str,
    /// What, where and, where it is known, why.
    pub message: String,
}

/// The first trouble among `pods` of `revision` (of any, if `None`).
#[must_use]
pub fn trouble<'a>(pods: impl Iterator<Item = &'a Pod>, revision: Option<&str>) -> Option<Trouble> {
    pods.filter(|pod| revision.is_none() || revision::label(&pod.metadata) == revision)
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .find_map(of_pod)
}

fn of_pod(pod: &Pod) -> Option<Trouble> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let mut containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers.find_map(|container| of_container(name, container)).or_else(|| unschedulable(name, pod))
}

fn of_container(pod: &str, container: &ContainerStatus) -> Option<Trouble> {
    let at = format!("pod {pod}, container {}", container.name);
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let waiting_reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let detail = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    match waiting_reason {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            return Some(Trouble {
                reason: reasons::IMAGE_PULL_FAILED,
                message: format!("{at}: image {} can't be pulled: {}", container.image, cause(detail)),
            });
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            return Some(Trouble {
                reason: reasons::CONTAINER_NOT_CREATED,
                message: format!("{at}: {waiting_reason}: {detail}"),
            });
        }
        _ => {}
    }
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref()).or(last);
    let restarts = container.restart_count;
    match ended {
        Some(ended) if ended.reason.as_deref() == Some("OOMKilled") && !container.ready => Some(Trouble {
            reason: reasons::OUT_OF_MEMORY,
            message: format!("{at} was killed: it used more memory than its limit ({restarts} restarts)"),
        }),
        Some(ended) if restarts >= CRASH_LOOP && !container.ready => Some(Trouble {
            reason: reasons::CRASH_LOOP,
            message: format!(
                "{at} restarted {restarts} times, last with exit code {}; see kubectl logs {pod} -c {} --previous",
                ended.exit_code, container.name
            ),
        }),
        _ => None,
    }
}

/// The kubelet tells the same failure in two ways, in turns; a condition says it in one.
fn cause(detail: &str) -> &str {
    detail.split_once("ErrImagePull: ").map_or(detail, |(_, cause)| cause)
}

fn unschedulable(name: &str, pod: &Pod) -> Option<Trouble> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable"))?;
    let detail = condition.message.as_deref().unwrap_or_default();
    Some(Trouble { reason: reasons::UNSCHEDULABLE, message: format!("pod {name} can't be scheduled: {detail}") })
}
