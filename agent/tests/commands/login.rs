use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::{APP_PASSWORD, Agent, exit_code, terminate, text};
use crate::certificates::Authority;
use crate::servers::{Killed, PASSWORD, Postgres, Redis, block_on, eventually, free_port, skip, url_encoded};

/// What the servers have to be told to hold from now on.
const NEW: &str = "n3w %25 p@ss'w\"ord/ü #?:";

/// The mount of a candidate Secret.
struct Candidate {
    agent: Agent,
    redis_port: u16,
}

impl Candidate {
    /// New passwords for a role and a Redis of these names; no administrators yet.
    fn new(postgres: u16, role: &str, redis_port: u16) -> Self {
        let agent = Agent::new(&["login"]).database(postgres, role);
        let file = agent.folder.path().join("redis-url");
        let candidate = Self { agent: agent.redis(&file), redis_port };
        candidate.database_password(NEW);
        candidate.redis_password(NEW);
        candidate
    }

    fn path(&self) -> &Path {
        self.agent.folder.path()
    }

    fn database_password(&self, password: &str) {
        std::fs::write(self.path().join("password"), format!("{password}\n")).expect("written");
    }

    fn redis_password(&self, password: &str) {
        self.redis_url(&format!("redis://:{}@127.0.0.1:{}/0\n", url_encoded(password), self.redis_port));
    }

    fn redis_url(&self, url: &str) {
        std::fs::write(self.path().join("redis-url"), url).expect("written");
    }

    fn managed(mut self, postgres: &Postgres, redis: &Redis) -> Self {
        self.agent = self.agent.admin(postgres).env("ODOOAI_REDIS_FORMER_URL_FILE", redis.url_file());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.agent = self.agent.env(name, value);
        self
    }

    /// Runs it, proves that it tells no secret, and expects result, reason and exit code to agree.
    fn run(&mut self, result: &str, reason: &str) -> String {
        let done = self.agent.output();
        let report = self.agent.report();
        assert_eq!((&report["result"], &report["reason"]), (&result.into(), &reason.into()), "{report}");
        assert_eq!((&report["version"], &report["command"]), (&1.into(), &"login".into()));
        let code = match result {
            "Succeeded" => 0,
            "Refused" => 10,
            _ => 1,
        };
        assert_eq!(done.status.code(), Some(code));
        tells_no_secret(&done, &report);
        report["message"].as_str().expect("text").to_owned()
    }
}

fn tells_no_secret(done: &Output, report: &Value) {
    let everything = format!("{}{}{report}", text(&done.stdout), text(&done.stderr));
    for secret in [NEW, APP_PASSWORD, PASSWORD] {
        let json = Value::from(secret).to_string();
        for form in [secret, &url_encoded(secret), json.trim_matches('"')] {
            assert!(!everything.contains(form), "{everything}");
        }
    }
}

/// A role with its database and [`APP_PASSWORD`].
fn role(postgres: &Postgres) -> String {
    let name = postgres.fresh_name();
    let quoted = APP_PASSWORD.replace('\'', "''");
    postgres.execute("postgres", &format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{quoted}'"));
    postgres.execute("postgres", &format!("CREATE DATABASE \"{name}\" OWNER \"{name}\""));
    name
}

fn database_takes(postgres: &Postgres, role: &str, password: &str) -> bool {
    postgres.try_execute_as(role, password, role, "SELECT 1").is_ok()
}

#[test]
fn a_managed_change_holds_for_both_and_can_be_repeated() {
    let (Some(postgres), Some(redis)) = (Postgres::shared(), Redis::start(free_port())) else {
        return skip("managed login", "no PostgreSQL or Redis here");
    };
    let role = role(&postgres);
    let mut candidate = Candidate::new(postgres.port, &role, redis.port).managed(&postgres, &redis);
    let message = candidate.run("Succeeded", "CredentialsAccepted");
    assert_eq!(
        message,
        format!(
            "user {role} of PostgreSQL at 127.0.0.1:{}: changed and accepted; \
             user default of Redis at 127.0.0.1:{}: changed and accepted",
            postgres.port, redis.port
        )
    );
    assert!(database_takes(&postgres, &role, NEW) && !database_takes(&postgres, &role, APP_PASSWORD));
    assert!(redis.try_connection(NEW).is_ok() && redis.try_connection(PASSWORD).is_err());
    assert!(!postgres.log().contains(NEW));
    let message = candidate.run("Succeeded", "CredentialsAccepted");
    assert!(!message.contains("changed"), "{message}");
}

#[test]
fn a_fresh_managed_server_has_nothing_to_change() {
    let (Some(postgres), Some(redis)) = (Postgres::shared(), Redis::start(free_port())) else {
        return skip("fresh login", "no PostgreSQL or Redis here");
    };
    let name = postgres.fresh_name();
    let mut candidate = Candidate::new(postgres.port, &name, redis.port).managed(&postgres, &redis);
    candidate.redis_password(PASSWORD);
    let message = candidate.run("Succeeded", "CredentialsAccepted");
    assert!(message.contains("the migration makes what is missing"), "{message}");
    let roles = format!("SELECT rolname FROM pg_roles WHERE rolname = '{name}'");
    assert!(postgres.execute("postgres", &roles).is_empty(), "login made a role");
    // The role alone: its password is corrected, its database is not made.
    postgres.execute("postgres", &format!("CREATE ROLE \"{name}\" NOLOGIN"));
    candidate.run("Succeeded", "CredentialsAccepted");
    let error = postgres.try_execute_as(&name, NEW, &name, "SELECT 1").expect_err("no database");
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INVALID_CATALOG_NAME));
}

#[test]
fn when_one_server_cannot_be_changed_the_other_is_not() {
    let (Some(postgres), Some(redis)) = (Postgres::shared(), Redis::start(free_port())) else {
        return skip("half a login", "no PostgreSQL or Redis here");
    };
    let role = role(&postgres);
    let managed = || Candidate::new(postgres.port, &role, redis.port).managed(&postgres, &redis);

    redis.write_url(&format!("redis://:outdated@127.0.0.1:{}/0", redis.port));
    let message = managed().run("Refused", "CredentialsRejected");
    assert!(message.contains(&format!("Redis at 127.0.0.1:{}, user default", redis.port)), "{message}");
    assert!(message.contains("neither the new password nor the former one"), "{message}");
    assert!(database_takes(&postgres, &role, APP_PASSWORD));

    // No former URL: Redis is taken as it is.
    redis.write_url("");
    managed().run("Refused", "CredentialsRejected");
    // One of another server is of no use.
    redis.write_url(&format!("redis://:x@127.0.0.1:{}/0", free_port()));
    managed().run("Refused", "ConfigInvalid");
    assert!(database_takes(&postgres, &role, APP_PASSWORD));

    redis.write_url(&format!("redis://:{}@127.0.0.1:{}/0", url_encoded(PASSWORD), redis.port));
    let mut wrong_admin = managed().env("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE", "/etc/hostname");
    let message = wrong_admin.run("Refused", "CredentialsRejected");
    assert!(message.contains("user postgres") && message.contains("correct user and password"), "{message}");
    assert!(redis.try_connection(PASSWORD).is_ok());

    // Without a password Redis would be open to everybody.
    let mut open = managed();
    open.redis_url(&format!("redis://127.0.0.1:{}/0", redis.port));
    let message = open.run("Refused", "ConfigInvalid");
    assert!(message.contains("the new Redis password is empty"), "{message}");
    assert!(redis.try_connection(PASSWORD).is_ok() && database_takes(&postgres, &role, APP_PASSWORD));
}

#[test]
fn killed_between_the_two_changes_it_is_run_again() {
    let (Some(postgres), Some(redis)) = (Postgres::shared(), Redis::start(free_port())) else {
        return skip("killed login", "no PostgreSQL or Redis here");
    };
    let role = role(&postgres);
    let mut candidate = Candidate::new(postgres.port, &role, redis.port).managed(&postgres, &redis);
    let mut child = block_on(async {
        // Whoever changes a role waits for whoever changed it before and has not committed.
        let other = postgres.client("postgres", PASSWORD, "postgres").await.expect("logged in");
        other.batch_execute(&format!("BEGIN; ALTER ROLE \"{role}\" CONNECTION LIMIT 9")).await.expect("altered");
        let child = candidate.agent.spawn();
        let started = Instant::now();
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
        // Within a transaction this view doesn't change.
        let watcher = postgres.client("postgres", PASSWORD, "postgres").await.expect("logged in");
        while watcher.query(waiting, &[&format!("ALTER ROLE \"{role}\"%")]).await.expect("rows").is_empty() {
            assert!(started.elapsed() < Duration::from_secs(20), "login never changes the role");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        redis.stop();
        other.batch_execute("ROLLBACK").await.expect("rolled back");
        child
    });
    eventually("the role's change", Duration::from_secs(10), || database_takes(&postgres, &role, NEW));
    child.kill().expect("our child");
    child.wait().expect("our child");
    // A Redis that is started again knows its old password only.
    let port = redis.port;
    drop(redis);
    let redis = Redis::start(port).expect("it did before");
    assert!(redis.try_connection(PASSWORD).is_ok());

    let mut candidate = Candidate::new(postgres.port, &role, port).managed(&postgres, &redis);
    let message = candidate.run("Succeeded", "CredentialsAccepted");
    assert!(message.contains("PostgreSQL at 127.0.0.1") && message.matches("changed").count() == 1, "{message}");
    assert!(redis.try_connection(NEW).is_ok() && database_takes(&postgres, &role, NEW));
}

#[test]
fn external_servers_are_asked_and_never_changed() {
    let (Some(postgres), Some(redis)) = (Postgres::shared(), Redis::start(free_port())) else {
        return skip("external login", "no PostgreSQL or Redis here");
    };
    let role = role(&postgres);
    let mut candidate = Candidate::new(postgres.port, &role, redis.port);
    let message = candidate.run("Refused", "CredentialsRejected");
    assert!(message.contains(&format!("PostgreSQL at 127.0.0.1:{}, user {role}", postgres.port)), "{message}");
    assert!(message.contains("Redis at 127.0.0.1") && message.contains("WRONGPASS"), "both are told: {message}");

    candidate.database_password(APP_PASSWORD);
    let message = candidate.run("Refused", "CredentialsRejected");
    assert!(message.starts_with("Redis at") && !message.contains("PostgreSQL"), "{message}");
    candidate.redis_password(PASSWORD);
    candidate.run("Succeeded", "CredentialsAccepted");
    let incarnation = candidate.agent.report()["incarnation"].as_str().expect("text").to_owned();
    let oid = postgres.execute("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{role}'"));
    assert!(incarnation.ends_with(&format!("/{}", oid[0])), "{incarnation}");

    let mut missing = candidate.env("ODOOAI_DATABASE_NAME", "nowhere");
    let message = missing.run("Refused", "DatabaseMissing");
    assert!(message.contains("\"nowhere\" does not exist; create the database"), "{message}");
}

#[test]
fn tls_and_configuration_are_refused_by_name() {
    let authority = Authority::new();
    let other = Authority::new();
    let postgres = Postgres::start_tls(&authority.issue(&["localhost"]));
    let redis = Redis::start_tls(free_port(), &authority.issue(&["localhost"]));
    let (Some(postgres), Some(redis)) = (postgres, redis) else {
        return skip("login by TLS", "no PostgreSQL or Redis here");
    };
    let role = role(&postgres);
    let login = |ca: &Authority| {
        let candidate = Candidate::new(postgres.port, &role, redis.port)
            .env("ODOOAI_DATABASE_HOST", "localhost")
            .env("ODOOAI_DATABASE_SSLMODE", "verify-full")
            .env("ODOOAI_DATABASE_CA_FILE", ca.file().to_str().expect("UTF-8"))
            .env("ODOOAI_REDIS_CA_FILE", ca.file().to_str().expect("UTF-8"));
        candidate.database_password(APP_PASSWORD);
        candidate.redis_url(&format!("rediss://:{}@localhost:{}/0", url_encoded(PASSWORD), redis.port));
        candidate
    };
    login(&authority).run("Succeeded", "CredentialsAccepted");
    let message = login(&other).run("Refused", "TlsFailed");
    assert_eq!(message.matches("give the certificate of the CA that signed it").count(), 2, "{message}");
    let message = login(&authority).env("ODOOAI_DATABASE_HOST", "127.0.0.1").run("Refused", "TlsFailed");
    assert!(message.contains("not for 127.0.0.1; it names localhost"), "{message}");
    let message = login(&authority).env("ODOOAI_DATABASE_CA_FILE", "/etc/hostname").run("Refused", "ConfigInvalid");
    assert!(message.contains("/etc/hostname"), "{message}");
    let plain = login(&authority);
    plain.redis_url(&format!("redis://:{}@localhost:{}/0", url_encoded(PASSWORD), redis.port));
    let message = { plain }.run("Refused", "TlsFailed");
    assert!(message.contains("begin the URL with rediss://"), "{message}");
    let broken = login(&authority);
    broken.redis_url(&format!("redis://:{NEW}@localhost/0"));
    let message = { broken }.run("Refused", "ConfigInvalid");
    assert!(message.contains("percent-encoded"), "{message}");
    let absent = login(&authority).env("ODOOAI_REDIS_URL_FILE", "/nonexistent/redis-url");
    assert!({ absent }.run("Refused", "ConfigInvalid").contains("/nonexistent/redis-url"));
}

#[test]
fn servers_that_are_away_are_waited_for_a_minute() {
    let started = Instant::now();
    let mut candidate = Candidate::new(free_port(), "app", free_port());
    let message = candidate.run("Failed", "DatabaseUnreachable");
    assert!(message.contains("PostgreSQL at") && message.contains("Redis at"), "{message}");
    let took = started.elapsed();
    assert!((60..75).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn servers_that_come_late_are_found_and_sigterm_ends_the_wait() {
    let Some(postgres) = Postgres::shared() else {
        return skip("late servers", "no PostgreSQL here");
    };
    let (role, port) = (role(&postgres), free_port());
    let mut candidate = Candidate::new(postgres.port, &role, port);
    candidate.database_password(APP_PASSWORD);
    candidate.redis_password(PASSWORD);
    let mut child = Killed(candidate.agent.spawn());
    std::thread::sleep(Duration::from_millis(500));
    let Some(redis) = Redis::start(port) else {
        return skip("late servers", "no Redis here");
    };
    assert_eq!(exit_code(&mut child.0).0, Some(0));
    assert_eq!(candidate.agent.report()["reason"], "CredentialsAccepted");
    drop(redis);

    let mut child = candidate.agent.spawn();
    std::thread::sleep(Duration::from_millis(500));
    terminate(child.id());
    let (code, took) = exit_code(&mut child);
    assert_eq!(code, Some(143));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(candidate.agent.report()["reason"], "Terminated");
}
