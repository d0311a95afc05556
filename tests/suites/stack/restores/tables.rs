//! Chosen tables of the live database come back.

use anyhow::{Context, Result, ensure};
use kube::api::DeleteParams;
use odoo_ai_crds::restore::Restore;
use serde_json::{Value, json};

use super::in_place::{WHOLE, means_it, unconfirmed};
use super::look::{databases, gone, status, wait};
use crate::backups::look::make;
use crate::room::Room;

/// A table that others point at, and one that does.
const MADE: &str = "
    CREATE TABLE parent (id int PRIMARY KEY, t text); CREATE TABLE child (id int, parent int REFERENCES parent);
    INSERT INTO parent VALUES (1, 'one'), (2, 'two'); INSERT INTO child VALUES (1, 1), (2, 2)";

async fn restores(room: &Room, name: &str, id: &str, tables: Value) -> Result<()> {
    unconfirmed(room, name, json!({"id": id}), tables).await?;
    means_it(room, name).await
}

async fn goes(room: &Room, name: &str) -> Result<()> {
    room.api::<Restore>().delete(name, &DeleteParams::default()).await?;
    gone(room, name).await
}

/// Their rows are those of the backup, and nobody else's changed.
pub(super) async fn come_back(room: &Room) -> Result<String> {
    room.sql(MADE).await?;
    let id = make(room).await?;
    let before = databases(room).await?;
    room.sql(
        "DELETE FROM child; DELETE FROM parent; INSERT INTO parent VALUES (3, 'three'); CREATE TABLE later (id int)",
    )
    .await?;
    restores(room, "some", &id, json!(["parent", "child"])).await?;
    let told = wait(room, "some", "True", "Restored", WHOLE).await?;
    room.wait_ready(120).await?;
    let rows =
        room.sql("SELECT count(*), sum(p.id), sum(c.parent) FROM parent p JOIN child c ON c.parent = p.id").await?;
    ensure!(rows == "2|3|3", "they are {rows}");
    ensure!(room.sql("SELECT to_regclass('later') IS NOT NULL").await? == "t", "another table went");
    ensure!(databases(room).await? == before, "something is left");
    let status = status(room, "some").await?;
    ensure!((status.tables, status.rows) == (Some(2), Some(4)), "it says {status:?}");
    let down = status.downtime_seconds.context("no time")?;
    goes(room, "some").await?;
    Ok(format!("{told}; {down} s"))
}

/// A row that stays points at one that would go: nothing is changed, and it says which key.
pub(super) async fn are_refused(room: &Room) -> Result<String> {
    let id = make(room).await?;
    let before = databases(room).await?;
    room.sql("INSERT INTO parent VALUES (9, 'nine'); INSERT INTO child VALUES (9, 9)").await?;
    restores(room, "dangling", &id, json!(["parent"])).await?;
    let told = wait(room, "dangling", "False", "ForeignKeyViolated", WHOLE).await?;
    ensure!(told.contains("child") && told.contains("parent"), "it says {told}");
    room.wait_ready(120).await?;
    ensure!(room.sql("SELECT t FROM parent WHERE id = 9").await? == "nine", "rows went");
    goes(room, "dangling").await?;
    ensure!(databases(room).await? == before, "something is left");
    room.sql("DROP TABLE child; DROP TABLE parent; DROP TABLE IF EXISTS later").await?;
    Ok(told)
}
