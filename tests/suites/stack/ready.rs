//! A stack that is Ready: what it shows and what it does.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use odoo_ai_tests::{Cluster, kubectl, service_get, wait_for};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::install::enabled;
use crate::room::{Room, STACK, condition, summary};

/// The application seeds so many.
const RULES: usize = 45;
/// The application itself loses some: it queues an event before its row is committed.
const ATTEMPTS: i32 = 6;

/// The columns that `kubectl get odooaistack` prints.
pub(crate) async fn columns(room: &Room, cluster: &Cluster) -> Result<String> {
    let revision = room.stack().await?.status.and_then(|status| status.current_revision).context("no revision")?;
    let url = format!("http://{STACK}-dashboard.{}.svc:3000", room.ns);
    let plain = get(room, cluster, &[]).await?;
    for (column, wanted) in [("READY", "True"), ("REASON", "Settled"), ("REVISION", &revision), ("URL", &url)] {
        let found = cell(&plain, column)?;
        ensure!(found == wanted, "column {column} says {found:?}, not {wanted:?}:\n{plain}");
    }
    let age = cell(&plain, "AGE")?;
    ensure!(age.ends_with('s') || age.ends_with('m'), "column AGE says {age:?}");
    let wide = get(room, cluster, &["-o", "wide"]).await?;
    let images = ("odoo-ai-platform/ai-service:1.0.0", "odoo-ai-platform/dashboard:1.0.0");
    for (column, wanted) in [("AI-SERVICE", images.0), ("DASHBOARD", images.1), ("SCHEMA", "003_phase2_tables")] {
        let found = cell(&wide, column)?;
        ensure!(found == wanted, "column {column} says {found:?}, not {wanted:?}:\n{wide}");
    }
    ensure!(wide.contains(&format!("revision {revision} runs")), "no message:\n{wide}");
    Ok(String::new())
}

async fn get(room: &Room, cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let output = Command::new(kubectl()?)
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        // The short name, as a person types it.
        .args(["get", "oas", STACK, "--namespace", &room.ns])
        .args(arguments)
        .output()
        .await?;
    ensure!(output.status.success(), "kubectl get: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What stands below a column's head.
fn cell<'a>(table: &'a str, column: &str) -> Result<&'a str> {
    let mut lines = table.lines();
    let (head, row) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let starts = head.match_indices(column).find(|(at, _)| *at == 0 || head.as_bytes()[at - 1] == b' ');
    let (start, _) = starts.with_context(|| format!("there is no column {column}:\n{table}"))?;
    Ok(row.get(start..).unwrap_or_default().split("  ").next().unwrap_or_default().trim())
}

/// What kstatus and people read.
pub(crate) async fn conditions(room: &Room) -> Result<String> {
    let stack = room.stack().await?;
    let generation = stack.metadata.generation;
    let status = stack.status.as_ref().context("no status")?;
    ensure!(status.observed_generation == generation, "observedGeneration is {:?}", status.observed_generation);
    let wanted = [
        ("Ready", "True"),
        ("Available", "True"),
        ("Reconciling", "False"),
        ("Stalled", "False"),
        ("DatabaseReady", "True"),
        ("RedisReady", "True"),
        ("Migrated", "True"),
        ("AwaitingApproval", "False"),
    ];
    for (kind, state) in wanted {
        let found = condition(&stack, kind).with_context(|| format!("no condition {kind}"))?;
        ensure!(found.status == state, "{kind} is {}: {}", found.status, summary(&stack));
        ensure!(found.observed_generation == generation, "{kind} is of generation {:?}", found.observed_generation);
    }
    ensure!(status.rollout.is_none() && status.failed_revision.is_none(), "a rollout is left: {:?}", status.rollout);
    ensure!(status.current_revision == status.update_revision, "the revisions differ");
    for part in &status.components {
        ensure!(part.ready == 1 && part.desired == 1, "{:?} has {} of {} pods", part.name, part.ready, part.desired);
        ensure!(part.image_id.as_deref().is_some_and(|id| !id.is_empty()), "{:?} has no imageID", part.name);
    }
    ensure!(status.components.len() == 6, "{} components", status.components.len());
    Ok(String::new())
}

/// Odoo's state takes a minute at most: the operator asks the agents that often.
pub(crate) async fn odoo_reachable(room: &Room) -> Result<String> {
    room.wait("OdooReachable", "True", "Reachable", 90).await?;
    Ok(String::new())
}

pub(crate) async fn rules_off(room: &Room) -> Result<String> {
    let rules = room.rules().await?;
    ensure!(rules.len() == RULES, "there are {} rules", rules.len());
    let enabled = enabled(&rules);
    ensure!(enabled.is_empty(), "enabled: {enabled:?}");
    Ok(format!("{RULES} rules, all off"))
}

/// The API knows the generated key and no other.
pub(crate) async fn key_is_asked_for(room: &Room) -> Result<String> {
    for key in [None, Some("wrong"), Some("")] {
        let (status, body) = room.ask("GET", "/api/rules", key, None).await?;
        // The API server may refuse too, but not in these words.
        ensure!(status == 401 && body.contains("Invalid or missing API key"), "with {key:?}: {status} {body}");
    }
    let key = room.secret(&format!("{STACK}-app-secrets"), "AI_SECRET_KEY").await?;
    let (status, body) = room.ask("GET", "/api/stats", Some(&key), None).await?;
    ensure!(status == 200 && body.contains("total_automations"), "with the generated key: {status} {body}");
    let (status, body) = room.ask("POST", "/webhooks/odoo", None, Some(&event("crm.lead"))).await?;
    ensure!(status == 401 && body.contains("signature"), "a webhook without signature: {status} {body}");
    Ok(String::new())
}

pub(crate) async fn dashboard_answers(room: &Room) -> Result<String> {
    let page = service_get(&room.client, &room.ns, &format!("{STACK}-dashboard"), "http", "/").await?;
    ensure!(page.to_lowercase().contains("<html"), "the dashboard said {page}");
    Ok(String::new())
}

fn event(model: &str) -> Value {
    // Sure enough to be proposed, not sure enough to be executed by itself.
    json!({"event_type": "write", "model": model, "record_id": 7, "values": {"confidence": 0.9}})
}

/// Signed inside the pod, so that the secret goes nowhere.
const SEND: &str = r#"
import hashlib, hmac, os, sys, urllib.request
body = sys.argv[2].encode()
signature = hmac.new(os.environ["WEBHOOK_SECRET"].encode(), body, hashlib.sha256).hexdigest()
headers = {"Content-Type": "application/json", "X-Webhook-Signature": signature}
with urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, headers), timeout=10) as answer:
    print(answer.read().decode())
"#;

/// A signed event, through the Service; gives its id.
pub(crate) async fn send_event(room: &Room, model: &str) -> Result<i64> {
    send(room, &event(model)).await
}

/// The same with a body of the caller's.
pub(crate) async fn send(room: &Room, event: &Value) -> Result<i64> {
    let url = format!("http://{STACK}-ai-service:8000/webhooks/odoo");
    let answer = room.run("ai-service", &["python", "-c", SEND, &url, &event.to_string()]).await?;
    let answer: Value = serde_json::from_str(&answer).with_context(|| format!("the webhook was answered {answer}"))?;
    answer["event_id"].as_i64().with_context(|| format!("the webhook was answered {answer}"))
}

/// Whether the worker takes this event up; false is the application's own loss.
pub(crate) async fn processed(room: &Room, event: i64) -> Result<bool> {
    let query = format!("SELECT processed FROM webhook_events WHERE id = {event}");
    let done = wait_for("the event to be processed", Duration::from_secs(6), || async {
        Ok((room.sql(&query).await? == "t").then_some(()))
    });
    Ok(done.await.is_ok())
}

/// An event goes through Redis to the worker and leaves an audit row, and what a person approves
/// goes through the queue `celery`, which nothing names.
pub(crate) async fn queue_works(room: &Room) -> Result<String> {
    let mut lost = 0;
    for _ in 0..ATTEMPTS {
        let id = send_event(room, "crm.lead").await?;
        if !processed(room, id).await? {
            lost += 1;
            continue;
        }
        let rows = room.sql("SELECT id FROM audit_logs WHERE status = 'PENDING' ORDER BY id DESC").await?;
        let row: i64 = rows.lines().next().context("the event was processed and left no audit row")?.parse()?;
        let approval = json!({"audit_log_id": row, "approved": true, "approved_by": "suite"});
        room.call("POST", "/api/approve", Some(&approval)).await?;
        let executed = wait_for("the approved action to be executed", Duration::from_secs(6), || async {
            let status = room.sql(&format!("SELECT status FROM audit_logs WHERE id = {row}")).await?;
            Ok((status == "EXECUTED").then_some(()))
        });
        if executed.await.is_ok() {
            let left = room.sql("SELECT count(*) FROM webhook_events WHERE NOT processed").await?;
            return Ok(format!("the application dropped {lost} of its own, {left} unprocessed"));
        }
        lost += 1;
    }
    anyhow::bail!("{lost} events in a row got lost")
}

/// A rule that a person enables by hand: the operator leaves it alone.
pub(crate) async fn enable_a_rule(room: &Room) -> Result<String> {
    let rules = room.rules().await?;
    let wanted = |rule: &&Value| rule["action_name"] == "duplicate_check";
    let mut rule = rules.iter().find(wanted).context("there is no duplicate_check")?.clone();
    let id = rule["id"].as_i64().context("a rule has no id")?;
    rule["enabled"] = json!(true);
    room.call("PUT", &format!("/api/rules/{id}"), Some(&rule)).await?;
    Ok(String::new())
}
