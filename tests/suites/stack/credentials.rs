//! Changed passwords of database and Redis, by changing their Secrets and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_operator::stack::keys::digest;
use odoo_ai_tests::wait_for;
use serde_json::json;

use crate::poller::Poller;
use crate::room::{Room, STACK};

const CHANGED: Duration = Duration::from_mins(2);
const READY: u64 = 60;
/// Everything that a URL, a shell, a configuration file or Alembic could stumble over.
const DATABASE: &str = "n%w p@ss:w/rd'\"$(x)\\é#";
const REDIS: &str = "r%d is:@/?#'\"\\ ü";

async fn set(room: &Room, secret: &str, password: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"stringData": {"password": password}}));
    room.api::<Secret>().patch(&format!("{STACK}-{secret}"), &PatchParams::default(), &patch).await?;
    Ok(())
}

pub(crate) async fn generation(room: &Room) -> Result<Option<i64>> {
    Ok(room.stack().await?.status.and_then(|status| status.database?.credentials_generation))
}

/// Waits until every pod of the application runs with credentials newer than the generation `before`.
pub(crate) async fn taken_up(room: &Room, before: Option<i64>) -> Result<()> {
    wait_for("the pods to have taken up the new credentials", CHANGED, || async {
        let now = generation(room).await?;
        ensure!(now > before, "the generation is {now:?}");
        for component in ["ai-service", "worker", "beat"] {
            let pods = room.pods_of(component).await?;
            ensure!(!pods.is_empty(), "{component} has no pod");
            for pod in pods {
                let has = pod.annotations().get("odoo-ai.atmatasolutions.com/credentials-generation").cloned();
                ensure!(has == now.map(|it| it.to_string()), "{} has {has:?} of {now:?}", pod.name_any());
            }
        }
        Ok(Some(()))
    })
    .await
}

/// Whether PostgreSQL accepts a password over the network.
async fn database_accepts(room: &Room, password: &str) -> Result<bool> {
    let script = format!(
        "read -r PGPASSWORD; export PGPASSWORD; psql -h {STACK}-postgresql -U odoo_ai -Atqc 'SELECT 1' odoo_ai"
    );
    let command = format!("printf '%s\\n' {} | {{ {script}; }}", quoted(password));
    Ok(room.run("postgresql", &["bash", "-c", &command]).await.is_ok_and(|answer| answer.trim() == "1"))
}

/// Whether Redis accepts a password.
async fn redis_accepts(room: &Room, password: &str) -> Result<bool> {
    let command = format!("REDISCLI_AUTH={} redis-cli PING", quoted(password));
    Ok(room.run("redis", &["sh", "-c", &command]).await?.contains("PONG"))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// As docs/secrets.md has the keys exported, and that noted.
async fn export(room: &Room) -> Result<()> {
    room.wait("KeysExported", "False", "NotExported", 60).await?;
    let selector = format!(
        "odoo-ai.atmatasolutions.com/stack={STACK},app.kubernetes.io/component notin (application,credentials)"
    );
    let keys = room.api::<Secret>().list(&ListParams::default().labels(&selector)).await?.items;
    let note = json!({"metadata": {"annotations": {annotations::KEYS_EXPORTED: digest(&keys)}}});
    room.api::<OdooAiStack>().patch(STACK, &PatchParams::default(), &Patch::Merge(note)).await?;
    room.wait("KeysExported", "True", "Exported", 60).await?;
    Ok(())
}

/// Both passwords change; the API answers all the while, and the old ones are dead.
pub(crate) async fn passwords_change(room: &Room) -> Result<String> {
    let old = (
        room.secret(&format!("{STACK}-database-credentials"), "password").await?,
        room.secret(&format!("{STACK}-redis-credentials"), "password").await?,
    );
    ensure!(database_accepts(room, &old.0).await? && redis_accepts(room, &old.1).await?, "the old ones are not known");
    let (database, redis) = (room.pod_of("postgresql").await?, room.pod_of("redis").await?);
    export(room).await?;
    let before = room.stack().await?.status.context("a status")?;
    let began = Instant::now();
    let poller = Poller::start(room).await?;
    let count = poller.count().await?;
    set(room, "database-credentials", DATABASE).await?;
    set(room, "redis-credentials", REDIS).await?;
    wait_for("both passwords to be live", CHANGED, || async {
        let live = room.secret(&format!("{STACK}-credentials"), "redis.conf").await?;
        let password = room.secret(&format!("{STACK}-credentials"), "database-password").await?;
        Ok((password == DATABASE && !live.contains(&old.1)).then_some(()))
    })
    .await?;
    let proven = began.elapsed().as_secs_f64();
    taken_up(room, before.database.as_ref().and_then(|it| it.credentials_generation)).await?;
    room.wait_ready(READY).await?;
    room.wait("KeysExported", "False", "ChangedSinceExport", 60).await?;
    let taken = began.elapsed().as_secs_f64();
    let seen = poller.never_failed(&count).await?;
    ensure!(!database_accepts(room, &old.0).await?, "PostgreSQL still takes the old password");
    ensure!(database_accepts(room, DATABASE).await?, "PostgreSQL doesn't take the new password");
    ensure!(!redis_accepts(room, &old.1).await?, "Redis still takes the old password");
    ensure!(redis_accepts(room, REDIS).await?, "Redis doesn't take the new password");
    ensure!(room.pod_of("postgresql").await?.uid() == database.uid(), "PostgreSQL was restarted");
    ensure!(room.pod_of("redis").await?.uid() == redis.uid(), "Redis was restarted");
    let after = room.stack().await?.status.context("a status")?;
    ensure!(after.current_revision == before.current_revision && after.history == before.history, "it was a revision");
    ensure!(!room.rules().await?.is_empty(), "the API has no database");
    Ok(format!("live after {proven:.1} s, taken up after {taken:.1} s; {seen}"))
}

/// A new Redis pod reads what is live.
pub(crate) async fn redis_restarts_with_them(room: &Room) -> Result<String> {
    let pod = room.pod_of("redis").await?;
    let began = Instant::now();
    room.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await?;
    wait_for("a new Redis pod", CHANGED, || async {
        let new = room.pod_of("redis").await?;
        Ok((new.uid() != pod.uid() && redis_accepts(room, REDIS).await.unwrap_or_default()).then_some(()))
    })
    .await?;
    room.wait_ready(READY).await?;
    Ok(format!("Ready again after {:.1} s", began.elapsed().as_secs_f64()))
}
