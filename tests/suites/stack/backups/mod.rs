//! Backups on a real cluster, with a real `CronJob`, PostgreSQL and volume. The tests of the core tier are `core`; the
//! others are the full tier, `hack/test backups`.

mod bucket;
pub(crate) mod core;
pub(crate) mod faults;
pub(crate) mod look;
pub(crate) mod policy;

use anyhow::Result;

use crate::checks::Checks;
use crate::turns::with_room;

/// A policy on a volume: what it makes, keeps, proves and tells, also while nobody looks.
#[tokio::test]
#[ignore = "full tier"]
async fn a_policy_keeps_what_it_promises() -> Result<()> {
    with_room("kept", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("kept"));
        turns.busy().await;
        checks.need("the first install", policy::installs(room)).await?;
        checks.need("a Backup reads its empty catalogue", policy::begins(room)).await?;
        checks.need("a backup on request", policy::on_request(room)).await?;
        checks.check("a verification on request, and columns", core::is_verified(room, cluster)).await;
        checks.check("each minute by its CronJob, and retention", policy::by_its_schedule(room)).await;
        turns.alone().await;
        // Of all rooms: the operator is one for all.
        checks.check("75 s without a write", policy::rests(room)).await;
        checks.check("without the operator", policy::without_the_operator(room, cluster)).await;
        checks.check("a status from the storage alone", policy::is_rebuilt(room)).await;
        checks.check("slots that nobody ran", policy::misses(room)).await;
        checks.check("no secret is shown", crate::safety::no_secret_is_shown(room)).await;
        checks.finish()
    })
    .await
}

/// What goes wrong, and that it is told: never a false success, never fewer good ones.
#[tokio::test]
#[ignore = "full tier"]
async fn what_goes_wrong_is_told_and_costs_no_backup() -> Result<()> {
    with_room("lost", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("lost"));
        turns.busy().await;
        checks.need("the first install", policy::installs(room)).await?;
        checks.need("a backup of many rows", faults::begins(room)).await?;
        checks.check("its Job is deleted", faults::job_deleted(room)).await;
        checks.check("its pod is killed", faults::pod_killed(room)).await;
        checks.check("PostgreSQL is killed meanwhile", faults::database_killed(room)).await;
        checks.check("a table is locked for long", faults::table_locked(room)).await;
        checks.check("the image is of another major version", faults::other_version(room)).await;
        checks.check("the dump is changed on its volume", faults::changed_on_the_volume(room)).await;
        turns.alone().await;
        checks.check("the operator is killed meanwhile", faults::operator_killed(room, cluster)).await;
        checks.check("the node restarts meanwhile", faults::node_restarts(room, cluster)).await;
        checks.check("another database of the same name", faults::foreign_owner(room, cluster)).await;
        checks.finish()
    })
    .await
}

/// The same in a bucket of a real S3 server, and beside a volume.
#[tokio::test]
#[ignore = "full tier"]
async fn a_bucket_holds_what_the_host_may_lose() -> Result<()> {
    with_room("bucket", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("bucket"));
        turns.busy().await;
        checks.need("an S3 server and the first install", bucket::installs(room, cluster)).await?;
        checks.need("wrong credentials", bucket::refuses_wrong_credentials(room)).await?;
        checks.need("made and verified", bucket::is_made_and_verified(room)).await?;
        checks.check("credentials rotate", bucket::credentials_rotate(room)).await;
        checks.check("a copy beside a volume, and a bucket that is away", bucket::copies(room)).await;
        checks.need("a status from the bucket alone", bucket::is_rebuilt(room)).await?;
        checks.check("it goes with its artifacts", bucket::goes_with_its_artifacts(room)).await;
        checks.check("no secret is shown", crate::safety::no_secret_is_shown(room)).await;
        checks.finish()
    })
    .await
}
