//! What somebody would do without an operator: the same objects by hand, in the same order, each
//! step waited for by a watch, as `kubectl rollout status` does it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, ResourceExt};
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use crate::room::{COMPONENT, LABEL, Room, STACK};

/// Longest time of one step.
const STEP: Duration = Duration::from_mins(5);

/// A child as the operator made it, without what belongs to that place and time.
pub(crate) struct Child {
    resource: ApiResource,
    name: String,
    component: String,
    object: Value,
}

/// Everything that the operator made in `room`, in the order in which the script applies it.
pub(crate) async fn children(room: &Room) -> Result<Vec<Child>> {
    let mut all = Vec::new();
    // As the operator does it: what servers need, servers, the Job, templates, workloads.
    for resource in [
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<ControllerRevision>(&()),
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<Deployment>(&()),
    ] {
        let api: Api<DynamicObject> = Api::namespaced_with(room.client.clone(), &room.ns, &resource);
        let found = api.list(&ListParams::default().labels(LABEL)).await?;
        // A StatefulSet's controller makes revisions of its own.
        let ours = |child: &&DynamicObject| child.owner_references().iter().all(|owner| owner.kind != "StatefulSet");
        for child in found.iter().filter(ours) {
            let (name, component) = (child.name_any(), child.labels().get(COMPONENT).cloned().unwrap_or_default());
            let object = cleaned(&resource, &room.ns, child)?;
            all.push(Child { resource: resource.clone(), name, component, object });
        }
    }
    ensure!(all.iter().any(|child| child.resource.kind == "Job"), "the migrate Job is gone already");
    Ok(all)
}

fn cleaned(resource: &ApiResource, namespace: &str, child: &DynamicObject) -> Result<Value> {
    let mut object = serde_json::to_value(child)?;
    object["apiVersion"] = json!(resource.api_version);
    object["kind"] = json!(resource.kind);
    let mut object = without_its_place(&object)?;
    object["metadata"]["namespace"] = json!(namespace);
    Ok(object)
}

/// An object without what the API server and controllers gave it.
pub(crate) fn without_its_place(object: &Value) -> Result<Value> {
    let mut object = object.clone();
    let metadata = &object["metadata"];
    object["metadata"] = json!({"name": metadata["name"], "labels": metadata["labels"]});
    object.as_object_mut().context("an object")?.remove("status");
    let kind = object["kind"].as_str().unwrap_or("Job").to_owned();
    let mut remove = |path: &str, field: &str| {
        if let Some(Value::Object(parent)) = object.pointer_mut(path) {
            parent.remove(field);
        }
    };
    match kind.as_str() {
        "Service" => {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                remove("/spec", field);
            }
        }
        "PersistentVolumeClaim" => remove("/spec", "volumeName"),
        "Job" => {
            remove("/spec", "selector");
            for label in
                ["controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name"]
            {
                remove("/metadata/labels", label);
                remove("/spec/template/metadata/labels", label);
            }
        }
        _ => {}
    }
    Ok(object)
}

/// Applies all of it in `room` and waits as the operator's gates do. The seconds that it took.
pub(crate) async fn run(room: &Room, user: &[Value], children: &[Child], from: &str) -> Result<f64> {
    let began = Instant::now();
    room.apply(user).await?;
    let (steps, foundation): (Vec<&Child>, Vec<&Child>) =
        children.iter().partition(|child| ["StatefulSet", "Job", "Deployment"].contains(&child.resource.kind.as_str()));
    for child in foundation {
        apply(room, child, from).await?;
    }
    let step = |component: &'static str| steps.iter().find(|it| it.component == component).context(component);
    for server in ["postgresql", "redis"] {
        apply(room, step(server)?, from).await?;
    }
    for server in ["postgresql", "redis"] {
        rolled(room, step(server)?).await?;
    }
    let migrate = step("migrate")?;
    apply(room, migrate, from).await?;
    until::<Job>(room, &migrate.name, |job: Option<&Job>| {
        let conditions = job.and_then(|job| job.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|it| it.type_ == "Complete" && it.status == "True"))
    })
    .await?;
    for component in ["ai-service", "worker", "beat", "dashboard"] {
        apply(room, step(component)?, from).await?;
        rolled(room, step(component)?).await?;
        if component == "ai-service" {
            rules_off(room).await?;
        }
    }
    Ok(began.elapsed().as_secs_f64())
}

async fn apply(room: &Room, child: &Child, from: &str) -> Result<()> {
    let Child { resource, name, object, .. } = child;
    // Names of hosts hold the namespace, too.
    let object: Value = serde_json::from_str(&object.to_string().replace(from, &room.ns))?;
    let api: Api<DynamicObject> = Api::namespaced_with(room.client.clone(), &room.ns, resource);
    let parameters = PatchParams::apply("bench").force();
    api.patch(name, &parameters, &Patch::Apply(&object)).await.with_context(|| format!("{} {name}", resource.kind))?;
    Ok(())
}

/// `kubectl rollout status`.
async fn rolled(room: &Room, child: &Child) -> Result<()> {
    if child.resource.kind == "Deployment" {
        return until::<Deployment>(room, &child.name, |deployment: Option<&Deployment>| {
            deployment.is_some_and(|it| {
                let (wanted, status) =
                    (it.spec.as_ref().and_then(|spec| spec.replicas), it.status.clone().unwrap_or_default());
                status.observed_generation >= it.metadata.generation
                    && status.updated_replicas == wanted
                    && status.available_replicas == wanted
                    && status.replicas == wanted
            })
        })
        .await;
    }
    until::<StatefulSet>(room, &child.name, |set: Option<&StatefulSet>| {
        set.is_some_and(|it| {
            let (wanted, status) =
                (it.spec.as_ref().and_then(|spec| spec.replicas), it.status.clone().unwrap_or_default());
            status.observed_generation >= it.metadata.generation
                && status.available_replicas == wanted
                && status.current_revision == status.update_revision
        })
    })
    .await
}

async fn until<K>(room: &Room, name: &str, condition: impl Condition<K>) -> Result<()>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Send
        + serde::de::DeserializeOwned
        + 'static,
{
    let done = await_condition(room.api::<K>(), name, condition);
    tokio::time::timeout(STEP, done).await.with_context(|| format!("{name} is not done"))??;
    Ok(())
}

/// Every rule off and read back, by the application's REST API.
async fn rules_off(room: &Room) -> Result<()> {
    let key = room.secret(&format!("{STACK}-app-secrets"), "AI_SECRET_KEY").await?;
    let rules = || async {
        let (status, text) = room.ask("GET", "/api/rules", Some(&key), None).await?;
        ensure!(status == 200, "the rules API answered {status}: {text}");
        Ok(serde_json::from_str::<Vec<Value>>(&text)?)
    };
    // The Service's endpoints come a moment after the rollout.
    let first = wait_for("the rules API", Duration::from_secs(30), || async { Ok(Some(rules().await?)) }).await?;
    for mut rule in first.into_iter().filter(|rule| rule["enabled"] == true) {
        let path = format!("/api/rules/{}", rule["id"]);
        let body = rule.as_object_mut().context("a rule")?;
        for field in ["id", "created_at", "updated_at"] {
            body.remove(field);
        }
        rule["enabled"] = json!(false);
        let (status, text) = room.ask("PUT", &path, Some(&key), Some(&rule)).await?;
        ensure!(status == 200, "{path} answered {status}: {text}");
    }
    ensure!(rules().await?.iter().all(|rule| rule["enabled"] == false), "a rule is still on");
    Ok(())
}
