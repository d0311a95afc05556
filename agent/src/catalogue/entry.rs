//! What lies in a catalogue, wherever it is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalogue::id::Id;
use crate::catalogue::manifest::Manifest;

/// Whose the catalogue is.
pub(crate) const OWNER: &str = "owner.json";
/// An artifact's dump.
pub(crate) const DUMP: &str = "dump";
/// Its manifest: without one it is no backup.
pub(crate) const MANIFEST: &str = "manifest";
/// Its last verification.
pub(crate) const VERIFIED: &str = "verified";

/// What lies under one name.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) id: Id,
    /// What it is.
    pub(crate) state: State,
}

/// What an artifact is.
#[derive(Debug)]
pub(crate) enum State {
    /// A backup; its dump has the size that the manifest says.
    Good {
        /// What is known of it.
        manifest: Box<Manifest>,
        /// A verification restored it completely.
        verified: bool,
    },
    /// It has a manifest, and is no good all the same: why. Never touched.
    Damaged(String),
    /// It has no manifest: what a run left that was killed.
    Unfinished,
}

impl State {
    /// What a manifest's text and the size of the dump beside it make of an artifact.
    pub(crate) fn of(id: &Id, text: &[u8], dump: Option<u64>, verified: bool) -> Self {
        let manifest = match Manifest::parse(text) {
            Ok(manifest) if manifest.id == *id => manifest,
            Ok(manifest) => return Self::Damaged(format!("its manifest is of {}", manifest.id)),
            Err(why) => return Self::Damaged(format!("its manifest can't be read: {why}")),
        };
        match dump {
            None => Self::Damaged("its dump is missing".to_owned()),
            Some(bytes) if bytes != manifest.bytes => {
                Self::Damaged(format!("its dump has {bytes} bytes instead of {}", manifest.bytes))
            }
            Some(_) => Self::Good { manifest: Box::new(manifest), verified },
        }
    }
}

/// Good ones of a policy, the newest first, and whether each is verified.
pub(crate) fn of_policy<'a>(entries: &'a [Entry], policy: &str) -> Vec<(&'a Manifest, bool)> {
    good(entries, |manifest, _| manifest.policy == policy)
}

/// Good ones that are wanted, the newest first, and whether each is verified.
pub(crate) fn good(entries: &[Entry], wanted: impl Fn(&Manifest, bool) -> bool) -> Vec<(&Manifest, bool)> {
    let good = entries.iter().filter_map(|entry| match &entry.state {
        State::Good { manifest, verified } if wanted(manifest, *verified) => Some((&**manifest, *verified)),
        State::Good { .. } | State::Damaged(_) | State::Unfinished => None,
    });
    let mut good: Vec<_> = good.collect();
    good.sort_by(|(one, _), (other, _)| (other.completed_at, &other.id).cmp(&(one.completed_at, &one.id)));
    good
}

/// A verification that restored an artifact completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verified {
    /// When.
    pub(crate) completed_at: Timestamp,
    /// Seconds that the restore took: the measured time to recover.
    pub(crate) restore_seconds: u64,
    /// Of the dump that was restored.
    pub(crate) sha256: String,
}

impl Verified {
    /// What was noted of an artifact; `None`, told in the log, where it can't be understood.
    pub(crate) fn parse(id: &Id, text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text)
            .inspect_err(|error| tracing::warn!(%id, %error, "what was noted of a verification can't be read"))
            .ok()
    }
}
