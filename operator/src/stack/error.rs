//! What can go wrong in a reconcile, and how soon it is worth another try.

use odoo_ai_crds::conditions::reasons;

use crate::cluster::apply;

/// A failed reconcile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("{}", apply::words(.0))]
    Api(#[from] kube::Error),
    /// A child could not be written.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The caches have not had their first list yet.
    #[error("the caches are not filled yet")]
    NotReady,
    /// The reconcile took too long.
    #[error("the reconcile took too long and was given up")]
    TimedOut,
    /// The application's rules API failed.
    #[error("rules API: {0}")]
    Rules(#[from] crate::rules::Error),
}

impl Error {
    /// The decision was made on an old state: start again at once.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Api(kube::Error::Api(status)) => status.code == 409,
            Self::Apply(apply::Error::Api { source, .. }) => matches!(&**source, kube::Error::Api(s) if s.code == 409),
            _ => false,
        }
    }

    /// Reason of the condition that tells the user.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Apply(apply::Error::Foreign(_)) => reasons::NAME_CONFLICT,
            Self::Apply(apply::Error::Leftover(_)) => reasons::CLEANING_UP,
            Self::Apply(apply::Error::Api { source, .. }) => match &**source {
                kube::Error::Api(status) if status.code == 403 => reasons::FORBIDDEN,
                kube::Error::Api(status) if status.code == 400 || status.code == 422 => reasons::INVALID_OBJECT,
                _ => reasons::UNREACHABLE,
            },
            Self::Api(_) | Self::NotReady | Self::TimedOut | Self::Rules(_) => reasons::UNREACHABLE,
        }
    }

    /// Only a person can change it.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        matches!(self, Self::Apply(apply::Error::Foreign(_)))
    }
}
