//! Migrations on a real cluster: who is asked, which backup comes first, what fails, and the way back.
//! The tests of the core tier are `core`; the others are the full tier, `hack/test migrations`.

mod asked;
pub(crate) mod core;
mod fails;
pub(crate) mod look;

use anyhow::Result;

use crate::checks::Checks;
use crate::safety;
use crate::turns::with_room;

/// A stack whose owner wants to be asked for everything.
#[tokio::test]
#[ignore = "full tier"]
async fn a_person_is_asked_and_a_backup_comes_first() -> Result<()> {
    with_room("asked", |_, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("asked"));
        turns.busy().await;
        checks.need("an empty database gets its schema unasked", asked::installs(room)).await?;
        checks.need("without a Backup nobody is asked", asked::needs_a_backup(room)).await?;
        checks.need("who approves reads what changes", asked::is_told(room)).await?;
        checks.need("the Backup is asked after the approval", asked::asks_the_backup(room)).await?;
        checks.need("the migration goes by it", asked::migrates(room)).await?;
        checks.check("a setting runs no Job", asked::settings_run_no_job(room)).await;
        checks.need("an older image on an additive schema", asked::steps_back(room)).await?;
        checks.check("rows that it can't read", asked::counts_rows(room)).await;
        checks.check("no secret is shown", safety::no_secret_is_shown(room)).await;
        checks.finish()
    })
    .await
}

/// Migrations that fail, wait, hang and die, while the old pods serve.
#[tokio::test]
#[ignore = "full tier"]
async fn what_fails_leaves_the_old_version_serving() -> Result<()> {
    with_room("fails", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("fails"));
        turns.busy().await;
        checks.need("the first install", fails::installs(room, cluster)).await?;
        checks.check("a failing migration", fails::leaves_nothing(room)).await;
        checks.check("back to the image that runs", fails::back(room)).await;
        checks.check("a hanging migration ends at its time-out", fails::hangs(room)).await;
        checks.check("back to the image that runs", fails::back(room)).await;
        checks.check("one that waits for a lock names who has it", fails::waits_for_a_lock(room)).await;
        checks.check("its pod dies while it waits, and it is resumed", fails::is_resumed(room)).await;
        checks.check("no pod of the image before its schema", fails::no_pod_came_early(room)).await;
        checks.need("not additive: no way back by itself", fails::is_not_additive(room)).await?;
        checks.check("down by hand, and the older image runs", fails::goes_down_by_hand(room)).await;
        checks.finish()
    })
    .await
}
