//! Every connection of the agent and of the application, with and without TLS.

use std::path::PathBuf;

use rstest::rstest;

use crate::agent::{APP_PASSWORD, Agent, text};
use crate::certificates::{Authority, Issued, self_signed};
use crate::servers::{PASSWORD, Postgres, Redis, free_port, skip, url_encoded};

/// What a server shows, where a right one shows a certificate for `localhost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Right,
    WrongCa,
    WrongName,
    SelfSigned,
    NoTls,
}

/// The server's certificate, and the file with what the client trusts.
fn certificate(server: Server, authority: &Authority) -> Option<Issued> {
    match server {
        Server::Right => Some(authority.issue(&["localhost"])),
        Server::WrongCa => Some(Authority::new().issue(&["localhost"])),
        Server::WrongName => Some(authority.issue(&["db.example.org"])),
        Server::SelfSigned => Some(self_signed(&["localhost"])),
        Server::NoTls => None,
    }
}

fn venv(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("AGENT_TEST_VENV").map(PathBuf::from);
    if folder.is_none() {
        skip(test, "AGENT_TEST_VENV names no virtual environment with celery and psycopg2");
    }
    folder
}

/// psycopg2 logs in as the environment says and tells whether it did so over TLS.
const PSYCOPG2: &str = "import os, psycopg2
connection = psycopg2.connect(host=os.environ['ODOOAI_DATABASE_HOST'], port=os.environ['ODOOAI_DATABASE_PORT'],
                              user=os.environ['ODOOAI_DATABASE_USER'], dbname=os.environ['ODOOAI_DATABASE_NAME'])
print(connection.info.ssl_in_use)";

/// A database and a role `plain`, which the server lets in without TLS too, and `strict`, which it doesn't.
fn postgres(server: Server, authority: &Authority) -> Option<(Postgres, Option<Issued>)> {
    let certificate = certificate(server, authority);
    let postgres = match &certificate {
        Some(certificate) => Postgres::start_tls(certificate)?,
        None => Postgres::start_plain()?,
    };
    let quoted = APP_PASSWORD.replace('\'', "''");
    for role in ["plain", "strict"] {
        postgres.execute("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{quoted}'"));
    }
    postgres.execute("postgres", "CREATE DATABASE plain OWNER plain");
    Some((postgres, certificate))
}

fn ca_file(agent: &Agent, server: Server, authority: &Authority, certificate: Option<&Issued>) -> PathBuf {
    if server != Server::SelfSigned {
        return authority.file();
    }
    let file = agent.folder.path().join("self.crt");
    std::fs::write(&file, &certificate.expect("it has one").certificate).expect("written");
    file
}

const NOT_TRUSTED: &str = "certificate is not trusted";
const WRONG_NAME: &str = "certificate is not for localhost; it names db.example.org";
const NOT_OFFERED: &str = "the server offers none";

/// `Ok` is whether the connection is encrypted.
#[rstest]
#[case(Server::Right, [Ok(false), Ok(true), Ok(true), Ok(true), Ok(true)])]
#[case(Server::WrongCa, [Ok(false), Ok(true), Ok(true), Err(NOT_TRUSTED), Err(NOT_TRUSTED)])]
#[case(Server::WrongName, [Ok(false), Ok(true), Ok(true), Ok(true), Err(WRONG_NAME)])]
#[case(Server::SelfSigned, [Ok(false), Ok(true), Ok(true), Ok(true), Ok(true)])]
#[case(Server::NoTls, [Ok(false), Ok(false), Err(NOT_OFFERED), Err(NOT_OFFERED), Err(NOT_OFFERED)])]
fn postgresql_as_libpq_means_it(#[case] server: Server, #[case] expected: [Result<bool, &str>; 5]) {
    let authority = Authority::new();
    let Some((postgres, issued)) = postgres(server, &authority) else {
        return skip("PostgreSQL with TLS", "no PostgreSQL here");
    };
    let venv = venv("PostgreSQL with psycopg2");
    for (mode, expected) in ["disable", "prefer", "require", "verify-ca", "verify-full"].into_iter().zip(expected) {
        let agent = Agent::new(&["migrate"]);
        let ca = ca_file(&agent, server, &authority, issued.as_ref());
        let configured = |agent: Agent| {
            agent
                .database(postgres.port, "plain")
                .env("ODOOAI_DATABASE_HOST", "localhost")
                .env("ODOOAI_DATABASE_SSLMODE", mode)
                .env("ODOOAI_DATABASE_CA_FILE", &ca)
        };
        let mut agent = configured(agent).env("PATH", "/nonexistent");
        let done = agent.output();
        let report = agent.report();
        let what = format!("{server:?} {mode} {report} {}", text(&done.stderr));
        match expected {
            Ok(_) => assert_eq!(report["reason"], "ImageInvalid", "it got as far as the image: {what}"),
            Err(words) => {
                assert_eq!((&report["reason"], done.status.code()), (&"TlsFailed".into(), Some(10)), "{what}");
                assert!(report["message"].as_str().is_some_and(|message| message.contains(words)), "{what}");
            }
        }
        // The application's library, with the environment that the agent makes for it.
        let (Some(venv), Ok(encrypted)) = (&venv, expected) else { continue };
        let python = venv.join("bin/python");
        let command = ["run", "--needs", "database", "--", python.to_str().expect("UTF-8"), "-c", PSYCOPG2];
        let done = configured(Agent::new(&command)).output();
        let printed = text(&done.stdout);
        assert_eq!(printed.trim(), if encrypted { "True" } else { "False" }, "{what} {}", text(&done.stderr));
    }
}

#[test]
fn a_server_that_wants_tls_says_so_and_a_missing_ca_is_named() {
    let authority = Authority::new();
    let Some((postgres, _)) = postgres(Server::Right, &authority) else {
        return skip("TLS wanted", "no PostgreSQL here");
    };
    let with = |name: &str, value: &str| {
        let mut agent = Agent::new(&["migrate"])
            .database(postgres.port, "plain")
            .env("ODOOAI_DATABASE_USER", "strict")
            .env("ODOOAI_DATABASE_CA_FILE", "/nonexistent/ca.crt")
            .env(name, value);
        assert_eq!(agent.output().status.code(), Some(10));
        let report = agent.report();
        (report["reason"].as_str().expect("text").to_owned(), report["message"].as_str().expect("text").to_owned())
    };
    let (reason, message) = with("ODOOAI_DATABASE_SSLMODE", "disable");
    assert_eq!(reason, "TlsFailed", "{message}");
    assert!(message.contains("the server wants TLS") && message.contains("sslmode disable"), "{message}");
    let (reason, message) = with("ODOOAI_DATABASE_SSLMODE", "verify-full");
    assert_eq!(reason, "ConfigInvalid", "{message}");
    assert!(message.contains("/nonexistent/ca.crt is absent or empty"), "{message}");
    let (reason, message) = with("ODOOAI_DATABASE_SSLMODE", "always");
    assert_eq!(reason, "ConfigInvalid", "{message}");
}

/// redis-py, kombu and Celery's result backend, each by the variable alone.
const PYTHON_CLIENTS: &str = "import os, sys, redis
from celery import Celery
url = os.environ['REDIS_URL']
assert redis.from_url(url).ping()
app = Celery('t', broker=url, backend=url)
with app.connection() as connection:
    connection.connect()
    connection.default_channel.client.ping()
app.backend.set('key', 'value')
assert app.backend.get('key') == b'value'
print('all three', 'ssl_cert_reqs=required' in url, 'ssl_ca_certs=' in url)";

const REDIS_WANTED: &str = "rediss:// is needed";

#[rstest]
#[case(Server::Right, "rediss", "", None)]
#[case(Server::SelfSigned, "rediss", "", None)]
#[case(Server::WrongCa, "rediss", "", Some(NOT_TRUSTED))]
#[case(Server::WrongCa, "rediss", "?ssl_cert_reqs=none", None)]
#[case(Server::WrongName, "rediss", "", Some(WRONG_NAME))]
#[case(Server::WrongName, "rediss", "?ssl_check_hostname=false", None)]
#[case(Server::NoTls, "rediss", "", Some(NOT_OFFERED))]
#[case(Server::Right, "redis", "", Some(REDIS_WANTED))]
fn redis_by_the_agent_and_by_the_applications_three_clients(
    #[case] server: Server,
    #[case] scheme: &str,
    #[case] query: &str,
    #[case] refused: Option<&str>,
) {
    let authority = Authority::new();
    let issued = certificate(server, &authority);
    let started = match &issued {
        Some(certificate) => Redis::start_tls(free_port(), certificate),
        None => Redis::start(free_port()),
    };
    let Some(redis) = started else {
        return skip("Redis with TLS", "no Redis here");
    };
    redis.write_url(&format!("{scheme}://:{}@localhost:{}/0{query}", url_encoded(PASSWORD), redis.port));
    let mut probe = Agent::new(&["probe", "worker", "--timeout-seconds", "3"]);
    let ca = ca_file(&probe, server, &authority, issued.as_ref());
    probe = probe.redis_of(&redis).env("ODOOAI_REDIS_CA_FILE", &ca);
    let log = text(&probe.output().stderr);
    // The login works when the probe finds out that there is no worker.
    assert!(log.contains(refused.unwrap_or("no worker at all listens")), "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains(&url_encoded(PASSWORD)), "{log}");
    let Some(venv) = venv("Redis with Python's clients") else { return };
    if refused.is_some() {
        return;
    }
    let python = venv.join("bin/python");
    let command = ["run", "--needs", "redis", "--", python.to_str().expect("UTF-8"), "-c", PYTHON_CLIENTS];
    let done = Agent::new(&command).redis_of(&redis).env("ODOOAI_REDIS_CA_FILE", &ca).output();
    let required = if query.contains("ssl_cert_reqs") { "False" } else { "True" };
    assert_eq!(text(&done.stdout), format!("all three {required} True\n"), "{}", text(&done.stderr));
}

#[test]
fn a_ca_that_python_does_not_trust_stops_the_application_too() {
    let Some(venv) = venv("Redis with a wrong CA") else { return };
    let authority = Authority::new();
    let Some(redis) = Redis::start_tls(free_port(), &Authority::new().issue(&["localhost"])) else {
        return skip("Redis with a wrong CA", "no Redis here");
    };
    let python = venv.join("bin/python");
    redis.write_url(&format!("rediss://:{}@localhost:{}/0", url_encoded(PASSWORD), redis.port));
    // Only the database is waited for; the URL is set all the same.
    let script = "import os, redis; redis.from_url(os.environ['REDIS_URL']).ping()";
    let Some(database) = Postgres::shared() else {
        return skip("Redis with a wrong CA", "no PostgreSQL here");
    };
    let name = database.fresh_name();
    let quoted = APP_PASSWORD.replace('\'', "''");
    database.execute("postgres", &format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{quoted}'"));
    database.execute("postgres", &format!("CREATE DATABASE \"{name}\" OWNER \"{name}\""));
    let command = ["run", "--needs", "database", "--", python.to_str().expect("UTF-8"), "-c", script];
    let done = Agent::new(&command)
        .database(database.port, &name)
        .redis_of(&redis)
        .env("ODOOAI_REDIS_CA_FILE", authority.file())
        .output();
    assert!(text(&done.stderr).contains("CERTIFICATE_VERIFY_FAILED"), "{}", text(&done.stderr));
}

#[test]
fn a_redis_that_asks_for_a_client_certificate_is_told_apart() {
    let authority = Authority::new();
    let Some(redis) = Redis::start_mutual_tls(free_port(), &authority.issue(&["localhost"])) else {
        return skip("Redis with client certificates", "no Redis here");
    };
    redis.write_url(&format!("rediss://:{}@localhost:{}/0", url_encoded(PASSWORD), redis.port));
    let done = Agent::new(&["probe", "worker"]).redis_of(&redis).env("ODOOAI_REDIS_CA_FILE", authority.file()).output();
    assert!(text(&done.stderr).contains("asks for a client certificate"), "{}", text(&done.stderr));
}

/// In an image from scratch there are no roots; in the application's there are.
#[test]
fn without_a_ca_file_the_roots_of_the_image_count_and_none_are_needed() {
    let authority = Authority::new();
    let Some(redis) = Redis::start_tls(free_port(), &authority.issue(&["localhost"])) else {
        return skip("Redis with public roots", "no Redis here");
    };
    redis.write_url(&format!("rediss://:{}@localhost:{}/0", url_encoded(PASSWORD), redis.port));
    for (roots, says) in [(authority.file(), "no worker at all listens"), ("/nonexistent".into(), NOT_TRUSTED)] {
        let done = Agent::new(&["probe", "worker"])
            .redis_of(&redis)
            .env("ODOOAI_REDIS_CA_FILE", "/nonexistent")
            .env("SSL_CERT_FILE", roots)
            .env("SSL_CERT_DIR", "/nonexistent")
            .output();
        assert!(text(&done.stderr).contains(says), "{}", text(&done.stderr));
    }
}
