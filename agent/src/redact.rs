//! Keeps secrets and people's data out of logs, messages and reports.

use std::sync::{PoisonError, RwLock};

use crate::config::{self, Env};
use crate::encode;
use crate::secret::Secret;

/// Replaces a secret wherever it stands.
const MASK: &str = "***";

/// Shorter values are not masked: masking every "a" would make a log unreadable
/// and show what the secret is.
const SHORTEST: usize = 4;

/// Values of flags whose names only sound secret, and words that every log has.
const NO_SECRETS: [&str; 4] = ["true", "false", "none", "null"];

/// Knows the secret values of this process and removes them from text.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    /// Longest first, so that no part of a longer one is left over.
    secrets: RwLock<Vec<String>>,
}

impl Redactor {
    /// Knows every variable whose name says that it is a secret, and the passwords in URLs.
    pub(crate) fn from_env(env: &Env) -> Self {
        let redactor = Self::default();
        for (name, value) in env.iter() {
            if is_secret_name(name) {
                redactor.learn(value);
            }
            redactor.learn_url(value);
        }
        redactor
    }

    /// Knows what the credential files hold now. Whoever reads one later adds what it holds then.
    pub(crate) fn learn_files(&self, env: &Env) {
        for path in config::password_files(env) {
            let _unusable = Secret::read_known(&path, self);
        }
        for path in config::url_files(env) {
            if let Ok(Some(url)) = Secret::read(&path) {
                self.learn_url(url.expose());
            }
        }
    }

    /// Adds the password of a URL, as it is written there and what it means.
    pub(crate) fn learn_url(&self, url: &str) {
        if let Some(password) = url_password(url) {
            self.learn(password);
            self.learn(&encode::percent_decode(password));
        }
    }

    /// Adds a password that was read from a file.
    pub(crate) fn learn_secret(&self, secret: &Secret) {
        self.learn(secret.expose());
    }

    fn learn(&self, value: &str) {
        if value.len() < SHORTEST || NO_SECRETS.contains(&value.to_lowercase().as_str()) {
            return;
        }
        let json = serde_json::Value::from(value).to_string();
        // As Python quotes it between double quotes, and between single ones.
        let python = value.replace('\\', "\\\\");
        let single = python.replace('\'', "\\'");
        let sql = value.replace('\'', "''");
        let json = json[1..json.len() - 1].to_owned();
        let forms = [value.to_owned(), encode::percent(value), json, python, single, sql];
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        for form in forms {
            if !secrets.contains(&form) {
                secrets.push(form);
            }
        }
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// The text without any known secret and without the password of any URL in it.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut out = text.to_owned();
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        for secret in secrets.iter() {
            if out.contains(secret.as_str()) {
                out = out.replace(secret.as_str(), MASK);
            }
        }
        mask_urls(&out)
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    // Ours with _FILE hold the path of a password, which may be told.
    !(name.starts_with("ODOOAI_") && name.ends_with("_FILE"))
        && ["PASSWORD", "SECRET", "KEY", "TOKEN"].iter().any(|word| name.contains(word))
}

/// The password in `scheme://user:password@host`, as it is written there. The
/// last `@` of the authority counts, because people forget to encode theirs.
fn url_password(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let (_, password, _) = authority_password(rest)?;
    (!password.is_empty()).then_some(password)
}

/// Splits `user:password@…` into (offset of the password, password, offset of the `@`).
fn authority_password(rest: &str) -> Option<(usize, &str, usize)> {
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`')).unwrap_or(rest.len());
    let slash = rest[..end].find('/').unwrap_or(end);
    // A slash in the password moves the @ behind the first slash.
    let at = rest[..slash].rfind('@').or_else(|| {
        let at = rest[..end].find('@')?;
        rest[..at].contains(':').then_some(at)
    })?;
    let colon = rest[..at].find(':')?;
    Some((colon + 1, &rest[colon + 1..at], at))
}

fn mask_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(found) = rest.find("://") {
        let (head, tail) = rest.split_at(found + 3);
        out.push_str(head);
        rest = tail;
        if let Some((start, _, at)) = authority_password(tail) {
            out.push_str(&tail[..start]);
            out.push_str(MASK);
            rest = &tail[at..];
        }
    }
    out.push_str(rest);
    out
}

/// Drops PostgreSQL's DETAIL lines and `SQLAlchemy`'s parameters from a stream of
/// lines: they quote rows, which are people's data.
#[derive(Debug, Default)]
pub(crate) struct DetailFilter {
    dropping: bool,
}

impl DetailFilter {
    /// Whether this line may be shown.
    pub(crate) fn keeps(&mut self, line: &str) -> bool {
        let text = line.trim_start();
        if ["DETAIL:", "[parameters:", "CONTEXT:"].iter().any(|prefix| text.starts_with(prefix))
            || text.contains(" DETAIL:  ")
        {
            self.dropping = true;
            return false;
        }
        if self.dropping && !ends_detail(text) {
            return false;
        }
        self.dropping = false;
        true
    }
}

/// A quoted row may have several lines; these begin something else.
fn ends_detail(text: &str) -> bool {
    text.is_empty()
        || [
            "HINT:",
            "QUERY:",
            "STATEMENT:",
            "LOCATION:",
            "ERROR:",
            "FATAL:",
            "[SQL:",
            "(Background on",
            "Traceback",
            "The above",
            "During handling",
            "File \"",
            "INFO",
            "sqlalchemy.",
            "psycopg",
        ]
        .iter()
        .any(|prefix| text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn redactor() -> Redactor {
        Redactor::from_env(
            &[
                ("AI_SECRET_KEY", "s3cr3t-key"),
                ("SMTP_PASSWORD", "pa%ss\"word"),
                ("AI_DATABASE_URL", "postgresql+psycopg2://app:url%40pass@db/odooai"),
                ("ODOOAI_DATABASE_PASSWORD_FILE", "/var/run/password"),
                ("FEATURE_KEY_ENABLED", "true"),
                ("QUOTED_TOKEN", r#"a'b"c\d"#),
                ("SHORT_TOKEN", "abc"),
                ("ODOO_DB", "production"),
            ]
            .into_iter()
            .collect(),
        )
    }

    #[rstest]
    #[case("key s3cr3t-key!", "key ***!")]
    #[case("raw pa%ss\"word", "raw ***")]
    #[case(r#"json "pa%ss\"word""#, r#"json "***""#)]
    #[case(r#"in Python 'a\'b"c\\d'"#, "in Python '***'")]
    #[case(r#"in Python "a'b"c\\d""#, r#"in Python "***""#)]
    #[case(r#"in SQL 'a''b"c\d'"#, "in SQL '***'")]
    #[case("url pa%25ss%22word", "url ***")]
    #[case("written url%40pass", "written ***")]
    #[case("decoded url@pass", "decoded ***")]
    #[case("file /var/run/password", "file /var/run/password")]
    #[case("true abc production", "true abc production")]
    #[case("to postgresql://u:other@h/d failed", "to postgresql://u:***@h/d failed")]
    #[case("'redis://:a/b@h:6379/0'", "'redis://:***@h:6379/0'")]
    #[case("p://u:x@y@h/d", "p://u:***@h/d")]
    #[case("http://odoo:8069/x and a@b.c", "http://odoo:8069/x and a@b.c")]
    fn texts(#[case] text: &str, #[case] redacted: &str) {
        assert_eq!(redactor().redact(text), redacted);
    }

    #[test]
    fn files_are_known_from_the_start() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (password, url) = (folder.path().join("password"), folder.path().join("url"));
        std::fs::write(&password, "p@ssword\n").expect("written");
        std::fs::write(&url, "rediss://:s%40cret@h/0\n").expect("written");
        let redactor = Redactor::default();
        let file = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
        redactor.learn_files(
            &[("ODOOAI_DATABASE_PASSWORD_FILE", file(&password)), ("ODOOAI_REDIS_FORMER_URL_FILE", file(&url))]
                .into_iter()
                .collect(),
        );
        assert_eq!(redactor.redact("p@ssword p%40ssword s@cret s%40cret"), "*** *** *** ***");
    }

    #[test]
    fn longer_secrets_go_first() {
        let redactor = Redactor::default();
        redactor.learn_secret(&Secret::new("pass"));
        redactor.learn_secret(&Secret::new("passport"));
        assert_eq!(redactor.redact("passport pass"), "*** ***");
    }

    #[test]
    fn details_are_dropped_with_their_further_lines() {
        let text = "ERROR: duplicate\nDETAIL:  Key (mail)=(a@b.c\nsecond line) exists.\nHINT:  none\n\
                    [SQL: INSERT]\n[parameters: {'mail': 'a@b.c'}]\n(Background on this error)\nend";
        let mut filter = DetailFilter::default();
        let kept: Vec<_> = text.lines().filter(|line| filter.keeps(line)).collect();
        assert_eq!(kept, ["ERROR: duplicate", "HINT:  none", "[SQL: INSERT]", "(Background on this error)", "end"]);
    }

    #[test]
    fn an_empty_line_ends_a_detail() {
        let mut filter = DetailFilter::default();
        let kept = ["DETAIL:  Key (a)=(b", "c) exists.", "", "RuntimeError: x"].map(|line| filter.keeps(line));
        assert_eq!(kept, [false, false, true, true]);
    }
}
