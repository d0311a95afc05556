//! Disaster recovery: the cluster is destroyed, and a new one gets everything from Git, the bucket and the keys.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use odoo_ai_crds::backup::{BackupReason, RunResult};
use odoo_ai_crds::conditions::annotations;
use odoo_ai_operator::stack::keys::digest;
use odoo_ai_tests::{Cluster, Run, apply_yaml, docker, dump, wait_for};
use serde_json::{Value, json};

use crate::backups::look::{RUN, ask, change, ended, make, status as backup, wait};
use crate::checks::Checks;
use crate::migrations::look::incarnation;
use crate::operator;
use crate::ready::{enable_a_rule, send_event};
use crate::restores::look::contents;
use crate::room::{COMPONENT, Room, STACK, sample};

const NAMESPACE: &str = "odoo-ai";
const IMAGE: &str = "odooai-test/versitygw:1";
/// A first install with a restore in it.
const READY: u64 = 300;

/// What is kept outside of the cluster.
struct Outside {
    /// The store's address.
    bucket: String,
    /// The keys, as `kubectl get` printed them.
    keys: Vec<Secret>,
    /// Their digest, which stands in Git.
    exported: String,
}

/// What the lost cluster had.
struct Before {
    contents: String,
    rules: Value,
    incarnation: String,
    total: i32,
}

/// It destroys the cluster that it begins with: `hack/test recovery` has one for it alone.
#[tokio::test]
#[ignore = "full tier"]
async fn a_new_host_begins_where_the_lost_one_was() -> Result<()> {
    let old = operator::cluster().await?;
    let mut checks = Checks::new("recovery");
    let room = &begin(old.client().await?).await?;
    let run = Run::of_this_process()?;
    let bucket = checks.need("a store outside of the cluster", store(&run)).await?;
    let (before, outside) = checks.need("a stack, its backup and its keys", lived(room, bucket)).await?.1;
    let (new, began, started) =
        checks.need("the cluster is destroyed, and there is a new one", destroyed(old, run)).await?.1;
    let room = &begin(new.client().await?).await?;
    let ready = checks.need("everything is applied, and Ready", recovers(room, &outside, began, started)).await;
    checks.check("every row is there", has_every_row(room, &before)).await;
    checks.check("the next slot goes to the same catalogue", is_backed_up(room, &before)).await;
    checks.check("no secret is shown", crate::safety::no_secret_is_shown(room)).await;
    if ready.is_err() {
        dump(&room.client, &room.ns).await;
    }
    new.remove().await?;
    checks.finish()
}

/// The namespace that Git has.
async fn begin(client: Client) -> Result<Room> {
    apply_yaml(&client, "default", &format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"))
        .await?;
    let room = Room::new(client, NAMESPACE.to_owned()).await?;
    wait_for("the default service account", RUN, || async {
        Ok(room.api::<ServiceAccount>().get_opt("default").await?)
    })
    .await?;
    Ok(room)
}

fn credentials() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "backup-s3"},
        "stringData": {"accessKeyId": "AKIATESTTEST", "secretAccessKey": "a-key-that-nobody-reads"},
    })
}

async fn store(run: &Run) -> Result<String> {
    let secret = credentials();
    let text = |key: &str| secret["stringData"][key].as_str().unwrap_or_default();
    let id = format!("--env=ROOT_ACCESS_KEY_ID={}", text("accessKeyId"));
    let key = format!("--env=ROOT_SECRET_ACCESS_KEY={}", text("secretAccessKey"));
    // A folder is a bucket.
    let options = [&id, &key, "--volume=/data", "--tmpfs=/data/backups", "--tmpfs=/sidecar"];
    let arguments = ["--port", ":7070", "posix", "--sidecar", "/sidecar", "/data"];
    Ok(format!("http://{}:7070", run.beside(IMAGE, &options, &arguments).await?))
}

/// What Git has of the stack and its Backup. On a new cluster it begins with a backup.
fn manifests(bucket: &str, exported: &str) -> Result<Vec<Value>> {
    let mut all = sample("local.yaml")?;
    all.extend(sample("backup.yaml")?);
    for document in &mut all {
        match document["kind"].as_str() {
            Some("OdooAiStack") => {
                document["metadata"]["annotations"] = json!({annotations::KEYS_EXPORTED: exported});
                document["spec"]["database"]["managed"]["bootstrap"] = json!({"restoreFrom": {
                    "backupRef": {"name": "nightly"}, "artifact": {"selector": "LatestVerified"},
                }});
                document["spec"]["migrations"] = json!({"backup": "Required", "backupRef": {"name": "nightly"}});
            }
            Some("Backup") => {
                document["spec"]["storage"] = json!({"s3": {
                    "endpoint": bucket, "bucket": "backups", "prefix": "production",
                    "credentialsSecretRef": {"name": "backup-s3"},
                }});
            }
            _ => {}
        }
    }
    Ok(all)
}

/// A stack with rows in it, a verified backup in the bucket, and its keys outside.
async fn lived(room: &Room, bucket: String) -> Result<Done<(Before, Outside)>> {
    let mut documents = manifests(&bucket, "none yet")?;
    for document in documents.iter_mut().filter(|document| document["kind"] == "OdooAiStack") {
        // There is nothing to begin with yet.
        document["spec"]["database"]["managed"].as_object_mut().context("it is Managed")?.remove("bootstrap");
    }
    room.apply(&[credentials()]).await?;
    room.apply(&documents).await?;
    room.wait_ready(READY).await?;
    enable_a_rule(room).await?;
    for _ in 0..3 {
        send_event(room, "crm.lead").await?;
    }
    let many = "CREATE TABLE many (id int PRIMARY KEY, words text);
        INSERT INTO many SELECT n, repeat(md5(n::text), 4) FROM generate_series(1, 200000) n";
    room.sql(&many.replace('\n', " ")).await?;
    room.sql("ALTER TABLE many OWNER TO odoo_ai").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let id = make(room).await?;
    let before = Before {
        contents: contents(room, "odoo_ai").await?,
        rules: json!(room.rules().await?),
        incarnation: incarnation(room).await?,
        total: total(room).await?,
    };
    let run = ended(room, &ask(room, "verify").await?, RUN).await?;
    ensure!(run.result == RunResult::Succeeded, "it is {run:?}");
    // What comes after the backup is lost with the cluster.
    room.sql("CREATE TABLE later (id int)").await?;
    let keys = exported(room).await?;
    let exported = digest(&keys);
    // A stack that runs doesn't care what it would begin with.
    room.apply(&manifests(&bucket, &exported)?).await?;
    room.wait("KeysExported", "True", "Exported", 30).await?;
    room.wait_ready(60).await?;
    let jobs = ListParams::default().labels(&format!("{COMPONENT}=bootstrap"));
    ensure!(room.api::<Job>().list(&jobs).await?.items.is_empty(), "a Job looks into the database");
    Ok(Done(format!("backup {id}"), (before, Outside { bucket, keys, exported })))
}

/// As docs/secrets.md has them exported.
async fn exported(room: &Room) -> Result<Vec<Secret>> {
    let selector = format!(
        "odoo-ai.atmatasolutions.com/stack={STACK},app.kubernetes.io/component notin (application,credentials)"
    );
    Ok(room.api::<Secret>().list(&ListParams::default().labels(&selector)).await?.items)
}

/// The node goes with all its disks; a new one gets images and the operator.
async fn destroyed(old: &Cluster, run: Run) -> Result<Done<(Cluster, Instant, Duration)>> {
    docker(["rm", "-fv", &old.container()?]).await?;
    let began = Instant::now();
    let new = Cluster::start(run).await?;
    let started = began.elapsed();
    operator::into(&new).await?;
    let told = format!(
        "node {:.1} s, images and operator {:.1} s",
        started.as_secs_f64(),
        began.elapsed().saturating_sub(started).as_secs_f64()
    );
    Ok(Done(told, (new, began, began.elapsed())))
}

/// Keys, then Git; nothing else.
async fn recovers(room: &Room, outside: &Outside, began: Instant, operator: Duration) -> Result<String> {
    let applied = Instant::now();
    for key in &outside.keys {
        let mut key = key.clone();
        key.metadata = ObjectMeta {
            name: key.metadata.name.clone(),
            labels: key.metadata.labels.clone(),
            annotations: key.metadata.annotations.clone(),
            ..ObjectMeta::default()
        };
        room.api::<Secret>().create(&PostParams::default(), &key).await.context(key.name_any())?;
    }
    room.apply(&[credentials()]).await?;
    room.apply(&manifests(&outside.bucket, &outside.exported)?).await?;
    room.wait_ready(READY).await?;
    let (all, alone) = (began.elapsed().as_secs_f64(), applied.elapsed().as_secs_f64());
    room.wait("KeysExported", "True", "Exported", 30).await?;
    let noted = room.stack().await?.status.and_then(|it| it.database?.bootstrap).context("nothing is noted")?;
    ensure!(noted.restored && noted.message.contains("adopted"), "it is {noted:?}");
    Ok(format!(
        "{alone:.1} s from kubectl apply, {all:.1} s from an empty host (operator after {:.1} s): {}",
        operator.as_secs_f64(),
        noted.message
    ))
}

async fn has_every_row(room: &Room, before: &Before) -> Result<String> {
    let now = contents(room, "odoo_ai").await?;
    ensure!(now == before.contents, "{now}\nis not\n{}", before.contents);
    ensure!(json!(room.rules().await?) == before.rules, "the rules are others");
    ensure!(incarnation(room).await? != before.incarnation, "it is the same database");
    let tables = now.lines().count();
    // The key that clients and Odoo have still opens the API: `rules` asked with it.
    Ok(format!("{tables} tables"))
}

/// By the schedule, without anybody's `adopt`.
async fn is_backed_up(room: &Room, before: &Before) -> Result<String> {
    wait(room, "Ready", "True", "BackedUp", RUN).await?;
    change(room, json!({"schedule": "* * * * *"})).await?;
    let made = wait_for("a backup by the schedule", Duration::from_mins(3), || async {
        let last = backup(room).await?.last_success.context("no backup")?;
        ensure!(last.reason == BackupReason::Scheduled, "it is {last:?}");
        Ok(Some(last))
    })
    .await?;
    let total = total(room).await?;
    ensure!(total > before.total, "the catalogue has {total} backups, and had {}", before.total);
    Ok(made.id)
}

/// How many good ones there are.
async fn total(room: &Room) -> Result<i32> {
    Ok(backup(room).await?.catalogue.context("no catalogue")?.total)
}

/// What was done, and what it gave.
struct Done<T>(String, T);

impl<T> std::fmt::Display for Done<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}
