//! One stack in its namespace, and how to look at it and into it.

use std::fmt::{Debug, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::client::Body;
use kube::{Api, Client, ResourceExt};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_tests::{apply_yaml, exec, repository, wait_for};
use serde_json::{Value, json};

/// Name of the stack of the local sample.
pub(crate) const STACK: &str = "odoo-ai";
pub(crate) const COMPONENT: &str = "app.kubernetes.io/component";
/// Which stack an object belongs to.
pub(crate) const LABEL: &str = "odoo-ai.atmatasolutions.com/stack";
const ANSWER: Duration = Duration::from_secs(15);

/// A test's namespace.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) client: Client,
    pub(crate) ns: String,
}

impl Room {
    /// The namespace, from now on with the restricted Pod Security Standard.
    pub(crate) async fn new(client: Client, ns: String) -> Result<Self> {
        let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        let namespaces = Api::<Namespace>::all(client.clone());
        namespaces.patch_metadata(&ns, &PatchParams::default(), &Patch::Merge(label)).await?;
        Ok(Self { client, ns })
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.ns)
    }

    pub(crate) async fn list<K>(&self) -> Result<Vec<K>>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + serde::de::DeserializeOwned,
    {
        Ok(self.api::<K>().list(&ListParams::default()).await?.items)
    }

    /// Applies objects of a sample: in this namespace, the watch as short as it can be.
    pub(crate) async fn apply(&self, documents: &[Value]) -> Result<()> {
        let mut text = String::new();
        for document in documents {
            let mut document = document.clone();
            document["metadata"]["namespace"] = json!(self.ns);
            if document["kind"] == "OdooAiStack" {
                document["spec"]["rollout"]["healthCheck"] = json!({"durationSeconds": 2, "periodSeconds": 1});
            }
            writeln!(text, "---\n{document}")?;
        }
        apply_yaml(&self.client, &self.ns, &text).await
    }

    /// Deletes the stacks and their Backups, and waits for the end of their pods.
    pub(crate) async fn clear(&self) -> Result<()> {
        let all = ListParams::default();
        self.api::<Backup>().delete_collection(&DeleteParams::background(), &all).await?;
        self.api::<OdooAiStack>().delete_collection(&DeleteParams::default(), &all).await?;
        wait_for("the stack's pods to go", Duration::from_mins(1), || async {
            let pods = self.list::<Pod>().await?;
            // What removed a Backup's artifacts outlives it.
            let over = |pod: &Pod| {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                matches!(phase, Some("Succeeded" | "Failed"))
            };
            Ok(pods.iter().all(|pod| !pod.labels().contains_key(LABEL) || over(pod)).then_some(()))
        })
        .await
    }

    /// A merge patch of the stack's spec, as `kubectl edit` sends it.
    pub(crate) async fn change(&self, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api::<OdooAiStack>().patch(STACK, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    pub(crate) async fn stack(&self) -> Result<OdooAiStack> {
        Ok(self.api::<OdooAiStack>().get(STACK).await?)
    }

    /// Waits until a condition says so of the newest spec.
    pub(crate) async fn wait(&self, kind: &str, status: &str, reason: &str, limit: u64) -> Result<Condition> {
        let what = format!("{kind}={status} {reason}");
        wait_for(&what, Duration::from_secs(limit), || async {
            let stack = self.stack().await?;
            let found = condition(&stack, kind).with_context(|| format!("there is no condition {kind}"))?;
            let current = found.observed_generation == stack.metadata.generation;
            let matches = found.status == status && (reason.is_empty() || found.reason == reason);
            ensure!(current && matches, "the conditions are {}", summary(&stack));
            Ok(Some(found))
        })
        .await
    }

    pub(crate) async fn wait_ready(&self, limit: u64) -> Result<Condition> {
        self.wait("Ready", "True", "Settled", limit).await
    }

    /// The pods of a component that do not end.
    pub(crate) async fn pods_of(&self, component: &str) -> Result<Vec<Pod>> {
        let parameters = ListParams::default().labels(&format!("{COMPONENT}={component}"));
        let pods = self.api::<Pod>().list(&parameters).await?;
        Ok(pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// The one pod of a component.
    pub(crate) async fn pod_of(&self, component: &str) -> Result<Pod> {
        let mut pods = self.pods_of(component).await?;
        ensure!(pods.len() == 1, "{component} has {} pods", pods.len());
        Ok(pods.remove(0))
    }

    /// Runs a command in a component's main container.
    pub(crate) async fn run(&self, component: &str, command: &[&str]) -> Result<String> {
        let pod = self.pod_of(component).await?.name_any();
        let output = exec(&self.client, &self.ns, &pod, Some(component), command).await?;
        output.ok().with_context(|| format!("in {pod}"))
    }

    /// Asks the application's database.
    pub(crate) async fn sql(&self, query: &str) -> Result<String> {
        let command = ["psql", "-U", "postgres", "-d", "odoo_ai", "-Atqc", query];
        Ok(self.run("postgresql", &command).await?.trim().to_owned())
    }

    /// One value of a Secret.
    pub(crate) async fn secret(&self, name: &str, key: &str) -> Result<String> {
        let data = self.api::<Secret>().get(name).await?.data.unwrap_or_default();
        let value = data.get(key).with_context(|| format!("Secret {name} has no {key}"))?;
        Ok(String::from_utf8(value.0.clone())?)
    }

    /// Asks the API through its Service: status code and body, whatever they are.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(u16, String)> {
        let uri = format!("/api/v1/namespaces/{}/services/http:{STACK}-ai-service:http/proxy{path}", self.ns);
        let mut request = http::Request::builder().method(method).uri(uri);
        if let Some(key) = key {
            request = request.header("X-API-Key", key);
        }
        let body = body.map(ToString::to_string).unwrap_or_default().into_bytes();
        let request = request.header("Content-Type", "application/json").body(Body::from(body))?;
        let exchange = async {
            let response = self.client.send(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect_bytes().await?;
            Ok::<_, anyhow::Error>((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::time::timeout(ANSWER, exchange).await.with_context(|| format!("{method} {path} is not answered"))?
    }

    /// Asks the API with the generated key, and wants a 200.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let key = self.secret(&format!("{STACK}-app-secrets"), "AI_SECRET_KEY").await?;
        let (status, text) = self.ask(method, path, Some(&key), body).await?;
        ensure!(status == 200, "{method} {path} answered {status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("{method} {path} answered {text}"))
    }

    /// The application's rules.
    pub(crate) async fn rules(&self) -> Result<Vec<Value>> {
        match self.call("GET", "/api/rules", None).await? {
            Value::Array(rules) => Ok(rules),
            other => bail!("the rules are {other}"),
        }
    }
}

/// The documents of a sample, without its namespace.
pub(crate) fn sample(name: &str) -> Result<Vec<Value>> {
    let path = repository().join(Path::new("manifests/samples").join(name));
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    Ok(documents.into_iter().filter(|document| !document.is_null() && document["kind"] != "Namespace").collect())
}

/// A condition of a stack.
pub(crate) fn condition(stack: &OdooAiStack, kind: &str) -> Option<Condition> {
    stack.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind).cloned()
}

/// All conditions on one line.
pub(crate) fn summary(stack: &OdooAiStack) -> String {
    let conditions = stack.status.iter().flat_map(|status| &status.conditions);
    conditions.map(|c| format!("{}={} {} ({})", c.type_, c.status, c.reason, c.message)).collect::<Vec<_>>().join("; ")
}
