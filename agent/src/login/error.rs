//! Why credentials were not proven, for people and for programs.

use thiserror::Error;

use crate::config::ConfigError;
use crate::job::Failure;
use crate::postgres::DatabaseError;
use crate::redis::RedisError;
use crate::redis_url::UrlError;
use crate::report::Outcome;
use crate::secret::SecretError;
use crate::tls::TlsError;

/// A failed step.
#[derive(Debug, Error)]
pub(crate) enum LoginError {
    /// The Job's environment is incomplete.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A credential file could not be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A Managed server is never given a user without a password.
    #[error("the new {0} password is empty: set one")]
    NoPassword(&'static str),
    /// The former URL is of no use for the change.
    #[error("the former and the new Redis URL must name the same server and its default user")]
    OtherAccount,
    /// PostgreSQL, asked as this user.
    #[error("PostgreSQL at {address}, user {user}: {source}; {}", database_hint(source))]
    Database {
        /// Host and port.
        address: String,
        /// The role.
        user: String,
        /// What went wrong.
        source: DatabaseError,
    },
    /// A Redis URL could not be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Redis, asked as this user.
    #[error("Redis at {address}, user {user}: {source}; {}", redis_hint(source))]
    Redis {
        /// Host and port.
        address: String,
        /// The ACL user.
        user: String,
        /// What went wrong.
        source: RedisError,
    },
    /// Both servers have something to say; the reason is the first one's.
    #[error("{0}; {1}")]
    Both(Box<Self>, Box<Self>),
}

impl LoginError {
    /// The two as one. A refusal says more than a failure; of equals the first counts.
    pub(crate) fn and(self, other: Self) -> Self {
        if self.outcome() == Outcome::Failed && other.outcome() == Outcome::Refused {
            return Self::Both(Box::new(other), Box::new(self));
        }
        Self::Both(Box::new(self), Box::new(other))
    }
}

impl Failure for LoginError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Database { source, .. } => source.is_transient(),
            Self::Redis { source, .. } => source.is_transient(),
            _ => false,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) | Self::NoPassword(_) | Self::OtherAccount => "ConfigInvalid",
            Self::Secret(_) => "PasswordUnreadable",
            Self::Url(error) => url_reason(error),
            Self::Database { source, .. } => source.reason(),
            Self::Redis { source, .. } => match source {
                RedisError::Unreachable(_) | RedisError::TimedOut(_) => "RedisUnreachable",
                RedisError::Rejected(_) => "CredentialsRejected",
                RedisError::Tls(error) => error.reason(),
                RedisError::Url(error) => url_reason(error),
                RedisError::Command(_) => "RedisError",
            },
            Self::Both(first, _) => first.reason(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self.reason() {
            "ConfigInvalid" | "CredentialsRejected" | "DatabaseMissing" | "TlsFailed" => Outcome::Refused,
            _ => Outcome::Failed,
        }
    }
}

fn url_reason(error: &UrlError) -> &'static str {
    match error {
        UrlError::Secret(_) => "PasswordUnreadable",
        UrlError::Missing(_) | UrlError::Invalid { .. } => "ConfigInvalid",
        UrlError::Tls(error) => error.reason(),
    }
}

const CA_HINT: &str = "give the certificate of the CA that signed it";

fn database_hint(error: &DatabaseError) -> &'static str {
    match error {
        DatabaseError::Unreachable(_) | DatabaseError::TimedOut(_) => "check host, port and network policies",
        DatabaseError::DiskFull(_) => "make room on its volume",
        DatabaseError::Rejected(_) => "correct user and password here or on the server",
        DatabaseError::Missing(_) => "create the database, or correct its name",
        DatabaseError::Tls(error) => match error {
            TlsError::NotTrusted(_) | TlsError::NoCa(_) | TlsError::BadCa { .. } => CA_HINT,
            TlsError::WrongName { .. } => "use a host name that it has, or the sslMode verify-ca",
            TlsError::NotOffered => "switch TLS on at the server, or choose the sslMode prefer",
            TlsError::Wanted(_) => "choose the sslMode require or a stricter one, or allow this user on the server",
            TlsError::Handshake(_) => "check the server's TLS settings",
        },
        DatabaseError::Statement { .. } => "see what the server's log says",
    }
}

fn redis_hint(error: &RedisError) -> &'static str {
    match error {
        RedisError::Unreachable(_) | RedisError::TimedOut(_) => "check host, port and network policies",
        RedisError::Rejected(_) => "correct user and password in the URL or on the server",
        RedisError::Tls(error) => match error {
            TlsError::NotTrusted(_) | TlsError::NoCa(_) | TlsError::BadCa { .. } => CA_HINT,
            TlsError::WrongName { .. } => "use a host name that it has, or ssl_check_hostname=false in the URL",
            TlsError::NotOffered => "switch TLS on at the server, or begin the URL with redis://",
            TlsError::Wanted(_) => "begin the URL with rediss://",
            TlsError::Handshake(_) => "check the server's TLS settings",
        },
        RedisError::Url(_) => "correct the URL",
        RedisError::Command(_) => "see what the server's log says",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(source: DatabaseError) -> LoginError {
        LoginError::Database { address: "db:5432".to_owned(), user: "app".to_owned(), source }
    }

    fn redis(source: RedisError) -> LoginError {
        LoginError::Redis { address: "redis:6379".to_owned(), user: "default".to_owned(), source }
    }

    #[test]
    fn a_refusal_gives_the_reason_and_both_are_told() {
        let unreachable = || database(DatabaseError::Unreachable("refused".to_owned()));
        let error = unreachable().and(redis(RedisError::Rejected("WRONGPASS".to_owned())));
        assert_eq!((error.reason(), error.outcome()), ("CredentialsRejected", Outcome::Refused));
        let text = error.to_string();
        assert!(text.contains("db:5432") && text.contains("redis:6379"), "{text}");
        let error = unreachable().and(redis(RedisError::Unreachable(String::new())));
        assert_eq!((error.reason(), error.outcome()), ("DatabaseUnreachable", Outcome::Failed));
    }

    #[test]
    fn a_message_says_where_as_whom_what_and_what_to_do() {
        let error = database(DatabaseError::Missing("database \"x\" does not exist".to_owned()));
        assert_eq!(
            error.to_string(),
            "PostgreSQL at db:5432, user app: database missing: database \"x\" does not exist; \
             create the database, or correct its name"
        );
    }
}
