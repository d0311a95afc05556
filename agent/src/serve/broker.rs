//! Redis as `serve` sees it: memory, queues, and whether somebody consumes them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;

use crate::config;
use crate::redact::Redactor;
use crate::redis::{self, RedisError, bounded};

/// Time for one question.
const LIMIT: Duration = Duration::from_secs(3);
/// Time for an old connection to prove itself before a new one is tried; with the
/// next it makes the 3 s of a check.
const OLD_CONNECTION: Duration = Duration::from_secs(1);
const NEW_CONNECTION: Duration = Duration::from_secs(2);

/// Where Celery sends a task that has no route; the trap is that nobody consumes it.
const DEFAULT_QUEUE: &str = "celery";

/// kombu keeps a priority's messages in a list of its own.
const PRIORITIES: [&str; 4] = ["", "\u{6}\u{16}3", "\u{6}\u{16}6", "\u{6}\u{16}9"];

/// The connection, the queues to look at, and what was seen of them.
#[derive(Debug)]
pub(crate) struct Broker {
    config: config::Redis,
    redactor: Arc<Redactor>,
    queues: Vec<String>,
    connection: Mutex<Option<MultiplexedConnection>>,
    heads: Mutex<Heads>,
}

/// One queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Queue {
    /// Its name.
    pub(crate) name: String,
    /// Messages that wait in it.
    pub(crate) length: u64,
    /// Seconds for which the oldest message has been the same, as far as this
    /// process saw: nobody consumed anything in this time.
    pub(crate) unconsumed_seconds: f64,
}

/// What is in Redis, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Content {
    /// Memory in use, bytes.
    pub(crate) used_memory: Option<u64>,
    /// Memory limit, bytes; 0 is none.
    pub(crate) max_memory: Option<u64>,
    /// What it does when the limit is reached.
    pub(crate) eviction_policy: Option<String>,
    /// The queues.
    pub(crate) queues: Vec<Queue>,
    /// Tasks that a worker has taken and not acknowledged.
    pub(crate) unacknowledged: Option<u64>,
    /// Why something could not be read.
    pub(crate) message: String,
}

impl Broker {
    /// Connects later.
    pub(crate) fn new(config: config::Redis, redactor: Arc<Redactor>, mut queues: Vec<String>) -> Self {
        if !queues.iter().any(|queue| queue == DEFAULT_QUEUE) {
            queues.push(DEFAULT_QUEUE.to_owned());
        }
        Self { config, redactor, queues, connection: Mutex::new(None), heads: Mutex::new(Heads::default()) }
    }

    /// `PING`, over a new connection if the kept one fails.
    ///
    /// # Errors
    /// One line for a person, within 3 s.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let mut slot = self.connection.lock().await;
        if let Some(mut connection) = slot.take() {
            let command = ::redis::cmd("PING");
            let answer = command.query_async::<String>(&mut connection);
            if bounded(OLD_CONNECTION, answer).await.is_ok() {
                *slot = Some(connection);
                return Ok(());
            }
        }
        let connection =
            redis::connect(&self.config, &self.redactor, NEW_CONNECTION).await.map_err(|error| error.to_string())?;
        *slot = Some(connection);
        Ok(())
    }

    /// Reads what is in it over the connection that [`Broker::check`] keeps.
    pub(crate) async fn content(&self) -> Content {
        let Some(connection) = self.connection.lock().await.clone() else {
            return Content::default();
        };
        let mut content = Content::default();
        if let Err(error) = self.read(connection, &mut content).await {
            content.message = error.to_string();
        }
        content
    }

    async fn read(&self, mut connection: MultiplexedConnection, content: &mut Content) -> Result<(), RedisError> {
        let info: String = bounded(LIMIT, ::redis::cmd("INFO").arg("memory").query_async(&mut connection)).await?;
        content.used_memory = info_number(&info, "used_memory");
        content.max_memory = info_number(&info, "maxmemory");
        content.eviction_policy = info_value(&info, "maxmemory_policy").map(str::to_owned);
        for name in &self.queues {
            let mut pipe = ::redis::pipe();
            for priority in PRIORITIES {
                pipe.llen(format!("{name}{priority}"));
            }
            // kombu pushes on the left and pops from the right.
            pipe.lindex(name, -1);
            let (a, b, c, d, oldest): (u64, u64, u64, u64, Option<Vec<u8>>) =
                bounded(LIMIT, pipe.query_async(&mut connection)).await?;
            let oldest = oldest.map(|message| {
                let mut hasher = DefaultHasher::new();
                message.hash(&mut hasher);
                hasher.finish()
            });
            let since = self.heads.lock().await.seen(name, oldest, Instant::now());
            content.queues.push(Queue {
                name: name.clone(),
                length: a + b + c + d,
                unconsumed_seconds: since.as_secs_f64(),
            });
        }
        let count = bounded(LIMIT, ::redis::cmd("HLEN").arg("unacked").query_async(&mut connection)).await?;
        content.unacknowledged = Some(count);
        Ok(())
    }
}

fn info_value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn info_number(info: &str, name: &str) -> Option<u64> {
    info_value(info, name)?.parse().ok()
}

/// The oldest message of each queue and since when it is that one. A consumed
/// queue that grows changes its oldest message, one that nobody consumes never does.
#[derive(Debug, Default)]
struct Heads(BTreeMap<String, (u64, Instant)>);

impl Heads {
    fn seen(&mut self, queue: &str, oldest: Option<u64>, now: Instant) -> Duration {
        let Some(oldest) = oldest else {
            self.0.remove(queue);
            return Duration::ZERO;
        };
        match self.0.get(queue) {
            Some((known, since)) if *known == oldest => now.duration_since(*since),
            _ => {
                self.0.insert(queue.to_owned(), (oldest, now));
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_head_ages() {
        let mut heads = Heads::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(heads.seen("q", Some(1), at(0)), Duration::ZERO);
        assert_eq!(heads.seen("q", Some(1), at(40)), Duration::from_secs(40));
        assert_eq!(heads.seen("q", Some(2), at(50)), Duration::ZERO);
        assert_eq!(heads.seen("q", None, at(60)), Duration::ZERO);
        assert_eq!(heads.seen("q", Some(2), at(70)), Duration::ZERO);
    }

    #[test]
    fn numbers_and_words_of_info() {
        let info = "# Memory\r\nused_memory:1048576\r\nused_memory_human:1M\r\nmaxmemory:0\r\n\
                    maxmemory_policy:noeviction\r\n";
        assert_eq!(info_value(info, "maxmemory_policy"), Some("noeviction"));
        assert_eq!(info_number(info, "used_memory"), Some(1_048_576));
        assert_eq!(info_number(info, "maxmemory"), Some(0));
        assert_eq!(info_number(info, "other"), None);
    }
}
