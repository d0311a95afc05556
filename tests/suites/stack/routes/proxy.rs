//! A real Traefik where k3s has its own, with its own CRDs and rights.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use odoo_ai_tests::{Cluster, apply_yaml, run_dir, wait_for};
use serde_json::json;

use super::pebble;

pub(crate) const NAMESPACE: &str = "kube-system";

/// The entry points as k3s names them, and as little else as can be.
const TRAEFIK: &str = r"
apiVersion: v1
kind: ServiceAccount
metadata: {name: traefik-ingress-controller, namespace: kube-system}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: traefik, annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}}
spec: {controller: traefik.io/ingress-controller}
---
apiVersion: v1
kind: Service
metadata: {name: traefik, namespace: kube-system}
spec:
  # As it is reached from outside: it hides clients' addresses.
  type: NodePort
  selector: {app: traefik}
  ports:
    - {name: web, port: 80, targetPort: 8000}
    - {name: websecure, port: 443, targetPort: 8443}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: traefik, namespace: kube-system, labels: {app: traefik}}
spec:
  replicas: 1
  selector: {matchLabels: {app: traefik}}
  template:
    metadata: {labels: {app: traefik}}
    spec:
      serviceAccountName: traefik-ingress-controller
      containers:
        - name: traefik
          image: odooai-test/traefik:1
          imagePullPolicy: Never
          args:
            - --entryPoints.web.address=:8000
            - --entryPoints.websecure.address=:8443
            - --entryPoints.websecure.http.tls=true
            - --entryPoints.ping.address=:8080
            - --ping.entryPoint=ping
            - --providers.kubernetesCRD
            - --providers.kubernetesIngress
            - --log.level=INFO
            - --certificatesResolvers.pebble.acme.caServer=https://pebble.kube-system.svc:14000/dir
            - --certificatesResolvers.pebble.acme.email=test@example.com
            - --certificatesResolvers.pebble.acme.storage=/data/acme.json
            - --certificatesResolvers.pebble.acme.httpChallenge.entryPoint=web
            # Hours: it then looks every minute whether one has less than twenty minutes left.
            - --certificatesResolvers.pebble.acme.certificatesDuration=1
          env: [{name: LEGO_CA_CERTIFICATES, value: /authority/ca.crt}]
          volumeMounts:
            - {name: data, mountPath: /data}
            - {name: authority, mountPath: /authority, readOnly: true}
          ports: [{name: ping, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /ping, port: ping}, periodSeconds: 1}
          securityContext:
            runAsNonRoot: true
            runAsUser: 65532
            allowPrivilegeEscalation: false
            capabilities: {drop: [ALL]}
      securityContext: {fsGroup: 65532}
      volumes:
        - {name: data, emptyDir: {}}
        - {name: authority, secret: {secretName: pebble}}
";

/// Installs it, unless it is there.
pub(crate) async fn install(cluster: &Cluster) -> Result<String> {
    let client = cluster.client().await?;
    if cluster.is_k3s() {
        return Ok("k3s' own".to_owned());
    }
    cluster.load_images(&["odooai-test/traefik:1", "odooai-test/pebble:1"].map(str::to_owned)).await?;
    pebble::install(&client).await?;
    for file in ["crds.yaml", "rbac.yaml"] {
        let path = run_dir().join("traefik").join(file);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{}: hack/images traefik", path.display()))?;
        // Its own example lives in another namespace.
        let text = text.replace("namespace: default", &format!("namespace: {NAMESPACE}"));
        apply_yaml(&client, NAMESPACE, &text).await?;
    }
    apply_yaml(&client, NAMESPACE, TRAEFIK).await?;
    scale(&client, 1).await?;
    Ok(String::new())
}

/// Starts it anew with one argument more, or without it.
pub(crate) async fn argument(client: &Client, argument: &str, wanted: bool) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let mut deployment = api.get("traefik").await?;
    let template = deployment.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    let arguments = template.and_then(|spec| spec.containers[0].args.as_mut()).context("no arguments")?;
    arguments.retain(|it| it != argument);
    arguments.extend(wanted.then(|| argument.to_owned()));
    let generation = api.replace("traefik", &PostParams::default(), &deployment).await?.metadata.generation;
    wait_for("Traefik to be replaced", Duration::from_mins(1), || async {
        let status = api.get("traefik").await?.status.unwrap_or_default();
        let done = status.observed_generation == generation && status.replicas == Some(1);
        Ok((done && status.updated_replicas == Some(1) && status.ready_replicas == Some(1)).then_some(()))
    })
    .await
}

/// Runs that many pods of it.
pub(crate) async fn scale(client: &Client, replicas: i32) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    api.patch("traefik", &PatchParams::default(), &patch).await?;
    wait_for("Traefik", Duration::from_mins(1), || async {
        let status = api.get("traefik").await?.status.unwrap_or_default();
        let (all, ready) = (status.replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0));
        Ok((all == replicas && ready == replicas).then_some(()))
    })
    .await
}
