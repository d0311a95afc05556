//! What `serve` knows of the pod's surroundings, never older than a second when asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use tokio::sync::watch;

use crate::config;
use crate::odoo;
use crate::redact::Redactor;
use crate::serve::broker::{self, Broker};
use crate::serve::database::{self, Database};
use crate::serve::fresh::Fresh;
use crate::serve::holdout::HoldOut;

/// Answers are shared for this long.
const LIFETIME: Duration = Duration::from_secs(1);
/// Rows of the database by way of the application: all of its models' labels are read.
const RULES: &str = "/api/rules";
/// Time for the application to answer.
const APPLICATION: Duration = Duration::from_secs(3);
/// Time until Odoo is asked again, before jitter. Odoo locks an address out after a few refused logins,
/// so these are rare; an Odoo that is away is missed as soon as it is back.
fn pause(state: odoo::State) -> Duration {
    Duration::from_secs(match state {
        odoo::State::Reachable => 20,
        odoo::State::AccessDenied => 60,
        odoo::State::Unreachable | odoo::State::Unknown => 5,
    })
}

/// Does it answer? `Err` is one redacted line for a person.
pub(crate) type Reached = Result<(), String>;

/// The three things without which the application is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Basics {
    /// Login and `SELECT 1`.
    pub(crate) database: Reached,
    /// Login and `PING`.
    pub(crate) redis: Reached,
    /// `GET /openapi.json` of this pod.
    pub(crate) application: Reached,
}

impl Basics {
    /// Whether all of them answer.
    pub(crate) fn all(&self) -> bool {
        self.database.is_ok() && self.redis.is_ok() && self.application.is_ok()
    }

    /// What is missing, in one line.
    pub(crate) fn message(&self) -> String {
        [&self.database, &self.redis, &self.application]
            .into_iter()
            .filter_map(|reached| reached.as_ref().err())
            .cloned()
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// Everything that status and metrics show.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// What answers.
    pub(crate) basics: Basics,
    /// What the database holds.
    pub(crate) database: database::Content,
    /// What Redis holds.
    pub(crate) redis: broker::Content,
    /// Odoo's last answer.
    pub(crate) odoo: odoo::Answer,
}

/// Asks, at most as often as it may.
#[derive(Debug)]
pub(crate) struct Observer {
    database: Database,
    broker: Broker,
    client: Client,
    app_url: String,
    app_key: Option<String>,
    /// Everything answered once, the application's API included.
    started: AtomicBool,
    hold: Arc<HoldOut>,
    redactor: Arc<Redactor>,
    basics: Fresh<Option<Basics>>,
    details: Fresh<Option<(database::Content, broker::Content)>>,
    odoo: watch::Receiver<odoo::Answer>,
}

impl Observer {
    /// Starts to ask Odoo, if there is one; everything else is asked on demand.
    pub(crate) fn start(config: config::Serve, client: Client, redactor: &Arc<Redactor>) -> Arc<Self> {
        let (sender, receiver) = watch::channel(odoo::Answer::default());
        if let Some(odoo) = config.odoo {
            tokio::spawn(ask_odoo(client.clone(), odoo, Arc::clone(redactor), sender));
        }
        let hold = Arc::new(HoldOut::new(config.hold, config.hold_marker));
        if let Some((host, port)) = place(&config.app_url) {
            tokio::spawn(Arc::clone(&hold).notice_ends(host, port));
        }
        Arc::new(Self {
            database: Database::new(config.database, Arc::clone(redactor)),
            broker: Broker::new(config.redis, Arc::clone(redactor), config.queues),
            client,
            app_url: config.app_url,
            app_key: config.app_key,
            started: AtomicBool::new(false),
            hold,
            redactor: Arc::clone(redactor),
            basics: Fresh::new(LIFETIME),
            details: Fresh::new(LIFETIME),
            odoo: receiver,
        })
    }

    /// Database, Redis and application, asked at the same time.
    pub(crate) async fn basics(&self) -> Basics {
        let basics = self
            .basics
            .get(|before| async move {
                let (database, redis, application) =
                    futures::join!(self.database.check(), self.broker.check(), self.application());
                let now = Basics {
                    database: self.redacted(database),
                    redis: self.redacted(redis),
                    application: self.redacted(application),
                };
                if now.all() {
                    self.started.store(true, Ordering::Relaxed);
                }
                log_change(before.flatten().as_ref(), &now);
                Some(now)
            })
            .await;
        basics.expect("the computation always gives one")
    }

    /// How long the pod is still held back although all of them answer.
    pub(crate) fn held_back(&self, basics: &Basics) -> Option<Duration> {
        self.hold.left(basics.all(), Instant::now())
    }

    /// The whole picture. A part that does not answer is not asked for its content.
    pub(crate) async fn everything(&self) -> Observation {
        let basics = self.basics().await;
        let (reached_database, reached_redis) = (basics.database.is_ok(), basics.redis.is_ok());
        let details = self
            .details
            .get(|_| async move {
                let database = async {
                    if reached_database { self.database.content().await } else { database::Content::default() }
                };
                let redis =
                    async { if reached_redis { self.broker.content().await } else { broker::Content::default() } };
                Some(futures::join!(database, redis))
            })
            .await;
        let (database, redis) = details.expect("the computation always gives one");
        Observation { basics, database, redis, odoo: self.odoo.borrow().clone() }
    }

    /// It answers and, until it has started, its own code reaches the database: `/openapi.json` asks for neither,
    /// and `/health` would ask Odoo without a limit of time, while nothing else is answered.
    async fn application(&self) -> Reached {
        let asked = async {
            self.ask("/openapi.json", None).await?;
            match &self.app_key {
                Some(key) if !self.started.load(Ordering::Relaxed) => self.ask(RULES, Some(key)).await,
                _ => Ok(()),
            }
        };
        tokio::time::timeout(APPLICATION, asked).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn ask(&self, path: &str, key: Option<&String>) -> Reached {
        let mut request = self.client.get(format!("{}{path}", self.app_url)).timeout(APPLICATION);
        if let Some(key) = key {
            request = request.header("X-API-Key", key);
        }
        match request.send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            // A release without this path has nothing to prove by it.
            Ok(response) if response.status() == StatusCode::NOT_FOUND && key.is_some() => Ok(()),
            Ok(response) if key.is_some() => Err(format!("application answered {path} with {}", response.status())),
            Ok(response) => Err(format!("application answered {}", response.status())),
            Err(error) if error.is_timeout() => Err(silent()),
            Err(error) if error.is_connect() => Err("application not listening".to_owned()),
            Err(_) => Err("application broke the connection off".to_owned()),
        }
    }

    fn redacted(&self, reached: Reached) -> Reached {
        reached.map_err(|message| self.redactor.redact(&message))
    }
}

/// Host and port of the application.
fn place(url: &str) -> Option<(String, u16)> {
    let url = reqwest::Url::parse(url).ok()?;
    Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?))
}

fn silent() -> String {
    format!("application gave no answer within {} s", APPLICATION.as_secs())
}

fn log_change(before: Option<&Basics>, now: &Basics) {
    let states = |basics: &Basics| (basics.database.is_ok(), basics.redis.is_ok(), basics.application.is_ok());
    if before.map(states) == Some(states(now)) {
        return;
    }
    let (database, redis, application) = states(now);
    tracing::info!(database, redis, application, message = now.message());
}

async fn ask_odoo(client: Client, config: config::Odoo, redactor: Arc<Redactor>, answers: watch::Sender<odoo::Answer>) {
    redactor.learn_secret(&config.secret);
    loop {
        let mut answer = odoo::authenticate(&client, &config).await;
        answer.message = redactor.redact(&answer.message);
        if answer.state != answers.borrow().state {
            tracing::info!(odoo = answer.state.as_str(), message = answer.message);
        }
        let pause = pause(answer.state);
        answers.send_replace(answer);
        tokio::time::sleep(pause.mul_f64(1.0 + 0.1 * fastrand::f64())).await;
    }
}
