//! A room of its own for each test.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use crate::cluster::Cluster;
use crate::dump::dump;
use crate::wait::wait_for;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Runs a test in a namespace of its own of the shared cluster. When it fails or panics, pods,
/// events, logs and custom resources are dumped first. The namespace always goes.
///
/// # Errors
/// What the test returns, and when the cluster or the namespace cannot be made.
pub async fn with_namespace<T, F, Fut>(name: &str, test: F) -> Result<T>
where
    F: FnOnce(Client, String) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    with_namespace_in(Cluster::shared().await?, name, test).await
}

/// Like [`with_namespace`], in a cluster of one's own.
///
/// # Errors
/// What the test returns, and when the namespace cannot be made.
pub async fn with_namespace_in<T, F, Fut>(cluster: &Cluster, name: &str, test: F) -> Result<T>
where
    F: FnOnce(Client, String) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let client = cluster.client().await?;
    let namespace = create(&client, name).await?;
    let outcome = AssertUnwindSafe(test(client.clone(), namespace.clone())).catch_unwind().await;
    if !matches!(outcome, Ok(Ok(_))) {
        dump(&client, &namespace).await;
    }
    remove(&client, &namespace).await;
    match outcome {
        Ok(result) => result.with_context(|| format!("in namespace {namespace}")),
        Err(panic) => resume_unwind(panic),
    }
}

async fn create(client: &Client, name: &str) -> Result<String> {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let namespace = format!("t-{name}-{}-{number}", std::process::id());
    let object = Namespace {
        metadata: ObjectMeta {
            name: Some(namespace.clone()),
            labels: Some([("odoo-ai-operator.test".to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &object)
        .await
        .with_context(|| format!("creating namespace {namespace}"))?;
    // A pod that is created before its service account is refused.
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
    wait_for("the default service account", Duration::from_secs(30), || async {
        Ok(accounts.get_opt("default").await?)
    })
    .await?;
    Ok(namespace)
}

/// Says what is left instead of failing: the test's own outcome matters more.
async fn remove(client: &Client, namespace: &str) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let gone = async {
        namespaces.delete(namespace, &DeleteParams::background()).await?;
        wait_for("the namespace to go", Duration::from_mins(1), || async {
            match namespaces.get_opt(namespace).await? {
                None => Ok(Some(())),
                Some(left) => anyhow::bail!("{}", serde_json::to_string(&left.status.unwrap_or_default().conditions)?),
            }
        })
        .await
    };
    if let Err(error) = gone.await {
        eprintln!("namespace {namespace} is still there: {error:#}");
    }
}
