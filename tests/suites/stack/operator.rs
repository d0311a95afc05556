//! The operator under test: one installation for the whole process, by the charts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use odoo_ai_tests::{Cluster, docker, helm_upgrade, logs, run_dir, service_get, wait_for};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

pub(crate) const NAMESPACE: &str = "odoo-ai-suite-operator";
const RELEASE: &str = "odoo-ai-operator";
/// The switch that makes the operator's pod templates others.
const TEMPLATE: &str = "ODOOAI_TEMPLATE_ANNOTATION";
/// The samples' images.
const IMAGES: [&str; 6] = [
    "odoo-ai-platform/ai-service:1.0.0",
    "odoo-ai-platform/ai-service:1.1.0",
    "odoo-ai-platform/dashboard:1.0.0",
    "odoo-ai-platform/odoo-stub:1.0.0",
    "postgres:17",
    "redis:7",
];
/// Also when a killed operator has left its Lease, which is then waited for.
const COMES_UP: Duration = Duration::from_mins(2);

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// The cluster with CRDs and operator in it.
pub(crate) async fn cluster() -> Result<&'static Cluster> {
    let cluster = Cluster::shared().await?;
    INSTALLED.get_or_try_init(|| into(cluster)).await?;
    Ok(cluster)
}

/// Brings images, CRDs and operator into a cluster.
pub(crate) async fn into(cluster: &Cluster) -> Result<()> {
    if cluster.container().is_ok() {
        let mut images = IMAGES.map(str::to_owned).to_vec();
        images.push(image()?);
        cluster.load_images(&images).await?;
    }
    helm_upgrade(cluster, "odoo-ai-crds", "charts/odoo-ai-crds", NAMESPACE, &[]).await?;
    install(cluster).await
}

/// Installs the operator's chart, or brings it back.
pub(crate) async fn install(cluster: &Cluster) -> Result<()> {
    let image = image()?;
    let (repository, tag) = image.rsplit_once(':').context("ODOOAI_OPERATOR_IMAGE has no tag")?;
    let values = [format!("image.repository={repository}"), format!("image.tag={tag}"), "clusterWide=true".to_owned()];
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    helm_upgrade(cluster, RELEASE, "charts/odoo-ai-operator", NAMESPACE, &values).await?;
    leading(&cluster.client().await?).await.map(drop)
}

/// Upgrades to the same binary under another tag, with other pod templates; [`install`] goes back.
pub(crate) async fn upgrade(cluster: &Cluster, template: &str) -> Result<()> {
    let image = image()?;
    let (repository, tag) = image.rsplit_once(':').context("ODOOAI_OPERATOR_IMAGE has no tag")?;
    let other = format!("{tag}-other");
    let (from, to) = (format!("docker.io/{image}"), format!("docker.io/{repository}:{other}"));
    docker(["exec", &cluster.container()?, "ctr", "-n", "k8s.io", "images", "tag", "--force", &from, &to]).await?;
    let values =
        [format!("image.repository={repository}"), format!("image.tag={other}"), "clusterWide=true".to_owned()];
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    helm_upgrade(cluster, RELEASE, "charts/odoo-ai-operator", NAMESPACE, &values).await?;
    note(cluster, json!({"name": TEMPLATE, "value": template})).await
}

/// Sets or removes the switch of the operator's pod templates.
async fn note(cluster: &Cluster, variable: Value) -> Result<()> {
    let client = cluster.client().await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = pod(&client).await?;
    let container = pod.spec.iter().flat_map(|spec| &spec.containers).next().context("no container")?.name.clone();
    let containers = json!([{"name": container, "env": [variable]}]);
    let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
    deployments.patch(RELEASE, &PatchParams::default(), &patch).await?;
    wait_for("one operator", COMES_UP, || async {
        let deployment = deployments.get(RELEASE).await?;
        let status = deployment.status.unwrap_or_default();
        let rolled = status.observed_generation == deployment.metadata.generation && status.replicas == Some(1);
        Ok((rolled && status.updated_replicas == Some(1) && status.available_replicas == Some(1)).then_some(()))
    })
    .await?;
    leading(&client).await.map(drop)
}

/// What [`upgrade`] changed is as before.
pub(crate) async fn downgrade(cluster: &Cluster) -> Result<()> {
    install(cluster).await?;
    note(cluster, json!({"name": TEMPLATE, "$patch": "delete"})).await
}

/// `helm uninstall` of the operator; the CRDs stay.
pub(crate) async fn uninstall(cluster: &Cluster) -> Result<()> {
    let output = Command::new(helm()?)
        .args(["uninstall", RELEASE, "--wait", "--timeout", "120s", "--namespace", NAMESPACE, "--kubeconfig"])
        .arg(cluster.kubeconfig())
        .kill_on_drop(true)
        .output()
        .await
        .context("running helm")?;
    ensure!(output.status.success(), "helm uninstall: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// The operator's image, as `hack/test` names it or `hack/images` noted it.
fn image() -> Result<String> {
    if let Some(image) = std::env::var("ODOOAI_OPERATOR_IMAGE").ok().filter(|image| !image.is_empty()) {
        return Ok(image);
    }
    let note = run_dir().join("operator-image");
    let image = std::fs::read_to_string(&note).context("set ODOOAI_OPERATOR_IMAGE, or run hack/images")?;
    Ok(image.trim().to_owned())
}

/// The helm that `hack/` built.
fn helm() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("ODOOAI_TOOL_HELM").filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder).join("helm"));
    }
    let tools = run_dir().parent().context("the run folder has no parent")?.join("tools");
    let found = tools.read_dir()?.flatten().map(|entry| entry.path().join("bin/helm")).find(|path| path.is_file());
    found.context("set ODOOAI_TOOL_HELM, or run hack/tools/build helm")
}

/// The operator's pod, once it holds the Lease.
pub(crate) async fn leading(client: &Client) -> Result<Pod> {
    wait_for("the operator to hold the Lease", COMES_UP, || async {
        let pod = pod(client).await?;
        let leader = Metrics::read(client).await?.value("leader");
        ensure!(leader == 1, "{} does not hold it", pod.name_any());
        Ok(Some(pod))
    })
    .await
}

/// The one pod of the operator that does not end.
pub(crate) async fn pod(client: &Client) -> Result<Pod> {
    let parameters = ListParams::default().labels("app.kubernetes.io/component=operator");
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE).list(&parameters).await?;
    let mut live: Vec<Pod> = pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    ensure!(live.len() == 1, "the operator has {} pods", live.len());
    Ok(live.remove(0))
}

/// How an operator ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its pod is deleted as usual.
    Asked,
    /// Its pod is deleted without a grace: it has a moment still.
    Forced,
    /// Its process is killed, and its pod with it: what it held stays held.
    Crashed,
}

/// Ends the operator and gives the pod that came after it, once that one acts.
pub(crate) async fn replace(cluster: &Cluster, client: &Client, end: End) -> Result<Pod> {
    let old = pod(client).await?;
    if end == End::Crashed {
        crash(cluster, &old).await?;
    }
    let grace_period_seconds = (end != End::Asked).then_some(0);
    let parameters = DeleteParams { grace_period_seconds, ..DeleteParams::default() };
    Api::<Pod>::namespaced(client.clone(), NAMESPACE).delete(&old.name_any(), &parameters).await?;
    wait_for("another operator to hold the Lease", COMES_UP, || async {
        let pod = leading(client).await?;
        ensure!(pod.uid() != old.uid(), "{} still acts", pod.name_any());
        Ok(Some(pod))
    })
    .await
}

/// SIGKILL, from outside of the pod.
async fn crash(cluster: &Cluster, pod: &Pod) -> Result<()> {
    let mut statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let id = statuses.find_map(|status| status.container_id.as_deref()?.split("://").nth(1));
    let id = id.context("the operator has no container")?;
    let node = cluster.container()?;
    docker(["exec", &node, "ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id]).await.map(drop)
}

/// What the operator has logged since it started.
pub(crate) async fn log(client: &Client) -> Result<String> {
    logs(client, NAMESPACE, &pod(client).await?.name_any(), None).await
}

/// The operator's counters.
pub(crate) struct Metrics(String);

impl Metrics {
    pub(crate) async fn read(client: &Client) -> Result<Self> {
        Ok(Self(service_get(client, NAMESPACE, "odoo-ai-operator-metrics", "http", "/metrics").await?))
    }

    /// A metric without its prefix, the sum over its labels; 0 where it is absent.
    pub(crate) fn value(&self, name: &str) -> u64 {
        self.series(name).values().sum()
    }

    /// A metric without its prefix, by its labels.
    pub(crate) fn series(&self, name: &str) -> BTreeMap<String, u64> {
        let name = format!("odooai_operator_{name}");
        let series = self.0.lines().filter_map(|line| line.strip_prefix(&name)?.rsplit_once(' '));
        let series = series.filter(|(labels, _)| labels.is_empty() || labels.starts_with('{'));
        series.filter_map(|(labels, value)| Some((labels.to_owned(), value.parse().ok()?))).collect()
    }

    /// Writes to children and to statuses.
    pub(crate) fn writes(&self) -> (u64, u64) {
        (self.value("child_writes_total"), self.value("status_writes_total"))
    }
}
