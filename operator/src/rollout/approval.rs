//! A person's approval of a revision: an annotation that names it, counted once. One that stays in
//! Git approves nothing a second time.

use std::collections::BTreeMap;

use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::stack::{Mode, OdooAiStackStatus, RolloutStatus};

use super::gates::{Gate, View};

/// Characters of what a revision changes, in a condition's message.
const LONGEST: usize = 2000;
/// Who approved, where no admission policy proves it.
pub const UNVERIFIED: &str = "unverified";

/// What the custom resource's annotations say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Approval<'a> {
    /// `approved-revision`.
    pub revision: Option<&'a str>,
    /// `approved-by`.
    pub by: Option<&'a str>,
}

impl<'a> Approval<'a> {
    /// Reads the annotations.
    #[must_use]
    pub fn of(annotations: Option<&'a BTreeMap<String, String>>) -> Self {
        let value = |name| annotations.and_then(|all| all.get(name)).map(String::as_str).filter(|it| !it.is_empty());
        Self { revision: value(annotations::APPROVED_REVISION), by: value(annotations::APPROVED_BY) }
    }
}

/// A person has approved the target, or none needs to.
#[must_use]
pub fn gate(view: &View<'_>) -> Gate {
    let first = view.status.current_revision.is_none();
    let current = view.status.current_revision.as_deref() == Some(view.target);
    let asked = view.stack.rollout.approval == Mode::Manual && !first && !current;
    if !asked || is_approved(view.status, view.target) || is_new(view.status, view.approval, view.target) {
        return Gate::Open;
    }
    let (namespace, name, target) = (&view.stack.namespace, &view.stack.name, view.target);
    let who = if view.stack.approvers_verified {
        format!(" {}=$(kubectl auth whoami -o jsonpath='{{.status.userInfo.username}}')", annotations::APPROVED_BY)
    } else {
        String::new()
    };
    let annotation = annotations::APPROVED_REVISION;
    let again = if counted(view.status) == Some(target) {
        "; its approval was counted for an earlier rollout: take the annotation off first"
    } else {
        ""
    };
    Gate::wait(
        reasons::AWAITING_APPROVAL,
        format!(
            "revision {target} waits for an approval: kubectl annotate odooaistack -n {namespace} {name} \
             {annotation}={target}{who} --overwrite{again}. It changes {}",
            changes(view)
        ),
    )
}

/// What the revision changes, for whoever approves it.
fn changes(view: &View<'_>) -> String {
    let current = view.status.history.iter().find(|it| Some(&it.revision) == view.status.current_revision.as_ref());
    let before = |name| current.and_then(|entry| entry.images.iter().find(|it| it.name == name)).map(|it| &it.image);
    let mut all: Vec<String> = view
        .entry()
        .into_iter()
        .flat_map(|entry| &entry.images)
        .filter(|image| before(image.name).is_some_and(|before| *before != image.image))
        .map(|image| format!("image {} -> {}", before(image.name).map_or("", String::as_str), image.image))
        .collect();
    if all.is_empty() {
        all.push("settings, no image".to_owned());
    }
    match view.plan().filter(|plan| plan.needed) {
        None => all.push("nothing in the schema".to_owned()),
        Some(plan) => {
            let pending = plan.pending.iter().map(|it| {
                let how = if it.additive { "additive".to_owned() } else { format!("not additive: {}", it.reason) };
                format!("migration {} ({how})", it.revision)
            });
            all.extend(pending);
            all.extend(plan.stamp.iter().map(|at| format!("tables without a revision are taken to be at {at}")));
            all.extend(plan.missing_labels.iter().map(|it| format!("labels of {}: {}", it.kind, it.labels.join(", "))));
        }
    }
    all.join("; ").chars().take(LONGEST).collect()
}

/// Counts the approval that let the target pass, and forgets one that is no longer there.
pub fn count(status: &mut OdooAiStackStatus, approval: Approval<'_>, target: &str, passed: bool, verified: bool) {
    if passed && is_new(status, approval, target) && !is_approved(status, target) {
        let by = approval.by.filter(|_| verified).unwrap_or(UNVERIFIED).to_owned();
        if let Some(entry) = status.history.iter_mut().find(|entry| entry.revision == target) {
            entry.approved_by = Some(by.clone());
        }
        if let Some(rollout) = of(&mut status.rollout, target) {
            rollout.approved_by = Some(by);
            status.last_handled.get_or_insert_default().approved_revision = Some(target.to_owned());
        }
    }
    if let Some(handled) = &mut status.last_handled
        && handled.approved_revision.as_deref() != approval.revision
    {
        handled.approved_revision = None;
    }
}

fn of<'a>(rollout: &'a mut Option<RolloutStatus>, target: &str) -> Option<&'a mut RolloutStatus> {
    rollout.as_mut().filter(|rollout| rollout.revision.as_deref() == Some(target))
}

fn is_approved(status: &OdooAiStackStatus, target: &str) -> bool {
    status
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.revision.as_deref() == Some(target) && rollout.approved_by.is_some())
}

/// It names the target, and no rollout was approved by it yet.
fn is_new(status: &OdooAiStackStatus, approval: Approval<'_>, target: &str) -> bool {
    approval.revision == Some(target) && counted(status) != Some(target)
}

fn counted(status: &OdooAiStackStatus) -> Option<&str> {
    status.last_handled.as_ref()?.approved_revision.as_deref()
}
