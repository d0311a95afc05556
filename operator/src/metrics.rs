//! Metrics of the operator, in the OpenMetrics text format.

use std::sync::atomic::AtomicU64;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use odoo_ai_crds::backup::BackupStatus;
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

/// Labels of a request to an application's rules API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Called {
    /// The method.
    pub method: &'static str,
    /// `success` or `error`.
    pub result: &'static str,
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
    /// Of Backups.
    pub backups: Backups,
    /// 1 while a flag's rule is as declared.
    pub flags: Family<Object, Gauge>,
    /// 1 once a Restore ended well.
    pub restores: Family<Object, Gauge>,
    /// Requests to rules APIs.
    pub rules_requests: Family<Called, Counter>,
    /// 1 while this process holds the Lease.
    pub leader: Gauge,
}

/// Metrics of Backups, by object. A value that isn't known is absent, not 0.
#[derive(Clone, Debug, Default)]
pub struct Backups {
    /// When the last good backup was completed, seconds since 1970.
    pub success: Family<Object, Gauge>,
    /// When a backup was last restored completely as a test, seconds since 1970.
    pub verification: Family<Object, Gauge>,
    /// Seconds that the restore took.
    pub restore: Family<Object, Gauge>,
    /// Size of the last good backup's dump.
    pub bytes: Family<Object, Gauge>,
    /// Failed runs in a row.
    pub failures: Family<Object, Gauge>,
    /// Scheduled runs that were missed since the last good one.
    pub missed: Family<Object, Gauge>,
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
            backups: Backups::default(),
            flags: Family::default(),
            restores: Family::default(),
            rules_requests: Family::default(),
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
        metrics.backups.register(&mut registry);
        registry.register("restore_complete", "1 once the Restore ended well", metrics.restores.clone());
        registry.register("flag_synced", "1 while the FeatureFlag's rule is as declared", metrics.flags.clone());
        let help = "Requests to the applications' rules APIs";
        registry.register("rules_requests", help, metrics.rules_requests.clone());
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

impl Backups {
    fn register(&self, registry: &mut Registry) {
        let help = "When the last good backup was completed, seconds since 1970";
        registry.register_with_unit("backup_last_success_timestamp", help, Unit::Seconds, self.success.clone());
        let help = "When a backup was last restored completely as a test, seconds since 1970";
        registry.register_with_unit("backup_last_verified_timestamp", help, Unit::Seconds, self.verification.clone());
        let help = "Time that the last complete restore took";
        registry.register_with_unit("backup_restore", help, Unit::Seconds, self.restore.clone());
        registry.register_with_unit("backup_last_success", "Size of the last dump", Unit::Bytes, self.bytes.clone());
        registry.register("backup_consecutive_failures", "Failed runs in a row", self.failures.clone());
        let help = "Scheduled runs that were missed since the last good one";
        registry.register("backup_missed_runs", help, self.missed.clone());
    }

    fn all(&self) -> [&Family<Object, Gauge>; 6] {
        [&self.success, &self.verification, &self.restore, &self.bytes, &self.failures, &self.missed]
    }
}

impl Metrics {
    /// Notes what a Backup's status says.
    pub fn backup(&self, (namespace, name): &(String, String), status: &BackupStatus) {
        let labels = Object { namespace: namespace.clone(), name: name.clone() };
        let seconds = |time: &Option<Time>| time.as_ref().map(|time| time.0.as_second());
        let (success, verified) = (status.last_success.as_ref(), status.last_verified.as_ref());
        let values = [
            success.and_then(|it| seconds(&it.completed_at)),
            verified.and_then(|it| seconds(&it.completed_at)),
            verified.and_then(|it| it.restore_seconds).map(i64::from),
            success.and_then(|it| it.bytes),
            Some(status.consecutive_failures.into()),
            Some(status.missed_runs.into()),
        ];
        for (family, value) in self.backups.all().into_iter().zip(values) {
            match value {
                Some(value) => _ = family.get_or_create(&labels).set(value),
                None => _ = family.remove(&labels),
            }
        }
    }

    /// Notes whether a Restore ended well; `None`: it is gone.
    pub fn restore(&self, (namespace, name): &(String, String), complete: Option<bool>) {
        let labels = Object { namespace: namespace.clone(), name: name.clone() };
        match complete {
            Some(complete) => _ = self.restores.get_or_create(&labels).set(complete.into()),
            None => _ = self.restores.remove(&labels),
        }
    }

    /// Notes whether a flag's rule is as declared; `None`: it is gone.
    pub fn flag(&self, (namespace, name): &(String, String), synced: Option<bool>) {
        let labels = Object { namespace: namespace.clone(), name: name.clone() };
        match synced {
            Some(synced) => _ = self.flags.get_or_create(&labels).set(synced.into()),
            None => _ = self.flags.remove(&labels),
        }
    }

    /// Forgets a Backup that is gone.
    pub fn forget_backup(&self, (namespace, name): &(String, String)) {
        let labels = Object { namespace: namespace.clone(), name: name.clone() };
        for family in self.backups.all() {
            family.remove(&labels);
        }
    }
}
