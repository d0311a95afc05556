//! The URL of the stack's Redis: read from its file, understood, and completed for the application.

use std::path::PathBuf;

use thiserror::Error;
use url::Url;

use crate::config;
use crate::encode;
use crate::redact::Redactor;
use crate::secret::{Secret, SecretError};
use crate::tls::{self, Check, TlsError};

/// The words for the parameter that redis-py, kombu and Celery's result backend all
/// know; kombu and Celery also take the constants' names, redis-py doesn't.
const REQUIRED: &str = "ssl_cert_reqs=required";
/// The certificate must be for the host of the URL.
const NAME_CHECKED: &str = "ssl_check_hostname=true";

/// Why a file gives no URL. No text quotes it, because a password is in it.
#[derive(Debug, Error)]
pub(crate) enum UrlError {
    /// The file could not be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There is none.
    #[error("the file {0} with the Redis URL is absent or empty")]
    Missing(PathBuf),
    /// Something else stands there.
    #[error("the file {path} holds no Redis URL: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The CA's file could not be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How to encrypt and what to check.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// What of the certificate.
    pub(crate) check: Check,
    /// The file with the CA; `None` for the public ones.
    pub(crate) ca_file: Option<PathBuf>,
}

/// A Redis server and a login.
#[derive(Debug, Clone)]
pub(crate) struct RedisUrl {
    text: Secret,
    written: Parameters,
    /// Host name or address, without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Number of the logical database.
    pub(crate) db: u32,
    /// ACL user; `None` is the default user.
    pub(crate) user: Option<String>,
    /// Its password.
    pub(crate) password: Option<Secret>,
    /// Set for `rediss`.
    pub(crate) tls: Option<Tls>,
}

/// Which parameters the user has set.
#[derive(Debug, Clone, Copy)]
struct Parameters {
    requirement: bool,
    host_name: bool,
    ca: bool,
}

impl RedisUrl {
    /// Reads the file and lets nothing print its password.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub(crate) fn read(config: &config::Redis, redactor: &Redactor) -> Result<Self, UrlError> {
        Self::read_if_set(config, redactor)?.ok_or_else(|| UrlError::Missing(config.url_file.clone()))
    }

    /// The same; `None` where the file is absent or empty.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub(crate) fn read_if_set(config: &config::Redis, redactor: &Redactor) -> Result<Option<Self>, UrlError> {
        let Some(text) = Secret::read(&config.url_file)? else {
            return Ok(None);
        };
        redactor.learn_url(text.expose());
        let ca_file = tls::certificates(&config.ca_file)?.map(|_| config.ca_file.clone());
        let url = Self::parse(text, ca_file)
            .map_err(|reason| UrlError::Invalid { path: config.url_file.clone(), reason: reason.to_owned() })?;
        if let Some(password) = &url.password {
            redactor.learn_secret(password);
        }
        Ok(Some(url))
    }

    fn parse(text: Secret, ca_file: Option<PathBuf>) -> Result<Self, &'static str> {
        if text.expose().chars().any(char::is_control) {
            return Err("it has a line break or another control character in it");
        }
        let url = Url::parse(text.expose())
            .map_err(|_| "it must be redis[s]://[user]:password@host:port/db, with / ? # in them percent-encoded")?;
        let encrypted = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err("it must begin with redis:// or rediss://"),
        };
        if url.fragment().is_some() {
            return Err("a # in it must be percent-encoded (%23)");
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it has no host")?;
        let db = match url.path().trim_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| "its path must be the number of a database")?,
        };
        let value =
            |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.to_ascii_lowercase());
        let requirement = value("ssl_cert_reqs");
        let user_ca = url.query_pairs().find(|(key, _)| key == "ssl_ca_certs").map(|(_, path)| path.into_owned());
        let check = match requirement.as_deref() {
            Some("none" | "cert_none") => Check::Nothing,
            _ if value("ssl_check_hostname").as_deref() == Some("false") => Check::Chain,
            _ => Check::ChainAndName,
        };
        let password = url.password().map(encode::percent_decode).filter(|password| !password.is_empty());
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(6379),
            db,
            user: Some(encode::percent_decode(url.username())).filter(|user| !user.is_empty()),
            password: password.map(Secret::new),
            tls: encrypted.then(|| Tls { check, ca_file: ca_file.or_else(|| user_ca.as_ref().map(PathBuf::from)) }),
            written: Parameters {
                requirement: requirement.is_some(),
                host_name: value("ssl_check_hostname").is_some(),
                ca: user_ca.is_some(),
            },
            text,
        })
    }

    /// The URL with what the application's three Redis clients need to check the
    /// certificate; what the user wrote into it holds.
    pub(crate) fn for_application(&self) -> String {
        let mut text = self.text.expose().trim_end_matches('?').to_owned();
        let Some(tls) = &self.tls else { return text };
        let mut separator = if text.contains('?') { '&' } else { '?' };
        let mut add = |parameter: &str| {
            text.push(separator);
            text.push_str(parameter);
            separator = '&';
        };
        if !self.written.requirement {
            add(REQUIRED);
        }
        // redis-py checks no name by itself; without any check it must not be asked to.
        if !self.written.host_name && tls.check == Check::ChainAndName {
            add(NAME_CHECKED);
        }
        if let (Some(file), false) = (&tls.ca_file, self.written.ca) {
            add(&format!("ssl_ca_certs={}", encode::percent(&file.to_string_lossy())));
        }
        text
    }

    /// Host and port for people.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", encode::url_host(&self.host), self.port)
    }

    /// The user for people.
    pub(crate) fn user_name(&self) -> &str {
        self.user.as_deref().unwrap_or("default")
    }

    /// Whether both name the same server and user, whatever the password.
    pub(crate) fn same_account(&self, other: &Self) -> bool {
        (self.host.as_str(), self.port, self.user_name()) == (other.host.as_str(), other.port, other.user_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn parse(text: &str) -> Result<RedisUrl, &'static str> {
        RedisUrl::parse(Secret::new(text), None)
    }

    #[test]
    fn logins_are_decoded() {
        let url = parse("redis://us%40er:p%40s%2Fs%25%22%20%C3%BC@redis:6380/2").expect("a URL");
        assert_eq!((url.host.as_str(), url.port, url.db), ("redis", 6380, 2));
        assert_eq!(url.user.as_deref(), Some("us@er"));
        assert_eq!(url.password.as_ref().map(Secret::expose), Some("p@s/s%\" ü"));
        assert!(url.tls.is_none());
        let url = parse("rediss://:100%@[fd00::1]").expect("a URL");
        assert_eq!((url.host.as_str(), url.port, url.db), ("fd00::1", 6379, 0));
        assert_eq!(url.address(), "[fd00::1]:6379");
        assert_eq!((url.user.clone(), url.user_name()), (None, "default"));
        assert_eq!(url.password.as_ref().map(Secret::expose), Some("100%"), "as Python decodes it");
        let url = parse("redis://:a@b ü'@h/").expect("people forget to encode");
        assert_eq!(url.password.as_ref().map(Secret::expose), Some("a@b ü'"));
        assert!(parse("redis://h").expect("a URL").password.is_none());
    }

    #[rstest]
    #[case("redis://:secret/word@h:6379/0")]
    #[case("redis://:secret#word@h:6379/0")]
    #[case("redis://:secret?word@h:6379/0")]
    #[case("http://:secret@h/0")]
    #[case("redis://:secret@/0")]
    #[case("redis://:secret@h/x")]
    #[case("redis://:secret@h:99999/0")]
    #[case("redis://:secret@h/0\n")]
    #[case("secret")]
    fn nonsense_is_refused_without_quoting_it(#[case] text: &str) {
        let reason = parse(text).expect_err(text);
        assert!(!reason.contains("secret"));
    }

    #[rstest]
    #[case("redis://:p@h:1/0", "redis://:p@h:1/0")]
    #[case(
        "rediss://:p@h:1/0",
        "rediss://:p@h:1/0?ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs=%2Fa%20b%2Fca.crt"
    )]
    #[case(
        "rediss://h/0?",
        "rediss://h/0?ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs=%2Fa%20b%2Fca.crt"
    )]
    #[case(
        "rediss://h/0?a=b",
        "rediss://h/0?a=b&ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs=%2Fa%20b%2Fca.crt"
    )]
    #[case("rediss://h/0?ssl_cert_reqs=none", "rediss://h/0?ssl_cert_reqs=none&ssl_ca_certs=%2Fa%20b%2Fca.crt")]
    #[case(
        "rediss://h/0?ssl_check_hostname=false",
        "rediss://h/0?ssl_check_hostname=false&ssl_cert_reqs=required&ssl_ca_certs=%2Fa%20b%2Fca.crt"
    )]
    #[case(
        "rediss://h/0?ssl_ca_certs=/x",
        "rediss://h/0?ssl_ca_certs=/x&ssl_cert_reqs=required&ssl_check_hostname=true"
    )]
    fn the_applications_url(#[case] text: &str, #[case] expected: &str) {
        let url = RedisUrl::parse(Secret::new(text), Some(PathBuf::from("/a b/ca.crt"))).expect("a URL");
        assert_eq!(url.for_application(), expected);
    }

    #[test]
    fn without_a_ca_the_public_ones_hold() {
        let url = parse("rediss://h/0").expect("a URL");
        assert_eq!(url.for_application(), "rediss://h/0?ssl_cert_reqs=required&ssl_check_hostname=true");
    }

    #[rstest]
    #[case("", Check::ChainAndName)]
    #[case("?ssl_cert_reqs=required", Check::ChainAndName)]
    #[case("?ssl_cert_reqs=none", Check::Nothing)]
    #[case("?ssl_cert_reqs=CERT_NONE", Check::Nothing)]
    #[case("?ssl_check_hostname=False", Check::Chain)]
    fn the_users_checks_hold_for_the_agent_too(#[case] query: &str, #[case] check: Check) {
        let url = parse(&format!("rediss://h/0{query}")).expect("a URL");
        assert_eq!(url.tls.map(|tls| tls.check), Some(check));
    }

    #[test]
    fn a_changed_password_is_the_same_account() {
        let url = |text| parse(text).expect("a URL");
        assert!(url("redis://:a@h:1/0").same_account(&url("redis://default:b@h:1/1")));
        assert!(!url("redis://:a@h:1/0").same_account(&url("redis://x:a@h:1/0")));
    }

    #[test]
    fn an_absent_file_is_named() {
        let config = config::Redis { url_file: "/nonexistent/url".into(), ca_file: "/nonexistent/ca".into() };
        let error = RedisUrl::read(&config, &Redactor::default()).expect_err("absent").to_string();
        assert!(error.contains("/nonexistent/url"));
        assert!(RedisUrl::read_if_set(&config, &Redactor::default()).expect("absent").is_none());
    }
}
