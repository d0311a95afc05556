//! Redis' side: does the new URL get in, and if not, may the former one change that?

use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;

use crate::job::{ATTEMPT, patiently};
use crate::login::error::LoginError;
use crate::redis::{self, RedisError};
use crate::redis_url::RedisUrl;

const LIMIT: Duration = Duration::from_secs(10);

/// The logins to prove or to use.
#[derive(Debug)]
pub(crate) struct Redis {
    /// What is to hold.
    pub(crate) new: RedisUrl,
    /// What held until now, on a Managed server.
    pub(crate) former: Option<RedisUrl>,
}

/// What the server says to the new URL.
pub(crate) enum Found {
    /// It gets in.
    Accepted,
    /// It doesn't, and this login may change that.
    Differs(MultiplexedConnection),
}

impl Redis {
    fn failed(url: &RedisUrl) -> impl Fn(RedisError) -> LoginError {
        move |source| LoginError::Redis { address: url.address(), user: url.user_name().to_owned(), source }
    }

    /// Looks without changing anything.
    ///
    /// # Errors
    /// When the server is away until the deadline, or lets neither in.
    pub(crate) async fn check(&self, deadline: Instant) -> Result<Found, LoginError> {
        let Err(refused) = Self::log_in(&self.new, deadline).await else {
            return Ok(Found::Accepted);
        };
        match (&refused, &self.former) {
            (LoginError::Redis { source: RedisError::Rejected(_), .. }, Some(former)) => {
                if !former.same_account(&self.new) || self.new.user_name() != "default" {
                    return Err(LoginError::OtherAccount);
                }
                match Self::log_in(former, deadline).await {
                    Ok(connection) => Ok(Found::Differs(connection)),
                    Err(LoginError::Redis { source: RedisError::Rejected(text), .. }) => {
                        let text = format!("neither the new password nor the former one is accepted: {text}");
                        Err(Self::failed(&self.new)(RedisError::Rejected(text)))
                    }
                    Err(error) => Err(error),
                }
            }
            _ => Err(refused),
        }
    }

    /// Gives the default user its new password and proves it.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn change(&self, mut former: MultiplexedConnection, deadline: Instant) -> Result<(), LoginError> {
        // An empty one would let everybody in.
        let password = self.new.password.as_ref().ok_or(LoginError::NoPassword("Redis"))?;
        let mut command = ::redis::cmd("CONFIG");
        command.arg("SET").arg("requirepass").arg(password.expose());
        redis::bounded(LIMIT, command.query_async::<()>(&mut former)).await.map_err(Self::failed(&self.new))?;
        tracing::info!("Redis' password changed");
        Self::log_in(&self.new, deadline).await.map(drop)
    }

    async fn log_in(url: &RedisUrl, deadline: Instant) -> Result<MultiplexedConnection, LoginError> {
        patiently(deadline, async || redis::log_in(url, ATTEMPT).await.map_err(Self::failed(url))).await
    }

    /// Host, port and user for people.
    pub(crate) fn account(&self) -> String {
        format!("user {} of Redis at {}", self.new.user_name(), self.new.address())
    }
}
