//! `agent migrate`: lock → ensure → prove → inspect → decide → act → labels → report.

mod alembic;
pub(crate) mod backup;
pub(crate) mod blockers;
mod bootstrap;
pub(crate) mod change;
pub(crate) mod child;
pub(crate) mod decide;
mod drift;
pub(crate) mod ensure;
pub(crate) mod error;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod labels;
pub(crate) mod leftovers;
pub(crate) mod lock;
pub(crate) mod logins;
pub(crate) mod offline;
mod place;
pub(crate) mod pooler;
pub(crate) mod position;

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::config::{Database, Env};
use crate::job::{self, Success};
use crate::migrate::backup::{Backup, revisions};
use crate::migrate::change::Tools;
use crate::migrate::child::{APPLICATION_NAME, Python};
use crate::migrate::decide::{Decision, Image};
use crate::migrate::error::{MigrateError, Step as _};
use crate::migrate::labels::{Labels, Models, Repair};
use crate::migrate::logins::{Logins, login};
use crate::postgres;
use crate::redact::Redactor;
use crate::report::{Facts, Outcome, SchemaReport};

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("migrate", migrate(env, redactor, &mut facts));
    ended.report.facts = facts;
    ended.publish(env, redactor)
}

async fn migrate(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, MigrateError> {
    let database = Database::from_env(env)?;
    let backup = Backup::from_env(env)?;
    let logins = Logins::read(env, &database, redactor)?;
    let lock = logins.lock(None).await?;
    if let (Some(admin), Some(password)) = (&logins.admin, logins.password()) {
        let session = login(&logins.locker, "log in as superuser").await?;
        ensure::role_and_database(&session, &admin.user, &database, password).await?;
    }
    let session = login(&logins.application, "log in as the application").await?;
    leftovers::end(&session, APPLICATION_NAME).await?;
    facts.rules_empty = Some(inspect::rules_empty(&session).await?);
    let incarnation = match &logins.admin {
        Some(admin) => postgres::incarnation(&*login(admin, "log in as superuser").await?).await,
        None => postgres::incarnation(&session).await,
    };
    let incarnation = incarnation.step("read the incarnation")?;
    facts.incarnation = Some(incarnation.clone());
    facts.database_bytes = Some(inspect::bytes(&session).await?);

    let server_version = inspect::server_version(&session).await?;
    let python = Python::new(env, &database.tls, logins.password(), server_version, redactor);
    let attempt = Attempt {
        tools: Tools { session: &session, lock: &lock, python: &python, database: &database.name },
        backup,
        incarnation: &incarnation,
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

/// Everything that the work under the lock needs.
struct Attempt<'a> {
    tools: Tools<'a>,
    backup: Backup,
    incarnation: &'a str,
}

impl Attempt<'_> {
    /// Inspect, decide, act.
    async fn run(&self, facts: &mut Facts) -> Result<Success, MigrateError> {
        let (image, models) = image::read(self.tools.python).await?;
        let found = inspect::found(self.tools.session).await?;
        facts.schema = Some(SchemaReport {
            heads: image.heads.clone(),
            known: image.known.clone(),
            current: found.current.iter().cloned().collect(),
        });
        let head = image.heads.join(", ");
        let decision = decide::decide(&image, &found);
        let (mut reason, message) = match &decision {
            Decision::AtHead => ("AtHead", format!("the schema is at {head} already")),
            Decision::Newer => {
                return Err(MigrateError::Decided {
                    outcome: Outcome::Refused,
                    reason: "SchemaNewerThanImage",
                    message: format!(
                        "the database is at {}, which this image (head {head}) does not know: use the image that \
                         brought it there or a newer one",
                        revisions(&found.current)
                    ),
                });
            }
            Decision::Bootstrap { resumed } => {
                tracing::info!(%head, resumed, "making the schema");
                bootstrap::run(self.tools, &image).await?;
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
            bootstrap::end(self.tools.session).await?;
        }

        let backup = (decision == Decision::AtHead).then_some(&image);
        let message = match self.repair_labels(models, backup).await? {
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
        facts.drift = drift::lines(self.tools.python).await;
        Ok((reason, message))
    }

    async fn upgrade(&self, image: &Image, from: &BTreeSet<String>) -> Result<Success, MigrateError> {
        let head = image.heads.join(", ");
        let stamp = match position::find(self.tools.session, self.tools.python, image, from).await {
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
            self.tools.stamp(&stamp).await?;
            if image.heads == [stamp.as_str()] {
                return Ok(("Stamped", format!("the schema was at {head} with {from}, which is recorded now")));
            }
            from = format!("{stamp}, as its tables show,");
        }
        tracing::info!(from, %head, "upgrading the schema");
        self.tools.upgrade(&image.heads).await?;
        Ok(("Upgraded", format!("the schema went from {from} to {head}")))
    }

    /// `uncovered`: no backup was asked for yet in this attempt.
    async fn repair_labels(
        &self,
        models: Result<Models, String>,
        uncovered: Option<&Image>,
    ) -> Result<Labeled, MigrateError> {
        let needed = match models {
            Ok(models) => models.labels,
            Err(why) => {
                tracing::warn!("enum labels were not looked at: {why}");
                return Ok(Labeled::Unknown(why));
            }
        };
        let missing = labels::missing(self.tools.session, &needed).await?;
        if missing.is_empty() {
            return Ok(Labeled::Repaired(Labels::new()));
        }
        if let Some(image) = uncovered
            && missing.iter().any(Repair::writes_rows)
        {
            let current = inspect::current(self.tools.session).await?;
            self.backup.covers_rows(self.incarnation, &current, &image.known)?;
        }
        let work = labels::repair(self.tools.session, &missing);
        let (done, mut blockers) =
            blockers::watched(self.tools.lock, self.tools.database, APPLICATION_NAME, work).await;
        blockers::name_tables(self.tools.session, &mut blockers).await;
        done.map_err(|error| match error.code() {
            Some(alembic::LOCK_TIMEOUT) => {
                change::blocked("the repair of enum labels", &blockers, "no label was changed")
            }
            Some(code) if !alembic::is_passing(code) => MigrateError::Decided {
                outcome: Outcome::Refused,
                reason: "MigrationFailed",
                message: format!("enum labels could not be repaired: {error}"),
            },
            _ => MigrateError::Database { step: "repair enum labels", source: error },
        })?;
        let left = labels::missing(self.tools.session, &needed).await?;
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
