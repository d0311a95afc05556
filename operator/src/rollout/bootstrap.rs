//! The step Bootstrap: an empty database gets its first data from a backup (`bootstrap.restoreFrom`). Whether it is empty
//! the agent finds out, under its lock, and nothing else decides it: what the status says only spares a look.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::source::ArtifactSource;
use odoo_ai_crds::stack::{BootstrapStatus, DatabaseStatus, OdooAiStackStatus};
use serde_json::json;

use super::gates::{Gate, View, Volume};
use super::jobs::{self, Progress, Report, Work};
use super::migration;
use crate::backup::validate::image;
use crate::cluster::intent::{Key, hash};
use crate::labels;
use crate::restore::build::Task;
use crate::restore::model::{Plan, Wanted};
use crate::restore::source::Source;
use crate::restore::validate::database;
use crate::stack::build::job::SchemaJob;
use crate::stack::build::pod;
use crate::stack::model::{Bootstrap, Stack};
use crate::stack::validate::{Problem, resources};

/// Where the source is in the spec.
const FIELD: &str = "database.managed.bootstrap.restoreFrom";

/// A Job under way, or to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What it does.
    pub plan: Plan,
    /// The number of the Job to create, from 1; `None`: one runs, or a pause.
    pub attempt: Option<u32>,
}

impl Run {
    /// Digest of the backup, and of where it is.
    #[must_use]
    pub fn source(&self) -> String {
        digest(&self.plan)
    }
}

/// Nobody has looked into the database on the volume with this UID.
#[must_use]
pub fn is_awaited(status: Option<&OdooAiStackStatus>, claim: Option<&str>) -> bool {
    let (Some(database), Some(claim)) = (status.and_then(|status| status.database.as_ref()), claim) else {
        return true;
    };
    let looked = database.bootstrap.as_ref().is_some_and(|it| it.volume_uid == claim);
    // A schema was made or found there; where a plan Job has looked and found nothing, it is still to begin.
    let on_it = database.volume_uid.as_deref().is_some_and(|volume| is_on(volume, claim));
    let used = on_it && database.schema_revision.as_ref().is_some_and(|at| !at.is_empty());
    !looked && !used
}

/// What a restore in place replaced was no empty database.
#[must_use]
pub fn replaced(stack: &Stack, volume: &Volume) -> Option<BootstrapStatus> {
    let volume_uid = stack.bootstrap.as_ref().and(volume.claim.clone())?;
    let message = "a restore in place has replaced the database since".to_owned();
    Some(BootstrapStatus { volume_uid, message, ..BootstrapStatus::default() })
}

/// The database with this identity is on the volume with this UID.
#[must_use]
pub fn is_on(volume: &str, claim: &str) -> bool {
    volume.strip_prefix(claim).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The backup is in the database, or none is to be.
#[must_use]
pub fn gate(view: &View<'_>) -> Gate {
    let plan = match wanted(view) {
        None => return Gate::Open,
        Some(Ok(plan)) => plan,
        Some(Err(gate)) => return gate,
    };
    let what = format!("{} {}", plan.wanted.word(), plan.wanted.name());
    match progress(view, &plan) {
        Progress::Succeeded(_) => Gate::wait(reasons::RESTORING, "the Job's result is recorded"),
        Progress::Start { failure: None, .. } => Gate::wait(
            reasons::RESTORING,
            format!("a Job brings {} into the database, if it is empty", what.trim_end()),
        ),
        Progress::Running { trouble, message, .. } => Gate::wait(trouble.unwrap_or(reasons::RESTORING), message),
        Progress::Start { failure: Some(failure), .. } | Progress::Pause { failure } => {
            Gate::wait(reasons::RESTORE_FAILED, format!("{failure}; it is tried again"))
        }
        Progress::Refused { reason, message } => Gate::Blocked { reason, message },
    }
}

/// The Job that runs or is to be created, with what it may reach.
#[must_use]
pub fn run(view: &View<'_>) -> Option<Run> {
    let plan = wanted(view)?.ok()?;
    let attempt = match progress(view, &plan) {
        Progress::Start { attempt, .. } => Some(attempt),
        _ => None,
    };
    Some(Run { plan, attempt })
}

/// What is noted of the Job's report.
#[must_use]
pub fn learn(view: &View<'_>) -> Option<DatabaseStatus> {
    let plan = wanted(view)?.ok()?;
    match progress(view, &plan) {
        Progress::Succeeded(report) => Some(noted(view.status, *report, view.volume, view.now)),
        _ => None,
    }
}

/// Unfinished Jobs for another backup or volume, and while nobody has looked into the database those that would make a
/// schema in it.
#[must_use]
pub fn obsolete(view: &View<'_>) -> Vec<(Key, String)> {
    let View { stack, children, .. } = *view;
    let wanted = wanted(view);
    let migrate = SchemaJob::Migrate.component();
    let early = wanted.as_ref().map(|_| jobs::obsolete(stack, children, migrate, |_, _| false)).unwrap_or_default();
    let plan = wanted.and_then(Result::ok);
    let none = stack.bootstrap.is_none();
    let ours = |_: &str, job: &Job| !none && plan.as_ref().is_none_or(|plan| is_about(job, stack, plan));
    [early, jobs::obsolete(stack, children, Task::Bootstrap.component(), ours)].concat()
}

/// What is to be restored, or what stands in the way; `None`: nothing is.
fn wanted(view: &View<'_>) -> Option<Result<Plan, Gate>> {
    let bootstrap = view.stack.bootstrap.as_ref()?;
    let claim = view.volume.claim.as_deref();
    if !is_awaited(Some(view.status), claim) {
        return None;
    }
    let waits = |message: String| Some(Err(Gate::wait(reasons::RESTORING, message)));
    // Whoever goes on before the volume is known makes an empty schema on it.
    let (Some(claim), Some(source)) = (claim, view.source) else {
        return waits("the database's volume is looked up".to_owned());
    };
    // So would one that was started before.
    if let Some((job, _)) = migration::unfinished(view.children).next() {
        return waits(format!("the end of Job {job} is waited for"));
    }
    let refused = |problem: Problem| Gate::blocked(problem.reason, problem.message);
    Some(plan(view.stack, bootstrap, source, claim).map_err(refused))
}

fn plan(stack: &Stack, bootstrap: &Bootstrap, source: &Source, claim: &str) -> Result<Plan, Problem> {
    let spec = &bootstrap.source;
    let storage = source.storage(spec, FIELD)?;
    let job = source.backup.as_ref().map(|it| it.spec.job.clone()).unwrap_or_default();
    let (image, user) = image(&job, &stack.database)?;
    let user_id = job.security.run_as_user.unwrap_or(user);
    let live = &stack.connection.database;
    Ok(Plan {
        name: stack.name.clone(),
        namespace: stack.namespace.clone(),
        uid: claim.to_owned(),
        owner: stack.owner.clone(),
        storage,
        catalogue: source.catalogue(spec, &stack.namespace, &stack.name),
        wanted: of(spec),
        database: database(live, "restored", claim),
        replaced: Some(database(live, "empty", claim)),
        tables: Vec::new(),
        image,
        resources: resources(&job.resources, pod::resources("50m", "64Mi", "512Mi")),
        user_id,
        group_id: job.security.fs_group.unwrap_or(user_id),
        timeout: bootstrap.timeout,
        adopts: source.is_kept_by(spec, stack),
        stack: stack.clone(),
    })
}

fn of(spec: &ArtifactSource) -> Wanted {
    match &spec.artifact {
        Some(artifact) => Wanted::Artifact(artifact.clone()),
        None => Wanted::File(spec.file.clone().unwrap_or_default()),
    }
}

fn progress(view: &View<'_>, plan: &Plan) -> Progress {
    let task = Task::Bootstrap;
    let prefix = task.prefix(&plan.name, None);
    let limit = format!("database.managed.bootstrap.timeoutSeconds: {}", plan.timeout);
    let does = "restores the backup, if the database is empty";
    let work = Work { prefix: &prefix, component: task.component(), does, limit: &limit };
    let about = |job: &Job| is_about(job, view.stack, plan);
    jobs::progress(work, view.children, about, |report| report.incarnation.is_some(), |_| true, view.now)
}

fn is_about(job: &Job, stack: &Stack, plan: &Plan) -> bool {
    let volume = job.metadata.labels.as_ref().and_then(|labels| labels.get(labels::VOLUME));
    let source = job.metadata.annotations.as_ref().and_then(|all| all.get(annotations::BOOTSTRAP_SOURCE));
    jobs::is_owned(job, stack) && volume == Some(&plan.uid) && source == Some(&digest(plan))
}

fn digest(plan: &Plan) -> String {
    let wanted = match &plan.wanted {
        Wanted::Artifact(artifact) => json!(artifact),
        Wanted::File(path) => json!(path),
    };
    let claim = plan.storage.volume.as_ref().map(|volume| &volume.claim);
    // One that can't start because of its image is replaced by one that can.
    hash(&json!([wanted, claim, plan.storage.bucket, plan.catalogue, plan.image, plan.user_id]))
}

fn noted(status: &OdooAiStackStatus, report: Report, volume: &Volume, now: Timestamp) -> DatabaseStatus {
    let old = status.database.clone().unwrap_or_default();
    let restored = report.restore.as_ref();
    let bootstrap = BootstrapStatus {
        volume_uid: volume.claim.clone().unwrap_or_default(),
        restored: restored.is_some(),
        artifact_id: restored.map(|it| it.id.clone()),
        tables: restored.and_then(|it| it.tables),
        rows: restored.and_then(|it| it.rows),
        load_seconds: restored.and_then(|it| it.seconds),
        message: report.message.chars().take(2048).collect(),
        completed_at: Some(Time(now)),
    };
    DatabaseStatus {
        bootstrap: Some(bootstrap),
        incarnation: report.incarnation,
        size_bytes: restored.and_then(|it| it.bytes).or(old.size_bytes),
        volume_uid: volume.uid.clone(),
        ..old
    }
}
