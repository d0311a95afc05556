//! The live credentials of database and Redis, which all pods mount, and the Job that proves new
//! ones before they become live.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, Secret, SecretVolumeSource, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::application::{APPLICATION_KEYS, connection};
use super::job::{self, Run};
use super::{ADMIN_CREDENTIALS, CREDENTIALS, DATABASE_ADMIN, meta, pod};
use crate::cluster::intent::Intent;
use crate::labels;
use crate::stack::model::Stack;

/// Names within the live Secret; part of stored templates, so they never change.
pub mod keys {
    /// Suffix of the live Secret's name.
    pub const LIVE: &str = "credentials";
    /// Password of the application's role.
    pub const DATABASE_PASSWORD: &str = "database-password";
    /// Authority of the database's certificate, PEM; may be empty.
    pub const DATABASE_CA: &str = "database-ca.crt";
    /// URL of Redis, login included.
    pub const REDIS_URL: &str = "redis-url";
    /// Authority of Redis' certificate, PEM; may be empty.
    pub const REDIS_CA: &str = "redis-ca.crt";
    /// Configuration of the Managed Redis server.
    pub const REDIS_CONF: &str = "redis.conf";
}

/// Component label of the Secret and of the Job.
pub const COMPONENT: &str = "credentials";
/// Where the login Job finds what held until now.
const FORMER: &str = "/var/run/odooai/former";

/// A finished Job is kept for an hour, and with it the Secret that it proved.
const KEEP_SECONDS: i32 = 3600;

/// Name suffix of the Jobs that prove what shall become live as `generation`, and of the Secrets that
/// they read; the number of the attempt follows. Short: with the stack's name it is a label value.
#[must_use]
pub fn job_prefix(generation: i64, digest: &str) -> String {
    format!("login-{generation}-{digest:.8}-")
}

/// The live Secret.
#[must_use]
pub fn live(stack: &Stack, data: &BTreeMap<String, String>, generation: i64) -> Intent {
    let mut metadata = meta::owned(stack, COMPONENT, keys::LIVE);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(labels::CREDENTIALS_GENERATION.to_owned(), generation.to_string());
    Intent::apply(&Secret { metadata, data: Some(bytes(data)), type_: Some("Opaque".to_owned()), ..Secret::default() })
}

/// The immutable Secret that the Job with this name and UID proves: exactly what becomes live
/// afterwards. It goes with the Job.
#[must_use]
pub fn candidate(stack: &Stack, name: &str, job: &str, data: &BTreeMap<String, String>) -> Intent {
    let owner = OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: stack.child(name),
        uid: job.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    Intent::create_only(&Secret {
        metadata: meta::owned_by(stack, COMPONENT, name, owner),
        immutable: Some(true),
        data: Some(bytes(data)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

fn bytes(data: &BTreeMap<String, String>) -> BTreeMap<String, ByteString> {
    data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone().into_bytes()))).collect()
}

/// The Job that logs in with the candidate of the same name, in the operator's own image; on Managed servers it makes
/// the new passwords true first.
#[must_use]
pub fn login(stack: &Stack, name: &str) -> Intent {
    let (volume, mount) = pod::secret_files("candidate", &stack.child(name), &APPLICATION_KEYS, CREDENTIALS);
    let (mut volumes, mut mounts) = (vec![volume], vec![mount]);
    let mut env = connection(stack);
    as_admin(stack, &mut volumes, &mut mounts, &mut env);
    if stack.redis.managed().is_some() {
        let former = SecretVolumeSource {
            secret_name: Some(stack.child(keys::LIVE)),
            default_mode: Some(0o440),
            // Somebody may have deleted it.
            optional: Some(true),
            items: None,
        };
        volumes.push(Volume { name: "former".to_owned(), secret: Some(former), ..Volume::default() });
        mounts.push(pod::mount("former", FORMER, true));
        env.push(pod::env("ODOOAI_REDIS_FORMER_URL_FILE", format!("{FORMER}/{}", keys::REDIS_URL)));
    }
    let container = Container {
        name: COMPONENT.to_owned(),
        image: Some(stack.operator_image.clone()),
        image_pull_policy: Some(pod::PULL_POLICY.to_owned()),
        command: Some(vec!["/agent".to_owned(), "login".to_owned()]),
        env: Some(env),
        resources: Some(pod::resources("5m", "16Mi", "64Mi")),
        security_context: pod::locked_down(),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    let settings = &stack.components.ai_service;
    let spec = PodSpec {
        containers: vec![container],
        volumes: Some(volumes),
        ..pod::spec(stack, settings.user_id, settings.group_id)
    };
    let pod_labels = meta::pod_labels(stack, COMPONENT, None);
    let run = Run { container: COMPONENT, seconds: 300, keep_seconds: KEEP_SECONDS, spec };
    job::run(meta::owned(stack, COMPONENT, name), pod_labels, run)
}

/// Lets the agent reach a Managed server as its superuser; somebody else's it can't.
pub fn as_admin(stack: &Stack, volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>, env: &mut Vec<EnvVar>) {
    if stack.database.managed().is_none() {
        return;
    }
    let (volume, mount) = pod::admin_password(stack);
    volumes.push(volume);
    mounts.push(mount);
    env.extend([
        pod::env("ODOOAI_DATABASE_ADMIN_USER", DATABASE_ADMIN),
        pod::env("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE", format!("{ADMIN_CREDENTIALS}/password")),
    ]);
}
