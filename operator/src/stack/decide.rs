//! The decision: which revision is wanted, where its rollout stands, and what each component runs.
//! A plain function of what was observed.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::stack::{
    DatabaseStatus, HistoryImage, OdooAiStackStatus, RevisionHistory, RevisionResult, RolloutStatus, Step,
};

use super::build::application::Schema;
use super::build::data::{DATABASE, DATABASE_ADMIN, Generated, generated};
use super::model::{AppSecrets, Stack};
use super::observe::Observed;
use super::resolve;
use super::validate::{self, Problem};
use crate::cluster::cache::Children;
use crate::cluster::intent::Key;
use crate::component::{APPLICATION, Component, ComponentExt};
use crate::rollout::gates::{Gate, View};
use crate::rollout::inputs::Inputs;
use crate::rollout::migration::{self, Progress};
use crate::rollout::revision;
use crate::rollout::steps::{self, Position, TABLE};

/// What to do now.
#[derive(Clone, Debug)]
pub enum Decision {
    /// `spec.suspend`: nothing.
    Suspended,
    /// Nothing can be done about the spec as it is; what runs keeps running.
    Problem(Problem),
    /// Secrets that everything else needs are generated first.
    Generate(Box<Stack>, Vec<Generated>),
    /// Bring the stack towards the target revision.
    Roll(Box<Roll>),
}

/// A rollout, or the steady state that it ends in.
#[derive(Clone, Debug)]
pub struct Roll {
    /// The accepted spec.
    pub stack: Stack,
    /// The revision's inputs.
    pub inputs: Inputs,
    /// The wanted revision.
    pub target: String,
    /// What the target's image knows of the schema, once a Job has told.
    pub schema: Option<Schema>,
    /// Where the rollout stands.
    pub position: Position,
    /// The revision that each application component runs now.
    pub runs: BTreeMap<Component, String>,
    /// Number of the migrate Job that is created or kept, while the schema is prepared.
    pub migrate_attempt: Option<u32>,
    /// The seeded rules are to be disabled now.
    pub disable_rules: bool,
    /// Counts the credentials that were proven.
    pub credentials_generation: i64,
    /// The status with the intent: written before anything is done.
    pub status: OdooAiStackStatus,
}

/// Decides.
#[must_use]
pub fn decide(seen: &Observed, operator_image: &str) -> Decision {
    if seen.object.spec.suspend {
        return Decision::Suspended;
    }
    match roll(seen, operator_image) {
        Ok(decision) => decision,
        Err(problem) => Decision::Problem(problem),
    }
}

fn roll(seen: &Observed, operator_image: &str) -> Result<Decision, Problem> {
    let stack = validate::stack(&seen.object, operator_image)?;
    credentials_kept(&stack, &seen.children)?;
    let missing: Vec<_> =
        generated(&stack).into_iter().filter(|which| !exists(&stack, &seen.children, *which)).collect();
    let Some(key) = seen.revision_key.as_ref().filter(|_| missing.is_empty()) else {
        return Ok(Decision::Generate(Box::new(stack), missing));
    };
    let app_secrets_unread = matches!(&stack.app_secrets, AppSecrets::Generated(name)
        if seen.data.get(&super::references::Reference::Secret(name.clone())).is_none_or(Option::is_none));
    if app_secrets_unread {
        return Ok(Decision::Generate(Box::new(stack), missing));
    }
    let inputs = resolve::inputs(&seen.object.spec, &stack.app_secrets, &seen.data)?;
    let target = inputs.revision(key);
    let status = intend(seen, &stack, &target);
    let annotations = seen.object.metadata.annotations.as_ref();
    let approved = annotations.and_then(|all| all.get(annotations::APPROVED_REVISION)).map(String::as_str);
    let view = View {
        stack: &stack,
        status: &status,
        approved,
        children: &seen.children,
        agents: &seen.agents,
        target: &target,
        now: seen.now,
    };
    let position = steps::position(&view);
    let schema = view
        .entry()
        .filter(|entry| !entry.schema_heads.is_empty())
        .map(|entry| Schema { heads: entry.schema_heads.clone(), known: entry.known_revisions.clone() });
    let migrating = position.step == Some(Step::Migration);
    let migrate_attempt = match migration::progress(&stack, &seen.children, &target, seen.now) {
        Progress::Start { attempt, .. } if migrating => Some(attempt),
        _ => None,
    };
    let disable_rules = position.step == Some(Step::RulesGate);
    let runs = runs(&stack, &seen.children, &target, &position);
    let credentials_generation =
        status.database.as_ref().and_then(|database| database.credentials_generation).unwrap_or(1);
    let mut status = status;
    advance(&mut status, &position, approved.filter(|approved| *approved == target));
    Ok(Decision::Roll(Box::new(Roll {
        stack,
        inputs,
        target,
        schema,
        position,
        runs,
        migrate_attempt,
        disable_rules,
        credentials_generation,
        status,
    })))
}

/// Data without its password is not something to generate a new password for.
fn credentials_kept(stack: &Stack, children: &Children) -> Result<(), Problem> {
    let volume = key(stack, "PersistentVolumeClaim", Component::Database.name());
    let lost = [DATABASE_ADMIN, DATABASE].into_iter().find(|which| !exists(stack, children, *which));
    match lost.filter(|_| children.meta(&volume).is_some()) {
        None => Ok(()),
        Some(which) => Err(Problem::refused(
            reasons::CREDENTIALS_LOST,
            format!(
                "Secret {} is gone while the volume {} with the database exists; restore the Secret from your export, or delete the volume if its data may be lost",
                stack.child(which.suffix),
                volume.name
            ),
        )),
    }
}

fn exists(stack: &Stack, children: &Children, which: Generated) -> bool {
    children.meta(&key(stack, "Secret", which.suffix)).is_some()
}

fn key(stack: &Stack, kind: &str, suffix: &str) -> Key {
    Key { kind: kind.to_owned(), namespace: stack.namespace.clone(), name: stack.child(suffix) }
}

/// The status with the intent to bring in `target`, and with what a Job has reported since.
fn intend(seen: &Observed, stack: &Stack, target: &str) -> OdooAiStackStatus {
    let mut status = seen.status();
    status.update_revision = Some(target.to_owned());
    let rolling = status.rollout.as_ref().and_then(|rollout| rollout.revision.as_deref()) == Some(target);
    let settled = status.current_revision.as_deref() == Some(target);
    if !rolling && !settled {
        for entry in &mut status.history {
            if entry.result == Some(RevisionResult::InProgress) && entry.revision != target {
                entry.result = Some(RevisionResult::Superseded);
                entry.completed_at = Some(Time(seen.now));
            }
        }
        status.rollout = Some(RolloutStatus {
            revision: Some(target.to_owned()),
            started_at: Some(Time(seen.now)),
            ..RolloutStatus::default()
        });
    } else if settled {
        status.rollout = None;
    }
    if !status.history.iter().any(|entry| entry.revision == target) {
        let entry = entry(stack, target, seen, &status.history);
        status.history.insert(0, entry);
    }
    record_migration(seen, stack, target, &mut status);
    status
}

/// A new history entry. An image that was seen before needs no Job to tell its schema.
fn entry(stack: &Stack, target: &str, seen: &Observed, history: &[RevisionHistory]) -> RevisionHistory {
    let images = [(Component::AiService, &stack.images.ai_service), (Component::Dashboard, &stack.images.dashboard)];
    let same_image = history.iter().find(|old| {
        !old.schema_heads.is_empty()
            && old
                .images
                .iter()
                .any(|image| image.name == Component::AiService && image.image == stack.images.ai_service)
    });
    RevisionHistory {
        revision: target.to_owned(),
        images: images
            .into_iter()
            .map(|(name, image)| HistoryImage { name, image: image.clone(), image_id: None })
            .collect(),
        schema_heads: same_image.map(|old| old.schema_heads.clone()).unwrap_or_default(),
        known_revisions: same_image.map(|old| old.known_revisions.clone()).unwrap_or_default(),
        result: Some(RevisionResult::InProgress),
        started_at: Some(Time(seen.now)),
        ..RevisionHistory::default()
    }
}

fn record_migration(seen: &Observed, stack: &Stack, target: &str, status: &mut OdooAiStackStatus) {
    let Some(entry) = status.history.iter_mut().find(|entry| entry.revision == target) else { return };
    if !entry.schema_heads.is_empty() {
        return;
    }
    if let Progress::Succeeded(report) = migration::progress(stack, &seen.children, target, seen.now) {
        entry.schema_heads.clone_from(&report.schema.heads);
        entry.known_revisions.clone_from(&report.schema.known);
        entry.rules_empty = Some(report.rules_empty);
        let old = status.database.take().unwrap_or_default();
        status.database = Some(DatabaseStatus {
            schema_revision: Some(report.schema.current.join(",")),
            incarnation: report.incarnation.or(old.incarnation),
            size_bytes: report.database_bytes.or(old.size_bytes),
            credentials_generation: old.credentials_generation.or(Some(1)),
        });
    }
}

/// The target where its step has been reached; before that, what the component runs already.
fn runs(stack: &Stack, children: &Children, target: &str, position: &Position) -> BTreeMap<Component, String> {
    let mut runs = BTreeMap::new();
    for row in &TABLE {
        let Some(component) = row.component.filter(|component| APPLICATION.contains(component)) else { continue };
        let kind = if component.stateful() { "StatefulSet" } else { "Deployment" };
        let present = children.meta(&key(stack, kind, component.name())).and_then(revision::label);
        let wanted = if position.reached(row.step) { Some(target) } else { present };
        runs.extend(wanted.map(|revision| (component, revision.to_owned())));
    }
    runs
}

/// Moves the status along with the position; an approval that let it pass is counted.
fn advance(status: &mut OdooAiStackStatus, position: &Position, approved: Option<&str>) {
    let Some(rollout) = &mut status.rollout else { return };
    if position.step != Some(Step::Watch) && position.step.is_some() {
        rollout.samples = 0;
    }
    rollout.step = position.step;
    if let Some(approved) = approved.filter(|_| position.step.is_none_or(|step| step > Step::Approval)) {
        status.last_handled.get_or_insert_default().approved_revision = Some(approved.to_owned());
    }
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
