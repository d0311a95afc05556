//! The crash sweep on a real API server: every tenth request that changes something is struck. What
//! the store in memory (`operator/tests/sweep`) makes of the operator's requests is kept honest so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use anyhow::{Result, bail, ensure};
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use http::Request;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use odoo_ai_operator::cluster::client::Sent;
use odoo_ai_tests::ApiServer;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::layer::layer_fn;
use tower::{BoxError, Service};

use crate::compare;
use crate::crds::server;
use crate::requests::writes;
use crate::stage::{Stage, value};

/// Reconciles that one scenario may take.
const TURNS: usize = 60;
/// Requests that a crash may cost on top.
const EXTRA: usize = 2;
/// What the operator sends in memory.
const RECORD: &str = include_str!("../../../operator/tests/sweep/first-install.txt");

/// A crash at one request: its number, and whether it was stored.
#[derive(Clone, Copy, Debug)]
struct Crash {
    at: usize,
    stored: bool,
}

#[derive(Default)]
struct Log {
    crash: Option<Crash>,
    writes: Vec<String>,
}

/// Counts what one operator writes, and ends it where the test says.
#[derive(Clone, Default)]
struct Strikes {
    log: Arc<Mutex<Log>>,
    died: Arc<Notify>,
}

impl Strikes {
    async fn client(&self, server: &ApiServer) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let strikes = self.clone();
        let layer = layer_fn(move |inner| Struck { inner, strikes: strikes.clone() });
        Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests from now on are counted from 0.
    fn arm(&self, crash: Option<Crash>) {
        *self.log() = Log { crash, writes: Vec::new() };
    }

    fn count(&self, request: &Request<Body>) -> Option<Crash> {
        let uri = request.uri();
        let sent = Sent::of(request.method(), uri.path(), uri.query().unwrap_or_default()).filter(writes)?;
        let mut log = self.log();
        let number = log.writes.len();
        let name = compare::nameless(&sent.name);
        let line = format!("{} {} {name}", sent.verb, sent.resource);
        log.writes.push(if sent.resource == "events" { "event".to_owned() } else { line.trim_end().to_owned() });
        log.crash.filter(|crash| crash.at == number)
    }
}

/// A client's connection that is struck.
struct Struck<S> {
    inner: S,
    strikes: Strikes,
}

impl<S> Service<Request<Body>> for Struck<S>
where
    S: Service<Request<Body>, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let crash = self.strikes.count(&request);
        let answer = crash.is_none_or(|crash| crash.stored).then(|| self.inner.call(request));
        let died = Arc::clone(&self.strikes.died);
        async move {
            let answer = match answer {
                Some(answer) => Some(answer.await),
                None => None,
            };
            if let (Some(answer), None) = (answer, crash) {
                return answer;
            }
            died.notify_one();
            std::future::pending().await
        }
        .boxed()
    }
}

/// What came of a run.
struct Course {
    writes: Vec<String>,
    end: BTreeMap<String, Value>,
}

/// A scenario in a namespace of its own.
struct Play {
    stage: Stage,
    strikes: Strikes,
}

impl Play {
    async fn new(namespace: &str) -> Result<Self> {
        let server = server().await?;
        let strikes = Strikes::default();
        let operator = strikes.client(server).await?;
        let stage = Stage::new(server.client().await?, operator, namespace, |_| {}).await?;
        Ok(Self { stage, strikes })
    }

    /// A first install.
    async fn install(name: &str, crash: Option<Crash>) -> Result<Course> {
        let mut play = Self::new(&format!("sweep-install-{name}")).await?;
        play.strikes.arm(crash);
        play.run(crash).await
    }

    /// Another image, on a stack that is at rest.
    async fn change(name: &str, crash: Option<Crash>) -> Result<Course> {
        let mut play = Self::new(&format!("sweep-change-{name}")).await?;
        play.run(None).await?;
        play.stage.edit(&json!({"images": {"aiService": "odoo-ai-platform/ai-service:1.1.0"}})).await?;
        play.strikes.arm(crash);
        play.run(crash).await
    }

    async fn run(&mut self, crash: Option<Crash>) -> Result<Course> {
        let mut crashed = false;
        for _ in 0..TURNS {
            tokio::select! {
                biased;
                () = self.strikes.died.notified() => {
                    crashed = true;
                    self.stage.restart()?;
                }
                done = Box::pin(self.stage.reconcile()) => done?,
            }
            if self.stage.settled().await? {
                // What was still under way is told.
                Box::pin(self.stage.reconcile()).await?;
                ensure!(crashed == crash.is_some(), "{crash:?} never came");
                let writes = self.strikes.log().writes.clone();
                return Ok(Course { writes, end: self.end().await? });
            }
            self.stage.perform().await?;
        }
        bail!("{crash:?}: never Ready: {}", self.stage.condition("Ready").await?)
    }

    async fn end(&self) -> Result<BTreeMap<String, Value>> {
        let stack = value(&self.stage.stack().await?);
        let children = self.stage.children().await?.into_iter().map(|child| {
            let kind = child.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
            (kind, value(&child))
        });
        let objects: Vec<_> = children.chain([("OdooAiStack".to_owned(), stack.clone())]).collect();
        // Each run has a namespace of its own.
        let text = json!(compare::end(&objects, &stack["status"]["history"])).to_string();
        Ok(serde_json::from_str(&text.replace(&self.stage.namespace, "here"))?)
    }
}

/// The clean run of `scenario`, and one with a crash at every tenth request, before and after it in
/// turns: in memory each is struck in both ways.
async fn sweep<F>(scenario: impl Fn(String, Option<Crash>) -> F) -> Result<Vec<String>>
where
    F: Future<Output = Result<Course>>,
{
    let clean = scenario("clean".to_owned(), None).await?;
    let strikes = (0..clean.writes.len()).step_by(10).map(|at| Crash { at, stored: at % 20 != 0 });
    let runs = strikes.map(|crash| {
        let run = scenario(crash.at.to_string(), Some(crash));
        let clean = &clean;
        async move {
            let run = run.await?;
            let differences = compare::differences(&clean.end, &run.end);
            let request = &clean.writes[crash.at];
            ensure!(differences.is_empty(), "{crash:?} ({request}): another end: {differences:#?}");
            let (cost, calm) = (run.writes.len(), clean.writes.len());
            ensure!(cost <= calm + EXTRA, "{crash:?} ({request}): {cost} requests, not {calm}: {:#?}", run.writes);
            Ok(())
        }
    });
    try_join_all(runs).await?;
    Ok(clean.writes)
}

#[tokio::test]
async fn a_crash_in_a_first_install_changes_nothing_in_the_end() -> Result<()> {
    let sent = sweep(|name, crash| async move { Play::install(&name, crash).await }).await?;
    // A POST has its name in the body.
    let known = |line: &str| match line.strip_prefix("create ") {
        Some(rest) => format!("create {}", rest.split(' ').next().unwrap_or_default()),
        None => line.to_owned(),
    };
    let recorded: Vec<_> = RECORD.lines().map(known).collect();
    assert_eq!(sent, recorded, "in memory the operator sends something else");
    Ok(())
}

#[tokio::test]
async fn a_crash_in_a_change_of_revision_changes_nothing_in_the_end() -> Result<()> {
    sweep(|name, crash| async move { Play::change(&name, crash).await }).await.map(drop)
}
