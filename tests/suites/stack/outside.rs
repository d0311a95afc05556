//! PostgreSQL and Redis of somebody else, both behind TLS: what the operator makes of a login that is
//! wrong, right, and changed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use odoo_ai_crds::backup::{Backup, BackupReason};
use odoo_ai_tests::{apply_yaml, wait_for};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::migrations::look::BACKUP;
use crate::room::{Room, condition, sample, summary};

const READY: u64 = 240;
const SOON: u64 = 60;
/// Of its superuser `app`.
pub(crate) const PASSWORD: &str = "outside p%w:/@";
const NEXT: &str = "the next p%w";

/// The label of a component and the container's name let [`Room::run`] and [`Room::sql`] find the database, as one of ours.
const SERVERS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: cache}
spec: {selector: {app: cache}, ports: [{port: 6380}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, labels: {app: db, app.kubernetes.io/component: postgresql}}
spec:
  terminationGracePeriodSeconds: 5
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {runAsNonRoot: true, runAsUser: 999, runAsGroup: 999, fsGroup: 999, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: postgresql
      image: postgres:17
      imagePullPolicy: IfNotPresent
      args: [postgres, -c, ssl=on, -c, ssl_cert_file=/tls/server.crt, -c, ssl_key_file=/tls/server.key]
      env:
        - {name: POSTGRES_USER, value: app}
        - {name: POSTGRES_DB, value: odoo}
        - {name: PGDATA, value: /data/pgdata}
        - {name: POSTGRES_PASSWORD, valueFrom: {secretKeyRef: {name: outside, key: password}}}
      resources: {requests: {cpu: 50m, memory: 128Mi}, limits: {memory: 512Mi}}
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: data, mountPath: /data}, {name: tls, mountPath: /tls}]
  volumes: [{name: data, emptyDir: {}}, {name: tls, secret: {secretName: outside, defaultMode: 288}}]
---
apiVersion: v1
kind: Pod
metadata: {name: cache, labels: {app: cache}}
spec:
  terminationGracePeriodSeconds: 5
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {runAsNonRoot: true, runAsUser: 999, runAsGroup: 999, fsGroup: 999, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: cache
      image: redis:7
      imagePullPolicy: IfNotPresent
      command: [redis-server, /tls/redis.conf]
      resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 256Mi}}
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: tls, mountPath: /tls}]
  volumes: [{name: tls, secret: {secretName: outside, defaultMode: 288}}]
";

const REDIS: &str = "port 0
tls-port 6380
tls-cert-file /tls/server.crt
tls-key-file /tls/server.key
tls-ca-cert-file /tls/ca.crt
tls-auth-clients no
requirepass redis-secret
maxmemory 64mb
maxmemory-policy noeviction
dir /tmp
save \"\"
";

/// An authority, and a certificate of it for both servers.
fn certificates() -> Result<Value> {
    let key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "authority of a test");
    let ca = authority.self_signed(&key)?.pem();
    let issuer = Issuer::new(authority, key);
    let server = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(["db", "cache"].map(str::to_owned).to_vec())?;
    parameters.use_authority_key_identifier_extension = true;
    let certificate = parameters.signed_by(&server, &issuer)?.pem();
    Ok(json!({"ca.crt": ca, "server.crt": certificate, "server.key": server.serialize_pem()}))
}

async fn secret(room: &Room, name: &str, values: &Value) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values});
    room.api::<Secret>().patch(name, &PatchParams::apply("outside").force(), &Patch::Apply(object)).await?;
    Ok(())
}

/// The two servers run, before there is a stack.
pub(crate) async fn servers_run(room: &Room) -> Result<String> {
    let mut values = certificates()?;
    values["password"] = json!(PASSWORD);
    values["redis.conf"] = json!(REDIS);
    secret(room, "outside", &values).await?;
    apply_yaml(&room.client, &room.ns, SERVERS).await?;
    give_password(room, "wrong").await?;
    let url = "rediss://:redis-secret@cache:6380/2";
    secret(room, "redis", &json!({"url": url, "ca.crt": ca(room).await?})).await?;
    wait_for("PostgreSQL outside", Duration::from_mins(1), || async {
        Ok((sql(room, "SELECT 1").await.unwrap_or_default() == "1").then_some(()))
    })
    .await?;
    Ok(String::new())
}

/// By the socket, where the image trusts everybody.
pub(crate) async fn sql(room: &Room, query: &str) -> Result<String> {
    let command = ["psql", "-U", "app", "-d", "odoo", "-Atqc", query];
    Ok(room.run("postgresql", &command).await?.trim().to_owned())
}

/// The stack is told this password.
pub(crate) async fn give_password(room: &Room, password: &str) -> Result<()> {
    secret(room, "database", &json!({"password": password, "ca.crt": ca(room).await?})).await
}

/// Applies the stack of the sample, on these servers; `login`: its database, as whom it logs in, and what else is said.
pub(crate) async fn apply_stack(room: &Room, login: Value) -> Result<()> {
    let mut external = json!({
        "host": "db", "sslMode": "VerifyFull",
        "passwordSecretRef": {"name": "database", "key": "password"},
        "caSecretRef": {"name": "database", "key": "ca.crt"},
    });
    for (field, value) in login.as_object().into_iter().flatten() {
        external[field] = value.clone();
    }
    let mut documents = sample("local.yaml")?;
    for document in documents.iter_mut().filter(|document| document["kind"] == "OdooAiStack") {
        document["spec"]["database"] = json!({"type": "External", "external": external});
        document["spec"]["redis"] = json!({"type": "External", "external": {
            "urlSecretRef": {"name": "redis", "key": "url"}, "caSecretRef": {"name": "redis", "key": "ca.crt"},
        }});
    }
    room.apply(&documents).await
}

/// The Backup of the sample, on a volume only.
pub(crate) async fn make_backup(room: &Room) -> Result<()> {
    let mut documents = sample("backup.yaml")?;
    for document in &mut documents {
        document["spec"]["storage"] = json!({"persistentVolumeClaim": {"size": "1Gi"}});
        // The server is somebody else's: nobody knows its version but who asks.
        document["spec"]["job"] = json!({"image": "postgres:17"});
    }
    room.apply(&documents).await
}

/// A wrong password is named before anything is made.
pub(crate) async fn wrong_password_is_named(room: &Room) -> Result<String> {
    apply_stack(room, json!({"database": "odoo", "username": "app"})).await?;
    let ready = room.wait("Ready", "False", "CredentialsRejected", SOON).await?;
    ensure!(ready.message.contains("db:5432"), "which server? {}", ready.message);
    ensure!(room.list::<StatefulSet>().await?.is_empty(), "something was made");
    Ok(ready.message)
}

/// The right one: Ready, with nothing of a server of our own.
pub(crate) async fn comes_up(room: &Room) -> Result<String> {
    let began = Instant::now();
    give_password(room, PASSWORD).await?;
    room.wait_ready(READY).await?;
    for kind in ["DatabaseReady", "RedisReady", "Migrated"] {
        let stack = room.stack().await?;
        let found = condition(&stack, kind).context("no such condition")?;
        ensure!(found.status == "True", "{kind} is {}: {}", found.status, summary(&stack));
    }
    let sets: Vec<_> = room.list::<StatefulSet>().await?.iter().map(ResourceExt::name_any).collect();
    ensure!(sets == ["odoo-ai-beat"], "StatefulSets {sets:?}");
    let rules = sql(room, "SELECT count(*), count(*) FILTER (WHERE enabled) FROM automation_rules").await?;
    ensure!(rules == "45|0", "rules, enabled rules: {rules}");
    let plain = sql(
        room,
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL AND NOT ssl",
    )
    .await?;
    ensure!(plain == "0", "{plain} connections are not encrypted");
    Ok(format!("Ready after {:.1} s", began.elapsed().as_secs_f64()))
}

async fn ca(room: &Room) -> Result<String> {
    room.secret("outside", "ca.crt").await
}

async fn application(room: &Room) -> Result<Vec<Option<String>>> {
    let mut uids = Vec::new();
    for component in ["ai-service", "worker", "beat", "dashboard"] {
        uids.extend(room.pods_of(component).await?.iter().map(Pod::uid));
    }
    Ok(uids)
}

/// Plan, backup and migration go through TLS, with the same awkward password.
pub(crate) async fn migrates(room: &Room) -> Result<String> {
    make_backup(room).await?;
    let migrations = json!({"backup": "Required", "backupRef": {"name": "nightly"}});
    let image = "odoo-ai-platform/ai-service:1.1.0";
    room.change(json!({"images": {"aiService": image}, "migrations": migrations})).await?;
    wait_for("the new schema", Duration::from_mins(2), || async {
        Ok((sql(room, "SELECT version_num FROM alembic_version").await? == "004_rule_usage").then_some(()))
    })
    .await?;
    room.wait_ready(READY).await?;
    let database = room.stack().await?.status.and_then(|status| status.database).context("no database")?;
    let migration = database.last_migration.context("no migration")?;
    let status = room.api::<Backup>().get(BACKUP).await?.status.context("no status of the Backup")?;
    let made = status.last_success.context("no backup")?;
    ensure!(migration.backup.as_ref() == Some(&made.id), "{:?} is no migration behind {made:?}", migration.backup);
    ensure!(made.reason == BackupReason::PreMigration && made.incarnation == database.incarnation, "it is {made:?}");
    Ok(format!("{}; behind {}", migration.message, made.id))
}

/// A wrong password restarts nothing; the right one is taken up.
pub(crate) async fn password_changes(room: &Room) -> Result<String> {
    let before = application(room).await?;
    give_password(room, "wrong again").await?;
    let stalled = room.wait("Stalled", "True", "CredentialsRejected", SOON).await?;
    let stack = room.stack().await?;
    ensure!(condition(&stack, "Available").is_some_and(|it| it.status == "True"), "{}", summary(&stack));
    ensure!(application(room).await? == before, "pods were restarted");
    ensure!(!room.rules().await?.is_empty(), "the API serves no more");
    let began = Instant::now();
    sql(room, &format!("ALTER ROLE app PASSWORD '{NEXT}'")).await?;
    give_password(room, NEXT).await?;
    wait_for("the new password to be taken up", Duration::from_mins(2), || async {
        let now = application(room).await?;
        Ok((now.len() == before.len() && now[..3].iter().all(|uid| !before.contains(uid))).then_some(()))
    })
    .await?;
    room.wait_ready(SOON).await?;
    ensure!(application(room).await?[3] == before[3], "the dashboard was restarted");
    ensure!(!room.rules().await?.is_empty(), "the API has no database");
    Ok(format!("{}; the right one taken up after {:.1} s", stalled.message, began.elapsed().as_secs_f64()))
}
