//! What the conditions say. Plain.

use odoo_ai_crds::conditions::{reasons, types};

use super::decide::Decision;
use crate::cluster::status::{Tri, Verdict};

/// A person is asked; nothing is wrong as far as anyone can see.
#[must_use]
pub fn asks(complete: &Verdict) -> bool {
    [reasons::AWAITING_CONFIRMATION, reasons::CONFIRMATION_MISMATCH].contains(&complete.reason.as_str())
}

/// All conditions of a Restore.
#[must_use]
pub fn all(decision: &Decision, failed: Option<Verdict>) -> Vec<(&'static str, Verdict)> {
    let complete = failed.unwrap_or_else(|| decision.complete.clone());
    let stalled = decision.stalled || complete.reason == reasons::NAME_CONFLICT;
    let nothing = |message: &str| Verdict::new(false, &complete.reason, message);
    let stands = if stalled {
        Verdict::new(true, &complete.reason, complete.message.clone())
    } else {
        nothing("nothing keeps it from going on")
    };
    let goes_on = if stalled || asks(&complete) || complete.status == Tri::True {
        nothing("nothing is being done")
    } else {
        Verdict::new(true, &complete.reason, complete.message.clone())
    };
    vec![(types::STALLED, stands), (types::RECONCILING, goes_on), (types::COMPLETE, complete)]
}
