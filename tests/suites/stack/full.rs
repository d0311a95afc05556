//! The full tier: what takes minutes, or the whole node.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::DeleteParams;
use odoo_ai_tests::{Cluster, wait_for};

use crate::operator::{self, Metrics};
use crate::poller::Poller;
use crate::ready;
use crate::room::{Room, STACK, condition, summary};
use crate::steady::{starts, unchanged, versions};

/// The agent asks Odoo every 20 seconds, an Odoo that refused the login once a minute.
const ODOO: u64 = 90;
const REBOOT: u64 = 120;

/// Whatever Odoo does is a condition, never an outage.
pub(crate) async fn odoo_fails_and_comes_back(room: &Room) -> Result<String> {
    let modes = [
        ("deny", "False", "AccessDenied"),
        ("refuse", "False", "Unreachable"),
        ("normal", "True", "Reachable"),
        ("hang", "False", "Unreachable"),
        ("normal", "True", "Reachable"),
    ];
    let mut times = Vec::new();
    for (mode, status, reason) in modes {
        let began = Instant::now();
        set_mode(room, mode).await?;
        let found = room.wait("OdooReachable", status, reason, ODOO).await?;
        ensure!(found.message.contains("http://odoo-stub:8069"), "the message names no URL: {}", found.message);
        let stack = room.stack().await?;
        let ready = condition(&stack, "Ready").context("no condition Ready")?;
        ensure!(ready.status == "True", "Odoo's state made the stack unready: {}", summary(&stack));
        let (answer, _) = room.ask("GET", "/openapi.json", None, None).await?;
        ensure!(answer == 200, "with Odoo in mode {mode} the API answered {answer}");
        times.push(format!("{mode}: {reason} after {:.0} s", began.elapsed().as_secs_f64()));
    }
    Ok(times.join(", "))
}

pub(crate) async fn set_mode(room: &Room, mode: &str) -> Result<()> {
    let script =
        "import sys, urllib.request as r; r.urlopen('http://127.0.0.1:8070/stub/mode', sys.argv[1].encode(), 10)";
    let parameters = kube::api::ListParams::default().labels("app.kubernetes.io/name=odoo-stub");
    let pods = room.api::<k8s_openapi::api::core::v1::Pod>().list(&parameters).await?;
    let pod = pods.items.first().context("there is no stub")?.name_any();
    let command = ["python3", "-c", script, mode];
    odoo_ai_tests::exec(&room.client, &room.ns, &pod, None, &command).await?.ok()?;
    Ok(())
}

/// The operator is uninstalled: pods serve on, also a new one after a loss; and it comes back as if
/// it had never been away.
pub(crate) async fn lives_without_the_operator(room: &Room, cluster: &Cluster) -> Result<String> {
    let poller = Poller::start(room).await?;
    let count = poller.count().await?;
    let (before, pods) = (versions(room).await?, starts(room).await?);
    operator::uninstall(cluster).await?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    unchanged(&before, &versions(room).await?).context("after the end of the operator")?;
    operator::install(cluster).await?;
    wait_for("the new operator to look", Duration::from_mins(1), || async {
        Ok((Metrics::read(&room.client).await?.value("reconciles_total") > 0).then_some(()))
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    unchanged(&before, &versions(room).await?).context("after its return")?;
    ensure!(pods == starts(room).await?, "pods were restarted");
    let answers = poller.never_failed(&count).await?;
    room.wait_ready(60).await?;
    Ok(answers)
}

/// A pod that is lost while no operator runs is Kubernetes' own business.
pub(crate) async fn heals_without_the_operator(room: &Room, cluster: &Cluster) -> Result<String> {
    operator::uninstall(cluster).await?;
    let old = room.pod_of("worker").await?;
    room.api::<k8s_openapi::api::core::v1::Pod>().delete(&old.name_any(), &DeleteParams::default()).await?;
    let healed = wait_for("another worker", Duration::from_secs(90), || async {
        let pod = room.pod_of("worker").await?;
        ensure!(pod.uid() != old.uid(), "the old one is still there");
        let conditions = pod.status.unwrap_or_default().conditions.unwrap_or_default();
        Ok(conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True").then_some(()))
    })
    .await;
    operator::install(cluster).await?;
    healed?;
    room.wait_ready(90).await?;
    ready::queue_works(room).await
}

/// The node reboots: everything is back by itself, from the same volumes, once.
pub(crate) async fn survives_a_reboot(room: &Room, cluster: &Cluster) -> Result<String> {
    let before = state(room).await?;
    let began = Instant::now();
    cluster.reboot().await?;
    let node = began.elapsed();
    let room = &Room { client: cluster.client().await?, ns: room.ns.clone() };
    let left = Duration::from_secs(REBOOT).saturating_sub(node);
    wait_for("the stack to be Available and Ready", left, || async {
        // The conditions may still be those from before: the pods themselves must have started again.
        let (status, _) = room.ask("GET", "/openapi.json", None, None).await?;
        ensure!(status == 200, "the API answers {status}");
        let stack = room.stack().await?;
        let holds = |kind: &str| condition(&stack, kind).is_some_and(|condition| condition.status == "True");
        ensure!(holds("Available") && holds("Ready"), "{}", summary(&stack));
        for component in ["postgresql", "redis", "ai-service", "worker", "beat", "dashboard"] {
            let pod = room.pod_of(component).await?;
            let statuses = pod.status.unwrap_or_default().container_statuses.unwrap_or_default();
            let ready = statuses.iter().all(|container| container.ready && container.restart_count > 0);
            ensure!(ready, "{component} has not started again");
        }
        Ok(Some(()))
    })
    .await?;
    let took = began.elapsed().as_secs_f64();
    let after = state(room).await?;
    ensure!(before == after, "before {before:?}, after {after:?}");
    let queue = ready::queue_works(room).await?;
    room.wait_ready(90).await?;
    Ok(format!("node {:.1} s, stack Available and Ready {took:.1} s; {queue}", node.as_secs_f64()))
}

/// What a reboot must not change.
async fn state(room: &Room) -> Result<Vec<String>> {
    let status = room.stack().await?.status.context("no status")?;
    let mut state = vec![format!("{:?}, {} entries", status.current_revision, status.history.len())];
    state.extend(room.list::<Job>().await?.iter().map(|job| format!("{} {:?}", job.name_any(), job.uid())));
    for claim in room.list::<PersistentVolumeClaim>().await? {
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
        state.push(format!("{} {:?} {volume:?}", claim.name_any(), claim.uid()));
    }
    for component in ["postgresql", "redis", "ai-service", "worker", "beat", "dashboard"] {
        // One pod each, and the same: none was made anew, so there were never two beats.
        state.push(format!("{component} {:?}", room.pod_of(component).await?.uid()));
    }
    let rows = room.sql("SELECT count(*) FROM automation_rules").await?;
    state.push(format!("{rows} rules in {STACK}'s database"));
    Ok(state)
}
