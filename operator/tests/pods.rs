//! Pods as kubelet and scheduler describe them, and what a person reads of it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use odoo_ai_operator::cluster::children::Children;
use odoo_ai_operator::cluster::pending::{Claim, Said};
use odoo_ai_operator::rollout::pods::{Trouble, last_end, trouble};
use rstest::rstest;
use serde_json::{Value, json};

const BORN: &str = "2026-01-01T00:00:00Z";
const SOON: &str = "2026-01-01T00:00:20Z";
const LATER: &str = "2026-01-01T00:05:00Z";
const NEXT_DAY: &str = "2026-01-02T00:00:00Z";

/// A pod of `component` with this status.
fn pod(component: &str, name: &str, status: &Value, node: Option<&str>) -> Pod {
    let resources = json!({"requests": {"cpu": "50m", "memory": "384Mi"}, "limits": {"memory": "768Mi"}});
    let claim = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "odoo-ai-postgresql"}}]);
    serde_json::from_value(json!({
        "metadata": {"name": name, "creationTimestamp": BORN, "labels": {"app.kubernetes.io/component": component}},
        "spec": {
            "nodeName": node,
            "containers": [{"name": component, "resources": resources}],
            "initContainers": [
                {"name": "install-agent", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}},
                {"name": "agent", "restartPolicy": "Always", "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}},
            ],
            "volumes": if component == "postgresql" { claim } else { json!([]) },
        },
        "status": status,
    }))
    .expect("a pod")
}

fn children(pods: impl IntoIterator<Item = Pod>) -> Children {
    let pods = pods.into_iter().map(|pod| (pod.metadata.name.clone().unwrap_or_default(), Arc::new(pod)));
    Children { pods: pods.collect(), ..Children::default() }
}

fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

fn container(name: &str, restarts: i32, ready: bool, state: &Value, last: &Value) -> Value {
    json!({"name": name, "image": "registry.example.com/ai-service:1.0.0", "imageID": "", "ready": ready,
           "restartCount": restarts, "state": state, "lastState": last})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn ended(reason: &str, code: i32, message: &str) -> Value {
    json!({"terminated": {"reason": reason, "exitCode": code, "message": message}})
}

fn reads(found: Option<Trouble>, reason: &str, parts: &[&str]) {
    let Trouble { reason: found, message, .. } = found.unwrap_or_else(|| panic!("no trouble, not {reason}"));
    assert_eq!(found, reason, "{message}");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

/// The worker's pod with one container, or with one init container.
fn of_container(status: &Value, init: bool) -> Option<Trouble> {
    let field = if init { "initContainerStatuses" } else { "containerStatuses" };
    let status = json!({"phase": "Pending", field: [status]});
    trouble(&children([pod("worker", "odoo-ai-worker-7d9", &status, Some("node-1"))]), "worker", |_| true, at(LATER))
}

#[rstest]
#[case::no_such_tag(
    r#"rpc error: code = NotFound desc = failed to pull and unpack image "registry.example.com/ai-service:1.0.0": failed to resolve reference "registry.example.com/ai-service:1.0.0": registry.example.com/ai-service:1.0.0: not found"#,
    "check name and tag"
)]
#[case::login(
    "failed to pull and unpack image: failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://auth.docker.io/token: 401 Unauthorized",
    "images.pullSecrets"
)]
#[case::denied(
    "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
    "images.pullSecrets"
)]
#[case::nobody_listens(
    r#"failed to do request: Head "http://127.0.0.1:1/v2/x/manifests/1": dial tcp 127.0.0.1:1: connect: connection refused"#,
    "doesn't reach the registry"
)]
#[case::no_name(
    r#"failed to do request: Head "https://nope.example.com/v2/": dial tcp: lookup nope.example.com: no such host"#,
    "doesn't reach the registry"
)]
#[case::certificate("tls: failed to verify certificate: x509: certificate signed by unknown authority", "certificate")]
#[case::limit("toomanyrequests: You have reached your pull rate limit", "limits pulls")]
#[case::other_machine("no match for platform in manifest: not found", "this kind of machine")]
#[case::full_disk("write /var/lib/containerd/x: no space left on device", "disk space")]
fn an_image_that_cant_be_pulled(#[case] words: &str, #[case] remedy: &str) {
    let backoff = format!("Back-off pulling image \"registry.example.com/ai-service:1.0.0\": ErrImagePull: {words}");
    let first = of_container(&container("worker", 0, false, &waiting("ErrImagePull", words), &json!({})), false);
    let then = of_container(&container("worker", 0, false, &waiting("ImagePullBackOff", &backoff), &json!({})), false);
    assert_eq!(first, then, "both words of the kubelet are one cause");
    let parts = ["odoo-ai-worker-7d9", "container worker", "registry.example.com/ai-service:1.0.0", words, remedy];
    reads(then, "ImagePullFailed", &parts);
}

#[rstest]
#[case("InvalidImageName", "couldn't parse image name \"A B\": invalid reference format", "correct the image's name")]
#[case("ErrImageNeverPull", "Container image \"x\" is not present with pull policy of Never", "IfNotPresent")]
fn an_image_that_isnt_even_tried(#[case] reason: &str, #[case] words: &str, #[case] remedy: &str) {
    let found = of_container(&container("worker", 0, false, &waiting(reason, words), &json!({})), false);
    reads(found, "ImagePullFailed", &[words, remedy]);
}

#[rstest]
#[case(waiting("CreateContainerConfigError", "secret \"odoo-ai-config-1db7f4d308\" not found"), json!({}), "put the Secret")]
#[case(waiting("CreateContainerConfigError", "couldn't find key shared.A in Secret odoo-ai/odoo-ai-config-1"), json!({}), "or the key back")]
#[case(waiting("CreateContainerConfigError", "container has runAsNonRoot and image has non-numeric user (appuser), cannot verify user is non-root"), json!({}), "security.runAsUser")]
#[case(waiting("RunContainerError", "failed to create containerd task: exec: \"uvicorn\": executable file not found in $PATH"), json!({}), "right image")]
#[case::seen_between_two_tries(
    waiting("CrashLoopBackOff", "back-off 10s restarting failed container=worker"),
    ended("StartError", 128, "failed to create containerd task: exec: \"celery\": executable file not found in $PATH"),
    "right image"
)]
fn a_container_that_cant_be_made(#[case] state: Value, #[case] last: Value, #[case] remedy: &str) {
    for init in [true, false] {
        reads(of_container(&container("worker", 1, false, &state, &last), init), "ContainerNotCreated", &[remedy]);
    }
}

#[test]
fn a_crash_loop_is_named_from_the_third_restart_on_and_always_in_the_same_words() {
    let backoff = |count| {
        let state = waiting("CrashLoopBackOff", &format!("back-off {count}m0s restarting failed container"));
        container("worker", count, false, &state, &ended("Error", 3, ""))
    };
    assert_eq!(of_container(&backoff(2), false), None);
    let status = json!({"phase": "Running", "containerStatuses": [backoff(1)]});
    let said = last_end(&children([pod("worker", "odoo-ai-worker-7d9", &status, None)]), "worker", |_| true);
    let words = "pod odoo-ai-worker-7d9, container worker ended with exit code 3 and was started again";
    assert_eq!(said.as_deref(), Some(words), "what ended once explains a deadline that comes first");
    let third = of_container(&backoff(3), false);
    reads(third.clone(), "CrashLoop", &["exit code 3", "kubectl logs odoo-ai-worker-7d9 -c worker --previous"]);
    assert_eq!(third, of_container(&backoff(57), false), "a growing count would be written for ever");
    let running = container("worker", 4, false, &json!({"running": {}}), &ended("Error", 3, ""));
    assert_eq!(third, of_container(&running, false), "between two crashes");
    let recovered = container("worker", 4, true, &json!({"running": {}}), &ended("Error", 3, ""));
    assert_eq!(of_container(&recovered, false), None, "it clears by itself");
    let init = container("install-agent", 3, false, &waiting("CrashLoopBackOff", ""), &ended("Error", 127, ""));
    reads(of_container(&init, true), "CrashLoop", &["install-agent", "exit code 127", "doesn't exist in the image"]);
}

#[test]
fn a_kill_for_memory_says_which_limit_to_raise() {
    let killed = |name: &str, count, state: &Value| container(name, count, false, state, &ended("OOMKilled", 137, ""));
    let first = of_container(&killed("worker", 1, &json!({"running": {}})), false);
    let parts = ["container worker was killed", "worker.resources.limits.memory", "worker.concurrency"];
    reads(first.clone(), "OutOfMemory", &parts);
    let ninth = of_container(&killed("worker", 9, &waiting("CrashLoopBackOff", "back-off 5m0s")), false);
    assert_eq!(first.map(|it| (it.message, false)), ninth.clone().map(|it| (it.message, !it.fatal)));
    let recovered = container("worker", 1, true, &json!({"running": {}}), &ended("OOMKilled", 137, ""));
    assert_eq!(of_container(&recovered, false), None);
    // Nobody can set the sidecar's limit.
    let sidecar = of_container(&killed("agent", 1, &json!({"running": {}})), true).expect("a trouble");
    assert!(!sidecar.message.contains("limits.memory"), "{}", sidecar.message);
    let migrate = json!({"phase": "Failed", "containerStatuses": [killed("migrate", 0, &ended("OOMKilled", 137, ""))]});
    let found = trouble(&children([pod("migrate", "m-x", &migrate, Some("n"))]), "migrate", |_| true, at(LATER));
    reads(found, "OutOfMemory", &["pod m-x", "aiService.resources.limits.memory"]);
}

fn refused(words: &str, reason: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": words}]})
}

const FULL: &str = "0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
const PRESSURE: &str = "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

#[rstest]
#[case("worker", FULL, &["1 Insufficient memory;", "asks for cpu 60m, memory 416Mi", "worker.resources.requests", "make room"])]
#[case("dashboard", "0/3 nodes are available: 3 Insufficient cpu.", &["3 Insufficient cpu;", "dashboard.resources.requests"])]
#[case("redis", "0/1 nodes are available: 1 Too many pods.", &["Too many pods", "redis.managed.resources.requests"])]
#[case("worker", PRESSURE, &["the node has too little disk space"])]
#[case("worker", "0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: gpu}.", &["worker.tolerations"])]
#[case("postgresql", "0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: gpu}.", &["remove the taint"])]
#[case("beat", "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", &["beat.nodeSelector"])]
#[case("postgresql", "0/2 nodes are available: 1 node(s) had volume node affinity conflict.", &["bring that node back"])]
fn a_pod_without_a_place(#[case] component: &str, #[case] words: &str, #[case] parts: &[&str]) {
    let pods = children([pod(component, "p", &refused(words, "Unschedulable"), None)]);
    let found = trouble(&pods, component, |_| true, at(SOON));
    reads(found.clone(), "Unschedulable", parts);
    assert!(!found.expect("a trouble").message.contains("preemption"));
}

#[test]
fn a_node_that_doesnt_take_a_pod_is_full_and_one_that_puts_it_off_is_named() {
    let failed = |reason: &str, words: &str| {
        let conditions = json!([{"type": "DisruptionTarget", "status": "True", "lastTransitionTime": BORN}]);
        json!({"phase": "Failed", "reason": reason, "message": words, "conditions": conditions})
    };
    let found = |status: &Value, now: &str| {
        trouble(&children([pod("worker", "w", status, Some("node-1"))]), "worker", |_| true, at(now))
    };
    let full = "Node didn't have enough resource: memory, requested: 402653184, used: 3221225472, capacity: 3435973836";
    reads(found(&failed("OutOfmemory", full), SOON), "Unschedulable", &[full, "worker.resources.requests"]);
    let pressure = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 52Mi. ";
    let evicted = failed("Evicted", pressure);
    reads(found(&evicted, LATER), "Evicted", &["put off its node", "low on resource: memory", "free that on the node"]);
    assert_eq!(found(&evicted, NEXT_DAY), None, "the dead pod stays, the cause doesn't");
    // What its successor suffers from counts more.
    let successor = pod("worker", "x", &refused(FULL, "Unschedulable"), None);
    let both = children([pod("worker", "w", &evicted, Some("node-1")), successor]);
    reads(trouble(&both, "worker", |_| true, at(LATER)), "Unschedulable", &["pod x"]);
}

const UNBOUND: &str = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
const WAITS: &str = "waiting for first consumer to be created before binding";
const EXTERNAL: &str = "Waiting for a volume to be created either by the external provisioner 'rancher.io/local-path' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.";

/// PostgreSQL's pod without a node, with its claim.
fn of_claim(
    status: &Value,
    phase: &str,
    class: Option<&str>,
    said: Option<(bool, &str)>,
    now: &str,
) -> Option<Trouble> {
    let mut all = children([pod("postgresql", "odoo-ai-postgresql-0", status, None)]);
    let said = said.map(|(warning, message)| Said { warning, message: message.to_owned() });
    let name = "odoo-ai-postgresql".to_owned();
    let claim = Claim { name: name.clone(), phase: phase.to_owned(), class: class.map(str::to_owned), said };
    all.pending.claims.insert(name, claim);
    trouble(&all, "postgresql", |_| true, at(now))
}

#[test]
fn a_storage_class_that_doesnt_exist_is_named_at_once() {
    let words = "storageclass.storage.k8s.io \"nope\" not found";
    let found = of_claim(&refused(UNBOUND, "Unschedulable"), "Pending", Some("nope"), Some((true, words)), SOON);
    let parts = ["odoo-ai-postgresql", "StorageClass nope", "storageClassName", "kubectl get storageclass"];
    reads(found, "StorageClassMissing", &parts);
    let words = "no persistent volumes available for this claim and no storage class is set";
    let found = of_claim(&refused(UNBOUND, "Unschedulable"), "Pending", None, Some((false, words)), SOON);
    reads(found, "StorageClassMissing", &["default StorageClass", "is-default-class=true"]);
}

#[test]
fn a_volume_that_comes_with_its_pod_is_waited_for_in_silence_and_then_named() {
    let unseen = json!({"phase": "Pending"});
    for (status, words) in [(&refused(UNBOUND, "Unschedulable"), EXTERNAL), (&unseen, WAITS), (&unseen, EXTERNAL)] {
        let found = |now: &str| of_claim(status, "Pending", Some("local-path"), Some((false, words)), now);
        assert_eq!(found(SOON), None, "{words}");
        reads(
            found(LATER),
            "VolumePending",
            &["odoo-ai-postgresql", "(StorageClass local-path)", words, "provisioner"],
        );
        assert_eq!(found(LATER), found(NEXT_DAY), "the same words for as long as it lasts");
    }
    let words = "failed to provision volume with StorageClass \"local-path\": no space left on device";
    reads(of_claim(&unseen, "Pending", Some("local-path"), Some((true, words)), SOON), "VolumePending", &[words]);
    reads(of_claim(&unseen, "Lost", None, None, SOON), "VolumeLost", &["odoo-ai-postgresql", "PersistentVolume back"]);
    assert_eq!(of_claim(&unseen, "Bound", None, None, LATER), None);
    let binding = "running PreBind plugin \"VolumeBinding\": binding volumes: context deadline exceeded";
    let status = refused(binding, "SchedulerError");
    reads(of_claim(&status, "Pending", Some("x"), Some((false, EXTERNAL)), LATER), "VolumePending", &[EXTERNAL]);
    let gone = "0/1 nodes are available: persistentvolumeclaim \"odoo-ai-postgresql\" not found. preemption: x";
    let pods = children([pod("postgresql", "p", &refused(gone, "Unschedulable"), None)]);
    assert_eq!(trouble(&pods, "postgresql", |_| true, at(SOON)), None, "the operator makes it");
    reads(trouble(&pods, "postgresql", |_| true, at(LATER)), "VolumePending", &["\"odoo-ai-postgresql\" not found;"]);
}

/// The volume of a pod that finds no place is made only once it has one: it is no cause.
#[test]
fn a_full_node_is_not_blamed_on_the_volume() {
    let found =
        of_claim(&refused(FULL, "Unschedulable"), "Pending", Some("local-path"), Some((false, WAITS)), NEXT_DAY);
    reads(found, "Unschedulable", &["Insufficient memory"]);
}

#[test]
fn a_volume_that_cant_be_mounted_is_named() {
    let creating = container("worker", 0, false, &waiting("ContainerCreating", ""), &json!({}));
    let status = json!({"phase": "Pending", "containerStatuses": [creating]});
    let mut all = children([pod("worker", "w", &status, Some("node-1"))]);
    assert_eq!(trouble(&all, "worker", |_| true, at(LATER)), None);
    for words in [
        "MountVolume.SetUp failed for volume \"redis\" : secret \"odoo-ai-redis-credentials\" not found",
        "MountVolume.SetUp failed for volume \"database\" : references non-existent secret key: password",
    ] {
        all.pending.mounts.insert("w".to_owned(), words.to_owned());
        reads(trouble(&all, "worker", |_| true, at(LATER)), "ContainerNotCreated", &["pod w", words, "put the Secret"]);
    }
}
