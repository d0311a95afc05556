//! Revisions that fail on a real cluster, and what must never be taken for a failure: the full tier is
//! `hack/test rollouts`.

mod calm;
mod checks;
mod fails;
mod first;
pub(crate) mod load;
mod midway;
mod upgraded;
mod world;

use anyhow::Result;

use crate::checks::Checks;
use crate::operator;
use crate::room::Room;
use crate::turns::with_room;

/// The most telling ones, in the core tier too. A misbehaving version, bad settings and a bad Secret in one change:
/// everything is as before.
#[tokio::test]
async fn a_failed_revision_is_taken_back_whole() -> Result<()> {
    with_room("back", |cluster, room, turns| async move {
        let (room, mut verdicts) = (&room, Checks::new("back"));
        turns.busy().await;
        verdicts.need("the first install", fails::installs(room, cluster, 45)).await?;
        verdicts.need("image, setting and Secret in one change", Box::pin(fails::restores_everything(room))).await?;
        turns.busy().await;
        verdicts.check("an unhealthy version gets no request", Box::pin(fails::gets_no_request(room))).await;
        turns.busy().await;
        verdicts.check("a check that fails", checks::fails(room)).await;
        verdicts.finish()
    })
    .await
}

/// Each cause, with what the user reads.
#[tokio::test]
#[ignore = "full tier"]
async fn each_cause_is_named() -> Result<()> {
    with_room("causes", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("causes"));
        turns.busy().await;
        checks.need("the first install", fails::installs(room, cluster, 120)).await?;
        checks.check("an image that can't be pulled", fails::can_not_be_pulled(room)).await;
        checks.check("a failed migration", fails::migration_failed(room)).await;
        checks.check("a worker that ends at once", fails::worker_crashes(room)).await;
        checks.check("a retry", fails::is_tried_again(room)).await;
        checks.check("a version that needs too much memory", fails::out_of_memory(room)).await;
        checks.check("one that crashes in the watch", fails::crashes_in_the_watch(room)).await;
        checks.check("back on request", fails::on_request(room)).await;
        checks.check("a schema that the older image can't live with", fails::blocked_by_schema(room)).await;
        checks.finish()
    })
    .await
}

/// The world around it stumbles in the watch.
#[tokio::test]
#[ignore = "full tier"]
async fn what_is_around_it_is_no_failure_of_a_revision() -> Result<()> {
    with_room("calm", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("calm"));
        turns.busy().await;
        checks.need("the first install", calm::installs(room)).await?;
        checks.need("the watch of a new revision begins", calm::is_watched(room)).await?;
        checks.check("PostgreSQL and Redis restart", calm::servers_restart(room)).await;
        checks.check("the sidecar is killed", calm::sidecar_killed(room)).await;
        checks.check("Odoo refuses and hangs", calm::odoo_fails(room)).await;
        turns.alone().await;
        checks.check("the operator is killed", calm::operator_killed(room, cluster)).await;
        checks.check("it passes its watch", calm::passes(room)).await;
        checks.finish()
    })
    .await
}

/// The user's own tests of a revision.
#[tokio::test]
#[ignore = "full tier"]
async fn checks_decide_over_a_revision() -> Result<()> {
    with_room("checks", |cluster, room, turns| async move {
        let (room, mut verdicts) = (&room, Checks::new("checks"));
        turns.busy().await;
        verdicts.need("a first install with a check", checks::installs(room)).await?;
        verdicts.need("two that pass", checks::pass(room)).await?;
        verdicts.check("one that fails", checks::fails(room)).await;
        verdicts.check("one that takes too long", checks::is_late(room)).await;
        verdicts.check("one whose pod is deleted", checks::is_interrupted(room)).await;
        verdicts.check("one that needs too much memory", checks::needs_too_much_memory(room)).await;
        turns.alone().await;
        verdicts.check("one that goes with its node", checks::goes_with_its_node(room, cluster)).await;
        verdicts.finish()
    })
    .await
}

/// Twenty requests a second, and tasks on the queue.
#[tokio::test]
#[ignore = "full tier"]
async fn nobody_notices_a_rollout() -> Result<()> {
    with_room("load", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("load"));
        turns.alone().await;
        checks.need("the first install", load::installs(room, cluster)).await?;
        checks.check("a changed setting", load::config_change(room)).await;
        checks.check("another image", load::image_update(room)).await;
        checks.check("a change of the dashboard only", load::dashboard_only(room)).await;
        checks.check("a version that crashes and is taken back", Box::pin(load::bad_version(room))).await;
        let away = load::without_the_operator(room, cluster);
        checks.check("an unhealthy version, and no operator", Box::pin(away)).await;
        checks.check("a rollback on request", Box::pin(load::on_request(room))).await;
        checks.check("tasks on the queue", load::no_task_is_lost(room)).await;
        checks.finish()
    })
    .await
}

/// Changes in the middle of a rollout.
#[tokio::test]
#[ignore = "full tier"]
async fn a_spec_may_change_at_any_time() -> Result<()> {
    with_room("midway", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("midway"));
        turns.busy().await;
        checks.need("the first install", midway::installs(room, cluster)).await?;
        checks.check("another revision supersedes it", midway::is_superseded(room)).await;
        checks.check("two changes in a second", midway::two_in_a_second(room)).await;
        checks.check("back to what runs", midway::back_to_what_runs(room)).await;
        checks
            .check("a live field and a password while it waits", Box::pin(midway::waits_while_others_change(room)))
            .await;
        checks.check("suspended and resumed", midway::is_suspended(room)).await;
        checks.check("deleted", midway::is_deleted(room)).await;
        checks.finish()
    })
    .await
}

/// The world around a revision, and the operator itself.
#[tokio::test]
#[ignore = "full tier"]
async fn the_world_may_stumble() -> Result<()> {
    with_room("world", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("world"));
        turns.alone().await;
        checks.need("the first install", calm::installs(room)).await?;
        checks.need("the watch of a new revision begins", calm::is_watched(room)).await?;
        checks.check("names don't resolve", world::no_names(room)).await;
        checks.check("the node reboots in the watch", world::reboot_in_the_watch(room, cluster)).await;
        // The API server has another port now.
        let room = &Room { client: cluster.client().await?, ns: room.ns.clone() };
        checks.check("servers restart in a replacement", world::servers_restart_in_a_replacement(room)).await;
        checks.check("the node reboots in a replacement", world::reboot_in_a_replacement(room, cluster)).await;
        let room = &Room { client: cluster.client().await?, ns: room.ns.clone() };
        checks.check("what was taken back and a reboot", world::taken_back_and_rebooted(room, cluster)).await;
        let room = &Room { client: cluster.client().await?, ns: room.ns.clone() };
        checks.check("a revision that doesn't fit", world::does_not_fit(room)).await;
        checks.check("an image of the history is gone", world::history_image_is_gone(room, cluster)).await;
        checks.finish()
    })
    .await
}

/// Another version of the operator.
#[tokio::test]
#[ignore = "full tier"]
async fn an_upgrade_of_the_operator_restarts_no_pod() -> Result<()> {
    with_room("upgraded", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("upgraded"));
        turns.alone().await;
        checks.need("the first install", calm::installs(room)).await?;
        checks.check("in the middle of a watch", upgraded::restarts_nothing(room, cluster)).await;
        checks.check("the next revision", upgraded::next_revision_takes_it_up(room)).await;
        checks.need("the version before", async { operator::downgrade(cluster).await.map(|()| "") }).await?;
        checks.finish()
    })
    .await
}

/// A first install that meets one bad version after the other.
#[tokio::test]
#[ignore = "full tier"]
async fn a_first_install_goes_on_trying() -> Result<()> {
    with_room("first", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("first"));
        turns.busy().await;
        checks.need("an image that can't be pulled", first::begins(room, cluster)).await?;
        let crash = first::version(room, "1.2.0-crash", "CrashLoop", &["ai-service", "exit code 1"]);
        checks.check("a version that crashes", crash).await;
        let memory = first::version(room, "1.2.0-oom", "OutOfMemory", &["aiService.resources"]);
        checks.check("one that needs too much memory", memory).await;
        let unhealthy = first::version(room, "1.2.0-unhealthy", "PodNotReady", &["/api/rules with 500"]);
        checks.check("an unhealthy one", unhealthy).await;
        let hung = first::version(room, "1.2.0-hung-start", "PodNotReady", &["application not listening"]);
        checks.check("one that never starts", hung).await;
        checks.check("a failed check", first::check(room)).await;
        checks.check("it ends well", first::ends_well(room)).await;
        checks.finish()
    })
    .await
}
