//! A new revision rolls: in order, without a gap, and also when the operator dies in the middle.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use odoo_ai_crds::stack::{OdooAiStackStatus, RevisionResult};
use odoo_ai_tests::Cluster;
use serde_json::json;

use crate::operator::{self, End};
use crate::poller::Poller;
use crate::record::{Order, Recorder, Seen};
use crate::room::{Room, condition};

const STARTS: Duration = Duration::from_mins(1);
const DONE: u64 = 300;

/// What there was before an update.
pub(crate) struct Before {
    status: OdooAiStackStatus,
    jobs: Vec<String>,
    began: Duration,
    version: u64,
}

impl Before {
    pub(crate) async fn of(room: &Room, recorder: &Recorder) -> Result<Self> {
        let stack = room.stack().await?;
        let version = stack.resource_version().context("no version")?.parse()?;
        let status = stack.status.context("no status")?;
        Ok(Self { status, jobs: jobs(room).await?, began: recorder.elapsed(), version })
    }

    fn revision(&self) -> &str {
        self.status.current_revision.as_deref().unwrap_or_default()
    }
}

async fn jobs(room: &Room) -> Result<Vec<String>> {
    Ok(room.list::<Job>().await?.iter().map(ResourceExt::name_any).collect())
}

/// Changes a setting of each component; with an `end` the operator meets it while ai-service is replaced.
pub(crate) async fn rolls(
    room: &Room,
    recorder: &Recorder,
    before: &Before,
    end: Option<(&Cluster, End)>,
) -> Result<String> {
    let poller = Poller::start(room).await?;
    let count = poller.count().await?;
    let applied = Instant::now();
    let of_dashboard = json!({"env": [{"name": "NOTE", "value": "changed"}]});
    room.change(json!({"logLevel": "Debug", "dashboard": of_dashboard})).await?;
    let old = before.revision();
    let new = |seen: &Seen| seen.is("Pod", "ai-service") && seen.revision() != old && seen.version > before.version;
    recorder.first("a new ai-service pod", STARTS, new).await?;
    let mut killed = String::new();
    if let Some((cluster, end)) = end {
        let ready = condition(&room.stack().await?, "Ready").context("no condition Ready")?;
        ensure!(ready.status != "True", "the rollout was over before the operator could be killed");
        let died = Instant::now();
        operator::replace(cluster, &room.client, end).await?;
        killed = format!(", operator away for {:.1} s", died.elapsed().as_secs_f64());
    }
    room.wait_ready(DONE).await?;
    let took = applied.elapsed().as_secs_f64();
    let answers = poller.never_failed(&count).await?;
    Ok(format!("{took:.1} s{killed}; {answers}"))
}

/// Component after component, each only when the one before it runs the new revision alone.
pub(crate) async fn rolled_in_order(room: &Room, recorder: &Recorder, before: &Before) -> Result<String> {
    let status = room.stack().await?.status.context("no status")?;
    let new = status.current_revision.context("no revision")?;
    let (old, since) = (before.revision().to_owned(), before.version);
    ensure!(new != old, "the revision is still {old}");
    let late = move |seen: &Seen| seen.version > since;
    let mut order = Order::default();
    let parts = [
        ("Deployment", "ai-service", "ai-service changed", "ai-service done"),
        ("Deployment", "worker", "worker changed", "worker done"),
        ("StatefulSet", "beat", "beat changed", "beat done"),
        ("Deployment", "dashboard", "dashboard changed", "dashboard done"),
    ];
    for (kind, component, changed, done) in parts {
        let of = |seen: &Seen| late(seen) && seen.is(kind, component) && seen.revision() == new;
        order.then(changed, recorder.past(changed, of).await?);
        order.then(done, recorder.past(done, |seen| of(seen) && seen.settled()).await?);
    }
    let ready = |seen: &Seen| {
        late(seen) && seen.kind == "OdooAiStack" && seen.object["status"]["currentRevision"] == new.as_str()
    };
    order.then("Ready", recorder.past("Ready", ready).await?);
    let times = order.check(before.began)?;

    for component in ["ai-service", "worker", "dashboard"] {
        let mut order = Order::default();
        let of = |seen: &Seen| late(seen) && seen.is("Pod", component);
        let serves = |seen: &Seen| of(seen) && seen.revision() == new && seen.has("Ready", "True");
        order.then("new pod ready", recorder.past("a new pod to be ready", serves).await?);
        let ends = |seen: &Seen| of(seen) && seen.revision() == old && seen.ends();
        order.then("old pod ends", recorder.past("the old pod to end", ends).await?);
        order.check(before.began).with_context(|| component.to_owned())?;
    }
    let beats = recorder.all(|seen| late(seen) && seen.is("Pod", "beat"));
    let gone = beats.iter().find(|seen| seen.deleted && seen.revision() == old).context("old beat is still there")?;
    let next = beats.iter().find(|seen| seen.revision() == new).context("there is no new beat")?;
    ensure!(gone.version <= next.version, "two beats at once");
    Ok(times)
}

/// Exactly one entry more, and no Job for a change of configuration.
pub(crate) async fn left_one_entry_and_no_job(room: &Room, recorder: &Recorder, before: &Before) -> Result<String> {
    let status = room.stack().await?.status.context("no status")?;
    let results: Vec<_> = status.history.iter().map(|entry| (entry.revision.as_str(), entry.result)).collect();
    let new = status.current_revision.as_deref().unwrap_or_default();
    let wanted = [(new, Some(RevisionResult::Succeeded)), (before.revision(), Some(RevisionResult::Succeeded))];
    ensure!(results == wanted, "the history is {results:?}");
    let (old, now) = (&before.jobs, jobs(room).await?);
    ensure!(*old == now, "Jobs were {old:?}, now {now:?}");
    let made = recorder.all(|seen| seen.kind == "Job" && seen.version > before.version);
    ensure!(made.is_empty(), "Jobs were touched: {:?}", made.iter().map(|seen| &seen.name).collect::<Vec<_>>());
    ensure!(status.rollout.is_none(), "a rollout is left: {:?}", status.rollout);
    let process = room.run("ai-service", &["sh", "-c", "tr '\\0' ' ' </proc/1/cmdline"]).await?;
    ensure!(process.contains("--log-level debug"), "ai-service runs as {process}");
    Ok(String::new())
}
