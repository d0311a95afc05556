//! `agent plan`: connect → inspect → decide → print the SQL of what is pending → report.
//! Nothing is written and no lock is taken; what `migrate` would do comes from its own table.

mod connect;
pub(crate) mod report;
pub(crate) mod unreadable;
mod verdict;

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::config::{Database, Env};
use crate::job::{self, Success};
use crate::migrate::child::Python;
use crate::migrate::decide::{self, Decision, Found, Image};
use crate::migrate::error::MigrateError;
use crate::migrate::labels::Models;
use crate::migrate::logins::Logins;
use crate::migrate::{image, inspect, labels, position};
use crate::plan::connect::{Place, READ_ONLY, connect};
use crate::plan::report::PlanReport;
use crate::postgres::{DatabaseError, Session};
use crate::redact::Redactor;
use crate::report::{Facts, Outcome, SchemaReport};

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("plan", plan(env, redactor, &mut facts));
    ended.report.facts = facts;
    ended.publish(env, redactor)
}

async fn plan(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, MigrateError> {
    let database = Database::from_env(env)?;
    let logins = Logins::read(env, &database, redactor)?;
    let mut server_version = 0;
    let session = match connect(&logins).await? {
        Place::Absent => None,
        Place::Database { session, incarnation } => {
            facts.incarnation = Some(incarnation);
            facts.database_bytes = Some(inspect::bytes(&session).await?);
            server_version = inspect::server_version(&session).await?;
            Some(session)
        }
    };
    facts.rules_empty = Some(match &session {
        None => true,
        Some(session) => inspect::rules_empty(session).await?,
    });
    let python = Python::new(&read_only(env), &database.tls, logins.password(), server_version, redactor);
    let result = Plan { session: session.as_ref(), python: &python }.make(facts).await;
    result.map_err(|error| match error {
        // Of a process that only reads, so its name for `migrate` would mislead.
        MigrateError::Child { step, status, tail } => MigrateError::Decided {
            outcome: Outcome::Failed,
            reason: "ProcessFailed",
            message: format!("{step} failed ({status}): {tail}"),
        },
        other => other,
    })
}

/// What a revision or the application's code does to the database on its own can't write.
pub(crate) fn read_only(env: &Env) -> Env {
    let options = format!("{} {READ_ONLY}", env.get("PGOPTIONS").unwrap_or_default());
    env.iter().chain([("PGOPTIONS", options.trim())]).collect()
}

/// Everything that can be asked.
struct Plan<'a> {
    session: Option<&'a Session>,
    python: &'a Python<'a>,
}

impl Plan<'_> {
    async fn make(&self, facts: &mut Facts) -> Result<Success, MigrateError> {
        let (image, models) = image::read(self.python).await?;
        let found = match self.session {
            None => Found::default(),
            Some(session) => inspect::found(session).await?,
        };
        facts.schema = Some(SchemaReport {
            heads: image.heads.clone(),
            known: image.known.clone(),
            current: found.current.iter().cloned().collect(),
        });
        let decision = decide::decide(&image, &found);
        let mut plan = PlanReport::default();
        let (reason, message) = match &decision {
            Decision::Refuse { reason, message } => {
                let message = message.clone();
                return Err(MigrateError::Decided { outcome: Outcome::Refused, reason, message });
            }
            Decision::AtHead => ("UpToDate", format!("the schema is at {}", image.heads.join(", "))),
            Decision::Newer => ("NewerThanImage", verdict::newer(&image, &found)),
            Decision::Bootstrap { resumed } => ("Bootstrap", verdict::bootstrap(&image, *resumed)),
            Decision::Upgrade { from } => {
                self.upgrade(&image, from, &mut plan).await?;
                ("Pending", verdict::pending(&image, from, &plan))
            }
        };
        plan.needed = matches!(decision, Decision::Bootstrap { .. } | Decision::Upgrade { .. });
        plan.bootstrap = matches!(decision, Decision::Bootstrap { .. });

        let (mut reason, mut message) = (reason, message);
        if let Some(why) = self.labels(models, &decision, &mut plan, facts).await? {
            tracing::warn!("enum labels were not looked at: {why}");
            message = format!("{message}; warning: enum labels were not looked at: {why}");
            plan.labels_unknown = (decision == Decision::Newer).then(|| verdict::last_line(&why));
        }
        if !plan.missing_labels.is_empty() {
            plan.needed = true;
            if reason == "UpToDate" {
                reason = "Pending";
            }
            message = format!("{message}; {}", verdict::labels(&plan.missing_labels));
        }
        if !plan.unreadable.is_empty() {
            message = format!("{message}; {}", verdict::unreadable(&plan.unreadable));
        }
        facts.plan = Some(plan);
        Ok((reason, message))
    }

    /// Compares the database's enum labels with those of the code; why not, where that couldn't be done.
    async fn labels(
        &self,
        models: Result<Models, String>,
        decision: &Decision,
        plan: &mut PlanReport,
        facts: &mut Facts,
    ) -> Result<Option<String>, MigrateError> {
        let models = match models {
            Ok(models) => models,
            Err(why) => return Ok(Some(why)),
        };
        facts.enum_labels = Some(models.labels.clone());
        let Some(session) = self.session else { return Ok(None) };
        match decision {
            Decision::AtHead | Decision::Upgrade { .. } => {
                plan.missing_labels = labels::by_type(&labels::missing(session, &models.labels).await?);
            }
            Decision::Newer => match unreadable::find(session, &models).await {
                Ok(found) => plan.unreadable = found,
                // Another attempt ends the same: a table that is not ours to read, or too large.
                Err(
                    error @ MigrateError::Database {
                        source: DatabaseError::Statement { .. } | DatabaseError::TimedOut(_),
                        ..
                    },
                ) => return Ok(Some(error.to_string())),
                Err(error) => return Err(error),
            },
            Decision::Bootstrap { .. } | Decision::Refuse { .. } => {}
        }
        Ok(None)
    }

    async fn upgrade(&self, image: &Image, from: &BTreeSet<String>, plan: &mut PlanReport) -> Result<(), MigrateError> {
        let session = self.session.expect("only a database can be behind");
        match position::find(session, self.python, image, from).await {
            Ok(position) => {
                plan.stamp = position.stamp;
                plan.pending = position.pending.into_iter().map(verdict::revision).collect();
            }
            // `migrate` then leaves it to Alembic to go on from what is recorded.
            Err(error @ (MigrateError::Image(_) | MigrateError::Child { .. })) if !from.is_empty() => {
                plan.pending = verdict::unprinted(image, from, &error.to_string());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
