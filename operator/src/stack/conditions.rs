//! The conditions of a stack: one function per condition, all of them plain.

use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::stack::{DatabaseType, EvictionPolicy, RedisType, Step};

use super::decide::{Decision, Roll};
use super::error::Error;
use super::observe::Observed;
use super::validate;
use crate::cluster::status::{Tri, Verdict};
use crate::component::{Component, ComponentExt};
use crate::rollout::gates::Gate;
use crate::rollout::steps::ordinal;
use crate::rollout::workload::{self, Counts};

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
        (types::DATABASE_READY, Some(store(seen, decision, Component::Database))),
        (types::REDIS_READY, Some(store(seen, decision, Component::Redis))),
        (types::ODOO_REACHABLE, Some(odoo(seen))),
        (types::NOT_IMPLEMENTED, not_implemented(seen)),
        (types::ROUTES_READY, routes(seen)),
    ];
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
        Decision::Roll(roll) => match (&roll.position.gate, roll.position.step) {
            (Gate::Open, _) | (_, None) => resting(Verdict::new(
                true,
                reasons::SETTLED,
                format!("revision {} runs and passed its watch", roll.target),
            )),
            (Gate::Wait { message, .. }, Some(Step::Approval)) => {
                resting(Verdict::new(Tri::Unknown, reasons::AWAITING_APPROVAL, message.clone()))
            }
            (Gate::Wait { reason, message }, Some(step)) => working(reason, at(step, message)),
            (Gate::Blocked { reason, message }, Some(step)) if roll.first_install() => {
                working(reason, at(step, message))
            }
            (Gate::Blocked { reason, message }, Some(step)) => stuck(reason, at(step, message)),
        },
    }
}

fn at(step: Step, message: &str) -> String {
    format!("step {} ({step}): {message}", ordinal(step))
}

/// Pods of a component; none where it doesn't exist.
fn counts(seen: &Observed, component: Component) -> Counts {
    let name = seen.child(component.name());
    workload::observed(&seen.children, component, &name).map(|it| it.counts).unwrap_or_default()
}

fn available(seen: &Observed) -> Verdict {
    if counts(seen, Component::AiService).available > 0 {
        Verdict::new(true, reasons::SERVING, "ai-service serves")
    } else {
        Verdict::new(false, reasons::NOT_SERVING, "no pod of ai-service is ready")
    }
}

/// Database or Redis, whoever runs it.
fn store(seen: &Observed, decision: &Decision, component: Component) -> Verdict {
    let spec = &seen.object.spec;
    let external = match component {
        Component::Database => spec.database.kind == DatabaseType::External,
        _ => spec.redis.kind == RedisType::External,
    };
    if external { outside(seen, decision, component) } else { server(seen, component) }
}

/// A server that somebody else runs: its login was proven, and the agents still reach it.
fn outside(seen: &Observed, decision: &Decision, component: Component) -> Verdict {
    let base = match decision {
        Decision::Roll(roll) => Some(&roll.base),
        Decision::Hold(hold) => Some(&hold.base),
        Decision::Suspended | Decision::Problem(_) | Decision::Generate(..) => None,
    };
    match base.and_then(|base| base.credentials.waits.clone()) {
        Some(Gate::Blocked { reason, message }) => return Verdict::new(false, &reason, message),
        // What was proven before still holds.
        Some(Gate::Wait { reason, message }) if counts(seen, Component::AiService).available == 0 => {
            return Verdict::new(false, &reason, message);
        }
        _ => {}
    }
    match seen.agents.unreachable(component) {
        Some(message) => Verdict::new(false, reasons::UNREACHABLE, message),
        None if base.is_some_and(|base| base.credentials.live.is_some()) => {
            Verdict::new(true, reasons::SERVING, "the server accepts the login")
        }
        None => Verdict::new(Tri::Unknown, reasons::UNKNOWN, "no login was tried yet"),
    }
}

fn server(seen: &Observed, component: Component) -> Verdict {
    if counts(seen, component).available > 0 {
        let policy = seen.object.spec.redis.managed.eviction_policy;
        return match policy.filter(|policy| component == Component::Redis && *policy != EvictionPolicy::NoEviction) {
            None => Verdict::new(true, reasons::SERVING, format!("{} accepts connections", component.name())),
            Some(policy) => Verdict::new(
                true,
                reasons::EVICTION_POLICY_UNFIT,
                format!(
                    "redis accepts connections, but with {policy} a full Redis drops queued tasks silently: use noeviction"
                ),
            ),
        };
    }
    match crate::rollout::pods::trouble(seen.children.pods_of(component.name()), None) {
        Some(trouble) => Verdict::new(false, trouble.reason, trouble.message),
        None => Verdict::new(false, reasons::POD_NOT_READY, format!("no pod of {} is ready", component.name())),
    }
}

fn odoo(seen: &Observed) -> Verdict {
    let url = &seen.object.spec.odoo.url;
    match seen.agents.odoo() {
        Some(odoo) if odoo.state == "Reachable" => {
            Verdict::new(true, reasons::REACHABLE, format!("Odoo at {url} accepts the credentials"))
        }
        Some(odoo) if odoo.state == "AccessDenied" => Verdict::new(
            false,
            reasons::ACCESS_DENIED,
            format!(
                "Odoo at {url} refuses user {} in database {}: check odoo.username, odoo.database and the Secret",
                seen.object.spec.odoo.username, seen.object.spec.odoo.database
            ),
        ),
        Some(odoo) => Verdict::new(false, reasons::UNREACHABLE, format!("Odoo at {url}: {}", odoo.message)),
        None => Verdict::new(Tri::Unknown, reasons::UNKNOWN, "no running agent has asked Odoo yet"),
    }
}

fn not_implemented(seen: &Observed) -> Option<Verdict> {
    let fields = validate::ignored(&seen.object.spec);
    (!fields.is_empty()).then(|| {
        Verdict::new(
            true,
            reasons::NOT_IMPLEMENTED,
            format!("this version of the operator doesn't act on {} yet", fields.join(", ")),
        )
    })
}

fn routes(seen: &Observed) -> Option<Verdict> {
    seen.object.spec.ingress.as_ref().map(|_| {
        Verdict::new(
            false,
            reasons::NOT_IMPLEMENTED,
            "this version of the operator makes no routes yet; the Services can be reached inside the cluster",
        )
    })
}

fn migrated(roll: &Roll) -> Verdict {
    if let Some(schema) = &roll.schema {
        let heads = schema.heads.join(",");
        return Verdict::new(true, reasons::AT_HEAD, format!("the database is at {heads}, which the image needs"));
    }
    match &roll.position.gate {
        Gate::Wait { reason, message } | Gate::Blocked { reason, message }
            if roll.position.step == Some(Step::Migration) =>
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
