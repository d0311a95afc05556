//! The user's own tests of a revision, as Jobs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::{Value, json};

use super::fails::{current, image, rolled_back, settle, status};
use crate::room::{COMPONENT, Room, sample};

/// Both answer; the pod has no token, no privilege, and a file system that it can't write.
const ASKS: &str = r#"
import os, urllib.request
for name, path in (("ODOOAI_API_URL", "/openapi.json"), ("ODOOAI_DASHBOARD_URL", "/")):
    urllib.request.urlopen(os.environ[name] + path, timeout=10).read()
assert not os.path.exists("/var/run/secrets"), "there is a token"
try:
    open("/forbidden", "w")
    raise SystemExit("the file system can be written")
except OSError:
    pass
open(os.path.expanduser("~/allowed"), "w").close()
open("/dev/termination-log", "w").write(f"both answer to user {os.getuid()} of {os.environ['ODOOAI_REVISION']}")
"#;

fn check(name: &str, script: &str, seconds: i64) -> Value {
    json!({"name": name, "image": image("1.0.0"), "command": ["python3", "-c", script], "timeoutSeconds": seconds})
}

/// The next revision, with these checks.
async fn change(room: &Room, value: &str, checks: Value) -> Result<()> {
    room.change(json!({"rollout": {"checks": checks}, "env": [{"name": "SOMETHING", "value": value}]})).await
}

async fn jobs(room: &Room) -> Result<Vec<Job>> {
    let parameters = ListParams::default().labels(&format!("{COMPONENT}=check"));
    let mut jobs = room.api::<Job>().list(&parameters).await?.items;
    jobs.sort_by_key(|job| job.metadata.creation_timestamp.as_ref().map(|at| at.0));
    Ok(jobs)
}

pub(super) async fn installs(room: &Room) -> Result<String> {
    room.apply(&sample("local.yaml")?).await?;
    room.change(json!({"rollout": {"checks": [check("smoke", ASKS, 60)]}})).await?;
    room.wait_ready(180).await?;
    let made = jobs(room).await?.len();
    ensure!(made == 1, "the first install made {made} Jobs of checks");
    Ok(String::new())
}

/// One after the other, and each once.
pub(super) async fn pass(room: &Room) -> Result<String> {
    let before = jobs(room).await?.len();
    change(room, "1", json!([check("smoke", ASKS, 60), check("again", ASKS, 60)])).await?;
    room.wait_ready(180).await?;
    let jobs = jobs(room).await?.split_off(before);
    ensure!(jobs.len() == 2, "{} Jobs", jobs.len());
    let times =
        |job: &Job| job.status.as_ref().and_then(|it| Some((it.start_time.clone()?, it.completion_time.clone()?)));
    let (first, second) = (times(&jobs[0]).context("no times")?, times(&jobs[1]).context("no times")?);
    ensure!(first.1.0 <= second.0.0, "they ran side by side: {first:?}, {second:?}");
    let pod = pod_of(room, &jobs[1]).await?;
    let said = pod
        .status
        .iter()
        .flat_map(|it| it.container_statuses.iter().flatten())
        .find_map(|it| it.state.as_ref()?.terminated.as_ref()?.message.clone());
    let wanted = format!("both answer to user 65534 of {}", current(room).await?);
    ensure!(said.as_deref() == Some(wanted.as_str()), "the check said {said:?}");
    Ok(wanted)
}

async fn pod_of(room: &Room, job: &Job) -> Result<Pod> {
    let parameters = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", job.name_any()));
    room.api::<Pod>().list(&parameters).await?.items.pop().context("the Job has no pod")
}

/// What it wrote about itself is told, what it logged isn't.
pub(super) async fn fails(room: &Room) -> Result<String> {
    let old = current(room).await?;
    let script = "print('in the log'); open('/dev/termination-log', 'w').write('3 of 12\\npages fail'); exit(3)";
    change(room, "2", json!([check("e2e", script, 60), check("never", ASKS, 60)])).await?;
    let parts = [
        "(Checks)",
        "CheckFailed",
        "check e2e (1 of 2) failed",
        "exit code 3: 3 of 12 pages fail",
        "kubectl logs job/",
    ];
    let stalled = rolled_back(room, &old, &parts).await?;
    ensure!(!stalled.message.contains("in the log"), "{}", stalled.message);
    settle(room, json!({"env": null, "rollout": {"checks": null}})).await?;
    Ok(stalled.message)
}

pub(super) async fn is_late(room: &Room) -> Result<String> {
    let old = current(room).await?;
    change(room, "3", json!([check("slow", "import time; time.sleep(600)", 8)])).await?;
    let stalled = rolled_back(room, &old, &["CheckFailed", "timeoutSeconds (8)"]).await?;
    settle(room, json!({"env": null, "rollout": {"checks": null}})).await?;
    Ok(stalled.message)
}

/// Killed three times for its memory, it says which field to raise.
pub(super) async fn needs_too_much_memory(room: &Room) -> Result<String> {
    let old = current(room).await?;
    let mut greedy = check("greedy", "held = bytearray(200 << 20)", 120);
    greedy["resources"] = json!({"requests": {"memory": "48Mi"}, "limits": {"memory": "48Mi"}});
    change(room, "5", json!([greedy])).await?;
    let stalled = rolled_back(room, &old, &["CheckFailed", "check greedy", "resources.limits.memory"]).await?;
    settle(room, json!({"env": null, "rollout": {"checks": null}})).await?;
    Ok(stalled.message)
}

/// Its pod goes with the node: it is run again.
pub(super) async fn goes_with_its_node(room: &Room, cluster: &Cluster) -> Result<String> {
    let before = jobs(room).await?.len();
    change(room, "6", json!([check("slow", "import time; time.sleep(30)", 300)])).await?;
    runs(room, before).await?;
    let target = status(room).await?.update_revision.context("no updateRevision")?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.reboot().await?;
    let room = &Room { client: cluster.client().await?, ns: room.ns.clone() };
    room.wait_ready(300).await?;
    ensure!(status(room).await?.failure.is_none() && current(room).await? == target, "another revision runs");
    settle(room, json!({"env": null, "rollout": {"checks": null}})).await?;
    Ok(String::new())
}

/// The Job after the first `before` ones, once its pod is there.
async fn runs(room: &Room, before: usize) -> Result<Job> {
    wait_for("the check", Duration::from_mins(2), || async {
        let job = jobs(room).await?.split_off(before).pop();
        Ok(job.filter(|job| job.status.as_ref().is_some_and(|it| it.active == Some(1))))
    })
    .await
}

/// Its pod is deleted while it runs: it is run again.
pub(super) async fn is_interrupted(room: &Room) -> Result<String> {
    let before = jobs(room).await?.len();
    change(room, "4", json!([check("slow", "import time; time.sleep(12)", 120)])).await?;
    let job = runs(room, before).await?;
    let pod = pod_of(room, &job).await?.name_any();
    room.api::<Pod>().delete(&pod, &DeleteParams::default().grace_period(0)).await?;
    room.wait_ready(120).await?;
    ensure!(status(room).await?.failure.is_none(), "it failed");
    settle(room, json!({"env": null, "rollout": {"checks": null}})).await?;
    Ok(format!("Job {}", job.name_any()))
}
