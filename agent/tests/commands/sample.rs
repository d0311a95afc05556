//! The sample application's releases and databases, as the agent finds them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use crate::agent::{APP_PASSWORD, Agent, text};
use crate::servers::{Postgres, skip};

/// The application's role in these databases.
pub(crate) const ROLE: &str = "sample";

/// What a database holds when a test gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing.
    Empty,
    /// The three tables of a released version, with rows, without Alembic.
    Released,
    /// What 1.0.0 makes of an empty database.
    Head,
}

/// An agent that ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) report: Value,
    pub(crate) log: String,
}

impl Ran {
    pub(crate) fn message(&self) -> &str {
        self.report["message"].as_str().expect("a message")
    }

    /// Result and reason; the whole when they are others.
    #[track_caller]
    pub(crate) fn expect(self, result: &str, reason: &str) -> Self {
        assert!(self.report["result"] == result && self.report["reason"] == reason, "{}\n{}", self.report, self.log);
        let code = match result {
            "Succeeded" => 0,
            "Refused" => 10,
            _ => 1,
        };
        assert_eq!(self.code, Some(code));
        self
    }
}

/// Releases of the sample application and a server for their databases.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) server: Arc<Postgres>,
    folder: TempDir,
    venv: PathBuf,
}

static TEMPLATES: Mutex<()> = Mutex::new(());

impl Sample {
    /// `None`, said aloud, where this machine lacks something.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let venv = std::env::var_os("AGENT_TEST_VENV").map(PathBuf::from);
        let Some(venv) = venv else {
            skip(test, "AGENT_TEST_VENV names no virtual environment with alembic");
            return None;
        };
        let Some(server) = Postgres::shared() else {
            skip(test, "no PostgreSQL here");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sample = Self { server, folder, venv };
        sample.prepare();
        Some(sample)
    }

    /// Role and templates, once per server.
    fn prepare(&self) {
        let _one_at_a_time = TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner);
        let existing = self.server.execute("postgres", "SELECT datname FROM pg_database WHERE datname = 'head'");
        if !existing.is_empty() {
            return;
        }
        let quoted = APP_PASSWORD.replace('\'', "''");
        self.server.execute("postgres", &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{quoted}'"));
        for name in ["released", "head"] {
            self.server.execute("postgres", &format!("CREATE DATABASE {name} OWNER {ROLE}"));
        }
        let fixture = std::fs::read_to_string(application().join("../fixtures/released.sql")).expect("the fixture");
        self.sql("released", &fixture);
        // An empty database needs no backup.
        let mut agent = self.agent("1.0.0", "head").env("ODOOAI_BACKUP_REQUIRED", "true");
        let made = ran(&mut agent).expect("Succeeded", "Bootstrapped");
        assert_eq!(made.report["drift"], serde_json::json!([]));
        assert!(made.report.get("repairedLabels").is_none());
    }

    /// A database of the test's own.
    pub(crate) fn database(&self, state: State) -> String {
        let template = match state {
            State::Empty => "template1",
            State::Released => "released",
            State::Head => "head",
        };
        self.copy(template)
    }

    /// The same as another one.
    pub(crate) fn copy(&self, template: &str) -> String {
        let name = self.server.fresh_name();
        self.server.execute("postgres", &format!("CREATE DATABASE \"{name}\" OWNER {ROLE} TEMPLATE \"{template}\""));
        name
    }

    /// Runs statements as the application; the first column of all rows.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Vec<String> {
        self.server.try_execute_as(ROLE, APP_PASSWORD, database, sql).expect("the statement runs")
    }

    /// The working directory of a release.
    pub(crate) fn release(&self, version: &str) -> PathBuf {
        let path = self.folder.path().join(version);
        if !path.exists() {
            let copied = Command::new("cp").arg("-r").arg(application()).arg(&path).status().expect("cp can be run");
            assert!(copied.success());
            let mut install = self.command("python");
            install.args(["-m", "app.sample.install", version]).current_dir(&path);
            assert!(install.status().expect("Python can be run").success());
        }
        path
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.venv.join("bin").join(program));
        command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// A release's own Python on a database; what it printed.
    pub(crate) fn python(&self, version: &str, database: &str, code: &str) -> String {
        let mut python = self.command("python");
        python.args(["-c", code]).current_dir(self.release(version));
        python.env("PGPASSWORD", APP_PASSWORD).env("AI_DATABASE_URL", url(self.server.port, database));
        let done = python.output().expect("Python can be run");
        assert!(done.status.success(), "{done:?}");
        text(&done.stdout)
    }

    /// A release's own Alembic on a database.
    pub(crate) fn alembic(&self, version: &str, database: &str, command: &str, revision: &str) {
        self.python(version, database, &format!("from alembic.config import main; main(['{command}', '{revision}'])"));
    }

    /// Adds a revision with these statements of Python to a release.
    pub(crate) fn revise(&self, version: &str, revision: &str, down: &str, upgrade: &str) {
        let head = "import os\nimport sqlalchemy as sa\nfrom alembic import op\n";
        let body = upgrade.replace('\n', "\n    ");
        let path = self.release(version).join(format!("alembic/versions/{revision}.py"));
        let text = format!("{head}revision = '{revision}'\ndown_revision = {down}\ndef upgrade():\n    {body}\n");
        std::fs::write(path, text).expect("written");
    }

    /// What a pod of that release does first.
    pub(crate) fn create_all(&self, version: &str, database: &str) {
        self.python(version, database, "from app.models.audit import init_db; init_db()");
    }

    /// A rule of every type is written and all are read.
    pub(crate) fn every_type_works(&self, version: &str, database: &str) {
        let code = "
from app.database import session_scope
from app.models.audit import AutomationRule, AutomationType
with session_scope() as session:
    session.add_all(AutomationRule(name='n', automation_type=kind, action_name='a') for kind in AutomationType)
with session_scope() as session:
    found = {rule.automation_type for rule in session.query(AutomationRule)}
    print(found == set(AutomationType))
";
        assert_eq!(self.python(version, database, code), "True\n");
    }

    /// `agent migrate` of a release, as for an External database.
    pub(crate) fn agent(&self, version: &str, database: &str) -> Agent {
        self.agent_at(self.server.port, version, database)
    }

    /// The same through another port.
    pub(crate) fn agent_at(&self, port: u16, version: &str, database: &str) -> Agent {
        self.command_at("migrate", port, version, database)
    }

    /// Any command of the agent.
    pub(crate) fn command_at(&self, command: &str, port: u16, version: &str, database: &str) -> Agent {
        let mut agent = Agent::new(&[command])
            .database(port, database)
            .env("ODOOAI_DATABASE_USER", ROLE)
            .env("PATH", format!("{}/bin:/usr/bin:/bin", self.venv.display()))
            .env("AI_SECRET_KEY", "very-secret-key")
            .env("AI_DATABASE_URL", url(port, database));
        agent.command.current_dir(self.release(version));
        agent
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, version: &str, database: &str) -> Ran {
        ran(&mut self.agent(version, database))
    }
}

/// Runs an agent to its end. No output ever has a password.
pub(crate) fn ran(agent: &mut Agent) -> Ran {
    let done = agent.output();
    let log = format!("{}{}", text(&done.stdout), text(&done.stderr));
    let report = agent.report();
    for secret in [APP_PASSWORD, "very-secret-key"] {
        assert!(!log.contains(secret) && !report.to_string().contains(secret), "{log}");
    }
    Ran { code: done.status.code(), report, log }
}

fn application() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/app/ai-service")
}

fn url(port: u16, database: &str) -> String {
    format!("postgresql://{ROLE}@127.0.0.1:{port}/{database}")
}
