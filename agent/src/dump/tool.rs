//! PostgreSQL's own programs: `pg_dump` writes the archive to us, `pg_restore` reads it back from us.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::BufReader;
use tokio::process::{Child, Command};

use crate::catalogue::manifest::Compression;
use crate::catalogue::place::Sink;
use crate::dump::archive::{self, LEVEL, Stored};
use crate::dump::error::BackupError;
use crate::migrate::child::follow;
use crate::postgres::Login;
use crate::redact::Redactor;

/// A stored dump, from its beginning.
pub(crate) type Source = Box<dyn Read + Send>;

/// How a backup's sessions show themselves to the server.
pub(crate) const APPLICATION_NAME: &str = "odooai-backup";
const DUMP: &str = "pg_dump";
const RESTORE: &str = "pg_restore";
const PSQL: &str = "psql";
/// Of a dump that is SQL: all of it or an error.
const PLAIN: [&str; 6] = ["-X", "-q", "--no-password", "-v", "ON_ERROR_STOP=1", "--single-transaction"];
/// The first whose `pg_dump` knows zstd, where it was built with it.
const HAS_ZSTD: i32 = 16;
/// What it says where it wasn't.
const WITHOUT_ZSTD: &str = "does not support compression with zstd";

/// The programs, and as whom they log in.
#[derive(Debug)]
pub(crate) struct Tools<'a> {
    environment: Vec<(&'static str, String)>,
    /// `pg_restore` wants it as an argument; it is no secret.
    database: String,
    lock_seconds: u64,
    redactor: &'a Redactor,
}

impl<'a> Tools<'a> {
    /// Nothing of a login is an argument, which everybody on the node could read.
    pub(crate) fn new(login: &Login, lock_seconds: u64, redactor: &'a Redactor) -> Self {
        let mut environment = vec![
            ("PGHOST", login.host.clone()),
            ("PGPORT", login.port.to_string()),
            ("PGUSER", login.user.clone()),
            ("PGDATABASE", login.database.clone()),
            ("PGAPPNAME", APPLICATION_NAME.to_owned()),
            ("LC_ALL", "C".to_owned()),
        ];
        environment.extend(login.tls.environment());
        if let Some(password) = &login.password {
            environment.push(("PGPASSWORD", password.expose().to_owned()));
        }
        Self { environment, database: login.database.clone(), lock_seconds, redactor }
    }

    /// What `pg_dump --version` says, and the major version in it.
    ///
    /// # Errors
    /// There is no such program, or it says something else.
    pub(crate) async fn version(&self) -> Result<(String, i32), BackupError> {
        let failed = |source| BackupError::Spawn { program: DUMP, source };
        let output = self.command(DUMP, &["--version"]).output().await.map_err(failed)?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let number = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        let major = number.and_then(|number| number.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok());
        let major =
            major.ok_or_else(|| BackupError::failed("ImageInvalid", format!("{DUMP} --version says {text:?}")))?;
        Ok((text, major))
    }

    /// Dumps a snapshot into `sink`; the archive is compressed by whoever can.
    ///
    /// # Errors
    /// Of the program or the sink.
    pub(crate) async fn dump(
        &self,
        snapshot: &str,
        major: i32,
        sink: impl Fn() -> Result<Sink, BackupError>,
    ) -> Result<(Stored, Compression), BackupError> {
        if major >= HAS_ZSTD {
            match self.dump_as(snapshot, Compression::Archive, sink()?).await {
                Err(BackupError::Tool { tail, .. }) if tail.contains(WITHOUT_ZSTD) => {}
                other => return Ok((other?, Compression::Archive)),
            }
        }
        let stored = self.dump_as(snapshot, Compression::Zstd, sink()?).await?;
        Ok((stored, Compression::Zstd))
    }

    async fn dump_as(&self, snapshot: &str, compression: Compression, mut sink: Sink) -> Result<Stored, BackupError> {
        let inside = match compression {
            Compression::Archive => format!("--compress=zstd:{LEVEL}"),
            Compression::Zstd => "--compress=0".to_owned(),
        };
        let (snapshot, locks) =
            (format!("--snapshot={snapshot}"), format!("--lock-wait-timeout={}s", self.lock_seconds));
        let arguments = ["--format=custom", "--no-password", &inside, &snapshot, &locks];
        let mut child = self.spawn(DUMP, &arguments, Stdio::null(), Stdio::piped())?;
        let mut source = File::from(pipe(child.stdout.take().expect("stdout is piped").into_owned_fd(), DUMP)?);
        let storing = tokio::task::spawn_blocking(move || {
            let stored = archive::store(&mut source, &mut sink, compression)?;
            sink.finish().map(|()| stored)
        });
        let (status, tail) = self.finish(DUMP, &mut child).await?;
        let stored = storing.await.map_err(std::io::Error::other).flatten();
        // A full volume ends the program too, by the pipe that is closed.
        let stored = stored.map_err(BackupError::storage("store the dump"))?;
        success(DUMP, status, tail)?;
        Ok(stored)
    }

    /// Lets `pg_restore` read all of a stored archive.
    ///
    /// # Errors
    /// It can't, or the storage can't.
    pub(crate) async fn read_back(&self, file: Source, compression: Compression) -> Result<Stored, BackupError> {
        // All of it is made SQL again, and thrown away.
        let feed = move |sink: &mut File| archive::read_back(file, sink, compression);
        self.pg_restore(&["--file=/dev/null"], feed).await
    }

    /// Whether psql can be told to run no command of its own: since August of 2025.
    ///
    /// # Errors
    /// There is no such program.
    pub(crate) async fn can_restrict(&self) -> Result<bool, BackupError> {
        let failed = |source| BackupError::Spawn { program: PSQL, source };
        let output = self.command(PSQL, &["--help=commands"]).output().await.map_err(failed)?;
        Ok(String::from_utf8_lossy(&output.stdout).contains("\\restrict "))
    }

    /// Lets psql run what `feed` writes in the login's database: everything, or it stops at the first error. `key`: it
    /// runs no command of its own until it is told this, where it can be told so at all. What `feed` brought, and how
    /// psql ended.
    ///
    /// # Errors
    /// It can't be run.
    pub(crate) async fn run_sql<T: Send + 'static>(
        &self,
        key: Option<&str>,
        feed: impl FnOnce(&mut File) -> T + Send + 'static,
    ) -> Result<(T, Result<(), BackupError>), BackupError> {
        let restrict = key.map(|key| format!("--command=\\restrict {key}"));
        let arguments: Vec<_> = PLAIN.into_iter().chain(restrict.as_deref()).chain(["--file=-"]).collect();
        let mut child = self.spawn(PSQL, &arguments, Stdio::piped(), Stdio::null())?;
        let mut sink = File::from(pipe(child.stdin.take().expect("stdin is piped").into_owned_fd(), PSQL)?);
        let feeding = tokio::task::spawn_blocking(move || feed(&mut sink));
        let (status, tail) = self.finish(PSQL, &mut child).await?;
        let failed = |source| BackupError::Spawn { program: PSQL, source };
        let brought = feeding.await.map_err(std::io::Error::other).map_err(failed)?;
        Ok((brought, success(PSQL, status, tail)))
    }

    pub(super) fn dbname_argument(&self) -> String {
        format!("--dbname={}", self.database)
    }

    /// Lets `pg_restore` read what `feed` writes.
    pub(super) async fn pg_restore(
        &self,
        arguments: &[&str],
        feed: impl FnOnce(&mut File) -> std::io::Result<Stored> + Send + 'static,
    ) -> Result<Stored, BackupError> {
        let mut child = self.spawn(RESTORE, arguments, Stdio::piped(), Stdio::null())?;
        let mut sink = File::from(pipe(child.stdin.take().expect("stdin is piped").into_owned_fd(), RESTORE)?);
        let reading = archive::in_thread(move || feed(&mut sink));
        let (ended, read) = tokio::join!(self.finish(RESTORE, &mut child), reading);
        let (status, tail) = ended?;
        success(RESTORE, status, tail)?;
        read.map_err(BackupError::storage("read the dump back"))
    }

    /// Lets `pg_restore` read a file, for which it goes back and forth in it.
    pub(super) async fn pg_restore_file(&self, arguments: &[&str], file: &Path) -> Result<(), BackupError> {
        let mut command = self.command(RESTORE, arguments);
        command.arg(file);
        let mut child = Self::start(RESTORE, command, Stdio::null(), Stdio::null())?;
        let (status, tail) = self.finish(RESTORE, &mut child).await?;
        success(RESTORE, status, tail)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value))).kill_on_drop(true);
        command
    }

    fn spawn(
        &self,
        program: &'static str,
        arguments: &[&str],
        stdin: Stdio,
        stdout: Stdio,
    ) -> Result<Child, BackupError> {
        Self::start(program, self.command(program, arguments), stdin, stdout)
    }

    fn start(program: &'static str, mut command: Command, stdin: Stdio, stdout: Stdio) -> Result<Child, BackupError> {
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        command.spawn().map_err(|source| BackupError::Spawn { program, source })
    }

    /// Waits for its end, and for its last words.
    async fn finish(
        &self,
        program: &'static str,
        child: &mut Child,
    ) -> Result<(ExitStatus, VecDeque<String>), BackupError> {
        let failed = |source| BackupError::Spawn { program, source };
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let said = follow(self.redactor, false, program, stderr).await.map_err(failed)?;
        Ok((child.wait().await.map_err(failed)?, said.tail))
    }
}

fn pipe(fd: std::io::Result<std::os::fd::OwnedFd>, program: &'static str) -> Result<std::os::fd::OwnedFd, BackupError> {
    fd.map_err(|source| BackupError::Spawn { program, source })
}

fn success(program: &'static str, status: ExitStatus, mut tail: VecDeque<String>) -> Result<(), BackupError> {
    if status.success() {
        return Ok(());
    }
    let tail = tail.make_contiguous().join("; ");
    Err(BackupError::Tool { program, status: status.to_string(), tail })
}
