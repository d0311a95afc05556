//! Pod template of the Managed Redis server: broker, results and cache, nothing kept on disk.

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::application::credentials;
use super::credentials::keys;
use super::{CREDENTIALS, meta, pod};
use crate::component::{Component, ComponentExt};
use crate::stack::model::{ManagedRedis, Stack};

/// The server's pod template.
#[must_use]
pub fn template(stack: &Stack, redis: &ManagedRedis) -> PodTemplateSpec {
    let (credentials_volume, credentials_mount) = credentials(stack, &[keys::REDIS_CONF]);
    let max_memory = format!("{}mb", redis.max_memory_mib);
    // The password is in the file: an argument could be read by anyone on the node.
    let command = [
        "redis-server",
        &format!("{CREDENTIALS}/{}", keys::REDIS_CONF),
        "--maxmemory",
        &max_memory,
        "--maxmemory-policy",
        &redis.eviction_policy,
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        "/data",
    ];
    // Without a password the answer is NOAUTH: alive, and nothing to leak.
    let ping = ["sh", "-c", "redis-cli ping | grep -qE 'PONG|NOAUTH'"];
    let container = Container {
        name: Component::Redis.name().to_owned(),
        image: Some(redis.image.clone()),
        image_pull_policy: Some(pod::PULL_POLICY.to_owned()),
        command: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        ports: Some(vec![ContainerPort {
            name: Some("redis".to_owned()),
            container_port: 6379,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(redis.resources.clone()),
        security_context: pod::locked_down(),
        startup_probe: Some(pod::tcp_probe(6379, pod::Pace { period: 1, timeout: 5, failures: 120 })),
        readiness_probe: Some(pod::exec_probe(&ping, pod::Pace { period: 5, timeout: 5, failures: 3 })),
        liveness_probe: Some(pod::tcp_probe(6379, pod::Pace { period: 10, timeout: 5, failures: 6 })),
        // When everything goes at once, the worker ends first: without Redis it hangs until its grace is over.
        lifecycle: Some(pod::drain(10)),
        volume_mounts: Some(vec![pod::mount("data", "/data", false), credentials_mount]),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        termination_grace_period_seconds: Some(30),
        volumes: Some(vec![pod::scratch("data", "1Gi"), credentials_volume]),
        ..pod::spec(stack, redis.user_id, redis.group_id)
    };
    let labels = meta::pod_labels(stack, Component::Redis.name(), None);
    PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }), spec: Some(spec) }
}
