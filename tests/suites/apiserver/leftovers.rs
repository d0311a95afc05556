//! Children that the operator did not make and that look as if it had.

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use odoo_ai_operator::labels;
use serde_json::{Value, json};

use crate::stage::{Stage, kinds};

/// An object of every kind that is pruned, labelled as a child of the stack. Returns how many.
pub(crate) async fn leave_behind(stage: &Stage, name: &str, owner: &OwnerReference) -> Result<usize> {
    let app = json!({"app": name});
    let pods = json!({"metadata": {"labels": app}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let workload = json!({"selector": {"matchLabels": app}, "template": pods, "serviceName": name});
    let specs = [
        ("Deployment", workload.clone()),
        ("StatefulSet", workload),
        ("Service", json!({"ports": [{"port": 1}]})),
        ("ServiceAccount", Value::Null),
        ("NetworkPolicy", json!({"podSelector": {"matchLabels": app}})),
        ("PodDisruptionBudget", json!({"selector": {"matchLabels": app}})),
        ("IngressRoute", json!({"entryPoints": ["web"], "routes": []})),
        ("Middleware", json!({"redirectScheme": {"scheme": "https"}})),
        ("Ingress", json!({"defaultBackend": {"service": {"name": "a", "port": {"number": 1}}}})),
    ];
    for (kind, spec) in &specs {
        let metadata = json!({"name": name, "labels": labels::child(&stage.name, "old"), "ownerReferences": [owner]});
        let resource = kinds().into_iter().find(|resource| resource.kind == *kind).context("a kind")?;
        let api: Api<DynamicObject> = Api::namespaced_with(stage.others.clone(), &stage.namespace, &resource);
        let object = serde_json::from_value(json!({
            "apiVersion": resource.api_version, "kind": kind, "metadata": metadata, "spec": spec,
        }))?;
        api.create(&PostParams::default(), &object).await.context(*kind)?;
    }
    Ok(specs.len())
}
