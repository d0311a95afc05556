//! May two databases change places? Plain.
//!
//! Each swap has a number, which both databases keep: one that comes late must not undo what came after it.

use crate::dump::error::BackupError;
use crate::restore::note::{Found, Note, State};

/// The names.
pub(crate) struct Names {
    /// What takes the place.
    pub(crate) restored: String,
    /// The place.
    pub(crate) live: String,
    /// How the one that was there is called from then on.
    pub(crate) replaced: String,
}

/// What is there under these names.
pub(crate) struct There {
    pub(crate) restored: Option<Found>,
    pub(crate) live: Option<Found>,
    pub(crate) replaced: Option<Found>,
}

/// What both get noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notes {
    /// On what is in the place then.
    pub(crate) live: Note,
    /// On what was in it.
    pub(crate) replaced: Note,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: this very swap was.
    Done,
    /// They stand as they should by an earlier one; later ones than that are late now.
    Renumber(Notes),
    /// They change places.
    Swap(Notes),
}

/// Decides for the swap of this number.
///
/// # Errors
/// Why they may not; nothing has changed.
pub(crate) fn judge(names: &Names, there: &There, owner: &str, sequence: u64) -> Result<Verdict, BackupError> {
    let Names { restored, live, replaced } = names;
    let own = |found: &Option<Found>| found.as_ref()?.note.clone().filter(|note| note.owner == owner);
    let (new, place, old) = (own(&there.restored), own(&there.live), own(&there.replaced));
    let latest = [&new, &place, &old].into_iter().flatten().map(|note| note.sequence).max().unwrap_or(0);
    let swapped = match (&there.restored, &place, &old) {
        (None, Some(place), Some(old)) if (place.state, old.state) == (State::Live, State::Replaced) => {
            Some(Notes { live: Note { sequence, ..place.clone() }, replaced: Note { sequence, ..old.clone() } })
        }
        _ => None,
    };
    match swapped {
        Some(_) if sequence == latest => return Ok(Verdict::Done),
        _ if sequence <= latest => {
            let message = format!(
                "the swap {latest} of this restore was made already, and this is the swap {sequence}; nothing was changed: a new one needs a greater number"
            );
            return Err(BackupError::refused("SwapOutdated", message));
        }
        Some(notes) => return Ok(Verdict::Renumber(notes)),
        None => {}
    }
    if there.live.is_none() {
        return Err(BackupError::refused("DatabaseMissing", format!("there is no database {live} to be replaced")));
    }
    if there.replaced.is_some() {
        return Err(taken(replaced));
    }
    // What was replaced, and what replaced it, may change places again.
    let new = new.filter(|note| !matches!(note.state, State::Loading | State::Copied)).ok_or_else(|| {
        let message = format!("{restored} isn't a database that this restore has loaded completely");
        BackupError::refused("DatabaseNotLoaded", message)
    })?;
    let before = place.unwrap_or_else(|| Note { original: true, ..new.clone() });
    Ok(Verdict::Swap(Notes {
        live: Note { state: State::Live, sequence, ..new },
        replaced: Note { state: State::Replaced, sequence, ..before },
    }))
}

/// What was live can't have this name.
pub(crate) fn taken(replaced: &str) -> BackupError {
    let message = format!("there is a database {replaced} already: the replaced one can't be kept under that name");
    BackupError::refused("DatabaseExists", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Failure as _;

    /// Databases by their names, as renames leave them.
    #[derive(Clone)]
    struct Server(Vec<(&'static str, Option<Note>)>);

    impl Server {
        fn find(&self, name: &str) -> Option<Found> {
            let found = self.0.iter().find(|it| it.0 == name)?;
            Some(Found { note: found.1.clone(), begun: None })
        }

        /// A swap; one word about it.
        fn swap(&mut self, restored: &'static str, replaced: &'static str, sequence: u64) -> &'static str {
            let names = Names { restored: restored.to_owned(), live: "live".to_owned(), replaced: replaced.to_owned() };
            let [new, place, old] = [restored, "live", replaced].map(|name| self.find(name));
            let (notes, word) =
                match judge(&names, &There { restored: new, live: place, replaced: old }, "uid-1", sequence) {
                    Ok(Verdict::Done) => return "Done",
                    Err(error) => return error.reason(),
                    Ok(Verdict::Renumber(notes)) => (notes, "Renumber"),
                    Ok(Verdict::Swap(notes)) => {
                        for it in &mut self.0 {
                            it.0 = if it.0 == "live" {
                                replaced
                            } else if it.0 == restored {
                                "live"
                            } else {
                                it.0
                            };
                        }
                        (notes, "Swap")
                    }
                };
            for it in &mut self.0 {
                if it.0 == "live" {
                    it.1 = Some(notes.live.clone());
                } else if it.0 == replaced {
                    it.1 = Some(notes.replaced.clone());
                }
            }
            word
        }

        /// Whether what is live came from the backup.
        fn is_backup(&self) -> bool {
            self.find("live").and_then(|it| it.note).is_some_and(|note| !note.original)
        }
    }

    fn loaded() -> Server {
        let note = |state| Note {
            owner: "uid-1".to_owned(),
            artifact: "a".to_owned(),
            state,
            original: false,
            sequence: 0,
            adopted: false,
            tables: Vec::new(),
        };
        Server(vec![
            ("live", None),
            ("new", Some(note(State::Loaded))),
            ("half", Some(note(State::Loading))),
            ("used", Some(note(State::Copied))),
        ])
    }

    #[test]
    fn what_comes_late_changes_nothing() {
        let mut server = loaded();
        assert_eq!((server.swap("new", "kept", 1), server.is_backup()), ("Swap", true));
        assert_eq!(server.swap("new", "kept", 1), "Done");
        assert_eq!((server.swap("kept", "new", 2), server.is_backup()), ("Swap", false));
        assert_eq!(server.swap("kept", "new", 2), "Done");
        assert_eq!((server.swap("new", "kept", 1), server.is_backup()), ("SwapOutdated", false));
        assert_eq!((server.swap("new", "kept", 3), server.is_backup()), ("Swap", true));
        assert_eq!((server.swap("kept", "new", 2), server.is_backup()), ("SwapOutdated", true));
        // Other names under a number that is used.
        assert_eq!(server.swap("kept", "elsewhere", 3), "SwapOutdated");
    }

    #[test]
    fn a_number_that_was_skipped_comes_too_late() {
        let mut server = loaded();
        assert_eq!(server.swap("new", "kept", 1), "Swap");
        assert_eq!((server.swap("new", "kept", 3), server.swap("new", "kept", 3)), ("Renumber", "Done"));
        assert_eq!((server.swap("kept", "new", 2), server.is_backup()), ("SwapOutdated", true));
    }

    #[test]
    fn only_what_was_loaded_and_keeps_its_name() {
        let mut server = loaded();
        assert_eq!(server.swap("half", "kept", 1), "DatabaseNotLoaded");
        assert_eq!(server.swap("nowhere", "kept", 1), "DatabaseNotLoaded");
        assert_eq!(server.swap("used", "kept", 1), "DatabaseNotLoaded");
        assert_eq!(server.swap("new", "half", 1), "DatabaseExists");
        server.0.remove(0);
        assert_eq!(server.swap("new", "kept", 1), "DatabaseMissing");
    }
}
