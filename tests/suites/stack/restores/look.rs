//! How Restores are made and looked at.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use odoo_ai_crds::restore::{Restore, RestoreStatus};
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use crate::migrations::look::BACKUP;
use crate::room::{COMPONENT, Room};

/// A restore of the small database, its pod's start included.
pub(super) const RUN: Duration = Duration::from_mins(2);

/// Somebody applies a Restore of what `source` says of the Backup's artifacts.
pub(super) async fn restore(room: &Room, name: &str, artifact: Value) -> Result<()> {
    from(room, name, json!({"backupRef": {"name": BACKUP}, "artifact": artifact})).await
}

/// The same from any source.
pub(super) async fn from(room: &Room, name: &str, source: Value) -> Result<()> {
    let object = json!({
        "apiVersion": "odoo-ai.atmatasolutions.com/v1alpha1", "kind": "Restore",
        "metadata": {"name": name}, "spec": {"stackRef": {"name": "odoo-ai"}, "source": source},
    });
    room.apply(&[object]).await
}

pub(super) async fn status(room: &Room, name: &str) -> Result<RestoreStatus> {
    Ok(room.api::<Restore>().get(name).await?.status.unwrap_or_default())
}

/// Waits until `Complete` says so; its message.
pub(super) async fn wait(room: &Room, name: &str, state: &str, reason: &str, limit: Duration) -> Result<String> {
    wait_for(&format!("{name}'s Complete={state} {reason}"), limit, || async {
        let status = status(room, name).await?;
        let complete = status.conditions.iter().find(|it| it.type_ == "Complete").context("no Complete")?;
        ensure!(complete.status == state && complete.reason == reason, "it is {complete:?}");
        Ok(Some(complete.message.clone()))
    })
    .await
}

/// Waits until a Restore is gone.
pub(super) async fn gone(room: &Room, name: &str) -> Result<()> {
    wait_for(&format!("Restore {name} to go"), RUN, || async {
        let left = room.api::<Restore>().get_opt(name).await?;
        ensure!(left.is_none(), "it is {:?}", left.and_then(|it| it.status));
        Ok(Some(()))
    })
    .await
}

/// The databases of the server.
pub(super) async fn databases(room: &Room) -> Result<Vec<String>> {
    let all = room.sql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname").await?;
    Ok(all.lines().map(str::to_owned).collect())
}

/// Asks any database of the server.
pub(super) async fn ask(room: &Room, database: &str, query: &str) -> Result<String> {
    let command = ["psql", "-U", "postgres", "-d", database, "-Atqc", query];
    Ok(room.run("postgresql", &command).await?.trim().to_owned())
}

/// Every table with the number of its rows and a digest of them.
pub(crate) async fn contents(room: &Room, database: &str) -> Result<String> {
    const DIGESTS: &str = "
        SELECT format('SELECT %L || count(*) || '' '' || coalesce(md5(string_agg(t::text, '','' ORDER BY t::text)), '''') FROM %I.%I t;',
            relname || ' ', nspname, relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind = 'r' AND nspname = 'public' ORDER BY relname";
    let statements = ask(room, database, DIGESTS).await?;
    ask(room, database, &statements.replace('\n', " ")).await
}

/// Waits until rows come in, or are indexed.
pub(super) async fn at_work(room: &Room) -> Result<()> {
    wait_for("pg_restore at work", RUN, || async {
        let at_work =
            "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE '%\\_restored\\_%' AND query ~ '^(COPY|CREATE INDEX|ALTER TABLE)'";
        let at_work = room.sql(at_work).await?;
        Ok((at_work != "0").then_some(()))
    })
    .await
}

/// From now on a backup has a table that takes half a minute to come back, row by row; the live database has it at once.
pub(super) async fn takes_long(room: &Room) -> Result<()> {
    room.sql(
        "CREATE FUNCTION slowly(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
             $$BEGIN PERFORM pg_sleep(0.5) WHERE current_database() <> 'odoo_ai'; RETURN true; END$$;
         CREATE TABLE slow (id int CHECK (slowly(id))); INSERT INTO slow SELECT generate_series(1, 60)",
    )
    .await
    .map(drop)
}

/// What the agents that loaded it told at their end.
pub(super) async fn reports(room: &Room, name: &str) -> Result<Vec<Value>> {
    let pods = ListParams::default().labels(&format!("{COMPONENT}=restore-load"));
    let pods = room.api::<Pod>().list(&pods).await?.items;
    let ours = pods.iter().filter(|pod| pod.name_any().starts_with(&format!("{name}-load-")));
    let states = ours.filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref());
    let told = states.filter_map(|state| state.terminated.as_ref()?.message.as_deref());
    told.map(|text| serde_json::from_str(text).with_context(|| format!("an agent told {text}"))).collect()
}
