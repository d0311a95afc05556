//! Pod template of the Managed PostgreSQL server. Stored by a hash of its own inputs and rebuilt
//! only when they change, so that neither a revision nor an operator upgrade restarts the server.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{ADMIN_CREDENTIALS, DATABASE_ADMIN, meta, pod};
use crate::component::{Component, ComponentExt};
use crate::stack::model::{ManagedDatabase, Stack};

const DATA: &str = "/var/lib/postgresql/data";

/// The server's pod template.
#[must_use]
pub fn template(stack: &Stack, database: &ManagedDatabase) -> PodTemplateSpec {
    let (admin_volume, admin_mount) = pod::admin_password(stack);
    let mut args = vec!["postgres".to_owned()];
    for (name, value) in &database.parameters {
        args.extend(["-c".to_owned(), pod::literal(&format!("{name}={value}"))]);
    }
    // Over TCP on purpose: while the image initialises, its server listens on the socket only.
    let ready = ["pg_isready", "-h", "127.0.0.1", "-U", DATABASE_ADMIN];
    let container = Container {
        name: Component::Database.name().to_owned(),
        image: Some(database.image.clone()),
        image_pull_policy: Some(pod::PULL_POLICY.to_owned()),
        args: Some(args),
        env: Some(vec![
            pod::env("POSTGRES_USER", DATABASE_ADMIN),
            pod::env("POSTGRES_PASSWORD_FILE", format!("{ADMIN_CREDENTIALS}/password")),
            pod::env("POSTGRES_INITDB_ARGS", "--auth-host=scram-sha-256 --data-checksums"),
            // A subfolder: the root of a volume may hold lost+found.
            pod::env("PGDATA", format!("{DATA}/pgdata")),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("postgresql".to_owned()),
            container_port: 5432,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(database.resources.clone()),
        security_context: pod::locked_down(),
        // An hour: a crash recovery must not be cut short.
        startup_probe: Some(pod::exec_probe(&ready, pod::Pace { period: 2, timeout: 5, failures: 1800 })),
        readiness_probe: Some(pod::exec_probe(&ready, pod::Pace { period: 5, timeout: 5, failures: 3 })),
        liveness_probe: Some(pod::tcp_probe(5432, pod::Pace { period: 10, timeout: 5, failures: 6 })),
        volume_mounts: Some(vec![
            pod::mount("data", DATA, false),
            pod::mount("run", "/var/run/postgresql", false),
            pod::mount("tmp", "/tmp", false),
            pod::mount("shm", "/dev/shm", false),
            admin_mount,
        ]),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        termination_grace_period_seconds: Some(120),
        volumes: Some(vec![
            Volume {
                name: "data".to_owned(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: stack.child("postgresql"),
                    read_only: None,
                }),
                ..Volume::default()
            },
            pod::scratch("run", "16Mi"),
            pod::scratch("tmp", "1Gi"),
            // The runtime's own /dev/shm is 64 MiB, too small for parallel queries.
            Volume {
                name: "shm".to_owned(),
                empty_dir: Some(EmptyDirVolumeSource {
                    medium: Some("Memory".to_owned()),
                    size_limit: Some(Quantity("256Mi".to_owned())),
                }),
                ..Volume::default()
            },
            admin_volume,
        ]),
        ..pod::spec(stack, database.user_id, database.group_id)
    };
    let labels = meta::pod_labels(stack, Component::Database.name(), None);
    PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }), spec: Some(spec) }
}
