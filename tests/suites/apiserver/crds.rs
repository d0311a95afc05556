//! The committed CRDs in the API server of this process.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use odoo_ai_tests::{ApiServer, apply_file, repository, wait_for};
use serde_json::json;
use tokio::sync::OnceCell;

/// Names of the files and of what they define.
pub(crate) const KINDS: [&str; 4] = ["backups", "featureflags", "odooaistacks", "restores"];
pub(crate) const GROUP: &str = "odoo-ai.atmatasolutions.com";

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// The API server of this process, with the CRDs.
pub(crate) async fn server() -> Result<&'static ApiServer> {
    let server = ApiServer::shared().await?;
    INSTALLED.get_or_try_init(|| async { install(&server.client().await?).await }).await?;
    Ok(server)
}

/// Traefik's two kinds, as far as the operator is concerned; the real ones are in the tests with a real Traefik.
pub(crate) const TRAEFIK: [&str; 2] = ["IngressRoute", "Middleware"];

/// The definition of one of Traefik's kinds.
pub(crate) fn traefik(kind: &str) -> CustomResourceDefinition {
    let plural = format!("{}s", kind.to_lowercase());
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    serde_json::from_value(json!({
        "metadata": {"name": format!("{plural}.traefik.io")},
        "spec": {
            "group": "traefik.io", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    }))
    .expect("a definition")
}

async fn install(client: &Client) -> Result<()> {
    for kind in TRAEFIK {
        Api::all(client.clone()).create(&PostParams::default(), &traefik(kind)).await?;
    }
    ours(client).await?;
    established(client, TRAEFIK.map(|kind| traefik(kind).name_any())).await
}

/// Our own, served.
pub(crate) async fn ours(client: &Client) -> Result<()> {
    for kind in KINDS {
        apply_file(client, "default", &repository().join(format!("crds/generated/{kind}.yaml"))).await?;
    }
    established(client, KINDS.map(|kind| format!("{kind}.{GROUP}"))).await
}

async fn established(client: &Client, names: impl AsRef<[String]>) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    wait_for("the CRDs to be Established", Duration::from_secs(20), || async {
        for name in names.as_ref() {
            let conditions = crds.get(name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
            // NonStructuralSchema, NamesAccepted=False: what is wrong is in there.
            let good = conditions.iter().filter(|condition| condition.status == "True").map(|c| c.type_.as_str());
            if good.collect::<Vec<_>>() != ["NamesAccepted", "Established"] {
                bail!("{name}: {conditions:?}");
            }
        }
        Ok(Some(()))
    })
    .await
}

/// Makes a namespace that enforces and warns of the restricted Pod Security Standard.
pub(crate) async fn restricted_namespace(client: &Client, name: &str) -> Result<()> {
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
        }},
    });
    let parameters = PatchParams::apply("odoo-ai-tests").force();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.patch(name, &parameters, &Patch::Apply(&object)).await.with_context(|| format!("namespace {name}"))?;
    let names = namespaces.list(&ListParams::default()).await?;
    assert!(names.iter().any(|namespace| namespace.name_any() == name));
    Ok(())
}
