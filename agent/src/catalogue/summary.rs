//! What the operator is told of a catalogue: so much that a status can be made of it alone, in few bytes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::catalogue::entry::{Entry, State, Verified, of_policy};
use crate::catalogue::id::Id;
use crate::catalogue::manifest::Reason;
use crate::catalogue::owner::Owner;
use crate::catalogue::place::Place;
use crate::report::VerifiedReport;

/// Artifacts that are told; the status holds no more.
const TOLD: usize = 50;

/// The backups of one policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// Whose the catalogue is: `<system identifier>/<name of the database>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// Good ones.
    total: usize,
    /// Bytes of the good ones' dumps.
    bytes: u64,
    /// Those that have a manifest, and are no good.
    damaged: usize,
    /// Alembic revisions, joined by commas, that artifacts are at; each names its own by number.
    schemas: Vec<String>,
    /// Databases that artifacts are of; each names its own by number.
    incarnations: Vec<String>,
    /// The newest good ones, the newest first.
    artifacts: Vec<Artifact>,
    /// Requests that artifacts answer, by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    requests: BTreeMap<String, String>,
    /// The newest verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<VerifiedReport>,
}

/// Id, first letter of the reason (`M` and `P` for those before a migration and a restore), seconds since 1970 when it was
/// completed, bytes, 1 if verified, number of its schema and of its incarnation.
type Artifact = (String, char, i64, u64, u8, usize, usize);

impl Summary {
    /// Reads a catalogue.
    ///
    /// # Errors
    /// What the storage said.
    pub(crate) async fn read(place: &Place, policy: &str) -> std::io::Result<Self> {
        Self::of(place, &place.list().await?, policy).await
    }

    /// The same of what was read already.
    ///
    /// # Errors
    /// What the storage said.
    pub(crate) async fn of(place: &Place, entries: &[Entry], policy: &str) -> std::io::Result<Self> {
        let owner = place.owner().await?;
        let mut verifications = Vec::new();
        for (manifest, verified) in of_policy(entries, policy) {
            if verified {
                verifications.extend(place.verification(&manifest.id).await?.map(|it| (&manifest.id, it)));
            }
        }
        Ok(Self::from(entries, policy, owner, verifications))
    }

    fn from(entries: &[Entry], policy: &str, owner: Option<Owner>, verified: Vec<(&Id, Verified)>) -> Self {
        let mut summary = Self {
            owner: owner.map(|it| it.database),
            damaged: entries.iter().filter(|entry| matches!(entry.state, State::Damaged(_))).count(),
            ..Self::default()
        };
        let newest = verified.into_iter().max_by_key(|(_, verified)| verified.completed_at);
        summary.verified = newest.map(|(id, verified)| VerifiedReport::of(id, &verified));
        let good = of_policy(entries, policy);
        summary.total = good.len();
        summary.bytes = good.iter().map(|(manifest, _)| manifest.bytes).sum();
        for (manifest, verified) in good.into_iter().take(TOLD) {
            let id = manifest.id.to_string();
            summary.requests.extend(manifest.request.clone().map(|request| (id.clone(), request)));
            let letter = match manifest.reason {
                Reason::Scheduled => 'S',
                Reason::Requested => 'R',
                Reason::PreMigration => 'M',
                Reason::PreRestore => 'P',
            };
            let schema = number(&mut summary.schemas, manifest.alembic.join(","));
            let incarnation = number(&mut summary.incarnations, manifest.incarnation.clone());
            let completed = manifest.completed_at.as_second();
            let artifact = (id, letter, completed, manifest.bytes, u8::from(verified), schema, incarnation);
            summary.artifacts.push(artifact);
        }
        summary
    }

    /// Tells less: of requests first, then of the oldest. False: there is nothing that could be left out.
    pub(crate) fn shorten(&mut self) -> bool {
        if self.requests.pop_first().is_some() {
            return true;
        }
        self.artifacts.pop().is_some()
    }
}

/// Where `text` stands in the list, at its end if it wasn't there.
fn number(list: &mut Vec<String>, text: String) -> usize {
    list.iter().position(|it| *it == text).unwrap_or_else(|| {
        list.push(text);
        list.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::manifest::Manifest;
    use crate::catalogue::manifest::tests::manifest;
    use crate::report::{Facts, LARGEST, Outcome, Report};
    use serde_json::{Value, json};

    fn entry(day: usize, edit: impl Fn(&mut Manifest)) -> Entry {
        let mut manifest = manifest(day);
        edit(&mut manifest);
        Entry { id: manifest.id.clone(), state: State::Good { manifest: Box::new(manifest), verified: day == 1 } }
    }

    #[test]
    fn the_policys_own_the_newest_first() {
        let mut entries = vec![
            entry(1, |_| ()),
            entry(3, |it| (it.reason, it.request) = (Reason::PreMigration, Some("r".to_owned()))),
            entry(2, |it| it.alembic = vec!["004".to_owned(), "b".to_owned()]),
            entry(4, |it| it.policy = "other".to_owned()),
        ];
        let id = |at: usize| entries[at].id.to_string();
        let (first, second, third) = (id(0), id(2), id(1));
        entries.push(Entry { id: manifest(5).id, state: State::Damaged("cut".to_owned()) });
        let verified = Verified {
            completed_at: "2026-01-09T00:00:00Z".parse().expect("a time"),
            restore_seconds: 7,
            sha256: String::new(),
        };
        let owner = Owner { database: "7/odooai".to_owned() };
        let summary = Summary::from(&entries, "nightly", Some(owner), vec![(&entries[0].id, verified)]);
        let wanted = json!({
            "owner": "7/odooai", "total": 3, "bytes": 12, "damaged": 1, "schemas": ["003", "004,b"], "incarnations": ["7/5"],
            "artifacts": [
                [third, "M", 1_767_409_200, 4, 0, 0, 0], [second, "S", 1_767_322_800, 4, 0, 1, 0], [first, "S", 1_767_236_400, 4, 1, 0, 0],
            ],
            "requests": {third: "r"},
            "verified": {"id": first, "completedAt": "2026-01-09T00:00:00Z", "restoreSeconds": 7},
        });
        assert_eq!(serde_json::to_value(&summary).expect("JSON"), wanted);
    }

    /// Of a termination message no more than 4 KiB come through.
    #[test]
    fn as_many_as_a_status_holds_fit_and_of_more_is_told_how_many() {
        let long = |it: &mut Manifest| {
            it.bytes = 99_999_999_999;
            it.request = Some("r".repeat(100));
        };
        let entries: Vec<_> = (0..70).map(|day| entry(day % 31 + 1, long)).collect();
        let mut report = Report::new("backup", Outcome::Succeeded, "BackupSucceeded", "m".repeat(250));
        report.facts = Facts { catalogue: Some(Summary::from(&entries, "nightly", None, vec![])), ..Facts::default() };
        let text = report.fitted();
        let told: Value = serde_json::from_str(&text).expect("whole");
        assert!(text.len() <= LARGEST);
        assert_eq!(told["catalogue"]["artifacts"].as_array().map(Vec::len), Some(TOLD));
        assert_eq!(told["catalogue"]["total"], 70);
    }
}
