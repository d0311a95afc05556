//! A person's approval of a revision: an annotation that names it, counted once. One that stays in
//! Git approves nothing a second time.

use std::collections::BTreeMap;

use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::stack::{Mode, OdooAiStackStatus};

use super::gates::{Gate, View};
use super::requests;

/// Characters of what a revision changes, in a condition's message.
const LONGEST: usize = 2000;
/// Who approved, where no admission policy proves it.
pub const UNVERIFIED: &str = "unverified";

/// What a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// May the revision come?
    Rollout,
    /// May its migration run, where the policy is Manual?
    Migration,
}

/// What the custom resource's annotations say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Approval<'a> {
    /// `approved-revision`.
    pub revision: Option<&'a str>,
    /// `approved-migration`.
    pub migration: Option<&'a str>,
    /// `approved-by`.
    pub by: Option<&'a str>,
}

impl<'a> Approval<'a> {
    /// Reads the annotations.
    #[must_use]
    pub fn of(annotations: Option<&'a BTreeMap<String, String>>) -> Self {
        let value = |name| requests::value(annotations, name);
        Self {
            revision: value(annotations::APPROVED_REVISION),
            migration: value(annotations::APPROVED_MIGRATION),
            by: value(annotations::APPROVED_BY),
        }
    }

    fn to(self, question: Question) -> Option<&'a str> {
        match question {
            Question::Rollout => self.revision,
            Question::Migration => self.migration,
        }
    }
}

impl Question {
    /// Both, in the order in which they are asked.
    const ALL: [Self; 2] = [Self::Rollout, Self::Migration];

    /// Somebody must answer it before the target comes.
    fn is_asked(self, view: &View<'_>) -> bool {
        let stack = view.stack;
        match self {
            Self::Rollout => stack.rollout.approval == Mode::Manual && !view.is_first() && !view.is_current(),
            // What was seen to be pending; an empty database has nothing to lose.
            Self::Migration => {
                let pending = view.plan().is_some_and(|plan| plan.needed && !plan.bootstrap);
                stack.migration_policy == Mode::Manual && pending
            }
        }
    }

    /// It was answered in this rollout.
    fn is_answered(self, status: &OdooAiStackStatus, target: &str) -> bool {
        let rollout = status.rollout.as_ref().filter(|rollout| rollout.revision.as_deref() == Some(target));
        rollout.is_some_and(|rollout| match self {
            Self::Rollout => rollout.approved_by.is_some(),
            Self::Migration => rollout.migration_approved,
        })
    }

    /// The annotation names the target, and no rollout was let pass by it yet.
    fn is_new(self, status: &OdooAiStackStatus, approval: Approval<'_>, target: &str) -> bool {
        approval.to(self) == Some(target) && self.counted(status) != Some(target)
    }

    fn counted(self, status: &OdooAiStackStatus) -> Option<&str> {
        let handled = status.last_handled.as_ref()?;
        match self {
            Self::Rollout => handled.approved_revision.as_deref(),
            Self::Migration => handled.approved_migration.as_deref(),
        }
    }

    fn annotation(self) -> &'static str {
        match self {
            Self::Rollout => annotations::APPROVED_REVISION,
            Self::Migration => annotations::APPROVED_MIGRATION,
        }
    }
}

/// A person has approved the target and, under the policy Manual, its migration, or none needs to.
#[must_use]
pub fn gate(view: &View<'_>) -> Gate {
    let open = |question: &Question| {
        question.is_asked(view)
            && !question.is_answered(view.status, view.target)
            && !question.is_new(view.status, view.approval, view.target)
    };
    let asked: Vec<_> = Question::ALL.into_iter().filter(open).collect();
    let Some(first) = asked.first() else { return Gate::Open };
    let (namespace, name, target) = (&view.stack.namespace, &view.stack.name, view.target);
    let mut annotations: Vec<_> = asked.iter().map(|it| format!("{}={target}", it.annotation())).collect();
    if view.stack.approvers_verified {
        let who = "$(kubectl auth whoami -o jsonpath='{.status.userInfo.username}')";
        annotations.push(format!("{}={who}", annotations::APPROVED_BY));
    }
    let again = if asked.iter().any(|it| it.counted(view.status) == Some(target)) {
        "; its approval was counted for an earlier rollout: take the annotation off first"
    } else {
        ""
    };
    let (reason, what) = match first {
        Question::Rollout => (reasons::AWAITING_APPROVAL, format!("revision {target} waits for an approval")),
        Question::Migration => {
            (reasons::MIGRATION_PENDING, format!("the migration of revision {target} waits for an approval"))
        }
    };
    let annotations = annotations.join(" ");
    let command = format!("kubectl annotate odooaistack -n {namespace} {name} {annotations} --overwrite");
    Gate::wait(reason, format!("{what}: {command}{again}. It changes {}", changes(view)))
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
    if !view.changed.is_empty() {
        all.push(format!("settings {}", view.changed.join(", ")));
    } else if all.is_empty() {
        all.push("settings".to_owned());
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

/// Counts the approvals that let the target pass, and forgets those that are no longer there. `passed`: the
/// step is behind.
pub fn count(status: &mut OdooAiStackStatus, approval: Approval<'_>, target: &str, passed: bool, verified: bool) {
    for question in Question::ALL {
        if passed && question.is_new(status, approval, target) && !question.is_answered(status, target) {
            let by = approval.by.filter(|_| verified).unwrap_or(UNVERIFIED).to_owned();
            note(status, question, target, &by);
        }
    }
    if let Some(handled) = &mut status.last_handled {
        if handled.approved_revision.as_deref() != approval.revision {
            handled.approved_revision = None;
        }
        if handled.approved_migration.as_deref() != approval.migration {
            handled.approved_migration = None;
        }
    }
}

fn note(status: &mut OdooAiStackStatus, question: Question, target: &str, by: &str) {
    let entry = status.history.iter_mut().find(|entry| entry.revision == target);
    let rollout = status.rollout.as_mut().filter(|rollout| rollout.revision.as_deref() == Some(target));
    match question {
        Question::Rollout => {
            if let Some(entry) = entry {
                entry.approved_by = Some(by.to_owned());
            }
            if let Some(rollout) = rollout {
                rollout.approved_by = Some(by.to_owned());
                status.last_handled.get_or_insert_default().approved_revision = Some(target.to_owned());
            }
        }
        Question::Migration => {
            if let Some(rollout) = rollout {
                rollout.migration_approved = true;
                status.last_handled.get_or_insert_default().approved_migration = Some(target.to_owned());
            }
        }
    }
}
