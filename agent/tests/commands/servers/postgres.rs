//! PostgreSQL.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::{PASSWORD, block_on, eventually, free_port};
use crate::certificates::Issued;

/// A PostgreSQL whose superuser `postgres` has [`PASSWORD`] and which logs every statement.
#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) port: u16,
    folder: TempDir,
    process: Child,
    databases: AtomicU32,
}

static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

impl Postgres {
    /// The one that the tests share, each with databases of its own; the last user
    /// stops it. `None` where this machine has none.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::start(None)?);
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    /// One of a test's own that offers TLS. Its role `plain` is let in without it too, others are not.
    pub(crate) fn start_tls(certificate: &Issued) -> Option<Self> {
        Self::start(Some(certificate))
    }

    /// One of a test's own without TLS.
    pub(crate) fn start_plain() -> Option<Self> {
        Self::start(None)
    }

    fn start(certificate: Option<&Issued>) -> Option<Self> {
        let binaries = newest_binaries()?;
        let folder = TempDir::new().expect("a temporary folder");
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), mode).expect("our folder");
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("written");
        let data = folder.path().join("data");
        let initdb = as_server_user(&binaries.join("initdb"))?
            .arg("--pgdata")
            .arg(&data)
            .args(["--no-sync", "--username=postgres", "--auth=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C"])
            .arg("--pwfile")
            .arg(&password)
            .output()
            .expect("initdb can be run");
        assert!(initdb.status.success(), "{initdb:?}");
        if let Some(certificate) = certificate {
            let (_, key) = certificate.store(&data);
            let (user, group) = server_user()?;
            std::os::unix::fs::chown(&key, Some(user), Some(group)).expect("our file");
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("our file");
            let rules = "hostssl all all all scram-sha-256\nhostnossl all postgres,plain all scram-sha-256\n";
            std::fs::write(data.join("pg_hba.conf"), rules).expect("written");
        }
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let process = as_server_user(&binaries.join("postgres"))?
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "log_statement=all", "-c", "unix_socket_directories="])
            .args(["-c", "log_line_prefix=%d "])
            .args(["-p", &port.to_string(), "-c", if certificate.is_some() { "ssl=on" } else { "ssl=off" }])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres can be run");
        let server = Self { port, folder, process, databases: AtomicU32::new(0) };
        eventually("PostgreSQL accepts", Duration::from_secs(20), || {
            server.try_execute("postgres", "SELECT 1").is_ok()
        });
        Some(server)
    }

    /// A name that no other test uses.
    pub(crate) fn fresh_name(&self) -> String {
        format!("db-{}", self.databases.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs statements as superuser.
    pub(crate) fn execute(&self, database: &str, sql: &str) -> Vec<String> {
        self.try_execute(database, sql).expect("the statement runs")
    }

    /// The first column of all rows.
    pub(crate) fn try_execute(&self, database: &str, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        self.try_execute_as("postgres", PASSWORD, database, sql)
    }

    /// The same as somebody else.
    pub(crate) fn try_execute_as(
        &self,
        user: &str,
        password: &str,
        database: &str,
        sql: &str,
    ) -> Result<Vec<String>, tokio_postgres::Error> {
        block_on(async {
            let client = self.client(user, password, database).await?;
            let messages = client.simple_query(sql).await?;
            Ok(messages
                .iter()
                .filter_map(|message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                })
                .collect())
        })
    }

    /// A session of the test's own.
    pub(crate) async fn client(
        &self,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user(user)
            .password(password)
            .dbname(database)
            .connect(NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Everything that the server has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("the server's log")
    }

    /// Kills every process of it at once, as a power cut would.
    pub(crate) fn kill(&self) {
        let _gone = Command::new("pkill").args(["-KILL", "-P", &self.process.id().to_string()]).status();
        let _gone = Command::new("kill").args(["-KILL", &self.process.id().to_string()]).status();
    }

    /// Where the superuser's password is.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT ends the postmaster's children too; SIGKILL would leave them for a while.
        let _gone = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        let _gone = self.process.wait();
    }
}

/// Where PostgreSQL's programs are, of the version that the servers have.
pub(crate) fn newest_binaries() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|path| path.join("initdb").exists() && path.join("postgres").exists())
        .collect();
    versions.sort();
    versions.pop()
}

/// User and group for the server: our own, or `postgres`, because it refuses to run as root.
pub(crate) fn server_user() -> Option<(u32, u32)> {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let own =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    let (user, group): (u32, u32) = (own("Uid:")?, own("Gid:")?);
    if user != 0 {
        return Some((user, group));
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("users");
    let mut fields = users.lines().find(|line| line.starts_with("postgres:"))?.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

pub(super) fn as_server_user(program: &Path) -> Option<Command> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    command.current_dir("/");
    let (user, group) = server_user()?;
    command.uid(user).gid(group);
    Some(command)
}
