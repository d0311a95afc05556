//! Which backups go. Plain: what is in the catalogue goes in.

use std::collections::BTreeSet;

use crate::catalogue::entry::{Entry, of_policy};
use crate::catalogue::id::Id;
use crate::catalogue::manifest::Reason;

/// How many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Of those that were scheduled or requested.
    pub(crate) keep_last: usize,
    /// Of those before a migration or a restore.
    pub(crate) keep_pre_migration: usize,
}

/// Artifacts that are too many, the oldest first. Only good ones of this policy count, and only they go; the newest of
/// all and the newest verified one stay, whatever the numbers say.
pub(crate) fn surplus(entries: &[Entry], policy: &str, retention: Retention) -> Vec<Id> {
    let good = of_policy(entries, policy);
    let newest = good.first().map(|(manifest, _)| &manifest.id);
    let proven = good.iter().find(|(_, verified)| *verified).map(|(manifest, _)| &manifest.id);
    let of = |before: bool, keep: usize| {
        let counted = good.iter().filter(move |(manifest, _)| is_before_a_change(manifest.reason) == before);
        counted.skip(keep).map(|(manifest, _)| &manifest.id).collect::<Vec<_>>()
    };
    let mut surplus = of(false, retention.keep_last);
    surplus.extend(of(true, retention.keep_pre_migration));
    let kept: BTreeSet<_> = newest.into_iter().chain(proven).collect();
    let mut surplus: Vec<_> = surplus.into_iter().filter(|id| !kept.contains(id)).cloned().collect();
    surplus.sort();
    surplus
}

fn is_before_a_change(reason: Reason) -> bool {
    match reason {
        Reason::PreMigration | Reason::PreRestore => true,
        Reason::Scheduled | Reason::Requested => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::entry::State;
    use crate::catalogue::manifest::tests::manifest;
    use rstest::rstest;

    /// One letter each, the oldest first: `s`cheduled, `r`equested, `m`igration, re`p`lacing, `o`ther policy, `d`amaged,
    /// `u`nfinished; upper case is verified.
    fn entries(letters: &str) -> Vec<Entry> {
        let entry = |(day, letter): (usize, char)| {
            let mut manifest = manifest(day + 1);
            manifest.reason = match letter.to_ascii_lowercase() {
                'r' => Reason::Requested,
                'm' => Reason::PreMigration,
                'p' => Reason::PreRestore,
                _ => Reason::Scheduled,
            };
            if letter.eq_ignore_ascii_case(&'o') {
                manifest.policy = "other".to_owned();
            }
            let id = manifest.id.clone();
            let state = match letter {
                'd' => State::Damaged(String::new()),
                'u' => State::Unfinished,
                _ => State::Good { manifest: Box::new(manifest), verified: letter.is_ascii_uppercase() },
            };
            Entry { id, state }
        };
        letters.chars().enumerate().map(entry).collect()
    }

    #[rstest]
    #[case::none("", &[])]
    #[case::few("sss", &[])]
    #[case::one_too_many("ssss", &[0])]
    #[case::requested_count_too("srsr", &[0])]
    #[case::migrations_are_counted_apart("mmsss", &[])]
    #[case::migrations_and_restores_are_one("mpmsss", &[0])]
    #[case::the_newest_verified_stays("Sssss", &[1])]
    #[case::an_older_verified_goes("SsSsss", &[0, 1])]
    #[case::what_is_damaged_neither_counts_nor_goes("dsdss", &[])]
    #[case::what_is_unfinished_neither("uuusss", &[])]
    #[case::others_neither("oooosss", &[])]
    #[case::others_verified_ones_protect_nothing_of_ours("Ossss", &[1])]
    #[case::the_newest_stays_though_it_is_one_too_many("mmm", &[0])]
    fn what_goes(#[case] letters: &str, #[case] gone: &[usize]) {
        let entries = entries(letters);
        let retention = Retention { keep_last: 3, keep_pre_migration: 2 };
        let wanted: Vec<_> = gone.iter().map(|at| entries[*at].id.clone()).collect();
        assert_eq!(surplus(&entries, "nightly", retention), wanted);
    }

    #[test]
    fn the_newest_of_all_stays_whatever_is_asked_for() {
        let none = Retention { keep_last: 0, keep_pre_migration: 0 };
        let entries = entries("Ssm");
        assert_eq!(surplus(&entries, "nightly", none), [entries[1].id.clone()]);
    }
}
