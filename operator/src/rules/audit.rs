//! What became of the application's runs: its audit log, newest first, page by page. Its all-time figures are of no use:
//! they count what is pending as failures.

use std::collections::BTreeSet;

use k8s_openapi::jiff::civil::DateTime;
use k8s_openapi::jiff::{Timestamp, tz::TimeZone};
use reqwest::Method;
use serde::Deserialize;

use super::{Error, Rules};

/// Entries of one page.
const PAGE: usize = 100;
/// Pages that are read at most: ten thousand entries say enough.
const PAGES: usize = 100;

/// One run that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its action.
    pub action_name: String,
    /// When it was noted, by the application's clock.
    pub at: Timestamp,
    /// It failed; else it was executed.
    pub failed: bool,
}

#[derive(Debug, Deserialize)]
struct Entry {
    id: i64,
    timestamp: String,
    action_name: String,
    status: Option<String>,
}

impl Rules<'_> {
    /// Runs of a type that were executed or failed since then, the newest first.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn runs(&self, automation_type: &str, since: Timestamp) -> Result<Vec<Run>, Error> {
        let (mut runs, mut known) = (Vec::new(), BTreeSet::new());
        for page in 0..PAGES {
            let path = format!("/api/audit-logs?limit={PAGE}&offset={}&automation_type={automation_type}", page * PAGE);
            let entries: Vec<Entry> = self.ask(Method::GET, &path, None).await?;
            let count = entries.len();
            for entry in entries {
                let Some(at) = time(&entry.timestamp) else {
                    return Err(Error::Unreadable {
                        request: format!("GET {path}"),
                        why: "an entry has no time".to_owned(),
                        body: entry.timestamp.chars().take(100).collect(),
                    });
                };
                if at < since {
                    return Ok(runs);
                }
                // What was noted meanwhile moves the others to the next page.
                if known.insert(entry.id) {
                    runs.extend(run(entry, at));
                }
            }
            if count < PAGE {
                break;
            }
        }
        Ok(runs)
    }
}

fn run(entry: Entry, at: Timestamp) -> Option<Run> {
    let failed = match entry.status.as_deref()? {
        "failed" => true,
        "executed" => false,
        _ => return None,
    };
    Some(Run { action_name: entry.action_name, at, failed })
}

/// UTC, mostly without saying so.
fn time(text: &str) -> Option<Timestamp> {
    let plain = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    text.parse().ok().or_else(|| Some(plain()?.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("2026-01-01T10:00:00.123456", "2026-01-01T10:00:00.123456Z")]
    #[case("2026-01-01T10:00:00", "2026-01-01T10:00:00Z")]
    #[case("2026-01-01T10:00:00+02:00", "2026-01-01T08:00:00Z")]
    fn times_are_utc(#[case] text: &str, #[case] wanted: &str) {
        assert_eq!(time(text).expect("a time").to_string(), wanted);
        assert_eq!(time("yesterday"), None);
    }
}
