//! The two node images and how each wants to be started.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use testcontainers::bollard::models::{HostConfig, PortBinding};
use testcontainers::core::{CgroupnsMode, IntoContainerPort, Mount};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerRequest, GenericImage, ImageExt};

use crate::docker::docker_quiet;
use crate::paths::run_dir;
use crate::run::Run;

const OWN_IMAGE: &str = "odooai-test/node:1";
const K3S_IMAGE: &str = "rancher/k3s:v1.34.4-k3s1";

/// Everything but `SYS_RESOURCE`, which not every machine can give.
const CAPABILITIES: [&str; 37] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// What kind of node an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Own,
    K3s,
}

impl Flavour {
    pub(crate) fn of(image: &str) -> Self {
        if image.contains("k3s") { Self::K3s } else { Self::Own }
    }

    /// Where the node keeps the administrator's kubeconfig.
    pub(crate) fn kubeconfig(self) -> &'static str {
        match self {
            Self::Own => "/var/lib/node/kubeconfig/admin",
            Self::K3s => "/etc/rancher/k3s/k3s.yaml",
        }
    }
}

/// The image to use: what `hack/images` chose, else our own where it is built, else k3s.
pub(crate) async fn image() -> String {
    if let Ok(image) = std::env::var("ODOOAI_NODE_IMAGE") {
        return image;
    }
    if let Ok(image) = std::fs::read_to_string(run_dir().join("node-image")) {
        return image.trim().to_owned();
    }
    match docker_quiet(["image", "inspect", "-f", "{{.Id}}", OWN_IMAGE]).await {
        Some(_) => OWN_IMAGE.to_owned(),
        None => K3S_IMAGE.to_owned(),
    }
}

/// Starts the node's container, which then belongs to nobody: the run's reaper or `hack/down`
/// removes it.
pub(crate) async fn start(run: &Run, image: &str) -> Result<()> {
    let (name, tag) = image.rsplit_once(':').context("the node image has no tag")?;
    let port = free_port()?;
    let request = GenericImage::new(name, tag)
        .with_container_name(run.container_name())
        .with_hostname("node")
        .with_labels(run.labels())
        .with_cgroupns_mode(CgroupnsMode::Private)
        .with_mount(Mount::tmpfs_mount("/run"))
        .with_startup_timeout(Duration::from_mins(3));
    let request = match Flavour::of(image) {
        Flavour::Own => unprivileged(request, port),
        Flavour::K3s => request
            .with_privileged(true)
            .with_mount(Mount::tmpfs_mount("/var/run"))
            .with_cmd(["server", "--disable=metrics-server", "--tls-san=127.0.0.1"])
            .with_host_config_modifier(move |config| publish(config, port)),
    };
    let container = request.start().await.context("starting the node's container")?;
    // Dropping would remove it.
    std::mem::forget(container);
    Ok(())
}

fn unprivileged(request: ContainerRequest<GenericImage>, port: u16) -> ContainerRequest<GenericImage> {
    CAPABILITIES
        .iter()
        .fold(request, |request, capability| request.with_cap_add(*capability))
        .with_security_opt("seccomp=unconfined")
        .with_security_opt("apparmor=unconfined")
        .with_host_config_modifier(move |config| {
            config.device_cgroup_rules = Some(vec!["a *:* rwm".to_owned()]);
            config.masked_paths = Some(Vec::new());
            config.readonly_paths = Some(Vec::new());
            publish(config, port);
        })
}

/// A fixed port, because Docker would choose another one at each restart.
fn publish(config: &mut HostConfig, port: u16) {
    let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(port.to_string()) };
    config.port_bindings = Some([(6443.tcp().to_string(), Some(vec![binding]))].into_iter().collect());
    config.publish_all_ports = Some(false);
}

/// A port of the loopback interface that nobody uses at this moment.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
