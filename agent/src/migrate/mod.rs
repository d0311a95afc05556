//! `agent migrate`: lock → ensure → prove → inspect → decide → act → labels → report.

mod alembic;
mod backup;
mod blockers;
mod bootstrap;
pub(crate) mod child;
pub(crate) mod decide;
mod drift;
mod ensure;
pub(crate) mod error;
mod history;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod labels;
mod leftovers;
mod lock;
pub(crate) mod offline;
mod place;
pub(crate) mod pooler;
pub(crate) mod position;
mod upgrade;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use crate::config::{Admin, ConfigError, Database, Env};
use crate::job::{self, ATTEMPT, PATIENCE, Success, patiently};
use crate::migrate::backup::{Backup, revisions};
use crate::migrate::child::Python;
use crate::migrate::decide::{Decision, Image};
use crate::migrate::error::{MigrateError, Step as _};
use crate::migrate::labels::{Labels, Repair};
use crate::migrate::lock::Lock;
use crate::postgres::{self, Login, Session};
use crate::redact::Redactor;
use crate::report::{Outcome, Report, SchemaReport};
use crate::secret::Secret;

/// What was learned on the way; reported also when a later step fails.
#[derive(Debug, Default)]
struct Facts {
    schema: Option<SchemaReport>,
    incarnation: Option<String>,
    database_bytes: Option<i64>,
    rules_empty: Option<bool>,
    repaired_labels: Labels,
    drift: Option<Vec<String>>,
}

impl Facts {
    fn tell(self, report: &mut Report) {
        report.schema = self.schema;
        report.incarnation = self.incarnation;
        report.database_bytes = self.database_bytes;
        report.rules_empty = self.rules_empty;
        report.repaired_labels = self.repaired_labels;
        report.drift = self.drift;
    }
}

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("migrate", migrate(env, redactor, &mut facts));
    facts.tell(&mut ended.report);
    ended.publish(env, redactor)
}

async fn migrate(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, MigrateError> {
    let database = Database::from_env(env)?;
    let backup = Backup::from_env(env)?;
    let newer_allowed = newer_allowed(env)?;
    let password = Secret::read_known(&database.password_file, redactor)?;
    let application = Login::application(&database, password.clone());
    let admin = Admin::from_env(env)?
        .map(|admin| {
            Ok::<_, MigrateError>(Login {
                user: admin.user,
                password: Secret::read_known(&admin.password_file, redactor)?,
                ..application.clone()
            })
        })
        .transpose()?;
    let lock_database = match (env.get("ODOOAI_LOCK_DATABASE"), &admin) {
        (Some(name), _) => name,
        (None, Some(_)) => "postgres",
        (None, None) => database.name.as_str(),
    };

    let locker = admin.as_ref().unwrap_or(&application).to(lock_database);
    if admin.is_none() {
        // A password that nobody will correct is told before the wait for the lock.
        let session = login(&application, "log in as the application").await?;
        // A pooler's mode is a database's own.
        if application.database != locker.database {
            pooler::check(&session, &application).await?;
        }
    }
    let locking = login(&locker, "log in for the lock").await?;
    pooler::check(&locking, &locker).await?;
    let lock = Lock::acquire(locking, &database.name).await?;
    if let Some(admin) = &admin {
        let password = password.as_ref().ok_or(MigrateError::NoPassword)?;
        let session = login(&admin.to(lock_database), "log in as superuser").await?;
        ensure::role_and_database(&session, &admin.user, &database, password).await?;
    }
    let session = login(&application, "log in as the application").await?;
    leftovers::end(&session).await?;
    facts.rules_empty = Some(inspect::rules_empty(&session).await?);
    let incarnation = match &admin {
        Some(admin) => postgres::incarnation(&*login(admin, "log in as superuser").await?).await,
        None => postgres::incarnation(&session).await,
    };
    let incarnation = incarnation.step("read the incarnation")?;
    facts.incarnation = Some(incarnation.clone());
    facts.database_bytes = Some(inspect::bytes(&session).await?);

    let server_version = inspect::server_version(&session).await?;
    let python = Python::new(env, &database.tls, password.as_ref(), server_version, redactor);
    let attempt = Attempt {
        session: &session,
        lock: &lock,
        python: &python,
        database: &database.name,
        backup,
        incarnation: &incarnation,
        newer_allowed,
    };
    let result = attempt.run(facts).await;
    if let (Some(schema), Ok(current)) = (&mut facts.schema, inspect::current(&session).await) {
        schema.current = current.into_iter().collect();
    }
    let success = result?;
    facts.database_bytes = Some(inspect::bytes(&session).await?);
    lock.release().await;
    Ok(success)
}

fn newer_allowed(env: &Env) -> Result<bool, ConfigError> {
    const NAME: &str = "ODOOAI_SCHEMA_NEWER";
    match env.get(NAME) {
        None => Ok(false),
        Some("allow") => Ok(true),
        Some(_) => Err(ConfigError::Invalid { name: NAME, reason: "it must be `allow` or empty".to_owned() }),
    }
}

/// Everything that the work under the lock needs.
struct Attempt<'a> {
    session: &'a Session,
    lock: &'a Lock,
    python: &'a Python<'a>,
    database: &'a str,
    backup: Backup,
    incarnation: &'a str,
    newer_allowed: bool,
}

impl Attempt<'_> {
    /// Inspect, decide, act.
    async fn run(&self, facts: &mut Facts) -> Result<Success, MigrateError> {
        let image = image::revisions(self.python).await?;
        let found = inspect::found(self.session).await?;
        facts.schema = Some(SchemaReport {
            heads: image.heads.clone(),
            known: image.known.clone(),
            current: found.current.iter().cloned().collect(),
        });
        let head = image.heads.join(", ");
        let decision = decide::decide(&image, &found, self.newer_allowed);
        let (mut reason, message) = match &decision {
            Decision::AtHead => ("AtHead", format!("the schema is at {head} already")),
            Decision::NewerAllowed => {
                let current = revisions(&found.current);
                return Ok(("NewerAllowed", format!("the schema is at {current}, newer than {head}, and stays there")));
            }
            Decision::Bootstrap { resumed } => {
                tracing::info!(%head, resumed, "making the schema");
                bootstrap::run(self.session, self.lock, self.python, &image).await?;
                let how = if *resumed { "an earlier attempt's schema was finished" } else { "the schema was made" };
                ("Bootstrapped", format!("{how} and is at {head}"))
            }
            Decision::Upgrade { from } => {
                if found.unfinished.is_none() {
                    self.backup.covers(self.incarnation, from)?;
                }
                self.upgrade(&image, from).await?
            }
            Decision::Refuse { reason, message } => {
                let message = message.clone();
                return Err(MigrateError::Decided { outcome: Outcome::Refused, reason, message });
            }
        };
        if found.unfinished.is_some() {
            bootstrap::end(self.session).await?;
        }

        let backup = (decision == Decision::AtHead).then_some(&image);
        let message = match self.repair_labels(backup).await? {
            Labeled::Unknown(why) => format!("{message}; enum labels were not looked at: {why}"),
            Labeled::Repaired(labels) if labels.is_empty() => message,
            Labeled::Repaired(labels) => {
                if reason == "AtHead" {
                    reason = "EnumRepaired";
                }
                let message = format!("{message}; enum labels that the code needs were made usable: {}", list(&labels));
                facts.repaired_labels = labels;
                message
            }
        };
        facts.drift = drift::lines(self.python).await;
        Ok((reason, message))
    }

    async fn upgrade(&self, image: &Image, from: &BTreeSet<String>) -> Result<Success, MigrateError> {
        let head = image.heads.join(", ");
        let stamp = match position::find(self.session, self.python, image, from).await {
            Ok(position) => position.stamp,
            // Where the database says where it is, Alembic can go on from there.
            Err(error @ (MigrateError::Image(_) | MigrateError::Child { .. })) if !from.is_empty() => {
                tracing::warn!("what is pending can't be looked at: {error}");
                None
            }
            Err(error) => return Err(error),
        };
        let mut from = revisions(from);
        if let Some(stamp) = stamp {
            tracing::info!(revision = stamp, "recording the revision whose tables are there");
            upgrade::stamp(self.session, self.lock, self.python, &stamp).await?;
            if image.heads == [stamp.as_str()] {
                return Ok(("Stamped", format!("the schema was at {head} with {from}, which is recorded now")));
            }
            from = format!("{stamp}, as its tables show,");
        }
        tracing::info!(from, %head, "upgrading the schema");
        upgrade::run(self.session, self.lock, self.python, image, self.database).await?;
        Ok(("Upgraded", format!("the schema went from {from} to {head}")))
    }

    /// `uncovered`: no backup was asked for yet in this attempt.
    async fn repair_labels(&self, uncovered: Option<&Image>) -> Result<Labeled, MigrateError> {
        let needed = match labels::needed(self.python).await {
            Ok(models) => models.labels,
            Err(error) => {
                tracing::warn!("enum labels were not looked at: {error}");
                return Ok(Labeled::Unknown(error.to_string()));
            }
        };
        let missing = labels::missing(self.session, &needed).await?;
        if missing.is_empty() {
            return Ok(Labeled::Repaired(Labels::new()));
        }
        if let Some(image) = uncovered
            && missing.iter().any(Repair::writes_rows)
        {
            let current = inspect::current(self.session).await?;
            self.backup.covers_rows(self.incarnation, &current, &image.known)?;
        }
        let work = labels::repair(self.session, &missing);
        let (done, blockers) = blockers::watched(self.lock, self.database, work).await;
        done.map_err(|error| match error.code() {
            Some(alembic::LOCK_TIMEOUT) => {
                upgrade::blocked("the repair of enum labels", &blockers, "no label was changed")
            }
            Some(code) if !alembic::is_passing(code) => MigrateError::Decided {
                outcome: Outcome::Refused,
                reason: "MigrationFailed",
                message: format!("enum labels could not be repaired: {error}"),
            },
            _ => MigrateError::Database { step: "repair enum labels", source: error },
        })?;
        let left = labels::missing(self.session, &needed).await?;
        if !left.is_empty() {
            return Err(MigrateError::Decided {
                outcome: Outcome::Refused,
                reason: "MigrationIncomplete",
                message: format!("enum labels are still missing: {}", list(&labels::by_type(&left))),
            });
        }
        Ok(Labeled::Repaired(labels::by_type(&missing)))
    }
}

/// How the enum labels are.
enum Labeled {
    /// The models couldn't be read.
    Unknown(String),
    /// All are usable; these were not before.
    Repaired(Labels),
}

fn list(labels: &Labels) -> String {
    labels.iter().map(|(name, labels)| format!("{name} {}", labels.join(", "))).collect::<Vec<_>>().join("; ")
}

/// Logs in, waiting a while for a server that is away.
///
/// # Errors
/// What the server said.
pub(crate) async fn login(login: &Login, step: &'static str) -> Result<Session, MigrateError> {
    patiently(Instant::now() + PATIENCE, async || postgres::connect(login, ATTEMPT).await.step(step)).await
}
