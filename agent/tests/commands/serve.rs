use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agent::{APP_PASSWORD, Agent, exit_code, terminate};
use crate::certificates::Authority;
use crate::servers::{Http, Killed, PASSWORD, Postgres, Redis, eventually, free_port, skip, url_encoded};

/// What Odoo answers to a login.
const WELCOME: &str = "<?xml version='1.0'?><methodResponse><params><param><value><int>2</int></value>\
                       </param></params></methodResponse>";
const DENIED: &str = "<?xml version='1.0'?><methodResponse><params><param><value><boolean>0</boolean>\
                      </value></param></params></methodResponse>";

/// A serving agent, and what it was told to watch.
struct Serving {
    process: Killed,
    port: u16,
    database: String,
    postgres: Arc<Postgres>,
    _agent: Agent,
}

fn serve(test: &str, redis: &std::path::Path, app: u16, environment: &[(&str, &str)]) -> Option<Serving> {
    let Some(postgres) = Postgres::shared() else {
        skip(test, "no PostgreSQL here");
        return None;
    };
    let database = postgres.fresh_name();
    let quoted = APP_PASSWORD.replace('\'', "''");
    postgres.execute("postgres", &format!("CREATE ROLE \"{database}\" LOGIN PASSWORD '{quoted}'"));
    postgres.execute("postgres", &format!("CREATE DATABASE \"{database}\" OWNER \"{database}\""));
    let mut agent = Agent::new(&["serve", "--listen", "127.0.0.1:0"])
        .database(postgres.port, &database)
        .redis(redis)
        .env("ODOOAI_APP_URL", format!("http://127.0.0.1:{app}"))
        .env("ODOOAI_QUEUES", "webhooks");
    for (name, value) in environment {
        agent = agent.env(name, value);
    }
    let mut child = agent.spawn();
    let port = listening_port(&mut child);
    Some(Serving { process: Killed(child), port, database, postgres, _agent: agent })
}

fn odoo_at(url: &str) -> [(&str, &str); 2] {
    [("ODOO_URL", url), ("ODOO_PASSWORD", "odoo-secret")]
}

fn listening_port(child: &mut Child) -> u16 {
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while log.read_line(&mut line).expect("text") > 0 {
        let event: Value = serde_json::from_str(&line).expect("JSON");
        if event["message"] == "serving" {
            // Somebody must go on reading, or the agent's log blocks it.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            let address = event["address"].as_str().expect("an address");
            let (_, port) = address.rsplit_once(':').expect("a port");
            return port.parse().expect("a number");
        }
        line.clear();
    }
    panic!("the agent ended");
}

fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the agent listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
    let status = head.split(' ').nth(1).expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

fn get_json(port: u16, path: &str) -> (u16, Value) {
    let (status, body) = get(port, path);
    (status, serde_json::from_str(&body).expect("JSON"))
}

/// An application whose rules are answered as told, and everything else well; who asked for rules with the key.
fn application(rules: &Arc<std::sync::Mutex<&'static str>>) -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let rules = Arc::clone(rules);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let (mut head, mut lines) = (String::new(), BufReader::new(stream.try_clone().expect("a copy")));
            while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let keyed = head.to_lowercase().contains("x-api-key: the key");
            let status = match head.starts_with("GET /api/rules ") {
                true if !keyed => "401 Unauthorized",
                true => *rules.lock().expect("whole"),
                false => "200 OK",
            };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]");
        }
    });
    port
}

#[test]
fn startup_waits_for_the_database_by_way_of_the_application() {
    let Some(redis) = Redis::start(free_port()) else { return skip("the application's own database", "no Redis here") };
    let rules = Arc::new(std::sync::Mutex::new("500 Internal Server Error"));
    let app = application(&rules);
    let Some(serving) =
        serve("the application's own database", &redis.url_file(), app, &[("AI_SECRET_KEY", "the key")])
    else {
        return;
    };
    let (status, body) = get_json(serving.port, "/startup");
    assert_eq!((status, &body["application"]), (503, &json!(false)));
    let message = body["message"].as_str().expect("a message");
    assert!(message.contains("/api/rules with 500") && !message.contains("the key"), "{message}");
    *rules.lock().expect("whole") = "200 OK";
    eventually("started", Duration::from_secs(3), || get(serving.port, "/startup").0 == 200);
    // What it has shown once is not asked for again: a request of the application costs it something.
    *rules.lock().expect("whole") = "500 Internal Server Error";
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(get(serving.port, "/startup").0, 200);
}

#[test]
fn a_new_pod_is_held_back_once() {
    let Some(redis) = Redis::start(free_port()) else { return skip("a new pod", "no Redis here") };
    let app = Http::start("200 OK", "{}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let marker = folder.path().join("held-out").display().to_string();
    let environment = [("ODOOAI_HOLD_SECONDS", "2"), ("ODOOAI_HOLD_MARKER", marker.as_str())];
    let Some(serving) = serve("a new pod", &redis.url_file(), app.port, &environment) else { return };
    let (status, body) = get_json(serving.port, "/startup");
    assert_eq!((status, &body["application"]), (503, &json!(true)));
    assert!(body["message"].as_str().is_some_and(|it| it.starts_with("held back for 2 s more")), "{body}");
    eventually("held out", Duration::from_secs(5), || get(serving.port, "/startup").0 == 200);
    drop(serving);
    let again = serve("a new pod", &redis.url_file(), app.port, &environment).expect("it did before");
    assert_eq!(get(again.port, "/startup").0, 200, "its sidecar starts again");
}

#[test]
fn startup_says_what_is_missing_until_nothing_is() {
    let redis_port = free_port();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = folder.path().join("redis-url");
    std::fs::write(&url, format!("redis://:{}@127.0.0.1:{redis_port}/0", url_encoded(PASSWORD))).expect("written");
    let app = Http::start("200 OK", "{}");
    let broken = free_port();
    let Some(serving) = serve("startup", &url, app.port, &[]) else {
        return;
    };
    assert_eq!(get(serving.port, "/healthz").0, 200);
    let (status, body) = get_json(serving.port, "/startup");
    assert_eq!(status, 503);
    assert_eq!(body["version"], 1);
    assert_eq!([&body["database"], &body["redis"], &body["application"]], [true, false, true]);
    assert!(body["message"].as_str().is_some_and(|m| m.starts_with("Redis unreachable")));
    let Some(redis) = Redis::start(redis_port) else {
        return skip("startup", "no Redis here");
    };
    eventually("started", Duration::from_secs(3), || get(serving.port, "/startup").0 == 200);

    // The kept connections are gone; new ones take over.
    serving.postgres.execute(
        "postgres",
        &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", serving.database),
    );
    drop(redis);
    std::thread::sleep(Duration::from_millis(1100));
    let (status, body) = get_json(serving.port, "/startup");
    assert_eq!((status, &body["database"]), (503, &json!(true)));
    let redis = Redis::start(redis_port).expect("it did before");
    eventually("started again", Duration::from_secs(3), || get(serving.port, "/startup").0 == 200);
    drop(redis);
    let other = serve("startup", &url, broken, &[]).expect("it did before");
    assert_eq!(get_json(other.port, "/startup").1["application"], false);
}

#[test]
fn status_and_metrics_show_the_surroundings() {
    let Some(redis) = Redis::start(free_port()) else {
        return skip("status", "no Redis here");
    };
    let (app, odoo) = (Http::start("200 OK", "{}"), Http::start("200 OK", WELCOME));
    let Some(mut serving) =
        serve("status", &redis.url_file(), app.port, &odoo_at(&format!("http://127.0.0.1:{}/", odoo.port)))
    else {
        return;
    };
    serving
        .postgres
        .try_execute_as(
            &serving.database,
            APP_PASSWORD,
            &serving.database,
            "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('004_x');
             CREATE TABLE webhook_events (processed boolean);
             INSERT INTO webhook_events VALUES (true), (false), (NULL)",
        )
        .expect("the owner may");
    let _: u64 = redis::cmd("LPUSH").arg("celery").arg("a").arg("b").query(&mut redis.connection()).expect("pushed");
    eventually("Odoo was asked", Duration::from_secs(5), || {
        get_json(serving.port, "/status").1["odoo"]["state"] == "Reachable"
    });
    let (code, status) = get_json(serving.port, "/status");
    assert_eq!(code, 200);
    assert_eq!(status["database"], json!({"reachable": true, "schema": ["004_x"], "message": ""}));
    assert_eq!(status["application"], json!({"reachable": true, "message": ""}));
    assert_eq!(status["webhooks"], json!({"unprocessed": 2}));
    assert_eq!(status["agentVersion"], env!("CARGO_PKG_VERSION"));
    assert!(status["redis"]["usedMemoryBytes"].as_u64().is_some_and(|b| b > 0));
    assert_eq!(status["redis"]["evictionPolicy"], "noeviction");
    assert_eq!(status["queues"][0]["name"], "webhooks");
    assert_eq!(status["queues"][1]["length"], 2, "the default queue is always watched");
    let metrics = get(serving.port, "/metrics").1;
    assert!(metrics.contains("odooai_queue_length{queue=\"celery\"} 2\n"));
    assert!(metrics.contains("odooai_redis_eviction_policy{policy=\"noeviction\"} 1\n"));
    assert!(metrics.contains("odooai_webhooks_unprocessed 2\n"));
    assert!(metrics.contains("odooai_odoo_state{state=\"Reachable\"} 1\n"));

    // However often it is asked, the application is asked once a second.
    let (before, started) = (app.requests(), Instant::now());
    for _ in 0..100 {
        get(serving.port, "/status");
    }
    let seconds = started.elapsed().as_secs();
    assert!(u64::from(app.requests() - before) <= seconds + 2);
    assert_eq!(odoo.requests(), 1);

    terminate(serving.process.0.id());
    let (code, took) = exit_code(&mut serving.process.0);
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// Databases of restores are told wherever they are on the server.
#[test]
fn status_shows_what_restores_have_made() {
    let Some(redis) = Redis::start(free_port()) else {
        return skip("restores in the status", "no Redis here");
    };
    let app = Http::start("200 OK", "{}");
    let Some(serving) = serve("restores in the status", &redis.url_file(), app.port, &[]) else { return };
    let live = &serving.database;
    let run = |sql: String| serving.postgres.execute("postgres", &sql);
    let [ours, closed, other] = ["ours", "closed", "other"].map(|name| format!("{live}-{name}"));
    let note = |name: &str, state: &str| {
        let note = json!({"odooaiRestore": {"owner": "uid-of-a-restore", "artifact": "a-1", "state": state}});
        run(format!("COMMENT ON DATABASE \"{name}\" IS '{note}'"));
    };
    for name in [&ours, &closed, &other] {
        run(format!("CREATE DATABASE \"{name}\""));
    }
    run(format!("REVOKE CONNECT ON DATABASE \"{closed}\" FROM PUBLIC"));
    run(format!("COMMENT ON DATABASE \"{other}\" IS 'somebody''s own'"));
    note(&ours, "Loading");
    note(&closed, "Replaced");
    // Other tests have restores on the same server.
    let seen = || {
        let status = get_json(serving.port, "/status").1;
        let all = status["restores"].as_array().expect("a list").clone();
        Value::Array(
            all.into_iter().filter(|it| it["database"].as_str().is_some_and(|it| it.starts_with(live))).collect(),
        )
    };
    let bytes: u64 = run(format!("SELECT pg_database_size('{ours}')"))[0].parse().expect("a number");
    let entry = |database: &str, state: &str, bytes: Option<u64>| json!({"owner": "uid-of-a-restore", "database": database, "artifact": "a-1", "state": state, "bytes": bytes});
    assert_eq!(seen(), json!([entry(&closed, "Replaced", None), entry(&ours, "Loading", Some(bytes))]));
    note(&ours, "Loaded");
    eventually("the new state", Duration::from_secs(8), || seen()[1]["state"] == "Loaded");
    note(&ours, "Copied");
    eventually("that tables were copied", Duration::from_secs(8), || seen()[1]["state"] == "Copied");
    run(format!("DROP DATABASE \"{ours}\""));
    run(format!("DROP DATABASE \"{closed}\""));
    eventually("none is left", Duration::from_secs(8), || seen() == json!([]));
}

#[test]
fn odoo_that_denies_or_hangs_is_told_apart_and_blocks_nothing() {
    let Some(redis) = Redis::start(free_port()) else {
        return skip("Odoo", "no Redis here");
    };
    let app = Http::start("200 OK", "{}");
    let denied = Http::start("200 OK", DENIED);
    // Accepts in the backlog and never answers.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let hanging_port = hanging.local_addr().expect("bound").port();
    for (port, state, limit) in [(denied.port, "AccessDenied", 5), (hanging_port, "Unreachable", 8)] {
        let Some(serving) = serve("Odoo", &redis.url_file(), app.port, &odoo_at(&format!("http://127.0.0.1:{port}/")))
        else {
            return;
        };
        let started = Instant::now();
        let first = get_json(serving.port, "/status").1;
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(first["odoo"]["state"] == "Unknown" || first["odoo"]["state"] == state);
        eventually(state, Duration::from_secs(limit), || get_json(serving.port, "/status").1["odoo"]["state"] == state);
    }
}

/// In an image from scratch there are no roots, so nothing but the built-in ones is trusted; the
/// application's image may have a company's own.
#[test]
fn odoo_over_https_needs_no_roots_of_the_image_and_trusts_those_it_has() {
    let Some(redis) = Redis::start(free_port()) else {
        return skip("Odoo over HTTPS", "no Redis here");
    };
    let authority = Authority::new();
    let app = Http::start("200 OK", "{}");
    let odoo = Http::start_tls("200 OK", WELCOME, &authority.issue(&["localhost"]));
    let url = format!("https://localhost:{}", odoo.port);
    let roots = authority.file();
    let cases = [(roots.to_str().expect("UTF-8"), "Reachable", ""), ("/nonexistent", "Unreachable", "UnknownIssuer")];
    for (roots, state, message) in cases {
        let mut environment = odoo_at(&url).to_vec();
        environment.extend([("SSL_CERT_FILE", roots), ("SSL_CERT_DIR", "/nonexistent")]);
        let Some(serving) = serve("Odoo over HTTPS", &redis.url_file(), app.port, &environment) else {
            return;
        };
        let seen = || get_json(serving.port, "/status").1["odoo"].clone();
        eventually(state, Duration::from_secs(8), || seen()["state"] == state);
        assert!(seen()["message"].as_str().is_some_and(|text| text.contains(message)), "{}", seen());
    }
}
