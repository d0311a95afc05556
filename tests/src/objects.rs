//! Objects of any kind from YAML, as `kubectl apply --server-side` does it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::paths::kubectl;

/// Applies each document; an object without a namespace goes to `namespace`.
///
/// # Errors
/// When a document cannot be read or the API server refuses it.
pub async fn apply_yaml(client: &Client, namespace: &str, yaml: &str) -> Result<()> {
    for object in parse(yaml)? {
        let (api, name) = api_for(client, namespace, &object).await?;
        let parameters = PatchParams::apply("odoo-ai-tests").force();
        api.patch(&name, &parameters, &Patch::Apply(&object)).await.with_context(|| format!("applying {name}"))?;
    }
    Ok(())
}

/// Applies the documents of a file of the repository.
///
/// # Errors
/// Like [`apply_yaml`], and when the file cannot be read.
pub async fn apply_file(client: &Client, namespace: &str, path: &Path) -> Result<()> {
    let yaml = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    apply_yaml(client, namespace, &yaml).await.with_context(|| path.display().to_string())
}

/// Deletes what the documents name, as far as it is there.
///
/// # Errors
/// When a document cannot be read or the API server refuses.
pub async fn delete_yaml(client: &Client, namespace: &str, yaml: &str) -> Result<()> {
    for object in parse(yaml)? {
        let (api, name) = api_for(client, namespace, &object).await?;
        match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// What the kustomize in kubectl makes of a folder.
///
/// # Errors
/// When it can't; the message holds what it said.
pub fn kustomize(folder: &Path) -> Result<String> {
    let output = Command::new(kubectl()?).arg("kustomize").arg(folder).output().context("running kubectl")?;
    if !output.status.success() {
        bail!("{}: {}", folder.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("reading YAML")?;
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|document| serde_json::from_value(document).context("this is no Kubernetes object"))
        .collect()
}

async fn api_for(client: &Client, namespace: &str, object: &DynamicObject) -> Result<(Api<DynamicObject>, String)> {
    let types = object.types.as_ref().context("an object has no kind")?;
    let kind = GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = pinned_kind(client, &kind)
        .await
        .with_context(|| format!("the cluster has no {} {}", types.api_version, types.kind))?;
    let api = if capabilities.scope == Scope::Cluster {
        Api::all_with(client.clone(), &resource)
    } else {
        let namespace = object.namespace().unwrap_or_else(|| namespace.to_owned());
        Api::namespaced_with(client.clone(), &namespace, &resource)
    };
    Ok((api, object.name_any()))
}
