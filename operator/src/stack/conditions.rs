//! The conditions of a stack: one function per condition, all of them plain. Those of what is around
//! the stack are in [`health`].

use k8s_openapi::jiff::Timestamp;
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::stack::{FailureOutcome, Step};

use super::base::Base;
use super::decide::Decision;
use super::error::Error;
use super::observe::Observed;
use super::roll::{self, Roll};
use super::{health, keys};
use crate::cluster::intent::Key;
use crate::cluster::status::{Tri, Verdict};
use crate::component::Component;
use crate::rollout::credentials::Standing as Credentials;
use crate::rollout::gates::Gate;
use crate::rollout::steps::ordinal;
use crate::routes::model::Certificate;
use crate::routes::standing::Standing;
use crate::routes::verdict;

/// A condition's type and what it says; `None` removes it.
pub type Condition = (&'static str, Option<Verdict>);

/// All conditions of a stack.
#[must_use]
pub fn of(seen: &Observed, decision: &Decision, failure: Option<&Error>) -> Vec<Condition> {
    let (ready, reconciling, stalled) = summary(decision, failure);
    let mut all = vec![
        (types::READY, Some(ready)),
        (types::RECONCILING, Some(reconciling)),
        (types::STALLED, Some(stalled)),
        (types::AVAILABLE, Some(available(seen))),
        (types::DATABASE_READY, Some(health::store(seen, credentials(decision), Component::Database))),
        (types::REDIS_READY, Some(health::store(seen, credentials(decision), Component::Redis))),
        (types::ODOO_REACHABLE, Some(health::odoo(seen))),
        (types::QUEUES_CONSUMED, Some(health::queues(seen))),
        (types::WEBHOOKS_PROCESSED, Some(health::webhooks(seen))),
        (types::KEYS_EXPORTED, keys::verdict(seen.export)),
    ];
    if let Some(base) = decision.base() {
        all.push((types::ROUTES_READY, routes(seen, base)));
    }
    if let Decision::Roll(roll) = decision {
        all.push((types::MIGRATED, Some(migrated(roll))));
        all.push((types::AWAITING_APPROVAL, Some(awaiting_approval(roll))));
    }
    all
}

/// `Ready`, `Reconciling` and `Stalled`, as kstatus reads them.
fn summary(decision: &Decision, failure: Option<&Error>) -> (Verdict, Verdict, Verdict) {
    let working = |reason: &str, message: String| {
        (
            Verdict::new(false, reason, message.clone()),
            Verdict::new(true, reason, message),
            Verdict::new(false, reasons::PROGRESSING, ""),
        )
    };
    let stuck = |reason: &str, message: String| {
        (
            Verdict::new(false, reason, message.clone()),
            Verdict::new(false, reason, ""),
            Verdict::new(true, reason, message),
        )
    };
    let resting = |ready: Verdict| {
        let reason = ready.reason.clone();
        (ready, Verdict::new(false, &reason, ""), Verdict::new(false, &reason, ""))
    };
    if let Some(error) = failure {
        let message = error.to_string();
        return if error.is_stalled() { stuck(error.reason(), message) } else { working(error.reason(), message) };
    }
    match decision {
        Decision::Suspended => resting(Verdict::new(
            Tri::Unknown,
            reasons::SUSPENDED,
            "spec.suspend is true: nothing is changed, what runs keeps running",
        )),
        Decision::Problem(problem) if problem.stalled => stuck(problem.reason, problem.message.clone()),
        Decision::Problem(problem) => working(problem.reason, problem.message.clone()),
        Decision::Hold(hold) if hold.problem.stalled => stuck(hold.problem.reason, hold.problem.message.clone()),
        Decision::Hold(hold) => working(hold.problem.reason, hold.problem.message.clone()),
        Decision::Generate(..) => working(reasons::INSTALLING, "keys and passwords are generated".to_owned()),
        Decision::Roll(roll) if roll.back => {
            let (moving, reason, message) = going_back(roll);
            if moving { working(reason, message) } else { stuck(reason, message) }
        }
        Decision::Roll(roll) => match (&roll.position.gate, roll.position.step) {
            (Gate::Open, _) | (_, None) => resting(Verdict::new(
                true,
                reasons::SETTLED,
                format!("revision {} runs and passed its watch", roll.target),
            )),
            // A person is asked; nothing is wrong with the revision as far as anyone can see.
            (Gate::Wait { reason, message }, Some(Step::Approval))
            | (Gate::Blocked { reason, message }, Some(Step::Watch)) => {
                resting(Verdict::new(Tri::Unknown, reason, message.clone()))
            }
            (Gate::Wait { reason, message } | Gate::Failed { reason, message }, Some(step)) => {
                working(reason, at(step, message))
            }
            (Gate::Blocked { reason, message }, Some(step)) if roll.first_install() => {
                working(reason, at(step, message))
            }
            (Gate::Blocked { reason, message }, Some(step)) => stuck(reason, at(step, message)),
        },
    }
}

/// Whether something is still done about a failed revision, and what is to be said of it.
fn going_back(roll: &Roll) -> (bool, &'static str, String) {
    let failure = roll.status.failure.clone().unwrap_or_default();
    let (cause, remedy, to) = (roll::cause(&failure), roll::remedy(&roll.base.stack), &roll.target);
    match (&roll.position.gate, roll.position.step) {
        (Gate::Blocked { reason, message }, Some(_)) if reason == reasons::ROLLBACK_BLOCKED_BY_SCHEMA => {
            (false, reasons::ROLLBACK_BLOCKED_BY_SCHEMA, format!("{cause}; it can't be put back to {to}: {message}"))
        }
        (Gate::Wait { message, .. } | Gate::Failed { message, .. } | Gate::Blocked { message, .. }, Some(step))
            if failure.outcome != FailureOutcome::RolledBack =>
        {
            (true, reasons::ROLLING_BACK, format!("{cause}; going back to {to}, {}", at(step, message)))
        }
        _ => (false, reasons::ROLLED_BACK, format!("{cause}; revision {to} runs again. {remedy}")),
    }
}

fn at(step: Step, message: &str) -> String {
    format!("step {} ({step}): {message}", ordinal(step))
}

fn available(seen: &Observed) -> Verdict {
    if health::counts(seen, Component::AiService).available > 0 {
        Verdict::new(true, reasons::SERVING, "ai-service serves")
    } else {
        Verdict::new(false, reasons::NOT_SERVING, "no pod of ai-service is ready")
    }
}

fn credentials(decision: &Decision) -> Option<&Credentials> {
    decision.base().map(|base| &base.credentials)
}

fn routes(seen: &Observed, base: &Base) -> Option<Verdict> {
    let Standing { made, unknown, fault } = &base.routes;
    if let Some((reason, message)) = fault {
        return Some(Verdict::new(false, reason, message.clone()));
    }
    let (Some(_), Some(routes)) = (made, &base.stack.routes) else {
        let message =
            "the operator doesn't know yet which kinds of routes the cluster has, and who else claims the hosts";
        return unknown.then(|| Verdict::new(Tri::Unknown, reasons::NOT_OBSERVED, message));
    };
    let before = seen.status().conditions.into_iter().find(|it| it.type_ == types::ROUTES_READY);
    let pending_since = before.as_ref().and_then(|it| match it.reason.as_str() {
        reasons::CERTIFICATE_PENDING => Some(it.last_transition_time.0),
        reasons::CERT_RESOLVER_UNKNOWN => Some(Timestamp::UNIX_EPOCH),
        _ => None,
    });
    let secret = match &routes.certificate {
        Some(Certificate::Secret(name)) => Some(name),
        Some(Certificate::Resolver(_)) | None => None,
    };
    let key =
        |name: &String| Key { kind: "Secret".to_owned(), namespace: base.stack.namespace.clone(), name: name.clone() };
    let scene = verdict::Scene {
        certificate: routes.certificate.as_ref(),
        secret_missing: secret.is_some_and(|name| seen.children.meta(&key(name)).is_none()),
        pending_since,
        hides_clients: seen.around.hides_clients.as_deref().filter(|_| !routes.allow_list.is_empty()),
        now: seen.now,
    };
    // An operator that has just started has seen nothing yet; what another one saw of the same spec holds.
    let still =
        before.filter(|it| it.observed_generation == Some(seen.generation()) && verdict::is_of_a_look(&it.reason));
    let nothing = || match still {
        Some(it) => Verdict::new(it.status == "True", &it.reason, it.message),
        None => Verdict::new(Tri::Unknown, reasons::NOT_OBSERVED, "the routes are made, and are asked for now"),
    };
    Some(verdict::of(&scene, &seen.looks).unwrap_or_else(nothing))
}

fn migrated(roll: &Roll) -> Verdict {
    if let Some(schema) = &roll.schema {
        let heads = schema.heads.join(",");
        let database = roll.status.database.as_ref();
        return match database.and_then(|database| database.schema_revision.as_ref()).filter(|at| **at != heads) {
            None => Verdict::new(true, reasons::AT_HEAD, format!("the database is at {heads}, which the image needs")),
            Some(at) => Verdict::new(
                true,
                reasons::AT_HEAD,
                format!("the database is at {at}, newer than the image's {heads}, which works with it"),
            ),
        };
    }
    match &roll.position.gate {
        Gate::Wait { reason, message } | Gate::Blocked { reason, message } | Gate::Failed { reason, message }
            if matches!(roll.position.step, Some(Step::Bootstrap | Step::Plan | Step::Backup | Step::Migration)) =>
        {
            Verdict::new(false, reason, message.clone())
        }
        _ => Verdict::new(false, reasons::PROGRESSING, "the migration has not started yet"),
    }
}

fn awaiting_approval(roll: &Roll) -> Verdict {
    match &roll.position.gate {
        Gate::Wait { reason, message } if roll.position.step == Some(Step::Approval) => {
            Verdict::new(true, reason, message.clone())
        }
        _ => Verdict::new(false, reasons::SETTLED, ""),
    }
}
