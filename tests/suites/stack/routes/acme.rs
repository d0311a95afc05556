//! A real ACME server, which asks back by HTTP before it signs anything.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use odoo_ai_tests::{apply_yaml, wait_for};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::answers::hosts;
use super::client::{Shown, shown};
use super::proxy::NAMESPACE;
use crate::faults::names;
use crate::room::Room;

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

pub(super) async fn install(client: &Client) -> Result<()> {
    certificate(client).await?;
    apply_yaml(client, NAMESPACE, &PEBBLE.replace("VALID", &VALID.to_string())).await?;
    scale(client, 1).await
}

async fn scale(client: &Client, replicas: i32) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    api.patch("pebble", &PatchParams::default(), &patch).await?;
    wait_for("the ACME server", Duration::from_mins(1), || async {
        let status = api.get("pebble").await?.status.unwrap_or_default();
        Ok((status.replicas.unwrap_or(0) == replicas && status.ready_replicas.unwrap_or(0) == replicas).then_some(()))
    })
    .await
}

/// Names that the ACME server can resolve: they lead to Traefik.
fn host(room: &Room, name: &str) -> String {
    format!("{name}.{}.svc.cluster.local", room.ns)
}

async fn certificate_of(room: &Room, name: &str) -> Result<Shown> {
    shown(room, &host(room, name)).await
}

pub(super) async fn is_issued(room: &Room) -> Result<String> {
    for name in ["ai", "api"] {
        let service = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: ExternalName, externalName: traefik.{NAMESPACE}.svc.cluster.local}}}}"
        );
        apply_yaml(&room.client, &room.ns, &service).await?;
    }
    let began = Instant::now();
    let tls = json!({
        "api": {"host": host(room, "api")}, "dashboard": {"host": host(room, "ai")}, "tls": {"certResolver": "pebble"},
    });
    room.change(hosts(&tls)).await?;
    let told = room.wait("RoutesReady", "True", "Reachable", 120).await?;
    let known = began.elapsed().as_secs_f64();
    names(&told, &["Pebble", &format!("https://{}", host(room, "ai"))])?;
    for name in ["ai", "api"] {
        let shown = certificate_of(room, name).await?;
        ensure!(shown.issuer.contains("Pebble"), "{name} shows one of {}", shown.issuer);
    }
    Ok(format!("known after {known:.1} s"))
}

pub(super) async fn is_renewed(room: &Room) -> Result<String> {
    let before = certificate_of(room, "ai").await?;
    wait_for("another certificate", Duration::from_mins(4), || async {
        Ok((certificate_of(room, "ai").await?.serial != before.serial).then_some(()))
    })
    .await?;
    room.wait("RoutesReady", "True", "Reachable", 90).await?;
    Ok(String::new())
}

/// It is told before it ends, and rolls nothing back.
pub(super) async fn outage(room: &Room) -> Result<String> {
    scale(&room.client, 0).await?;
    let revision = room.stack().await?.status.context("no status")?.current_revision;
    room.change(json!({"logLevel": "Debug"})).await?;
    let told = room.wait("RoutesReady", "False", "CertificateExpiring", 420).await?;
    room.wait_ready(180).await?;
    let status = room.stack().await?.status.context("no status")?;
    ensure!(
        status.current_revision != revision && status.failure.is_none(),
        "the revision of the outage was taken back"
    );
    scale(&room.client, 1).await?;
    room.wait("RoutesReady", "True", "Reachable", 240).await?;
    Ok(told.message)
}
