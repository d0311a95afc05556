//! The operator itself: its real reconcile, its caches fed by real watches. Time is what the test
//! says; an operator that starts knows nothing.

use std::cell::Cell;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::watcher;
use odoo_ai_crds::flag::FeatureFlag;
use odoo_ai_crds::restore::Restore;
use odoo_ai_operator::cluster::cache::Scope;
use odoo_ai_operator::cluster::cached::{Filler, cached};
use odoo_ai_operator::context::{Context, Custom, Pacer};
use odoo_ai_operator::metrics::Metrics;
use odoo_ai_operator::rules::board::Boards;
use odoo_ai_operator::stack::error::Error;
use odoo_ai_operator::stack::model::{Network, Operator as Own};
use odoo_ai_operator::{backup, flag, restore, stack};
use tokio::task::{JoinHandle, yield_now};

use crate::cluster::Cluster;
use crate::kubelet::NAMESPACE;
use crate::world::{BACKUP, BACKUPS, FLAGS, RESTORES};

/// Kinds that the operator watches besides its own.
const KINDS: usize = 16;
/// Turns of the runtime after which nothing is expected to move any more.
const PATIENCE: usize = 10_000;

thread_local! {
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A second goes by.
pub(crate) fn second() {
    PASSED.set(PASSED.get() + Duration::from_secs(1));
}

fn clock() -> Instant {
    Instant::now() + PASSED.get()
}

/// The same time of day in every run: one that begins where another has been must not take it for late.
pub(crate) fn today() -> Timestamp {
    static TODAY: LazyLock<Timestamp> =
        LazyLock::new(|| Timestamp::from_second(Timestamp::now().as_second()).expect("now"));
    *TODAY
}

/// What came of a reconcile.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It ended, well or not.
    Done(Result<(), String>),
    /// The process ended.
    Died,
}

/// A running operator.
pub(crate) struct Operator {
    ctx: Arc<Context>,
    watches: JoinHandle<()>,
    /// Their watch is the controller's own.
    flags: Mutex<Filler<FeatureFlag>>,
    restores: Mutex<Filler<Restore>>,
    cluster: Arc<Cluster>,
}

impl Operator {
    pub(crate) async fn start(cluster: &Arc<Cluster>, http: &reqwest::Client) -> Self {
        let client = cluster.client();
        let network = Network { operator_namespace: "odoo-ai-system".to_owned(), metrics_namespaces: Vec::new() };
        let own = Own {
            image: "operator:test".to_owned(),
            network: Some(network),
            approvers_verified: true,
            template_annotation: None,
        };
        let scope = Scope::Namespace(NAMESPACE.to_owned());
        let (ctx, streams) = Context::new(client, http.clone(), &scope, "operator-0", own, Metrics::registered().0);
        let (flags, flags_filler) = cached();
        let (restores, restores_filler) = cached();
        let (pacer, rules) = (Pacer::by(clock), Boards::by(clock));
        let ctx = Arc::new(Context { pacer, rules, clock: today, flags, restores, ..ctx });
        let watches = tokio::spawn(streams.drain());
        let (flags, restores) = (Mutex::new(flags_filler), Mutex::new(restores_filler));
        let operator = Self { ctx, watches, flags, restores, cluster: Arc::clone(cluster) };
        operator.catch_up().await;
        let ready = tokio::time::timeout(Duration::from_secs(5), operator.ctx.caches.ready());
        ready.await.expect("every stream of the caches is read in `watch`");
        operator
    }

    /// Until the caches hold what was told.
    pub(crate) async fn catch_up(&self) {
        self.list(&self.flags, FLAGS);
        self.list(&self.restores, RESTORES);
        for _ in 0..PATIENCE {
            if self.cluster.is_quiet(KINDS) {
                return;
            }
            yield_now().await;
        }
        panic!("the watches never come to rest");
    }

    fn list<K: Custom + 'static>(&self, filler: &Mutex<Filler<K>>, plural: &str) {
        let mut filler = filler.lock().expect("nobody panicked with it");
        filler.apply(&watcher::Event::Init);
        for (_, object) in self.cluster.world().store.all(plural) {
            let object = serde_json::from_value(object.clone()).expect("an object of the kind");
            filler.apply(&watcher::Event::InitApply(object));
        }
        filler.apply(&watcher::Event::InitDone);
    }

    /// One reconcile of each object.
    pub(crate) async fn reconcile(&self) -> Turn {
        tokio::select! {
            biased;
            () = self.cluster.died.notified() => Turn::Died,
            done = Box::pin(async {
                let stack = self.reconcile_stack().await;
                let backup = self.reconcile_backup().await;
                let restores = self.each(RESTORES, restore::reconcile).await;
                stack.and(backup).and(restores).and(self.each(FLAGS, flag::reconcile).await)
            }) => Turn::Done(done),
        }
    }

    async fn reconcile_stack(&self) -> Result<(), String> {
        let object = serde_json::from_value(self.cluster.world().stack().clone()).expect("a stack");
        judge(Box::pin(stack::reconcile(Arc::new(object), Arc::clone(&self.ctx))).await)
    }

    async fn reconcile_backup(&self) -> Result<(), String> {
        let Some(object) = self.cluster.world().store.get(BACKUPS, BACKUP).cloned() else { return Ok(()) };
        let object = serde_json::from_value(object).expect("a Backup");
        let done = Box::pin(backup::reconcile(Arc::new(object), Arc::clone(&self.ctx))).await;
        let is_there = self.cluster.world().store.get(BACKUPS, BACKUP).is_some();
        if is_there { judge(done) } else { done.map(drop).map_err(|error| error.to_string()) }
    }

    async fn each<K: Custom, F>(&self, plural: &str, reconcile: fn(Arc<K>, Arc<Context>) -> F) -> Result<(), String>
    where
        F: Future<Output = Result<Action, Error>>,
    {
        let objects: Vec<_> = self.cluster.world().store.all(plural).map(|(_, object)| object.clone()).collect();
        for object in objects {
            let object = serde_json::from_value(object).expect("an object of the kind");
            let done = Box::pin(reconcile(Arc::new(object), Arc::clone(&self.ctx))).await;
            done.map(drop).or_else(|error| if error.is_conflict() { Ok(()) } else { Err(error.to_string()) })?;
        }
        Ok(())
    }
}

/// What came of the reconcile of an object that is still there.
fn judge(done: Result<Action, Error>) -> Result<(), String> {
    match done {
        // Events can be missed: somebody must look again all the same.
        Ok(action) if action == Action::await_change() => Err("nobody would look again".to_owned()),
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.watches.abort();
    }
}
