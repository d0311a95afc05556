//! Restores on a real cluster, with a real PostgreSQL and volume. The tests of the core tier are `core`; the others are
//! the full tier, `hack/test restores`.

mod begins;
pub(crate) mod core;
mod elsewhere;
mod faults;
mod hard_faults;
pub(crate) mod in_place;
mod in_place_faults;
pub(crate) mod look;
mod tables;
mod untouched;

use anyhow::Result;

use crate::backups::policy;
use crate::checks::{Checks, say};
use crate::outside;
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

/// The live database is replaced, and the way back.
#[tokio::test]
#[ignore = "full tier"]
async fn a_restore_takes_the_place_of_the_live_database() -> Result<()> {
    with_room("place", |_, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("place"));
        turns.busy().await;
        checks.need("the first install", policy::installs(room)).await?;
        checks.need("it is asked before", in_place::asks_for_backups(room)).await?;
        Box::pin(checks.check("it takes its place", in_place::is_replaced(room))).await;
        checks.check("it is undone", in_place::is_undone(room)).await;
        checks.check("the kept one goes in time", in_place::is_dropped_in_time(room)).await;
        checks.check("a large one", in_place::size_does_not_matter(room)).await;
        checks.check("chosen tables", tables::come_back(room)).await;
        checks.check("a foreign key is in the way of tables", tables::are_refused(room)).await;
        checks.finish()
    })
    .await
}

/// A new volume begins with what was saved of the lost one.
#[tokio::test]
#[ignore = "full tier"]
async fn a_new_volume_begins_with_a_backup() -> Result<()> {
    with_room("begins", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("begins"));
        turns.busy().await;
        checks.need("the first install", policy::installs(room)).await?;
        let lost = &checks.need("a backup and an old dump", begins::is_saved(room)).await?.0;
        checks.check("what is there is left", begins::leaves_what_is_there(room, lost)).await;
        checks.need("its volume is lost", begins::loses_its_volume(room)).await?;
        checks.check("it waits for what it is to begin with", begins::waits_for_its_source(room, lost)).await;
        turns.alone().await;
        let killed = begins::is_killed_again_and_again(room, cluster, lost);
        checks.need("agent, operator and PostgreSQL are killed meanwhile", killed).await?;
        turns.busy().await;
        checks.check("from an old dump", begins::from_an_old_dump(room, lost)).await;
        checks.finish()
    })
    .await
}

/// What goes wrong while the live database is replaced.
#[tokio::test]
#[ignore = "full tier"]
async fn the_live_database_is_replaced_whole_or_left() -> Result<()> {
    with_room("trouble", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("trouble"));
        turns.busy().await;
        checks.need("the first install", in_place::installs(room)).await?;
        checks.need("it is asked before", in_place::asks_for_backups(room)).await?;
        checks.check("its agents are killed", in_place_faults::agent_killed(room)).await;
        checks.check("PostgreSQL is killed", in_place_faults::database_killed(room)).await;
        checks.check("somebody stays in the database", in_place_faults::somebody_stays(room)).await;
        checks.check("it is given up while the worker finishes", in_place_faults::is_given_up(room)).await;
        checks.check("two at once", in_place_faults::two_at_once(room)).await;
        checks.check("during a rollout", in_place_faults::during_a_rollout(room)).await;
        turns.alone().await;
        checks.check("the operator is killed", in_place_faults::operator_killed(room, cluster)).await;
        if cluster.container().is_ok() {
            checks.check("the node is killed", hard_faults::node_killed(room, cluster)).await;
        }
        checks.finish()
    })
    .await
}

/// What the live database needs of its volume is left to it.
#[tokio::test]
#[ignore = "full tier"]
async fn a_restore_does_not_fill_the_volume() -> Result<()> {
    with_room("full", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("full"));
        let Ok(node) = cluster.container() else {
            say("skipped: on somebody else's cluster no volume is made");
            return Ok(());
        };
        let disk = &hard_faults::Disk::of(node, room).await?;
        turns.busy().await;
        checks.need("the first install on a small volume", disk.installs(room)).await?;
        checks.check("too little room before", hard_faults::too_little_room(room, disk)).await;
        checks.check("room runs out meanwhile", hard_faults::room_runs_out(room, disk)).await;
        checks.finish()?;
        disk.goes(room).await
    })
    .await
}

/// On a server of somebody else, where the application's login may only what it needs.
#[tokio::test]
#[ignore = "full tier"]
async fn a_login_without_the_rights_is_told_before_anything_stops() -> Result<()> {
    with_room("elsewhere", |_, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("elsewhere"));
        turns.busy().await;
        checks.need("the servers run", outside::servers_run(room)).await?;
        checks.need("the first install with a poor login", elsewhere::installs(room)).await?;
        checks.need("it is refused, until it may", elsewhere::is_refused_first(room)).await?;
        checks.check("it is undone", in_place::is_undone(room)).await;
        checks.check("no secret is shown", crate::safety::no_secret_is_shown(room)).await;
        checks.finish()
    })
    .await
}
