use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::agent::{Agent, text};
use crate::servers::{Killed, Redis, eventually, free_port, skip};

#[test]
fn without_a_worker_the_probe_fails_and_leaves_nothing() {
    let Some(redis) = Redis::start(free_port()) else {
        return skip("probe without a worker", "no Redis here");
    };
    let done = Agent::new(&["probe", "worker"]).redis_of(&redis).output();
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("no worker at all listens"));
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.connection()).expect("keys");
    assert!(keys.is_empty(), "{keys:?}");
}

#[test]
fn without_redis_the_probe_fails() {
    let done = Agent::new(&["probe", "worker"]).redis_absent().output();
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("Redis unreachable"));
}

/// With a real Celery, from the virtual environment that `AGENT_TEST_VENV` names.
#[test]
fn a_real_worker_answers_to_its_own_name_only() {
    let Some(venv) = std::env::var_os("AGENT_TEST_VENV").map(PathBuf::from) else {
        return skip("probe of a worker", "AGENT_TEST_VENV names no virtual environment with celery");
    };
    let Some(redis) = Redis::start(free_port()) else {
        return skip("probe of a worker", "no Redis here");
    };
    let url = format!("redis://:adm%27in%20p%40ss%25%2Fword@127.0.0.1:{}/0", redis.port);
    std::fs::write(
        redis.folder.path().join("tasks.py"),
        format!("from celery import Celery\napp = Celery('t', broker='{url}')\n"),
    )
    .expect("written");
    let worker = Command::new(venv.join("bin/celery"))
        .args(["-A", "tasks", "worker", "--pool", "solo", "-n", "celery@here"])
        .current_dir(redis.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("celery can be run");
    let worker = Killed(worker);
    let probe = |node: &str, seconds: &str| {
        Agent::new(&["probe", "worker", "--destination", node, "--timeout-seconds", seconds]).redis_of(&redis).output()
    };
    eventually("the worker answers", Duration::from_secs(20), || probe("celery@here", "8").status.success());
    let other = probe("celery@there", "1");
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("celery@there did not answer within 1 s"));
    let keys: Vec<String> = redis::cmd("KEYS").arg("*reply*").query(&mut redis.connection()).expect("keys");
    assert!(keys.is_empty(), "{keys:?}");
    drop(worker);
    assert_eq!(probe("celery@here", "1").status.code(), Some(1));
}
