//! Databases of the sample application, ready for `agent migrate` of any release. They have
//! one role and are copied from templates, which is quicker than making them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::agent::{APP_PASSWORD, Agent, text};
use crate::sample::{RELEASED, Sample};
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
pub(crate) struct Stage {
    pub(crate) server: Arc<Postgres>,
    images: RefCell<BTreeMap<String, Rc<Sample>>>,
}

static TEMPLATES: Mutex<()> = Mutex::new(());

impl Stage {
    /// `None`, said aloud, where this machine lacks something.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let image = Sample::install(test, "1.0.0")?;
        let Some(server) = Postgres::shared() else {
            skip(test, "no PostgreSQL here");
            return None;
        };
        let images = RefCell::new([("1.0.0".to_owned(), Rc::new(image))].into());
        let stage = Self { server, images };
        stage.prepare();
        Some(stage)
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
        self.sql("released", RELEASED);
        let made = self.run("1.0.0", "head").expect("Succeeded", "Bootstrapped");
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

    /// The image of a release.
    pub(crate) fn image(&self, version: &str) -> Rc<Sample> {
        let mut images = self.images.borrow_mut();
        let image = images
            .entry(version.to_owned())
            .or_insert_with(|| Rc::new(Sample::install(version, version).expect("installed like the first")));
        Rc::clone(image)
    }

    /// A release's own Python on a database; what it printed.
    pub(crate) fn python(&self, version: &str, database: &str, code: &str) -> String {
        self.program(version, database, "python", &["-c", code])
    }

    /// A release's own Alembic on a database.
    pub(crate) fn alembic(&self, version: &str, database: &str, arguments: &[&str]) {
        self.program(version, database, "alembic", arguments);
    }

    fn program(&self, version: &str, database: &str, program: &str, arguments: &[&str]) -> String {
        let image = self.image(version);
        let mut command = image.command(program, arguments);
        command.env("PGPASSWORD", APP_PASSWORD).env("AI_DATABASE_URL", url(self.server.port, database));
        let done = command.output().expect("Python can be run");
        assert!(done.status.success(), "{done:?}");
        text(&done.stdout)
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

    /// Any command of the agent in a release's image.
    pub(crate) fn command_at(&self, command: &str, port: u16, version: &str, database: &str) -> Agent {
        let image = self.image(version);
        let mut agent = Agent::new(&[command])
            .database(port, database)
            .env("ODOOAI_DATABASE_USER", ROLE)
            .env("PATH", image.path())
            .env("AI_SECRET_KEY", "very-secret-key")
            .env("AI_DATABASE_URL", url(port, database));
        agent.command.current_dir(image.folder.path());
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

fn url(port: u16, database: &str) -> String {
    format!("postgresql://{ROLE}@127.0.0.1:{port}/{database}")
}
