//! The node or the volume of the live database fails while that is replaced. Whatever it is: it ends whole, or the live
//! database is as it was; and the writers come back.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use odoo_ai_crds::restore::{Restore, RestoreStep};
use odoo_ai_tests::{Cluster, apply_yaml, delete_yaml, docker, wait_for};
use serde_json::{Value, json};

use super::in_place::{WHOLE, at, replace};
use super::in_place_faults::{changed, is_replaced};
use super::look::{RUN, at_work, gone, reports, takes_long, wait};
use super::untouched::Untouched;
use crate::migrations::look::{READY, incarnation, make_backup};
use crate::room::{Room, STACK, sample};

/// The node loses its power while rows come in, while the application stops, and while the databases change names.
pub(super) async fn node_killed(room: &Room, cluster: &Cluster) -> Result<String> {
    takes_long(room).await?;
    let (id, backup) = changed(room).await?;
    let live = incarnation(room).await?;
    replace(room, "struck", id).await?;
    at_work(room).await?;
    let (mut room, mut took) = (room.clone(), Vec::new());
    took.push(strike(&mut room, cluster).await?);
    // All that was loaded is loaded anew meanwhile.
    wait_for("the live database", RUN, || async {
        let (now, later) = (incarnation(&room).await?, room.sql("SELECT id FROM later").await?);
        ensure!(now == live && later == "7", "it is {now} with {later:?}, and was {live}");
        Ok(Some(()))
    })
    .await?;
    for step in [RestoreStep::Drain, RestoreStep::Swap] {
        at(&room, "struck", step).await?;
        took.push(strike(&mut room, cluster).await?);
    }
    let told = is_replaced(&room, "struck", &backup).await?;
    Ok(format!("{told}; the node was back after {}", took.join(", ")))
}

/// The node loses its power; how long it was away.
async fn strike(room: &mut Room, cluster: &Cluster) -> Result<String> {
    let took = cluster.crash().await?;
    // Whoever was connected to it isn't any more.
    room.client = cluster.client().await?;
    Ok(format!("{:.0} s", took.as_secs_f64()))
}

/// MiB of the volume. The agent leaves a twentieth alone, 1 GiB at least.
const SIZE: u64 = 2048;
/// So much is left where it is full: less than the agent leaves alone, and enough for the live database.
const LEFT: u64 = 600;
/// What marks a class as the default one.
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

/// The volume of the live database: a tmpfs of fixed size on the node, because local-path's folders have no size of their
/// own, and a file system in a file wants programs and devices that not every node image has. Memory of a tmpfs counts to
/// who wrote it: that is why PostgreSQL may have more of it here, and why somebody outside of its pod fills the volume.
pub(super) struct Disk {
    node: String,
    path: String,
    volume: Value,
}

impl Disk {
    /// On this node, for this room.
    pub(super) async fn of(node: String, room: &Room) -> Result<Self> {
        // The claim names none, and gets the default one; the volume that names the claim comes before a new one is made.
        let classes = Api::<StorageClass>::all(room.client.clone()).list(&ListParams::default()).await?.items;
        let default = |class: &&StorageClass| class.annotations().get(DEFAULT).is_some_and(|it| it == "true");
        let class = classes.iter().find(default).context("no default StorageClass")?.name_any();
        let path = format!("/var/lib/small-{}", room.ns);
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("small-{}", room.ns)},
            "spec": {
                "capacity": {"storage": format!("{SIZE}Mi")}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": class,
                "hostPath": {"path": path, "type": "Directory"},
                "claimRef": {"namespace": room.ns, "name": format!("{STACK}-postgresql")},
            },
        });
        Ok(Self { node, path, volume })
    }

    /// A stack whose PostgreSQL has it, and a Backup that has not.
    pub(super) async fn installs(&self, room: &Room) -> Result<String> {
        self.run(&format!("mkdir {0} && mount -t tmpfs -o size={SIZE}m,mode=0777 tmpfs {0}", self.path)).await?;
        apply_yaml(&room.client, &room.ns, &self.volume.to_string()).await?;
        let mut documents = sample("local.yaml")?;
        for document in documents.iter_mut().filter(|document| document["kind"] == "OdooAiStack") {
            let managed = &mut document["spec"]["database"]["managed"];
            managed["resources"] = json!({"limits": {"memory": "2Gi"}});
        }
        room.apply(&documents).await?;
        room.wait_ready(READY).await?;
        make_backup(room).await?;
        takes_long(room).await?;
        Ok(format!("{} MiB are free", self.free().await? >> 20))
    }

    /// Nothing of it stays on the node.
    pub(super) async fn goes(&self, room: &Room) -> Result<()> {
        room.clear().await?;
        delete_yaml(&room.client, &room.ns, &self.volume.to_string()).await?;
        self.run(&format!("umount -l {0} && rmdir {0}", self.path)).await.map(drop)
    }

    async fn run(&self, command: &str) -> Result<String> {
        docker(["exec", &self.node, "sh", "-c", command]).await
    }

    /// Free bytes.
    async fn free(&self) -> Result<u64> {
        let line = self.run(&format!("df -Pk {} | tail -n 1", self.path)).await?;
        let free = line.split_whitespace().nth(3).with_context(|| format!("df says {line}"))?;
        Ok(free.parse::<u64>()? << 10)
    }

    /// Somebody else fills it.
    async fn fill(&self) -> Result<()> {
        let free = self.free().await?;
        let more = free.checked_sub(LEFT << 20).with_context(|| format!("only {free} bytes were free"))?;
        self.run(&format!("head -c {more} /dev/zero >{}/somebodys", self.path)).await.map(drop)
    }

    /// What somebody else has there goes.
    async fn make_room(&self) -> Result<()> {
        self.run(&format!("rm -f {}/somebodys", self.path)).await.map(drop)
    }
}

/// There is too little room for another database: none is made, and the Restore can be given up.
pub(super) async fn too_little_room(room: &Room, disk: &Disk) -> Result<String> {
    let (id, _) = changed(room).await?;
    let untouched = Untouched::begin(room).await?;
    disk.fill().await?;
    replace(room, "cramped", id).await?;
    let told = wait(room, "cramped", "Unknown", "RestoreFailed", WHOLE).await?;
    ensure!(told.contains("bytes left") && told.contains("make the volume larger"), "it says {told}");
    let reports = reports(room, "cramped").await?;
    // It says that of what it looked at before it made a database.
    let refused = !reports.is_empty() && reports.iter().all(|it| is_full(it, "the database's volume has"));
    ensure!(refused, "its agents say {reports:?}");
    untouched.holds().await?;
    room.api::<Restore>().delete("cramped", &DeleteParams::default()).await?;
    gone(room, "cramped").await?;
    let answers = untouched.ends().await?;
    disk.make_room().await?;
    Ok(format!("{told}; {answers}"))
}

/// Room runs out while rows come in: what was restored goes before the live database has none, and once there is room
/// again, it ends by itself.
pub(super) async fn room_runs_out(room: &Room, disk: &Disk) -> Result<String> {
    disk.make_room().await?;
    let (id, backup) = changed(room).await?;
    let untouched = Untouched::begin(room).await?;
    replace(room, "filled", id).await?;
    at_work(room).await?;
    disk.fill().await?;
    let gave_up = wait_for("its agent to give up", RUN, || async {
        let reports = reports(room, "filled").await?;
        let gave_up = reports.iter().find(|report| is_full(report, "given up: the database's volume has only"));
        ensure!(gave_up.is_some() || reports.is_empty(), "its agents say {reports:?}");
        Ok(gave_up.map(|report| report["message"].to_string()))
    })
    .await?;
    let answers = untouched.ends().await?;
    disk.make_room().await?;
    let told = is_replaced(room, "filled", &backup).await?;
    Ok(format!("{gave_up}; {answers}; then {told}"))
}

fn is_full(report: &Value, why: &str) -> bool {
    report["reason"] == "StorageFull" && report["message"].as_str().is_some_and(|it| it.starts_with(why))
}
