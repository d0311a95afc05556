//! Causes that come and go: what keeps a volume, read from Events, and what the agents say.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::api::events::v1::Event as News;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Resource, ResourceExt};
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use crate::stack::stage;
use crate::stage::Stage;

const CLAIM: &str = "odoo-ai-postgresql";
/// How soon a person must read what the cluster knows.
const SOON: Duration = Duration::from_secs(10);

/// What a controller says of an object, in the second of that number.
async fn say<K>(stage: &Stage, about: &K, reason: &str, message: &str, second: u8) -> Result<()>
where
    K: Resource<DynamicType = ()>,
{
    let time = format!("2026-01-01T00:00:{second:02}Z");
    let kind = if reason.starts_with("Successful") { "Normal" } else { "Warning" };
    let event = json!({
        "metadata": {"name": format!("{}-{second}", about.name_any())}, "involvedObject": about.object_ref(&()),
        "type": kind, "reason": reason, "message": message, "firstTimestamp": time, "lastTimestamp": time,
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
    let claim = stage.api::<PersistentVolumeClaim>().get(CLAIM).await?;
    say(&stage, &claim, "ProvisioningFailed", "storageclass.storage.k8s.io \"nope\" not found", 1).await?;
    stage.reconcile().await?;
    for kind in ["Ready", "DatabaseReady"] {
        let found = stage.condition(kind).await?;
        assert!(found.starts_with("False StorageClassMissing") && found.contains("StorageClass nope"), "{found}");
    }
    // Somebody makes the class, and its provisioner takes over.
    say(&stage, &claim, "ProvisioningFailed", "failed to provision volume: no space", 2).await?;
    stage.reconcile().await?;
    let found = stage.condition("DatabaseReady").await?;
    assert!(found.starts_with("False VolumePending") && found.contains("no space"), "{found}");
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

#[tokio::test]
async fn a_pod_that_was_refused_or_cant_mount_is_read_from_events_and_clears() -> Result<()> {
    let (stage, _) = stage("mount", |_| {}).await?;
    for _ in 0..4 {
        stage.reconcile().await?;
    }
    let set = stage.api::<StatefulSet>().get(CLAIM).await?;
    stage.status(&set, &json!({"observedGeneration": set.metadata.generation, "replicas": 0})).await?;
    let quota = "create Pod odoo-ai-postgresql-0 failed error: is forbidden: exceeded quota: small";
    say(&stage, &set, "FailedCreate", quota, 1).await?;
    stage.reconcile().await?;
    for kind in ["Ready", "DatabaseReady"] {
        let found = stage.condition(kind).await?;
        assert!(found.starts_with("False Forbidden") && found.contains(quota), "{found}");
    }
    say(&stage, &set, "SuccessfulCreate", "create Pod odoo-ai-postgresql-0 successful", 2).await?;
    stage.reconcile().await?;
    assert!(stage.condition("DatabaseReady").await?.starts_with("False PodNotReady"));
    let creating = json!({"name": "postgresql", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ContainerCreating"}}});
    let status = json!({"phase": "Pending", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [creating]});
    let template = set.spec.context("a spec")?.template;
    let pod = stage.pod("odoo-ai-postgresql-0", template, &status).await?;
    let words = "MountVolume.SetUp failed for volume \"database-admin\" : secret \"x\" not found";
    say(&stage, &pod, "FailedMount", words, 3).await?;
    stage.reconcile().await?;
    let found = stage.condition("DatabaseReady").await?;
    assert!(found.starts_with("False ContainerNotCreated") && found.contains(words), "{found}");
    stage.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    stage.run_to_the_end().await
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
    // An Event follows its status.
    tokio::time::sleep(Duration::from_secs(2)).await;
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
