//! Builders: the accepted restore in, Kubernetes objects out. They cannot fail and hold no client.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, Volume, VolumeMount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use odoo_ai_crds::restore::RestoreStatus;
use odoo_ai_crds::source::Artifact;

use super::model::{Plan, Wanted};
use super::observe::Observed;
use super::surroundings::Current;
use crate::backup::build::{reach, storage};
use crate::cluster::intent::Intent;
use crate::labels;
use crate::rollout::jobs;
use crate::stack::build::application::{Rendering, Schema, connection, credentials};
use crate::stack::build::credentials::{as_admin, keys};
use crate::stack::build::job::{self, Run};
use crate::stack::build::{AGENT, pod};

/// Seconds beyond `timeoutSeconds`: the agent ends itself before and tells why.
pub const GRACE: i64 = 120;
/// Sessions that build indexes at once, where the dump lies on a volume; the live database needs the rest of the host.
const SESSIONS: u32 = 2;
/// A database is dropped, or renamed, within this time, seconds.
const SHORT: i64 = 300;

/// What a Job of a Restore does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Loads the backup into a new database.
    Load,
    /// Migrates the database that is to be live.
    Migrate,
    /// Lets it and the live one change names.
    Swap,
    /// Brings chosen tables of the live database back.
    Copy,
    /// Drops the database that was replaced, or what was loaded for chosen tables.
    Drop,
    /// Drops what was begun.
    Discard,
    /// Loads the backup into the live database where that is empty; a Job of the stack itself.
    Bootstrap,
}

impl Task {
    /// Part of the Jobs' names.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Migrate => "migrate",
            Self::Swap => "swap",
            Self::Copy => "tables",
            Self::Drop => "drop",
            Self::Discard => "discard",
            Self::Bootstrap => "bootstrap",
        }
    }

    /// Component label of its Jobs, and name of their container.
    #[must_use]
    pub fn component(self) -> &'static str {
        match self {
            Self::Load => "restore-load",
            Self::Migrate => "restore-migrate",
            Self::Swap => "restore-swap",
            Self::Copy => "restore-tables",
            Self::Drop => "restore-drop",
            Self::Discard => "restore-discard",
            Self::Bootstrap => "bootstrap",
        }
    }

    /// What the names of its Jobs begin with; the number of the attempt follows. What is done anew in each round has its
    /// number in it.
    #[must_use]
    pub fn prefix(self, restore: &str, round: Option<i32>) -> String {
        match (self, round) {
            (Self::Migrate | Self::Swap | Self::Copy | Self::Drop, Some(round)) => {
                format!("{restore}-{}-{round}-", self.word())
            }
            _ => format!("{restore}-{}-", self.word()),
        }
    }
}

/// Where the Jobs may go: the database, the bucket, and whoever knows their addresses.
#[must_use]
pub fn lasting(plan: &Plan) -> Option<Intent> {
    plan.stack.network.as_ref()?;
    let selected = [(labels::STACK, &plan.stack.name), (labels::RESTORE, &plan.name)];
    let selected = selected.into_iter().map(|(label, value)| (label.to_owned(), value.clone())).collect();
    let metadata = metadata(plan, Some(plan.owner.clone()), plan.child("restore"), "restore");
    let spec = reach(&plan.stack, plan.storage.bucket.as_ref(), selected);
    Some(Intent::apply(&NetworkPolicy { metadata, spec: Some(spec) }))
}

/// A Job, as the status says. What is done though the Restore is being deleted has no owner: foreground deletion would take
/// it first.
#[must_use]
pub fn job(plan: &Plan, seen: &Observed, task: Task, attempt: u32) -> Intent {
    let status = seen.status();
    let name = format!("{}{attempt}", task.prefix(&plan.name, status.round));
    let orphan = matches!(task, Task::Discard | Task::Swap | Task::Copy | Task::Drop);
    let owner = (!orphan).then(|| plan.owner.clone());
    let keep_seconds = if orphan { 3600 } else { job::KEEP_SECONDS };
    let seconds = match task {
        Task::Load | Task::Copy | Task::Bootstrap => i64::from(plan.timeout) + GRACE,
        Task::Migrate => i64::from(plan.stack.migration_timeout),
        Task::Swap | Task::Drop | Task::Discard => SHORT + GRACE,
    };
    let mut metadata = metadata(plan, owner, name, task.component());
    let of_job = metadata.labels.get_or_insert_default();
    of_job.insert(labels::RESTORE_UID.to_owned(), plan.uid.clone());
    let spec = match (task, &seen.around.current) {
        (Task::Migrate, Some(current)) => {
            let labels = metadata.labels.get_or_insert_default();
            labels.insert(labels::REVISION.to_owned(), current.revision.clone());
            migrate(plan, &status, current)
        }
        _ => pod_spec(plan, &status, task),
    };
    let run = Run { container: task.component(), seconds, keep_seconds, spec };
    job::run(metadata, labels_of(plan, task.component()), run)
}

/// The database that is to be live, in the eyes of the image that runs.
fn migrate(plan: &Plan, status: &RestoreStatus, current: &Current) -> PodSpec {
    let mut stack = plan.stack.clone();
    stack.connection.database = incoming(plan, status).0;
    stack.images.ai_service.clone_from(&current.image);
    let schema = Schema::default();
    let rendering = Rendering {
        stack: &stack,
        revision: &current.revision,
        inputs: &current.inputs,
        schema: &schema,
        holds_out: false,
    };
    job::pod_spec(&rendering, Task::Migrate.component(), "migrate", false)
}

/// The database that is to be live, and the name under which the live one is kept then.
fn incoming(plan: &Plan, status: &RestoreStatus) -> (String, String) {
    let (restored, replaced) = (plan.database.clone(), plan.replaced.clone().unwrap_or_default());
    if status.undo { (replaced, restored) } else { (restored, replaced) }
}

/// The Job is of the Restore with this UID, and not of one that had its name before.
#[must_use]
pub fn is_of(job: &Job, uid: &str) -> bool {
    let label = job.metadata.labels.as_ref().and_then(|labels| labels.get(labels::RESTORE_UID));
    jobs::is_of(job, uid) || label.is_some_and(|it| it == uid)
}

fn metadata(plan: &Plan, owner: Option<OwnerReference>, name: String, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(plan.namespace.clone()),
        labels: Some(labels_of(plan, component)),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn labels_of(plan: &Plan, component: &str) -> BTreeMap<String, String> {
    let mut labels = labels::child(&plan.stack.name, component);
    labels.insert(labels::RESTORE.to_owned(), plan.name.clone());
    labels
}

/// Pods of a Job that only the agent and PostgreSQL's programs are needed for.
#[must_use]
pub fn pod_spec(plan: &Plan, status: &RestoreStatus, task: Task) -> PodSpec {
    let stack = &plan.stack;
    let (install, agent_volume, agent_mount) = pod::agent(&stack.operator_image);
    let (login_volume, login_mount) = credentials(stack, &[keys::DATABASE_PASSWORD, keys::DATABASE_CA]);
    let mut volumes = vec![agent_volume, pod::scratch("tmp", "1Gi"), login_volume];
    let mut mounts = vec![agent_mount, pod::mount("tmp", "/tmp", false), login_mount];
    let mut env = connection(stack);
    as_admin(stack, &mut volumes, &mut mounts, &mut env);
    env.push(pod::env("ODOOAI_RESTORE_OWNER", plan.uid.clone()));
    let (incoming, outgoing) = incoming(plan, status);
    let kept = || status.replaced_database.clone().unwrap_or_default();
    let database = match task {
        Task::Load | Task::Copy | Task::Discard | Task::Bootstrap => plan.database.clone(),
        Task::Drop if !plan.tables.is_empty() => plan.database.clone(),
        Task::Migrate | Task::Swap => incoming,
        Task::Drop => kept(),
    };
    env.push(pod::env("ODOOAI_RESTORE_DATABASE", database));
    match task {
        Task::Load | Task::Bootstrap => source(plan, &mut volumes, &mut mounts, &mut env),
        Task::Copy => {
            env.push(pod::env("ODOOAI_RESTORE_TABLES", plan.tables.join(",")));
            env.push(pod::env("ODOOAI_RESTORE_TIMEOUT_SECONDS", plan.timeout.to_string()));
        }
        _ => env.push(pod::env("ODOOAI_RESTORE_TIMEOUT_SECONDS", SHORT.to_string())),
    }
    if task == Task::Bootstrap {
        env.push(pod::env("ODOOAI_RESTORE_REPLACED", outgoing.clone()));
        env.push(pod::env("ODOOAI_RESTORE_ADOPT", plan.adopts.to_string()));
    }
    if task == Task::Load && plan.replaced.is_some() && plan.tables.is_empty() {
        // So that what can't be renamed is told before anything is stopped.
        env.push(pod::env("ODOOAI_RESTORE_REPLACED", outgoing.clone()));
    }
    if task == Task::Swap {
        env.push(pod::env("ODOOAI_RESTORE_REPLACED", outgoing));
        env.push(pod::env("ODOOAI_RESTORE_SEQUENCE", status.round.unwrap_or(1).to_string()));
    }
    if task == Task::Drop && plan.tables.is_empty() {
        env.push(pod::env("ODOOAI_RESTORE_DISCARD", "Replaced"));
    }
    let command = if task == Task::Drop { Task::Discard.word() } else { task.word() };
    let container = Container {
        name: task.component().to_owned(),
        image: Some(plan.image.clone()),
        image_pull_policy: Some(pod::PULL_POLICY.to_owned()),
        command: Some([AGENT, "restore", command].map(str::to_owned).to_vec()),
        env: Some(env),
        resources: Some(plan.resources.clone()),
        security_context: pod::locked_down(),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodSpec {
        init_containers: Some(vec![install]),
        containers: vec![container],
        volumes: Some(volumes),
        ..pod::spec(stack, plan.user_id, plan.group_id)
    }
}

/// Which backup, and where it is.
fn source(plan: &Plan, volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>, env: &mut Vec<EnvVar>) {
    let (namespace, stack) = &plan.catalogue;
    env.push(pod::env("ODOOAI_BACKUP_NAMESPACE", namespace.clone()));
    env.push(pod::env("ODOOAI_BACKUP_STACK", stack.clone()));
    env.push(pod::env("ODOOAI_RESTORE_TIMEOUT_SECONDS", plan.timeout.to_string()));
    match &plan.wanted {
        Wanted::Artifact(Artifact { id, selector }) => {
            env.extend(id.as_ref().map(|id| pod::env("ODOOAI_RESTORE_ID", id.clone())));
            env.extend(selector.map(|it| pod::env("ODOOAI_RESTORE_SELECTOR", it.to_string())));
        }
        Wanted::File(path) => env.push(pod::env("ODOOAI_RESTORE_FILE", path.clone())),
    }
    storage(&plan.storage, volumes, mounts, env);
    env.push(pod::env("ODOOAI_RESTORE_JOBS", SESSIONS.to_string()));
}
