//! A new pod is held back until its application has answered for a while: a version that ends soon after its
//! start never gets a request.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

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
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
    fn without_a_time_nobody_is_held_back() {
        assert_eq!(HoldOut::new(Duration::ZERO, None).left(false, Instant::now()), None);
    }
}
