//! `agent migrate`: lock → ensure → prove → inspect → decide → act → report.

mod bootstrap;
mod child;
mod decide;
mod ensure;
mod error;
mod image;
mod inspect;
mod lock;
#[allow(dead_code, reason = "agent plan comes with the next commit")]
pub(crate) mod offline;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::config::{Admin, Database, Env};
use crate::migrate::child::Python;
use crate::migrate::decide::Decision;
use crate::migrate::error::{MigrateError, Step as _};
use crate::migrate::lock::Lock;
use crate::postgres::{self, DatabaseError, Login, Session};
use crate::redact::Redactor;
use crate::report::{Outcome, Report, SchemaReport};
use crate::secret::Secret;
use crate::signals::{TERMINATED, Termination};

/// Time for one login.
const LOGIN: Duration = Duration::from_secs(5);

/// A server that restarts is waited for this long; the Job's next attempt goes on.
const PATIENCE: Duration = Duration::from_mins(1);

/// What was learned on the way; reported also when a later step fails.
#[derive(Debug, Default)]
struct Facts {
    schema: Option<SchemaReport>,
    incarnation: Option<String>,
    database_bytes: Option<i64>,
    rules_empty: Option<bool>,
}

/// A success: one word for programs, one sentence for people.
type Success = (&'static str, String);

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let work = async {
        let mut termination = Termination::listen().map_err(MigrateError::Runtime)?;
        tokio::select! {
            biased;
            () = termination.received() => Err(MigrateError::Terminated),
            result = migrate(env, redactor, &mut facts) => result,
        }
    };
    let result = crate::block_on(work).unwrap_or_else(|error| Err(MigrateError::Runtime(error)));
    let terminated = matches!(result, Err(MigrateError::Terminated));
    let mut report = match result {
        Ok((reason, message)) => Report::new("migrate", Outcome::Succeeded, reason, message),
        Err(error) => Report::new("migrate", error.outcome(), error.reason(), error.to_string()),
    };
    report.schema = facts.schema;
    report.incarnation = facts.incarnation;
    report.database_bytes = facts.database_bytes;
    report.rules_empty = facts.rules_empty;
    let code = if terminated { TERMINATED } else { report.result.exit_code() };
    report.publish(env, redactor);
    ExitCode::from(code)
}

async fn migrate(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, MigrateError> {
    let database = Database::from_env(env)?;
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
        login(&application, "log in as the application").await?;
    }
    let lock = Lock::acquire(login(&locker, "log in for the lock").await?, &database.name).await?;
    if let Some(admin) = &admin {
        let password = password.as_ref().ok_or(MigrateError::NoPassword)?;
        let session = login(&admin.to(lock_database), "log in as superuser").await?;
        ensure::role_and_database(&session, &admin.user, &database, password).await?;
    }
    let session = login(&application, "log in as the application").await?;
    facts.rules_empty = Some(inspect::rules_empty(&session).await?);
    let incarnation = match &admin {
        Some(admin) => postgres::incarnation(&*login(admin, "log in as superuser").await?).await,
        None => postgres::incarnation(&session).await,
    };
    facts.incarnation = Some(incarnation.step("read the incarnation")?);
    facts.database_bytes = Some(inspect::bytes(&session).await?);

    let python = Python::new(env, &database.tls, password.as_ref(), redactor);
    let success = act(&session, &lock, &python, facts).await?;
    facts.database_bytes = Some(inspect::bytes(&session).await?);
    lock.release().await;
    Ok(success)
}

/// Inspect, decide, act; the lock is held.
async fn act(session: &Session, lock: &Lock, python: &Python<'_>, facts: &mut Facts) -> Result<Success, MigrateError> {
    let image = image::revisions(python).await?;
    let found = inspect::found(session).await?;
    facts.schema = Some(SchemaReport {
        heads: image.heads.clone(),
        known: image.known.clone(),
        current: found.current.iter().cloned().collect(),
    });
    let head = image.heads.join(", ");
    match decide::decide(&image, &found) {
        Decision::AtHead => {
            if found.unfinished.is_some() {
                bootstrap::end(session).await?;
            }
            Ok(("AtHead", format!("the schema is at {head} already")))
        }
        Decision::Bootstrap { resumed } => {
            tracing::info!(%head, resumed, "making the schema");
            bootstrap::run(session, lock, python, &image).await?;
            if let Some(schema) = &mut facts.schema {
                schema.current.clone_from(&schema.heads);
            }
            let how = if resumed { "an earlier attempt's schema was finished" } else { "the schema was made" };
            Ok(("Bootstrapped", format!("{how} and is at {head}")))
        }
        Decision::Refuse { reason, message } => Err(MigrateError::Refused { reason, message }),
    }
}

/// Logs in, waiting a while for a server that is away.
async fn login(login: &Login, step: &'static str) -> Result<Session, MigrateError> {
    let started = Instant::now();
    loop {
        match postgres::connect(login, LOGIN).await {
            Err(error) if error.is_transient() && started.elapsed() < PATIENCE => {
                log_wait(step, &error);
                tokio::time::sleep(Duration::from_secs_f64(1.4 + 1.2 * fastrand::f64())).await;
            }
            result => return result.step(step),
        }
    }
}

fn log_wait(step: &str, error: &DatabaseError) {
    tracing::info!("waiting: {step}: {error}");
}
