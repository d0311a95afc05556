//! Migrations that fail, hang, wait and die; and the way back from one that older images can't follow.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use odoo_ai_tests::{Cluster, logs, wait_for};
use serde_json::json;

use super::look::{FIRST, READY, SECOND, answers, image, look_again, revision, schema_came_first, served, target};
use crate::faults::{is_stalled, names};
use crate::room::{COMPONENT, Room, condition, sample};

const VERSIONS: [&str; 3] = ["1.2.0-failing-migration", "1.2.0-hanging-migration", "2.0.0"];
/// A session that somebody forgot; its name is the application's, as PostgreSQL shows it.
const FORGOTTEN: &str = "PGAPPNAME=forgotten_report nohup psql -U postgres -d odoo_ai \
    -c 'BEGIN; SELECT count(*) FROM automation_rules; SELECT pg_sleep(900)' >/dev/null 2>&1 &";

pub(super) async fn installs(room: &Room, cluster: &Cluster) -> Result<String> {
    if cluster.container().is_ok() {
        cluster.load_images(&VERSIONS.map(image)).await?;
    }
    room.apply(&sample("local.yaml")?).await?;
    room.wait_ready(READY).await?;
    Ok(String::new())
}

/// Nothing half applied, the reason in the condition, the log kept, the old pods serving.
pub(super) async fn leaves_nothing(room: &Room) -> Result<String> {
    let before = served(room).await?;
    room.change(json!({"images": {"aiService": image("1.2.0-failing-migration")}})).await?;
    room.wait("Stalled", "True", "RolledBack", 120).await?;
    let stalled = is_stalled(room, "RolledBack").await?;
    names(&stalled, &["MigrationFailed", "no_such_table", "nothing was changed"])?;
    ensure!(revision(room).await? == FIRST, "the database is at {}", revision(room).await?);
    let half = room.sql("SELECT count(*) FROM pg_class WHERE relname IN ('half_done', 'rule_usage')").await?;
    ensure!(half == "0", "something was half applied");
    answers(room).await?;
    ensure!(before == served(room).await?, "pods were touched");
    let pods = of_target(room, "migrate").await?;
    let pod = pods.first().context("the Job's pod is gone")?.name_any();
    let log = logs(&room.client, &room.ns, &pod, Some("migrate")).await?;
    ensure!(log.contains("no_such_table"), "the log of {pod} doesn't say it");
    Ok(stalled.message)
}

/// The image that runs, again: nothing moves.
pub(super) async fn back(room: &Room) -> Result<String> {
    let before = served(room).await?;
    room.change(json!({"images": {"aiService": image("1.0.0")}})).await?;
    room.wait_ready(60).await?;
    ensure!(before == served(room).await?, "pods were touched");
    Ok(String::new())
}

/// It holds an exclusive lock for an hour; after its time-out the API reads the table again.
pub(super) async fn hangs(room: &Room) -> Result<String> {
    let before = served(room).await?;
    let change =
        json!({"images": {"aiService": image("1.2.0-hanging-migration")}, "migrations": {"timeoutSeconds": 30}});
    room.change(change).await?;
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
        AND relation = 'automation_rules'::regclass";
    wait_for("the lock", Duration::from_secs(90), || async { Ok((room.sql(locked).await? == "1").then_some(())) })
        .await?;
    let began = Instant::now();
    let failed = room.wait("Ready", "False", "MigrationFailed", 90).await?;
    names(&failed, &["migrations.timeoutSeconds: 30"])?;
    let told = began.elapsed();
    wait_for("the end of the lock", Duration::from_secs(30), || async {
        Ok((room.sql(locked).await? == "0").then_some(()))
    })
    .await?;
    let free = began.elapsed();
    ensure!(!room.rules().await?.is_empty(), "the API reads no rules");
    ensure!(revision(room).await? == FIRST && before == served(room).await?, "something is left of it");
    Ok(format!("told after {:.0} s, free after {:.0} s: {}", told.as_secs_f64(), free.as_secs_f64(), failed.message))
}

/// A session of somebody else is in the way: named, with its statement; the API serves on.
pub(super) async fn waits_for_a_lock(room: &Room) -> Result<String> {
    room.run("postgresql", &["sh", "-c", FORGOTTEN]).await?;
    let change = json!({"images": {"aiService": image("1.1.0")}, "migrations": {"timeoutSeconds": null}});
    room.change(change).await?;
    let told = wait_for("the session's name", Duration::from_mins(2), || async {
        let ready = condition(&room.stack().await?, "Ready").context("no Ready")?;
        Ok(ready.message.contains("forgotten_report").then_some(ready))
    })
    .await?;
    names(&told, &["waited 5 s for a lock", "pg_sleep"])?;
    answers(room).await?;
    ensure!(revision(room).await? == FIRST, "it went on all the same");
    Ok(format!("{}: {}", told.reason, told.message))
}

/// The pod of the Job is deleted, the session ends: the next pod does it.
pub(super) async fn is_resumed(room: &Room) -> Result<String> {
    let running = wait_for("a pod that tries again", Duration::from_mins(2), || async {
        let pods = of_target(room, "migrate").await?;
        let runs = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        Ok(pods.into_iter().find(runs))
    })
    .await?;
    room.api::<Pod>().delete(&running.name_any(), &DeleteParams::default().grace_period(0)).await?;
    let ended = room
        .sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'forgotten_report'",
        )
        .await?;
    ensure!(ended == "1", "{ended} sessions were ended");
    let began = Instant::now();
    room.wait_ready(READY).await?;
    ensure!(revision(room).await? == SECOND, "the database is at {}", revision(room).await?);
    Ok(format!("Ready after {:.0} s", began.elapsed().as_secs_f64()))
}

pub(super) async fn no_pod_came_early(room: &Room) -> Result<String> {
    schema_came_first(room).await?;
    Ok(String::new())
}

/// 2.0.0 renames a column: 1.1.0 is kept away from its schema.
pub(super) async fn is_not_additive(room: &Room) -> Result<String> {
    room.change(json!({"images": {"aiService": image("2.0.0")}})).await?;
    wait_for("the new schema", Duration::from_secs(READY), || async {
        Ok((revision(room).await? == "005_breaking").then_some(()))
    })
    .await?;
    room.wait_ready(READY).await?;
    let before = served(room).await?;
    room.change(json!({"images": {"aiService": image("1.1.0")}})).await?;
    let stalled = room.wait("Stalled", "True", "SchemaNewerThanImage", 120).await?;
    names(&stalled, &["005_breaking is not known to leave older images working", "migrations.backwardCompatible"])?;
    answers(room).await?;
    // Those of before may still go.
    let now = served(room).await?;
    ensure!(now.iter().all(|pod| before.contains(pod)), "pods were {before:?}, now {now:?}");
    Ok(stalled.message)
}

/// As docs/stack.md has it: the newer pods have the scripts of the way down, and the older image waits.
pub(super) async fn goes_down_by_hand(room: &Room) -> Result<String> {
    room.change(json!({"worker": {"replicas": 0}})).await?;
    let usage = "INSERT INTO rule_usage (rule_id, day) SELECT id, now() FROM automation_rules LIMIT 1";
    room.sql(usage).await?;
    wait_for("the worker to go", Duration::from_mins(2), || async {
        Ok(room.pods_of("worker").await?.is_empty().then_some(()))
    })
    .await?;
    let command = |more: &[&'static str]| [&["/odooai/bin/agent", "downgrade", "--to"], more].concat();
    let plan = room.run("ai-service", &command(&[SECOND])).await?;
    ensure!(plan.contains("005_breaking") && plan.contains("Nothing was changed"), "it says {plan}");
    let further = room.run("ai-service", &command(&[FIRST])).await?;
    ensure!(further.contains("table rule_usage (1 row)"), "it doesn't name the table with a row: {further}");
    let refused = room.run("ai-service", &command(&[FIRST, "--confirm"])).await;
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("rule_usage")), "it loses rows unasked");
    ensure!(revision(room).await? == "005_breaking", "it was changed without --confirm");
    let done = room.run("ai-service", &command(&[SECOND, "--confirm"])).await?;
    ensure!(revision(room).await? == SECOND, "the database is at {}: {done}", revision(room).await?);
    look_again(room).await?;
    room.change(json!({"worker": {"replicas": 1}})).await?;
    room.wait_ready(READY).await?;
    let runs: Vec<_> = super::look::status(room).await?.components.into_iter().filter_map(|part| part.image).collect();
    ensure!(runs.contains(&image("1.1.0")), "it runs {runs:?}");
    Ok(done.lines().last().unwrap_or_default().to_owned())
}

async fn of_target(room: &Room, component: &str) -> Result<Vec<Pod>> {
    let labels = format!("{COMPONENT}={component},odoo-ai.atmatasolutions.com/revision={}", target(room).await?);
    Ok(room.api::<Pod>().list(&ListParams::default().labels(&labels)).await?.items)
}
