//! Which transitions are worth an Event: one for each cause that comes or goes, none for the
//! waiting that is part of every rollout.

use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::stack::OdooAiStackStatus;

use crate::cluster::status::{Tri, Verdict};

/// Conditions that are told; the others follow from `Ready`.
const TOLD: [&str; 7] = [
    types::READY,
    types::DATABASE_READY,
    types::REDIS_READY,
    types::ODOO_REACHABLE,
    types::QUEUES_CONSUMED,
    types::WEBHOOKS_PROCESSED,
    types::ROUTES_READY,
];
/// Part of every rollout.
const ROUTINE: [&str; 11] = [
    reasons::INSTALLING,
    reasons::PROGRESSING,
    reasons::POD_NOT_READY,
    reasons::PLANNING,
    reasons::BACKING_UP,
    reasons::MIGRATING,
    reasons::CHECKING,
    reasons::WATCHING,
    reasons::UNKNOWN,
    reasons::NOT_OBSERVED,
    reasons::CERTIFICATE_PENDING,
];
/// Part of a rollout, and a fault at any other time.
const BY_THE_WAY: [&str; 1] = [reasons::BAD_GATEWAY_502];
/// Told only when they end something that was told.
const WELL: [&str; 3] = [reasons::SERVING, reasons::CONSUMED, reasons::PROCESSED];
/// Not ready, and yet nothing is wrong.
const FALSE_BUT: [&str; 2] = [reasons::PROVING_CREDENTIALS, reasons::RESTORING];
/// True, and yet a person should act.
const TRUE_BUT: [&str; 3] =
    [reasons::EVICTION_POLICY_UNFIT, reasons::REDIS_NEARLY_FULL, reasons::CLIENT_ADDRESSES_HIDDEN];

/// A condition whose status or reason changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Its type.
    pub kind: &'static str,
    /// What it says now.
    pub verdict: Verdict,
    /// Its reason before; `None`: it did not exist.
    pub before: Option<String>,
}

impl Transition {
    /// The Event is a Warning.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        let reason = self.verdict.reason.as_str();
        self.verdict.status == Tri::False && !FALSE_BUT.contains(&reason) || TRUE_BUT.contains(&reason)
    }
}

/// Those of `transitions` that are told. A part's cause that is the one of `Ready` too is told once:
/// `before` and `now` are the statuses around the transitions.
#[must_use]
pub fn told<'a>(
    transitions: &'a [Transition],
    before: &OdooAiStackStatus,
    now: &OdooAiStackStatus,
) -> Vec<&'a Transition> {
    let (ready_before, ready_now) = (not_ready(before), not_ready(now));
    let is_told = |transition: &&Transition| {
        let Transition { kind, verdict, before } = transition;
        let reason = verdict.reason.as_str();
        if !TOLD.contains(kind) || ROUTINE.contains(&reason) {
            return false;
        }
        if *kind == types::READY {
            return true;
        }
        if BY_THE_WAY.contains(&reason) && ready_now.is_some_and(|ready| ROUTINE.contains(&ready)) {
            return false;
        }
        if WELL.contains(&reason) {
            let ended = before.as_deref().filter(|before| !ROUTINE.contains(before));
            return ended.is_some_and(|ended| !WELL.contains(&ended) && ready_before != Some(ended));
        }
        ready_now != Some(reason)
    };
    transitions.iter().filter(is_told).collect()
}

/// Why the stack isn't Ready.
fn not_ready(status: &OdooAiStackStatus) -> Option<&str> {
    let ready = status.conditions.iter().find(|condition| condition.type_ == types::READY)?;
    (ready.status != "True").then_some(ready.reason.as_str())
}
