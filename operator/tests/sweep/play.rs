//! Plays a scenario from a moment to its end, with a fault or with a clouded view, and keeps the
//! moments that it went through.

use std::sync::Arc;

use crate::application::Application;
use crate::cluster::Cluster;
use crate::faults::Fault;
use crate::operator::{Operator, Turn, second};
use crate::scenarios::Act;
use crate::world::World;

/// Reconciles that one act may take.
const TURNS: usize = 60;
/// Reconciles after the end, at most, until nothing is written any more.
const REST: usize = 10;

/// How the operator's caches follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// At once.
    Clear,
    /// As the cluster was so many reconciles ago.
    Behind(usize),
    /// Events of one kind are lost; now and then its watch begins anew, and shows what is there.
    Blind { plural: &'static str, turns: usize },
}

/// A moment of a scenario.
#[derive(Clone)]
pub(crate) struct Moment {
    pub(crate) world: World,
    /// The act that is played, and whether its edit was made.
    act: usize,
    begun: bool,
    /// Requests that changed something until then.
    pub(crate) writes: usize,
    /// Requests that only looked until then.
    pub(crate) reads: usize,
}

impl Moment {
    /// The beginning.
    pub(crate) fn first(world: World) -> Self {
        Self { world, act: 0, begun: false, writes: 0, reads: 0 }
    }
}

/// What came of a run.
pub(crate) struct Course {
    pub(crate) moments: Vec<Moment>,
    pub(crate) writes: Vec<String>,
    pub(crate) reads: usize,
    pub(crate) struck: Option<String>,
    pub(crate) end: World,
}

/// Where scenarios are played.
pub(crate) struct Stage {
    http: reqwest::Client,
    application: Application,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let application = Application::default();
        let address = application.serve().await;
        let proxy = reqwest::Proxy::http(format!("http://{address}")).expect("an address");
        // Whatever is asked by HTTP ends there.
        let http = reqwest::Client::builder().proxy(proxy).build().expect("a client");
        Self { http, application }
    }

    /// From `from` to the end of `script`.
    pub(crate) async fn play(
        &self,
        from: &Moment,
        script: &[Act],
        sight: Sight,
        fault: Option<Fault>,
    ) -> Result<Course, String> {
        // A run that goes astray is no place to begin another.
        let keeps = fault.is_none() && sight == Sight::Clear;
        let cluster = Cluster::new(from.world.moment(), fault);
        self.application.enters(&cluster);
        let mut run = Run {
            stage: self,
            operator: Operator::start(&cluster, &self.http).await,
            cluster,
            sight,
            keeps,
            told: Vec::new(),
            moments: Vec::new(),
            failure: None,
        };
        for (number, act) in script.iter().enumerate().skip(from.act) {
            Box::pin(run.act(number, act, from.begun && number == from.act)).await?;
        }
        Box::pin(run.rest(script.len())).await?;
        let Run { cluster, moments, operator, .. } = run;
        drop(operator);
        let (end, faults) = (cluster.world().moment(), cluster.faults().clone());
        match end.promises.broken.first() {
            Some(broken) => Err(format!("a broken promise: {broken}")),
            None => Ok(Course { moments, writes: faults.writes, reads: faults.reads, struck: faults.struck, end }),
        }
    }
}

struct Run<'a> {
    stage: &'a Stage,
    cluster: Arc<Cluster>,
    operator: Operator,
    sight: Sight,
    /// Whether anybody comes back to its moments.
    keeps: bool,
    /// Version of the store at the end of each turn.
    told: Vec<u64>,
    moments: Vec<Moment>,
    failure: Option<String>,
}

impl Run<'_> {
    async fn act(&mut self, number: usize, act: &Act, begun: bool) -> Result<(), String> {
        if !begun {
            self.keep(number, false);
            (act.edit)(&mut self.cluster.world());
        }
        for _ in 0..TURNS {
            self.keep(number, true);
            Box::pin(self.turn()).await;
            if (act.until)(&self.cluster.world()) {
                return Ok(());
            }
        }
        let ready = self.cluster.world().condition("Ready");
        let writes = self.cluster.faults().writes.clone();
        let last = &writes[writes.len().saturating_sub(5)..];
        let backup = self.cluster.world().backup().clone();
        Err(format!(
            "act {number} never ends: Ready is {ready:?}, the Backup's status is {backup}, the last requests were {last:?}, {:?}",
            self.failure
        ))
    }

    /// What is under way ends; then a reconcile costs nothing.
    async fn rest(&mut self, act: usize) -> Result<(), String> {
        self.sight = Sight::Clear;
        for _ in 0..REST {
            self.keep(act, true);
            let before = self.progress();
            Box::pin(self.turn()).await;
            if before == self.progress() {
                return Ok(());
            }
        }
        let writes = self.cluster.faults().writes.clone();
        Err(format!("it never comes to rest: {:?}", &writes[writes.len().saturating_sub(5)..]))
    }

    fn progress(&self) -> (u64, usize) {
        (self.cluster.world().store.version(), self.cluster.faults().writes.len())
    }

    async fn turn(&mut self) {
        self.see();
        self.operator.catch_up().await;
        match Box::pin(self.operator.reconcile()).await {
            Turn::Done(done) => self.failure = done.err(),
            Turn::Died => {
                self.operator = Operator::start(&self.cluster, &self.stage.http).await;
                self.told.clear();
            }
        }
        second();
        let mut world = self.cluster.world();
        world.perform();
        self.told.push(world.store.version());
    }

    /// Lets through what the operator is to see.
    fn see(&self) {
        let now = self.cluster.world().store.version();
        match self.sight {
            Sight::Clear => self.cluster.tell(now, true, |_| true),
            Sight::Behind(turns) => {
                // What was there at its start, it has seen.
                if let Some(version) = self.told.len().checked_sub(turns + 1).map(|index| self.told[index]) {
                    self.cluster.tell(version, true, |_| true);
                }
            }
            Sight::Blind { plural, turns } => {
                self.cluster.tell(now, true, |kind| kind != plural);
                if self.told.len() % turns == turns - 1 {
                    self.cluster.tell(now, false, |kind| kind == plural);
                }
            }
        }
    }

    fn keep(&mut self, act: usize, begun: bool) {
        if !self.keeps {
            return;
        }
        let world = self.cluster.world().moment();
        let faults = self.cluster.faults();
        self.moments.push(Moment { world, act, begun, writes: faults.writes.len(), reads: faults.reads });
    }
}
