use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

use crate::agent::{APP_PASSWORD, Agent, exit_code, terminate, text};
use crate::servers::{Killed, PASSWORD, Postgres, Redis, eventually, free_port, skip, url_encoded};

const PRINT: &str = "printf '%s\\n' \"$PGPASSWORD\" \"$REDIS_URL\" \"$PGSSLMODE\" \"$PGSSLROOTCERT\"";

#[test]
fn waits_for_each_need_in_turn_and_execs_with_credentials() {
    let (Some(postgres), port) = (Postgres::shared(), free_port()) else {
        return skip("run waits", "no PostgreSQL here");
    };
    let name = postgres.fresh_name();
    let redis_folder = tempfile::tempdir().expect("a temporary folder");
    let url_file = redis_folder.path().join("redis-url");
    let mut agent = Agent::new(&["run", "--", "sh", "-c", PRINT])
        .database(postgres.port, &name)
        .redis(&url_file)
        .env("ODOOAI_SCHEMA_HEADS", "002")
        .env("ODOOAI_SCHEMA_KNOWN", "001,002");
    let mut child = Killed(agent.spawn());
    let mut log = BufReader::new(child.0.stderr.take().expect("piped")).lines();
    let mut waits_for = |states: &str| {
        let line = log.next().expect("a line").expect("text");
        assert!(line.contains(&format!("\"waiting_for\":\"{states}\"")), "{line}");
        assert!(!line.contains(APP_PASSWORD));
    };

    waits_for("DatabaseLoginRejected,RedisUrlInvalid");
    std::fs::write(&url_file, format!("redis://127.0.0.1:{port}/0")).expect("the kubelet refreshes a file");
    waits_for("DatabaseLoginRejected,RedisUnreachable");
    let Some(redis) = Redis::start(port) else {
        return skip("run waits", "no Redis here");
    };
    waits_for("DatabaseLoginRejected,RedisLoginRejected");
    let url = format!("redis://:{}@127.0.0.1:{port}/0", url_encoded(PASSWORD));
    std::fs::write(&url_file, format!("{url}\n")).expect("the kubelet refreshes a file");
    waits_for("DatabaseLoginRejected");
    let quoted = APP_PASSWORD.replace('\'', "''");
    postgres.execute("postgres", &format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{quoted}'"));
    waits_for("DatabaseMissing");
    postgres.execute("postgres", &format!("CREATE DATABASE \"{name}\""));
    waits_for("SchemaAbsent");
    postgres.execute(
        &name,
        &format!(
            "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
             GRANT SELECT ON alembic_version TO \"{name}\";
             INSERT INTO alembic_version VALUES ('001')"
        ),
    );
    waits_for("SchemaBehind");
    postgres.execute(&name, "UPDATE alembic_version SET version_num = '002'");

    let mut out = String::new();
    let mut stdout = child.0.stdout.take().expect("piped");
    stdout.read_to_string(&mut out).expect("text");
    assert_eq!(exit_code(&mut child.0).0, Some(0));
    assert_eq!(out, format!("{APP_PASSWORD}\n{url}\ndisable\n\n"));
    drop(redis);
}

#[test]
fn a_newer_schema_starts_at_once() {
    let Some(postgres) = Postgres::shared() else {
        return skip("newer schema", "no PostgreSQL here");
    };
    let name = postgres.fresh_name();
    let quoted = APP_PASSWORD.replace('\'', "''");
    postgres.execute("postgres", &format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{quoted}'"));
    postgres.execute("postgres", &format!("CREATE DATABASE \"{name}\" OWNER \"{name}\""));
    postgres
        .try_execute_as(
            &name,
            APP_PASSWORD,
            &name,
            "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('009')",
        )
        .expect("the owner may");
    let done = Agent::new(&["run", "--needs", "schema", "--", "echo", "started"])
        .database(postgres.port, &name)
        .env("ODOOAI_SCHEMA_HEADS", "002")
        .output();
    assert_eq!(text(&done.stdout), "started\n");
}

fn waiting(mut agent: Agent) -> (Agent, std::process::Child) {
    let mut child = agent.spawn();
    let mut line = String::new();
    BufReader::new(child.stderr.take().expect("piped")).read_line(&mut line).expect("a line");
    assert!(line.contains("RedisUnreachable"), "{line}");
    (agent, child)
}

#[test]
fn sigterm_ends_the_wait() {
    let agent = Agent::new(&["run", "--needs", "redis", "--", "true"]).redis_absent();
    let (_agent, mut child) = waiting(agent);
    terminate(child.id());
    let (code, took) = exit_code(&mut child);
    assert_eq!(code, Some(143));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn sigterm_ends_the_wait_of_pid_1_too() {
    let probe = std::process::Command::new("unshare").args(["--pid", "--fork", "true"]).output();
    if !probe.is_ok_and(|done| done.status.success()) {
        return skip("SIGTERM as PID 1", "no right to make a PID namespace");
    }
    let agent = Agent::as_pid_1(&["run", "--needs", "redis", "--", "true"]).redis_absent();
    let (_agent, mut child) = waiting(agent);
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let inner = std::fs::read_to_string(children).expect("procfs");
    terminate(inner.trim().parse().expect("one child"));
    let (code, took) = exit_code(&mut child);
    assert_eq!(code, Some(143));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn what_cannot_be_started_has_the_shells_exit_codes() {
    let Some(redis) = Redis::start(free_port()) else {
        return skip("exec failures", "no Redis here");
    };
    for (program, code) in [("/nonexistent/program", 127), ("/etc/passwd", 126)] {
        let done = Agent::new(&["run", "--needs", "redis", "--", program]).redis_of(&redis).output();
        assert_eq!(done.status.code(), Some(code));
        assert!(text(&done.stderr).contains(program));
    }
}

#[test]
fn an_incomplete_environment_is_named() {
    let done = Agent::new(&["run", "--needs", "database", "--", "true"]).output();
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("ODOOAI_DATABASE_HOST"));
}

#[test]
fn the_process_that_is_started_gets_the_signals() {
    let Some(redis) = Redis::start(free_port()) else {
        return skip("signals after exec", "no Redis here");
    };
    let mut agent = Agent::new(&["run", "--needs", "redis", "--", "sleep", "60"]).redis_of(&redis);
    let mut child = agent.spawn();
    let name = format!("/proc/{}/comm", child.id());
    eventually("exec", Duration::from_secs(5), || {
        std::fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep")
    });
    terminate(child.id());
    let (code, _) = exit_code(&mut child);
    assert_eq!(code, None, "ended by the signal itself");
}
