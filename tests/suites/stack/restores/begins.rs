//! A new volume begins with a backup, or with a plain dump.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use odoo_ai_crds::stack::{BootstrapStatus, OdooAiStack};
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::{Value, json};

use super::faults::{self, an_old_dump};
use super::look::{RUN, ask, at_work, contents, databases};
use crate::migrations::look::{BACKUP, READY, incarnation};
use crate::operator::{self, End};
use crate::ready::enable_a_rule;
use crate::room::{COMPONENT, LABEL, Room, STACK, sample};

/// Where the database is.
const CLAIM: &str = "odoo-ai-postgresql";

/// What the lost volume held.
pub(super) struct Lost {
    contents: String,
    rules: Value,
    incarnation: String,
    id: String,
}

/// A stack with rows; a backup and an old dump of it lie on another volume.
pub(super) async fn is_saved(room: &Room) -> Result<Kept> {
    enable_a_rule(room).await?;
    let id = faults::begins(room).await?;
    an_old_dump(room).await?;
    let lost = Lost {
        contents: contents(room, "odoo_ai").await?,
        rules: json!(room.rules().await?),
        incarnation: incarnation(room).await?,
        id,
    };
    Ok(Kept(lost))
}

pub(super) async fn loses_its_volume(room: &Room) -> Result<&'static str> {
    lose(room, true).await.map(|()| "")
}

/// The stack is deleted, and its volume goes, or stays.
async fn lose(room: &Room, volume: bool) -> Result<()> {
    room.api::<OdooAiStack>().delete(STACK, &DeleteParams::foreground()).await?;
    wait_for("the stack's pods to go", RUN, || async {
        let pods = room.list::<Pod>().await?;
        let left = pods.iter().find(|pod| pod.labels().contains_key(LABEL) && pod.name_any().starts_with("odoo-ai-"));
        ensure!(left.is_none(), "there is {}", left.map(ResourceExt::name_any).unwrap_or_default());
        Ok(room.api::<OdooAiStack>().get_opt(STACK).await?.is_none().then_some(()))
    })
    .await?;
    if !volume {
        return Ok(());
    }
    room.api::<PersistentVolumeClaim>().delete(CLAIM, &DeleteParams::default()).await?;
    wait_for("the volume to go", RUN, || async {
        Ok(room.api::<PersistentVolumeClaim>().get_opt(CLAIM).await?.is_none().then_some(()))
    })
    .await
}

/// The stack of the sample, which begins with `source`.
async fn begin(room: &Room, source: Value) -> Result<()> {
    let mut documents = sample("local.yaml")?;
    for document in documents.iter_mut().filter(|document| document["kind"] == "OdooAiStack") {
        document["spec"]["database"]["managed"]["bootstrap"] = json!({"restoreFrom": source});
    }
    room.apply(&documents).await
}

fn from_a_file(file: &str) -> Value {
    json!({"storage": {"persistentVolumeClaim": {"claimName": "nightly-backups"}}, "file": file})
}

fn from_the_backup(id: &str) -> Value {
    json!({"backupRef": {"name": BACKUP}, "artifact": {"id": id}})
}

async fn noted(room: &Room) -> Result<BootstrapStatus> {
    room.stack().await?.status.and_then(|it| it.database?.bootstrap).context("nothing is noted")
}

/// Nothing is made in the empty database, and the stack says why.
async fn waits(room: &Room, reason: &str) -> Result<String> {
    let ready = room.wait("Ready", "False", reason, READY).await?;
    ensure!(ready.message.contains("(Bootstrap)"), "{}", ready.message);
    let all = ask(room, "postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1").await?;
    // The first Job makes the application's.
    if all != "postgres" {
        let tables = room.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await?;
        ensure!(tables == "0" && all == "odoo_ai\npostgres", "{tables} tables; {all:?}");
    }
    Ok(ready.message)
}

/// What can't be had is told, and nothing takes its place.
pub(super) async fn waits_for_its_source(room: &Room, lost: &Lost) -> Result<String> {
    let mut nowhere = from_a_file("b.sql");
    nowhere["storage"]["persistentVolumeClaim"]["claimName"] = json!("nowhere");
    begin(room, nowhere).await?;
    waits(room, "VolumeMissing").await?;
    begin(room, from_the_backup("20200101t000000z-aaaaaa")).await?;
    waits(room, "ArtifactMissing").await?;
    begin(room, from_a_file("old/cut.sql.gz")).await?;
    let told = waits(room, "ArtifactDamaged").await?;
    ensure!(room.pods_of("ai-service").await?.is_empty(), "the application runs");
    ensure!(incarnation(room).await? != lost.incarnation, "it is the lost database");
    Ok(told)
}

/// Agent, PostgreSQL and operator are killed while rows come in; in the end all of them are there.
pub(super) async fn is_killed_again_and_again(room: &Room, cluster: &Cluster, lost: &Lost) -> Result<String> {
    begin(room, from_the_backup(&lost.id)).await?;
    at_work(room).await?;
    let pods = ListParams::default().labels(&format!("{COMPONENT}=bootstrap"));
    for pod in room.api::<Pod>().list(&pods).await?.items {
        room.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    }
    at_work(room).await?;
    operator::replace(cluster, &room.client, End::Forced).await?;
    at_work(room).await?;
    let server = room.pod_of("postgresql").await?.name_any();
    room.api::<Pod>().delete(&server, &DeleteParams::default().grace_period(0)).await?;
    room.wait_ready(READY * 2).await?;
    let now = contents(room, "odoo_ai").await?;
    ensure!(now == lost.contents, "{now}\nis not\n{}", lost.contents);
    ensure!(json!(room.rules().await?) == lost.rules, "the rules are others");
    let all = databases(room).await?;
    ensure!(all == ["odoo_ai", "postgres"], "there is {all:?}");
    let noted = noted(room).await?;
    ensure!(noted.restored && noted.artifact_id.as_ref() == Some(&lost.id), "it is {noted:?}");
    Ok(noted.message)
}

/// The lines stay in Git: what is there is left as it is.
pub(super) async fn leaves_what_is_there(room: &Room, lost: &Lost) -> Result<String> {
    room.sql("CREATE TABLE later (id int)").await?;
    lose(room, false).await?;
    begin(room, from_the_backup(&lost.id)).await?;
    room.wait_ready(READY).await?;
    let noted = noted(room).await?;
    ensure!(!noted.restored && incarnation(room).await? == lost.incarnation, "it is {noted:?}");
    ensure!(room.sql("SELECT to_regclass('later') IS NOT NULL").await? == "t", "it is another database");
    let events = room.api::<Event>().list(&ListParams::default()).await?.items;
    ensure!(events.iter().any(|event| event.reason.as_deref() == Some("DatabaseNotEmpty")), "no Event");
    Ok(noted.message)
}

/// As on the day of the move: nothing but an old dump.
pub(super) async fn from_an_old_dump(room: &Room, lost: &Lost) -> Result<String> {
    lose(room, true).await?;
    begin(room, from_a_file("old/ai_db.sql.gz")).await?;
    room.wait_ready(READY).await?;
    let without = |all: &str| all.lines().filter(|it| !it.starts_with("ballast ")).collect::<Vec<_>>().join("\n");
    let now = contents(room, "odoo_ai").await?;
    ensure!(now == without(&lost.contents), "{now}\nis not\n{}", without(&lost.contents));
    Ok(noted(room).await?.message)
}

/// [`Lost`], for the reader of the run.
pub(super) struct Kept(pub(super) Lost);

impl std::fmt::Display for Kept {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "backup {}", self.0.id)
    }
}
