//! Redis: one way to log in, the URL that the application gets.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, ServerErrorKind,
};
use thiserror::Error;

use crate::config;
use crate::encode;
use crate::secret::{Secret, SecretError};

/// A failed login or command.
#[derive(Debug, Error)]
pub(crate) enum RedisError {
    /// The password file could not be used.
    #[error(transparent)]
    Password(#[from] SecretError),
    /// No server, or one that is loading its data.
    #[error("Redis unreachable: {0}")]
    Unreachable(String),
    /// Wrong password, or one where none is set, or none where one is needed.
    #[error("Redis login rejected: {0}")]
    Rejected(String),
    /// No answer in time.
    #[error("Redis gave no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The server refused a command.
    #[error("Redis error: {0}")]
    Command(String),
}

impl From<::redis::RedisError> for RedisError {
    fn from(error: ::redis::RedisError) -> Self {
        let text = error.to_string();
        let no_auth =
            text.contains("NOAUTH") || text.contains("WRONGPASS") || text.contains("without any password configured");
        if no_auth || error.kind() == ErrorKind::AuthenticationFailed {
            Self::Rejected(text)
        } else if error.is_io_error() || error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading) {
            Self::Unreachable(text)
        } else {
            Self::Command(text)
        }
    }
}

/// Logs in with the password that the file holds now, and selects the database.
/// Calls on the connection have no time-out of their own: see [`bounded`].
///
/// # Errors
/// See [`RedisError`]; [`RedisError::TimedOut`] after `limit`.
pub(crate) async fn connect(config: &config::Redis, limit: Duration) -> Result<MultiplexedConnection, RedisError> {
    let mut settings = RedisConnectionInfo::default().set_db(i64::from(config.db)).set_skip_set_lib_name();
    if let Some(password) = Secret::read(&config.password_file)? {
        settings = settings.set_password(password.expose());
    }
    let address = ConnectionAddr::Tcp(config.host.clone(), config.port);
    let client = Client::open(address.into_connection_info()?.set_redis_settings(settings))?;
    // Each call has its own limit, and one that blocks in the server a long one.
    let options = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(None);
    bounded(limit, async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&options).await?;
        let _pong: String = ::redis::cmd("PING").query_async(&mut connection).await?;
        Ok(connection)
    })
    .await
}

/// Ends a call after `limit`.
///
/// # Errors
/// The call's own, or [`RedisError::TimedOut`].
pub(crate) async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, ::redis::RedisError>>,
) -> Result<T, RedisError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => Ok(result?),
        Err(_elapsed) => Err(RedisError::TimedOut(limit)),
    }
}

/// The application's `REDIS_URL`.
pub(crate) fn url(config: &config::Redis, password: Option<&Secret>) -> String {
    let host = encode::url_host(&config.host);
    let login = password.map(|secret| format!(":{}@", encode::percent(secret.expose()))).unwrap_or_default();
    format!("redis://{login}{host}:{}/{}", config.port, config.db)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_encoded_and_has_no_login_without_a_password() {
        let config =
            config::Redis { host: "redis".to_owned(), port: 6379, db: 2, password_file: "/nonexistent".into() };
        assert_eq!(url(&config, None), "redis://redis:6379/2");
        assert_eq!(url(&config, Some(&Secret::new("a@b/%"))), "redis://:a%40b%2F%25@redis:6379/2");
    }
}
