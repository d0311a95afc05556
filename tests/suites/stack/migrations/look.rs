//! What the tests of migrations look at.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::stack::{DatabaseStatus, OdooAiStackStatus};
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};
use std::time::Duration;

use crate::room::{COMPONENT, Room, STACK, sample};
use crate::steady::starts;

pub(super) const FIRST: &str = "003_phase2_tables";
pub(super) const SECOND: &str = "004_rule_usage";
pub(crate) const READY: u64 = 180;
pub(crate) const BACKUP: &str = "nightly";
const REQUESTED: &str = "odoo-ai.atmatasolutions.com/backup-requested-at";

pub(super) fn image(version: &str) -> String {
    format!("odoo-ai-platform/ai-service:{version}")
}

/// The revision that the database itself says.
pub(crate) async fn revision(room: &Room) -> Result<String> {
    room.sql("SELECT version_num FROM alembic_version").await
}

pub(super) async fn status(room: &Room) -> Result<OdooAiStackStatus> {
    room.stack().await?.status.context("no status")
}

pub(super) async fn database(room: &Room) -> Result<DatabaseStatus> {
    status(room).await?.database.context("no database in the status")
}

/// The revision that the spec asks for.
pub(super) async fn target(room: &Room) -> Result<String> {
    status(room).await?.update_revision.context("no updateRevision")
}

/// Names of the Jobs that look at the schema, `plan` or `migrate`.
pub(super) async fn jobs(room: &Room, component: &str) -> Result<Vec<String>> {
    let parameters = ListParams::default().labels(&format!("{COMPONENT}={component}"));
    Ok(room.api::<Job>().list(&parameters).await?.iter().map(ResourceExt::name_any).collect())
}

/// The starts of all pods but those of Jobs.
pub(crate) async fn served(room: &Room) -> Result<Vec<(String, (String, i32))>> {
    let of_job = |name: &str| ["-plan-", "-migrate-", "nightly-"].iter().any(|it| name.contains(it));
    Ok(starts(room).await?.into_iter().filter(|(name, _)| !of_job(name)).collect())
}

/// The API answers.
pub(super) async fn answers(room: &Room) -> Result<()> {
    let (status, _) = room.ask("GET", "/openapi.json", None, None).await?;
    ensure!(status == 200, "the API answered {status}");
    Ok(())
}

/// The Backup of the sample, on a volume only.
pub(crate) async fn make_backup(room: &Room) -> Result<()> {
    let mut documents = sample("backup.yaml")?;
    for document in &mut documents {
        document["spec"]["storage"] = json!({"persistentVolumeClaim": {"size": "1Gi"}});
    }
    room.apply(&documents).await
}

/// One that can't make any: its claim doesn't exist. What it is said to have made stays in its status.
pub(super) async fn make_mute_backup(room: &Room) -> Result<()> {
    let mut documents = sample("backup.yaml")?;
    for document in &mut documents {
        document["spec"]["storage"] = json!({"persistentVolumeClaim": {"claimName": "nowhere"}});
        document["spec"]["job"] = json!({"image": "postgres:17"});
    }
    room.apply(&documents).await
}

/// The request on the Backup, once it is there.
pub(super) async fn request(room: &Room) -> Result<String> {
    wait_for("the Backup to be asked", Duration::from_mins(1), || async {
        let backup = room.api::<Backup>().get(BACKUP).await?;
        Ok(backup.annotations().get(REQUESTED).cloned())
    })
    .await
}

/// Plays the Backup: an artifact of the database as it is, or as `change` makes it.
pub(super) async fn answer(room: &Room, id: &str, request: &str, change: &Value) -> Result<()> {
    let mut artifact = json!({
        "id": id, "requestId": request, "reason": "PreMigration",
        "completedAt": k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "incarnation": incarnation(room).await?, "alembicRevision": revision(room).await?,
    });
    for (field, value) in change.as_object().into_iter().flatten() {
        artifact[field] = value.clone();
    }
    succeeds(room, &artifact).await
}

/// Plays the Backup: this artifact is its last success.
pub(super) async fn succeeds(room: &Room, artifact: &Value) -> Result<()> {
    let handled = json!({"backupRequestedAt": artifact["requestId"]});
    let patch = Patch::Merge(json!({"status": {"lastSuccess": artifact, "lastHandled": handled}}));
    room.api::<Backup>().patch_status(BACKUP, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// As PostgreSQL itself tells it.
pub(crate) async fn incarnation(room: &Room) -> Result<String> {
    let of = "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || oid FROM pg_database";
    room.sql(&format!("{of} WHERE datname = current_database()")).await
}

/// Annotates the stack with approvals of its target, in the name of who runs the test.
pub(crate) async fn approve(room: &Room, what: &[&str]) -> Result<String> {
    let review = Api::<SelfSubjectReview>::all(room.client.clone());
    let me = review.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let me = me.status.and_then(|status| status.user_info?.username).context("who am I?")?;
    let target = target(room).await?;
    let mut annotations = json!({"odoo-ai.atmatasolutions.com/approved-by": me});
    for what in what {
        annotations[format!("odoo-ai.atmatasolutions.com/approved-{what}")] = json!(target);
    }
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    room.api::<odoo_ai_crds::stack::OdooAiStack>().patch(STACK, &PatchParams::default(), &patch).await?;
    Ok(me)
}

/// Deletes the target's plan Job, as its message says.
pub(super) async fn look_again(room: &Room) -> Result<()> {
    let labels = format!("{COMPONENT}=plan,odoo-ai.atmatasolutions.com/revision={}", target(room).await?);
    for job in room.api::<Job>().list(&ListParams::default().labels(&labels)).await? {
        room.api::<Job>().delete(&job.name_any(), &DeleteParams::background()).await?;
    }
    Ok(())
}

/// Every pod of ai-service that the target has was made after its migrate Job ended.
pub(super) async fn schema_came_first(room: &Room) -> Result<()> {
    let target = target(room).await?;
    let of = |component: &str| ListParams::default().labels(&format!("{COMPONENT}={component}"));
    let jobs = room.api::<Job>().list(&of("migrate")).await?;
    let ended = jobs.iter().filter(|job| job.name_any().contains(&target));
    let ended = ended.filter_map(|job| job.status.as_ref()?.completion_time.clone()).max_by_key(|at| at.0);
    let ended = ended.context("no Job of the target has ended")?;
    for pod in room.api::<Pod>().list(&of("ai-service")).await? {
        let made = pod.creation_timestamp().context("a pod without a date")?;
        ensure!(made.0 >= ended.0, "{} was made before the migration ended", pod.name_any());
    }
    Ok(())
}
