//! The decision: which revision is wanted, where its rollout stands, and what each component runs.
//! A plain function of what was observed.

use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::stack::OdooAiStackStatus;
use serde_json::json;

use super::base::{Base, base, volume};
use super::build::data::{self, DATABASE, DATABASE_ADMIN, Generated, generated};
use super::credentials;
use super::limits;
use super::model::{Operator, Stack};
use super::observe::Observed;
use super::resolve;
use super::restoring;
use super::roll::{Roll, roll};
use super::validate::{self, Problem};
use crate::cluster::children::Children;
use crate::component::{Component, ComponentExt};
use crate::rollout::credentials::{Standing, settle};
use crate::rollout::inputs::{Inputs, keyed_name};
use crate::rollout::revision;

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

/// A stack whose revision can't be named.
#[derive(Clone, Debug)]
pub struct Hold {
    /// What is applied all the same.
    pub base: Base,
    /// Why.
    pub problem: Problem,
    /// The status to write before, where there is something to note.
    pub status: Option<OdooAiStackStatus>,
}

impl Decision {
    /// The status with the intent: written before anything is done.
    #[must_use]
    pub fn intent(&self) -> Option<&OdooAiStackStatus> {
        match self {
            Self::Roll(roll) => Some(&roll.status),
            Self::Hold(hold) => hold.status.as_ref(),
            Self::Suspended | Self::Problem(_) | Self::Generate(..) => None,
        }
    }

    /// What is applied in any case; `None` where nothing is.
    #[must_use]
    pub fn base(&self) -> Option<&Base> {
        match self {
            Self::Roll(roll) => Some(&roll.base),
            Self::Hold(hold) => Some(&hold.base),
            Self::Suspended | Self::Problem(_) | Self::Generate(..) => None,
        }
    }
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
        _ if let Some(restore) = seen.restore.as_ref().filter(|it| restoring::stops(it)) => {
            hold(seen, stack, standing, Problem::missing(reasons::RESTORING, restoring::told(restore)))
        }
        Ok((target, inputs)) => roll(seen, stack, standing, &target, &inputs),
        Err(problem) => hold(seen, stack, standing, problem),
    }
}

fn hold(seen: &Observed, stack: Stack, standing: Standing, problem: Problem) -> Decision {
    let volume = volume(&stack, &seen.children, &seen.status());
    let base = base(stack, seen, standing, &seen.status(), &volume, std::collections::BTreeMap::new());
    Decision::Hold(Box::new(Hold { base, problem, status: None }))
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
