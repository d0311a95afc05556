//! A new pod is held back until its application has answered for a while: a version that ends soon after its
//! start never gets a request.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

/// Shorter than any application takes to start again.
const LOOK: Duration = Duration::from_millis(250);

/// Holds a pod back once. That it has held out stands in a file, so that a container or a node that starts
/// again isn't held back another time.
#[derive(Debug)]
pub(crate) struct HoldOut {
    wanted: Duration,
    marker: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Away,
    Since(Instant),
    HeldOut,
}

impl HoldOut {
    /// `wanted` zero: nobody is held back.
    pub(crate) fn new(wanted: Duration, marker: Option<PathBuf>) -> Self {
        let held_out = wanted.is_zero() || marker.as_ref().is_some_and(|marker| marker.exists());
        Self { wanted, marker, state: Mutex::new(if held_out { State::HeldOut } else { State::Away }) }
    }

    /// How long the pod is still held back, if it is; `answers`: everything did just now.
    pub(crate) fn left(&self, answers: bool, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        let since = match *state {
            State::HeldOut => return None,
            _ if !answers => {
                *state = State::Away;
                return Some(self.wanted);
            }
            State::Away => now,
            State::Since(since) => since,
        };
        let left = self.wanted.saturating_sub(now.saturating_duration_since(since));
        if left.is_zero() {
            *state = State::HeldOut;
            self.mark();
            return None;
        }
        *state = State::Since(since);
        Some(left)
    }

    /// Begins anew whenever the application at `host` and `port` ends: between two probes it can end and start
    /// again unseen. Returns once the pod has held out.
    pub(crate) async fn notice_ends(self: Arc<Self>, host: String, port: u16) {
        loop {
            let now = *self.state();
            match now {
                State::HeldOut => return,
                State::Away => {}
                State::Since(_) if TcpStream::connect((host.as_str(), port)).await.is_ok() => {}
                State::Since(_) => self.ended(),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn ended(&self) {
        let mut state = self.state();
        if matches!(*state, State::Since(_)) {
            *state = State::Away;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) {
        let Some(marker) = &self.marker else { return };
        if let Err(error) = std::fs::write(marker, "") {
            tracing::warn!(marker = %marker.display(), %error, "a restart will be held back again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn what_ends_begins_anew() {
        let (hold, start) = (HoldOut::new(TEN, None), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(hold.left(false, at(0)), Some(TEN));
        assert_eq!(hold.left(true, at(2)), Some(TEN));
        assert_eq!(hold.left(true, at(8)), Some(Duration::from_secs(4)));
        assert_eq!(hold.left(false, at(10)), Some(TEN));
        assert_eq!(hold.left(true, at(12)), Some(TEN));
        assert_eq!(hold.left(true, at(22)), None);
        assert_eq!(hold.left(false, at(24)), None, "it held out once");
    }

    #[test]
    fn a_pod_is_held_back_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let hold = || HoldOut::new(TEN, Some(folder.path().join("held-out")));
        let (first, start) = (hold(), Instant::now());
        assert_eq!(first.left(true, start), Some(TEN));
        assert_eq!(hold().left(true, start), Some(TEN), "it has not held out yet");
        assert_eq!(first.left(true, start + TEN), None);
        assert_eq!(hold().left(true, start), None);
    }

    #[test]
    fn an_end_between_two_probes_is_noticed() {
        crate::block_on(async {
            let application = || async { tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port") };
            let (first, hold) = (application().await, Arc::new(HoldOut::new(TEN, None)));
            let (address, start) = (first.local_addr().expect("its address"), Instant::now());
            let noticing = tokio::spawn(Arc::clone(&hold).notice_ends(address.ip().to_string(), address.port()));
            assert_eq!(hold.left(true, start), Some(TEN));
            tokio::time::sleep(4 * LOOK).await;
            assert_eq!(hold.left(true, start + Duration::from_secs(9)), Some(Duration::from_secs(1)), "it is there");
            drop(first);
            tokio::time::sleep(4 * LOOK).await;
            assert_eq!(hold.left(true, start + TEN), Some(TEN), "it began anew");
            let _again = tokio::net::TcpListener::bind(address).await.expect("the same port");
            assert_eq!(hold.left(true, start + 2 * TEN), None);
            noticing.await.expect("it ends when the pod has held out");
        })
        .expect("a runtime");
    }

    #[test]
    fn without_a_time_nobody_is_held_back() {
        assert_eq!(HoldOut::new(Duration::ZERO, None).left(false, Instant::now()), None);
    }
}
