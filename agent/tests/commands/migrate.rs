use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::agent::{APP_PASSWORD, Agent, exit_code, terminate, text};
use crate::certificates::Authority;
use crate::servers::{PASSWORD, Postgres, block_on, eventually, skip};

/// The real Alembic, `SQLAlchemy` and psycopg2 for the tests that need them: a virtual
/// environment's folder. The cluster suites run the same with the sample application.
fn venv(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("AGENT_TEST_VENV").map(PathBuf::from);
    if folder.is_none() {
        skip(test, "AGENT_TEST_VENV names no virtual environment with alembic");
    }
    folder
}

/// A small application with two revisions, of which the second is the head.
fn application() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let put = |path: &str, content: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
    };
    put("app/__init__.py", "");
    put("app/models/__init__.py", "");
    put(
        "app/models/audit.py",
        "import os, sys, time
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine
metadata = MetaData()
Table('automation_rules', metadata, Column('id', Integer, primary_key=True), Column('name', String))
def init_db():
    print('connecting with', os.environ['PGPASSWORD'], os.environ['PGOPTIONS'])
    metadata.create_all(create_engine(os.environ['AI_DATABASE_URL']))
    print('DETAIL:  Key (mail)=(someone@example.org) exists.', file=sys.stderr)
    if os.environ.get('TEST_HANG'):
        print('hanging', flush=True)
        time.sleep(10)
    if os.environ.get('TEST_FAIL'):
        raise RuntimeError('no luck with ' + os.environ['AI_SECRET_KEY'])
",
    );
    put("alembic.ini", "[alembic]\nscript_location = alembic\n");
    put(
        "alembic/env.py",
        "import os
from alembic import context
from sqlalchemy import create_engine
from app.models.audit import metadata
with create_engine(os.environ['AI_DATABASE_URL']).connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
",
    );
    put("alembic/script.py.mako", "");
    // The package alembic must not be hidden by the folder of that name.
    put("alembic/__init__.py", "");
    for (revision, down) in [("001_first", "None"), ("002_second", "'001_first'")] {
        put(
            &format!("alembic/versions/{revision}.py"),
            &format!("revision = '{revision}'\ndown_revision = {down}\ndef upgrade(): pass\ndef downgrade(): pass\n"),
        );
    }
    folder
}

fn agent(server: &Postgres, name: &str) -> Agent {
    Agent::new(&["migrate"]).database(server.port, name).admin(server)
}

fn agent_in(server: &Postgres, name: &str, venv: &Path, app: &Path) -> Agent {
    let path = format!("{}/bin:/usr/bin:/bin", venv.display());
    let mut agent = agent(server, name)
        .env("PATH", path)
        .env("AI_SECRET_KEY", "very-secret-key")
        .env("AI_DATABASE_URL", format!("postgresql+psycopg2://{name}@127.0.0.1:{}/{name}", server.port));
    agent.command.current_dir(app);
    agent
}

#[test]
fn makes_role_and_database_and_then_needs_the_images_python() {
    // The server logs every statement, those of the other tests too.
    const ONLY_HERE: &str = "a password of this test";
    let Some(server) = Postgres::shared() else {
        return skip("role and database", "no PostgreSQL here");
    };
    let name = server.fresh_name();
    for _ in 0..2 {
        let mut agent = agent(&server, &name).env("PATH", "/nonexistent");
        std::fs::write(agent.folder.path().join("password"), ONLY_HERE).expect("written");
        let done = agent.output();
        assert_eq!(done.status.code(), Some(10), "{}", text(&done.stderr));
        let report = agent.report();
        assert_eq!(report["result"], "Refused");
        assert_eq!(report["reason"], "ImageInvalid");
        assert_eq!(report["rulesEmpty"], true);
        let incarnation = report["incarnation"].as_str().expect("text");
        let (system, oid) = incarnation.split_once('/').expect("two parts");
        assert!(system.parse::<u64>().is_ok_and(|id| id > 0) && oid.parse::<u32>().is_ok());
    }
    let owner = format!("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(server.execute("postgres", &owner), [name.as_str()]);
    let log = server.log();
    assert!(log.contains(&name) && !log.contains(ONLY_HERE));
}

#[test]
fn a_changed_password_and_a_foreign_owner_are_put_right() {
    let Some(server) = Postgres::shared() else {
        return skip("changed password", "no PostgreSQL here");
    };
    let name = server.fresh_name();
    server.execute("postgres", &format!("CREATE ROLE \"{name}\" NOLOGIN"));
    server.execute("postgres", &format!("CREATE DATABASE \"{name}\""));
    let mut agent = agent(&server, &name).env("PATH", "/nonexistent");
    agent.output();
    assert_eq!(agent.report()["reason"], "ImageInvalid");
    let created = server.try_execute_as(&name, APP_PASSWORD, &name, "CREATE TABLE t (a int)");
    assert!(created.is_ok(), "{created:?}");
}

#[test]
fn an_external_database_must_let_the_application_in() {
    let Some(server) = Postgres::shared() else {
        return skip("external database", "no PostgreSQL here");
    };
    let name = server.fresh_name();
    let mut agent = Agent::new(&["migrate"]).database(server.port, &name);
    assert_eq!(agent.output().status.code(), Some(10));
    assert_eq!(agent.report()["reason"], "CredentialsRejected");
    let quoted = APP_PASSWORD.replace('\'', "''");
    server.execute("postgres", &format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{quoted}'"));
    assert_eq!(agent.output().status.code(), Some(10));
    assert_eq!(agent.report()["reason"], "DatabaseMissing");
}

#[test]
fn a_missing_variable_is_a_refusal() {
    let mut agent = Agent::new(&["migrate"]);
    assert_eq!(agent.output().status.code(), Some(10));
    let report = agent.report();
    assert_eq!(report["reason"], "ConfigInvalid");
    assert!(report["message"].as_str().is_some_and(|m| m.contains("ODOOAI_DATABASE_HOST")));
}

#[test]
fn waits_for_the_lock_and_ends_on_sigterm() {
    let Some(server) = Postgres::shared() else {
        return skip("lock", "no PostgreSQL here");
    };
    let name = server.fresh_name();
    let digest = Sha256::digest(format!("odooai:{name}"));
    let key = i64::from_be_bytes(*digest.first_chunk().expect("32 bytes"));
    block_on(async {
        let other = server.client("postgres", PASSWORD, "postgres").await.expect("logged in");
        other.execute("SELECT pg_advisory_lock($1)", &[&key]).await.expect("nobody holds it");
        let mut agent = agent(&server, &name);
        let mut child = agent.spawn();
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let line = log.lines().map_while(Result::ok);
        assert!(line.into_iter().any(|line| line.contains("another Job works")));
        terminate(child.id());
        let (code, took) = exit_code(&mut child);
        assert_eq!(code, Some(143));
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(agent.report()["reason"], "Terminated");
        assert_eq!(agent.report()["result"], "Failed");
    });
}

#[test]
fn an_empty_database_is_bootstrapped_once() {
    let Some(venv) = venv("bootstrap") else { return };
    let Some(server) = Postgres::shared() else {
        return skip("bootstrap", "no PostgreSQL here");
    };
    let (name, app) = (server.fresh_name(), application());
    let mut agent = agent_in(&server, &name, &venv, app.path());
    let done = agent.output();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let report = agent.report();
    assert_eq!(report["reason"], "Bootstrapped");
    assert_eq!(
        report["schema"],
        json!({"heads": ["002_second"], "known": ["001_first", "002_second"], "current": ["002_second"]})
    );
    assert_eq!(report["rulesEmpty"], true);
    assert!(report["databaseBytes"].as_i64().is_some_and(|bytes| bytes > 1_000_000));
    let log = text(&done.stdout);
    assert!(log.contains("connecting with *** -c lock_timeout=5s"), "{log}");
    assert!(!log.contains("someone@example.org"));
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'odooai'";
    assert_eq!(server.execute(&name, schemas), ["0"]);

    server
        .try_execute_as(&name, APP_PASSWORD, &name, "INSERT INTO automation_rules VALUES (1, 'r')")
        .expect("the application's own table");
    assert_eq!(agent.output().status.code(), Some(0));
    assert_eq!(agent.report()["reason"], "AtHead");
    assert_eq!(agent.report()["rulesEmpty"], false);

    for (sql, code, reason) in [
        ("UPDATE alembic_version SET version_num = '001_first'", 0, "Upgraded"),
        ("UPDATE alembic_version SET version_num = '099'", 10, "SchemaNewerThanImage"),
    ] {
        server.execute(&name, sql);
        assert_eq!(agent.output().status.code(), Some(code));
        assert_eq!(agent.report()["reason"], reason);
    }
}

#[test]
fn an_external_database_is_bootstrapped_over_tls_under_a_lock_elsewhere() {
    let Some(venv) = venv("external bootstrap") else { return };
    let authority = Authority::new();
    let Some(server) = Postgres::start_tls(&authority.issue(&["localhost"])) else {
        return skip("external bootstrap", "no PostgreSQL here");
    };
    // The server lets this role in by TLS only, also when psycopg2 asks.
    let (name, app) = ("strict", application());
    let quoted = APP_PASSWORD.replace('\'', "''");
    server.execute("postgres", &format!("CREATE ROLE {name} LOGIN PASSWORD '{quoted}'"));
    for database in [name, "locks"] {
        server.execute("postgres", &format!("CREATE DATABASE {database} OWNER {name}"));
    }
    let mut agent = Agent::new(&["migrate"])
        .database(server.port, name)
        .env("ODOOAI_DATABASE_HOST", "localhost")
        .env("ODOOAI_DATABASE_SSLMODE", "verify-full")
        .env("ODOOAI_DATABASE_CA_FILE", authority.file())
        .env("ODOOAI_LOCK_DATABASE", "locks")
        .env("PATH", format!("{}/bin:/usr/bin:/bin", venv.display()))
        .env("AI_SECRET_KEY", "very-secret-key")
        .env("AI_DATABASE_URL", format!("postgresql+psycopg2://{name}@localhost:{}/{name}", server.port));
    agent.command.current_dir(app.path());
    let done = agent.output();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(agent.report()["reason"], "Bootstrapped");
    let log = server.log();
    let locked = log.lines().any(|line| line.starts_with("locks ") && line.contains("pg_try_advisory_lock"));
    assert!(locked, "the lock is taken in its database: {log}");
}

#[test]
fn a_bootstrap_killed_between_tables_and_stamp_is_finished() {
    let Some(venv) = venv("resumed bootstrap") else { return };
    let Some(server) = Postgres::shared() else {
        return skip("resumed bootstrap", "no PostgreSQL here");
    };
    let (name, app) = (server.fresh_name(), application());
    let mut agent = agent_in(&server, &name, &venv, app.path()).env("TEST_HANG", "1");
    let mut child = agent.spawn();
    eventually("tables", Duration::from_secs(20), || {
        server.try_execute(&name, "SELECT to_regclass('automation_rules')::text").is_ok_and(|rows| !rows.is_empty())
    });
    child.kill().expect("our child");
    child.wait().expect("our child");

    let mut agent = agent_in(&server, &name, &venv, app.path());
    assert_eq!(agent.output().status.code(), Some(0));
    let report = agent.report();
    assert_eq!(report["reason"], "Bootstrapped");
    assert!(report["message"].as_str().is_some_and(|m| m.contains("earlier attempt")));
    assert_eq!(report["rulesEmpty"], true);
}

#[test]
fn a_failing_process_may_be_tried_again_and_tells_no_secret() {
    let Some(venv) = venv("failing bootstrap") else { return };
    let Some(server) = Postgres::shared() else {
        return skip("failing bootstrap", "no PostgreSQL here");
    };
    let (name, app) = (server.fresh_name(), application());
    let mut agent = agent_in(&server, &name, &venv, app.path()).env("TEST_FAIL", "1");
    let done = agent.output();
    assert_eq!(done.status.code(), Some(1));
    let report = agent.report();
    assert_eq!(report["reason"], "BootstrapFailed");
    let message = report["message"].as_str().expect("text");
    assert!(message.contains("RuntimeError: no luck with ***"), "{message}");
    let everything = format!("{}{}{report}", text(&done.stdout), text(&done.stderr));
    assert!(!everything.contains("very-secret-key") && !everything.contains(APP_PASSWORD));

    let mut agent = agent_in(&server, &name, &venv, app.path());
    assert_eq!(agent.output().status.code(), Some(0));
}

#[test]
fn two_at_once_end_well() {
    let Some(venv) = venv("two at once") else { return };
    let Some(server) = Postgres::shared() else {
        return skip("two at once", "no PostgreSQL here");
    };
    let (name, app) = (server.fresh_name(), application());
    let mut agents = [(); 2].map(|()| agent_in(&server, &name, &venv, app.path()));
    let children = agents.each_mut().map(Agent::spawn);
    for child in children {
        let done = child.wait_with_output().expect("our child");
        assert_eq!(done.status.code(), Some(0), "{done:?}");
    }
    let mut reasons = agents.each_ref().map(|agent| agent.report()["reason"].to_string());
    reasons.sort();
    assert_eq!(reasons, ["\"AtHead\"", "\"Bootstrapped\""]);
}
