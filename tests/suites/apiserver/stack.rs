//! A whole stack, reconciled by the operator's own functions: it settles, and then it costs nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodTemplateSpec, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use odoo_ai_operator::cluster::FIELD_MANAGER;
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use crate::crds::server;
use crate::requests::Requests;
use crate::stage::{Stage, value};

pub(crate) async fn stage(namespace: &str, edit: impl FnOnce(&mut Value)) -> Result<(Stage, Requests)> {
    let server = server().await?;
    let requests = Requests::default();
    let operator = requests.client(server, None).await?;
    Ok((Stage::new(server.client().await?, operator, namespace, edit).await?, requests))
}

/// Everything that a user can set today, with values that the API server rewrites or drops.
fn everything(stack: &mut Value) {
    let pod = |cpu: &str| {
        json!({
            "resources": {"requests": {"cpu": cpu, "memory": "0.25Gi"}, "limits": {"cpu": "2000m", "memory": "1.5Gi", "ephemeralStorage": "2048Mi"}},
            "nodeSelector": {"kubernetes.io/arch": "amd64", "example.com/empty": ""},
            "tolerations": [{"key": "dedicated", "effect": "NoSchedule"}, {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}],
            "security": {"runAsUser": 1234, "fsGroup": 2345},
            "env": [{"name": "OWN", "value": "1"}],
        })
    };
    // The longest name that there is: the names of children and their labels must still fit.
    stack["metadata"]["name"] = json!("a".repeat(40));
    let spec = &mut stack["spec"];
    for (component, cpu) in [("aiService", "0.1"), ("worker", "1000m"), ("beat", "0.05"), ("dashboard", "100m")] {
        spec[component] = pod(cpu);
    }
    spec["aiService"]["replicas"] = json!(2);
    spec["dashboard"]["replicas"] = json!(0);
    spec["worker"]["concurrency"] = json!(2);
    spec["worker"]["queues"] = json!(["webhooks", "celery"]);
    spec["worker"]["terminationGracePeriodSeconds"] = json!(60);
    spec["images"]["pullPolicy"] = json!("Always");
    spec["images"]["pullSecrets"] = json!([{"name": "registry"}]);
    spec["logLevel"] = json!("Debug");
    spec["corsOrigins"] = json!(["https://a.example.com", "https://b.example.com"]);
    spec["ai"]["model"] = json!("claude-sonnet-4-5");
    spec["env"] = json!([
        {"name": "PLAIN", "value": "x=\"y\" $(HOME) 'z'\n"},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "anthropic", "key": "apiKey"}}},
        {"name": "MAPPED", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}},
    ]);
    spec["envFrom"] = json!([{"configMapRef": {"name": "settings"}, "prefix": "S_"}]);
    spec["database"]["managed"] = json!({
        "storage": {"size": "1024Mi", "storageClassName": "fast"}, "parameters": {"max_connections": "100", "work_mem": "8MB"},
        "resources": {"requests": {"cpu": "0.2", "memory": "512Mi"}, "limits": {"memory": "1024Mi"}}, "deletionPolicy": "Delete",
    });
    spec["redis"] = json!({"managed": {"maxMemoryMiB": 100, "resources": {"limits": {"memory": "0.25Gi"}}}});
    spec["ingress"] = json!({
        "api": {"host": "api.example.com"}, "dashboard": {"host": "ai.example.com"}, "tls": {"certResolver": "letsencrypt"},
        "rateLimit": {"averagePerSecond": 50}, "ipAllowList": ["192.0.2.0/24", "2001:db8::/32"],
    });
}

async fn settings(stage: &Stage) -> Result<()> {
    let map = json!({"metadata": {"name": "settings"}, "data": {"a": "1", "b": "2"}});
    stage.api::<ConfigMap>().create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    Ok(())
}

/// Settled: neither this operator nor one that has just started writes anything, statuses included.
pub(crate) async fn costs_nothing(stage: &mut Stage, requests: &Requests) -> Result<()> {
    let before = versions(stage).await?;
    for start in 0..3 {
        if start > 0 {
            stage.restart()?;
        }
        // Of the first one, what was still under way may be told.
        for round in 0..3 {
            requests.take();
            stage.reconcile().await?;
            let writes = requests.writes();
            assert!(writes.is_empty() || (start, round) == (0, 0), "start {start}, round {round}: {writes:#?}");
        }
    }
    let after = versions(stage).await?;
    let moved: Vec<_> = after.difference(&before).filter(|line| !line.starts_with("OdooAiStack")).collect();
    assert!(moved.is_empty(), "{moved:?}");
    Ok(())
}

async fn versions(stage: &Stage) -> Result<BTreeSet<String>> {
    let mut versions = BTreeSet::new();
    for child in stage.children().await? {
        let kind = child.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
        versions.insert(format!("{kind} {} {}", child.name_any(), child.resource_version().unwrap_or_default()));
    }
    versions.insert(format!("OdooAiStack {}", stage.stack().await?.resource_version().unwrap_or_default()));
    Ok(versions)
}

/// Every kind that is meant to be there is there, written by us alone and without a warning. The stack with
/// everything has budgets, and routes.
async fn all_kinds_are_ours(stage: &Stage, requests: &Requests, budgets: usize) -> Result<()> {
    let children = stage.children().await?;
    let kinds: BTreeSet<_> = children.iter().filter_map(|child| Some(child.types.as_ref()?.kind.as_str())).collect();
    let found = stage.ours::<PodDisruptionBudget>().await?;
    assert_eq!(found.len(), budgets);
    let wanted = [
        "ControllerRevision",
        "Deployment",
        "Job",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "Pod",
        "Secret",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    ];
    let sometimes: &[&str] = if budgets > 0 { &["PodDisruptionBudget", "IngressRoute", "Middleware"] } else { &[] };
    assert_eq!(kinds, wanted.into_iter().chain(sometimes.iter().copied()).collect());
    for child in children.iter().filter(|child| child.types.as_ref().is_some_and(|types| types.kind != "Pod")) {
        for entry in child.managed_fields().iter().filter(|entry| entry.subresource.is_none()) {
            assert_eq!(entry.manager.as_deref(), Some(FIELD_MANAGER), "{}", child.name_any());
        }
    }
    assert_eq!(requests.warnings(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn the_local_sample_settles_and_then_costs_nothing() -> Result<()> {
    let (mut stage, requests) = stage("sample", |_| {}).await?;
    stage.run_to_the_end().await?;
    all_kinds_are_ours(&stage, &requests, 0).await?;
    costs_nothing(&mut stage, &requests).await?;
    let status = stage.stack().await?.status.context("a status")?;
    assert_eq!(status.history.len(), 1);
    for kind in ["Available", "DatabaseReady", "RedisReady", "Migrated"] {
        assert!(stage.condition(kind).await?.starts_with("True"), "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stack_with_everything_settles_and_then_costs_nothing() -> Result<()> {
    let (mut stage, requests) = stage("everything", everything).await?;
    settings(&stage).await?;
    stage.run_to_the_end().await?;
    all_kinds_are_ours(&stage, &requests, 1).await?;
    costs_nothing(&mut stage, &requests).await
}

/// The same with the controller's own watches and triggers: they must not wake it for nothing.
#[tokio::test]
async fn the_controller_comes_to_rest() -> Result<()> {
    let (stage, requests) = stage("rest", |_| {}).await?;
    let controller = stage.control()?;
    stage.until_ready().await?;
    let mut sent = Vec::new();
    let mut before = BTreeSet::new();
    for _ in 0..5 {
        requests.take();
        before = versions(&stage).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        sent = requests.take();
        if sent.is_empty() {
            break;
        }
    }
    assert_eq!(sent, Vec::<String>::new(), "a settled stack is left alone between two looks");
    assert_eq!(versions(&stage).await?, before);
    // It is awake all the same.
    stage.edit(&json!({"worker": {"replicas": 2}})).await?;
    stage.until_ready().await?;
    assert_eq!(requests.writes().iter().filter(|line| line.contains("deployments")).count(), 1);
    // Of the user's Secrets only the metadata are watched, and that wakes it, too.
    let key = Patch::Merge(json!({"stringData": {"apiKey": "another"}}));
    stage.api::<Secret>().patch("anthropic", &PatchParams::default(), &key).await?;
    wait_for("a revision with the new key", Duration::from_secs(10), || async {
        Ok((stage.stack().await?.status.unwrap_or_default().history.len() == 2).then_some(()))
    })
    .await?;
    stage.until_ready().await?;
    controller.abort();
    Ok(())
}

#[tokio::test]
async fn a_change_is_rolled_out_and_then_costs_nothing() -> Result<()> {
    let (mut stage, requests) = stage("change", |_| {}).await?;
    stage.run_to_the_end().await?;
    stage.edit(&json!({"logLevel": "Debug", "worker": {"replicas": 3}})).await?;
    stage.run_to_the_end().await?;
    assert_eq!(stage.stack().await?.status.context("a status")?.history.len(), 2);
    costs_nothing(&mut stage, &requests).await
}

#[tokio::test]
async fn drift_is_put_back_by_one_write_and_what_others_add_stays() -> Result<()> {
    let (stage, requests) = stage("astray", |_| {}).await?;
    stage.run_to_the_end().await?;
    stage.reconcile().await?;
    let worker = format!("{}-worker", stage.name);
    let container = json!({"name": "worker", "image": "evil:1", "env": [{"name": "THEIRS", "value": "x"}]});
    let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}, "metadata": {"annotations": {"note": "x"}}});
    stage.api::<Deployment>().patch(&worker, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    stage.perform().await?;
    requests.take();
    stage.reconcile().await?;
    let patches: Vec<_> = requests.writes().into_iter().filter(|line| line.starts_with("patch")).collect();
    assert_eq!(patches, [format!("patch deployments {worker}")]);
    stage.perform().await?;
    stage.reconcile().await?;
    requests.take();
    stage.reconcile().await?;
    assert_eq!(requests.writes(), Vec::<String>::new());
    let now = value(&stage.api::<Deployment>().get(&worker).await?);
    let container = &now["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "odoo-ai-platform/ai-service:1.0.0");
    let theirs = |env: &Value| env["name"] == "THEIRS";
    assert!(container["env"].as_array().is_some_and(|env| env.iter().any(theirs)), "{container:#}");
    assert_eq!(now["metadata"]["annotations"]["note"], "x");
    Ok(())
}

fn templates<K>(workloads: Vec<K>, template: impl Fn(K) -> Option<PodTemplateSpec>) -> Vec<PodTemplateSpec> {
    workloads.into_iter().filter_map(template).collect()
}

/// A Deployment is only warned of: what the standard refuses are pods.
#[tokio::test]
async fn pods_of_all_templates_pass_the_restricted_standard() -> Result<()> {
    for (namespace, edit) in [("pods-local", (|_| {}) as fn(&mut Value)), ("pods-all", everything)] {
        let (stage, requests) = stage(namespace, edit).await?;
        settings(&stage).await?;
        stage.run_to_the_end().await?;
        let mut all = templates(stage.ours().await?, |deployment: Deployment| Some(deployment.spec?.template));
        all.extend(templates(stage.ours().await?, |set: StatefulSet| Some(set.spec?.template)));
        all.extend(templates(stage.ours().await?, |job: Job| Some(job.spec?.template)));
        assert_eq!(all.len(), 7, "PostgreSQL, Redis, the Job and four components");
        let pods: kube::Api<Pod> = kube::Api::namespaced(requests.client(server().await?, None).await?, namespace);
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        for template in all {
            let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
            pod.metadata.generate_name = Some("try-".to_owned());
            let component = pod.labels().get(odoo_ai_operator::labels::COMPONENT).cloned().context("a component")?;
            pods.create(&dry, &pod).await.with_context(|| component.clone())?;
            let spec = pod.spec.as_mut().context("a spec")?;
            spec.containers[0].security_context.get_or_insert_default().allow_privilege_escalation = Some(true);
            let error = pods.create(&dry, &pod).await.err().context("privileges were let through")?;
            assert!(error.to_string().contains("allowPrivilegeEscalation"), "{component}: {error}");
        }
        assert_eq!(requests.warnings(), Vec::<String>::new());
    }
    Ok(())
}
