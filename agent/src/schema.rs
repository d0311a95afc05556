//! May this image start on the schema that the database has?

use std::collections::BTreeSet;

use crate::config::Schema;

/// What `agent run` does about the revisions that it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The database is at this image's heads.
    AtHeads,
    /// The database is at a revision that this image doesn't know: the operator's
    /// guard let the pod through, as after a rollback.
    Newer,
    /// Nothing there yet, or no revision recorded.
    Absent,
    /// A revision that this image knows and has migrations after.
    Behind,
}

/// Compares the rows of `alembic_version` with what the image has.
pub(crate) fn judge(image: &Schema, rows: &BTreeSet<String>) -> Verdict {
    if rows.is_empty() {
        Verdict::Absent
    } else if *rows == image.heads {
        Verdict::AtHeads
    } else if rows.iter().any(|row| !image.known.contains(row)) {
        Verdict::Newer
    } else {
        Verdict::Behind
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
    #[case::no_schema(&["c"], &[], Verdict::Absent)]
    #[case::at_head(&["c"], &["c"], Verdict::AtHeads)]
    #[case::older(&["c"], &["a"], Verdict::Behind)]
    #[case::newer(&["c"], &["d"], Verdict::Newer)]
    #[case::half_of_two_heads(&["b", "c"], &["c"], Verdict::Behind)]
    #[case::both_heads(&["b", "c"], &["b", "c"], Verdict::AtHeads)]
    #[case::head_and_older(&["c"], &["a", "c"], Verdict::Behind)]
    #[case::older_and_unknown(&["c"], &["a", "x"], Verdict::Newer)]
    fn table(#[case] heads: &[&str], #[case] rows: &[&str], #[case] verdict: Verdict) {
        let image = Schema { heads: set(heads), known: set(&["a", "b", "c"]) };
        assert_eq!(judge(&image, &set(rows)), verdict);
    }
}
