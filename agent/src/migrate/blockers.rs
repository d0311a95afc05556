//! Who keeps a migration or a backup waiting for a lock.

use std::fmt;
use std::time::Duration;

use crate::migrate::error::{MigrateError, Step};
use crate::migrate::lock::Lock;
use crate::postgres::{Session, bounded};

const LIMIT: Duration = Duration::from_secs(5);

/// Shorter than the lock time-out: afterwards nobody waits, so nobody can be asked about.
const INTERVAL: Duration = Duration::from_secs(1);

/// Characters of a query that are shown.
const QUERY: usize = 80;

/// A session that holds what we wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocker {
    pid: i32,
    application: String,
    state: String,
    since: String,
    query: String,
    /// What it holds, where that is a table: its OID, and its name once somebody in that database was asked.
    relation: Option<u32>,
    table: Option<String>,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, application, state, since, query, table, .. } = self;
        if let Some(table) = table {
            write!(f, "table {table}, held by ")?;
        }
        write!(f, "pid {pid} ({application:?}, {state} since {since}): {query}")
    }
}

/// Runs the work, and sees who kept it from a lock last. The lock's session is free to look
/// meanwhile, and on a Managed server it may see everybody's queries. `waiting`: the application name of the
/// sessions that may wait.
pub(crate) async fn watched<T>(
    lock: &Lock,
    database: &str,
    waiting: &str,
    work: impl Future<Output = T>,
) -> (T, Vec<Blocker>) {
    let mut seen = Vec::new();
    let watch = async {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match look(lock.session(), database, waiting).await {
                Ok(now) if !now.is_empty() => seen = now,
                Ok(_) => {}
                // The lock's loss is told by those who need it.
                Err(error) => tracing::debug!(%error, "blockers unknown"),
            }
        }
    };
    let done = tokio::select! {
        biased;
        done = work => done,
        () = watch => unreachable!("it watches for ever"),
    };
    (done, seen)
}

/// Names the tables, by a session in the database itself: the lock's may be in another. What can't be named isn't.
pub(crate) async fn name_tables(session: &Session, blockers: &mut [Blocker]) {
    // A statement that failed may have left a transaction.
    let _none = bounded(LIMIT, session.batch_execute("ROLLBACK")).await;
    for blocker in blockers {
        let Some(relation) = blocker.relation else { continue };
        let row = bounded(LIMIT, session.query_one("SELECT $1::oid::regclass::text", &[&relation])).await;
        blocker.table = row.ok().map(|row| row.get(0));
    }
}

/// All of them, for people; `a session that is gone` where nobody was seen.
pub(crate) fn named(blockers: &[Blocker]) -> String {
    match blockers {
        [] => "a session that is gone".to_owned(),
        _ => blockers.iter().map(Blocker::to_string).collect::<Vec<_>>().join("; "),
    }
}

async fn look(session: &Session, database: &str, waiting: &str) -> Result<Vec<Blocker>, MigrateError> {
    const WHO: &str = "
        SELECT DISTINCT b.pid, coalesce(nullif(b.application_name, ''), b.backend_type, ''), coalesce(b.state, 'active'),
               to_char(coalesce(b.xact_start, b.state_change, b.backend_start) AT TIME ZONE 'UTC',
                       'YYYY-MM-DD HH24:MI:SS') || ' UTC',
               left(b.query, 1000),
               (SELECT l.relation FROM pg_locks l
                WHERE l.pid = w.pid AND NOT l.granted AND l.relation IS NOT NULL LIMIT 1)
        FROM pg_stat_activity w
        CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS p (pid)
        JOIN pg_stat_activity b ON b.pid = p.pid
        WHERE w.wait_event_type = 'Lock' AND w.datname = $1 AND w.application_name = $2";
    let rows = bounded(LIMIT, session.query(WHO, &[&database, &waiting])).await.step("look who blocks")?;
    Ok(rows
        .iter()
        .map(|row| Blocker {
            pid: row.get(0),
            application: row.get(1),
            state: row.get(2),
            since: row.get::<_, Option<String>>(3).unwrap_or_else(|| "an unknown time".to_owned()),
            query: without_literals(&row.get::<_, Option<String>>(4).unwrap_or_default()),
            relation: row.get(5),
            table: None,
        })
        .collect())
}

/// The beginning of a statement without what people wrote into it.
fn without_literals(query: &str) -> String {
    let mut out = String::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let in_word = out.chars().next_back().is_some_and(|last| last.is_alphanumeric() || matches!(last, '_' | '$'));
        // A query may be cut anywhere, so each of these may have no end.
        let to_end = |begin: usize, end: &str| rest[begin..].find(end).map_or(rest.len(), |at| begin + at + end.len());
        let (shown, length) = if rest.starts_with("--") {
            (" ", to_end(2, "\n"))
        } else if rest.starts_with("/*") {
            (" ", to_end(2, "*/"))
        } else if first == '"' {
            let length = to_end(1, "\"");
            (&rest[..length], length)
        } else if first == '\'' {
            let length = to_end(1, "'");
            // Where such a text ends depends on a setting, so no more is shown.
            ("?", if rest[..length].contains('\\') { rest.len() } else { length })
        } else if let Some(tag) = dollar_tag(rest).filter(|_| !in_word) {
            ("?", to_end(tag.len(), tag))
        } else if first.is_ascii_digit() && !in_word {
            ("?", rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len()))
        } else if first.is_whitespace() {
            (" ", rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()))
        } else {
            (&rest[..first.len_utf8()], first.len_utf8())
        };
        if shown != " " || !out.is_empty() && !out.ends_with(' ') {
            out.push_str(shown);
        }
        rest = &rest[length..];
    }
    match out.char_indices().nth(QUERY) {
        Some((cut, _)) => format!("{}…", &out[..cut]),
        None => out,
    }
}

/// `$$` or `$tag$` at the beginning.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text.strip_prefix('$')?.find('$')? + 1;
    let tag = &text[1..end];
    let is_name =
        !tag.starts_with(|c: char| c.is_ascii_digit()) && tag.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("UPDATE t1 SET a = 'it''s', b = 12.5", "UPDATE t1 SET a = ??, b = ?")]
    #[case("  SELECT\n  $1, $$a 'b'$$, $x$ $$ $x$", "SELECT $1, ?, ?")]
    #[case("SELECT a, 'cut in the mid", "SELECT a, ?")]
    #[case("SELECT E'a\\'b', 'Bob'", "SELECT E?")]
    #[case("SELECT 'C:\\' , 'Bob'", "SELECT ?")]
    #[case("/* it's */ SELECT -- isn't\n 'Bob' , 1", "SELECT ? , ?")]
    #[case("SELECT \"it's 7\" FROM t_2, 'Bob'", "SELECT \"it's 7\" FROM t_2, ?")]
    fn literals_are_hidden(#[case] query: &str, #[case] shown: &str) {
        assert_eq!(without_literals(query), shown);
    }

    #[test]
    fn eighty_characters_are_shown() {
        let shown = without_literals(&format!("SELECT {}", "ü, ".repeat(100)));
        assert_eq!(shown.chars().count(), QUERY + 1);
    }
}
