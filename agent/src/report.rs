//! What a Job hands to the operator: one JSON object as termination message.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::catalogue::entry::Verified;
use crate::catalogue::id::Id;
use crate::catalogue::manifest::Manifest;
use crate::catalogue::summary::Summary;
use crate::config::Env;
use crate::plan::report::PlanReport;
use crate::redact::Redactor;
use crate::telemetry;

/// The kubelet cuts a longer termination message, which leaves no JSON.
pub(crate) const LARGEST: usize = 4096;

/// A message cut to fewer characters says too little; lists go instead.
const READABLE: usize = 300;

/// Where the kubelet reads it; tests write elsewhere.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Outcome {
    /// Done, or nothing to do.
    Succeeded,
    /// A decision: trying again changes nothing.
    Refused,
    /// Infrastructure: trying again may help.
    Failed,
}

impl Outcome {
    /// The exit code that the Job's `podFailurePolicy` knows.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Refused => 10,
            Self::Failed => 1,
        }
    }
}

/// Revisions of image and database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct SchemaReport {
    /// Heads of the image.
    pub(crate) heads: Vec<String>,
    /// All revisions of the image, oldest first. Empty together with
    /// [`Report::truncated`] when they don't fit.
    pub(crate) known: Vec<String>,
    /// What the database is at when the command ends.
    pub(crate) current: Vec<String>,
}

/// What a command learned. What it could not learn is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Facts {
    /// Revisions, once the image could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<SchemaReport>,
    /// `<system identifier>/<database oid>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) incarnation: Option<String>,
    /// Size of the database in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database_bytes: Option<i64>,
    /// Whether no person can have made a rule: table absent or empty when the agent came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rules_empty: Option<bool>,
    /// Labels that rows can hold now and couldn't before, by enum type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) repaired_labels: BTreeMap<String, Vec<String>>,
    /// Where models and schema differ, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drift: Option<Vec<String>>,
    /// What `migrate` would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<PlanReport>,
    /// The backup that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backup: Option<BackupReport>,
    /// What is in the catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) catalogue: Option<Summary>,
    /// The verification that restored a backup completely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verified: Option<VerifiedReport>,
    /// The databases that changed places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) swap: Option<SwapReport>,
    /// The backup that was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restore: Option<RestoreReport>,
    /// The tables that were brought back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tables: Option<TablesReport>,
    /// Every label that the code needs, by enum type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enum_labels: Option<BTreeMap<String, Vec<String>>>,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupReport {
    /// Its name.
    pub(crate) id: String,
    /// Size of its dump.
    pub(crate) bytes: u64,
    /// When it was completed.
    pub(crate) completed_at: String,
    /// Alembic's revisions.
    pub(crate) alembic: Vec<String>,
    /// Backups that were removed because they were too many.
    pub(crate) removed: usize,
    /// The bucket has all that the volume has; absent where there is only one of the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offsite: Option<bool>,
}

impl BackupReport {
    /// What a manifest says of it.
    pub(crate) fn of(manifest: &Manifest, removed: usize, offsite: Option<bool>) -> Self {
        Self {
            id: manifest.id.to_string(),
            bytes: manifest.bytes,
            completed_at: manifest.completed_at.to_string(),
            alembic: manifest.alembic.clone(),
            removed,
            offsite,
        }
    }
}

/// A verification that restored a backup completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VerifiedReport {
    /// Name of the backup.
    pub(crate) id: String,
    /// When.
    pub(crate) completed_at: String,
    /// Seconds that the restore took.
    pub(crate) restore_seconds: u64,
}

impl VerifiedReport {
    /// What was noted beside it.
    pub(crate) fn of(id: &Id, verified: &Verified) -> Self {
        let (completed_at, restore_seconds) = (verified.completed_at.to_string(), verified.restore_seconds);
        Self { id: id.to_string(), completed_at, restore_seconds }
    }
}

/// A backup that is a database again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RestoreReport {
    /// Name of the backup.
    pub(crate) id: String,
    /// The database that it is in.
    pub(crate) database: String,
    /// Its tables; absent where the backup is gone meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tables: Option<usize>,
    /// Their rows; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<i64>,
    /// Alembic's revisions in the backup; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alembic: Option<Vec<String>>,
    /// Size of the database; absent where it couldn't be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<i64>,
    /// How long it took; absent where it was there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<u64>,
}

impl RestoreReport {
    /// What a manifest says of it, as long as there is one.
    pub(crate) fn of(manifest: Option<&Manifest>) -> Self {
        Self {
            id: manifest.map(|it| it.id.to_string()).unwrap_or_default(),
            tables: manifest.map(|it| it.tables.len()),
            rows: manifest.map(|it| it.tables.values().sum()),
            alembic: manifest.map(|it| it.alembic.clone()),
            ..Self::default()
        }
    }
}

/// Two databases that changed places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SwapReport {
    /// The name under which the one that was live is kept.
    pub(crate) replaced: String,
    /// How long nobody could log in; absent where it was done already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) millis: Option<u64>,
    /// Bytes of that database, where they could be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<i64>,
}

/// Tables of the live database that are as in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TablesReport {
    /// Each; empty together with [`Report::truncated`] when they don't fit.
    pub(crate) copied: Vec<CopiedTable>,
    /// How long nobody could use them; absent where it was done already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) millis: Option<u64>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CopiedTable {
    /// With its schema, unless that is `public`.
    pub(crate) name: String,
    /// Its rows in the backup.
    pub(crate) rows: i64,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Of this format.
    pub(crate) version: u32,
    /// Name of the command.
    pub(crate) command: &'static str,
    /// How it ended.
    pub(crate) result: Outcome,
    /// One word for programs.
    pub(crate) reason: &'static str,
    /// One sentence for people.
    pub(crate) message: String,
    /// What was learned on the way, also of a command that failed.
    #[serde(flatten)]
    pub(crate) facts: Facts,
    /// Set when lists were left out to fit; the Job's log has them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) truncated: bool,
}

impl Report {
    /// A report without facts about the database.
    pub(crate) fn new(
        command: &'static str,
        result: Outcome,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { version: 1, command, result, reason, message: message.into(), facts: Facts::default(), truncated: false }
    }

    /// JSON of at most [`LARGEST`] bytes: first the message is cut, then lists go, the
    /// least needed first and each as a whole: half a list would be a wrong one.
    pub(crate) fn fitted(mut self) -> String {
        let json = self.json();
        if json.len() <= LARGEST {
            return json;
        }
        self.truncated = true;
        let lists: [fn(&mut Self); 8] = [
            |report| report.facts.drift = None,
            |report| report.facts.repaired_labels.clear(),
            |report| report.facts.tables.iter_mut().for_each(|tables| tables.copied.clear()),
            |report| report.facts.plan.iter_mut().for_each(PlanReport::shorten),
            |report| report.facts.plan.iter_mut().for_each(PlanReport::leave_reasons_out),
            |report| report.facts.schema.iter_mut().for_each(|schema| schema.known.clear()),
            |report| report.facts.enum_labels = None,
            |report| report.facts.plan.iter_mut().for_each(|plan| plan.missing_labels.clear()),
        ];
        for leave_out in lists {
            if self.with_message(READABLE).len() > LARGEST {
                leave_out(&mut self);
            }
        }
        while self.with_message(READABLE).len() > LARGEST && self.facts.catalogue.as_mut().is_some_and(Summary::shorten)
        {
        }
        let length = self.message.chars().count();
        // How much JSON a character takes differs, so the longest cut that fits is searched for.
        let (mut fits, mut too_long) = (0, length + 1);
        while too_long - fits > 1 {
            let middle = usize::midpoint(fits, too_long);
            if self.with_message(middle).len() <= LARGEST {
                fits = middle;
            } else {
                too_long = middle;
            }
        }
        if fits == 0 {
            // Nothing that people name is this long, but the promise is a size.
            self.facts.schema = None;
            if self.with_message(0).len() > LARGEST {
                self.facts.plan.iter_mut().for_each(PlanReport::leave_lists_out);
            }
            fits = if self.with_message(READABLE).len() <= LARGEST { READABLE } else { 0 };
        }
        self.with_message(fits)
    }

    /// JSON with the message cut to so many characters.
    fn with_message(&self, characters: usize) -> String {
        if self.message.chars().count() <= characters {
            return self.json();
        }
        let mut message: String = self.message.chars().take(characters).collect();
        message.push('…');
        Self { message, ..self.clone() }.json()
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialize")
    }

    /// Writes the whole report to the log (stdout) and what fits of it to the
    /// termination log. A failure to write is logged, since the exit code counts too.
    pub(crate) fn publish(mut self, env: &Env, redactor: &Redactor) {
        self.message = redactor.redact(&self.message);
        for line in self.facts.drift.iter_mut().flatten() {
            *line = redactor.redact(line);
        }
        self.facts.plan.iter_mut().for_each(|plan| plan.redact(redactor));
        telemetry::print_line(&self.json());
        let path = PathBuf::from(env.get("ODOOAI_TERMINATION_LOG").unwrap_or(TERMINATION_LOG));
        let text = self.fitted();
        // It is a mount, so no rename: one write of the whole is the nearest to atomic.
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            tracing::error!(path = %path.display(), %error, "termination message not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::report::{PendingRevision, Unreadable};

    fn report(message: &str, revisions: usize) -> Report {
        let mut report = Report::new("migrate", Outcome::Refused, "SchemaBehind", message);
        report.facts.schema = Some(SchemaReport {
            heads: vec!["head".to_owned()],
            known: (0..revisions).map(|n| format!("{n:03}_revision")).collect(),
            current: vec![],
        });
        report
    }

    fn parse(json: &str) -> serde_json::Value {
        serde_json::from_str(json).expect("JSON")
    }

    #[test]
    fn a_short_report_is_whole_and_has_the_contracts_names() {
        let mut report = report("m", 2);
        report.facts.rules_empty = Some(true);
        report.facts.database_bytes = Some(5);
        let value = parse(&report.fitted());
        assert_eq!(value["version"], 1);
        assert_eq!(value["result"], "Refused");
        assert_eq!(value["rulesEmpty"], true);
        assert_eq!(value["databaseBytes"], 5);
        assert!(value.get("truncated").is_none() && value.get("incarnation").is_none());
    }

    #[test]
    fn a_long_message_is_cut_and_the_lists_stay() {
        for message in ["x".repeat(20_000), "ü\"\n".repeat(5_000), "\u{1}".repeat(9_000)] {
            let text = report(&message, 20).fitted();
            assert!(text.len() <= LARGEST, "{}", text.len());
            let value = parse(&text);
            assert_eq!(value["truncated"], true);
            assert_eq!(value["schema"]["known"].as_array().map(Vec::len), Some(20));
            assert!(value["message"].as_str().is_some_and(|m| m.len() > 100));
        }
    }

    #[test]
    fn drift_is_left_out_before_revisions() {
        let mut report = report(&"x".repeat(4000), 180);
        report.facts.drift = Some(vec!["d".repeat(120); 10]);
        report.facts.repaired_labels = [("t".to_owned(), vec!["L".to_owned()])].into();
        let value = parse(&report.fitted());
        assert!(value.get("drift").is_none());
        assert_eq!(value["repairedLabels"], serde_json::json!({"t": ["L"]}));
        assert_eq!(value["schema"]["known"].as_array().map(Vec::len), Some(180));
        assert_eq!(value["truncated"], true);
    }

    #[test]
    fn too_many_revisions_are_left_out_as_a_whole() {
        let text = report("short", 1000).fitted();
        assert!(text.len() <= LARGEST);
        let value = parse(&text);
        assert_eq!(value["schema"]["known"], serde_json::json!([]));
        assert_eq!(value["schema"]["heads"], serde_json::json!(["head"]));
        assert_eq!(value["message"], "short");
        assert_eq!(value["truncated"], true);
    }

    #[test]
    fn as_many_tables_as_there_may_be_fit_or_go() {
        let tables = |length: usize| {
            let mut report = Report::new("restore tables", Outcome::Succeeded, "TablesRestored", "m");
            let copied = (0..64).map(|n| CopiedTable { name: format!("{n:0length$}"), rows: i64::MAX });
            report.facts.tables = Some(TablesReport { copied: copied.collect(), millis: Some(5) });
            let text = report.fitted();
            assert!(text.len() <= LARGEST, "{}", text.len());
            parse(&text)
        };
        assert_eq!(tables(12)["tables"]["copied"].as_array().map(Vec::len), Some(64));
        let long = tables(63);
        assert_eq!(
            (&long["tables"], &long["truncated"]),
            (&serde_json::json!({"copied": [], "millis": 5}), &true.into())
        );
    }

    /// A plan with so many revisions, each of which has a long reason.
    fn planned(message: &str, pending: usize, labels: usize) -> Report {
        let mut report = report(message, 40);
        let revision = |n: usize| PendingRevision {
            revision: format!("{n:03}_revision_of_the_application"),
            additive: n.is_multiple_of(2),
            why: (n % 2 == 1).then(|| "ü".repeat(150)),
        };
        report.facts.plan = Some(PlanReport {
            needed: true,
            stamp: Some("000_first".to_owned()),
            pending: (0..pending).map(revision).collect(),
            missing_labels: [("kind".to_owned(), vec!["A".to_owned()])].into(),
            ..PlanReport::default()
        });
        report.facts.enum_labels =
            Some([("kind".to_owned(), (0..labels).map(|n| format!("LABEL_{n}")).collect())].into());
        report
    }

    #[test]
    fn a_plan_has_the_contracts_names() {
        let value = parse(&planned("m", 2, 1).fitted());
        assert_eq!(
            value["plan"],
            serde_json::json!({
                "needed": true,
                "stamp": "000_first",
                "pending": [
                    {"revision": "000_revision_of_the_application", "additive": true},
                    {"revision": "001_revision_of_the_application", "additive": false, "why": "ü".repeat(150)},
                ],
                "missingLabels": {"kind": ["A"]},
            })
        );
        assert_eq!(value["enumLabels"], serde_json::json!({"kind": ["LABEL_0"]}));
        assert!(value.get("truncated").is_none());
    }

    #[rstest::rstest]
    #[case::names_as_people_give_them("x", 8)]
    #[case::names_that_json_makes_long("\u{1}", 1)]
    fn unreadable_rows_stay(#[case] character: &str, #[case] left: usize) {
        let mut report = planned(&"x".repeat(6000), 0, 200);
        let name = || character.repeat(63);
        let entry = |rows| Unreadable { table: name(), column: name(), label: name(), rows };
        report.facts.plan =
            Some(PlanReport { unreadable: (1..=8).rev().map(entry).collect(), ..PlanReport::default() });
        let text = report.fitted();
        assert!(text.len() <= LARGEST, "{}", text.len());
        let value = parse(&text);
        let first = serde_json::json!({"table": name(), "column": name(), "label": name(), "rows": 8});
        assert_eq!(value["plan"]["unreadable"][0], first);
        assert_eq!(value["plan"]["unreadable"].as_array().map(Vec::len), Some(left));
    }

    /// What is left of a plan, in the order in which it goes.
    #[rstest::rstest]
    #[case::message(&"x".repeat(6000), 2, 10, [150, 40, 10, 1, 2])]
    #[case::cut_reasons(&"x".repeat(6000), 14, 10, [60, 40, 10, 1, 14])]
    #[case::no_reasons("m", 34, 10, [0, 40, 10, 1, 34])]
    #[case::no_known("m", 42, 60, [0, 0, 60, 1, 42])]
    #[case::no_labels("m", 54, 60, [0, 0, 0, 1, 54])]
    #[case::verdicts_alone("m", 61, 60, [0, 0, 0, 0, 61])]
    #[case::not_even_those("m", 90, 60, [0, 0, 0, 0, 0])]
    fn a_plan_loses_what_is_needed_least(
        #[case] message: &str,
        #[case] pending: usize,
        #[case] labels: usize,
        #[case] left: [usize; 5],
    ) {
        let text = planned(message, pending, labels).fitted();
        assert!(text.len() <= LARGEST, "{}", text.len());
        let value = parse(&text);
        assert_eq!(value["truncated"], true);
        assert_eq!(value["plan"]["needed"], true);
        let count = |value: &serde_json::Value| value.as_array().map_or(0, Vec::len);
        let why = value["plan"]["pending"][1]["why"].as_str().map_or(0, |why| why.chars().count());
        let found = [
            why,
            count(&value["schema"]["known"]),
            count(&value["enumLabels"]["kind"]),
            count(&value["plan"]["missingLabels"]["kind"]),
            count(&value["plan"]["pending"]),
        ];
        assert_eq!(found, left, "{}", text.len());
        assert!(value["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
}
