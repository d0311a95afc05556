//! The application's own Python, run as child processes.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use crate::config::Env;
use crate::migrate::error::MigrateError;
use crate::postgres;
use crate::redact::{DetailFilter, Redactor};
use crate::secret::Secret;
use crate::sslmode::DatabaseTls;
use crate::telemetry;

/// How the children's sessions show themselves to the server.
pub(crate) const APPLICATION_NAME: &str = "odooai-migrate";

/// The first PostgreSQL that looks after its clients while it works.
const HAS_CONNECTION_CHECK: i32 = 140_000;

/// Lines kept for a message.
const TAIL: usize = 12;
/// Longer lines are cut.
const LONGEST_LINE: u64 = 16 * 1024;
/// Begins a line that a child prints for us.
pub(crate) const MARK: &str = "ODOOAI-RESULT ";

/// How to run the image's Python in the working directory.
#[derive(Debug)]
pub(crate) struct Python<'a> {
    program: &'static str,
    environment: Vec<(&'static str, String)>,
    redactor: &'a Redactor,
    is_quiet: bool,
}

/// A child that ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its last lines, redacted.
    pub(crate) tail: String,
    /// What followed [`MARK`] on its last such line.
    pub(crate) result: Option<String>,
    /// The same of every such line.
    pub(crate) results: Vec<String>,
}

impl Finished {
    /// Exit code or signal, for people.
    pub(crate) fn status_text(&self) -> String {
        self.status.to_string()
    }

    /// # Errors
    /// When the child did not exit with 0.
    pub(crate) fn success(self, step: &'static str) -> Result<(), MigrateError> {
        if self.status.success() {
            return Ok(());
        }
        Err(MigrateError::Child { step, status: self.status_text(), tail: self.tail })
    }
}

impl<'a> Python<'a> {
    /// `python`, or `python3` where only that exists. `server_version` is PostgreSQL's
    /// `server_version_num`.
    pub(crate) fn new(
        env: &Env,
        tls: &DatabaseTls,
        password: Option<&Secret>,
        server_version: i32,
        redactor: &'a Redactor,
    ) -> Self {
        let path = env.get("PATH").unwrap_or_default();
        let has = |program: &str| path.split(':').any(|folder| Path::new(folder).join(program).is_file());
        let program = if !has("python") && has("python3") { "python3" } else { "python" };
        let mut options = format!("{} {}", env.get("PGOPTIONS").unwrap_or_default(), postgres::LOCK_TIMEOUT);
        if server_version >= HAS_CONNECTION_CHECK {
            // Without it a statement whose client was killed goes on, with its locks.
            options.push_str(" -c client_connection_check_interval=2s");
        }
        let mut environment = vec![
            ("PGAPPNAME", APPLICATION_NAME.to_owned()),
            ("PGOPTIONS", options.trim().to_owned()),
            ("PYTHONUNBUFFERED", "1".to_owned()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ];
        environment.extend(tls.environment());
        if let Some(password) = password {
            environment.push(("PGPASSWORD", password.expose().to_owned()));
        }
        Self { program, environment, redactor, is_quiet: false }
    }

    /// The same without its output: what Alembic says while it prints SQL sounds as if it ran it.
    pub(crate) fn quiet(self) -> Self {
        Self { is_quiet: true, ..self }
    }

    /// Runs Python with these arguments; its redacted output goes to stdout, each
    /// line after `label`, unless it is quiet. The child dies with this future.
    ///
    /// # Errors
    /// When it cannot be started or watched; how it ended is no error.
    pub(crate) async fn run(&self, label: &str, arguments: &[&str]) -> Result<Finished, MigrateError> {
        let failed = |source| MigrateError::Spawn { program: self.program.to_owned(), source };
        let mut child = Command::new(self.program)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env_remove("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (out, err) = futures::try_join!(
            follow(self.redactor, self.is_quiet, label, BufReader::new(stdout)),
            follow(self.redactor, self.is_quiet, label, BufReader::new(stderr)),
        )
        .map_err(failed)?;
        let status = child.wait().await.map_err(failed)?;
        // What went wrong is on stderr, so its lines come last.
        let mut tail: VecDeque<_> = out.tail.into_iter().chain(err.tail).collect();
        while tail.len() > TAIL {
            tail.pop_front();
        }
        let tail = tail.make_contiguous().join("\n");
        Ok(Finished { status, tail, result: out.results.last().cloned(), results: out.results })
    }
}

/// Follows a child's lines to their end: redacted, they go to stdout after `label`, unless it is quiet.
///
/// # Errors
/// The stream's.
pub(crate) async fn follow(
    redactor: &Redactor,
    is_quiet: bool,
    label: &str,
    mut stream: impl AsyncBufRead + Unpin,
) -> std::io::Result<Followed> {
    let mut filter = DetailFilter::default();
    let mut followed = Followed::default();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let read = (&mut stream).take(LONGEST_LINE).read_until(b'\n', &mut buffer).await?;
        if read == 0 {
            return Ok(followed);
        }
        let line = String::from_utf8_lossy(&buffer);
        let line = line.trim_end();
        if let Some(result) = line.strip_prefix(MARK) {
            followed.results.push(result.to_owned());
            continue;
        }
        // The filter must see empty lines: they end what it drops.
        if !filter.keeps(line) || line.is_empty() {
            continue;
        }
        let line = redactor.redact(line);
        if !is_quiet {
            telemetry::print_line(&format!("{label}: {line}"));
        }
        followed.tail.push_back(line);
        if followed.tail.len() > TAIL {
            followed.tail.pop_front();
        }
    }
}

/// What a child said.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// The last lines.
    pub(crate) tail: VecDeque<String>,
    /// What followed [`MARK`].
    results: Vec<String>,
}
