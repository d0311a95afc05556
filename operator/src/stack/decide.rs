//! The decision: which revision is wanted, where its rollout stands, and what each component runs.
//! A plain function of what was observed.

use std::collections::BTreeMap;

use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::stack::{OdooAiStackStatus, Step};
use serde_json::json;

use super::build::application::Schema;
use super::build::data::{self, DATABASE, DATABASE_ADMIN, Generated, generated};
use super::build::job::{SchemaJob, SchemaRun};
use super::credentials;
use super::limits;
use super::model::{Operator, Stack};
use super::observe::Observed;
use super::resolve;
use super::validate::{self, Problem};
use crate::cluster::cache::Children;
use crate::cluster::intent::Key;
use crate::component::{APPLICATION, Component, ComponentExt};
use crate::rollout::approval::{self, Approval};
use crate::rollout::credentials::{self as spent, Candidate, Standing, settle};
use crate::rollout::gates::{self, Gate, View, Volume};
use crate::rollout::inputs::{Inputs, keyed_name};
use crate::rollout::jobs::Progress;
use crate::rollout::steps::{self, Position, TABLE};
use crate::rollout::{backup, changes, history, migration, revision};

/// What to do now.
#[derive(Clone, Debug)]
pub enum Decision {
    /// `spec.suspend`: nothing.
    Suspended,
    /// Nothing can be done about the spec as it is; what runs keeps running.
    Problem(Problem),
    /// No revision can be named for now; everything else is kept as the spec wants it.
    Hold(Box<Hold>),
    /// Secrets that everything else needs are generated first.
    Generate(Box<Stack>, Vec<Generated>),
    /// Bring the stack towards the target revision.
    Roll(Box<Roll>),
}

/// What is applied in any case: data servers, Services, volumes, and what each component runs.
#[derive(Clone, Debug)]
pub struct Base {
    /// The accepted spec.
    pub stack: Stack,
    /// What each application component runs now.
    pub runs: BTreeMap<Component, Runs>,
    /// The credentials of database and Redis.
    pub credentials: Standing,
    /// A new database is being seeded.
    pub seeding: bool,
    /// What is to be written on the volume about the rules gate.
    pub rules_gate: Option<String>,
}

/// What a component runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// The revision.
    pub revision: String,
    /// Generation of the credentials; `None` for a component that has none.
    pub credentials: Option<i64>,
}

/// A stack whose revision can't be named.
#[derive(Clone, Debug)]
pub struct Hold {
    /// What is applied all the same.
    pub base: Base,
    /// Why.
    pub problem: Problem,
}

/// A rollout, or the steady state that it ends in.
#[derive(Clone, Debug)]
pub struct Roll {
    /// What is applied in any case.
    pub base: Base,
    /// The revision's inputs.
    pub inputs: Inputs,
    /// The wanted revision.
    pub target: String,
    /// What the target's image knows of the schema, once a Job has told and the database is at it.
    pub schema: Option<Schema>,
    /// Where the rollout stands.
    pub position: Position,
    /// The Job to create that looks at the schema.
    pub schema_job: Option<SchemaRun>,
    /// The Backup to ask before the migration, and the request.
    pub backup_request: Option<(String, String)>,
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

/// Decides.
#[must_use]
pub fn decide(seen: &Observed, operator: &Operator) -> Decision {
    if seen.object.spec.suspend {
        return Decision::Suspended;
    }
    let stack = match accept(seen, operator) {
        Ok(stack) => stack,
        Err(problem) => return Decision::Problem(problem),
    };
    let missing: Vec<_> =
        generated(&stack).into_iter().filter(|which| !exists(&stack, &seen.children, *which)).collect();
    if !missing.is_empty() {
        return Decision::Generate(Box::new(stack), missing);
    }
    let key = match revision_key(&stack, seen) {
        Ok(key) => key,
        Err(problem) => return hold(seen, stack, Standing::keep(seen.live.as_ref()), problem),
    };
    let wanted = match credentials::wanted(&seen.object.spec, &stack, &seen.data) {
        Ok(wanted) => wanted,
        Err(problem) => return hold(seen, stack, Standing::keep(seen.live.as_ref()), problem),
    };
    let live = seen.live.as_ref();
    let digest = keyed_name(key, &json!([wanted, live.map(|live| &live.values)]));
    let standing = settle(&stack, wanted, live, &seen.children, &digest, seen.now);
    let named = resolve::inputs(&seen.object.spec, &stack.app_secrets, &seen.data).and_then(|inputs| {
        let target = same_as_current(seen, &stack, &inputs).unwrap_or_else(|| inputs.revision(key));
        // What is stored has been through this.
        if !seen.stored.contains_key(&revision::name(&stack.name, &target)) {
            limits::check(&stack, &target, &inputs)?;
        }
        Ok((target, inputs))
    });
    match named {
        Ok((target, inputs)) => roll(seen, stack, standing, target, inputs),
        Err(problem) => hold(seen, stack, standing, problem),
    }
}

fn hold(seen: &Observed, stack: Stack, standing: Standing, problem: Problem) -> Decision {
    let volume = volume(&stack, &seen.children);
    let base = base(stack, seen, standing, &seen.status(), &volume, BTreeMap::new());
    Decision::Hold(Box::new(Hold { base, problem }))
}

fn accept(seen: &Observed, operator: &Operator) -> Result<Stack, Problem> {
    let stack = validate::stack(&seen.object, operator)?;
    credentials_kept(&stack, &seen.children)?;
    files_fit(&stack, &seen.children)?;
    Ok(stack)
}

/// A new key gives every revision another name. What is the same as what runs keeps its own.
fn same_as_current(seen: &Observed, stack: &Stack, inputs: &Inputs) -> Option<String> {
    let current = seen.misnamed()?;
    let stored = seen.stored.get(&revision::name(&stack.name, current))?;
    let same = stored.inputs == inputs.stored() && seen.current_copies.as_ref() == Some(&inputs.copies());
    same.then(|| current.to_owned())
}

/// Missing where it was read before the caches knew of it, or where somebody emptied it.
fn revision_key<'a>(stack: &Stack, seen: &'a Observed) -> Result<&'a [u8], Problem> {
    seen.revision_key.as_ref().map(|it| it.key.as_slice()).ok_or_else(|| {
        Problem::missing(
            reasons::SECRET_KEY_MISSING,
            format!("Secret {} has no key `key`; restore it from your export", stack.child(data::REVISION_KEY.suffix)),
        )
    })
}

fn roll(seen: &Observed, stack: Stack, standing: Standing, target: String, inputs: Inputs) -> Decision {
    let volume = volume(&stack, &seen.children);
    let mut status = history::intend(seen.status(), &stack, &target, seen.now);
    history::notice_volume(&mut status, &volume);
    let changed = changed(seen, &stack, &status, &inputs);
    let scene = Scene { seen, stack: &stack, standing: &standing, target: &target, volume: &volume, changed: &changed };
    learn(&scene, &mut status);
    let view = scene.view(&status);
    let position = steps::position(&view);
    let schema_job = schema_job(&view, &position);
    let backup_request = backup::request(&view).filter(|_| position.step == Some(Step::Backup));
    let known = view.entry().filter(|_| migration::migrated(&view));
    let schema = known.map(|entry| Schema { heads: entry.schema_heads.clone(), known: entry.known_revisions.clone() });
    let reached = TABLE
        .iter()
        .filter(|row| position.reached(row.step))
        .filter_map(|row| Some((row.component.filter(|it| APPLICATION.contains(it))?, target.clone())))
        .collect();
    let approval = Approval::of(seen.object.metadata.annotations.as_ref());
    advance(&mut status, &position);
    let passed = position.step.is_none_or(|step| step > Step::Approval);
    approval::count(&mut status, approval, &target, passed, stack.approvers_verified);
    let mut obsolete = migration::obsolete(&stack, &seen.children, &target);
    obsolete.extend(spent::obsolete(&stack, &seen.children, &standing));
    let login = standing.candidate.clone().filter(|_| position.step == Some(Step::Credentials));
    let base = base(stack, seen, standing, &status, &volume, reached);
    Decision::Roll(Box::new(Roll {
        base,
        inputs,
        schema,
        schema_job,
        backup_request,
        login,
        obsolete,
        disable_rules: position.step == Some(Step::RulesGate),
        position,
        status,
        target,
    }))
}

/// What gates look at, but for the status, which is still being made.
struct Scene<'a> {
    seen: &'a Observed,
    stack: &'a Stack,
    standing: &'a Standing,
    target: &'a str,
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
            approval: Approval::of(seen.object.metadata.annotations.as_ref()),
            backup: seen.backup.as_deref(),
            changed: self.changed,
            children: &seen.children,
            agents: &seen.agents,
            target: self.target,
            volume: self.volume,
            now: seen.now,
        }
    }
}

/// Notes what Jobs reported, and what is to be asked of the Backup or was answered.
fn learn(scene: &Scene<'_>, status: &mut OdooAiStackStatus) {
    for kind in SchemaJob::ALL {
        let view = scene.view(status);
        let asked = match kind {
            SchemaJob::Plan => migration::plan(&view) != Gate::Open,
            SchemaJob::Migrate => !migration::migrated(&view),
        };
        if !asked {
            continue;
        }
        match (view.progress(kind), kind) {
            (Progress::Succeeded(report), SchemaJob::Plan) => {
                history::planned(status, scene.target, *report, scene.volume);
            }
            (Progress::Succeeded(report), SchemaJob::Migrate) => {
                history::record(status, scene.target, *report, scene.volume, scene.seen.now);
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
    history::note_head(status, scene.target);
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
    let current = status.current_revision.as_deref().map(|current| revision::name(&stack.name, current));
    let stored = current.and_then(|name| seen.stored.get(&name));
    let key = seen.revision_key.as_ref().map(|key| key.key.as_slice()).unwrap_or_default();
    stored.map(|stored| changes::between(stored, inputs, key)).unwrap_or_default()
}

/// The database's volume, from the caches. Of an External one the identity stands for its UID, and
/// beat's volume remembers.
fn volume(stack: &Stack, children: &Children) -> Volume {
    let identity = stack.connection.identity.as_ref();
    let holder = if identity.is_some() { Component::Beat } else { Component::Database };
    let meta = children.meta(&stack.key("PersistentVolumeClaim", holder.name()));
    let annotation = |name| meta?.annotations.as_ref()?.get(name).cloned();
    let of_this_one = identity == annotation(annotations::DATABASE_IDENTITY).as_ref();
    Volume {
        uid: identity.cloned().or_else(|| meta?.uid.clone()),
        rules_gate: annotation(annotations::RULES_GATE).filter(|_| of_this_one),
    }
}

/// What runs: `reached` components the target, the others what they have.
fn base(
    stack: Stack,
    seen: &Observed,
    credentials: Standing,
    status: &OdooAiStackStatus,
    volume: &Volume,
    mut reached: BTreeMap<Component, String>,
) -> Base {
    let has = |component| present(&stack, seen, component);
    let moves = |component| reached.get(&component).is_some_and(|target| has(component).as_ref() != Some(target));
    // What becomes live only now is taken up when it was seen to be live.
    let live = seen.live.as_ref().map_or(1, |live| live.generation).min(credentials.generation());
    let generations = spent::generations(&stack, &seen.children, moves, live);
    for component in APPLICATION {
        if !reached.contains_key(&component) {
            reached.extend(has(component).map(|revision| (component, revision)));
        }
    }
    let runs =
        |(component, revision)| (component, Runs { revision, credentials: generations.get(&component).copied() });
    Base {
        runs: reached.into_iter().map(runs).collect(),
        credentials,
        seeding: gates::seeding(&stack, status, volume),
        rules_gate: match (gates::seeds_disabled(status), gates::seeded(status)) {
            (true, _) => Some(gates::PASSED.to_owned()),
            (false, true) => Some(gates::PENDING.to_owned()),
            (false, false) => volume.rules_gate.clone(),
        },
        stack,
    }
}

/// The revision that a component runs: as its workload says, or said when it was last seen.
fn present(stack: &Stack, seen: &Observed, component: Component) -> Option<String> {
    let label = seen.children.meta(&stack.key(component.kind(), component.name())).and_then(revision::label);
    let status = seen.object.status.as_ref();
    let last = || status?.components.iter().find(|it| it.name == component)?.revision.clone();
    label.map(str::to_owned).or_else(last)
}

/// PostgreSQL's files can't be read by another major version or user, and their indexes are wrong
/// under another C library.
fn files_fit(stack: &Stack, children: &Children) -> Result<(), Problem> {
    let Some(database) = stack.database.managed() else { return Ok(()) };
    let volume = stack.key("PersistentVolumeClaim", Component::Database.name());
    let annotations = children.meta(&volume).and_then(|meta| meta.annotations.as_ref());
    for (annotation, wanted) in data::facts(database) {
        let on_disk = annotations.and_then(|all| all.get(annotation));
        let Some(on_disk) = on_disk.filter(|on_disk| **on_disk != wanted) else { continue };
        let name = &volume.name;
        let message = match annotation {
            annotations::DATABASE_USER => format!(
                "the files on the volume {name} belong to user {on_disk} and database.managed.security.runAsUser is {wanted}: set it to {on_disk}"
            ),
            annotations::DATABASE_LIBC => format!(
                "the indexes on the volume {name} were made by an image with {on_disk} and {} has {wanted}, where text sorts differently: use an image of the same family (Debian's have glibc, Alpine's musl)",
                database.image
            ),
            _ => format!(
                "the volume {name} holds files of PostgreSQL {on_disk} and database.managed.majorVersion is {wanted}: set it to {on_disk}"
            ),
        };
        let way = "make a new stack and restore the data into it";
        return Err(Problem::refused(reasons::REQUIRES_MIGRATION, format!("{message}, or {way}")));
    }
    Ok(())
}

/// Data without its password is not something to generate a new password for.
fn credentials_kept(stack: &Stack, children: &Children) -> Result<(), Problem> {
    let volume = stack.key("PersistentVolumeClaim", Component::Database.name());
    if stack.database.managed().is_none() {
        return Ok(());
    }
    let lost = [DATABASE_ADMIN, DATABASE].into_iter().find(|which| !exists(stack, children, *which));
    match lost.filter(|_| children.meta(&volume).is_some()) {
        None => Ok(()),
        Some(which) => Err(Problem::refused(
            reasons::CREDENTIALS_LOST,
            format!(
                "Secret {} is gone while the volume {} with the database exists; restore the Secret from your export. If the data may be lost: delete the StatefulSet {1} and the PersistentVolumeClaim {1}",
                stack.child(which.suffix),
                volume.name
            ),
        )),
    }
}

fn exists(stack: &Stack, children: &Children, which: Generated) -> bool {
    children.meta(&stack.key("Secret", which.suffix)).is_some()
}

/// Moves the status along with the position; an approval that let it pass is counted.
fn advance(status: &mut OdooAiStackStatus, position: &Position) {
    // The rules gate is for the first install: whatever let it pass, it never comes again.
    if position.step.is_none_or(|step| step > Step::RulesGate) {
        status.rules.get_or_insert_default().seeded_disabled = true;
    }
    let Some(rollout) = &mut status.rollout else { return };
    if position.step != Some(Step::Watch) && position.step.is_some() {
        rollout.samples = 0;
    }
    rollout.step = position.step;
}

impl Roll {
    /// All gates are open: the spec runs and passed its watch.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.position.gate == Gate::Open
    }

    /// Nothing of this stack has ever passed its watch.
    #[must_use]
    pub fn first_install(&self) -> bool {
        self.status.current_revision.is_none()
    }
}
