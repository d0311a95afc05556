//! `agent run`: waits, sets the credentials, becomes the process.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use thiserror::Error;

use crate::config::{self, ConfigError, Database, Env, Redis, Schema};
use crate::redact::Redactor;
use crate::redis_url::{RedisUrl, UrlError};
use crate::secret::{Secret, SecretError};
use crate::signals::{TERMINATED, Termination};
use crate::sslmode::DatabaseTls;
use crate::wait::{self, Need, Targets};

/// Exit code when the command exists but cannot be started, as shells count.
const CANNOT_START: u8 = 126;
/// Exit code when there is no such command.
const NOT_FOUND: u8 = 127;

/// Why the process was not started.
#[derive(Debug, Error)]
enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("runtime: {0}")]
    Runtime(#[from] std::io::Error),
    #[error("terminated while waiting")]
    Terminated,
    #[error("cannot start {program}: {source}")]
    Exec { program: String, source: std::io::Error },
}

impl RunError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Terminated => TERMINATED,
            Self::Exec { source, .. } if source.kind() == std::io::ErrorKind::NotFound => NOT_FOUND,
            Self::Exec { .. } => CANNOT_START,
            Self::Config(_) | Self::Secret(_) | Self::Url(_) | Self::Runtime(_) => 1,
        }
    }
}

/// Runs the command; returns only when it could not be started.
pub(crate) fn main(env: &Env, redactor: &Redactor, needs: &[Need], command: &[String]) -> ExitCode {
    let error = match run(env, redactor, needs, command) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let code = error.exit_code();
    if matches!(error, RunError::Terminated) {
        tracing::info!("{error}");
    } else {
        tracing::error!(exit_code = code, "{error}");
    }
    ExitCode::from(code)
}

fn run(
    env: &Env,
    redactor: &Redactor,
    needs: &[Need],
    command: &[String],
) -> Result<std::convert::Infallible, RunError> {
    let needs_database = needs.contains(&Need::Database) || needs.contains(&Need::Schema);
    let targets = Targets {
        database: needs_database.then(|| Database::from_env(env)).transpose()?,
        schema: needs.contains(&Need::Schema).then(|| Schema::from_env(env)).transpose()?,
        redis: needs.contains(&Need::Redis).then(|| Redis::from_env(env)),
    };
    crate::block_on(async {
        let mut termination = Termination::listen()?;
        tokio::select! {
            biased;
            () = termination.received() => Err(RunError::Terminated),
            () = wait::until_met(&targets, redactor) => Ok(()),
        }?;
        let credentials = credentials(env, redactor)?;
        // A signal that came meanwhile is still in the queue; exec would forget it.
        tokio::select! {
            biased;
            () = termination.received() => Err(RunError::Terminated),
            () = std::future::ready(()) => Err(exec(command, &credentials)),
        }
    })?
}

/// Replaces this process; returns why it could not.
fn exec(command: &[String], credentials: &[(&'static str, String)]) -> RunError {
    let (program, arguments) = command.split_first().expect("clap requires at least one word of the command");
    let source =
        Command::new(program).args(arguments).envs(credentials.iter().map(|(name, value)| (name, value))).exec();
    RunError::Exec { program: program.clone(), source }
}

/// The variables that log the process in, with what the files hold now. Each is set
/// where the pod has what it needs, whether or not it was waited for.
fn credentials(env: &Env, redactor: &Redactor) -> Result<Vec<(&'static str, String)>, RunError> {
    let mut variables = DatabaseTls::from_env(env)?.environment();
    if let Some(password) = Secret::read_known(&config::database_password_file(env), redactor)? {
        variables.push(("PGPASSWORD", password.expose().to_owned()));
    }
    if let Some(url) = RedisUrl::read_if_set(&Redis::from_env(env), redactor)? {
        variables.push(("REDIS_URL", url.for_application()));
    }
    Ok(variables)
}
