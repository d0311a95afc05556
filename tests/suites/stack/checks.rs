//! Many checks on one stack: each with its own name, time and message; one that fails does not
//! hide the others.

use std::fmt::Display;
use std::future::Future;
use std::io::Write;
use std::time::Instant;

use anyhow::{Result, bail};

/// Checks of one stack, in order.
pub(crate) struct Checks {
    of: &'static str,
    done: usize,
    failed: Vec<String>,
}

/// A line for the reader of the run. libtest keeps back what `println!` says in a test that passes.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Checks {
    pub(crate) fn new(of: &'static str) -> Self {
        Self { of, done: 0, failed: Vec::new() }
    }

    /// Carries out one check; what it returns is a remark for the reader. For whoever works on one of them: with
    /// `ODOOAI_CHECKS` only those whose name has that word.
    pub(crate) async fn check<T: Display>(&mut self, what: &str, work: impl Future<Output = Result<T>>) {
        if let Ok(word) = std::env::var("ODOOAI_CHECKS")
            && !what.contains(&word)
        {
            say(format_args!("  left out         {}: {what}", self.of));
            return;
        }
        let _ = self.need(what, work).await;
    }

    /// Like [`Checks::check`], for what the rest cannot do without.
    pub(crate) async fn need<T: Display>(&mut self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let outcome = Box::pin(work).await;
        let seconds = started.elapsed().as_secs_f64();
        self.done += 1;
        match &outcome {
            Ok(remark) => say(format_args!("  ok     {seconds:6.1} s  {}: {what}{}", self.of, after_dash(remark))),
            Err(error) => {
                say(format_args!("  FAILED {seconds:6.1} s  {}: {what}: {error:#}", self.of));
                self.failed.push(format!("{what}: {error:#}"));
            }
        }
        outcome
    }

    /// # Errors
    /// With the message of each check that failed.
    pub(crate) fn finish(self) -> Result<()> {
        if self.failed.is_empty() {
            return Ok(());
        }
        bail!("{} of {} checks failed:\n- {}", self.failed.len(), self.done, self.failed.join("\n- "))
    }
}

fn after_dash(remark: &impl Display) -> String {
    let text = remark.to_string();
    if text.is_empty() { text } else { format!(" – {text}") }
}
