//! The crash sweep: the operator's real reconcile, through a real client, against an API server in
//! memory. Every request that changes something is struck once, in every way; each time the end must
//! be that of the clean run, and cost little more.

mod application;
mod backups;
mod cluster;
mod compare;
mod faults;
mod fields;
#[path = "../sim/kubelet.rs"]
mod kubelet;
mod operator;
mod play;
mod promises;
mod request;
mod restores;
mod scenarios;
mod store;
mod world;

use std::collections::BTreeMap;

use faults::{Fault, Strike};
use play::{Course, Moment, Sight, Stage};
use scenarios::{ALL, INSTALL, Scenario, Start};
use serde_json::Value;
use tokio::sync::OnceCell;
use world::World;

/// What a run may cost on top of the clean one.
#[derive(Clone, Copy)]
struct Bound {
    /// Requests that change something.
    writes: usize,
    /// Requests that only look.
    reads: usize,
    /// Or so many times those of the clean run: a long scenario is looked at longer.
    times: usize,
}

/// A crash: what it kept from being stored, and a look at everything.
const RESTART: Bound = Bound { writes: 2, reads: 160, times: 0 };
/// A broken connection is told in the status, and so is its end; old caches make an operator look.
const CLOUDED: Bound = Bound { writes: 6, reads: 450, times: 2 };

/// Requests of a scenario of which each is struck at.
const MANY: usize = 80;

/// Kinds whose events may be lost.
const WATCHED: [&str; 11] = [
    "deployments",
    "statefulsets",
    "jobs",
    "pods",
    "secrets",
    "services",
    "serviceaccounts",
    "persistentvolumeclaims",
    "controllerrevisions",
    "backups",
    "cronjobs",
];

/// A scenario, played once without a fault.
struct Rehearsed {
    stage: Stage,
    scenario: &'static Scenario,
    clean: Course,
    end: BTreeMap<String, Value>,
}

impl Rehearsed {
    async fn new(name: &str) -> Self {
        let scenario = ALL.iter().find(|scenario| scenario.name == name).expect("a scenario");
        let stage = Stage::new().await;
        let first = Moment::first(start(&stage, scenario.start).await);
        let clean = stage.play(&first, scenario.script, Sight::Clear, None).await.expect("a clean run");
        let end = clean.end.end();
        Self { stage, scenario, clean, end }
    }

    /// The moment before request `at`: the start of the reconcile that sends it.
    fn before(&self, at: usize) -> &Moment {
        self.clean.moments.iter().rfind(|moment| moment.writes <= at).expect("a moment before it")
    }

    /// Strikes at request `at`, from the moment before it: what was then is as in the clean run.
    async fn run(&self, strike: Strike, at: usize, sight: Sight) -> Result<Course, String> {
        let from = self.before(at);
        let what = self.clean.writes[at].clone();
        let after = self.clean.writes[from.writes..at].iter().filter(|it| **it == what).count();
        let fault = Fault { strike, what, after };
        let run = self.stage.play(from, self.scenario.script, sight, Some(fault)).await?;
        if run.struck.is_some() { Ok(run) } else { Err("it was never sent".to_owned()) }
    }

    fn judge(&self, run: &Course, from: &Moment, bound: Bound) -> Result<(), String> {
        let differences = compare::differences(&self.end, &run.end.end());
        if !differences.is_empty() {
            return Err(format!("another end: {differences:#?}"));
        }
        let writes = (run.writes.len() + from.writes).saturating_sub(self.clean.writes.len());
        // What old caches still show is deleted or suspended again, which does nothing. They lag by three events at most.
        let again = |line: &&String| line.starts_with("delete") || line.starts_with("patch cronjobs");
        let again = self.clean.writes.iter().filter(again).count();
        if writes > bound.writes + 3 * again {
            return Err(format!("{writes} requests more than in the clean run: {:#?}", run.writes));
        }
        let reads = (run.reads + from.reads).saturating_sub(self.clean.reads);
        if reads > bound.reads.max(bound.times * self.clean.reads) {
            return Err(format!("{reads} looks more than the {} of the clean run", self.clean.reads));
        }
        Ok(())
    }
}

/// A clean first install, where all others begin.
static INSTALLED: OnceCell<Course> = OnceCell::const_new();

/// The world in which a scenario begins.
async fn start(stage: &Stage, start: Start) -> World {
    let install = || async {
        let first = Moment::first(World::sample());
        stage.play(&first, INSTALL, Sight::Clear, None).await.expect("a clean install")
    };
    match start {
        Start::Nothing => World::sample(),
        Start::At(step) => {
            let mut moments = INSTALLED.get_or_init(install).await.moments.iter();
            moments.find(|moment| scenarios::at(&moment.world, step)).expect("a step of the rollout").world.clone()
        }
        Start::Settled => INSTALLED.get_or_init(install).await.end.clone(),
    }
}

/// Strikes at every request in turn, as `strikes` says for its number; each with its sight.
async fn sweep(name: &str, strikes: impl Fn(&Rehearsed, usize) -> Vec<(Strike, Sight)>) {
    let begun = std::time::Instant::now();
    let rehearsed = Rehearsed::new(name).await;
    let total = rehearsed.clean.writes.len();
    let (mut runs, mut failures) = (0, Vec::new());
    // A scenario twice as long takes four times as long: of a very long one each second request, unless all are wanted.
    let every = if std::env::var_os("SWEEP_ALL").is_some() { 1 } else { total.div_ceil(MANY) };
    for at in (0..total).step_by(every) {
        for (strike, sight) in strikes(&rehearsed, at) {
            runs += 1;
            let run = rehearsed.run(strike, at, sight).await;
            let bound = if sight == Sight::Clear { RESTART } else { CLOUDED };
            if let Err(why) = run.and_then(|run| rehearsed.judge(&run, rehearsed.before(at), bound)) {
                let request = &rehearsed.clean.writes[at];
                failures.push(format!("{strike:?}, caches {sight:?}, at request {at} ({request}): {why}"));
            }
        }
        // The first ones say it; a run that never ends takes long.
        if failures.len() >= 3 {
            break;
        }
    }
    println!("{name}: {total} requests, {runs} runs, {:?}", begun.elapsed());
    assert!(failures.is_empty(), "{name}: {}", failures.join("\n\n"));
}

/// A crash after each request. Before the next one of the same reconcile everything is as after this
/// one, so a crash before it is another only where it is the first; there the caches lag afterwards.
fn crashes(rehearsed: &Rehearsed, at: usize) -> Vec<(Strike, Sight)> {
    let first = rehearsed.before(at).writes == at;
    let before = first.then_some((Strike::Crash { stored: false }, Sight::Behind(2)));
    before.into_iter().chain([(Strike::Crash { stored: true }, Sight::Clear)]).collect()
}

/// At every second request an answer that is lost, in turns with a request that is; the caches lag, too.
fn losses(_: &Rehearsed, at: usize) -> Vec<(Strike, Sight)> {
    let strike = Strike::Lose { stored: at.is_multiple_of(4) };
    at.is_multiple_of(2).then_some((strike, Sight::Behind(1 + at % 3))).into_iter().collect()
}

/// The whole scenario with caches that lag, and with each kind's events lost for a while.
async fn clouded(name: &str) {
    let begun = std::time::Instant::now();
    let rehearsed = Rehearsed::new(name).await;
    let first = &rehearsed.clean.moments[0];
    let lost = WATCHED.into_iter().map(|plural| Sight::Blind { plural, turns: 5 });
    let sights: Vec<_> = (1..=3).map(Sight::Behind).chain(lost).collect();
    let mut failures = Vec::new();
    for sight in &sights {
        let run = rehearsed.stage.play(first, rehearsed.scenario.script, *sight, None).await;
        if let Err(why) = run.and_then(|run| rehearsed.judge(&run, first, CLOUDED)) {
            failures.push(format!("{sight:?}: {why}"));
        }
    }
    println!("{name}: {} clouded runs, {:?}", sights.len(), begun.elapsed());
    assert!(failures.is_empty(), "{name}: {}", failures.join("\n\n"));
}

/// Tests of one scenario each; the names are those of [`ALL`].
macro_rules! swept {
    ($($name:ident: $scenario:literal;)*) => {
        $(mod $name {
            use super::*;

            #[tokio::test]
            async fn a_crash_at_any_request_changes_nothing_in_the_end() {
                sweep($scenario, crashes).await;
            }

            #[tokio::test]
            async fn a_lost_request_or_answer_changes_nothing_in_the_end() {
                sweep($scenario, losses).await;
            }

            #[tokio::test]
            async fn old_caches_and_lost_events_change_nothing_in_the_end() {
                clouded($scenario).await;
            }
        })*

        #[test]
        fn every_scenario_is_swept() {
            let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
            assert_eq!(names, [$($scenario),*]);
        }
    };
}

swept! {
    first_install: "first install";
    bootstrap: "a first install from a backup";
    revision: "another image and another secret";
    scale: "scale";
    password: "a changed password";
    limit: "a revision beyond the limit";
    rules_gate: "the rules API refuses at first";
    suspend: "suspend, change, resume";
    failing_job: "a Job that fails is tried again";
    unwanted_job: "a Job that nobody wants any more";
    backup: "a backup before a migration";
    rollback: "a version that is taken back";
    checks: "a check that fails, and one that passes";
    approval: "an approval";
    routes: "routes that become others, and go";
    runs: "backups that are asked for, scheduled and verified";
    failing_runs: "backups that fail, and a Job that somebody deletes";
    place: "backups in another place";
    purge: "backups that go with their Backup";
    flags: "flags that take a rule over, add one, and go";
    flag_disable: "a rule that is disabled while the application is away";
    restore: "a backup that is restored beside, and a restore that is given up";
    replace: "a backup that takes the live database's place, and the way back";
}

/// The same file is held against the real API server: there the operator sends the same.
#[tokio::test]
async fn the_requests_of_a_first_install_are_those_on_record() {
    let rehearsed = Rehearsed::new("first install").await;
    // On the real one the application has no rules.
    let sent = rehearsed.clean.writes.iter().map(String::as_str).filter(|line| !line.starts_with("put "));
    let sent = sent.collect::<Vec<_>>().join("\n") + "\n";
    let record = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sweep/first-install.txt");
    if std::env::var_os("SWEEP_RECORD").is_some() {
        std::fs::write(&record, &sent).expect("a file of this folder");
    }
    let recorded = std::fs::read_to_string(&record).unwrap_or_default();
    assert_eq!(sent, recorded, "if it shall be so: run this test once with SWEEP_RECORD=1");
}

#[tokio::test]
async fn what_took_the_name_of_an_obsolete_job_is_not_deleted() {
    let rehearsed = Rehearsed::new("a Job that nobody wants any more").await;
    let deletes = (0..rehearsed.clean.writes.len()).filter(|at| rehearsed.clean.writes[*at].starts_with("delete "));
    let deletes: Vec<_> = deletes.collect();
    assert_eq!(deletes.len(), 1, "{:?}", rehearsed.clean.writes);
    let run = rehearsed.run(Strike::Replace, deletes[0], Sight::Clear).await.expect("a run to the end");
    let theirs = run.end.store.all("jobs").filter(|(_, job)| job["metadata"]["labels"].is_null());
    assert_eq!(theirs.count(), 1, "somebody's own Job of that name is still there");
}
