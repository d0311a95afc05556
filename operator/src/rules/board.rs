//! The rules of each stack as they were listed last, shared by all its flags. Whoever has a stack's board open is alone
//! with its application; an application that fails is left alone for a while. It can be lost at any time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::OwnedMutexGuard;

use super::{Error, Rule};
use crate::context::Name;

/// First pause after a failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The same is not written again for so long.
const SETTLING: Duration = Duration::from_mins(1);

/// The boards of all stacks.
#[derive(Debug)]
pub struct Boards {
    all: Mutex<HashMap<Name, Shared>>,
    clock: fn() -> Instant,
}

/// What there is of one stack.
#[derive(Clone, Debug, Default)]
struct Shared {
    board: Arc<tokio::sync::Mutex<Board>>,
    /// The rules as they were listed last, for who doesn't wait.
    last: Arc<Mutex<Option<Arc<[Rule]>>>>,
}

impl Default for Boards {
    fn default() -> Self {
        Self::by(Instant::now)
    }
}

/// The board of one stack.
#[derive(Debug, Default)]
pub struct Board {
    rules: Arc<[Rule]>,
    listed: Option<Instant>,
    failure: Option<Failure>,
    /// What each flag wrote last, and when: what was listed before says nothing of it.
    wrote: HashMap<String, (Instant, Map<String, Value>)>,
}

#[derive(Debug)]
struct Failure {
    error: Error,
    in_a_row: u32,
    until: Instant,
}

impl Boards {
    /// Boards that go by `clock`: a test doesn't wait.
    #[must_use]
    pub fn by(clock: fn() -> Instant) -> Self {
        Self { all: Mutex::default(), clock }
    }

    /// Opens the board of a stack for one flag, when nobody else has it open.
    pub async fn open(&self, stack: &Name, flag: &str) -> Open {
        let Shared { board, last } = self.shared().entry(stack.clone()).or_default().clone();
        Open { board: board.lock_owned().await, last, flag: flag.to_owned(), clock: self.clock }
    }

    /// The rules as they were listed last; `None`: nobody asked yet.
    #[must_use]
    pub fn last(&self, stack: &Name) -> Option<Arc<[Rule]>> {
        let last = Arc::clone(&self.shared().get(stack)?.last);
        let last = last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// Forgets a stack that is gone.
    pub fn forget(&self, stack: &Name) {
        self.shared().remove(stack);
    }

    fn shared(&self) -> MutexGuard<'_, HashMap<Name, Shared>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A board that one flag has open.
#[derive(Debug)]
pub struct Open {
    board: OwnedMutexGuard<Board>,
    last: Arc<Mutex<Option<Arc<[Rule]>>>>,
    flag: String,
    clock: fn() -> Instant,
}

impl Open {
    /// The rules as they were at most `age` ago, and after this flag's last write; `list` is asked where they aren't
    /// known, and not while the application is left alone.
    ///
    /// # Errors
    /// What `list` said, now or before.
    pub async fn rules(
        &mut self,
        age: Duration,
        list: impl AsyncFnOnce() -> Result<Vec<Rule>, Error>,
    ) -> Result<Arc<[Rule]>, Error> {
        let now = (self.clock)();
        let board = &mut *self.board;
        let wrote = board.wrote.get(&self.flag);
        if board.listed.is_some_and(|listed| now < listed + age && wrote.is_none_or(|(wrote, _)| *wrote < listed)) {
            return Ok(Arc::clone(&board.rules));
        }
        if let Some(failure) = board.failure.as_ref().filter(|failure| now < failure.until) {
            return Err(failure.error.clone());
        }
        match list().await {
            Ok(rules) => {
                // Before it was asked: what is written while it answers comes after.
                (board.rules, board.listed, board.failure) = (rules.into(), Some(now), None);
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&board.rules));
                board.wrote.retain(|_, (wrote, _)| now < *wrote + SETTLING);
                Ok(Arc::clone(&board.rules))
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// This flag writes: what was listed before says nothing of its rule.
    pub fn writes(&mut self, body: &Map<String, Value>) {
        let now = (self.clock)();
        self.board.wrote.insert(self.flag.clone(), (now, body.clone()));
    }

    /// What this flag wrote is there: who changes it from now on is somebody else.
    pub fn settled(&mut self) {
        self.board.wrote.remove(&self.flag);
    }

    /// What this flag wrote not long ago.
    #[must_use]
    pub fn written(&self) -> Option<Map<String, Value>> {
        let (at, body) = self.board.wrote.get(&self.flag)?;
        ((self.clock)() < *at + SETTLING).then(|| body.clone())
    }

    /// The application didn't do what it should: it is left alone for a while.
    pub fn failed(&mut self, error: &Error) {
        let in_a_row = self.board.failure.as_ref().map_or(1, |failure| failure.in_a_row.saturating_add(1));
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(in_a_row - 1)).min(LONGEST_PAUSE);
        let until = (self.clock)() + pause;
        self.board.failure = Some(Failure { error: error.clone(), in_a_row, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static PASSED: Cell<u64> = const { Cell::new(0) };
        static ASKED: Cell<u32> = const { Cell::new(0) };
    }

    fn clock() -> Instant {
        use std::sync::LazyLock;
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        *BEGAN + Duration::from_secs(PASSED.get())
    }

    fn later(seconds: u64) {
        PASSED.set(PASSED.get() + seconds);
    }

    async fn look(boards: &Boards, flag: &str, answer: Result<(), Error>) -> Result<(), Error> {
        let mut open = boards.open(&("ns".to_owned(), "stack".to_owned()), flag).await;
        let list = async || {
            ASKED.set(ASKED.get() + 1);
            answer.map(|()| Vec::new())
        };
        open.rules(Duration::from_mins(5), list).await.map(drop)
    }

    #[tokio::test]
    async fn one_list_serves_all_flags_and_what_one_wrote_is_read_anew_for_it() {
        let boards = Boards::by(clock);
        for flag in ["a", "b", "c"] {
            look(&boards, flag, Ok(())).await.expect("rules");
        }
        assert_eq!(ASKED.get(), 1);
        boards.open(&("ns".to_owned(), "stack".to_owned()), "a").await.writes(&Map::new());
        look(&boards, "b", Ok(())).await.expect("rules");
        assert_eq!(ASKED.get(), 1);
        later(1);
        for flag in ["a", "b", "a"] {
            look(&boards, flag, Ok(())).await.expect("rules");
        }
        assert_eq!(ASKED.get(), 2);
        later(300);
        look(&boards, "c", Ok(())).await.expect("rules");
        assert_eq!(ASKED.get(), 3);
    }

    #[tokio::test]
    async fn an_application_that_fails_is_left_alone_longer_and_longer() {
        let boards = Boards::by(clock);
        let failing = || Err(Error::NoAnswer("none".to_owned()));
        for seconds in [5, 10, 20, 40, 60, 60] {
            let before = ASKED.get();
            for flag in ["a", "b"] {
                look(&boards, flag, failing()).await.expect_err("none");
            }
            assert_eq!(ASKED.get(), before + 1);
            later(seconds - 1);
            look(&boards, "c", Ok(())).await.expect_err("none yet");
            later(1);
        }
        look(&boards, "c", Ok(())).await.expect("it is back");
    }
}
