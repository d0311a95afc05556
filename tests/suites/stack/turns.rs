//! Rooms side by side, and turns where one of them would disturb what another counts.

use std::future::Future;
use std::sync::Arc;

use anyhow::Result;
use odoo_ai_tests::{Cluster, with_namespace};
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::operator;
use crate::room::Room;

/// Fair: who waits to be alone comes before those who ask later.
static TURN: RwLock<()> = RwLock::const_new(());

/// What is held is only kept until it is dropped.
enum Held {
    Busy { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// The turn of one room.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<Option<Held>>>);

impl Turns {
    /// From now on the operator may have work with this room, and with others.
    pub(crate) async fn busy(&self) {
        let mut held = self.0.lock().await;
        *held = None;
        *held = Some(Held::Busy { _guard: TURN.read().await });
    }

    /// From now on no other room gives the operator work: for its counters, its end, a reboot.
    pub(crate) async fn alone(&self) {
        let mut held = self.0.lock().await;
        *held = None;
        *held = Some(Held::Alone { _guard: TURN.write().await });
    }
}

/// Runs a test in a room of its own, whose end is part of its last turn.
pub(crate) async fn with_room<F, Fut>(name: &str, test: F) -> Result<()>
where
    F: FnOnce(&'static Cluster, Room, Turns) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let cluster = operator::cluster().await?;
    let turns = Turns::default();
    let mine = turns.clone();
    let work = with_namespace(name, |client, ns| async move {
        let room = Room::new(client, ns).await?;
        Box::pin(test(cluster, room.clone(), mine)).await?;
        // A namespace with pods in it takes the longer to go, the longer their grace.
        room.clear().await
    });
    let outcome = Box::pin(work).await;
    drop(turns);
    outcome
}
