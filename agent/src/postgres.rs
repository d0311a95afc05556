//! PostgreSQL: one way to log in, errors that say what to do about them.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config;
use crate::secret::Secret;
use crate::sslmode::{DatabaseTls, SslMode};
use crate::tls::{self, Check, TlsError};

/// How our own sessions show themselves to the server.
pub(crate) const APPLICATION_NAME: &str = "odooai-agent";

/// `PGOPTIONS` of whoever changes the schema: a statement that waits for a lock behind the
/// running application would make everybody else wait behind itself.
pub(crate) const LOCK_TIMEOUT: &str = "-c lock_timeout=5s";

/// A failed login or statement. Texts come without PostgreSQL's DETAIL, which quotes rows.
#[derive(Debug, Clone, Error)]
pub(crate) enum DatabaseError {
    /// No server, or one that is starting, stopping or full: it may help to wait.
    #[error("database unreachable: {0}")]
    Unreachable(String),
    /// The server's disk is full: as good as away, until somebody makes room.
    #[error("the database's disk is full: {0}")]
    DiskFull(String),
    /// The server refused the role or its password.
    #[error("database login rejected: {0}")]
    Rejected(String),
    /// The server has no such database.
    #[error("database missing: {0}")]
    Missing(String),
    /// No TLS where it is wanted, or not the right one.
    #[error("database TLS: {0}")]
    Tls(#[from] TlsError),
    /// No answer in time.
    #[error("database gave no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The server refused a statement.
    #[error("database error {code}: {message}")]
    Statement {
        /// SQLSTATE, five characters.
        code: String,
        /// The primary message.
        message: String,
    },
}

impl DatabaseError {
    /// Whether the same call may work later without anybody changing anything.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::DiskFull(_) | Self::TimedOut(_))
    }

    /// One word for programs, as reports have it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::DiskFull(_) | Self::TimedOut(_) => "DatabaseUnreachable",
            Self::Rejected(_) => "CredentialsRejected",
            Self::Missing(_) => "DatabaseMissing",
            Self::Tls(error) => error.reason(),
            Self::Statement { .. } => "DatabaseError",
        }
    }

    /// A statement's SQLSTATE.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Statement { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            if let Some(cause) = TlsError::find(&error) {
                return Self::Tls(cause);
            }
            let text = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
            // The library keeps its kinds private. These two are about passwords:
            // none given where the server asks for one, or a failed handshake.
            return if text.starts_with("invalid configuration") || text.starts_with("authentication error") {
                Self::Rejected(text)
            } else if text.ends_with("server does not support TLS") {
                Self::Tls(TlsError::NotOffered)
            } else {
                Self::Unreachable(text)
            };
        };
        let code = answer.code();
        let message = answer.message().to_owned();
        match code {
            c if *c == SqlState::INVALID_PASSWORD || *c == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                Self::Rejected(message)
            }
            c if *c == SqlState::INVALID_CATALOG_NAME => Self::Missing(message),
            c if *c == SqlState::DISK_FULL => Self::DiskFull(message),
            // 08 connection, 53 resources, 57P0x shutdown or start.
            c if ["08", "53", "57P0"].iter().any(|class| c.code().starts_with(class)) => Self::Unreachable(message),
            c => Self::Statement { code: c.code().to_owned(), message },
        }
    }
}

/// Where and as whom to log in.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    /// Host name or address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Role.
    pub(crate) user: String,
    /// Its password; `None` where the server asks for none.
    pub(crate) password: Option<Secret>,
    /// Database.
    pub(crate) database: String,
    /// How the connection is protected.
    pub(crate) tls: DatabaseTls,
    /// Settings of the session, as libpq's `PGOPTIONS`; empty: the server's own.
    pub(crate) options: &'static str,
}

impl Login {
    /// The application's role in the application's database.
    pub(crate) fn application(config: &config::Database, password: Option<Secret>) -> Self {
        Self {
            host: config.host.clone(),
            port: config.port,
            user: config.user.clone(),
            password,
            database: config.name.clone(),
            tls: config.tls.clone(),
            options: "",
        }
    }

    /// The same login to another database.
    pub(crate) fn to(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }
}

/// A logged-in connection; closed when dropped.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Logs in.
///
/// # Errors
/// See [`DatabaseError`]; [`DatabaseError::TimedOut`] after `limit`.
pub(crate) async fn connect(login: &Login, limit: Duration) -> Result<Session, DatabaseError> {
    let mut config = Config::new();
    config
        .host(&login.host)
        .port(login.port)
        .user(&login.user)
        .dbname(&login.database)
        .application_name(APPLICATION_NAME)
        .connect_timeout(limit)
        .keepalives_idle(Duration::from_secs(15))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
    if !login.options.is_empty() {
        config.options(login.options);
    }
    if let Some(password) = &login.password {
        config.password(password.expose());
    }
    let mode = login.tls.mode;
    let Some((ssl_mode, connector)) = connector(&login.tls)? else {
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        return bounded(limit, open(&config, NoTls)).await.map_err(|error| match error {
            // What the server says about its rules says that it knows others for TLS, or none at all.
            DatabaseError::Rejected(text) if text.contains("no encryption") || text.contains("SSL off") => {
                TlsError::Wanted(format!("{text} (sslmode {})", mode.as_str())).into()
            }
            other => other,
        });
    };
    config.ssl_mode(ssl_mode);
    bounded(limit, open(&config, connector)).await
}

/// What libpq's mode is to this library; `None` without TLS.
fn connector(tls: &DatabaseTls) -> Result<Option<(tokio_postgres::config::SslMode, MakeRustlsConnect)>, TlsError> {
    use tokio_postgres::config::SslMode::{Prefer, Require};
    let (mode, check) = match tls.mode {
        SslMode::Disable => return Ok(None),
        SslMode::Prefer => (Prefer, Check::Nothing),
        SslMode::Require => (Require, Check::Nothing),
        SslMode::VerifyCa => (Require, Check::Chain),
        SslMode::VerifyFull => (Require, Check::ChainAndName),
    };
    let roots = if tls.mode.verifies() { tls::required_certificates(&tls.ca_file)? } else { Vec::new() };
    Ok(Some((mode, MakeRustlsConnect::new(tls::client(check, roots)))))
}

async fn open<T>(config: &Config, tls: T) -> Result<Session, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    let driver = tokio::spawn(async move {
        // Its error reaches whoever uses the client.
        let _closed = connection.await;
    });
    Ok(Session { client, driver })
}

/// Ends a call after `limit`.
///
/// # Errors
/// The call's own, or [`DatabaseError::TimedOut`].
pub(crate) async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, DatabaseError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => Ok(result?),
        Err(_elapsed) => Err(DatabaseError::TimedOut(limit)),
    }
}

/// The rows of `alembic_version`; none where the table doesn't exist.
///
/// # Errors
/// What the server said.
pub(crate) async fn alembic_versions(client: &Client) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    if !has_table(client, "alembic_version").await? {
        return Ok(BTreeSet::new());
    }
    let rows = client.query("SELECT version_num::text FROM alembic_version", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Whether the role's search path has this table.
///
/// # Errors
/// What the server said.
pub(crate) async fn has_table(client: &Client, name: &str) -> Result<bool, tokio_postgres::Error> {
    let row = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await?;
    Ok(row.get(0))
}

/// `<system identifier>/<oid>` of the connected database. Some hosted servers take the
/// right to read the identifier away; it is 0 then, and the incarnation only as good as the oid.
///
/// # Errors
/// When not even the oid can be read.
pub(crate) async fn incarnation(client: &Client) -> Result<String, DatabaseError> {
    const LIMIT: Duration = Duration::from_secs(30);
    let oid = "SELECT oid::int8 FROM pg_database WHERE datname = current_database()";
    let oid: i64 = bounded(LIMIT, client.query_one(oid, &[])).await?.get(0);
    let system = bounded(LIMIT, client.query_one("SELECT system_identifier FROM pg_control_system()", &[])).await;
    match system.map(|row| row.get::<_, i64>(0)) {
        Ok(system) => Ok(format!("{}/{oid}", system.cast_unsigned())),
        Err(error) if error.code().is_some() => {
            tracing::warn!(%error, "the system identifier is not ours to read");
            Ok(format!("0/{oid}"))
        }
        Err(error) => Err(error),
    }
}
