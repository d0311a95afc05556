//! Why the application didn't do what it was asked for, and what that says of it.

use std::error::Error as _;

use odoo_ai_crds::conditions::reasons;

/// Of what an application answers, characters that are shown.
const SHOWN: usize = 200;

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody answered, or not in time.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The answer is not the application's: perhaps another program listens there.
    #[error("{request} was answered with what is no answer of the application ({why}): {body:?}")]
    Unreadable {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        why: String,
        /// The beginning of the body.
        body: String,
    },
    /// The application answered, but not as wanted.
    #[error("{request} answered {status}: {body:?}")]
    Refused {
        /// Method and path.
        request: String,
        /// Status code.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// There is no key to ask with.
    #[error("{0}")]
    NoKey(String),
    /// A rule that was switched off was read back as on.
    #[error("rule {0} is still enabled after it was disabled")]
    NotDisabled(i64),
}

impl Error {
    pub(super) fn no_answer(error: reqwest::Error) -> Self {
        // The address is a name of this cluster, which the condition tells anyway.
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            text = format!("{text}: {next}");
            cause = next.source();
        }
        Self::NoAnswer(text)
    }

    pub(super) fn refused(method: &str, path: &str, status: u16, body: &str) -> Self {
        Self::Refused { request: format!("{method} {path}"), status, body: shown(body) }
    }

    pub(super) fn unreadable(method: &str, path: &str, body: &str, why: String) -> Self {
        Self::Unreadable { request: format!("{method} {path}"), why, body: shown(body) }
    }

    /// Reason of the condition that tells it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoAnswer(_) => reasons::UNREACHABLE,
            Self::NoKey(_) => reasons::SECRET_MISSING,
            Self::Refused { status: 401 | 403, .. } => reasons::UNAUTHORIZED,
            Self::Unreadable { .. } | Self::Refused { status: 300..=399, .. } => reasons::UNEXPECTED_ANSWER,
            Self::Refused { status: 500.., .. } => reasons::APPLICATION_FAILING,
            Self::Refused { .. } | Self::NotDisabled(_) => reasons::REJECTED,
        }
    }

    /// The application itself answered that it did nothing; else nobody knows whether it did.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::NoKey(_) | Self::Refused { status: 300..=500, .. })
    }
}

fn shown(body: &str) -> String {
    body.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(401, reasons::UNAUTHORIZED, true)]
    #[case(307, reasons::UNEXPECTED_ANSWER, true)]
    #[case(404, reasons::REJECTED, true)]
    #[case(422, reasons::REJECTED, true)]
    #[case(500, reasons::APPLICATION_FAILING, true)]
    #[case(503, reasons::APPLICATION_FAILING, false)]
    fn each_status_says_something_else(#[case] status: u16, #[case] reason: &str, #[case] is_final: bool) {
        let error = Error::refused("PUT", "/api/rules/1", status, "no");
        assert_eq!((error.reason(), error.is_final()), (reason, is_final));
    }
}
