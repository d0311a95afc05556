//! The environment of the agent, parsed once per command into what that command needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::secret::Secret;
use crate::sslmode::DatabaseTls;

const DATABASE_PASSWORD_FILE: &str = "/var/run/odooai/credentials/database-password";
const REDIS_URL_FILE: &str = "/var/run/odooai/credentials/redis-url";
const REDIS_CA_FILE: &str = "/var/run/odooai/credentials/redis-ca.crt";
const ADMIN_PASSWORD_FILE: &str = "ODOOAI_DATABASE_ADMIN_PASSWORD_FILE";
const FORMER_URL_FILE: &str = "ODOOAI_REDIS_FORMER_URL_FILE";

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

    /// The value.
    ///
    /// # Errors
    /// When it is unset or empty.
    pub(crate) fn required(&self, name: &'static str) -> Result<&str, ConfigError> {
        self.get(name).ok_or(ConfigError::Missing(name))
    }

    /// The value as what it is of, or the default.
    ///
    /// # Errors
    /// When it is set and not of that type.
    pub(crate) fn parsed<T>(&self, name: &'static str, default: T) -> Result<T, ConfigError>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        self.get(name).map_or(Ok(default), |value| {
            value.trim().parse().map_err(|error: T::Err| ConfigError::Invalid { name, reason: error.to_string() })
        })
    }

    /// The value as a path, or the default.
    pub(crate) fn path(&self, name: &str, default: &str) -> PathBuf {
        PathBuf::from(self.get(name).unwrap_or(default))
    }

    /// A comma separated list without its blanks.
    pub(crate) fn list<C: FromIterator<String>>(&self, name: &str) -> C {
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
    /// How the connection is protected.
    pub(crate) tls: DatabaseTls,
}

impl Database {
    /// Reads `ODOOAI_DATABASE_*`.
    ///
    /// # Errors
    /// When host, name or user are missing, or port or TLS mode are none.
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            host: env.required("ODOOAI_DATABASE_HOST")?.to_owned(),
            port: env.parsed("ODOOAI_DATABASE_PORT", 5432)?,
            name: env.required("ODOOAI_DATABASE_NAME")?.to_owned(),
            user: env.required("ODOOAI_DATABASE_USER")?.to_owned(),
            password_file: database_password_file(env),
            tls: DatabaseTls::from_env(env)?,
        })
    }
}

/// Where the application's database password is, also when nothing else is known of the database.
pub(crate) fn database_password_file(env: &Env) -> PathBuf {
    env.path("ODOOAI_DATABASE_PASSWORD_FILE", DATABASE_PASSWORD_FILE)
}

/// Every file that may hold a password.
pub(crate) fn password_files(env: &Env) -> Vec<PathBuf> {
    let admin = env.get(ADMIN_PASSWORD_FILE).map(PathBuf::from);
    admin.into_iter().chain([database_password_file(env)]).collect()
}

/// Every file that may hold a URL with a password.
pub(crate) fn url_files(env: &Env) -> Vec<PathBuf> {
    let former = env.get(FORMER_URL_FILE).map(PathBuf::from);
    former.into_iter().chain([Redis::from_env(env).url_file]).collect()
}

/// The superuser of a Managed database; only `migrate` and `login` have it.
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
        const FILE: &str = ADMIN_PASSWORD_FILE;
        match (env.get(USER), env.get(FILE)) {
            (None, None) => Ok(None),
            (Some(user), Some(file)) => Ok(Some(Self { user: user.to_owned(), password_file: PathBuf::from(file) })),
            (None, Some(_)) => Err(ConfigError::Missing(USER)),
            (Some(_), None) => Err(ConfigError::Missing(FILE)),
        }
    }
}

/// The stack's Redis. Its URL is read when it is needed, since the file changes with the password.
#[derive(Debug, Clone)]
pub(crate) struct Redis {
    /// Where the URL is, password and all.
    pub(crate) url_file: PathBuf,
    /// Where the CA's certificates are; absent or empty means the public ones.
    pub(crate) ca_file: PathBuf,
}

impl Redis {
    /// Reads `ODOOAI_REDIS_*`.
    pub(crate) fn from_env(env: &Env) -> Self {
        Self {
            url_file: env.path("ODOOAI_REDIS_URL_FILE", REDIS_URL_FILE),
            ca_file: env.path("ODOOAI_REDIS_CA_FILE", REDIS_CA_FILE),
        }
    }

    /// The same server by the URL that held until now; `None` where the operator doesn't manage it.
    pub(crate) fn former(&self, env: &Env) -> Option<Self> {
        let file = env.get(FORMER_URL_FILE)?;
        Some(Self { url_file: PathBuf::from(file), ..self.clone() })
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
    /// Key of its API; without one it is not asked.
    pub(crate) app_key: Option<String>,
    /// Queues whose length is reported.
    pub(crate) queues: Vec<String>,
    /// Odoo, when the pod knows it.
    pub(crate) odoo: Option<Odoo>,
    /// How long a new pod must answer before it counts as started.
    pub(crate) hold: Duration,
    /// File that says that it has, for a container that starts again.
    pub(crate) hold_marker: Option<PathBuf>,
}

impl Serve {
    /// Reads everything that `serve` needs.
    ///
    /// # Errors
    /// See [`Database::from_env`].
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            database: Database::from_env(env)?,
            redis: Redis::from_env(env),
            app_url: env.get("ODOOAI_APP_URL").unwrap_or("http://127.0.0.1:8000").trim_end_matches('/').to_owned(),
            app_key: env.get("AI_SECRET_KEY").map(str::to_owned),
            queues: env.list("ODOOAI_QUEUES"),
            odoo: Odoo::from_env(env),
            hold: Duration::from_secs(env.parsed("ODOOAI_HOLD_SECONDS", 0)?),
            hold_marker: env.get("ODOOAI_HOLD_MARKER").map(PathBuf::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().copied().collect()
    }

    #[test]
    fn defaults_are_the_contracts() {
        let env =
            env(&[("ODOOAI_DATABASE_HOST", "db"), ("ODOOAI_DATABASE_NAME", "odooai"), ("ODOOAI_DATABASE_USER", "app")]);
        let serve = Serve::from_env(&env).expect("complete");
        assert_eq!(serve.database.port, 5432);
        let credentials = Path::new("/var/run/odooai/credentials");
        assert_eq!(serve.database.password_file, credentials.join("database-password"));
        assert_eq!(serve.database.tls.ca_file, credentials.join("database-ca.crt"));
        assert_eq!(serve.database.tls.mode, crate::sslmode::SslMode::Disable);
        assert_eq!(serve.redis.url_file, credentials.join("redis-url"));
        assert_eq!(serve.redis.ca_file, credentials.join("redis-ca.crt"));
        assert_eq!(serve.app_url, "http://127.0.0.1:8000");
        assert!(serve.odoo.is_none());
    }

    #[test]
    fn an_invalid_value_is_named_but_not_printed() {
        let env = env(&[("ODOOAI_DATABASE_HOST", "d"), ("ODOOAI_DATABASE_PORT", "tcp://10.0.0.1:5432")]);
        let error = Database::from_env(&env).expect_err("no number").to_string();
        assert!(error.contains("ODOOAI_DATABASE_PORT") && !error.contains("10.0.0.1"));
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
