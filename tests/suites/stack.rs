//! A whole stack on a real cluster: first install, steady state, updates and faults, as a user
//! meets them. Each test has a stack of its own and many checks; all of them share one operator,
//! and take turns where one of them would disturb what another counts.

#[path = "stack/backups/mod.rs"]
mod backups;
#[path = "stack/checks.rs"]
mod checks;
#[path = "stack/credentials.rs"]
mod credentials;
#[path = "stack/faults.rs"]
mod faults;
#[path = "stack/flags/mod.rs"]
mod flags;
#[path = "stack/full.rs"]
mod full;
#[path = "stack/install.rs"]
mod install;
#[path = "stack/memory.rs"]
mod memory;
#[path = "stack/migrations/mod.rs"]
mod migrations;
#[path = "stack/network.rs"]
mod network;
#[path = "stack/operator.rs"]
mod operator;
#[path = "stack/outside.rs"]
mod outside;
#[path = "stack/poller.rs"]
mod poller;
#[path = "stack/ready.rs"]
mod ready;
#[path = "stack/record.rs"]
mod record;
#[path = "stack/recovery.rs"]
mod recovery;
#[path = "stack/restores/mod.rs"]
mod restores;
#[path = "stack/rollouts/mod.rs"]
mod rollouts;
#[path = "stack/room.rs"]
mod room;
#[path = "stack/routes/mod.rs"]
mod routes;
#[path = "stack/safety.rs"]
mod safety;
#[path = "stack/steady.rs"]
mod steady;
#[path = "stack/traps.rs"]
mod traps;
#[path = "stack/turns.rs"]
mod turns;
#[path = "stack/update.rs"]
mod update;

use anyhow::Result;

use checks::Checks;
use operator::End;
use record::Recorder;
use turns::with_room;

/// From nothing to Ready, then nothing at all, then a new revision while the operator dies.
#[tokio::test]
async fn a_stack_comes_up_rests_and_rolls() -> Result<()> {
    with_room("rolls", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("rolls"));
        turns.busy().await;
        let recorder = &Recorder::start(room).await?;
        checks.need("first install, rules off when the worker is made", install::comes_up(room, recorder)).await?;

        turns.alone().await;
        checks.check("the order of the first install", install::came_in_order(recorder)).await;
        checks.check("no pod stumbled", install::without_a_stumble(room, recorder)).await;
        checks.check("all rules are off", ready::rules_off(room)).await;
        checks.check("kubectl's columns", ready::columns(room, cluster)).await;
        checks.check("conditions", ready::conditions(room)).await;
        checks.check("Odoo is reachable", ready::odoo_reachable(room)).await;
        checks.check("the API wants its key", ready::key_is_asked_for(room)).await;
        checks.check("the dashboard answers", ready::dashboard_answers(room)).await;
        checks.check("events while all rules are off", install::no_task_ran(room)).await;
        checks.check("a rule enabled by hand", ready::enable_a_rule(room)).await;
        checks.check("webhook → worker → audit row, approval → queue celery", ready::queue_works(room)).await;
        checks.check("pods are locked down", safety::pods_are_locked_down(room)).await;
        checks.check("who reaches whom", network::is_kept_apart(room, cluster)).await;
        checks.check("data has no owner", safety::data_has_no_owner(room)).await;
        checks.check("75 s without a write", steady::rests(room)).await;
        checks.check("memory", memory::of_operator_and_agent(room)).await;
        checks.check("no secret is shown", safety::no_secret_is_shown(room)).await;
        checks.check("an operator that starts writes nothing", steady::restart_is_not_noticed(room, cluster)).await;

        turns.busy().await;
        let before = update::Before::of(room, recorder).await?;
        let rolls = update::rolls(room, recorder, &before, Some((cluster, End::Forced)));
        checks.need("a new revision rolls while the operator is killed, the API always answers", rolls).await?;
        checks.check("the order of the rollout", update::rolled_in_order(room, recorder, &before)).await;
        let left = update::left_one_entry_and_no_job(room, recorder, &before);
        checks.check("one history entry more, no Job", left).await;
        checks.finish()
    })
    .await
}

/// What a user does wrong or loses, each with what he reads and how it goes on.
#[tokio::test]
async fn a_stack_survives_faults_and_its_own_deletion() -> Result<()> {
    with_room("faults", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("faults"));
        turns.busy().await;
        let recorder = &Recorder::start(room).await?;
        checks.check("a flag waits for its stack", flags::core::waits_for_its_stack(room)).await;
        checks.check("a name is taken", faults::name_conflict(room)).await;
        checks.check("a Secret is missing", faults::secret_missing(room)).await;
        checks.check("an image can't be pulled", faults::image_pull_failed(room)).await;
        checks.need("the first install goes on", faults::goes_on(room)).await?;
        checks.check("nothing of the wrong image is left", faults::nothing_hangs(room)).await;
        checks.check("what is declared Enabled is on, nothing else", flags::core::is_on_from_the_beginning(room)).await;
        checks.check("too many runs fail", flags::core::is_switched_off(room)).await;
        checks.check("flags keep their rules", flags::core::keep_their_rules(room)).await;

        turns.busy().await;
        checks.check("PostgreSQL's pod is deleted", faults::database_pod_deleted(room, recorder)).await;
        checks.check("a migration waits for its backup", migrations::core::waits_for_a_backup(room)).await;
        checks.check("back to the image that runs", faults::back_to_what_runs(room)).await;
        Box::pin(checks.check("both passwords are changed", credentials::passwords_change(room))).await;
        checks.check("Redis starts with the new one", credentials::redis_restarts_with_them(room)).await;

        turns.busy().await;
        checks.check("a rule enabled by hand", ready::enable_a_rule(room)).await;
        ready::send_event(room, "crm.lead").await?;
        let mark = faults::Mark::read(room).await?;
        checks.need("deletion keeps the data", faults::deleted_keeps_data(room)).await?;
        checks.check("the same stack with the same data", faults::comes_back(room, &mark)).await;
        checks.check("a new image brings its schema, after a backup", migrations::core::upgrades(room)).await;
        checks.check("the backup is restored as a test", backups::core::is_verified(room, cluster)).await;
        checks.check("it is restored beside", restores::core::is_restored_beside(room, cluster)).await;
        checks.check("a restore that is given up", restores::core::is_given_up(room)).await;
        Box::pin(checks.check("it takes the live one's place", restores::in_place::is_replaced(room))).await;
        checks.finish()
    })
    .await
}

/// Servers of somebody else whose login isn't there yet.
#[tokio::test]
async fn an_external_stack_waits_for_its_login() -> Result<()> {
    with_room("login", |_, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("login"));
        turns.busy().await;
        checks.check("External", faults::external_needs_a_login(room)).await;
        checks.finish()
    })
    .await
}

/// A stack whose PostgreSQL and Redis somebody else runs, both behind TLS.
#[tokio::test]
#[ignore = "full tier"]
async fn a_stack_on_servers_of_somebody_else() -> Result<()> {
    with_room("outside", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("outside"));
        turns.busy().await;
        checks.need("the servers run", outside::servers_run(room)).await?;
        checks.check("a wrong password is named first", outside::wrong_password_is_named(room)).await;
        checks.need("the right one brings it up", outside::comes_up(room)).await?;
        checks.check("a migration behind a backup, through TLS", outside::migrates(room)).await;
        checks.check("the backup is restored as a test", backups::core::is_verified(room, cluster)).await;
        checks.check("no secret is shown", safety::no_secret_is_shown(room)).await;
        turns.busy().await;
        checks.check("a changed password", outside::password_changes(room)).await;
        checks.finish()
    })
    .await
}

/// What docs/traps.md says of the application and only a kubelet can show.
#[tokio::test]
#[ignore = "full tier"]
async fn the_applications_traps_do_not_snap() -> Result<()> {
    with_room("traps", |_, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("traps"));
        turns.busy().await;
        let recorder = &Recorder::start(room).await?;
        checks.need("Services of bad names are there first", traps::services_of_bad_names(room)).await?;
        checks.need("first install", install::comes_up(room, recorder)).await?;
        checks.check("service links", traps::service_links_bite_others_only(room)).await;
        checks.check("a user by name", traps::a_user_by_name_bites_others_only(room)).await;
        checks.check("a rule enabled by hand", ready::enable_a_rule(room)).await;
        checks.check("a task that runs at a rollout", traps::a_running_task_survives_a_rollout(room)).await;
        turns.busy().await;
        let away = traps::a_worker_restarts_while_the_database_is_away(room);
        checks.check("the worker restarts while the database is away", away).await;
        checks.finish()
    })
    .await
}

/// What takes minutes, or the whole node.
#[tokio::test]
#[ignore = "full tier"]
async fn with_odoo_operator_or_node_away_a_stack_survives() -> Result<()> {
    with_room("survives", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("survives"));
        let ours = cluster.container().is_ok();
        turns.busy().await;
        let recorder = &Recorder::start(room).await?;
        checks.need("first install", install::comes_up(room, recorder)).await?;
        checks.check("a rule enabled by hand", ready::enable_a_rule(room)).await;
        checks.check("Odoo denies, refuses, hangs and comes back", full::odoo_fails_and_comes_back(room)).await;

        turns.alone().await;
        let before = update::Before::of(room, recorder).await?;
        // A process can be killed from outside only where the node is ours.
        let end = ours.then_some((cluster, End::Crashed));
        checks
            .check("a new revision rolls while the operator crashes", update::rolls(room, recorder, &before, end))
            .await;
        checks.check("the order of the rollout", update::rolled_in_order(room, recorder, &before)).await;
        checks.check("life without the operator", full::lives_without_the_operator(room, cluster)).await;
        checks.check("a pod lost without the operator", full::heals_without_the_operator(room, cluster)).await;
        if ours {
            checks.check("a reboot", full::survives_a_reboot(room, cluster)).await;
        }
        checks.finish()
    })
    .await
}
