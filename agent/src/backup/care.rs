//! What a run does about a catalogue around its own artifact, wherever the catalogue is.

use crate::backup::retention::{self, Retention};
use crate::catalogue::entry::{Entry, State, of_policy};
use crate::catalogue::manifest::{Compression, Manifest};
use crate::catalogue::owner::{self, Claim, Owner};
use crate::catalogue::place::Place;
use crate::dump::archive;
use crate::dump::error::BackupError;

/// What of a policy a catalogue needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// Whose it must be.
    pub(crate) owner: &'a Owner,
    /// The owner that is taken over.
    pub(crate) adopt: Option<&'a str>,
    /// Name of the policy.
    pub(crate) policy: &'a str,
    /// How many are kept.
    pub(crate) retention: Retention,
}

/// The catalogue is ours, from now on at the latest.
///
/// # Errors
/// `ForeignOwner`; what the storage said.
pub(crate) async fn claim(place: &Place, rules: Rules<'_>) -> Result<(), BackupError> {
    let Rules { owner: ours, adopt, .. } = rules;
    let found = place.owner().await.map_err(BackupError::storage("read owner.json"))?;
    match owner::claim(found.as_ref(), ours, adopt) {
        Claim::Held => Ok(()),
        Claim::Write => place.claim(ours).await.map_err(BackupError::storage("write owner.json")),
        Claim::Refused => {
            let theirs = found.map(|it| it.database).unwrap_or_default();
            let message = format!(
                "the catalogue belongs to another database ({theirs}), this one is {}: nothing is added or removed; set adopt: {theirs} to take it over, or choose another place",
                ours.database
            );
            Err(BackupError::refused("ForeignOwner", message))
        }
    }
}

/// Removes what killed runs left: under the lock nobody else is at work. Returns the good ones, the oldest first.
///
/// # Errors
/// What the storage said.
pub(crate) async fn sweep(place: &Place) -> Result<Vec<Manifest>, BackupError> {
    let mut good = Vec::new();
    for entry in list(place).await? {
        match entry.state {
            State::Unfinished => {
                tracing::info!(id = %entry.id, "removing what an unfinished run left; it has no manifest");
                place.remove(&entry.id).await.map_err(BackupError::storage("remove an unfinished run"))?;
            }
            State::Damaged(why) => tracing::warn!(id = %entry.id, why, "a backup is damaged; it stays as it is"),
            State::Good { manifest, .. } => good.push(*manifest),
        }
    }
    Ok(good)
}

/// Removes what is too many. Returns how many, and what is left.
///
/// # Errors
/// What the storage said.
pub(crate) async fn prune(place: &Place, rules: Rules<'_>) -> Result<(usize, Vec<Entry>), BackupError> {
    let mut entries = list(place).await?;
    let surplus = retention::surplus(&entries, rules.policy, rules.retention);
    for id in &surplus {
        tracing::info!(%id, "removing a backup beyond the retention");
        place.remove(id).await.map_err(BackupError::storage("remove a backup"))?;
    }
    entries.retain(|entry| !surplus.contains(&entry.id));
    Ok((surplus.len(), entries))
}

/// Copies what one catalogue has of the policy and the other lacks, each as it is, and prunes the other. Returns how
/// many were copied.
///
/// # Errors
/// What either storage said; what was copied until then stays.
pub(crate) async fn copy(from: &Place, to: &Place, rules: Rules<'_>) -> Result<usize, BackupError> {
    claim(to, rules).await?;
    let there = sweep(to).await?;
    let mut copied = 0;
    for (manifest, _) in of_policy(&list(from).await?, rules.policy).into_iter().rev() {
        if there.iter().all(|it| it.id != manifest.id) {
            copy_one(from, to, manifest).await?;
            copied += 1;
        }
    }
    prune(to, rules).await?;
    Ok(copied)
}

async fn copy_one(from: &Place, to: &Place, manifest: &Manifest) -> Result<(), BackupError> {
    let mut source = from.source(&manifest.id).map_err(BackupError::storage("open the dump"))?;
    let mut sink = to.sink(&manifest.id, manifest.bytes).map_err(BackupError::storage("begin the copy"))?;
    let copying = move || {
        let stored = archive::store(&mut source, &mut sink, Compression::Archive)?;
        sink.finish().map(|()| stored)
    };
    let stored = archive::in_thread(copying).await.map_err(BackupError::storage("copy the dump"))?;
    let mut source = to.source(&manifest.id).map_err(BackupError::storage("open the copy"))?;
    let read = archive::in_thread(move || archive::measure(&mut source))
        .await
        .map_err(BackupError::storage("read the copy back"))?;
    if read != stored || !read.is_of(manifest) {
        let message = format!("the copy of backup {} isn't what its manifest says", manifest.id);
        return Err(BackupError::failed("StorageCorrupt", message));
    }
    to.commit(manifest).await.map_err(BackupError::storage("write the copy's manifest"))
}

async fn list(place: &Place) -> Result<Vec<Entry>, BackupError> {
    place.list().await.map_err(BackupError::storage("read the catalogue"))
}
