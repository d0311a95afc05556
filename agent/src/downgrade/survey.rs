//! What the database says of a way down: rows that would go, labels that stay, who is connected.

use std::collections::BTreeMap;
use std::time::Duration;

use postgres_protocol::escape::escape_identifier;

use crate::downgrade::loss::Losses;
use crate::migrate::child::Python;
use crate::migrate::error::{MigrateError, Step as _};
use crate::migrate::history::Object;
use crate::migrate::labels::{Labels, Models};
use crate::migrate::lock::Lock;
use crate::migrate::{inspect, offline};
use crate::plan::report::Unreadable;
use crate::plan::unreadable;
use crate::postgres::{Session, bounded};
use crate::sql::{self, Effect};

const LIMIT: Duration = Duration::from_secs(30);

/// Reading one whole table.
const COUNT: Duration = Duration::from_mins(5);

/// A table or column that would be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// Which.
    pub(super) object: Object,
    /// Rows of the table, or those with something in the column.
    pub(super) rows: i64,
}

/// Labels that stay, and the rows that hold one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct StayingLabels {
    /// By type.
    pub(super) types: Labels,
    /// Who uses them.
    pub(super) rows: Vec<Unreadable>,
}

/// Counts the rows of what is there of the losses.
///
/// # Errors
/// What the server said.
pub(super) async fn count(session: &Session, losses: &Losses) -> Result<Vec<Lost>, MigrateError> {
    let there = inspect::objects(session).await?;
    let mut lost = Vec::new();
    for object in losses.objects.intersection(&there) {
        let (table, counted) = match object {
            Object::Table(table) => (table, "*".to_owned()),
            Object::Column(table, column) => (table, escape_identifier(column)),
            Object::Type(_) | Object::Index(_) => continue,
        };
        let table = table.split('.').map(escape_identifier).collect::<Vec<_>>().join(".");
        let count = format!("SELECT count({counted}) FROM {table}");
        let row = bounded(COUNT, session.query_one(&count, &[])).await.step("count the rows that would be gone")?;
        lost.push(Lost { object: object.clone(), rows: row.get(0) });
    }
    Ok(lost)
}

/// Labels that the revisions between `target` and `current` added, in whatever spelling they are
/// there now: after an upgrade they are renamed to what the code writes.
///
/// # Errors
/// What the server or Python said.
pub(super) async fn labels(
    session: &Session,
    python: &Python<'_>,
    current: &str,
    target: &str,
) -> Result<StayingLabels, MigrateError> {
    const TYPES: &str = "
        SELECT t.typname::text, array_agg(l.enumlabel::text ORDER BY l.enumsortorder)
        FROM pg_type t JOIN pg_enum l ON l.enumtypid = t.oid WHERE pg_type_is_visible(t.oid) GROUP BY t.oid";
    let above = offline::upgrade(python, &[target.to_owned()].into()).await?;
    let last = above.iter().position(|one| one.revision == current).map_or(0, |at| at + 1);
    let mut added: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for statement in above[..last].iter().flat_map(|one| one.sql.as_deref().map(sql::read).unwrap_or_default()) {
        if let Effect::AddLabel { type_name, label } = statement.effect {
            added.entry(type_name).or_default().push(label);
        }
    }
    let (mut types, mut others) = (Labels::new(), Labels::new());
    for row in bounded(LIMIT, session.query(TYPES, &[])).await.step("read the enum labels")? {
        let (name, labels): (String, Vec<String>) = (row.get(0), row.get(1));
        let Some(added) = added.get(&name) else { continue };
        let stays = |label: &String| added.iter().any(|added| added.eq_ignore_ascii_case(label));
        let (staying, other): (Vec<_>, Vec<_>) = labels.into_iter().partition(stays);
        types.insert(name.clone(), staying);
        others.insert(name, other);
    }
    let rows = unreadable::find(session, &Models { labels: others, columns: Vec::new() }).await?;
    Ok(StayingLabels { types, rows })
}

/// Other sessions in the database: the name that they go by, and how many have it.
///
/// # Errors
/// What the server said.
pub(super) async fn clients(session: &Session, lock: &Lock) -> Result<Vec<(String, i64)>, MigrateError> {
    const CLIENTS: &str = "
        SELECT coalesce(application_name, ''), count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND usesysid IS NOT NULL AND pid NOT IN (pg_backend_pid(), $1)
        GROUP BY 1 ORDER BY 2 DESC, 1";
    const STEP: &str = "look who is connected";
    let locker = bounded(LIMIT, lock.session().query_one("SELECT pg_backend_pid()", &[])).await.step(STEP)?;
    let rows = bounded(LIMIT, session.query(CLIENTS, &[&locker.get::<_, i32>(0)])).await.step(STEP)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
