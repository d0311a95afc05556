//! Redis: one way to log in, errors that say what to do about them.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, ServerErrorKind};
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config;
use crate::redact::Redactor;
use crate::redis_url::{RedisUrl, Tls, UrlError};
use crate::tls::{self, Check, TlsError};

/// Share of an attempt's time that the handshake may take; the rest is for finding out why it hangs.
const HANDSHAKE: f64 = 0.7;

/// A failed login or command.
#[derive(Debug, Error)]
pub(crate) enum RedisError {
    /// The file gave no URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No server, or one that is loading its data.
    #[error("Redis unreachable: {0}")]
    Unreachable(String),
    /// Wrong password, or one where none is set, or none where one is needed.
    #[error("Redis login rejected: {0}")]
    Rejected(String),
    /// No TLS where it is wanted, or not the right one.
    #[error("Redis TLS: {0}")]
    Tls(#[from] TlsError),
    /// No answer in time.
    #[error("Redis gave no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The server refused a command.
    #[error("Redis error: {0}")]
    Command(String),
}

impl RedisError {
    /// Whether the same call may work later without anybody changing anything.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TimedOut(_))
    }
}

impl From<::redis::RedisError> for RedisError {
    fn from(error: ::redis::RedisError) -> Self {
        if let Some(cause) = TlsError::find(&error) {
            return Self::Tls(cause);
        }
        let text = error.to_string();
        let rejected =
            ["NOAUTH", "WRONGPASS", "without any password configured"].iter().any(|word| text.contains(word));
        if rejected {
            Self::Rejected(text)
        } else if error.is_io_error() || error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading) {
            Self::Unreachable(text)
        } else {
            Self::Command(text)
        }
    }
}

/// Logs in by the URL that the file holds now, and selects the database.
/// Calls on the connection have no time-out of their own: see [`bounded`].
///
/// # Errors
/// See [`RedisError`]; [`RedisError::TimedOut`] after `limit`.
pub(crate) async fn connect(
    config: &config::Redis,
    redactor: &Redactor,
    limit: Duration,
) -> Result<MultiplexedConnection, RedisError> {
    log_in(&RedisUrl::read(config, redactor)?, limit).await
}

/// The same by a URL that was read already.
///
/// # Errors
/// See [`RedisError`]; [`RedisError::TimedOut`] after `limit`.
pub(crate) async fn log_in(url: &RedisUrl, limit: Duration) -> Result<MultiplexedConnection, RedisError> {
    let attempt = async {
        let Some(tls) = &url.tls else {
            return match greet(url, dial(url).await?).await {
                // A server that wants TLS hangs up on plain text, or answers with a TLS record.
                Err(error) if (error.is_io_error() || error.kind() == ErrorKind::Parse) && speaks_tls(url).await => {
                    Err(TlsError::Wanted("the URL begins with redis:// where rediss:// is needed".to_owned()).into())
                }
                result => Ok(result?),
            };
        };
        let handshake = encrypt(url, tls, dial(url).await?);
        let stream = match tokio::time::timeout(limit.mul_f64(HANDSHAKE), handshake).await {
            Ok(stream) => stream?,
            // To a plain server a handshake is a command whose line doesn't end.
            Err(_elapsed) if speaks_plain(url).await => return Err(TlsError::NotOffered.into()),
            Err(_elapsed) => return Err(RedisError::TimedOut(limit)),
        };
        Ok(greet(url, stream).await?)
    };
    tokio::time::timeout(limit, attempt).await.unwrap_or(Err(RedisError::TimedOut(limit)))
}

async fn dial(url: &RedisUrl) -> Result<TcpStream, RedisError> {
    let unreachable = |error: std::io::Error| RedisError::Unreachable(error.to_string());
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

async fn encrypt(url: &RedisUrl, tls: &Tls, stream: TcpStream) -> Result<TlsStream<TcpStream>, RedisError> {
    let roots = match &tls.ca_file {
        _ if tls.check == Check::Nothing => Vec::new(),
        Some(file) => tls::required_certificates(file)?,
        None => tls::public_certificates(),
    };
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| TlsError::Handshake(format!("{} is no host name", url.host)))?;
    let connector = TlsConnector::from(Arc::new(tls::client(tls.check, roots)));
    connector.connect(name, stream).await.map_err(|error| match TlsError::find(&error) {
        Some(cause) => cause.into(),
        None => RedisError::Unreachable(error.to_string()),
    })
}

/// Whether the port answers a TLS handshake, with whatever certificate.
async fn speaks_tls(url: &RedisUrl) -> bool {
    let unchecked = Tls { check: Check::Nothing, ca_file: None };
    match dial(url).await {
        Ok(stream) => encrypt(url, &unchecked, stream).await.is_ok(),
        Err(_) => false,
    }
}

/// Whether the port answers a plain command, if only with a refusal.
async fn speaks_plain(url: &RedisUrl) -> bool {
    let Ok(mut stream) = dial(url).await else { return false };
    let mut first = [0];
    stream.write_all(b"PING\r\n").await.is_ok()
        && stream.read_exact(&mut first).await.is_ok()
        && matches!(first[0], b'+' | b'-')
}

async fn greet<S>(url: &RedisUrl, stream: S) -> Result<MultiplexedConnection, ::redis::RedisError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    // Each call has its own limit, and one that blocks in the server a long one.
    let options = AsyncConnectionConfig::new().set_response_timeout(None);
    let (mut connection, driver) = MultiplexedConnection::new_with_config(&settings, stream, options).await?;
    // It ends with the last clone of the connection.
    tokio::spawn(driver);
    // Not left to the library, which doesn't hand on why a login was rejected.
    if let Some(password) = &url.password {
        let mut command = ::redis::cmd("AUTH");
        if let Some(user) = &url.user {
            command.arg(user);
        }
        command.arg(password.expose()).query_async::<()>(&mut connection).await?;
    }
    if url.db != 0 {
        ::redis::cmd("SELECT").arg(url.db).query_async::<()>(&mut connection).await?;
    }
    let _pong: String = ::redis::cmd("PING").query_async(&mut connection).await?;
    Ok(connection)
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
