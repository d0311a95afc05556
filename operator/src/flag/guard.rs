//! The error-rate guard: a rule whose runs fail too often is disabled until its spec changes. Plain.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::flag::{ErrorRate, ErrorRateStatus, FeatureFlagStatus};
use odoo_ai_crds::stack::OdooAiStack;

use super::matching;
use super::observe::Observed;
use crate::cluster::status::{Tri, Verdict};
use crate::rules::{self, audit::Run};

/// Runs that the window must hold before it counts.
const MIN_SAMPLES: i32 = 20;
const WINDOW_SECONDS: i32 = 3600;

/// What is known of a rule's runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Audit {
    /// Nobody wants to know.
    Unwanted,
    /// The stack's state says why it is not the rule's fault.
    Frozen,
    /// The application was asked.
    Failed(rules::Error),
    /// Those of the rule's type since the window's beginning.
    Runs(Vec<Run>),
}

/// The rule is guarded: it runs, and was not disabled by the guard under this spec.
#[must_use]
pub fn is_wanted(flag: &Observed) -> bool {
    let spec = &flag.object.spec;
    spec.error_rate.is_some() && matching::is_enabled(spec) && !spec.suspend && !is_breached(flag, &flag.status())
}

/// The rate was exceeded under this spec.
#[must_use]
pub fn is_breached(flag: &Observed, status: &FeatureFlagStatus) -> bool {
    flag.object.spec.error_rate.is_some() && status.breached_generation == Some(flag.generation())
}

/// Where the window begins: no run counts that another spec is answerable for.
#[must_use]
pub fn since(flag: &Observed, rate: &ErrorRate) -> Timestamp {
    let window = SignedDuration::from_secs(i64::from(rate.window_seconds.unwrap_or(WINDOW_SECONDS)));
    let begins = flag.now - window;
    let status = flag.status();
    let current = status.observed_generation == Some(flag.generation());
    let changed = status.spec_changed_at.filter(|_| current).map_or(flag.now, |Time(at)| at);
    begins.max(changed)
}

/// Since when a stack is Ready and reaches Odoo; `None`: it is not. What fails before is not a rule's fault.
#[must_use]
pub fn well_since(stack: &OdooAiStack) -> Option<Timestamp> {
    let conditions = stack.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let of = |kind: &str| conditions.iter().find(|it| it.type_ == kind);
    let ready = of(types::READY).filter(|it| it.status == "True")?.last_transition_time.0;
    match of(types::ODOO_REACHABLE) {
        Some(odoo) if odoo.status == "False" => None,
        Some(odoo) if odoo.status == "True" => Some(ready.max(odoo.last_transition_time.0)),
        _ => Some(ready),
    }
}

/// Takes what is known into the status.
pub fn take(flag: &Observed, status: &mut FeatureFlagStatus, audit: &Audit) {
    let Some(rate) = &flag.object.spec.error_rate else {
        (status.error_rate, status.breached_generation) = (None, None);
        return;
    };
    let Audit::Runs(runs) = audit else { return };
    let of_rule = runs.iter().filter(|run| run.action_name == flag.object.spec.rule.action_name);
    let (mut samples, mut failed) = (0_i64, 0_i64);
    for run in of_rule {
        samples += 1;
        failed += i64::from(run.failed);
    }
    let percent = if samples == 0 { 0 } else { (failed * 100 + samples - 1) / samples };
    let number = |it: i64| i32::try_from(it).unwrap_or(i32::MAX);
    status.error_rate = Some(ErrorRateStatus { percent: number(percent), samples: number(samples) });
    // Of the exact figures: what is told is rounded up.
    let exceeded = failed * 100 > samples * i64::from(rate.max_percent);
    if exceeded && samples >= i64::from(rate.min_samples.unwrap_or(MIN_SAMPLES)) {
        status.breached_generation = Some(flag.generation());
    }
}

/// `WithinErrorRate`; `None`: the flag has no guard.
#[must_use]
pub fn verdict(flag: &Observed, status: &FeatureFlagStatus, audit: &Audit) -> Option<Verdict> {
    let rate = flag.object.spec.error_rate.as_ref()?;
    let seen = status.error_rate.clone().unwrap_or_default();
    let figures = format!("{} % of {} runs failed, {} % may", seen.percent, seen.samples, rate.max_percent);
    if is_breached(flag, status) {
        let message = format!("{figures}: the rule is disabled until the spec changes");
        return Some(Verdict::new(false, reasons::ERROR_RATE_EXCEEDED, message));
    }
    let few = seen.samples < rate.min_samples.unwrap_or(MIN_SAMPLES);
    Some(match audit {
        Audit::Runs(_) if few => {
            let wanted = rate.min_samples.unwrap_or(MIN_SAMPLES);
            let message = format!("{figures}; it counts from {wanted} runs on");
            Verdict::new(true, reasons::TOO_FEW_SAMPLES, message)
        }
        Audit::Runs(_) => Verdict::new(true, reasons::WITHIN_LIMIT, figures),
        Audit::Frozen => {
            let message = "the stack is not Ready, or does not reach Odoo: a rule is not blamed for it";
            Verdict::new(Tri::Unknown, reasons::FROZEN, message)
        }
        Audit::Failed(error) => {
            Verdict::new(Tri::Unknown, error.reason(), format!("the application's audit log can't be read: {error}"))
        }
        Audit::Unwanted => Verdict::new(Tri::Unknown, reasons::NOT_RUNNING, "the rule is disabled"),
    })
}
