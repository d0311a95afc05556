//! The first install: in which order it comes up.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use odoo_ai_tests::wait_for;
use serde_json::Value;

use crate::ready;
use crate::record::{Order, Recorder, Seen};
use crate::room::{COMPONENT, LABEL, Room, sample};

/// What Odoo sends while the install goes on. One event only: the application's children answer each
/// other's questions in a first burst (docs/traps.md), and a rule that is off would act.
const EARLY: &str = "stock.picking";
/// Odoo's models whose events lead to automations, each of another type.
const MODELS: [&str; 4] = ["sale.order", "account.move", "purchase.order", "crm.lead"];
/// The application loses some: it queues an event before its row is committed.
const ATTEMPTS: i32 = 6;
/// Apply → Ready; two at once on two cores take longer than one.
const READY: u64 = 300;

/// Applies the local sample and waits until it is Ready; the remark says how long that took.
pub(crate) async fn comes_up(room: &Room, recorder: &Recorder) -> Result<String> {
    let began = Instant::now();
    room.apply(&sample("local.yaml")?).await?;
    let seen_off = rules_when_the_worker_is_created(room, recorder);
    let early = an_event_before_the_worker(room, recorder);
    let (ready, rules, early) = tokio::join!(room.wait_ready(READY), seen_off, early);
    let took = began.elapsed().as_secs_f64();
    if let (Err(ready), Err(rules)) = (&ready, &rules) {
        anyhow::bail!("{ready:#}; rules: {rules:#}");
    }
    ready?;
    rules?;
    early?;
    Ok(format!("apply → Ready {took:.1} s"))
}

/// As soon as the worker's Deployment is there: its pods take seconds from then on.
async fn rules_when_the_worker_is_created(room: &Room, recorder: &Recorder) -> Result<()> {
    let limit = Duration::from_secs(READY);
    recorder.first("the worker to be created", limit, |seen| seen.is("Deployment", "worker")).await?;
    let enabled = wait_for("the API to tell its rules", Duration::from_secs(10), || async {
        Ok(Some(enabled(&room.rules().await?)))
    });
    let enabled = enabled.await?;
    ensure!(enabled.is_empty(), "when the worker was created, these rules were enabled: {enabled:?}");
    Ok(())
}

/// Odoo doesn't wait for the end of an install: what it sends meanwhile is queued for the worker.
async fn an_event_before_the_worker(room: &Room, recorder: &Recorder) -> Result<()> {
    let serves = |seen: &Seen| seen.is("Pod", "ai-service") && seen.has("Ready", "True");
    recorder.first("ai-service to serve", Duration::from_secs(READY), serves).await?;
    // The Service follows a moment later.
    let sent = wait_for("an event to be taken", Duration::from_secs(10), || async {
        Ok(Some(ready::send_event(room, EARLY).await?))
    });
    sent.await?;
    Ok(())
}

/// Counts what ran: an event whose type has an enabled rule leaves an audit row, and all rules are off.
/// Where nobody has enabled one yet.
pub(crate) async fn no_task_ran(room: &Room) -> Result<String> {
    let mut lost = 0;
    for model in MODELS {
        let mut done = false;
        for _ in 0..ATTEMPTS {
            let id = ready::send_event(room, model).await?;
            done = ready::processed(room, id).await?;
            lost += i32::from(!done);
            if done {
                break;
            }
        }
        ensure!(done, "{ATTEMPTS} events of {model} in a row got lost");
    }
    let early = format!("SELECT count(*) FROM webhook_events WHERE processed AND odoo_model = '{EARLY}'");
    let early = room.sql(&early).await?;
    let ran = room.sql("SELECT automation_type, action_name, odoo_model FROM audit_logs").await?;
    ensure!(ran.is_empty(), "rules that nobody enabled acted: {ran}");
    let when = if early == "1" { "and one" } else { "none" };
    Ok(format!("{} events {when} from before the worker were processed, {lost} lost, no task ran", MODELS.len()))
}

/// The names of the rules that are on.
pub(crate) fn enabled(rules: &[Value]) -> Vec<String> {
    let enabled = rules.iter().filter(|rule| rule["enabled"] != false);
    enabled.map(|rule| rule["name"].as_str().unwrap_or("a rule without a name").to_owned()).collect()
}

/// Each step of the first install began when the one before it was done, by the store's own order.
pub(crate) async fn came_in_order(recorder: &Recorder) -> Result<String> {
    let created = |kind: &'static str, component: &'static str| move |seen: &Seen| seen.is(kind, component);
    let ready = |component: &'static str| move |seen: &Seen| seen.is("Pod", component) && seen.has("Ready", "True");
    let serves =
        |kind: &'static str, component: &'static str| move |seen: &Seen| seen.is(kind, component) && seen.available();
    let mut order = Order::default();
    let applied = recorder.past("the stack", |seen| seen.kind == "OdooAiStack").await?;
    order.then("stack", applied.clone());
    order.then("PostgreSQL created", recorder.past("PostgreSQL", created("StatefulSet", "postgresql")).await?);
    order.then("Redis created", recorder.past("Redis", created("StatefulSet", "redis")).await?);
    order.then("migrate Job created", recorder.past("the migrate Job", created("Job", "migrate")).await?);
    let finished = |seen: &Seen| seen.is("Job", "migrate") && seen.has("Complete", "True");
    order.then("migrate Job done", recorder.past("the end of the migrate Job", finished).await?);
    order.then("first ai-service pod", recorder.past("an ai-service pod", created("Pod", "ai-service")).await?);
    order.then("ai-service serves", recorder.past("ai-service", serves("Deployment", "ai-service")).await?);
    let off = |seen: &Seen| seen.object["status"]["rules"]["seededDisabled"] == true;
    order.then("rules off", recorder.past("the rules to be off", off).await?);
    order.then("worker created", recorder.past("the worker", created("Deployment", "worker")).await?);
    order.then("worker serves", recorder.past("the worker", serves("Deployment", "worker")).await?);
    order.then("beat created", recorder.past("beat", created("StatefulSet", "beat")).await?);
    order.then("beat runs", recorder.past("beat", serves("StatefulSet", "beat")).await?);
    order.then("dashboard created", recorder.past("the dashboard", created("Deployment", "dashboard")).await?);
    order.then("dashboard serves", recorder.past("the dashboard", serves("Deployment", "dashboard")).await?);
    let settled = |seen: &Seen| seen.kind == "OdooAiStack" && seen.has("Ready", "True");
    order.then("Ready", recorder.past("the stack to be Ready", settled).await?);
    let times = order.check(applied.at)?;

    // Both servers are there before anything that needs them.
    for server in ["postgresql", "redis"] {
        let mut order = Order::default();
        order.then("server ready", recorder.past(server, ready(server)).await?);
        order.then("migrate Job created", recorder.past("the migrate Job", created("Job", "migrate")).await?);
        order.check(applied.at)?;
    }
    Ok(times)
}

/// Nothing crashed or was started twice on the way.
pub(crate) async fn without_a_stumble(room: &Room, recorder: &Recorder) -> Result<String> {
    let mut stumbles = String::new();
    for pod in room.list::<k8s_openapi::api::core::v1::Pod>().await? {
        let status = pod.status.unwrap_or_default();
        let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        for container in all.filter(|container| container.restart_count > 0) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            write!(stumbles, "{name}/{} restarted {} times; ", container.name, container.restart_count)?;
        }
    }
    let pods = recorder.all(|seen| seen.kind == "Pod" && !seen.label(LABEL).is_empty());
    for component in ["postgresql", "redis", "migrate", "ai-service", "worker", "beat", "dashboard"] {
        let mut uids: Vec<&str> =
            pods.iter().filter(|seen| seen.label(COMPONENT) == component).map(Seen::uid).collect();
        uids.sort_unstable();
        uids.dedup();
        if uids.len() != 1 {
            write!(stumbles, "{component} had {} pods; ", uids.len())?;
        }
    }
    ensure!(stumbles.is_empty(), "{stumbles}");
    Ok(String::new())
}
