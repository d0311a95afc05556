//! Which backup is meant.

use crate::catalogue::entry::{Entry, State, good};
use crate::catalogue::id::Id;
use crate::catalogue::manifest::Manifest;
use crate::dump::error::BackupError;

/// The one of this id.
///
/// # Errors
/// `ArtifactMissing`; `ArtifactDamaged`.
pub(crate) fn by_id(entries: &[Entry], id: &Id) -> Result<Manifest, BackupError> {
    match entries.iter().find(|entry| entry.id == *id).map(|entry| &entry.state) {
        Some(State::Good { manifest, .. }) => Ok(Manifest::clone(manifest)),
        Some(State::Damaged(why)) => Err(BackupError::refused("ArtifactDamaged", format!("backup {id}: {why}"))),
        Some(State::Unfinished) | None => {
            Err(BackupError::refused("ArtifactMissing", format!("there is no backup {id}")))
        }
    }
}

/// The newest good one of those that are wanted, by when it was completed, then by its id.
pub(crate) fn newest(entries: &[Entry], wanted: impl Fn(&Manifest, bool) -> bool) -> Option<Manifest> {
    good(entries, wanted).first().map(|(manifest, _)| Manifest::clone(manifest))
}
