//! The watch of a revision, and what around it interrupts a rollout: a server that restarts, a node that is
//! away, an operator that wasn't there. None of it says anything about the revision.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::stack::{RolloutStatus, Step};

use super::gates::{Gate, View};
use super::pods::SIDECAR;
use super::steps::{self, Position};
use crate::component::{APPLICATION, Component, ComponentExt};
use crate::stack::agents::Agents;

/// A watch that is interrupted more often than this proves nothing.
pub const MOST_INTERRUPTIONS: i32 = 5;
/// Samples that are so much later than they should be: nobody was there to take them.
const GAP: SignedDuration = SignedDuration::from_secs(10);
/// While an interruption lasts, its time is written down this often.
const REFRESH: SignedDuration = SignedDuration::from_secs(30);
/// Containers that ended with their node, as the runtime tells it afterwards.
const ENDED_WITH_NODE: i32 = 255;

/// The revision was watched for long enough.
#[must_use]
pub fn gate(view: &View<'_>) -> Gate {
    if view.is_current() {
        return Gate::Open;
    }
    let rules = view.stack.rollout;
    let rollout = view.status.rollout.clone().unwrap_or_default();
    let (samples, wanted) = (rollout.samples, samples_wanted(rules.watch_duration, rules.watch_period));
    if samples >= wanted {
        return Gate::Open;
    }
    if is_inconclusive(&rollout) {
        let (namespace, name, retry) = (&view.stack.namespace, &view.stack.name, annotations::RETRY_REQUESTED_AT);
        return Gate::blocked(
            reasons::WATCH_INCONCLUSIVE,
            format!(
                "all components run, but what is around them interrupted the watch {} times: nobody can say whether \
                 revision {} is well. Cure that (database, Redis, node), then watch it again: kubectl annotate \
                 odooaistack -n {namespace} {name} {retry}=$(date +%s) --overwrite",
                rollout.interruptions, view.target
            ),
        );
    }
    let interrupted = match rollout.interruptions {
        0 => String::new(),
        1 => "; it was interrupted once".to_owned(),
        count => format!("; it was interrupted {count} times"),
    };
    let bad = rollout.bad_sample.map(|what| format!("; it began anew after a bad one: {what}")).unwrap_or_default();
    let message = format!("all components run; {wanted} good samples in a row end the watch{interrupted}{bad}");
    Gate::wait(reasons::WATCHING, message)
}

fn samples_wanted(duration: i32, period: i32) -> i32 {
    (duration + period - 1) / period
}

/// A gate that must stay open during the watch; what else comes in between (a password, a replaced volume) ends it.
#[must_use]
pub fn is_watched(step: Step) -> bool {
    step <= Step::Redis || steps::has_deadline(step)
}

/// The watch was interrupted too often.
#[must_use]
pub fn is_inconclusive(rollout: &RolloutStatus) -> bool {
    rollout.interruptions > MOST_INTERRUPTIONS
}

/// What the rollout's status says of interruptions now, where that changes.
#[must_use]
pub fn notice(view: &View<'_>, position: &Position) -> Option<RolloutStatus> {
    let before = view.status.rollout.as_ref()?;
    let mut rollout = before.clone();
    let (watching, disturbed) = (rollout.step == Some(Step::Watch), is_disturbed(view, position));
    if view.is_first() && !watching {
        return None;
    }
    let absent = watching && nobody_looked(view, &rollout);
    let back = position.step.is_none_or(|step| step >= Step::Checks);
    match rollout.interrupted_at.as_ref().map(|at| at.0) {
        None if disturbed || absent => {
            rollout.interrupted_at = Some(Time(view.now));
            rollout.interruptions += i32::from(watching);
        }
        Some(at) if disturbed && at + REFRESH <= view.now => rollout.interrupted_at = Some(Time(view.now)),
        Some(at) if !disturbed && (back || at + allowance(view) <= view.now) => {
            rollout.interrupted_at = None;
            rollout.last_sample_at = Some(Time(view.now));
        }
        _ => {}
    }
    if rollout == *before {
        return None;
    }
    rollout.last_interrupted_at = Some(Time(view.now));
    Some(rollout)
}

/// What was interrupted gets the time of a step to come back.
fn allowance(view: &View<'_>) -> SignedDuration {
    SignedDuration::from_secs(i64::from(view.stack.rollout.progress_deadline))
}

fn nobody_looked(view: &View<'_>, rollout: &RolloutStatus) -> bool {
    let period = SignedDuration::from_secs(i64::from(view.stack.rollout.watch_period));
    let last = rollout.last_sample_at.as_ref().filter(|_| rollout.interrupted_at.is_none());
    last.is_some_and(|last| last.0 + period + GAP < view.now)
}

/// Something that a revision needs is away, or was just now.
fn is_disturbed(view: &View<'_>, position: &Position) -> bool {
    let pods = || APPLICATION.into_iter().flat_map(|component| view.children.pods_of(component.name()));
    position.step.is_some_and(|step| step <= Step::Redis)
        || away(view.agents)
        || pods().any(is_unheard_of)
        // A pod that is told to end is no sign of anything.
        || pods()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .any(|pod| only_sidecar_is_away(pod) || ended_with_node(pod, view.now - allowance(view)))
}

/// No agent reaches database or Redis: a breach counts only while what it depends on is independently healthy.
#[must_use]
pub fn away(agents: &Agents) -> bool {
    [Component::Database, Component::Redis].into_iter().any(|it| agents.unreachable(it).is_some())
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|it| it.type_ == kind).map(|it| it.status.as_str())
}

/// Its node is silent: the control plane took its readiness away, and no kubelet would say so while all its
/// containers are ready.
fn is_unheard_of(pod: &Pod) -> bool {
    condition(pod, "Ready") == Some("False") && condition(pod, "ContainersReady") == Some("True")
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|it| it.container_statuses.iter().chain(&it.init_container_statuses).flatten())
}

/// What a sample finds fault with: a gate that isn't open any more, or a container that has ended.
#[must_use]
pub fn fault(view: &View<'_>, position: &Position) -> Option<String> {
    let said = match &position.gate {
        Gate::Wait { message, .. } | Gate::Failed { message, .. } | Gate::Blocked { message, .. } => message,
        Gate::Open => return restarted(view),
    };
    if position.step == Some(Step::Watch) { restarted(view) } else { Some(said.chars().take(1000).collect()) }
}

/// Where a container of the application ended since the last sample, and not with its node: however soon it was
/// ready again, the sample is bad.
fn restarted(view: &View<'_>) -> Option<String> {
    let rollout = view.status.rollout.as_ref().filter(|rollout| rollout.step == Some(Step::Watch))?;
    let last = rollout.last_sample_at.as_ref()?;
    let pods = APPLICATION.into_iter().flat_map(|component| view.children.pods_of(component.name()));
    pods.filter(|pod| pod.metadata.deletion_timestamp.is_none()).find_map(|pod| {
        let containers = pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten());
        let ended = |it: &&ContainerStatus| {
            let at = ends(it).filter(|end| !went_with_node(end)).filter_map(|end| end.finished_at.as_ref());
            at.into_iter().any(|at| at.0 >= last.0)
        };
        let container = containers.into_iter().find(ended)?;
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        Some(format!("container {} of pod {pod} ended", container.name))
    })
}

fn went_with_node(end: &ContainerStateTerminated) -> bool {
    end.exit_code == ENDED_WITH_NODE && end.reason.as_deref() == Some("Unknown")
}

/// How a container ended: just now, or before it was started again.
fn ends(container: &ContainerStatus) -> impl Iterator<Item = &ContainerStateTerminated> {
    [&container.state, &container.last_state].into_iter().flatten().filter_map(|state| state.terminated.as_ref())
}

/// The agent beside the application restarts: the pod counts as unready, the application is as it was.
fn only_sidecar_is_away(pod: &Pod) -> bool {
    let away = |it: &ContainerStatus| it.name == SIDECAR && !it.ready && ends(it).next().is_some();
    let application = pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten());
    containers(pod).any(away) && application.into_iter().all(|it| it.ready)
}

/// It went down with its node after `since` and isn't back yet. What ended again meanwhile ended by itself.
fn ended_with_node(pod: &Pod, since: Timestamp) -> bool {
    let mut last = containers(pod).filter(|it| !it.ready).filter_map(|it| ends(it).next());
    last.any(|end| went_with_node(end) && end.finished_at.as_ref().is_some_and(|at| at.0 > since))
}

/// When a step that is late has failed: not at once after an operator came that wasn't there when its time
/// was over.
#[must_use]
pub fn deadline(rollout: &RolloutStatus, leading_since: Timestamp) -> Option<Timestamp> {
    /// Time in which a node that was away brings its pods back.
    const RETURN: SignedDuration = SignedDuration::from_secs(120);
    let deadline = rollout.deadline.as_ref()?.0;
    Some(if deadline < leading_since + RETURN { leading_since + RETURN } else { deadline })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case(10, 5, 2)]
    #[case(11, 5, 3)]
    #[case(1, 1, 1)]
    fn the_watch_counts_samples(#[case] duration: i32, #[case] period: i32, #[case] samples: i32) {
        assert_eq!(samples_wanted(duration, period), samples);
    }

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"status": status})).expect("a pod")
    }

    #[rstest]
    #[case::serves("True", "True", false)]
    #[case::not_ready("False", "False", false)]
    #[case::silent_node("False", "True", true)]
    fn a_silent_node(#[case] ready: &str, #[case] containers: &str, #[case] expected: bool) {
        let conditions = json!([{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": containers}]);
        assert_eq!(is_unheard_of(&pod(&json!({"conditions": conditions}))), expected);
    }

    #[rstest]
    #[case::has_ended(&json!({"state": ended()}), false, true, true)]
    #[case::waits_for_its_restart(&json!({"state": {"waiting": {}}, "lastState": ended()}), false, true, true)]
    #[case::starts_for_the_first_time(&json!({"state": {"waiting": {}}}), false, true, false)]
    #[case::both_are_away(&json!({"state": ended()}), false, false, false)]
    #[case::is_back(&json!({"state": {"running": {}}, "lastState": ended()}), true, true, false)]
    fn a_sidecar(#[case] states: &Value, #[case] ready: bool, #[case] application: bool, #[case] expected: bool) {
        let container = |name: &str, ready: bool, states: &Value| {
            let mut container = states.clone();
            for (key, value) in [("name", json!(name)), ("ready", json!(ready)), ("restartCount", json!(0))] {
                container[key] = value;
            }
            (container["image"], container["imageID"]) = (json!("i"), json!("j"));
            container
        };
        let nothing = json!({});
        let pod = pod(&json!({
            "initContainerStatuses": [
                container("install", false, &json!({"state": ended()})), container(SIDECAR, ready, states),
            ],
            "containerStatuses": [container("ai-service", application, &nothing)],
        }));
        assert_eq!(only_sidecar_is_away(&pod), expected);
    }

    #[rstest]
    #[case::has_ended(&json!({"state": unknown()}), false, true)]
    #[case::starts_again(&json!({"state": {"running": {}}, "lastState": unknown()}), false, true)]
    #[case::is_back(&json!({"state": {"running": {}}, "lastState": unknown()}), true, false)]
    #[case::ended_once_more(&json!({"state": ended(), "lastState": unknown()}), false, false)]
    #[case::by_itself(&json!({"state": ended()}), false, false)]
    fn a_node_that_went_down(#[case] states: &Value, #[case] ready: bool, #[case] expected: bool) {
        let mut container = states.clone();
        for (key, value) in [("name", json!("worker")), ("ready", json!(ready)), ("restartCount", json!(1))] {
            container[key] = value;
        }
        (container["image"], container["imageID"]) = (json!("i"), json!("j"));
        let pod = pod(&json!({"containerStatuses": [container]}));
        let at = |second| Timestamp::from_second(second).expect("a time");
        assert_eq!(ended_with_node(&pod, at(0)), expected);
        assert!(!ended_with_node(&pod, at(1_800_000_000)), "long ago");
    }

    fn unknown() -> Value {
        json!({"terminated": {"exitCode": 255, "reason": "Unknown", "finishedAt": "2026-01-01T00:00:00Z"}})
    }

    fn ended() -> Value {
        json!({"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z"}})
    }

    #[rstest]
    #[case::in_time(1000, 500, 1000)]
    #[case::came_late(1000, 1001, 1121)]
    #[case::came_just_before(1000, 990, 1110)]
    fn a_step_has_a_moment_with_a_new_operator(#[case] at: i64, #[case] since: i64, #[case] expected: i64) {
        let time = |second| Timestamp::from_second(second).expect("a time");
        let rollout = RolloutStatus { deadline: Some(Time(time(at))), ..RolloutStatus::default() };
        assert_eq!(deadline(&rollout, time(since)), Some(time(expected)));
    }
}
