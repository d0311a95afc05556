//! What goes wrong, and what the user reads then.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::DeleteParams;
use odoo_ai_crds::stack::RevisionResult;
use odoo_ai_tests::{apply_yaml, delete_yaml, service_get, wait_for};
use serde_json::{Value, json};

use crate::record::Recorder;
use crate::room::{LABEL, Room, STACK, condition, sample, summary};
use crate::steady::starts;

/// How soon a person must read what is wrong, and how soon a cure must be noticed.
const SOON: u64 = 60;
const READY: u64 = 300;
/// Nobody listens there: refused at once, on every machine.
const NO_IMAGE: &str = "127.0.0.1:1/odoo-ai-platform/ai-service:1.0.0";

/// Somebody else's, with the name that the stack needs.
const FOREIGN: &str = "
apiVersion: v1
kind: Service
metadata: {name: odoo-ai-redis, labels: {owner: somebody}}
spec: {selector: {app: other}, ports: [{name: other, port: 1234}]}
";

pub(crate) fn names(condition: &Condition, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(condition.message.contains(part), "the message does not name {part:?}: {}", condition.message);
    }
    Ok(())
}

/// Something that may still come: in progress for kstatus, never failed.
async fn is_in_progress(room: &Room, reason: &str) -> Result<()> {
    let stack = room.stack().await?;
    let found = |kind: &str| condition(&stack, kind).map(|condition| (condition.status, condition.reason));
    let working = found("Reconciling") == Some(("True".to_owned(), reason.to_owned()));
    let stalled = found("Stalled").is_some_and(|(status, _)| status == "False");
    ensure!(working && stalled, "this is not in progress: {}", summary(&stack));
    Ok(())
}

pub(crate) async fn is_stalled(room: &Room, reason: &str) -> Result<Condition> {
    let stalled = room.wait("Stalled", "True", reason, SOON).await?;
    room.wait("Ready", "False", reason, SOON).await?;
    room.wait("Reconciling", "False", "", SOON).await?;
    Ok(stalled)
}

/// Applies the sample without the Secret of the language model, with an image that is nowhere, and
/// with somebody else's Service in the way, which stays as it is.
pub(crate) async fn name_conflict(room: &Room) -> Result<String> {
    apply_yaml(&room.client, &room.ns, FOREIGN).await?;
    let before = room.api::<Service>().get("odoo-ai-redis").await?;
    let mut documents = sample("local.yaml")?;
    documents.retain(|document| document["metadata"]["name"] != "anthropic");
    for document in documents.iter_mut().filter(|document| document["kind"] == "OdooAiStack") {
        document["spec"]["images"]["aiService"] = json!(NO_IMAGE);
    }
    room.apply(&documents).await?;
    let stalled = is_stalled(room, "NameConflict").await?;
    names(&stalled, &["Service", "odoo-ai-redis"])?;
    let after = room.api::<Service>().get("odoo-ai-redis").await?;
    ensure!(before.resource_version() == after.resource_version(), "the foreign Service was written: {after:?}");
    Ok(stalled.message)
}

/// Removes the foreign Service; then the Secret is waited for, and no component exists without it.
pub(crate) async fn secret_missing(room: &Room) -> Result<String> {
    delete_yaml(&room.client, &room.ns, FOREIGN).await?;
    let ready = room.wait("Ready", "False", "SecretMissing", 120).await?;
    names(&ready, &["anthropic"])?;
    is_in_progress(room, "SecretMissing").await?;
    ensure!(room.list::<Deployment>().await?.len() == 1, "something but the stub was created");
    Ok(ready.message)
}

/// Creates the Secret; then the image can't be pulled.
pub(crate) async fn image_pull_failed(room: &Room) -> Result<String> {
    let documents = sample("local.yaml")?;
    let secret: Vec<Value> =
        documents.into_iter().filter(|document| document["metadata"]["name"] == "anthropic").collect();
    room.apply(&secret).await?;
    let ready = room.wait("Ready", "False", "ImagePullFailed", 120).await?;
    names(&ready, &[NO_IMAGE, "migrate"])?;
    is_in_progress(room, "ImagePullFailed").await?;
    Ok(ready.message)
}

/// Names the right image: the install goes on to its end.
pub(crate) async fn goes_on(room: &Room) -> Result<String> {
    room.change(json!({"images": {"aiService": "odoo-ai-platform/ai-service:1.0.0"}})).await?;
    room.wait_ready(READY).await?;
    let history = room.stack().await?.status.context("no status")?.history;
    let results: Vec<_> = history.iter().filter_map(|entry| entry.result).collect();
    ensure!(results == [RevisionResult::Succeeded, RevisionResult::Superseded], "the history says {results:?}");
    Ok(String::new())
}

/// What the superseded revision had started is gone.
pub(crate) async fn nothing_hangs(room: &Room) -> Result<String> {
    let phase = |pod: &Pod| pod.status.clone().and_then(|status| status.phase).unwrap_or_default();
    let pods = room.list::<Pod>().await?;
    let stuck: Vec<_> = pods.iter().filter(|pod| phase(pod) == "Pending").map(ResourceExt::name_any).collect();
    ensure!(stuck.is_empty(), "these pods can never run, and nothing will remove them: {stuck:?}");
    Ok(String::new())
}

/// PostgreSQL's pod goes away on a ready stack: the stack says so, and nothing else moves.
pub(crate) async fn database_pod_deleted(room: &Room, recorder: &Recorder) -> Result<String> {
    let before = quiet_state(room).await?;
    let version: u64 = room.stack().await?.resource_version().context("no version")?.parse()?;
    let deleted = Instant::now();
    let pod = room.pod_of("postgresql").await?.name_any();
    room.api::<Pod>().delete(&pod, &DeleteParams::default()).await?;
    let unready = |status: &'static str| {
        move |seen: &crate::record::Seen| {
            seen.kind == "OdooAiStack" && seen.version > version && seen.has("Ready", status)
        }
    };
    let limit = Duration::from_secs(SOON);
    let down = recorder.first("Ready=False", limit, unready("False")).await?;
    room.wait_ready(SOON).await?;
    let up = deleted.elapsed().as_secs_f64();
    let conditions = down.object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").context("no Ready")?;
    let message = ready["message"].as_str().unwrap_or_default().to_owned();
    ensure!(message.contains("postgresql"), "the message does not name postgresql: {message}");
    room.wait("DatabaseReady", "True", "", SOON).await?;
    let after = quiet_state(room).await?;
    ensure!(before == after, "before {before:?}, after {after:?}");
    Ok(format!("{message}; Ready again after {up:.1} s"))
}

/// What a rollout or a Job would change.
async fn quiet_state(room: &Room) -> Result<Vec<String>> {
    let status = room.stack().await?.status.context("no status")?;
    let mut state = vec![format!("{:?}, {} entries", status.current_revision, status.history.len())];
    state.extend(room.list::<Job>().await?.iter().map(ResourceExt::name_any));
    state.extend(
        room.list::<Deployment>().await?.iter().map(|d| format!("{} {:?}", d.name_any(), d.metadata.generation)),
    );
    for component in ["ai-service", "worker", "beat", "dashboard", "redis"] {
        let pods = room.pods_of(component).await?;
        state.extend(pods.iter().map(|pod| format!("{} {:?}", pod.name_any(), pod.uid())));
    }
    Ok(state)
}

/// Back to the image that runs: Ready at once, and no pod was replaced.
pub(crate) async fn back_to_what_runs(room: &Room) -> Result<String> {
    let before = starts(room).await?;
    room.change(json!({"images": {"aiService": "odoo-ai-platform/ai-service:1.0.0"}})).await?;
    room.wait_ready(SOON).await?;
    let after = starts(room).await?;
    ensure!(before == after, "pods were {before:?}, now {after:?}");
    Ok(String::new())
}

/// Deletes the stack: what works goes, what holds data stays.
pub(crate) async fn deleted_keeps_data(room: &Room) -> Result<String> {
    let kept = kept(room).await?;
    let ours = format!("{LABEL}={STACK}");
    room.api::<odoo_ai_crds::stack::OdooAiStack>().delete(STACK, &DeleteParams::default()).await?;
    let left = |objects: Vec<String>| async move {
        ensure!(objects.is_empty(), "left: {objects:?}");
        Ok(Some(()))
    };
    wait_for("pods, workloads and Services to go", Duration::from_secs(90), || async {
        let parameters = kube::api::ListParams::default().labels(&ours);
        let mut names = Vec::new();
        macro_rules! add {
            ($($kind:ty),*) => {$(
                let found = room.api::<$kind>().list(&parameters).await?;
                names.extend(found.iter().map(|object| format!("{} {}", stringify!($kind), object.name_any())));
            )*};
        }
        add!(Pod, Deployment, StatefulSet, Service, Job, ControllerRevision);
        let copies = room.api::<Secret>().list(&parameters).await?;
        names.extend(copies.iter().map(ResourceExt::name_any).filter(|name| name.contains("-config-")));
        left(names).await
    })
    .await?;
    let now = self::kept(room).await?;
    ensure!(kept == now, "before {kept:?}, after {now:?}");
    service_get(&room.client, &room.ns, "odoo-stub", "http", "/").await.context("the user's own Odoo stub is gone")?;
    Ok(format!("{} volumes and Secrets kept", kept.len()))
}

/// UIDs of what must outlive the stack.
async fn kept(room: &Room) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for suffix in crate::safety::VOLUMES {
        let api = room.api::<k8s_openapi::api::core::v1::PersistentVolumeClaim>();
        let claim = api.get(&format!("{STACK}-{suffix}")).await?;
        ensure!(claim.metadata.deletion_timestamp.is_none(), "volume {suffix} is being deleted");
        all.push(format!("{suffix} {:?}", claim.uid()));
    }
    for suffix in crate::safety::GENERATED {
        let secret = room.api::<Secret>().get(&format!("{STACK}-{suffix}")).await?;
        all.push(format!("{suffix} {:?} {:?}", secret.uid(), secret.resource_version()));
    }
    Ok(all)
}

/// Applies the stack again: the same database with the same rows, and rules as people left them.
pub(crate) async fn comes_back(room: &Room, mark: &Mark) -> Result<String> {
    let began = Instant::now();
    room.apply(&sample("local.yaml")?).await?;
    room.wait_ready(READY).await?;
    let took = began.elapsed().as_secs_f64();
    let now = Mark::read(room).await?;
    ensure!(*mark == now, "before {mark:?}, after {now:?}");
    Ok(format!("Ready after {took:.1} s"))
}

/// What shows that a database is the same one.
#[derive(Debug, PartialEq)]
pub(crate) struct Mark {
    incarnation: Option<String>,
    revision: Option<String>,
    rows: String,
    enabled: Vec<String>,
}

impl Mark {
    pub(crate) async fn read(room: &Room) -> Result<Self> {
        let status = room.stack().await?.status.context("no status")?;
        let rules = room.rules().await?;
        let enabled = crate::install::enabled(&rules);
        let rows = room.sql("SELECT count(*), coalesce(max(id), 0) FROM webhook_events").await?;
        ensure!(rows != "0|0", "there is no row to be kept");
        let incarnation = status.database.and_then(|database| database.incarnation);
        Ok(Self { incarnation, revision: status.current_revision, rows, enabled })
    }
}
/// A stack on somebody else's servers whose login is missing: nothing is started.
pub(crate) async fn external_needs_a_login(room: &Room) -> Result<String> {
    room.apply(&sample("external.yaml")?).await?;
    let ready = room.wait("Ready", "False", "SecretMissing", SOON).await?;
    names(&ready, &["Secret database"])?;
    ensure!(room.list::<StatefulSet>().await?.is_empty(), "a server was made");
    Ok(ready.message)
}
