//! Metrics of the operator, in the OpenMetrics text format.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Bounds of the durations, seconds: fine around those of a stack that rests, so that a percentile can be read.
const DURATIONS: [f64; 17] =
    [0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Labels of a reconcile: bounded, one kind and one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reconciled {
    /// Kind of the custom resource.
    pub kind: &'static str,
    /// `success` or `error`.
    pub result: &'static str,
}

/// Label of what came of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RolledOut {
    /// `succeeded`, `failed` or `rolled_back`.
    pub result: &'static str,
}

/// Labels of a custom resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Object {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Labels of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Route {
    /// Namespace of the custom resource.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The host.
    pub host: String,
}

/// Labels of a request to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Asked {
    /// The verb as RBAC knows it.
    pub verb: &'static str,
    /// Plural and subresource.
    pub resource: String,
}

/// The metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Reconciles by kind and result.
    pub reconciles: Family<Reconciled, Counter>,
    /// Seconds of each reconcile by kind.
    pub duration: Family<Reconciled, Histogram, fn() -> Histogram>,
    /// Requests to the API server.
    pub requests: Family<Asked, Counter>,
    /// Questions asked of routes.
    pub probes: Counter,
    /// Writes to children.
    pub writes: Counter<u64, AtomicU64>,
    /// Status writes.
    pub status_writes: Counter<u64, AtomicU64>,
    /// Rollouts by result.
    pub rollouts: Family<RolledOut, Counter>,
    /// 1 while a stack is Ready.
    pub ready: Family<Object, Gauge>,
    /// When the certificate that a host is served with ends, seconds since 1970.
    pub certificates: Family<Route, Gauge>,
    /// 1 while this process holds the Lease.
    pub leader: Gauge,
}

impl Metrics {
    /// Registers everything under the prefix `odooai_operator`.
    #[must_use]
    pub fn registered() -> (Self, Registry) {
        let metrics = Self {
            reconciles: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            requests: Family::default(),
            probes: Counter::default(),
            writes: Counter::default(),
            status_writes: Counter::default(),
            rollouts: Family::default(),
            ready: Family::default(),
            certificates: Family::default(),
            leader: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("odooai_operator");
        registry.register("reconciles", "Reconciles by kind and result", metrics.reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Time of a reconcile",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register("api_requests", "Requests to the API server", metrics.requests.clone());
        registry.register("route_probes", "Questions asked of routes", metrics.probes.clone());
        registry.register("child_writes", "Objects written to the API server", metrics.writes.clone());
        registry.register("status_writes", "Statuses written to the API server", metrics.status_writes.clone());
        let help = "Rollouts that succeeded, revisions that failed, and those that were rolled back";
        registry.register("rollouts", help, metrics.rollouts.clone());
        registry.register("stack_ready", "1 while the stack is Ready", metrics.ready.clone());
        let help = "When the certificate that the host is served with ends, seconds since 1970";
        let name = "certificate_expiration_timestamp";
        registry.register_with_unit(name, help, Unit::Seconds, metrics.certificates.clone());
        registry.register("leader", "1 while this process holds the Lease", metrics.leader.clone());
        (metrics, registry)
    }

    /// Notes until when a host's certificate is valid; `None`: it isn't asked for any more.
    pub fn certificate(&self, (namespace, name): &(String, String), host: &str, until: Option<i64>) {
        let labels = Route { namespace: namespace.clone(), name: name.clone(), host: host.to_owned() };
        match until {
            Some(until) => _ = self.certificates.get_or_create(&labels).set(until),
            None => _ = self.certificates.remove(&labels),
        }
    }

    /// Counts what came of a rollout.
    pub fn rolled_out(&self, result: &'static str) {
        self.rollouts.get_or_create(&RolledOut { result }).inc();
    }
}
