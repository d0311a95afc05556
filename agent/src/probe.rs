//! `agent probe worker`: is this pod's Celery worker consuming?

use std::process::ExitCode;
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use thiserror::Error;

use crate::config::{self, Env};
use crate::pidbox::{self, Mailbox};
use crate::redact::Redactor;
use crate::redis::{self, RedisError};
use crate::redis_url::RedisUrl;

/// Left of the whole time to tidy up and to say what was wrong.
const RESERVE: Duration = Duration::from_millis(500);

/// Why the worker does not count as working.
#[derive(Debug, Error)]
enum ProbeError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
    #[error("no worker at all listens on this Redis")]
    NobodyListens,
    #[error("{node} did not answer within {seconds} s")]
    NoAnswer { node: String, seconds: u64 },
}

/// Runs the command. The kubelet shows what it prints when it fails.
pub(crate) fn main(env: &Env, redactor: &Redactor, limit: Duration, destination: Option<String>) -> ExitCode {
    match worker(env, redactor, limit, destination) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn worker(env: &Env, redactor: &Redactor, limit: Duration, destination: Option<String>) -> Result<(), ProbeError> {
    let redis = RedisUrl::read(&config::Redis::from_env(env), redactor).map_err(RedisError::from)?;
    let node = match destination {
        Some(node) => node,
        None => default_node()?,
    };
    crate::block_on(ping(&redis, &node, limit)).map_err(|source| ProbeError::System { what: "runtime", source })?
}

/// Celery's default node name; it asks the kernel for the host name, as this does.
fn default_node() -> Result<String, ProbeError> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_err(|source| ProbeError::System { what: "host name", source })?;
    Ok(format!("celery@{}", host.trim()))
}

async fn ping(redis: &RedisUrl, node: &str, limit: Duration) -> Result<(), ProbeError> {
    let deadline = Instant::now() + limit;
    let answer_by = deadline.checked_sub(RESERVE).unwrap_or(deadline);
    // One connection for commands, one that blocks: they must not wait for each other.
    let left = answer_by.saturating_duration_since(Instant::now());
    let mut connection = redis::log_in(redis, left).await?;
    let mailbox = Mailbox::of_probe(node);
    let ticket = format!("{:032x}", fastrand::u128(..));

    let asked = ask(redis, &mut connection, &mailbox, node, &ticket, answer_by).await;
    // Without its binding nobody pushes to the list any more, so it goes last.
    let tidied = redis::bounded(
        RESERVE,
        ::redis::pipe()
            .srem(Mailbox::bindings_key(), mailbox.binding())
            .ignore()
            .del(mailbox.queue())
            .ignore()
            .query_async::<()>(&mut connection),
    )
    .await;
    if let Err(error) = tidied {
        tracing::warn!(%error, "reply queue not removed");
    }
    match asked {
        Ok(true) => Ok(()),
        Ok(false) => Err(ProbeError::NoAnswer { node: node.to_owned(), seconds: limit.as_secs() }),
        Err(error) => Err(error),
    }
}

/// Whether the node answered in time.
async fn ask(
    redis: &RedisUrl,
    connection: &mut MultiplexedConnection,
    mailbox: &Mailbox,
    node: &str,
    ticket: &str,
    answer_by: Instant,
) -> Result<bool, ProbeError> {
    let left = || answer_by.saturating_duration_since(Instant::now());
    let mut blocking = redis::log_in(redis, left()).await?;
    let (listeners,): (u64,) = redis::bounded(
        left(),
        ::redis::pipe()
            .del(mailbox.queue())
            .ignore()
            .sadd(Mailbox::bindings_key(), mailbox.binding())
            .ignore()
            .publish(pidbox::channel(redis.db), mailbox.ping(node, ticket))
            .query_async(connection),
    )
    .await?;
    if listeners == 0 {
        return Err(ProbeError::NobodyListens);
    }
    loop {
        let wait = left();
        if wait.is_zero() {
            return Ok(false);
        }
        // The server's own time-out, so that it forgets us when we go.
        let popped = redis::bounded(
            wait + Duration::from_millis(100),
            ::redis::cmd("BRPOP")
                .arg(mailbox.queue())
                .arg(wait.as_secs_f64().max(0.01))
                .query_async::<Option<(String, String)>>(&mut blocking),
        )
        .await;
        match popped {
            Ok(Some((_, message))) if pidbox::is_pong(&message, node, ticket) => return Ok(true),
            Ok(Some(_)) => {}
            Ok(None) | Err(RedisError::TimedOut(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}
