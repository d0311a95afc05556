//! In place on a server of somebody else, whose login may at first do less than that takes: it is told before anything is
//! stopped.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use odoo_ai_crds::restore::RestoreStep;
use odoo_ai_tests::wait_for;
use serde_json::json;

use super::in_place::{WHOLE, replace};
use super::in_place_faults::{changed, is_live};
use super::look::status;
use super::untouched::Untouched;
use crate::outside::{PASSWORD, apply_stack, give_password, make_backup, sql};
use crate::room::Room;

/// A first install, where neither server is ours.
const READY: u64 = 240;

/// A stack whose login owns its database, and may nothing else; a Backup of it.
pub(super) async fn installs(room: &Room) -> Result<String> {
    // What a database of ours has, so that both are looked at in one way.
    sql(room, "CREATE ROLE postgres SUPERUSER LOGIN").await?;
    sql(room, &format!("CREATE ROLE tenant LOGIN PASSWORD '{PASSWORD}'")).await?;
    sql(room, "CREATE DATABASE odoo_ai OWNER tenant TEMPLATE template0 ENCODING 'UTF8'").await?;
    room.sql("DROP DATABASE odoo").await?;
    give_password(room, PASSWORD).await?;
    apply_stack(room, json!({"database": "odoo_ai", "username": "tenant", "lockDatabase": "postgres"})).await?;
    room.wait_ready(READY).await?;
    make_backup(room).await?;
    Ok(String::new())
}

/// It may make no databases, then the live one is not its own: each is told while the application runs on. Once it may,
/// the live database is replaced.
pub(super) async fn is_refused_first(room: &Room) -> Result<String> {
    let (id, backup) = changed(room).await?;
    let untouched = Untouched::begin(room).await?;
    replace(room, "back", id).await?;
    let first = refused(room, "CREATEDB").await?;
    untouched.holds().await?;
    room.sql("ALTER ROLE tenant CREATEDB").await?;
    room.sql("ALTER DATABASE odoo_ai OWNER TO app").await?;
    ask_again(room, &first).await?;
    let second = refused(room, "ALTER DATABASE").await?;
    let answers = untouched.ends().await?;
    room.sql("ALTER DATABASE odoo_ai OWNER TO tenant").await?;
    ask_again(room, &second).await?;
    let told = is_live(room, "back", &backup).await?;
    Ok(format!("{first}; {second}; {answers}; then {told}"))
}

/// It stalls before the application is stopped, and says which right is missing.
async fn refused(room: &Room, right: &str) -> Result<String> {
    wait_for(&format!("a refusal for want of {right}"), WHOLE, || async {
        let status = status(room, "back").await?;
        let find = |kind: &str| status.conditions.iter().find(|it| it.type_ == kind);
        let (complete, stalled) = (find("Complete").context("no Complete")?, find("Stalled").context("no Stalled")?);
        ensure!(status.step == Some(RestoreStep::Load), "it is at {:?}: {complete:?}", status.step);
        let says = complete.reason == "RenameNotPossible" && complete.message.contains(right);
        ensure!(says && stalled.status == "True", "it is {complete:?} and {stalled:?}");
        Ok(Some(complete.message.clone()))
    })
    .await
}

/// As the message says.
async fn ask_again(room: &Room, told: &str) -> Result<()> {
    let (_, job) = told.rsplit_once("to ask again at once, delete Job ").context("it says no Job")?;
    room.api::<Job>().delete(job, &DeleteParams::background()).await?;
    Ok(())
}
