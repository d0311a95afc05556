//! Backups in a bucket of a real S3 server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use odoo_ai_crds::backup::{Backup, RunResult};
use odoo_ai_tests::{Cluster, apply_yaml, wait_for};
use serde_json::{Value, json};

use super::look::{BACKUP, RUN, ask, change, ended, ids, make, status, told, wait};
use crate::room::{Room, sample};

/// A bucket that is away is asked again for two minutes.
const PATIENT: Duration = Duration::from_mins(5);
const SERVER: &str = "s3";

const MANIFESTS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: s3}
spec: {selector: {app: s3}, ports: [{port: 7070}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: s3}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: s3}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app: s3}}
  template:
    metadata: {labels: {app: s3}}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: s3
          image: odooai-test/versitygw:1
          imagePullPolicy: Never
          args: [--port, ':7070', posix, --sidecar, /sidecar, /data]
          env:
            - {name: ROOT_ACCESS_KEY_ID, valueFrom: {secretKeyRef: {name: s3-@, key: accessKeyId}}}
            - {name: ROOT_SECRET_ACCESS_KEY, valueFrom: {secretKeyRef: {name: s3-@, key: secretAccessKey}}}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
          readinessProbe: {tcpSocket: {port: 7070}, periodSeconds: 1}
          volumeMounts:
            - {name: data, mountPath: /data}
            # A folder is a bucket.
            - {name: bucket, mountPath: /data/backups}
            - {name: sidecar, mountPath: /sidecar}
      volumes:
        - {name: data, emptyDir: {}}
        - {name: sidecar, emptyDir: {}}
        - {name: bucket, persistentVolumeClaim: {claimName: s3}}
";

/// The server takes this key from now on.
async fn serve(room: &Room, key: &str) -> Result<()> {
    secret(room, &format!("s3-{key}"), key).await?;
    apply_yaml(&room.client, &room.ns, &MANIFESTS.replace('@', key)).await?;
    scaled(room, 1).await
}

async fn scale(room: &Room, replicas: i32) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    room.api::<Deployment>().patch(SERVER, &PatchParams::default(), &patch).await?;
    scaled(room, replicas).await
}

async fn scaled(room: &Room, replicas: i32) -> Result<()> {
    wait_for("the S3 server", Duration::from_mins(1), || async {
        let server = room.api::<Deployment>().get(SERVER).await?;
        let (generation, status) = (server.metadata.generation, server.status.unwrap_or_default());
        let ready = status.ready_replicas.unwrap_or_default();
        let settled = status.observed_generation == generation && status.replicas.unwrap_or_default() == replicas;
        let updated = replicas == 0 || status.updated_replicas == Some(replicas);
        ensure!(settled && updated && ready == replicas, "{ready} ready");
        Ok(Some(()))
    })
    .await
}

/// The Backup has this key from now on.
async fn know(room: &Room, key: &str) -> Result<()> {
    secret(room, "backup-s3", key).await
}

fn value(key: &str) -> String {
    format!("{key}-key-that-nobody-reads")
}

async fn secret(room: &Room, name: &str, key: &str) -> Result<()> {
    let secret: Secret = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"accessKeyId": "AKIATESTTEST", "secretAccessKey": value(key)},
    }))?;
    room.api::<Secret>().patch(name, &PatchParams::apply("suite").force(), &Patch::Apply(&secret)).await?;
    Ok(())
}

fn bucket() -> Value {
    let endpoint = format!("http://{SERVER}:7070");
    json!({"endpoint": endpoint, "bucket": "backups", "prefix": "production", "credentialsSecretRef": {"name": "backup-s3"}})
}

/// The Backup of the sample, in the bucket only.
async fn apply(room: &Room) -> Result<()> {
    let mut documents = sample("backup.yaml")?;
    for document in &mut documents {
        document["spec"]["storage"] = json!({"s3": bucket()});
    }
    room.apply(&documents).await
}

pub(super) async fn installs(room: &Room, cluster: &Cluster) -> Result<String> {
    cluster.load_images(&["odooai-test/versitygw:1".to_owned()]).await?;
    serve(room, "first").await?;
    super::policy::installs(room).await
}

/// Told when the Backup is made, not at three in the morning; and the right ones are used at once.
pub(super) async fn refuses_wrong_credentials(room: &Room) -> Result<String> {
    apply(room).await?;
    wait(room, "Ready", "False", "SecretMissing", RUN).await?;
    know(room, "wrong").await?;
    let told = wait(room, "Ready", "False", "CatalogueUnreadable", RUN).await?;
    ensure!(!told.message.contains(&value("wrong")), "the key is told: {}", told.message);
    know(room, "first").await?;
    wait(room, "Ready", "Unknown", "NoBackupYet", Duration::from_secs(45)).await?;
    Ok(told.message)
}

pub(super) async fn is_made_and_verified(room: &Room) -> Result<String> {
    let id = make(room).await?;
    wait(room, "OffsiteCopied", "True", "Copied", RUN).await?;
    let request = ask(room, "verify").await?;
    let run = ended(room, &request, RUN).await?;
    ensure!(run.result == RunResult::Succeeded, "it is {run:?}");
    let ready = wait(room, "Ready", "True", "BackedUp", RUN).await?;
    ensure!(!ready.message.contains("does not survive"), "{}", ready.message);
    let verified = status(room).await?.last_verified.context("not verified")?;
    ensure!(verified.id == id, "verified is {}", verified.id);
    Ok(ready.message)
}

/// The store takes other credentials: a run fails and says why, and the next one has them.
pub(super) async fn credentials_rotate(room: &Room) -> Result<String> {
    let before = ids(room).await?;
    serve(room, "second").await?;
    let request = ask(room, "backup").await?;
    let run = ended(room, &request, PATIENT).await?;
    ensure!(run.result == RunResult::Failed, "it is {run:?}");
    let told = wait(room, "Ready", "False", "BackupFailed", RUN).await?;
    know(room, "second").await?;
    make(room).await?;
    wait(room, "Ready", "True", "BackedUp", RUN).await?;
    let now = ids(room).await?;
    ensure!(before.iter().all(|id| now.contains(id)) && now.len() == before.len() + 1, "{before:?}, now {now:?}");
    Ok(told.message)
}

/// A volume comes first, and the bucket gets copies; also of what was made while it was away.
pub(super) async fn copies(room: &Room) -> Result<String> {
    change(room, json!({"storage": {"persistentVolumeClaim": {"size": "1Gi"}}})).await?;
    wait(room, "Ready", "Unknown", "NoBackupYet", RUN).await?;
    make(room).await?;
    wait(room, "OffsiteCopied", "True", "Copied", RUN).await?;
    scale(room, 0).await?;
    let request = ask(room, "backup").await?;
    let run = ended(room, &request, PATIENT).await?;
    ensure!(run.result == RunResult::Succeeded && run.copied == Some(false), "it is {run:?}");
    let failed = wait(room, "OffsiteCopied", "False", "CopyFailed", RUN).await?;
    wait(room, "Ready", "True", "BackedUp", RUN).await?;
    scale(room, 1).await?;
    make(room).await?;
    wait(room, "OffsiteCopied", "True", "Copied", RUN).await?;
    Ok(failed.message)
}

/// Who says so gets rid of them, in the bucket too.
pub(super) async fn goes_with_its_artifacts(room: &Room) -> Result<String> {
    change(room, json!({"deletionPolicy": "Delete"})).await?;
    wait_for("the finalizer", RUN, || async {
        let backup = room.api::<Backup>().get(BACKUP).await?;
        Ok((!backup.finalizers().is_empty()).then_some(()))
    })
    .await?;
    room.api::<Backup>().delete(BACKUP, &DeleteParams::foreground()).await?;
    wait_for("the Backup to go", RUN, || async {
        Ok(room.api::<Backup>().get_opt(BACKUP).await?.is_none().then_some(()))
    })
    .await?;
    told(room, "ArtifactsRemoved").await?;
    apply(room).await?;
    wait(room, "Ready", "Unknown", "NoBackupYet", RUN).await?;
    let left = status(room).await?.catalogue.map(|it| it.total);
    ensure!(left == Some(0), "{left:?} are left");
    Ok(String::new())
}

/// Nothing but Git and the bucket.
pub(super) async fn is_rebuilt(room: &Room) -> Result<String> {
    let on_the_volume = ids(room).await?;
    room.api::<Backup>().delete(BACKUP, &DeleteParams::foreground()).await?;
    wait_for("the Backup to go", RUN, || async {
        Ok(room.api::<Backup>().get_opt(BACKUP).await?.is_none().then_some(()))
    })
    .await?;
    apply(room).await?;
    wait(room, "Ready", "True", "BackedUp", RUN).await?;
    let now = ids(room).await?;
    ensure!(
        on_the_volume.len() == 3 && on_the_volume.iter().all(|id| now.contains(id)),
        "{on_the_volume:?}, now {now:?}"
    );
    ensure!(now.len() == 5, "{} in the bucket", now.len());
    Ok(format!("{} artifacts", now.len()))
}
