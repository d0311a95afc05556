//! The operator's own reconcile on a real API server. There are no nodes and no controllers: the
//! test plays them (pods become ready, Jobs end with a report), as often as it is asked to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, PodTemplateSpec, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_operator::cluster::cache::{Scope, Streams};
use odoo_ai_operator::cluster::cached::cached;
use odoo_ai_operator::cluster::covers::covers;
use odoo_ai_operator::cluster::traefik::{IngressRoute, Middleware};
use odoo_ai_operator::context::Context;
use odoo_ai_operator::labels;
use odoo_ai_operator::metrics::Metrics;
use odoo_ai_operator::routes::rivals::Stacks;
use odoo_ai_operator::run;
use odoo_ai_operator::stack::model::{Network, Operator};
use odoo_ai_operator::stack::reconcile;
use odoo_ai_tests::{repository, wait_for};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::crds::restricted_namespace;
use crate::surroundings::answers;

/// A stack in a namespace, and an operator that cares for it.
pub(crate) struct Stage {
    pub(crate) namespace: String,
    /// Name of the stack.
    pub(crate) name: String,
    /// Everybody else's client.
    pub(crate) others: Client,
    operator: Client,
    ctx: Arc<Context>,
    watches: JoinHandle<()>,
    rules: SocketAddr,
    /// What every agent answers.
    pub(crate) agent: Arc<Mutex<Value>>,
    /// How often the application's rules were asked for.
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Stage {
    /// The local sample in `namespace`, changed by `edit`. The operator acts through `operator`.
    pub(crate) async fn new(
        others: Client,
        operator: Client,
        namespace: &str,
        edit: impl FnOnce(&mut Value),
    ) -> Result<Self> {
        restricted_namespace(&others, namespace).await?;
        let sample = std::fs::read_to_string(repository().join("manifests/samples/local.yaml"))?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&sample)?;
        let mut stack = Value::Null;
        for mut document in documents {
            document["metadata"]["namespace"] = json!(namespace);
            match document["kind"].as_str() {
                Some("Secret") => {
                    let secret: Secret = serde_json::from_value(document)?;
                    let secrets = Api::namespaced(others.clone(), namespace);
                    secrets.create(&PostParams::default(), &secret).await?;
                }
                Some("OdooAiStack") => stack = document,
                _ => {}
            }
        }
        // The shortest watch that there is.
        stack["spec"]["rollout"] = json!({"healthCheck": {"durationSeconds": 1, "periodSeconds": 1}});
        edit(&mut stack);
        let name = stack["metadata"]["name"].as_str().context("a name")?.to_owned();
        let stacks: Api<OdooAiStack> = Api::namespaced(others.clone(), namespace);
        stacks.create(&PostParams::default(), &serde_json::from_value(stack)?).await?;
        let agent = Arc::new(Mutex::new(json!({})));
        let (rules, asked) = answers(Arc::clone(&agent)).await?;
        let (ctx, watches) = start(&operator, namespace, rules)?;
        Ok(Self { namespace: namespace.to_owned(), name, others, operator, ctx, watches, rules, agent, asked })
    }

    /// Another operator, which knows nothing.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.watches.abort();
        (self.ctx, self.watches) = start(&self.operator, &self.namespace, self.rules)?;
        Ok(())
    }

    /// One reconcile, once the caches have had the time to see what was done before.
    pub(crate) async fn reconcile(&self) -> Result<()> {
        let caches = &self.ctx.caches;
        tokio::time::timeout(Duration::from_secs(10), caches.ready()).await.context("the caches")?;
        wait_for("Traefik's kinds", Duration::from_secs(10), || async { Ok(caches.traefik()) }).await?;
        tokio::time::sleep(Duration::from_millis(120)).await;
        match Box::pin(reconcile(Arc::new(self.stack().await?), Arc::clone(&self.ctx))).await {
            Err(error) if error.is_conflict() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// The stack as it is now.
    pub(crate) async fn stack(&self) -> Result<OdooAiStack> {
        Ok(self.api().get(&self.name).await?)
    }

    /// Objects of a kind, as everybody sees them.
    pub(crate) fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.others.clone(), &self.namespace)
    }

    /// Somebody changes the stack's spec.
    pub(crate) async fn edit(&self, spec: &Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api::<OdooAiStack>().patch(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Somebody deletes the stack; nobody waits for its children.
    pub(crate) async fn delete(&self) -> Result<()> {
        self.api::<OdooAiStack>().delete(&self.name, &DeleteParams::background()).await?;
        Ok(())
    }

    /// Somebody deletes the stack and makes the same again.
    pub(crate) async fn replace(&self) -> Result<OdooAiStack> {
        let mut again = self.stack().await?;
        self.delete().await?;
        again.metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        again.status = None;
        Ok(self.api().create(&PostParams::default(), &again).await?)
    }

    /// Status and words of a condition.
    pub(crate) async fn condition(&self, kind: &str) -> Result<String> {
        let conditions = self.stack().await?.status.unwrap_or_default().conditions;
        let found = conditions.iter().find(|condition| condition.type_ == kind);
        Ok(found.map(|c| format!("{} {} {}", c.status, c.reason, c.message)).unwrap_or_default())
    }

    /// Reconciles and plays the controllers until the stack is Ready for its present spec.
    pub(crate) async fn run_to_the_end(&self) -> Result<()> {
        for _ in 0..60 {
            self.reconcile().await?;
            if self.settled().await? {
                return Ok(());
            }
            self.perform().await?;
        }
        bail!("never Ready: {}", self.condition("Ready").await?)
    }

    /// The controllers of all kinds themselves, with watches of its own, until it is aborted.
    pub(crate) fn control(&self) -> Result<JoinHandle<()>> {
        let scope = Scope::Namespace(self.namespace.clone());
        let (mut ctx, streams) = context(&self.operator, &scope, self.rules)?;
        let (stacks, filler) = cached();
        ctx.stacks = Stacks::new(vec![stacks.clone()]);
        Ok(tokio::spawn(async move {
            run::control(ctx, &scope, streams, (stacks, filler), std::future::pending()).await;
        }))
    }

    /// Plays the controllers until the stack is Ready for its present spec, by somebody else's reconciles.
    pub(crate) async fn until_ready(&self) -> Result<()> {
        for _ in 0..150 {
            self.perform().await?;
            if self.settled().await? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("never Ready: {}", self.condition("Ready").await?)
    }

    /// Ready for its present spec.
    pub(crate) async fn settled(&self) -> Result<bool> {
        let stack = self.stack().await?;
        let seen = stack.status.as_ref().and_then(|status| status.observed_generation);
        Ok(seen == stack.metadata.generation && self.condition("Ready").await?.starts_with("True"))
    }

    /// Everything that exists does what it should.
    pub(crate) async fn perform(&self) -> Result<()> {
        self.pods_become_ready().await?;
        for job in self.ours::<Job>().await? {
            if job.metadata.deletion_timestamp.is_some() {
                self.collect(&job).await?;
                continue;
            }
            let ended = job.status.as_ref().is_some_and(|status| status.conditions.is_some());
            if !ended && self.mounts_exist(&job).await? {
                self.finish(&job).await?;
            }
        }
        Ok(())
    }

    /// As the garbage collector does once a Job's pods are gone.
    async fn collect(&self, job: &Job) -> Result<()> {
        let done = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        self.api::<Job>().patch_metadata(&job.name_any(), &PatchParams::default(), &done).await?;
        Ok(())
    }

    /// A kubelet starts no pod whose Secrets aren't there.
    async fn mounts_exist(&self, job: &Job) -> Result<bool> {
        let volumes = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()?.volumes.clone());
        for source in volumes.into_iter().flatten().filter_map(|volume| volume.secret) {
            let name = source.secret_name.context("a Secret volume names its Secret")?;
            if source.optional != Some(true) && self.api::<Secret>().get_opt(&name).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All workloads do what they should, and Jobs take their time.
    pub(crate) async fn pods_become_ready(&self) -> Result<()> {
        for deployment in self.ours::<Deployment>().await? {
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            let now = ready(deployment.metadata.generation, replicas, &json!({}));
            self.status(&deployment, &now).await?;
        }
        for set in self.ours::<StatefulSet>().await? {
            let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
            let revisions = json!({"currentRevision": "x", "updateRevision": "x"});
            self.status(&set, &ready(set.metadata.generation, replicas, &revisions)).await?;
        }
        Ok(())
    }

    /// A pod as a workload would make it, with this status.
    pub(crate) async fn pod(&self, name: &str, template: PodTemplateSpec, status: &Value) -> Result<Pod> {
        let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
        pod.metadata.name = Some(name.to_owned());
        let pod = self.api::<Pod>().create(&PostParams::default(), &pod).await?;
        self.status(&pod, status).await?;
        Ok(pod)
    }

    /// The Job's pod runs to its end.
    async fn finish(&self, job: &Job) -> Result<()> {
        let name = format!("{}-x", job.name_any());
        let template = job.spec.clone().context("a Job has a spec")?.template;
        let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
        pod.metadata.name = Some(name.clone());
        pod.metadata.owner_references = job.controller_owner_ref(&()).map(|owner| vec![owner]);
        let pod = self.api::<Pod>().create(&PostParams::default(), &pod).await?;
        let now = "2026-01-01T00:00:00Z";
        let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
        let report = json!({
            "version": 1, "result": "Succeeded", "reason": "Bootstrapped", "message": "done", "incarnation": "1/2",
            // An image that says so brings a migration.
            "plan": {"needed": image.ends_with("-migrates")},
            "schema": {"heads": ["003"], "known": ["001", "002", "003"], "current": ["003"]},
            // There are rules as soon as the application has run.
            "rulesEmpty": self.asked.load(Ordering::Relaxed) == 0,
        });
        let ended = json!({"exitCode": 0, "message": report.to_string(), "startedAt": now, "finishedAt": now});
        let container = pod.spec.as_ref().context("a pod has a spec")?.containers[0].name.clone();
        let container = json!({
            "name": container, "image": "x", "imageID": "y", "ready": false, "restartCount": 0,
            "state": {"terminated": ended},
        });
        self.status(&pod, &json!({"phase": "Succeeded", "containerStatuses": [container]})).await?;
        let condition = |kind: &str| {
            json!({
                "type": kind, "status": "True", "reason": "CompletionsReached", "message": "",
                "lastTransitionTime": now, "lastProbeTime": now,
            })
        };
        let done = json!({
            "startTime": now, "completionTime": now, "succeeded": 1, "ready": 0, "uncountedTerminatedPods": {},
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
        });
        self.status(job, &done).await
    }

    /// Writes a status, where it isn't so already.
    pub(crate) async fn status<K>(&self, object: &K, status: &Value) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        if covers(&value(object)["status"], status) {
            return Ok(());
        }
        let name = object.name_any();
        let patch = Patch::Merge(json!({"status": status}));
        self.api::<K>().patch_status(&name, &PatchParams::default(), &patch).await.with_context(|| name.clone())?;
        Ok(())
    }

    /// Children of the stack.
    pub(crate) async fn ours<K>(&self) -> Result<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let children = ListParams::default().labels(&format!("{}={}", labels::STACK, self.name));
        Ok(self.api::<K>().list(&children).await?.items)
    }

    /// Children of every kind, as JSON.
    pub(crate) async fn children(&self) -> Result<Vec<DynamicObject>> {
        let mut all = Vec::new();
        for kind in kinds() {
            let api: Api<DynamicObject> = Api::namespaced_with(self.others.clone(), &self.namespace, &kind);
            let list = api.list(&ListParams::default().labels(labels::STACK)).await?;
            all.extend(list.items.into_iter().map(|mut object| {
                object.types =
                    Some(kube::api::TypeMeta { api_version: kind.api_version.clone(), kind: kind.kind.clone() });
                object
            }));
        }
        Ok(all)
    }

    /// Deletes what has owners, but none that exists. Returns what went.
    pub(crate) async fn collect_garbage(&self) -> Result<Vec<String>> {
        let mut gone = Vec::new();
        loop {
            let children = self.children().await?;
            let mut alive: Vec<_> = children.iter().filter_map(ResourceExt::uid).collect();
            alive.extend(
                self.api::<OdooAiStack>().list(&ListParams::default()).await?.iter().filter_map(ResourceExt::uid),
            );
            let orphan = |child: &&DynamicObject| {
                child.metadata.deletion_timestamp.is_none()
                    && !child.owner_references().is_empty()
                    && child.owner_references().iter().all(|owner| !alive.contains(&owner.uid))
            };
            let orphans: Vec<_> = children.iter().filter(orphan).collect();
            if orphans.is_empty() {
                return Ok(gone);
            }
            for child in orphans {
                let kind = &child.types.as_ref().context("a type")?.kind;
                let resource = kinds().into_iter().find(|resource| resource.kind == *kind).context("a kind")?;
                let api: Api<DynamicObject> = Api::namespaced_with(self.others.clone(), &self.namespace, &resource);
                // There is nobody who would finish a graceful end.
                let parameters = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
                api.delete(&child.name_any(), &parameters).await?;
                gone.push(format!("{kind} {}", child.name_any()));
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.watches.abort();
    }
}

/// Every kind that a stack's children have.
pub(crate) fn kinds() -> [ApiResource; 15] {
    [
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<ControllerRevision>(&()),
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<Ingress>(&()),
        ApiResource::erase::<IngressRoute>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<Middleware>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<StatefulSet>(&()),
    ]
}

/// An operator's memory, and its watches.
fn start(client: &Client, namespace: &str, rules: SocketAddr) -> Result<(Arc<Context>, JoinHandle<()>)> {
    let (ctx, streams) = context(client, &Scope::Namespace(namespace.to_owned()), rules)?;
    Ok((Arc::new(ctx), tokio::spawn(streams.drain())))
}

fn context(client: &Client, scope: &Scope, rules: SocketAddr) -> Result<(Context, Streams)> {
    // Whatever is asked by HTTP ends there.
    let http = reqwest::Client::builder().proxy(reqwest::Proxy::http(format!("http://{rules}"))?).build()?;
    let network = Network { operator_namespace: "odoo-ai-system".to_owned(), metrics_namespaces: Vec::new() };
    let own = Operator {
        image: "odoo-ai-operator:test".to_owned(),
        network: Some(network),
        approvers_verified: true,
        template_annotation: None,
    };
    Ok(Context::new(client.clone(), http, scope, "operator-0", own, Metrics::registered().0))
}

/// Status of a workload whose pods are all ready.
fn ready(generation: Option<i64>, replicas: Option<i32>, rest: &Value) -> Value {
    let mut status = rest.clone();
    status["observedGeneration"] = json!(generation);
    for count in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        status[count] = json!(replicas);
    }
    status
}

/// An object as JSON.
pub(crate) fn value<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("JSON")
}
