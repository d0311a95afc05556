//! The live database and those who write into it, while something must not touch them.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::look::{contents, databases};
use crate::migrations::look::incarnation;
use crate::poller::{Count, Poller};
use crate::room::{Room, STACK};
use crate::steady::starts;

/// How all of it was.
pub(super) struct Untouched<'a> {
    room: &'a Room,
    poller: Poller<'a>,
    count: Count,
    databases: Vec<String>,
    live: (String, String),
    writers: BTreeMap<String, (String, i32)>,
}

impl<'a> Untouched<'a> {
    /// As it is now; from now on the API is asked all the time.
    pub(super) async fn begin(room: &'a Room) -> Result<Self> {
        let (databases, live, writers) = (databases(room).await?, live(room).await?, writers(room).await?);
        ensure!(writers.len() >= 3, "the writers are {writers:?}");
        let poller = Poller::start(room).await?;
        let count = poller.count().await?;
        Ok(Self { room, poller, count, databases, live, writers })
    }

    /// The server has the same databases, the live one the same rows, and no writer has ended.
    pub(super) async fn holds(&self) -> Result<()> {
        let now = databases(self.room).await?;
        ensure!(now == self.databases, "there is {now:?} instead of {:?}", self.databases);
        let now = live(self.room).await?;
        ensure!(now == self.live, "the live database is {now:?} and was {:?}", self.live);
        let now = writers(self.room).await?;
        ensure!(now == self.writers, "the writers are {now:?} and were {:?}", self.writers);
        Ok(())
    }

    /// The same, and meanwhile the API has always answered.
    pub(super) async fn ends(self) -> Result<String> {
        self.holds().await?;
        self.poller.never_failed(&self.count).await
    }
}

/// Which database it is, and what is in it.
async fn live(room: &Room) -> Result<(String, String)> {
    Ok((incarnation(room).await?, contents(room, "odoo_ai").await?))
}

/// Their pods with the number of restarts.
async fn writers(room: &Room) -> Result<BTreeMap<String, (String, i32)>> {
    let writers = ["ai-service", "worker", "beat"].map(|it| format!("{STACK}-{it}-"));
    let mut all = starts(room).await?;
    all.retain(|pod, _| writers.iter().any(|writer| pod.starts_with(writer)));
    Ok(all)
}
