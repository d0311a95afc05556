//! Restores on a real cluster, with a real PostgreSQL and volume. The tests of the core tier are `core`; the others are
//! the full tier, `hack/test restores`.

pub(crate) mod core;
mod faults;
mod look;

use anyhow::Result;

use crate::backups::policy;
use crate::checks::Checks;
use crate::turns::with_room;

/// What goes wrong, and that it costs neither the live database nor a row.
#[tokio::test]
#[ignore = "full tier"]
async fn a_restore_ends_whole_or_leaves_nothing() -> Result<()> {
    with_room("beside", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("beside"));
        turns.busy().await;
        checks.need("the first install", policy::installs(room)).await?;
        checks.need("a backup of many rows", faults::begins(room)).await?;
        checks.check("two at once", faults::two_at_once(room)).await;
        checks.check("from a volume and a catalogue", faults::from_a_storage(room)).await;
        checks.check("from a plain dump", faults::from_a_plain_dump(room)).await;
        checks.check("what can't be restored", faults::is_told(room)).await;
        checks.check("its agent is killed meanwhile", faults::agent_killed(room)).await;
        checks.check("PostgreSQL is killed meanwhile", faults::database_killed(room)).await;
        checks.check("it is deleted meanwhile", faults::is_deleted_meanwhile(room)).await;
        turns.alone().await;
        checks.check("the operator is killed meanwhile", faults::operator_killed(room, cluster)).await;
        checks.check("a byte of the dump is another one", faults::is_damaged(room)).await;
        checks.check("no secret is shown", crate::safety::no_secret_is_shown(room)).await;
        checks.finish()
    })
    .await
}
