//! `agent login`: read → check both → change what a Managed server doesn't accept yet → prove → report.
//!
//! Nothing is changed before everything that can be checked was: a wrong password for
//! one server must not leave the other changed. Each step is decided from what the
//! servers say, so a killed attempt is simply run again.

mod database;
mod error;
mod redis;

use std::process::ExitCode;
use std::time::Instant;

use crate::config::{self, Admin, Env};
use crate::job::{self, PATIENCE, Success};
use crate::login::database::Database;
use crate::login::error::LoginError;
use crate::login::redis::Redis;
use crate::postgres::{self, Login};
use crate::redact::Redactor;
use crate::redis_url::RedisUrl;
use crate::secret::Secret;

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut incarnation = None;
    let mut ended = job::run("login", prove(env, redactor, &mut incarnation));
    ended.report.facts.incarnation = incarnation;
    ended.publish(env, redactor)
}

async fn prove(env: &Env, redactor: &Redactor, incarnation: &mut Option<String>) -> Result<Success, LoginError> {
    let (database, redis) = read(env, redactor)?;
    let deadline = Instant::now() + PATIENCE;
    let (seen_database, seen_redis) = match futures::join!(database.check(deadline), redis.check(deadline)) {
        (Ok(database), Ok(redis)) => (database, redis),
        (Err(database), Err(redis)) => return Err(database.and(redis)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error),
    };

    let deadline = Instant::now() + PATIENCE;
    let database_says = match seen_database {
        database::Found::Accepted(session) => {
            // The role of a Managed server may not read it, and half of it would mislead.
            if database.admin.is_none() {
                *incarnation = postgres::incarnation(&session).await.ok();
            }
            "accepted"
        }
        database::Found::Fresh => "accepted (the migration makes what is missing)",
        database::Found::Differs(admin) => {
            database.change(&admin, deadline).await?;
            "changed and accepted"
        }
    };
    let redis_says = match seen_redis {
        redis::Found::Accepted => "accepted",
        redis::Found::Differs(former) => {
            redis.change(former, deadline).await?;
            "changed and accepted"
        }
    };
    let message = format!("{}: {database_says}; {}: {redis_says}", database.account(), redis.account());
    Ok(("CredentialsAccepted", message))
}

fn read(env: &Env, redactor: &Redactor) -> Result<(Database, Redis), LoginError> {
    let config = config::Database::from_env(env)?;
    let application = Login::application(&config, Secret::read_known(&config.password_file, redactor)?);
    let admin = Admin::from_env(env)?
        .map(|admin| {
            let password = Secret::read_known(&admin.password_file, redactor)?;
            let database = env.get("ODOOAI_LOCK_DATABASE").unwrap_or("postgres");
            Ok::<_, LoginError>(Login { user: admin.user, password, ..application.to(database) })
        })
        .transpose()?;
    if admin.is_some() && application.password.is_none() {
        return Err(LoginError::NoPassword("database"));
    }
    let config = config::Redis::from_env(env);
    let former = config.former(env).map(|former| RedisUrl::read_if_set(&former, redactor)).transpose()?.flatten();
    let redis = Redis { new: RedisUrl::read(&config, redactor)?, former };
    if redis.former.is_some() && redis.new.password.is_none() {
        return Err(LoginError::NoPassword("Redis"));
    }
    Ok((Database { application, admin }, redis))
}
