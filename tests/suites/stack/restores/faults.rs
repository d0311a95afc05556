//! What goes wrong while a backup is restored. Whatever it is: the live database is as it was, and what was begun is
//! finished or gone.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use odoo_ai_crds::restore::Restore;
use odoo_ai_tests::Cluster;
use serde_json::json;

use super::look::{RUN, ask, at_work, contents, databases, from, gone, restore, status, wait};
use crate::backups::faults::on_the_volume;
use crate::backups::look::{make, status as backup};
use crate::migrations::look::make_backup;
use crate::operator::{self, End};
use crate::room::{COMPONENT, Room};

/// Rows that take a moment.
pub(super) async fn begins(room: &Room) -> Result<String> {
    room.sql(
        "CREATE TABLE ballast AS SELECT g AS id, md5(g::text) || md5((g + 1)::text) AS t FROM generate_series(1, 1500000) g;
         ALTER TABLE ballast ADD PRIMARY KEY (id); CREATE INDEX ON ballast (t)",
    )
    .await?;
    make_backup(room).await?;
    make(room).await
}

/// Whatever happened: it ends well, in one database that has all rows.
async fn is_whole(room: &Room, name: &str, before: &[String], live: &str) -> Result<String> {
    let told = wait(room, name, "True", "Restored", RUN * 3).await?;
    let database = status(room, name).await?.database.context("no database")?;
    let mut now = databases(room).await?;
    now.retain(|it| !before.contains(it));
    ensure!(now == [database.clone()], "there is {now:?} besides {before:?}");
    ensure!(contents(room, &database).await? == live, "another content");
    ensure!(contents(room, "odoo_ai").await? == live, "the live database changed");
    room.sql(&format!("DROP DATABASE \"{database}\"")).await?;
    Ok(told)
}

pub(super) async fn agent_killed(room: &Room) -> Result<String> {
    let (before, live) = (databases(room).await?, contents(room, "odoo_ai").await?);
    restore(room, "killed", json!({"selector": "Latest"})).await?;
    at_work(room).await?;
    let pods = ListParams::default().labels(&format!("{COMPONENT}=restore-load"));
    let pods = room.api::<Pod>().list(&pods).await?.items;
    for pod in pods.iter().filter(|pod| pod.name_any().starts_with("killed-")) {
        room.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    }
    is_whole(room, "killed", &before, &live).await
}

pub(super) async fn database_killed(room: &Room) -> Result<String> {
    let (before, live) = (databases(room).await?, contents(room, "odoo_ai").await?);
    restore(room, "server", json!({"selector": "Latest"})).await?;
    at_work(room).await?;
    let server = room.pod_of("postgresql").await?.name_any();
    room.api::<Pod>().delete(&server, &DeleteParams::default().grace_period(0)).await?;
    room.wait_ready(300).await?;
    is_whole(room, "server", &before, &live).await
}

pub(super) async fn operator_killed(room: &Room, cluster: &Cluster) -> Result<String> {
    let (before, live) = (databases(room).await?, contents(room, "odoo_ai").await?);
    restore(room, "orphan", json!({"selector": "Latest"})).await?;
    at_work(room).await?;
    operator::replace(cluster, &room.client, End::Forced).await?;
    is_whole(room, "orphan", &before, &live).await
}

/// It is deleted in the middle: nothing of it is left.
pub(super) async fn is_deleted_meanwhile(room: &Room) -> Result<String> {
    let before = databases(room).await?;
    restore(room, "deleted", json!({"selector": "Latest"})).await?;
    at_work(room).await?;
    room.api::<Restore>().delete("deleted", &DeleteParams::default()).await?;
    gone(room, "deleted").await?;
    let now = databases(room).await?;
    ensure!(now == before, "there is {now:?} instead of {before:?}");
    Ok(String::new())
}

/// Of the same backup, each into a database of its own.
pub(super) async fn two_at_once(room: &Room) -> Result<String> {
    let before = databases(room).await?;
    let id = backup(room).await?.last_success.context("a backup")?.id;
    restore(room, "one", json!({"selector": "Latest"})).await?;
    restore(room, "two", json!({"id": id})).await?;
    for name in ["one", "two"] {
        wait(room, name, "True", "Restored", RUN * 2).await?;
    }
    let (one, two) = (status(room, "one").await?.database, status(room, "two").await?.database);
    let (one, two) = (one.context("a database")?, two.context("a database")?);
    ensure!(one != two && contents(room, &one).await? == contents(room, &two).await?, "{one} and {two}");
    for database in [&one, &two] {
        ask(room, "postgres", &format!("DROP DATABASE \"{database}\"")).await?;
    }
    ensure!(databases(room).await? == before, "something is left");
    Ok(format!("{one} and {two}"))
}

/// What can't be restored is told, and leaves nothing.
pub(super) async fn is_told(room: &Room) -> Result<String> {
    let before = databases(room).await?;
    restore(room, "missing", json!({"id": "20200101t000000z-aaaaaa"})).await?;
    let told = wait(room, "missing", "False", "ArtifactMissing", RUN).await?;
    let stalled = status(room, "missing").await?.conditions.into_iter().find(|it| it.type_ == "Stalled");
    ensure!(stalled.is_some_and(|it| it.status == "True"), "it isn't Stalled");
    from(room, "nobody", json!({"backupRef": {"name": "nobody"}, "artifact": {"selector": "Latest"}})).await?;
    wait(room, "nobody", "Unknown", "BackupNotFound", RUN).await?;
    let claim = json!({"persistentVolumeClaim": {"claimName": "nothing"}});
    from(room, "nowhere", json!({"storage": claim, "artifact": {"selector": "Latest"}})).await?;
    wait(room, "nowhere", "Unknown", "VolumeMissing", RUN).await?;
    for name in ["missing", "nobody", "nowhere"] {
        room.api::<Restore>().delete(name, &DeleteParams::default()).await?;
        gone(room, name).await?;
    }
    ensure!(databases(room).await? == before, "something was begun");
    Ok(told)
}

/// Of another stack's storage: its volume and its catalogue.
pub(super) async fn from_a_storage(room: &Room) -> Result<String> {
    let (before, live) = (databases(room).await?, contents(room, "odoo_ai").await?);
    let claim = json!({"persistentVolumeClaim": {"claimName": "nightly-backups"}});
    let catalogue = format!("{}/odoo-ai", room.ns);
    from(room, "elsewhere", json!({"storage": claim, "catalogue": catalogue, "artifact": {"selector": "Latest"}}))
        .await?;
    is_whole(room, "elsewhere", &before, &live).await
}

/// As the old cron wrote it, on the Backup's volume; and one that was cut off.
pub(super) async fn an_old_dump(room: &Room) -> Result<()> {
    const DUMP: &str = "pg_dump -U odoo_ai odoo_ai --exclude-table=ballast | gzip -9 | base64 -w0";
    let dump = room.run("postgresql", &["bash", "-o", "pipefail", "-c", DUMP]).await?;
    let put = format!("mkdir -p /backups/old && echo {} | base64 -d >/backups/old/ai_db.sql.gz", dump.trim());
    on_the_volume(room, &put).await?;
    let cut = "head -c 4000 /backups/old/ai_db.sql.gz >/backups/old/cut.sql.gz";
    on_the_volume(room, cut).await
}

pub(super) async fn from_a_plain_dump(room: &Room) -> Result<String> {
    let before = databases(room).await?;
    an_old_dump(room).await?;
    let claim = json!({"persistentVolumeClaim": {"claimName": "nightly-backups"}});
    from(room, "cut", json!({"storage": claim, "file": "old/cut.sql.gz"})).await?;
    let cut = wait(room, "cut", "False", "ArtifactDamaged", RUN).await?;
    ensure!(databases(room).await? == before, "something was begun");
    room.api::<Restore>().delete("cut", &DeleteParams::default()).await?;
    gone(room, "cut").await?;
    from(room, "plain", json!({"storage": claim, "file": "old/ai_db.sql.gz"})).await?;
    let told = wait(room, "plain", "True", "Restored", RUN).await?;
    let database = status(room, "plain").await?.database.context("no database")?;
    let rules = "SELECT md5(string_agg(r::text, ',' ORDER BY id)) FROM automation_rules r";
    ensure!(ask(room, &database, rules).await? == room.sql(rules).await?, "other rules");
    ask(room, "postgres", &format!("DROP DATABASE \"{database}\"")).await?;
    Ok(format!("{told}; cut: {cut}"))
}

/// A byte of the dump is another one: it is told, and nothing is left.
pub(super) async fn is_damaged(room: &Room) -> Result<String> {
    let before = databases(room).await?;
    crate::backups::faults::flip_a_byte(room).await?;
    restore(room, "damaged", json!({"selector": "Latest"})).await?;
    let told = wait(room, "damaged", "False", "ArtifactDamaged", RUN * 2).await?;
    ensure!(databases(room).await? == before, "something is left");
    room.api::<Restore>().delete("damaged", &DeleteParams::default()).await?;
    gone(room, "damaged").await?;
    Ok(told)
}
