//! Private servers that live as long as the value.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::NoTls;

/// Password of the servers' administrators; has what URLs and SQL stumble over.
pub(crate) const PASSWORD: &str = "adm'in p@ss%/word";

/// Says that a test is skipped where nobody can miss it: past the capture of the output.
pub(crate) fn skip(test: &str, why: &str) {
    let _unseen = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Asks until it is true.
pub(crate) fn eventually(what: &str, limit: Duration, mut question: impl FnMut() -> bool) {
    let started = Instant::now();
    while !question() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that was free just now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Kills its process and waits for its end.
#[derive(Debug)]
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// A Redis with [`PASSWORD`].
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
    _process: Killed,
}

impl Redis {
    /// `None` where this machine has none.
    pub(crate) fn start(port: u16) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .args(["--requirepass", PASSWORD, "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let process = Killed(process);
        eventually("Redis listens", Duration::from_secs(10), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        std::fs::write(folder.path().join("password"), PASSWORD).expect("written");
        Some(Self { port, folder, _process: process })
    }

    pub(crate) fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// A connection of the test's own.
    pub(crate) fn connection(&self) -> redis::Connection {
        let settings = redis::RedisConnectionInfo::default().set_password(PASSWORD);
        let address = redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port);
        let info =
            redis::IntoConnectionInfo::into_connection_info(address).expect("an address").set_redis_settings(settings);
        redis::Client::open(info).and_then(|client| client.get_connection()).expect("Redis accepts the test")
    }
}

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
        let started = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    fn start() -> Option<Self> {
        let binaries = newest_binaries()?;
        let folder = TempDir::new().expect("a temporary folder");
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), mode).expect("our folder");
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("written");
        let data = folder.path().join("data");
        let initdb = as_postgres(&binaries.join("initdb"))?
            .arg("--pgdata")
            .arg(&data)
            .args(["--no-sync", "--username=postgres", "--auth=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C"])
            .arg("--pwfile")
            .arg(&password)
            .output()
            .expect("initdb can be run");
        assert!(initdb.status.success(), "{initdb:?}");
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let process = as_postgres(&binaries.join("postgres"))?
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "log_statement=all", "-c", "unix_socket_directories="])
            .args(["-p", &port.to_string()])
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

fn newest_binaries() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|path| path.join("initdb").exists() && path.join("postgres").exists())
        .collect();
    versions.sort();
    versions.pop()
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Option<Command> {
    use std::os::unix::process::CommandExt as _;
    let own = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let mut command = Command::new(program);
    command.current_dir("/");
    if own.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        let users = std::fs::read_to_string("/etc/passwd").expect("users");
        let mut fields = users.lines().find(|line| line.starts_with("postgres:"))?.split(':').skip(2);
        command.uid(fields.next()?.parse().ok()?);
        command.gid(fields.next()?.parse().ok()?);
    }
    Some(command)
}

/// Runs something asynchronous of the test's own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// An HTTP server that gives every request the same answer.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) port: u16,
    requests: Arc<AtomicU32>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    pub(crate) fn start(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let requests = Arc::new(AtomicU32::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let (counter, stop) = (Arc::clone(&requests), Arc::clone(&stopped));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let mut buffer = [0; 8192];
                let _read = stream.read(&mut buffer);
                counter.fetch_add(1, Ordering::Relaxed);
                let _sent = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { port, requests, stopped, thread: Some(thread) }
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
