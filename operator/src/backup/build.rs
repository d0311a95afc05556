//! Builders: the accepted policy in, Kubernetes objects out. They cannot fail and hold no client.

use std::collections::BTreeMap;

use http::Uri;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PersistentVolumeClaimVolumeSource, PodSpec, SecretVolumeSource, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::ResourceExt;
use odoo_ai_crds::backup::BackupReason;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::source::S3;

use super::catalogue;
use super::model::{Made, Pause, Policy, Storage};
use super::observe::Observed;
use super::schedule::Schedule;
use super::validate::{USER, places};
use crate::cluster::intent::Intent;
use crate::component::Component;
use crate::labels;
use crate::stack::build::application::{connection, credentials};
use crate::stack::build::credentials::{as_admin, keys};
use crate::stack::build::job::{self, Run};
use crate::stack::build::{AGENT, network, pod};
use crate::stack::model::{Operator, Stack};

/// Where the volume is in a Job's pod.
const VOLUME: &str = "/backups";
/// Where the throw-away server of a verification lives.
const SCRATCH: &str = "/scratch";
/// Where the bucket's credentials are.
const BUCKET_CREDENTIALS: &str = "/var/run/odooai/s3";
/// A slot that passes while nothing can be started is caught up for so long: until shortly before the next of a day.
const STARTING_DEADLINE: i64 = 72_000;
/// Finished Jobs of a schedule that are kept, of either end.
const HISTORY: i32 = 3;
/// Seconds beyond `timeoutSeconds`: the agent ends itself before and tells why.
const GRACE: i64 = 120;

/// Component label of the Job that removes what a Backup gives up, and name of its container.
pub const PURGE: &str = "purge";

/// What a Job of a Backup does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Makes a backup.
    Backup,
    /// Restores one as a test.
    Verify,
    /// Reads what is there.
    Catalogue,
}

impl Task {
    /// Component label of its Jobs, name of their container, the agent's command, and suffix of the `CronJob`'s name.
    #[must_use]
    pub fn component(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Verify => "verify",
            Self::Catalogue => "catalogue",
        }
    }
}

/// A Job to create beside the schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// What it does.
    pub task: Task,
    /// Its name without the Backup's.
    pub suffix: String,
    /// Why.
    pub reason: BackupReason,
    /// The request that it answers.
    pub request: Option<String>,
}

/// Everything that is there as long as the Backup is.
#[must_use]
pub fn lasting(policy: &Policy) -> Vec<Intent> {
    let claim = policy.storage.volume.iter().filter_map(|volume| volume.made.as_ref());
    let mut intents: Vec<_> = claim.map(|made| self::claim(policy, made)).collect();
    if policy.stack.network.is_some() {
        intents.push(network_policy(policy));
    }
    intents.push(cron_job(policy, Task::Backup, &policy.schedule));
    intents.push(cron_job(policy, Task::Verify, &policy.verification));
    intents
}

/// A Job that somebody asked for, or the operator.
#[must_use]
pub fn run_now(policy: &Policy, start: &Start) -> Intent {
    let Start { task, suffix, reason, request } = start;
    let mut metadata = metadata(policy, *task, suffix, *reason);
    metadata
        .annotations
        .get_or_insert_default()
        .extend(request.iter().map(|id| (annotations::BACKUP_REQUEST.to_owned(), id.clone())));
    Intent::create_only(&Job {
        metadata,
        spec: Some(job_spec(policy, *task, *reason, request.as_deref())),
        status: None,
    })
}

/// The Job that removes the artifacts of a Backup that is being deleted. It needs no stack, which may be gone, and has no
/// owner: foreground deletion would take it first.
#[must_use]
pub fn purge(seen: &Observed, operator: &Operator, owner: &str, attempt: u32) -> Intent {
    let (object, spec) = (&seen.object, &seen.object.spec);
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let mut labels = labels::child(&spec.stack_ref.name, PURGE);
    labels.insert(labels::BACKUP.to_owned(), name.clone());
    let (mut volumes, mut mounts) = (vec![pod::scratch("tmp", "1Gi")], vec![pod::mount("tmp", "/tmp", false)]);
    let mut env = vec![
        pod::env("ODOOAI_BACKUP_POLICY", name.clone()),
        pod::env("ODOOAI_BACKUP_NAMESPACE", namespace.clone()),
        pod::env("ODOOAI_BACKUP_STACK", spec.stack_ref.name.clone()),
        pod::env("ODOOAI_BACKUP_OWNER", owner),
    ];
    storage(&places(object), &mut volumes, &mut mounts, &mut env);
    let container = Container {
        name: PURGE.to_owned(),
        image: Some(operator.image.clone()),
        image_pull_policy: Some(pod::PULL_POLICY.to_owned()),
        command: Some(vec!["/agent".to_owned(), PURGE.to_owned()]),
        env: Some(env),
        resources: Some(pod::resources("5m", "16Mi", "64Mi")),
        security_context: pod::locked_down(),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    let user = spec.job.security.run_as_user.unwrap_or(USER);
    let spec = PodSpec {
        containers: vec![container],
        volumes: Some(volumes),
        ..pod::restricted(user, spec.job.security.fs_group.unwrap_or(user))
    };
    let metadata = ObjectMeta {
        name: Some(format!("{name}-{PURGE}-{attempt}")),
        namespace: Some(namespace),
        labels: Some(labels.clone()),
        ..ObjectMeta::default()
    };
    job::run(metadata, labels, Run { container: PURGE, seconds: 300, keep_seconds: 3600, spec })
}

fn cron_job(policy: &Policy, task: Task, schedule: &Schedule) -> Intent {
    let metadata = metadata(policy, task, task.component(), BackupReason::Scheduled);
    let of_jobs = ObjectMeta {
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        ..ObjectMeta::default()
    };
    Intent::apply(&CronJob {
        metadata,
        spec: Some(CronJobSpec {
            schedule: schedule.text().to_owned(),
            time_zone: Some(schedule.zone().to_owned()),
            suspend: Some(policy.suspended || policy.paused != Pause::Nothing),
            concurrency_policy: Some("Forbid".to_owned()),
            starting_deadline_seconds: Some(STARTING_DEADLINE),
            successful_jobs_history_limit: Some(HISTORY),
            failed_jobs_history_limit: Some(HISTORY),
            job_template: JobTemplateSpec {
                metadata: Some(of_jobs),
                spec: Some(job_spec(policy, task, BackupReason::Scheduled, None)),
            },
        }),
        status: None,
    })
}

fn metadata(policy: &Policy, task: Task, suffix: &str, reason: BackupReason) -> ObjectMeta {
    let mut labels = labels_of(policy, task.component());
    labels.insert(labels::PURPOSE.to_owned(), reason.to_string());
    let location = (annotations::BACKUP_LOCATION.to_owned(), catalogue::digest(policy));
    ObjectMeta {
        name: Some(policy.child(suffix)),
        namespace: Some(policy.namespace.clone()),
        labels: Some(labels),
        annotations: Some([location].into()),
        owner_references: Some(vec![policy.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn labels_of(policy: &Policy, component: &str) -> BTreeMap<String, String> {
    let mut labels = labels::child(&policy.stack.name, component);
    labels.insert(labels::BACKUP.to_owned(), policy.name.clone());
    labels
}

fn job_spec(policy: &Policy, task: Task, reason: BackupReason, request: Option<&str>) -> JobSpec {
    let component = task.component();
    let run = Run {
        container: component,
        seconds: i64::from(policy.timeout) + GRACE,
        keep_seconds: job::KEEP_SECONDS,
        spec: pod_spec(policy, task, reason, request),
    };
    job::spec(labels_of(policy, component), run)
}

fn pod_spec(policy: &Policy, task: Task, reason: BackupReason, request: Option<&str>) -> PodSpec {
    let stack = &policy.stack;
    let (install, agent_volume, agent_mount) = pod::agent(&stack.operator_image);
    let mut volumes = vec![agent_volume, pod::scratch("tmp", "1Gi")];
    let mut mounts = vec![agent_mount, pod::mount("tmp", "/tmp", false)];
    let mut env = environment(policy);
    storage(&policy.storage, &mut volumes, &mut mounts, &mut env);
    match task {
        Task::Backup => {
            let (volume, mount) = credentials(stack, &[keys::DATABASE_PASSWORD, keys::DATABASE_CA]);
            volumes.push(volume);
            mounts.push(mount);
            env.extend(connection(stack));
            as_admin(stack, &mut volumes, &mut mounts, &mut env);
            env.push(pod::env("ODOOAI_BACKUP_REASON", reason.to_string()));
            env.extend(request.map(|id| pod::env("ODOOAI_BACKUP_REQUEST", id)));
            env.push(pod::env("ODOOAI_BACKUP_KEEP_LAST", policy.keep_last.to_string()));
            env.push(pod::env("ODOOAI_BACKUP_KEEP_PRE_MIGRATION", policy.keep_pre_migration.to_string()));
            env.extend(policy.adopt.as_ref().map(|owner| pod::env("ODOOAI_BACKUP_ADOPT", owner.clone())));
        }
        Task::Verify => {
            // Without a limit: the agent gives up before the node's disk is full, and a limit would only evict it.
            volumes.push(Volume {
                name: "scratch".to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            });
            mounts.push(pod::mount("scratch", SCRATCH, false));
            env.push(pod::env("ODOOAI_VERIFY_SCRATCH", SCRATCH));
        }
        Task::Catalogue => {}
    }
    let container = Container {
        name: task.component().to_owned(),
        image: Some(policy.image.clone()),
        image_pull_policy: Some(pod::PULL_POLICY.to_owned()),
        command: Some(vec![AGENT.to_owned(), task.component().to_owned()]),
        env: Some(env),
        resources: Some(policy.resources.clone()),
        security_context: pod::locked_down(),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodSpec {
        init_containers: Some(vec![install]),
        containers: vec![container],
        volumes: Some(volumes),
        ..pod::spec(stack, policy.user_id, policy.group_id)
    }
}

fn environment(policy: &Policy) -> Vec<EnvVar> {
    vec![
        pod::env("ODOOAI_BACKUP_POLICY", policy.name.clone()),
        pod::env("ODOOAI_BACKUP_NAMESPACE", policy.namespace.clone()),
        pod::env("ODOOAI_BACKUP_STACK", policy.stack.name.clone()),
        pod::env("ODOOAI_BACKUP_TIMEOUT_SECONDS", policy.timeout.to_string()),
    ]
}

/// Mounts and names where backups are.
pub fn storage(places: &Storage, volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>, env: &mut Vec<EnvVar>) {
    if let Some(volume) = &places.volume {
        let claim = PersistentVolumeClaimVolumeSource { claim_name: volume.claim.clone(), read_only: None };
        volumes.push(Volume { name: "backups".to_owned(), persistent_volume_claim: Some(claim), ..Volume::default() });
        mounts.push(pod::mount("backups", VOLUME, false));
        env.push(pod::env("ODOOAI_BACKUP_VOLUME", VOLUME));
    }
    let Some(bucket) = &places.bucket else { return };
    let secret = SecretVolumeSource {
        secret_name: Some(bucket.credentials_secret_ref.name.clone()),
        default_mode: Some(0o440),
        ..SecretVolumeSource::default()
    };
    volumes.push(Volume { name: "bucket-credentials".to_owned(), secret: Some(secret), ..Volume::default() });
    mounts.push(pod::mount("bucket-credentials", BUCKET_CREDENTIALS, true));
    env.push(pod::env("ODOOAI_S3_BUCKET", bucket.bucket.clone()));
    env.push(pod::env("ODOOAI_S3_CREDENTIALS", BUCKET_CREDENTIALS));
    env.extend(bucket.endpoint.as_ref().map(|url| pod::env("ODOOAI_S3_ENDPOINT", url.clone())));
    env.extend(bucket.region.as_ref().map(|region| pod::env("ODOOAI_S3_REGION", region.clone())));
    env.extend(bucket.prefix.as_ref().map(|prefix| pod::env("ODOOAI_S3_PREFIX", prefix.clone())));
}

/// The claim. It has no owner, so that it outlives the Backup, unless the Backup's artifacts go with it.
fn claim(policy: &Policy, made: &Made) -> Intent {
    Intent::apply(&PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: policy.storage.volume.as_ref().map(|volume| volume.claim.clone()),
            namespace: Some(policy.namespace.clone()),
            labels: Some(labels_of(policy, "backup")),
            owner_references: policy.delete_artifacts.then(|| vec![policy.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(made.size.clone()))].into()),
                limits: None,
            }),
            storage_class_name: made.class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}

fn network_policy(policy: &Policy) -> Intent {
    let selected = [(labels::STACK, &policy.stack.name), (labels::BACKUP, &policy.name)];
    let selected = selected.into_iter().map(|(label, value)| (label.to_owned(), value.clone())).collect();
    Intent::apply(&NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(policy.child("backup")),
            namespace: Some(policy.namespace.clone()),
            labels: Some(labels_of(policy, "backup")),
            owner_references: Some(vec![policy.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(reach(&policy.stack, policy.storage.bucket.as_ref(), selected)),
    })
}

/// Where the Jobs with these labels may go: the database, the bucket, and whoever knows their addresses. Nobody may come:
/// that is the stack's own policy.
#[must_use]
pub fn reach(stack: &Stack, bucket: Option<&S3>, selected: BTreeMap<String, String>) -> NetworkPolicySpec {
    let mut egress = vec![network::dns()];
    egress.push(match stack.database.managed() {
        Some(_) => {
            network::egress(Some(vec![network::pods(stack, Component::Database)]), &[("TCP", stack.connection.port)])
        }
        None => network::egress(None, &[("TCP", stack.connection.port)]),
    });
    if let Some(bucket) = bucket {
        egress.push(network::egress(None, &[("TCP", port(bucket.endpoint.as_deref()))]));
    }
    NetworkPolicySpec {
        pod_selector: Some(LabelSelector { match_labels: Some(selected), match_expressions: None }),
        policy_types: Some(vec!["Egress".to_owned()]),
        ingress: None,
        egress: Some(egress),
    }
}

/// Port of the bucket's store.
fn port(endpoint: Option<&str>) -> i32 {
    let uri = endpoint.and_then(|url| url.parse::<Uri>().ok());
    let given = uri.as_ref().and_then(Uri::port_u16).map(i32::from);
    given.unwrap_or_else(|| if uri.is_some_and(|uri| uri.scheme_str() == Some("http")) { 80 } else { 443 })
}
