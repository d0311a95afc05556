//! What an earlier attempt to load has come to. Plain.

use crate::dump::error::BackupError;
use crate::restore::note::{self, Found, Note, State};
use crate::restore::settings::{Target, Wanted};

/// What is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing.
    Nothing,
    /// Something that was not ended: it is dropped.
    Begun,
    /// All of it: in the database that is asked for, or in the live one whose place that took.
    Done(Note),
}

/// The live one, where that is what this restore brought.
pub(crate) fn in_place<'a>(live: &str, noted: &'a [(String, Note)]) -> Option<&'a Note> {
    let is_live = |(name, note): &&(String, Note)| name == live && note.state == State::Live && !note.original;
    noted.iter().find(is_live).map(|(_, note)| note)
}

/// Decides. `found`: the database that is asked for; `noted`: all databases of this restore.
///
/// # Errors
/// `DatabaseExists`: it is somebody else's, or another backup. `NoLongerLive`: it took the place of the live one and has
/// left it again: a second load would bring back what somebody has put away.
pub(crate) fn before(
    target: &Target,
    wanted: &Wanted,
    live: &str,
    found: Option<&Found>,
    noted: &[(String, Note)],
) -> Result<Before, BackupError> {
    let Target { owner, database, .. } = target;
    if let Some(note) = in_place(live, noted) {
        return Ok(Before::Done(note.clone()));
    }
    if noted.iter().any(|(_, note)| matches!(note.state, State::Live | State::Replaced)) {
        let message = format!(
            "what this restore brought was {live} and isn't any more; nothing was loaded: make another Restore"
        );
        return Err(BackupError::refused("NoLongerLive", message));
    }
    let Some(found) = found else { return Ok(Before::Nothing) };
    match &found.note {
        Some(note) if note.owner == *owner && note.state == State::Loading => Ok(Before::Begun),
        Some(note)
            if note.owner == *owner
                && matches!(note.state, State::Loaded | State::Copied)
                && wanted.allows(&note.artifact) =>
        {
            Ok(Before::Done(note.clone()))
        }
        None if found.begun == Some(note::mark(owner)) => Ok(Before::Begun),
        _ => {
            let message = format!("there is a database {database} already, and this restore didn't make it");
            Err(BackupError::refused("DatabaseExists", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Failure as _;
    use crate::restore::settings::Choice;
    use rstest::rstest;

    const ONE: &str = "20260101t000000z-aaaaaa";
    const OTHER: &str = "20260102t000000z-aaaaaa";

    fn note(owner: &str, artifact: &str, state: State, original: bool) -> Note {
        Note {
            owner: owner.to_owned(),
            artifact: artifact.to_owned(),
            state,
            original,
            sequence: 1,
            tables: Vec::new(),
            adopted: false,
        }
    }

    /// `[name] state[!][/other artifact][@other owner]`, with `!` where it was the live one before.
    fn noted(text: &str) -> Option<(String, Note)> {
        let (name, rest) = text.split_once(' ')?;
        let (rest, owner) = rest.split_once('@').unwrap_or((rest, "uid-1"));
        let (rest, artifact) = if let Some((rest, _)) = rest.split_once('/') { (rest, OTHER) } else { (rest, ONE) };
        let state = match rest.trim_end_matches('!') {
            "Loading" => State::Loading,
            "Loaded" => State::Loaded,
            "Live" => State::Live,
            "Copied" => State::Copied,
            _ => State::Replaced,
        };
        Some((name.to_owned(), note(owner, artifact, state, rest.ends_with('!'))))
    }

    #[rstest]
    #[case::nothing(&[], "Nothing", "Nothing")]
    #[case::begun(&["new Loading"], "Begun", "Begun")]
    #[case::begun_with_another(&["new Loading/2"], "Begun", "Begun")]
    #[case::loaded(&["new Loaded"], "Done", "Done")]
    #[case::loaded_with_another(&["new Loaded/2"], "DatabaseExists", "Done")]
    #[case::copied(&["new Copied"], "Done", "Done")]
    #[case::copied_with_another(&["new Copied/2"], "DatabaseExists", "Done")]
    #[case::somebody_elses(&["new Loaded@uid-2"], "DatabaseExists", "DatabaseExists")]
    #[case::swapped_in(&["live Live", "kept Replaced!"], "Done", "Done")]
    #[case::swapped_back(&["live Live!", "new Replaced"], "NoLongerLive", "NoLongerLive")]
    #[case::swapped_back_to_another_name(&["live Live!", "old Replaced"], "NoLongerLive", "NoLongerLive")]
    #[case::another_restore_came_after(&["live Live@uid-2", "kept Replaced!"], "NoLongerLive", "NoLongerLive")]
    #[case::what_another_restore_swapped_is_no_matter(&["live Live@uid-2", "kept Replaced!@uid-2"], "Nothing", "Nothing")]
    fn what_a_late_attempt_does(#[case] there: &[&str], #[case] by_id: &str, #[case] by_selector: &str) {
        let all: Vec<_> = there.iter().filter_map(|text| noted(text)).collect();
        let found = all.iter().find(|it| it.0 == "new").map(|it| Found { note: Some(it.1.clone()), begun: None });
        let own: Vec<_> = all.into_iter().filter(|it| it.1.owner == "uid-1").collect();
        let limit = std::time::Duration::ZERO;
        let target = Target { owner: "uid-1".to_owned(), database: "new".to_owned(), limit };
        for (wanted, answer) in [
            (Wanted::Artifact(Choice::Id(ONE.parse().expect("an id"))), by_id),
            (Wanted::Artifact(Choice::Latest), by_selector),
            (Wanted::File(ONE.parse().expect("a path")), by_id),
        ] {
            let told = match before(&target, &wanted, "live", found.as_ref(), &own) {
                Ok(Before::Nothing) => "Nothing",
                Ok(Before::Begun) => "Begun",
                Ok(Before::Done(_)) => "Done",
                Err(error) => error.reason(),
            };
            assert_eq!(told, answer, "{wanted:?}");
        }
    }
}
