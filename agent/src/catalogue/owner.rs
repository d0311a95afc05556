//! Whose backups these are. Two databases must not share a catalogue: one would prune the other's.

use serde::{Deserialize, Serialize};

/// `owner.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// `<system identifier>/<name of the database>`.
    pub(crate) database: String,
}

impl Owner {
    /// The database of this name; `incarnation`: its own.
    pub(crate) fn of(incarnation: &str, database: &str) -> Self {
        let system = incarnation.split('/').next().unwrap_or_default();
        Self { database: format!("{system}/{database}") }
    }
}

/// What to do about the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is ours.
    Held,
    /// It has no owner, or the spec takes it over: write ours.
    Write,
    /// It is somebody else's: neither write nor prune.
    Refused,
}

/// Decides. `adopt`: the owner that the spec takes over.
pub(crate) fn claim(found: Option<&Owner>, ours: &Owner, adopt: Option<&str>) -> Claim {
    match found {
        None => Claim::Write,
        Some(found) if found == ours => Claim::Held,
        Some(found) if adopt == Some(found.database.as_str()) => Claim::Write,
        Some(_) => Claim::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_new_one(None, None, Claim::Write)]
    #[case::ours(Some("1/a"), None, Claim::Held)]
    #[case::ours_and_an_old_wish(Some("1/a"), Some("2/a"), Claim::Held)]
    #[case::of_another_server(Some("2/a"), None, Claim::Refused)]
    #[case::of_another_name(Some("1/b"), None, Claim::Refused)]
    #[case::taken_over(Some("2/a"), Some("2/a"), Claim::Write)]
    #[case::another_one_taken_over(Some("2/a"), Some("3/a"), Claim::Refused)]
    fn whose_it_is(#[case] found: Option<&str>, #[case] adopt: Option<&str>, #[case] claims: Claim) {
        let owner = |text: &str| Owner { database: text.to_owned() };
        assert_eq!(claim(found.map(owner).as_ref(), &owner("1/a"), adopt), claims);
    }
}
