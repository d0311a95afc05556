//! A rollout: which revision is brought in, where it stands, and whether it has failed. A plain function of
//! what was observed; a failure is noticed and turned round at once.

use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::stack::{FailureOutcome, OdooAiStackStatus, RolloutFailure, Step};

use super::base::{Base, base, volume};
use super::build::application::Schema;
use super::build::job::{SchemaJob, SchemaRun};
use super::decide::{Decision, Hold};
use super::model::Stack;
use super::observe::Observed;
use super::restoring;
use super::validate::Problem;
use crate::cluster::intent::Key;
use crate::component::APPLICATION;
use crate::rollout::approval::{self, Approval};
use crate::rollout::checks::{self, CheckRun};
use crate::rollout::course::{self, Course};
use crate::rollout::credentials::{self as spent, Candidate, Standing};
use crate::rollout::failure::{self, Failure};
use crate::rollout::gates::{Gate, View, Volume};
use crate::rollout::inputs::Inputs;
use crate::rollout::jobs::Progress;
use crate::rollout::requests::Requests;
use crate::rollout::steps::{self, Position, TABLE};
use crate::rollout::{backup, bootstrap, changes, history, migration, revision, watch};

/// A rollout, or the steady state that it ends in.
#[derive(Clone, Debug)]
pub struct Roll {
    /// What is applied in any case.
    pub base: Base,
    /// The target's inputs; on the way back without the values of Secrets.
    pub inputs: Inputs,
    /// The revision that is brought in.
    pub target: String,
    /// It ran before, and is put back because that of the spec failed.
    pub back: bool,
    /// What the target's image knows of the schema, once a Job has told and the database is at it.
    pub schema: Option<Schema>,
    /// Where the rollout stands.
    pub position: Position,
    /// The Job that gives an empty database its first data, while its step lasts.
    pub bootstrap: Option<bootstrap::Run>,
    /// The Job to create that looks at the schema.
    pub schema_job: Option<SchemaRun>,
    /// The Job of a check to create.
    pub check: Option<CheckRun>,
    /// The Backup to ask before the migration, and the request.
    pub backup_request: Option<(String, String)>,
    /// What a sample of the watch would find fault with now.
    pub fault: Option<String>,
    /// New credentials to prove now.
    pub login: Option<Candidate>,
    /// Unfinished Jobs that nobody waits for any more, of other revisions or credentials that were
    /// changed again. With their UIDs.
    pub obsolete: Vec<(Key, String)>,
    /// The seeded rules are to be disabled now.
    pub disable_rules: bool,
    /// The status with the intent: written before anything is done.
    pub status: OdooAiStackStatus,
}

impl Roll {
    /// All gates are open: the target runs and passed its watch.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.position.gate == Gate::Open
    }

    /// Nothing of this stack has ever passed its watch.
    #[must_use]
    pub fn first_install(&self) -> bool {
        self.status.current_revision.is_none()
    }

    /// The watch goes on, whatever stumbles in it now.
    #[must_use]
    pub fn watching(&self) -> bool {
        let rollout = self.status.rollout.as_ref().filter(|rollout| rollout.step == Some(Step::Watch));
        rollout.is_some_and(|rollout| !watch::is_inconclusive(rollout))
    }
}

/// One way that may be taken.
struct Leg {
    target: String,
    inputs: Inputs,
    back: bool,
}

/// Brings in `wanted`, the revision of the spec, or what the status prescribes instead.
#[must_use]
pub fn roll(seen: &Observed, stack: Stack, standing: Standing, wanted: &str, inputs: &Inputs) -> Decision {
    let mut status = seen.status();
    restoring::note(&mut status, seen.restore.as_ref());
    let mode = stack.rollout.rollback;
    let known = volume(&stack, &seen.children, &status);
    history::notice_volume(&mut status, &stack, &known);
    let volume = volume(&stack, &seen.children, &status);
    course::heed(&mut status, wanted, Requests::of(seen.object.metadata.annotations.as_ref()), seen.now);
    loop {
        let leg = match course::of(&status, mode) {
            Course::Forward => Leg { target: wanted.to_owned(), inputs: inputs.clone(), back: false },
            Course::Back(to) => {
                let Some(stored) = seen.stored.get(&revision::name(&stack.name, &to)) else {
                    course::note(&mut status, wanted, gone(&to), true, mode, seen.now);
                    continue;
                };
                Leg { target: to, inputs: Inputs::from_stored(&stored.inputs), back: true }
            }
            Course::Stay(failure) => return stay(seen, stack, standing, &volume, status, &failure),
        };
        status = history::intend(status, &stack, wanted, (!leg.back).then_some(&leg.target), seen.now);
        if leg.back {
            course::begin(&mut status, &leg.target, seen.now);
        }
        let changed = if leg.back { Vec::new() } else { changed(seen, &stack, &status, inputs) };
        let scene = Scene { seen, stack: &stack, standing: &standing, leg: &leg, volume: &volume, changed: &changed };
        learn(&scene, &mut status);
        let mut position = steps::position(&scene.view(&status));
        if let Some(noted) = watch::notice(&scene.view(&status), &position) {
            status.rollout = Some(noted);
            position = steps::position(&scene.view(&status));
        }
        let view = scene.view(&status);
        if let Some(failure) = failure::of(&view, &position) {
            course::note(&mut status, wanted, failure, leg.back, mode, seen.now);
            continue;
        }
        return take(seen, stack, standing, &volume, status, leg, position);
    }
}

/// Takes a leg as far as its gates let it.
fn take(
    seen: &Observed,
    stack: Stack,
    standing: Standing,
    volume: &Volume,
    mut status: OdooAiStackStatus,
    leg: Leg,
    position: Position,
) -> Decision {
    let scene = Scene { seen, stack: &stack, standing: &standing, leg: &leg, volume, changed: &[] };
    let view = scene.view(&status);
    let bootstrap = bootstrap::run(&view).filter(|_| position.step == Some(Step::Bootstrap));
    let schema_job = schema_job(&view, &position);
    let backup_request = backup::request(&view).filter(|_| position.step == Some(Step::Backup));
    let check = checks::wanted(&view).filter(|_| position.step == Some(Step::Checks));
    let unwanted_jobs = [checks::obsolete(&view), bootstrap::obsolete(&view)].concat();
    let fault = watch::fault(&view, &position);
    let known = view.entry().filter(|_| migration::migrated(&view));
    let schema = known.map(|entry| Schema { heads: entry.schema_heads.clone(), known: entry.known_revisions.clone() });
    let Leg { target, inputs, back } = leg;
    let reached = TABLE
        .iter()
        .filter(|row| position.reached(row.step))
        .filter_map(|row| Some((row.component.filter(|it| APPLICATION.contains(it))?, target.clone())))
        .collect();
    history::advance(&mut status, &position, &stack, seen.now);
    let passed = position.step.is_none_or(|step| step > Step::Approval);
    let approval = Approval::of(seen.object.metadata.annotations.as_ref());
    approval::count(&mut status, approval, &target, passed && !back, stack.approvers_verified);
    let mut obsolete = migration::obsolete(&stack, &seen.children, &target, volume);
    obsolete.extend(unwanted_jobs);
    obsolete.extend(spent::obsolete(&stack, &seen.children, &standing));
    let login = standing.candidate.clone().filter(|_| position.step == Some(Step::Credentials));
    let base = base(stack, seen, standing, &status, volume, reached);
    Decision::Roll(Box::new(Roll {
        base,
        inputs,
        back,
        schema,
        bootstrap,
        schema_job,
        check,
        fault,
        backup_request,
        login,
        obsolete,
        disable_rules: position.step == Some(Step::RulesGate),
        position,
        status,
        target,
    }))
}

/// What serves is kept: the revision failed, and there is no way back or it failed too.
fn stay(
    seen: &Observed,
    stack: Stack,
    standing: Standing,
    volume: &Volume,
    status: OdooAiStackStatus,
    failure: &RolloutFailure,
) -> Decision {
    let reason = match failure.outcome {
        FailureOutcome::RollbackFailed => reasons::ROLLBACK_FAILED,
        _ => reasons::ROLLOUT_FAILED,
    };
    let message = format!("{}; what serves is kept. {}", cause(failure), remedy(&stack));
    let base = base(stack, seen, standing, &status, volume, std::collections::BTreeMap::new());
    Decision::Hold(Box::new(Hold { base, problem: Problem::refused(reason, message), status: Some(status) }))
}

/// What happened, for a condition.
#[must_use]
pub fn cause(failure: &RolloutFailure) -> String {
    let RolloutFailure { revision, reason, message, .. } = failure;
    match failure.step {
        Some(step) => {
            format!("revision {revision} failed at step {} ({step}): {reason}: {message}", steps::ordinal(step))
        }
        None => format!("revision {revision} was taken back: {message}"),
    }
}

/// What a person can do about a failed revision.
#[must_use]
pub fn remedy(stack: &Stack) -> String {
    let (namespace, name, retry) = (&stack.namespace, &stack.name, annotations::RETRY_REQUESTED_AT);
    format!(
        "Change the spec, or try it again: kubectl annotate odooaistack -n {namespace} {name} {retry}=$(date +%s) \
         --overwrite"
    )
}

fn gone(to: &str) -> Failure {
    let message = format!("the stored templates of revision {to} are gone");
    Failure { step: Step::AiService, reason: reasons::ROLLBACK_FAILED.to_owned(), message }
}

/// What gates look at, but for the status, which is still being made.
struct Scene<'a> {
    seen: &'a Observed,
    stack: &'a Stack,
    standing: &'a Standing,
    leg: &'a Leg,
    volume: &'a Volume,
    changed: &'a [String],
}

impl<'a> Scene<'a> {
    fn view<'v>(&self, status: &'v OdooAiStackStatus) -> View<'v>
    where
        'a: 'v,
    {
        let seen = self.seen;
        View {
            stack: self.stack,
            credentials: self.standing,
            status,
            // Once it is back it is what runs, as any other.
            back: self.leg.back && status.rollout.as_ref().is_some_and(|rollout| rollout.rollback),
            approval: Approval::of(seen.object.metadata.annotations.as_ref()),
            backup: seen.backup.as_deref(),
            source: seen.source.as_deref(),
            changed: self.changed,
            children: &seen.children,
            agents: &seen.agents,
            target: &self.leg.target,
            volume: self.volume,
            leading_since: seen.leading_since,
            now: seen.now,
        }
    }
}

/// Notes what Jobs reported, and what is to be asked of the Backup or was answered.
fn learn(scene: &Scene<'_>, status: &mut OdooAiStackStatus) {
    let target = &scene.leg.target;
    if let Some(database) = bootstrap::learn(&scene.view(status)) {
        status.database = Some(database);
    }
    for kind in SchemaJob::ALL {
        let view = scene.view(status);
        let asked = match kind {
            SchemaJob::Plan => migration::plan(&view) != Gate::Open,
            SchemaJob::Migrate => !view.back && !migration::migrated(&view),
        };
        if !asked {
            continue;
        }
        match (view.progress(kind), kind) {
            (Progress::Succeeded(report), SchemaJob::Plan) => {
                history::planned(status, target, *report, scene.volume);
            }
            (Progress::Succeeded(report), SchemaJob::Migrate) => {
                history::record(status, target, *report, scene.volume, scene.seen.now);
            }
            _ => {}
        }
    }
    let view = scene.view(status);
    if steps::position(&view).step == Some(Step::Backup)
        && let Some(noted) = backup::settle(&view)
    {
        status.database.get_or_insert_default().pre_migration_backup = Some(noted);
    }
    if let Some(passed) = checks::passed(&scene.view(status))
        && let Some(rollout) = &mut status.rollout
    {
        rollout.checks.retain(|it| it.name != passed.name);
        rollout.checks.push(passed);
    }
    history::note_head(status, target);
}

/// The Job that the step needs now.
fn schema_job(view: &View<'_>, position: &Position) -> Option<SchemaRun> {
    let kind = match position.step {
        Some(Step::Plan) => SchemaJob::Plan,
        Some(Step::Migration) => SchemaJob::Migrate,
        _ => return None,
    };
    match view.progress(kind) {
        Progress::Start { attempt, .. } => Some(SchemaRun {
            kind,
            attempt,
            volume: view.volume.uid.clone()?,
            rollout: view.rollout(),
            backup: backup::made(view).cloned(),
        }),
        _ => None,
    }
}

/// Settings that differ from those of the current revision, by name.
fn changed(seen: &Observed, stack: &Stack, status: &OdooAiStackStatus, inputs: &Inputs) -> Vec<String> {
    // Nobody is asked about what runs: in a steady state nothing is compared.
    let current =
        status.current_revision.as_deref().filter(|current| status.update_revision.as_deref() != Some(*current));
    let current = current.map(|current| revision::name(&stack.name, current));
    let stored = current.and_then(|name| seen.stored.get(&name));
    let key = seen.revision_key.as_ref().map(|key| key.key.as_slice()).unwrap_or_default();
    stored.map(|stored| changes::between(stored, inputs, key)).unwrap_or_default()
}
