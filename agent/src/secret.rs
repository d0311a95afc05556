//! Passwords: read from files when they are needed, never printed.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::redact::Redactor;

/// A password. Its `Debug` form hides it; the value leaves only through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

/// Why a password file could not be used.
#[derive(Debug, Error)]
pub(crate) enum SecretError {
    /// The file is there and cannot be read.
    #[error("credential file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No environment variable and no protocol can carry it.
    #[error("credential file {0} holds a NUL byte or is not UTF-8")]
    NotText(PathBuf),
}

impl Secret {
    /// Wraps a value that is known already.
    pub(crate) fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a password file; an absent or empty one means "no password".
    /// One newline at the end is not part of the password: editors add it.
    ///
    /// # Errors
    /// When the file exists but cannot be read, or holds what cannot be a password.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, SecretError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(SecretError::Unreadable { path: path.to_owned(), source });
            }
        };
        let text = String::from_utf8(bytes).map_err(|_| SecretError::NotText(path.to_owned()))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.contains('\0') {
            return Err(SecretError::NotText(path.to_owned()));
        }
        Ok((!text.is_empty()).then(|| Self::new(text)))
    }

    /// The same, and nothing prints it from here on.
    ///
    /// # Errors
    /// See [`Secret::read`].
    pub(crate) fn read_known(path: &Path, redactor: &Redactor) -> Result<Option<Self>, SecretError> {
        let secret = Self::read(path)?;
        if let Some(secret) = &secret {
            redactor.learn_secret(secret);
        }
        Ok(secret)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Option<Secret>, SecretError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("password");
        std::fs::write(&path, content).expect("written");
        Secret::read(&path)
    }

    #[test]
    fn only_one_newline_at_the_end_is_cut() {
        for (content, password) in [("p w\n", "p w"), ("p\r\n", "p"), (" p ", " p "), ("p\n\n", "p\n")] {
            let secret = read(content.as_bytes()).expect("readable");
            assert_eq!(secret, Some(Secret::new(password)), "{content:?}");
        }
    }

    #[test]
    fn absent_and_empty_mean_none() {
        assert_eq!(read(b"").expect("readable"), None);
        assert_eq!(read(b"\n").expect("readable"), None);
        assert_eq!(Secret::read(Path::new("/nonexistent/x")).expect("absent"), None);
    }

    #[test]
    fn what_no_variable_can_carry_is_an_error() {
        assert!(read(b"a\0b").is_err());
        assert!(read(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn debug_hides_it() {
        assert_eq!(format!("{:?}", Secret::new("hunter22")), "Secret(***)");
    }
}
