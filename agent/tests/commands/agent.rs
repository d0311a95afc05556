//! Starting the agent and reading what it leaves.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::servers::{Postgres, Redis, free_port, server_user};

/// The application's password; has what URLs, SQL and Alembic stumble over.
pub(crate) const APP_PASSWORD: &str = "app p@ss%'word/ü";

/// The agent with an environment of nothing but what a test sets.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) command: Command,
    pub(crate) folder: TempDir,
}

impl Agent {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        Self::below(env!("CARGO_BIN_EXE_agent"), arguments)
    }

    /// The agent as first process of a PID namespace; needs root.
    pub(crate) fn as_pid_1(arguments: &[&str]) -> Self {
        let mut all = vec!["--pid", "--fork", env!("CARGO_BIN_EXE_agent")];
        all.extend(arguments);
        Self::below("unshare", &all)
    }

    /// The agent as somebody who may run a PostgreSQL of their own; root may not.
    pub(crate) fn as_server_user(arguments: &[&str]) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        use std::os::unix::process::CommandExt as _;
        // Where it was built others may have no access.
        static COPY: OnceLock<TempDir> = OnceLock::new();
        let open = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
        };
        let copy = COPY.get_or_init(|| {
            let folder = TempDir::new().expect("a temporary folder");
            std::fs::copy(env!("CARGO_BIN_EXE_agent"), folder.path().join("agent")).expect("copied");
            open(folder.path(), 0o755);
            folder
        });
        let mut agent = Self::below(copy.path().join("agent").to_str().expect("text"), arguments);
        open(agent.folder.path(), 0o777);
        let (user, group) = server_user().expect("a user");
        agent.command.uid(user).gid(group).current_dir("/");
        agent
    }

    fn below(program: &str, arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join("password"), APP_PASSWORD).expect("written");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("ODOOAI_TERMINATION_LOG", folder.path().join("termination"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command, folder }
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn database(self, port: u16, name: &str) -> Self {
        let file = self.folder.path().join("password");
        self.env("ODOOAI_DATABASE_HOST", "127.0.0.1")
            .env("ODOOAI_DATABASE_PORT", port.to_string())
            .env("ODOOAI_DATABASE_NAME", name)
            .env("ODOOAI_DATABASE_USER", name)
            .env("ODOOAI_DATABASE_PASSWORD_FILE", file)
    }

    pub(crate) fn admin(self, server: &Postgres) -> Self {
        self.env("ODOOAI_DATABASE_ADMIN_USER", "postgres")
            .env("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE", server.password_file())
            .env("ODOOAI_LOCK_DATABASE", "postgres")
    }

    pub(crate) fn redis(self, url_file: &Path) -> Self {
        self.env("ODOOAI_REDIS_URL_FILE", url_file)
    }

    pub(crate) fn redis_of(self, server: &Redis) -> Self {
        self.redis(&server.url_file())
    }

    /// A Redis at a port where nobody listens.
    pub(crate) fn redis_absent(self) -> Self {
        let file = self.folder.path().join("redis-url");
        std::fs::write(&file, format!("redis://127.0.0.1:{}/0", free_port())).expect("written");
        self.redis(&file)
    }

    pub(crate) fn output(&mut self) -> Output {
        self.command.output().expect("the agent can be run")
    }

    pub(crate) fn spawn(&mut self) -> Child {
        self.command.spawn().expect("the agent can be run")
    }

    /// The termination message.
    pub(crate) fn report(&self) -> Value {
        let text = std::fs::read_to_string(self.folder.path().join("termination")).expect("a termination message");
        assert!(text.len() <= 4096);
        serde_json::from_str(&text).expect("the message is JSON")
    }
}

/// Sends SIGTERM.
pub(crate) fn terminate(pid: u32) {
    let sent = Command::new("kill").args(["-TERM", &pid.to_string()]).status().expect("kill can be run");
    assert!(sent.success());
}

/// Waits for the end; the exit code, and how long it took.
pub(crate) fn exit_code(child: &mut Child) -> (Option<i32>, Duration) {
    let started = Instant::now();
    let status = child.wait().expect("our child");
    (status.code(), started.elapsed())
}

/// A process's output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
