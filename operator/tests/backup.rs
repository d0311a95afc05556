//! What a Backup's Jobs, catalogue and schedule make of its status, and what is started when.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::backup::{Backup, BackupReason, BackupStatus, RunResult};
use odoo_ai_crds::common::DeletionPolicy;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::stack::{OdooAiStack, PreMigrationBackup};
use odoo_ai_operator::backup::build::{self, Start};
use odoo_ai_operator::backup::decide::{Decision, decide};
use odoo_ai_operator::backup::observe::Observed;
use odoo_ai_operator::backup::remove::{self, Step};
use odoo_ai_operator::backup::{catalogue, conditions};
use odoo_ai_operator::cluster::children::Children;
use odoo_ai_operator::cluster::status;
use odoo_ai_operator::stack::model::{Network, Operator};
use odoo_ai_operator::stack::references::{Contents, Reference};
use serde_json::{Value, json};

/// A Backup, its Jobs, and the time.
struct World {
    seen: Observed,
    operator: Operator,
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

const ID: &str = "20260101t030000z-aaaaaa";

impl World {
    /// Of the sample, on a volume only, at noon.
    fn new() -> Self {
        let read = |name: &str| {
            let path = format!("{}/../manifests/samples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).expect("a sample")
        };
        let mut object: Backup = serde_saphyr::from_str(&read("backup")).expect("a Backup");
        (object.metadata.uid, object.metadata.generation) = (Some("backup-uid".to_owned()), Some(1));
        object.metadata.creation_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
        object.spec.storage.s3 = None;
        object.spec.time_zone = None;
        let local = read("local");
        let text = local.split("\n---").find(|text| text.contains("kind: OdooAiStack")).expect("a stack");
        let mut stack: OdooAiStack = serde_saphyr::from_str(text).expect("a stack");
        stack.metadata.uid = Some("stack-uid".to_owned());
        object.spec.stack_ref.name = stack.metadata.name.clone().expect("a name");
        let seen = Observed {
            object,
            stack: Some(stack),
            children: Children::default(),
            data: BTreeMap::new(),
            claim_exists: true,
            now: at("2026-01-01T12:00:00Z"),
        };
        let operator =
            Operator { image: "operator:1".to_owned(), network: Some(Network::default()), ..Operator::default() };
        Self { seen, operator }
    }

    /// One that knows of an empty catalogue.
    fn settled() -> Self {
        let mut world = Self::new();
        world.step();
        world.later(MINUTE);
        world.finish_catalogue(&[]);
        world.step();
        world
    }

    /// Decides, and keeps what a status would; what is decided again must say the same.
    fn step(&mut self) -> Decision {
        let decision = self.decide();
        let mut status = decision.status.clone();
        let handled = status.last_handled.get_or_insert_default();
        for (name, request) in &decision.handled {
            let place = match *name {
                annotations::BACKUP_REQUESTED_AT => &mut handled.backup_requested_at,
                _ => &mut handled.verify_requested_at,
            };
            *place = Some(request.clone());
        }
        for (kind, verdict) in conditions::all(&self.seen, &decision, None) {
            match verdict {
                Some(verdict) => _ = status::set(&mut status.conditions, kind, &verdict, 1, self.seen.now),
                None => status::unset(&mut status.conditions, kind),
            }
        }
        let json = serde_json::to_value(&status).expect("JSON");
        self.seen.object.status = Some(serde_json::from_value(json).expect("a status"));
        let again = self.decide().status;
        assert_eq!(again, BackupStatus { conditions: again.conditions.clone(), ..self.status() }, "once is enough");
        for start in &decision.start {
            self.create(start);
        }
        decision
    }

    fn decide(&self) -> Decision {
        decide(&self.seen, &self.operator)
    }

    fn status(&self) -> BackupStatus {
        self.seen.status()
    }

    fn says(&self, kind: &str) -> (String, String, String) {
        let found =
            self.status().conditions.into_iter().find(|it| it.type_ == kind).unwrap_or_else(|| panic!("{kind}"));
        let Condition { status, reason, message, .. } = found;
        (status, reason, message)
    }

    #[track_caller]
    fn expect(&self, kind: &str, status: &str, reason: &str) {
        let said = self.says(kind);
        assert_eq!((said.0.as_str(), said.1.as_str()), (status, reason), "{}", said.2);
    }

    /// As the API server would keep it.
    fn create(&mut self, start: &Start) {
        let policy = self.decide().policy.expect("accepted");
        let intent = build::run_now(&policy, start);
        let mut job = intent.object.clone();
        job["metadata"]["uid"] = json!(intent.name);
        job["metadata"]["creationTimestamp"] = json!(self.seen.now);
        job["status"] = json!({"startTime": self.seen.now});
        self.put(&job);
    }

    fn put(&mut self, job: &Value) {
        let job: Job = serde_json::from_value(job.clone()).expect("a Job");
        let name = job.metadata.name.clone().expect("a name");
        self.seen.children.jobs.insert(name, Arc::new(job));
    }

    /// One of a schedule, which started now.
    fn scheduled(&mut self, task: &str) -> String {
        let name = format!("nightly-{task}-{}", self.seen.now.as_second() / 60);
        let policy = self.decide().policy.expect("accepted");
        let lasting = build::lasting(&policy);
        let cron =
            lasting.iter().find(|it| it.resource.kind == "CronJob" && it.name.ends_with(task)).expect("a CronJob");
        let template = &cron.object["spec"]["jobTemplate"];
        let mut job = json!({"metadata": template["metadata"], "spec": template["spec"]});
        job["metadata"]["name"] = json!(name);
        job["metadata"]["namespace"] = json!("odoo-ai");
        job["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": cron.name, "uid": cron.name, "controller": true}]);
        job["metadata"]["uid"] = json!(name);
        job["metadata"]["creationTimestamp"] = json!(self.seen.now);
        job["status"] = json!({"startTime": self.seen.now});
        self.put(&job);
        let mut cron = cron.object.clone();
        cron["metadata"]["uid"] = cron["metadata"]["name"].clone();
        cron["status"] = json!({"lastScheduleTime": self.seen.now});
        let cron: CronJob = serde_json::from_value(cron).expect("a CronJob");
        self.seen.children.cron_jobs.insert(format!("nightly-{task}"), Arc::new(cron));
        name
    }

    /// The Job ends now; `report` is its pod's last word.
    fn finish(&mut self, name: &str, well: bool, report: Option<Value>) {
        let job = Arc::clone(&self.seen.children.jobs[name]);
        let mut job = serde_json::to_value(&*job).expect("JSON");
        let condition = json!({"type": if well { "Complete" } else { "Failed" }, "status": "True", "lastTransitionTime": self.seen.now});
        job["status"]["conditions"] = json!([condition]);
        self.put(&job);
        let Some(report) = report else { return };
        let component = job["metadata"]["labels"]["app.kubernetes.io/component"].clone();
        let state = json!({"terminated": {"exitCode": i32::from(!well), "finishedAt": self.seen.now, "message": report.to_string()}});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": job["metadata"]["labels"],
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}]},
            "status": {"phase": "Succeeded", "containerStatuses": [{"name": component, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]},
        }))
        .expect("a pod");
        self.seen.children.pods.insert(name.to_owned(), Arc::new(pod));
    }

    fn finish_catalogue(&mut self, artifacts: &[Value]) {
        let runs = |name: &String| {
            let status = self.seen.children.jobs[name].status.as_ref();
            status.is_some_and(|status| status.conditions.is_none())
        };
        let name = self.jobs("catalogue").into_iter().find(runs).expect("a Job reads the catalogue");
        let report = json!({"result": "Succeeded", "reason": "CatalogueRead", "catalogue": listing(artifacts)});
        self.finish(&name, true, Some(report));
    }

    fn jobs(&self, component: &str) -> Vec<String> {
        self.seen.children.jobs.keys().filter(|name| name.contains(component)).cloned().collect()
    }

    fn later(&mut self, time: SignedDuration) {
        self.seen.now += time;
    }

    fn annotate(&mut self, name: &str, value: &str) {
        let annotations = self.seen.object.metadata.annotations.get_or_insert_default();
        annotations.insert(name.to_owned(), value.to_owned());
    }
}

fn artifact(id: &str, completed: &str) -> Value {
    json!([id, "S", at(completed).as_second(), 2048, 0, 0, 0])
}

fn listing(artifacts: &[Value]) -> Value {
    json!({"owner": "7/odoo_ai", "total": artifacts.len(), "bytes": 2048, "schemas": ["003"], "incarnations": ["7/5"], "artifacts": artifacts})
}

fn made(artifacts: &[Value]) -> Value {
    json!({"result": "Succeeded", "reason": "BackupSucceeded", "message": "backup: 3 tables", "backup": {"id": ID, "bytes": 2048},
        "catalogue": listing(artifacts)})
}

fn failed(result: &str, reason: &str) -> Value {
    json!({"result": result, "reason": reason, "message": "why it failed"})
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

#[test]
fn the_catalogue_is_read_before_anything_else_and_a_status_is_made_of_it_alone() {
    let mut world = World::new();
    let decision = world.step();
    assert_eq!(decision.start.len(), 1, "{:?}", decision.start);
    world.expect("Ready", "Unknown", "ReadingCatalogue");
    // Another one is not asked for while it runs.
    assert_eq!(world.step().start, []);
    world.later(MINUTE);
    let mut listed = listing(&[artifact(ID, "2026-01-01T03:00:05Z")]);
    listed["verified"] = json!({"id": ID, "completedAt": "2026-01-01T04:00:00Z", "restoreSeconds": 7});
    listed["requests"] = json!({ID: "r-1"});
    let name = world.jobs("catalogue").pop().expect("a Job");
    world.finish(&name, true, Some(json!({"result": "Succeeded", "catalogue": listed})));
    world.step();
    let status = world.status();
    let success = status.last_success.clone().expect("one");
    assert_eq!((success.id.as_str(), success.request_id.as_deref()), (ID, Some("r-1")));
    assert_eq!((success.size.as_deref(), success.alembic_revision.as_deref()), (Some("2.0KiB"), Some("003")));
    assert_eq!(success.incarnation.as_deref(), Some("7/5"));
    assert_eq!(status.last_verified.clone().and_then(|it| it.restore_seconds), Some(7));
    world.expect("Ready", "True", "BackedUp");
    world.expect("Verified", "True", "Verified");
    world.expect("LastBackupSucceeded", "True", "BackupSucceeded");
    assert!(world.says("Ready").2.contains("does not survive it"), "{}", world.says("Ready").2);
    assert!(world.status().conditions.iter().all(|it| it.type_ != "OffsiteCopied"), "there is no bucket");
}

#[test]
fn a_catalogue_that_cant_be_read_is_told_and_read_again() {
    let mut world = World::new();
    world.step();
    let name = world.jobs("catalogue").pop().expect("a Job");
    world.finish(&name, false, Some(failed("Failed", "StorageUnavailable")));
    world.step();
    world.expect("Ready", "False", "CatalogueUnreadable");
    assert!(world.says("Ready").2.contains("why it failed"));
    world.later(MINUTE);
    assert_eq!(world.step().start.len(), 1, "after a pause");
}

#[test]
fn an_empty_catalogue_is_no_backup() {
    let world = World::settled();
    world.expect("Ready", "Unknown", "NoBackupYet");
    world.expect("Fresh", "False", "NoBackupYet");
    world.expect("Verified", "Unknown", "NotVerifiedYet");
    world.expect("Stalled", "False", "Progressing");
    assert!(world.says("Ready").2.contains("2026-01-02T03:00:00Z"), "{}", world.says("Ready").2);
}

#[test]
fn a_run_of_the_schedule_is_taken_once() {
    let mut world = World::settled();
    world.seen.now = at("2026-01-02T03:00:00Z");
    let name = world.scheduled("backup");
    world.step();
    assert_eq!(world.status().last_attempt.expect("one").result, RunResult::Running);
    world.later(MINUTE);
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-02T03:00:30Z")])));
    world.step();
    let status = world.status();
    assert_eq!(status.last_attempt.expect("one").result, RunResult::Succeeded);
    assert_eq!((status.artifacts.len(), status.missed_runs, status.consecutive_failures), (1, 0, 0));
    assert_eq!(status.next_schedule_time.map(|time| time.0), Some(at("2026-01-03T03:00:00Z")));
    world.expect("Ready", "True", "BackedUp");
    // The Job goes by its time, and what it said stays.
    world.seen.children.jobs.remove(&name);
    world.step();
    world.expect("Ready", "True", "BackedUp");
    // Until the next one must have come.
    world.seen.now = at("2026-01-03T04:09:59Z");
    world.step();
    world.expect("Fresh", "True", "UpToDate");
    world.later(MINUTE);
    world.step();
    world.expect("Fresh", "False", "BackupTooOld");
    world.expect("Ready", "False", "BackupTooOld");
    assert_eq!(world.status().missed_runs, 1, "nothing was started for this morning's");
}

#[test]
fn a_failed_run_is_told_with_its_word_and_a_refused_one_stalls() {
    let mut world = World::settled();
    for (day, result, reason, ready, stalled) in
        [(2, "Failed", "StorageFull", "BackupFailed", "False"), (3, "Refused", "ForeignOwner", "ForeignOwner", "True")]
    {
        world.seen.now = at(&format!("2026-01-{day:02}T03:00:00Z"));
        let name = world.scheduled("backup");
        world.step();
        world.finish(&name, false, Some(failed(result, reason)));
        world.step();
        world.expect("LastBackupSucceeded", "False", reason);
        world.expect("Ready", "False", ready);
        assert_eq!(world.says("Stalled").0, stalled);
        assert!(world.says("Ready").2.contains("why it failed"));
    }
    assert_eq!(world.status().consecutive_failures, 2);
    world.seen.now = at("2026-01-04T03:00:00Z");
    let name = world.scheduled("backup");
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-04T03:00:30Z")])));
    world.step();
    assert_eq!((world.status().consecutive_failures, world.says("Stalled").0), (0, "False".to_owned()));
}

/// A run that left no word is none that succeeded; the catalogue may know better.
#[test]
fn a_run_without_a_word_is_looked_for_in_the_catalogue() {
    for (found, result, failures) in [(true, RunResult::Succeeded, 0), (false, RunResult::Failed, 1)] {
        let mut world = World::settled();
        world.seen.now = at("2026-01-02T03:00:00Z");
        let name = world.scheduled("backup");
        world.step();
        world.later(MINUTE);
        world.finish(&name, false, None);
        let decision = world.step();
        world.expect("LastBackupSucceeded", "False", "NoReport");
        assert_eq!((decision.start.len(), world.status().consecutive_failures), (1, 1));
        world.later(MINUTE);
        let artifacts = if found { vec![artifact(ID, "2026-01-02T03:00:30Z")] } else { vec![] };
        world.finish_catalogue(&artifacts);
        world.step();
        let run = world.status().last_attempt.expect("one");
        assert_eq!((run.result, world.status().consecutive_failures), (result, failures), "{run:?}");
        assert_eq!(world.step().start, [], "and it is read once");
    }
}

#[test]
fn a_run_that_ended_well_and_whose_word_is_lost_is_waited_for_a_moment() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    world.step();
    world.finish(&name, true, None);
    world.step();
    assert_eq!(world.status().last_attempt.expect("one").result, RunResult::Running);
    world.later(MINUTE);
    assert_eq!(world.step().start.len(), 1, "the catalogue is read");
    assert_eq!(world.status().last_attempt.expect("one").result, RunResult::Failed);
}

#[test]
fn a_job_that_somebody_deletes_has_failed() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    world.step();
    world.seen.children.jobs.remove(&name);
    let decision = world.step();
    assert!(world.says("LastBackupSucceeded").2.contains("was deleted"), "{}", world.says("LastBackupSucceeded").2);
    assert_eq!(decision.start.len(), 1, "its manifest may be there");
}

/// Its own owner goes, and takes it along: nothing of ours failed.
#[test]
fn a_job_of_a_backup_that_had_the_name_before_is_none_of_ours() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    let mut job = serde_json::to_value(&*world.seen.children.jobs[&name]).expect("JSON");
    job["metadata"]["ownerReferences"][0]["uid"] = json!("of the one before");
    world.put(&job);
    world.step();
    world.seen.children.jobs.remove(&name);
    world.step();
    assert_eq!((world.status().runs.len(), world.status().consecutive_failures), (0, 0));
}

#[test]
fn a_request_is_answered_by_one_job() {
    let mut world = World::settled();
    world.annotate(annotations::BACKUP_REQUESTED_AT, "now");
    world.annotate(annotations::VERIFY_REQUESTED_AT, "now");
    let first = world.decide().start;
    assert_eq!(first.len(), 2);
    // The operator is killed after the first was created.
    world.create(&first[0]);
    assert_eq!(world.step().start, first, "the same names: what is there isn't created again");
    assert_eq!(world.step().start, []);
    let name = world.jobs("-run-").pop().expect("a Job");
    assert_eq!(world.status().last_attempt.and_then(|it| it.request_id).as_deref(), Some("now"));
    // It goes, and the request stays where it was written: in Git, perhaps.
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-01T12:00:00Z")])));
    world.step();
    world.seen.children.jobs.clear();
    assert_eq!(world.step().start, []);
    world.annotate(annotations::BACKUP_REQUESTED_AT, &"x".repeat(300));
    let start = world.step().start;
    assert_eq!((start.len(), start[0].request.as_ref().map(String::len)), (1, Some(253)));
    assert_eq!(world.step().start, []);
}

#[test]
fn what_a_stack_asks_for_before_a_migration_is_kept_apart() {
    let mut world = World::settled();
    world.annotate(annotations::BACKUP_REQUESTED_AT, "r-1");
    let asked = PreMigrationBackup { backup: "nightly".to_owned(), request_id: "r-1".to_owned(), ..Default::default() };
    let stack = world.seen.stack.as_mut().expect("a stack");
    stack.status.get_or_insert_default().database.get_or_insert_default().pre_migration_backup = Some(asked);
    world.step();
    let name = world.jobs("-run-").pop().expect("a Job");
    world.step();
    assert_eq!(world.status().last_attempt.expect("one").reason, BackupReason::PreMigration);
    let mut made = made(&[json!([ID, "M", world.seen.now.as_second(), 1, 0, 0, 0])]);
    made["catalogue"]["requests"] = json!({ID: "r-1"});
    world.finish(&name, true, Some(made));
    world.step();
    let answer = world.status().last_success.expect("one");
    assert_eq!((answer.request_id.as_deref(), answer.reason), (Some("r-1"), BackupReason::PreMigration));
    // A listing that has no room for requests takes nothing away.
    world.later(DAY);
    let name = world.scheduled("backup");
    world.finish(&name, true, Some(self::made(&[json!([ID, "M", 1, 1, 0, 0, 0])])));
    world.step();
    assert_eq!(world.status().artifacts[0].request_id.as_deref(), Some("r-1"));
}

#[test]
fn nobody_waits_for_what_passes_while_it_is_suspended() {
    let mut world = World::settled();
    world.seen.object.spec.suspend = true;
    world.step();
    world.later(DAY * 5);
    world.step();
    world.expect("Ready", "Unknown", "Suspended");
    assert_eq!(world.status().missed_runs, 0);
    world.seen.object.spec.suspend = false;
    world.step();
    assert_eq!(world.status().missed_runs, 0);
    world.later(DAY);
    world.step();
    assert_eq!(world.status().missed_runs, 1);
    world.expect("Ready", "False", "NoBackupYet");
}

#[test]
fn another_schedule_has_missed_nothing() {
    let mut world = World::settled();
    world.seen.now = at("2026-01-02T02:00:00Z");
    world.step();
    world.seen.object.spec.schedule = Some("* * * * *".to_owned());
    world.step();
    assert_eq!(world.status().missed_runs, 0);
    world.later(MINUTE * 20);
    world.step();
    assert_eq!(world.status().missed_runs, 9, "each that is more than ten minutes late");
}

/// The operator was away for weeks; the `CronJob` went on, and its Jobs are gone.
#[test]
fn what_ran_while_nobody_looked_is_read_from_the_catalogue() {
    let mut world = World::settled();
    world.seen.now = at("2026-01-21T03:00:00Z");
    let name = world.scheduled("backup");
    world.seen.children.jobs.remove(&name);
    world.later(MINUTE * 2);
    assert_eq!(world.step().start.len(), 1);
    assert_eq!(world.status().missed_runs, 19, "that they ran is only known when the catalogue is read");
    world.finish_catalogue(&[artifact(ID, "2026-01-21T03:00:30Z")]);
    world.step();
    assert_eq!(world.status().missed_runs, 0, "a good one has come since");
    world.expect("Ready", "True", "BackedUp");
}

#[test]
fn of_another_place_nothing_is_known() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    world.step();
    world.seen.object.spec.storage.persistent_volume_claim.as_mut().expect("a volume").claim_name =
        Some("other".to_owned());
    world.later(MINUTE);
    let decision = world.step();
    assert_eq!(decision.start.len(), 1, "it is read anew");
    // A run of before tells of the other place.
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-01T12:00:30Z")])));
    world.step();
    assert_eq!(world.status().artifacts, []);
}

#[test]
fn a_failed_verification_is_told_and_one_that_is_too_old() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-01T12:00:00Z")])));
    world.step();
    let name = world.scheduled("verify");
    world.later(MINUTE);
    world.finish(&name, false, Some(failed("Refused", "VerificationFailed")));
    world.step();
    world.expect("Verified", "False", "VerificationFailed");
    world.expect("Ready", "False", "VerificationFailed");
    assert_eq!(world.status().consecutive_failures, 0, "of backups");
    world.later(DAY);
    let name = world.scheduled("verify");
    let mut told = listing(&[artifact(ID, "2026-01-01T12:00:00Z")]);
    told["verified"] = json!({"id": ID, "completedAt": world.seen.now, "restoreSeconds": 3});
    world.finish(&name, true, Some(json!({"result": "Succeeded", "catalogue": told})));
    world.step();
    world.expect("Verified", "True", "Verified");
    world.later(DAY * 15);
    world.step();
    world.expect("Verified", "False", "VerificationTooOld");
}

#[test]
fn a_copy_that_failed_is_told_beside_the_success() {
    let mut world = World::new();
    let sample: Value = json!({"bucket": "b", "credentialsSecretRef": {"name": "s3"}});
    world.seen.object.spec.storage.s3 = serde_json::from_value(sample).expect("S3");
    world.step();
    world.expect("Ready", "False", "SecretMissing");
    let contents: BTreeMap<_, _> =
        ["accessKeyId", "secretAccessKey"].map(|key| (key.to_owned(), "x".to_owned())).into();
    world.seen.data.insert(Reference::Secret("s3".to_owned()), Some(Contents::from(contents)));
    world.step();
    world.finish_catalogue(&[]);
    world.step();
    world.expect("OffsiteCopied", "Unknown", "NotCopiedYet");
    let name = world.scheduled("backup");
    let mut told = made(&[artifact(ID, "2026-01-01T12:00:00Z")]);
    told["backup"]["offsite"] = json!(false);
    world.finish(&name, true, Some(told));
    world.step();
    world.expect("OffsiteCopied", "False", "CopyFailed");
    world.expect("Ready", "True", "BackedUp");
}

#[test]
fn a_spec_that_cant_be_followed_says_so_and_what_runs_is_taken() {
    type Case = (fn(&mut World), &'static str, bool);
    let cases: [Case; 4] = [
        (|world| world.seen.object.spec.schedule = Some("0 3 30 2 *".to_owned()), "InvalidSpec", true),
        (|world| world.seen.object.spec.time_zone = Some("Mars/Olympus".to_owned()), "InvalidSpec", true),
        (|world| world.seen.stack = None, "StackNotFound", false),
        (|world| world.seen.claim_exists = false, "VolumeMissing", false),
    ];
    for (edit, reason, stalled) in cases {
        let mut world = World::settled();
        world.seen.object.spec.storage.persistent_volume_claim =
            serde_json::from_value(json!({"claimName": "mine"})).expect("a volume");
        edit(&mut world);
        world.step();
        world.expect("Ready", "False", reason);
        assert_eq!(world.says("Stalled").0 == "True", stalled, "{reason}");
    }
}

/// More runs than a status remembers.
#[test]
fn old_runs_are_forgotten_and_not_taken_again() {
    let mut world = World::settled();
    for _ in 0..30 {
        world.later(DAY);
        let name = world.scheduled("backup");
        world.step();
        world.finish(&name, false, Some(failed("Failed", "StorageFull")));
        world.step();
    }
    assert_eq!((world.status().runs.len(), world.status().consecutive_failures), (20, 30));
}

#[test]
fn what_is_applied() {
    let mut world = World::new();
    let sample: Value = json!({"endpoint": "http://s3:7070", "region": "r", "bucket": "b", "prefix": "p", "credentialsSecretRef": {"name": "s3"}});
    world.seen.object.spec.storage.s3 = serde_json::from_value(sample).expect("S3");
    let contents: BTreeMap<_, _> =
        ["accessKeyId", "secretAccessKey"].map(|key| (key.to_owned(), "x".to_owned())).into();
    world.seen.data.insert(Reference::Secret("s3".to_owned()), Some(Contents::from(contents)));
    let policy = world.decide().policy.expect("accepted");
    assert!(!catalogue::digest(&policy).is_empty());
    let objects: Vec<_> = build::lasting(&policy).into_iter().map(|intent| intent.object).collect();
    insta::assert_yaml_snapshot!(objects);
}

#[test]
fn artifacts_go_with_a_backup_only_where_its_owner_said_so_and_not_for_ever() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-01T12:00:00Z")])));
    world.step();
    let running = world.scheduled("verify");
    assert!(!remove::goes_with_it(&world.seen.object), "Retain is the default");
    world.seen.object.spec.deletion_policy = Some(DeletionPolicy::Delete);
    world.seen.object.metadata.deletion_timestamp = Some(Time(world.seen.now));
    let Step::Quiet(doomed) = remove::step(&world.seen) else { panic!("what runs is ended first") };
    assert!(doomed.len() == 1 && doomed[0].key.name == running);
    world.seen.children.jobs.remove(&running);
    assert_eq!(remove::step(&world.seen), Step::Purge(1));
    // Without the stack, which may be gone already.
    world.seen.stack = None;
    let job = build::purge(&world.seen, &world.operator, "7/odoo_ai", 1);
    assert!(job.object["metadata"].get("ownerReferences").is_none(), "foreground deletion would take it");
    let mut object = job.object.clone();
    object["metadata"]["uid"] = json!("purge");
    world.put(&object);
    assert!(matches!(remove::step(&world.seen), Step::Wait(_)));
    world.later(SignedDuration::from_mins(11));
    assert!(matches!(remove::step(&world.seen), Step::Release(Some(_))), "it is not waited for longer");
    world.seen.object.metadata.deletion_timestamp = Some(Time(world.seen.now));
    world.finish("nightly-purge-1", true, Some(json!({"result": "Succeeded"})));
    assert_eq!(remove::step(&world.seen), Step::Release(None));
    // One that never made any has nothing to remove.
    let mut world = World::settled();
    world.seen.object.status.as_mut().and_then(|it| it.catalogue.as_mut()).expect("read").owner = None;
    assert_eq!(remove::step(&world.seen), Step::Release(None));
}
