//! What `agent migrate` does, as a table over what image and database say.

use std::collections::BTreeSet;

/// Revisions of the image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Image {
    /// Heads; one in a sane image.
    pub(crate) heads: Vec<String>,
    /// All revisions, oldest first.
    pub(crate) known: Vec<String>,
    /// Whether they stand in one line, without branches.
    pub(crate) linear: bool,
}

/// What the database holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// Tables of the application, without `alembic_version` and those of extensions.
    pub(crate) tables: i64,
    /// Rows of `alembic_version`.
    pub(crate) current: BTreeSet<String>,
    /// Heads of the image whose bootstrap began and did not end.
    pub(crate) unfinished: Option<BTreeSet<String>>,
}

/// The way on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing to do.
    AtHead,
    /// The database is at a revision that the image doesn't know.
    Newer,
    /// Make the schema. `resumed`: an earlier attempt of ours was killed half-way.
    Bootstrap {
        /// Whether tables of that attempt may exist.
        resumed: bool,
    },
    /// Go on from these revisions; none: there are tables whose revision must be found out.
    Upgrade {
        /// What the database says, all known to the image.
        from: BTreeSet<String>,
    },
    /// Stop; trying again changes nothing.
    Refuse {
        /// One word for programs.
        reason: &'static str,
        /// One sentence for people.
        message: String,
    },
}

/// First match wins.
pub(crate) fn decide(image: &Image, found: &Found) -> Decision {
    let heads: BTreeSet<String> = image.heads.iter().cloned().collect();
    let refuse = |reason, message| Decision::Refuse { reason, message };

    if heads.is_empty() {
        refuse("ImageInvalid", "the image has no Alembic revision, so there is nothing to stamp".to_owned())
    } else if found.current == heads {
        Decision::AtHead
    } else if found.current.iter().any(|revision| !image.known.contains(revision)) {
        Decision::Newer
    } else if heads.len() > 1 {
        refuse(
            "MultipleHeads",
            format!(
                "the image has {} heads ({}), so there is no one schema to go to: add a merge revision to the \
                 application (alembic merge heads)",
                heads.len(),
                image.heads.join(", ")
            ),
        )
    } else if !found.current.is_empty() {
        Decision::Upgrade { from: found.current.clone() }
    } else if found.unfinished.as_ref() == Some(&heads) {
        Decision::Bootstrap { resumed: true }
    } else if found.tables == 0 {
        Decision::Bootstrap { resumed: false }
    } else {
        Decision::Upgrade { from: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    #[rstest]
    #[case::empty(&["c"], 0, &[], None, "Bootstrap { resumed: false }")]
    #[case::killed_before_any_table(&["c"], 0, &[], Some("c"), "Bootstrap { resumed: true }")]
    #[case::killed_before_stamp(&["c"], 26, &[], Some("c"), "Bootstrap { resumed: true }")]
    #[case::killed_by_another_image(&["c"], 26, &[], Some("b"), "Upgrade { from: {} }")]
    #[case::another_image_made_nothing(&["c"], 0, &[], Some("b"), "Bootstrap { resumed: false }")]
    #[case::at_head(&["c"], 26, &["c"], None, "AtHead")]
    #[case::killed_after_stamp(&["c"], 26, &["c"], Some("c"), "AtHead")]
    #[case::behind(&["c"], 10, &["a"], None, "Upgrade { from: {\"a\"} }")]
    #[case::behind_with_a_marker(&["c"], 10, &["a"], Some("a"), "Upgrade { from: {\"a\"} }")]
    #[case::newer(&["c"], 30, &["z"], None, "Newer")]
    #[case::partly_newer(&["c"], 30, &["a", "z"], None, "Newer")]
    #[case::several_rows(&["c"], 30, &["a", "b"], None, "Upgrade { from: {\"a\", \"b\"} }")]
    #[case::tables_only(&["c"], 3, &[], None, "Upgrade { from: {} }")]
    #[case::two_heads(&["b", "c"], 0, &[], None, "MultipleHeads")]
    #[case::two_heads_and_behind(&["b", "c"], 5, &["a"], None, "MultipleHeads")]
    #[case::at_both_heads(&["b", "c"], 5, &["c", "b"], None, "AtHead")]
    #[case::newer_than_two_heads(&["b", "c"], 5, &["z"], None, "Newer")]
    #[case::no_migrations(&[], 0, &[], None, "ImageInvalid")]
    fn table(
        #[case] heads: &[&str],
        #[case] tables: i64,
        #[case] current: &[&str],
        #[case] unfinished: Option<&str>,
        #[case] expected: &str,
    ) {
        let image = Image {
            heads: heads.iter().map(|&head| head.to_owned()).collect(),
            known: ["a", "b", "c"].map(str::to_owned).to_vec(),
            linear: true,
        };
        let found = Found { tables, current: set(current), unfinished: unfinished.map(|head| set(&[head])) };
        let decision = format!("{:?}", decide(&image, &found));
        assert!(decision.contains(expected), "{decision}");
    }
}
