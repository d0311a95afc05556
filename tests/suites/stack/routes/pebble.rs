//! A real ACME server, which asks back by HTTP before it signs anything.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use odoo_ai_tests::{apply_yaml, wait_for};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::proxy::NAMESPACE;

/// What it signs is valid for this long, seconds: Traefik renews it at each look, once a minute.
const VALID: u32 = 300;

const PEBBLE: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: pebble, namespace: kube-system}
data:
  config.json: |
    {"pebble": {
      "listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000",
      "certificate": "/tls/tls.crt", "privateKey": "/tls/tls.key", "httpPort": 80, "tlsPort": 443,
      "ocspResponderURL": "", "externalAccountBindingRequired": false,
      "retryAfter": {"authz": 1, "order": 1},
      "profiles": {"default": {"description": "short", "validityPeriod": VALID}}}}
---
apiVersion: v1
kind: Service
metadata: {name: pebble, namespace: kube-system}
spec: {selector: {app: pebble}, ports: [{port: 14000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: pebble, namespace: kube-system}
spec:
  selector: {matchLabels: {app: pebble}}
  template:
    metadata: {labels: {app: pebble}}
    spec:
      automountServiceAccountToken: false
      containers:
        - name: pebble
          image: odooai-test/pebble:1
          imagePullPolicy: Never
          args: [-config, /config/config.json]
          env:
            - {name: PEBBLE_VA_NOSLEEP, value: '1'}
            - {name: PEBBLE_WFE_NONCEREJECT, value: '0'}
          readinessProbe: {tcpSocket: {port: 14000}, periodSeconds: 1}
          volumeMounts:
            - {name: config, mountPath: /config}
            - {name: tls, mountPath: /tls}
      volumes:
        - {name: config, configMap: {name: pebble}}
        - {name: tls, secret: {secretName: pebble}}
"#;

/// Its own certificate, and the authority that Traefik trusts for it.
async fn certificate(client: &Client) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    if api.get_opt("pebble").await?.is_some() {
        return Ok(());
    }
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority of the test");
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?.pem();
    let key = KeyPair::generate()?;
    let issuer = Issuer::new(authority, authority_key);
    let own = CertificateParams::new(vec![format!("pebble.{NAMESPACE}.svc")])?.signed_by(&key, &issuer)?;
    let data = [("ca.crt", ca), ("tls.crt", own.pem()), ("tls.key", key.serialize_pem())];
    let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pebble"},
        "data": std::collections::BTreeMap::from(data),
    });
    api.patch("pebble", &PatchParams::apply("test").force(), &Patch::Apply(&secret)).await?;
    Ok(())
}

/// Installs it, unless it is there.
pub(crate) async fn install(client: &Client) -> Result<()> {
    certificate(client).await?;
    apply_yaml(client, NAMESPACE, &PEBBLE.replace("VALID", &VALID.to_string())).await?;
    scale(client, 1).await
}

/// Runs that many pods of it. One that starts has forgotten its accounts, as no real one does: who had one starts anew.
pub(crate) async fn scale(client: &Client, replicas: i32) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    api.patch("pebble", &PatchParams::default(), &patch).await?;
    wait_for("the ACME server", Duration::from_mins(1), || async {
        let status = api.get("pebble").await?.status.unwrap_or_default();
        Ok((status.replicas.unwrap_or(0) == replicas && status.ready_replicas.unwrap_or(0) == replicas).then_some(()))
    })
    .await
}
