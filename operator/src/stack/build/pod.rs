//! The pieces that every pod shares: restricted security, the agent, credential volumes, probes.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, ExecAction, HTTPGetAction, KeyToPath,
    Lifecycle, LifecycleHandler, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile,
    SecretKeySelector, SecretVolumeSource, SecurityContext, SleepAction, TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{ADMIN_CREDENTIALS, AGENT_PORT, data};
use crate::stack::model::Stack;

/// Name suffix of the account that all pods run under; it has no rights and no token.
pub const SERVICE_ACCOUNT: &str = "workload";
/// When the nodes pull the images of operator, PostgreSQL and Redis.
pub const PULL_POLICY: &str = "IfNotPresent";
/// Name of the volume that holds the agent.
const AGENT_VOLUME: &str = "agent";
/// Folder of the agent.
const AGENT_DIRECTORY: &str = "/odooai/bin";

/// A pod spec under the restricted Pod Security Standard, with numeric users.
#[must_use]
pub fn spec(stack: &Stack, user: i64, group: i64) -> PodSpec {
    // Pull secrets are the account's, so that they are live and part of no template.
    PodSpec { service_account_name: Some(stack.child(SERVICE_ACCOUNT)), ..restricted(user, group) }
}

/// The same without the stack's account.
#[must_use]
pub fn restricted(user: i64, group: i64) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        // A Service named `ai-service` would inject AI_SERVICE_PORT=tcp://…, which kills the application.
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(user),
            run_as_group: Some(user),
            fs_group: Some(group),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// Container security: nothing but what a process without privileges needs.
#[must_use]
pub fn locked_down() -> Option<SecurityContext> {
    Some(SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    })
}

/// A variable with a literal value.
#[must_use]
pub fn env(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(literal(&value.into())), value_from: None }
}

/// Text that the kubelet must not expand: `$(NAME)` in a value or an argument would be replaced.
#[must_use]
pub fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// A variable from a key of a Secret.
#[must_use]
pub fn env_from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: None }),
            ..EnvVarSource::default()
        }),
    }
}

/// A mount.
#[must_use]
pub fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// A scratch volume on disk, limited to `size`.
#[must_use]
pub fn scratch(name: &str, size: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(Quantity(size.to_owned())), medium: None }),
        ..Volume::default()
    }
}

/// Keys of a Secret as files in a folder: mounted, so that a change needs no new template.
#[must_use]
pub fn secret_files(volume: &str, secret: &str, keys: &[&str], folder: &str) -> (Volume, VolumeMount) {
    let items = keys.iter().map(|key| KeyToPath { key: (*key).to_owned(), path: (*key).to_owned(), mode: None });
    let source = SecretVolumeSource {
        secret_name: Some(secret.to_owned()),
        default_mode: Some(0o440),
        items: Some(items.collect()),
        optional: None,
    };
    (Volume { name: volume.to_owned(), secret: Some(source), ..Volume::default() }, mount(volume, folder, true))
}

/// The superuser's password, for the pods that may have it.
#[must_use]
pub fn admin_password(stack: &Stack) -> (Volume, VolumeMount) {
    let secret = stack.child(data::DATABASE_ADMIN.suffix);
    secret_files("database-admin", &secret, &["password"], ADMIN_CREDENTIALS)
}

/// The init container that copies the agent into the pod, its volume, and the mount for the others.
#[must_use]
pub fn agent(operator_image: &str) -> (Container, Volume, VolumeMount) {
    let install = Container {
        name: "agent-install".to_owned(),
        image: Some(operator_image.to_owned()),
        image_pull_policy: Some(PULL_POLICY.to_owned()),
        command: Some(vec!["/agent".to_owned(), "install".to_owned(), AGENT_DIRECTORY.to_owned()]),
        resources: Some(resources("5m", "16Mi", "64Mi")),
        security_context: locked_down(),
        volume_mounts: Some(vec![mount(AGENT_VOLUME, AGENT_DIRECTORY, false)]),
        ..Container::default()
    };
    (install, scratch(AGENT_VOLUME, "64Mi"), mount(AGENT_VOLUME, AGENT_DIRECTORY, true))
}

/// The agent's folder for the sidecar, which leaves a note there.
#[must_use]
pub fn agent_folder() -> VolumeMount {
    mount(AGENT_VOLUME, AGENT_DIRECTORY, false)
}

/// The note that this pod has held out: a restart of a container or of the node keeps it.
#[must_use]
pub fn held_out() -> String {
    format!("{AGENT_DIRECTORY}/held-out")
}

/// Requests for CPU and memory and a limit for memory; a CPU limit only throttles.
#[must_use]
pub fn resources(cpu: &str, memory: &str, memory_limit: &str) -> ResourceRequirements {
    let quantity = |text: &str| Quantity(text.to_owned());
    ResourceRequirements {
        requests: Some([("cpu".to_owned(), quantity(cpu)), ("memory".to_owned(), quantity(memory))].into()),
        limits: Some([("memory".to_owned(), quantity(memory_limit))].into()),
        claims: None,
    }
}

/// Times of a probe, seconds, and failures in a row.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Seconds between two tries.
    pub period: i32,
    /// Seconds that one try may take.
    pub timeout: i32,
    /// Failures in a row that count.
    pub failures: i32,
}

/// A probe by HTTP GET.
#[must_use]
pub fn http_probe(path: &str, port: i32, pace: Pace) -> Probe {
    let action =
        HTTPGetAction { path: Some(path.to_owned()), port: IntOrString::Int(port), ..HTTPGetAction::default() };
    Probe { http_get: Some(action), ..paced(pace) }
}

/// A probe by opening a connection.
#[must_use]
pub fn tcp_probe(port: i32, pace: Pace) -> Probe {
    Probe { tcp_socket: Some(TCPSocketAction { host: None, port: IntOrString::Int(port) }), ..paced(pace) }
}

/// A probe by running a command in the container.
#[must_use]
pub fn exec_probe(command: &[&str], pace: Pace) -> Probe {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Probe { exec: Some(ExecAction { command: Some(command) }), ..paced(pace) }
}

fn paced(pace: Pace) -> Probe {
    Probe {
        period_seconds: Some(pace.period),
        timeout_seconds: Some(pace.timeout),
        failure_threshold: Some(pace.failures),
        ..Probe::default()
    }
}

/// The startup probe that asks the agent beside the application. It allows 24 hours: a hung start
/// is ended by the rollout's deadline, not by restarts with a growing back-off.
#[must_use]
pub fn agent_startup_probe() -> Probe {
    http_probe("/startup", AGENT_PORT, Pace { period: 2, timeout: 5, failures: 43_200 })
}

/// Waits before SIGTERM until the endpoints are gone: the application refuses connections at once.
#[must_use]
pub fn drain(seconds: i64) -> Lifecycle {
    Lifecycle {
        pre_stop: Some(LifecycleHandler { sleep: Some(SleepAction { seconds }), ..LifecycleHandler::default() }),
        ..Lifecycle::default()
    }
}
