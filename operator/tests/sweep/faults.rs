//! Counts the requests that change something, and says which of them is struck, and how.

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// The operator dies, before the request arrives or before its answer does.
    Crash { stored: bool },
    /// The connection breaks, before or after; the operator lives on with what it remembers.
    Lose { stored: bool },
    /// Somebody replaces the object by one of their own just before.
    Replace,
}

/// A strike at one request. What an operator tells of what it remembers may come later from one that has just started: the
/// number of all requests would say little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) strike: Strike,
    /// Its line.
    pub(crate) what: String,
    /// How many of the same line come before it.
    pub(crate) after: usize,
}

/// The log of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    fault: Option<Fault>,
    /// The requests that changed something, one line each.
    pub(crate) writes: Vec<String>,
    /// How many only looked.
    pub(crate) reads: usize,
    /// The request that was struck.
    pub(crate) struck: Option<String>,
}

impl Faults {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        Self { fault, ..Self::default() }
    }

    pub(crate) fn read(&mut self) {
        self.reads += 1;
    }

    /// One more request.
    pub(crate) fn count(&mut self, what: &str) -> Option<Strike> {
        let before = self.writes.iter().filter(|it| *it == what).count();
        self.writes.push(what.to_owned());
        let strike = self.fault.as_ref().filter(|fault| fault.what == what && fault.after == before)?.strike;
        self.struck = Some(what.to_owned());
        Some(strike)
    }
}
