//! A throw-away PostgreSQL in a folder: nobody else gets in, nothing of it survives, and it needn't.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use postgres_protocol::escape::{escape_identifier, escape_literal};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::dump::error::{BackupError, Step as _};
use crate::postgres::{self, Login, Session, bounded};
use crate::redact::Redactor;
use crate::sslmode::{DatabaseTls, SslMode};

const INITDB: &str = "initdb";
const POSTGRES: &str = "postgres";
const LOG: &str = "log";
const USER: &str = "postgres";
/// For its first answer: a slow disk writes forty megabytes before.
const START: Duration = Duration::from_mins(2);
const ATTEMPT: Duration = Duration::from_secs(5);
/// Nothing is kept, so nothing is flushed; memory within the Job's limit.
const SETTINGS: [&str; 13] = [
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=1GB",
    "autovacuum=off",
    "jit=off",
    "shared_buffers=64MB",
    "maintenance_work_mem=64MB",
    "max_connections=10",
    // A schema of thousands of tables in one transaction of the census.
    "max_locks_per_transaction=1024",
];

/// The server; it ends with the value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Makes one in an empty folder and starts it.
    ///
    /// # Errors
    /// The image has no server, the folder can't be written, or it doesn't answer.
    pub(crate) async fn start(folder: &Path, redactor: &Redactor) -> Result<Self, BackupError> {
        let data = folder.join("data");
        let failed = |program| move |source| BackupError::Spawn { program, source };
        let mut initdb = Command::new(INITDB);
        initdb.arg("--pgdata").arg(&data).args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--no-locale"]);
        let output =
            initdb.arg(format!("--username={USER}")).kill_on_drop(true).output().await.map_err(failed(INITDB))?;
        if !output.status.success() {
            let tail = redactor.redact(String::from_utf8_lossy(&output.stderr).trim());
            return Err(BackupError::Tool { program: INITDB, status: output.status.to_string(), tail });
        }
        let mut command = Command::new(POSTGRES);
        command.arg("-D").arg(&data).arg("-k").arg(folder);
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        let log = File::create(folder.join(LOG)).map_err(BackupError::storage("make the server's log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let child = command.spawn().map_err(failed(POSTGRES))?;
        let mut server = Self { child, folder: folder.to_owned() };
        server.answers(redactor).await?;
        Ok(server)
    }

    /// A login to one of its databases, by its socket.
    pub(crate) fn login(&self, database: &str) -> Login {
        Login {
            host: self.folder.display().to_string(),
            port: 5432,
            user: USER.to_owned(),
            password: None,
            database: database.to_owned(),
            tls: DatabaseTls { mode: SslMode::Disable, ca_file: PathBuf::new() },
            options: "",
        }
    }

    /// A session in one of its databases.
    ///
    /// # Errors
    /// What it said.
    pub(crate) async fn session(&self, database: &str) -> Result<Session, BackupError> {
        postgres::connect(&self.login(database), ATTEMPT).await.step("log in to the throw-away server")
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// What it said.
    pub(crate) async fn create(&self, database: &str, encoding: &str) -> Result<(), BackupError> {
        const LIMIT: Duration = Duration::from_mins(1);
        let encoding = escape_literal(encoding);
        let create = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING {encoding}", escape_identifier(database));
        let session = self.session(USER).await?;
        bounded(LIMIT, session.batch_execute(&create)).await.step("make the database")
    }

    async fn answers(&mut self, redactor: &Redactor) -> Result<(), BackupError> {
        let began = Instant::now();
        loop {
            let error = match self.session("postgres").await {
                Ok(_session) => return Ok(()),
                Err(error) => error,
            };
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || began.elapsed() > START {
                let how = ended.map_or_else(|| error.to_string(), |status| status.to_string());
                let log = std::fs::read_to_string(self.folder.join(LOG)).unwrap_or_default();
                let last = redactor.redact(log.lines().last().unwrap_or_default());
                let message = format!("the throw-away server doesn't start ({how}): {last}");
                return Err(BackupError::failed("ServerNotStarted", message));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends its children; by SIGKILL they would be left for a moment.
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            let _gone = kill_process(pid, Signal::QUIT);
        }
    }
}
