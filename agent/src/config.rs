//! The environment of the agent, parsed once per command into what that command needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::secret::Secret;

const DATABASE_PASSWORD_FILE: &str = "/var/run/odooai/credentials/database/password";
const REDIS_PASSWORD_FILE: &str = "/var/run/odooai/credentials/redis/password";

/// A snapshot of the process's environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Env(BTreeMap<String, String>);

/// A variable that is missing or can't be understood.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// Needed by this command, not set or empty.
    #[error("environment variable {0} is not set")]
    Missing(&'static str),
    /// Set, but not of its type.
    #[error("environment variable {name} is not valid: {reason}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What its parser said, without the value.
        reason: String,
    },
}

impl Env {
    /// The environment of this process; what is not UTF-8 is replaced.
    pub(crate) fn from_process() -> Self {
        Self(
            std::env::vars_os()
                .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
                .collect(),
        )
    }

    /// The value, unless it is unset or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All variables.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn required(&self, name: &'static str) -> Result<&str, ConfigError> {
        self.get(name).ok_or(ConfigError::Missing(name))
    }

    fn parsed<T>(&self, name: &'static str, default: T) -> Result<T, ConfigError>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        self.get(name).map_or(Ok(default), |value| {
            value.trim().parse().map_err(|error: T::Err| ConfigError::Invalid { name, reason: error.to_string() })
        })
    }

    fn path(&self, name: &str, default: &str) -> PathBuf {
        PathBuf::from(self.get(name).unwrap_or(default))
    }

    /// A comma separated list without its blanks.
    fn list<C: FromIterator<String>>(&self, name: &str) -> C {
        self.get(name)
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The application's database and the role that the application uses.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// Host name or address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Name of the database.
    pub(crate) name: String,
    /// Role of the application.
    pub(crate) user: String,
    /// Where the role's password is.
    pub(crate) password_file: PathBuf,
}

impl Database {
    /// Reads `ODOOAI_DATABASE_*`.
    ///
    /// # Errors
    /// When host, name or user are missing, or the port is no port.
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            host: env.required("ODOOAI_DATABASE_HOST")?.to_owned(),
            port: env.parsed("ODOOAI_DATABASE_PORT", 5432)?,
            name: env.required("ODOOAI_DATABASE_NAME")?.to_owned(),
            user: env.required("ODOOAI_DATABASE_USER")?.to_owned(),
            password_file: database_password_file(env),
        })
    }
}

/// Where the application's database password is, also when nothing else is known of the database.
pub(crate) fn database_password_file(env: &Env) -> PathBuf {
    env.path("ODOOAI_DATABASE_PASSWORD_FILE", DATABASE_PASSWORD_FILE)
}

/// The superuser of a Managed database; only `migrate` has it.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    /// Its role name.
    pub(crate) user: String,
    /// Where its password is.
    pub(crate) password_file: PathBuf,
}

impl Admin {
    /// Reads `ODOOAI_DATABASE_ADMIN_*`; `None` for an External database.
    ///
    /// # Errors
    /// When only one of the two is set.
    pub(crate) fn from_env(env: &Env) -> Result<Option<Self>, ConfigError> {
        const USER: &str = "ODOOAI_DATABASE_ADMIN_USER";
        const FILE: &str = "ODOOAI_DATABASE_ADMIN_PASSWORD_FILE";
        match (env.get(USER), env.get(FILE)) {
            (None, None) => Ok(None),
            (Some(user), Some(file)) => Ok(Some(Self { user: user.to_owned(), password_file: PathBuf::from(file) })),
            (None, Some(_)) => Err(ConfigError::Missing(USER)),
            (Some(_), None) => Err(ConfigError::Missing(FILE)),
        }
    }
}

/// The stack's Redis.
#[derive(Debug, Clone)]
pub(crate) struct Redis {
    /// Host name or address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Number of the logical database.
    pub(crate) db: u32,
    /// Where the password is; absent or empty means none.
    pub(crate) password_file: PathBuf,
}

impl Redis {
    /// Reads `ODOOAI_REDIS_*`.
    ///
    /// # Errors
    /// When the host is missing or a number is none.
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            host: env.required("ODOOAI_REDIS_HOST")?.to_owned(),
            port: env.parsed("ODOOAI_REDIS_PORT", 6379)?,
            db: env.parsed("ODOOAI_REDIS_DB", 0)?,
            password_file: env.path("ODOOAI_REDIS_PASSWORD_FILE", REDIS_PASSWORD_FILE),
        })
    }
}

/// The revisions that this image has, as the operator's plan found them.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    /// Its heads; one in a sane image.
    pub(crate) heads: BTreeSet<String>,
    /// All that it knows, heads included.
    pub(crate) known: BTreeSet<String>,
}

impl Schema {
    /// Reads `ODOOAI_SCHEMA_*`.
    ///
    /// # Errors
    /// When there are no heads.
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        env.required("ODOOAI_SCHEMA_HEADS")?;
        let heads: BTreeSet<String> = env.list("ODOOAI_SCHEMA_HEADS");
        let mut known: BTreeSet<String> = env.list("ODOOAI_SCHEMA_KNOWN");
        known.extend(heads.iter().cloned());
        Ok(Self { heads, known })
    }
}

/// Odoo as the application reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Odoo {
    /// Base URL without a slash at its end.
    pub(crate) url: String,
    /// Odoo's database.
    pub(crate) database: String,
    /// Login.
    pub(crate) username: String,
    /// Password or API key; the key wins.
    pub(crate) secret: Secret,
}

impl Odoo {
    /// Reads `ODOO_*` like the application does; `None` without `ODOO_URL`.
    pub(crate) fn from_env(env: &Env) -> Option<Self> {
        let url = env.get("ODOO_URL")?.trim_end_matches('/').to_owned();
        let text = |name: &str| env.get(name).unwrap_or_default().to_owned();
        let secret = env.get("ODOO_API_KEY").or(env.get("ODOO_PASSWORD"));
        Some(Self {
            url,
            database: text("ODOO_DB"),
            username: text("ODOO_USERNAME"),
            secret: Secret::new(secret.unwrap_or_default()),
        })
    }
}

/// What `serve` watches.
#[derive(Debug, Clone)]
pub(crate) struct Serve {
    /// The application's database.
    pub(crate) database: Database,
    /// The stack's Redis.
    pub(crate) redis: Redis,
    /// Base URL of the application in the same pod.
    pub(crate) app_url: String,
    /// Queues whose length is reported.
    pub(crate) queues: Vec<String>,
    /// Odoo, when the pod knows it.
    pub(crate) odoo: Option<Odoo>,
}

impl Serve {
    /// Reads everything that `serve` needs.
    ///
    /// # Errors
    /// See [`Database::from_env`] and [`Redis::from_env`].
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            database: Database::from_env(env)?,
            redis: Redis::from_env(env)?,
            app_url: env.get("ODOOAI_APP_URL").unwrap_or("http://127.0.0.1:8000").trim_end_matches('/').to_owned(),
            queues: env.list("ODOOAI_QUEUES"),
            odoo: Odoo::from_env(env),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().copied().collect()
    }

    #[test]
    fn defaults_are_the_contracts() {
        let env = env(&[
            ("ODOOAI_DATABASE_HOST", "db"),
            ("ODOOAI_DATABASE_NAME", "odooai"),
            ("ODOOAI_DATABASE_USER", "app"),
            ("ODOOAI_REDIS_HOST", "redis"),
        ]);
        let serve = Serve::from_env(&env).expect("complete");
        assert_eq!(serve.database.port, 5432);
        assert_eq!(serve.redis.port, 6379);
        assert_eq!(serve.redis.db, 0);
        assert_eq!(serve.app_url, "http://127.0.0.1:8000");
        assert!(serve.odoo.is_none());
    }

    #[test]
    fn an_invalid_value_is_named_but_not_printed() {
        let env = env(&[("ODOOAI_REDIS_HOST", "r"), ("ODOOAI_REDIS_PORT", "tcp://10.0.0.1:6379")]);
        let error = Redis::from_env(&env).expect_err("no number").to_string();
        assert!(error.contains("ODOOAI_REDIS_PORT") && !error.contains("10.0.0.1"));
    }

    #[test]
    fn heads_are_known_and_needed() {
        let schema =
            Schema::from_env(&env(&[("ODOOAI_SCHEMA_HEADS", "b, "), ("ODOOAI_SCHEMA_KNOWN", "a")])).expect("complete");
        assert_eq!(schema.known.len(), 2);
        assert!(Schema::from_env(&env(&[("ODOOAI_SCHEMA_HEADS", "")])).is_err());
    }

    #[test]
    fn the_api_key_wins_unless_it_is_empty() {
        let odoo = |key| {
            Odoo::from_env(&env(&[("ODOO_URL", "http://odoo/"), ("ODOO_PASSWORD", "pw"), ("ODOO_API_KEY", key)]))
                .expect("has a URL")
        };
        assert_eq!(odoo("key").secret.expose(), "key");
        assert_eq!(odoo("").secret.expose(), "pw");
        assert_eq!(odoo("").url, "http://odoo");
    }

    #[test]
    fn half_an_admin_is_an_error() {
        assert!(Admin::from_env(&env(&[])).expect("none").is_none());
        assert!(Admin::from_env(&env(&[("ODOOAI_DATABASE_ADMIN_USER", "postgres")])).is_err());
    }
}
