//! Conditions of what the stack needs around it: database, Redis, Odoo, the queues. What the pods
//! show comes first, then what the agents say.

use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::stack::{DatabaseType, RedisType};

use super::facts::{Idle, is_rejected};
use super::observe::Observed;
use super::validate;
use crate::cluster::status::{Tri, Verdict};
use crate::component::{Component, ComponentExt};
use crate::rollout::credentials::Standing;
use crate::rollout::gates::Gate;
use crate::rollout::pods;
use crate::rollout::workload::{self, Counts};

/// The only policy under which a full Redis drops no queued task.
const FIT: &str = "noeviction";

/// Pods of a component; none where it doesn't exist.
#[must_use]
pub fn counts(seen: &Observed, component: Component) -> Counts {
    let name = seen.child(component.name());
    workload::observed(&seen.children, component, &name).map(|it| it.counts).unwrap_or_default()
}

/// `DatabaseReady` and `RedisReady`, whoever runs the server.
#[must_use]
pub fn store(seen: &Observed, credentials: Option<&Standing>, component: Component) -> Verdict {
    let spec = &seen.object.spec;
    let external = match component {
        Component::Database => spec.database.kind == DatabaseType::External,
        _ => spec.redis.kind == RedisType::External,
    };
    if external { outside(seen, credentials, component) } else { server(seen, component) }
}

/// A server that somebody else runs: its login was proven, and the agents still reach it.
fn outside(seen: &Observed, credentials: Option<&Standing>, component: Component) -> Verdict {
    match credentials.and_then(|standing| standing.waits.clone()) {
        Some(Gate::Blocked { reason, message }) => return Verdict::new(false, &reason, message),
        // What was proven before still holds.
        Some(Gate::Wait { reason, message }) if counts(seen, Component::AiService).available == 0 => {
            return Verdict::new(false, &reason, message);
        }
        _ => {}
    }
    match seen.agents.unreachable(component) {
        Some(part) if is_rejected(part) => Verdict::new(false, reasons::CREDENTIALS_REJECTED, part.message.clone()),
        Some(part) => Verdict::new(false, reasons::UNREACHABLE, part.message.clone()),
        None if component == Component::Redis && credentials.is_some() => redis(seen),
        None if credentials.is_some() => Verdict::new(true, reasons::SERVING, "the server accepts the login"),
        None => Verdict::new(Tri::Unknown, reasons::UNKNOWN, "no login was tried yet"),
    }
}

fn server(seen: &Observed, component: Component) -> Verdict {
    let name = component.name();
    if counts(seen, component).available == 0 {
        let refused = || workload::observed(&seen.children, component, &seen.child(name))?.refused;
        return match pods::trouble(&seen.children, name, |_| true, seen.now).or_else(refused) {
            Some(trouble) => Verdict::new(false, trouble.reason, trouble.message),
            None => Verdict::new(false, reasons::POD_NOT_READY, format!("no pod of {name} is ready")),
        };
    }
    match seen.agents.unreachable(component) {
        Some(part) if is_rejected(part) => Verdict::new(
            false,
            reasons::CREDENTIALS_REJECTED,
            format!(
                "{name} refuses the application's password ({}): the Secret says something else than the server knows; put the old value back, or set the server's password to the new one",
                part.message
            ),
        ),
        Some(part) => Verdict::new(
            false,
            reasons::UNREACHABLE,
            format!(
                "the pod of {name} is ready, but ai-service does not reach it: {}; see kubectl logs {}-0, and NetworkPolicies",
                part.message,
                seen.child(name)
            ),
        ),
        None if component == Component::Redis => redis(seen),
        None => Verdict::new(true, reasons::SERVING, format!("{name} accepts connections")),
    }
}

/// Redis serves; what will hurt is said all the same. The running server's word counts before the spec's.
fn redis(seen: &Observed) -> Verdict {
    let spec = seen.object.spec.redis.managed.eviction_policy.map_or(FIT, |policy| policy.as_str());
    let policy = seen.agents.eviction_policy().unwrap_or(spec);
    if policy != FIT {
        return Verdict::new(
            true,
            reasons::EVICTION_POLICY_UNFIT,
            format!(
                "redis accepts connections, but with {policy} a full Redis drops queued tasks silently: set redis.managed.evictionPolicy, or maxmemory-policy of your own server, to {FIT}"
            ),
        );
    }
    if seen.agents.redis_full() {
        return Verdict::new(
            true,
            reasons::REDIS_NEARLY_FULL,
            "redis accepts connections, but 90 % of its memory is in use or was a moment ago; when it is full, no task can be queued and webhooks are answered with 500. If QueuesConsumed is False, cure that first; else raise redis.managed.maxMemoryMiB, which restarts Redis and loses what is queued",
        );
    }
    Verdict::new(true, reasons::SERVING, "redis accepts connections")
}

/// `OdooReachable`.
#[must_use]
pub fn odoo(seen: &Observed) -> Verdict {
    let spec = &seen.object.spec.odoo;
    let url = &spec.url;
    match seen.agents.odoo() {
        Some(odoo) if odoo.state == "Reachable" => {
            Verdict::new(true, reasons::REACHABLE, format!("Odoo at {url} accepts the credentials"))
        }
        Some(odoo) if odoo.state == "AccessDenied" => Verdict::new(
            false,
            reasons::ACCESS_DENIED,
            format!(
                "Odoo at {url} refuses user {} in database {}: check odoo.username (an e-mail address, often not admin), odoo.database, and the value in Secret {}",
                spec.username, spec.database, spec.credentials_secret_ref.name
            ),
        ),
        Some(odoo) => {
            Verdict::new(false, reasons::UNREACHABLE, format!("Odoo at {url} {}", unreachable(&odoo.message)))
        }
        None => Verdict::new(Tri::Unknown, reasons::UNKNOWN, "no running agent has asked Odoo yet"),
    }
}

/// Refusing, hanging, and everything else, each with its remedy.
fn unreachable(words: &str) -> String {
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    let words = words.trim_start_matches("Odoo: request failed: ");
    if says(&["gave no answer within"]) {
        let limit = words.rsplit_once("within ").map_or("time", |(_, limit)| limit);
        return format!(
            "hangs: no answer within {limit}. Either it is overloaded or stuck (look at Odoo's own log and workers), or a firewall drops the packets"
        );
    }
    let remedy = if says(&["Connection refused", "connection refused"]) {
        "; nothing listens there: is Odoo running, are host and port of odoo.url right?"
    } else if says(&["dns error", "failed to lookup", "resolve"]) {
        "; the name is unknown inside the cluster: check odoo.url"
    } else if says(&["certificate", "tls", "TLS"]) {
        "; the certificate must be valid for this host and come from a public authority"
    } else if says(&["does not exist"]) {
        "; check odoo.database"
    } else if says(&["answered", "answers"]) {
        "; check odoo.url: it must be Odoo's own address, without a path, and without a redirection"
    } else {
        ""
    };
    format!("is unreachable: {words}{remedy}")
}

/// `QueuesConsumed`.
#[must_use]
pub fn queues(seen: &Observed) -> Verdict {
    match seen.agents.idle() {
        Some([]) => Verdict::new(true, reasons::CONSUMED, "no queue waits for a consumer"),
        Some(idle) => {
            let all: Vec<_> = idle.iter().map(|queue| of_queue(seen, queue)).collect();
            Verdict::new(false, reasons::QUEUE_NOT_CONSUMED, all.join("; "))
        }
        None => kept(seen, types::QUEUES_CONSUMED, "no agent has watched the queues for long enough"),
    }
}

fn of_queue(seen: &Observed, idle: &Idle) -> String {
    let Idle { name, tasks, seconds } = idle;
    let age = match seconds {
        ..3600 => format!("{} minutes", seconds / 60),
        3600 => "1 hour".to_owned(),
        ..86_400 => format!("{} hours", seconds / 3600),
        _ => "1 day".to_owned(),
    };
    let spec = &seen.object.spec.worker;
    let worker = seen.child(Component::Worker.name());
    let cause = if !validate::queues(&seen.object.spec).contains(name) {
        "worker.queues does not list it: add it".to_owned()
    } else if spec.replicas == Some(0) {
        "worker.replicas is 0: raise it".to_owned()
    } else if counts(seen, Component::Worker).available == 0 {
        format!("no pod of worker is ready: see kubectl logs deploy/{worker}")
    } else {
        format!(
            "the worker is ready and consumes this queue, so all its processes are busy with long tasks, or hang: see kubectl logs deploy/{worker}; raise worker.concurrency or worker.replicas, or delete its pod"
        )
    };
    let waiting = if *tasks == 1 { "a task waits".to_owned() } else { format!("{tasks} tasks or more wait") };
    format!("queue {name}: {waiting}, none was taken for {age} or longer; {cause}")
}

/// `WebhooksProcessed`.
#[must_use]
pub fn webhooks(seen: &Observed) -> Verdict {
    match seen.agents.left_behind() {
        Some(0) => Verdict::new(true, reasons::PROCESSED, "no webhook is left behind"),
        Some(count) => {
            let some = if count == 1 { "a webhook was".to_owned() } else { format!("{count} webhooks or more were") };
            Verdict::new(
                false,
                reasons::WEBHOOKS_UNPROCESSED,
                format!(
                    "{some} taken and not worked on for 10 minutes or longer. If QueuesConsumed is False they wait in a queue: cure that first. Else their tasks are lost (in a burst, or with a killed worker) and nobody will work on them: see kubectl logs deploy/{}, and send them from Odoo again; rows of webhook_events that are not processed say which",
                    seen.child(Component::Worker.name())
                ),
            )
        }
        None => kept(seen, types::WEBHOOKS_PROCESSED, "no agent has watched the webhooks for long enough"),
    }
}

/// An agent that has just started knows nothing: what was wrong stays so until it is seen to be well.
fn kept(seen: &Observed, kind: &str, unknown: &str) -> Verdict {
    let conditions = seen.object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match conditions.iter().find(|condition| condition.type_ == kind) {
        Some(last) if last.status == "False" => Verdict::new(false, &last.reason, last.message.clone()),
        Some(last) if last.status == "True" && !seen.agents.is_silent() => {
            Verdict::new(true, &last.reason, last.message.clone())
        }
        _ => Verdict::new(Tri::Unknown, reasons::UNKNOWN, unknown),
    }
}
