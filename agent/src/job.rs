//! What the commands of Jobs share: SIGTERM ends them, servers that are away are waited
//! for, and whatever happens there is a report.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::config::Env;
use crate::redact::Redactor;
use crate::report::{Outcome, Report};
use crate::signals::{TERMINATED, Termination};
use crate::telemetry;

/// Time for one login.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(5);

/// Servers that are away are waited for this long; the Job's next attempt goes on.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A success: one word for programs, one sentence for people.
pub(crate) type Success = (&'static str, String);

/// Why a step failed; its text is for people.
pub(crate) trait Failure: Display {
    /// One word for programs.
    fn reason(&self) -> &'static str;

    /// Whether the Job may try again.
    fn outcome(&self) -> Outcome;

    /// Whether the same attempt may work in a moment.
    fn is_transient(&self) -> bool;
}

/// A command that ended, before its report is published.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Without the facts that only the command knows.
    pub(crate) report: Report,
    terminated: bool,
}

impl Ended {
    /// Publishes the report; the exit code of the process.
    pub(crate) fn publish(self, env: &Env, redactor: &Redactor) -> ExitCode {
        let code = self.exit_code();
        self.report.publish(env, redactor);
        code
    }

    /// Tells a person at a terminal how it ended; the exit code of the process.
    pub(crate) fn print(self, redactor: &Redactor) -> ExitCode {
        telemetry::print_line(&redactor.redact(&self.report.message));
        self.exit_code()
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.terminated { TERMINATED } else { self.report.result.exit_code() })
    }
}

/// Runs a command until it ends or SIGTERM comes.
pub(crate) fn run<E: Failure>(command: &'static str, work: impl Future<Output = Result<Success, E>>) -> Ended {
    let ended = crate::block_on(async {
        let mut termination = Termination::listen()?;
        Ok(tokio::select! {
            biased;
            () = termination.received() => None,
            result = work => Some(result),
        })
    })
    .flatten();
    let terminated = matches!(ended, Ok(None));
    let report = match ended {
        Ok(Some(Ok((reason, message)))) => Report::new(command, Outcome::Succeeded, reason, message),
        Ok(Some(Err(error))) => Report::new(command, error.outcome(), error.reason(), error.to_string()),
        Ok(None) => {
            let message = "terminated before the end; the next attempt goes on from what the servers hold";
            Report::new(command, Outcome::Failed, "Terminated", message)
        }
        Err(error) => Report::new(command, Outcome::Failed, "Internal", format!("runtime: {error}")),
    };
    Ended { report, terminated }
}

/// Tries again while the server is away, until the deadline.
///
/// # Errors
/// The last attempt's.
pub(crate) async fn patiently<T, E: Failure>(
    deadline: Instant,
    attempt: impl AsyncFn() -> Result<T, E>,
) -> Result<T, E> {
    loop {
        match attempt().await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tracing::info!("waiting: {error}");
                tokio::time::sleep(Duration::from_secs_f64(1.4 + 1.2 * fastrand::f64())).await;
            }
            result => return result,
        }
    }
}
