//! The catalogue that a database came from becomes that database's own, so that its next backup goes there.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::catalogue::owner::Owner;
use crate::catalogue::place::{Place, Storage};
use crate::dump::error::BackupError;

/// Adopts it wherever it is; what a message says of that, and whether it was adopted everywhere. That it can't be is no
/// failure: the next backup says it again.
pub(crate) async fn adopt(storage: &Storage, ours: &Owner) -> (String, bool) {
    let places = [
        storage.open().map(Some).map_err(BackupError::storage("open the catalogue")),
        storage.open_copy().map_err(BackupError::storage("open the bucket")),
    ];
    let (mut from, mut failed) = (BTreeSet::new(), Vec::new());
    for place in places.into_iter().filter_map(Result::transpose) {
        let former = match place {
            Ok(place) => adopt_one(&place, ours).await,
            Err(error) => Err(error),
        };
        match former {
            Ok(former) => from.extend(former.map(|it| it.database)),
            Err(error) => failed.push(error.to_string()),
        }
    }
    let mut message = String::new();
    if !from.is_empty() {
        let from: Vec<_> = from.into_iter().collect();
        let _never_fails = write!(message, "; its catalogue was adopted from {}", from.join(", "));
    }
    if !failed.is_empty() {
        message.push_str(&not_adopted(&failed.join(", ")));
    }
    (message, failed.is_empty())
}

/// That it isn't, and why.
pub(crate) fn not_adopted(why: &str) -> String {
    format!("; its catalogue could not be adopted: {why}")
}

/// Whose it was, if it was another one's.
async fn adopt_one(place: &Place, ours: &Owner) -> Result<Option<Owner>, BackupError> {
    let found = place.owner().await.map_err(BackupError::storage("read owner.json"))?;
    if found.as_ref() == Some(ours) {
        return Ok(None);
    }
    place.claim(ours).await.map_err(BackupError::storage("write owner.json"))?;
    Ok(found)
}
