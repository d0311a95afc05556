//! TLS to the database: libpq's words for it, and what tells libpq the same.

use std::path::PathBuf;
use std::str::FromStr;

use crate::config::{ConfigError, Env};

const CA_FILE: &str = "/var/run/odooai/credentials/database-ca.crt";

/// How much of TLS a database connection must have; the words and their meaning are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SslMode {
    /// Never.
    #[default]
    Disable,
    /// If the server offers it.
    Prefer,
    /// Encrypted, to whomever.
    Require,
    /// The certificate must come from the CA.
    VerifyCa,
    /// And be for this host.
    VerifyFull,
}

impl SslMode {
    const ALL: [Self; 5] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// As libpq writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether the certificate is checked, for which a CA is needed.
    pub(crate) fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

impl FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str);
            format!("it must be one of {}", words.join(", "))
        })
    }
}

/// TLS to the database, as the application's libpq is told about it too.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseTls {
    /// How much of it.
    pub(crate) mode: SslMode,
    /// Where the CA's certificates are; absent or empty means none.
    pub(crate) ca_file: PathBuf,
}

impl DatabaseTls {
    /// Reads `ODOOAI_DATABASE_SSLMODE` and `ODOOAI_DATABASE_CA_FILE`.
    ///
    /// # Errors
    /// When the mode is none of libpq's.
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            mode: env.parsed("ODOOAI_DATABASE_SSLMODE", SslMode::default())?,
            ca_file: env.path("ODOOAI_DATABASE_CA_FILE", CA_FILE),
        })
    }

    /// What tells libpq the same. `require` gets no CA: with one libpq would verify.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("PGSSLMODE", self.mode.as_str().to_owned())];
        if self.mode.verifies() {
            variables.push(("PGSSLROOTCERT", self.ca_file.to_string_lossy().into_owned()));
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().copied().collect()
    }

    #[test]
    fn the_modes_are_libpqs_and_only_checks_name_the_ca() {
        let environment = |mode| {
            DatabaseTls::from_env(&env(&[("ODOOAI_DATABASE_SSLMODE", mode), ("ODOOAI_DATABASE_CA_FILE", "/ca")]))
                .map(|tls| tls.environment())
        };
        let text =
            |pairs: &[(&'static str, &str)]| pairs.iter().map(|(n, v)| (*n, (*v).to_owned())).collect::<Vec<_>>();
        assert_eq!(environment("").expect("the default"), text(&[("PGSSLMODE", "disable")]));
        assert_eq!(environment("require").expect("a mode"), text(&[("PGSSLMODE", "require")]));
        assert_eq!(
            environment("verify-full").expect("a mode"),
            text(&[("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", "/ca")])
        );
        let error = environment("allow").expect_err("not ours").to_string();
        assert!(error.contains("ODOOAI_DATABASE_SSLMODE") && error.contains("verify-ca"), "{error}");
    }
}
