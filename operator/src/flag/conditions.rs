//! What the conditions say. Plain.

use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::flag::EffectiveFlag;

use super::decide::{self, Decision};
use super::disable;
use super::observe::Observed;
use crate::cluster::status::{Tri, Verdict};

/// All conditions of a flag; `None` leaves one as it is: what was seen last.
#[must_use]
pub fn all(flag: &Observed, decision: &Decision, failed: Option<Verdict>) -> Vec<(&'static str, Option<Verdict>)> {
    let synced = failed.unwrap_or_else(|| decision.synced.clone());
    let effective = decision.status.effective.as_ref();
    let effective = effective.map(|it| effective_as_declared(it, decide::is_enabled(flag, &decision.status)));
    let within = decision.guard.clone();
    let mut ready = within.clone().filter(|it| it.status == Tri::False).unwrap_or_else(|| synced.clone());
    let breached = ready.reason == reasons::ERROR_RATE_EXCEEDED;
    let stalled = decision.stalled.map(|stalled| {
        if stalled || breached {
            Verdict::new(true, &ready.reason, ready.message.clone())
        } else {
            Verdict::new(false, reasons::PROGRESSING, "nothing keeps the rule from being as declared")
        }
    });
    if let Some(but) = effective.as_ref().filter(|it| it.status == Tri::False && synced.status == Tri::True) {
        ready.message = format!("{}; but {}", ready.message, but.message);
    }
    if let Some(off) = disable::meanwhile(flag, &decision.status).filter(|_| synced.status == Tri::Unknown) {
        ready.message = format!("{}; meanwhile {off}", ready.message);
    }
    vec![
        (types::SYNCED, Some(synced)),
        (types::EFFECTIVE, effective),
        (types::WITHIN_ERROR_RATE, within),
        (types::STALLED, stalled),
        (types::READY, Some(ready)),
    ]
}

fn effective_as_declared(it: &EffectiveFlag, enabled: bool) -> Verdict {
    let fed = if it.models.is_empty() { String::new() } else { format!(" for webhooks of {}", it.models.join(", ")) };
    let because = it.because_of.join(", ");
    match (it.running, enabled) {
        (true, true) => Verdict::new(true, reasons::AS_DECLARED, format!("the type runs{fed}, because of {because}")),
        (false, false) => Verdict::new(true, reasons::AS_DECLARED, "no rule of the type is enabled"),
        (true, false) => Verdict::new(
            false,
            reasons::ENABLED_BY_OTHER_RULES,
            format!("the type still runs{fed}: any enabled rule opens it, and enabled are: {because}"),
        ),
        (false, true) => Verdict::new(false, reasons::NOT_RUNNING, "no rule of the type is enabled yet"),
    }
}
