//! Causes that come and go: what keeps a volume, read from Events, and what the agents say.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::api::events::v1::Event as News;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use crate::stack::stage;
use crate::stage::Stage;

const CLAIM: &str = "odoo-ai-postgresql";
/// How soon a person must read what the cluster knows.
const SOON: Duration = Duration::from_secs(10);

/// What the volume controller and a provisioner say of the claim.
async fn say(stage: &Stage, name: &str, kind: &str, message: &str, time: &str) -> Result<()> {
    let claim = stage.api::<PersistentVolumeClaim>().get(CLAIM).await?;
    let about =
        json!({"kind": "PersistentVolumeClaim", "name": CLAIM, "namespace": stage.namespace, "uid": claim.uid()});
    let event = json!({
        "metadata": {"name": name}, "involvedObject": about, "type": kind, "reason": "Provisioning",
        "message": message, "firstTimestamp": time, "lastTimestamp": time,
    });
    stage.api::<Event>().create(&PostParams::default(), &serde_json::from_value(event)?).await?;
    Ok(())
}

fn refused(words: &str) -> Value {
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words});
    json!({"phase": "Pending", "conditions": [condition]})
}

#[tokio::test]
async fn a_missing_storage_class_is_read_from_events_and_clears() -> Result<()> {
    let (stage, requests) =
        stage("class", |stack| stack["spec"]["database"]["managed"]["storage"]["storageClassName"] = json!("nope"))
            .await?;
    for _ in 0..4 {
        stage.reconcile().await?;
    }
    let template = stage.api::<StatefulSet>().get(CLAIM).await?.spec.context("a spec")?.template;
    let unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
    let pod = stage.pod("odoo-ai-postgresql-0", template, &refused(unbound)).await?;
    stage.reconcile().await?;
    assert!(stage.condition("DatabaseReady").await?.starts_with("False PodNotReady"), "nobody has said anything");
    let missing = "storageclass.storage.k8s.io \"nope\" not found";
    say(&stage, "a", "Warning", missing, "2026-01-01T00:00:00Z").await?;
    stage.reconcile().await?;
    for kind in ["Ready", "DatabaseReady"] {
        let found = stage.condition(kind).await?;
        assert!(found.starts_with("False StorageClassMissing") && found.contains("StorageClass nope"), "{found}");
    }
    // Somebody makes the class, and its provisioner takes over.
    say(&stage, "b", "Warning", "failed to provision volume: no space", "2026-01-01T00:01:00Z").await?;
    stage.reconcile().await?;
    let found = stage.condition("DatabaseReady").await?;
    assert!(found.starts_with("False VolumePending") && found.contains("no space"), "{found}");
    let claim = stage.api::<PersistentVolumeClaim>().get(CLAIM).await?;
    stage.status(&claim, &json!({"phase": "Bound"})).await?;
    stage.reconcile().await?;
    assert!(stage.condition("DatabaseReady").await?.starts_with("False PodNotReady"));
    stage.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    stage.run_to_the_end().await?;
    requests.take();
    stage.reconcile().await?;
    let sent = requests.take();
    assert!(!sent.iter().any(|sent| sent.contains("events") || sent.contains("persistentvolumeclaims")), "{sent:?}");
    Ok(())
}

/// `agent serve` about a queue and its webhooks.
fn answer(length: u64, seconds: u64) -> Value {
    let well = json!({"reachable": true, "message": ""});
    json!({
        "version": 1, "database": well, "redis": well, "application": well,
        "odoo": {"state": "Reachable", "message": ""},
        "queues": [{"name": "celery", "length": length, "unconsumedSeconds": seconds}],
        "webhooks": {"unprocessed": 0},
    })
}

async fn until(stage: &Stage, kind: &str, wanted: &str) -> Result<Duration> {
    let begun = Instant::now();
    wait_for(&format!("{kind} {wanted}"), SOON, || async {
        Ok(stage.condition(kind).await?.starts_with(wanted).then_some(()))
    })
    .await?;
    Ok(begun.elapsed())
}

#[tokio::test]
async fn what_an_agent_says_is_read_in_time_and_costs_nothing_while_it_is_the_same() -> Result<()> {
    let (stage, requests) = stage("agents", |_| {}).await?;
    let say = |answer: Value| *stage.agent.lock().expect("nobody panicked") = answer;
    say(answer(0, 0));
    let controller = stage.control()?;
    stage.until_ready().await?;
    let template = stage.api::<Deployment>().get("odoo-ai-ai-service").await?.spec.context("a spec")?.template;
    let running = json!({"phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}]});
    stage.pod("odoo-ai-ai-service-x", template, &running).await?;
    until(&stage, "QueuesConsumed", "True Consumed").await?;
    let mut times = Vec::new();
    for _ in 0..2 {
        say(answer(12, 400));
        times.push(until(&stage, "QueuesConsumed", "False QueueNotConsumed").await?);
        // It grows older and longer, and nobody is told again.
        tokio::time::sleep(Duration::from_secs(1)).await;
        requests.take();
        for second in 0..7 {
            say(answer(12 + second, 400 + second));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(requests.take(), Vec::<String>::new());
        say(answer(0, 0));
        times.push(until(&stage, "QueuesConsumed", "True Consumed").await?);
    }
    assert!(times.iter().all(|time| *time < SOON), "{times:?}");
    controller.abort();
    let events = stage.api::<News>().list(&ListParams::default()).await?;
    let told = |reason: &str| -> i32 {
        let of_reason = events.iter().filter(|event| event.reason.as_deref() == Some(reason));
        of_reason.map(|event| event.series.as_ref().map_or(1, |series| series.count)).sum()
    };
    assert_eq!((told("QueueNotConsumed"), told("Consumed")), (2, 2));
    println!("seen after {times:?}");
    Ok(())
}
