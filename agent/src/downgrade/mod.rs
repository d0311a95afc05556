//! `agent downgrade`: lock → look → tell → (refuse) → `alembic downgrade` → prove.
//!
//! Run by hand in a container of the newer image, which has the scripts of the way back. So it
//! writes text for people, and no report.

mod loss;
mod plan;
mod survey;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::config::{Database, Env};
use crate::downgrade::loss::Losses;
use crate::downgrade::plan::Plan;
use crate::job::{self, Success};
use crate::migrate::change::Tools;
use crate::migrate::child::APPLICATION_NAME;
use crate::migrate::child::Python;
use crate::migrate::decide::Image;
use crate::migrate::error::MigrateError;
use crate::migrate::logins::{Logins, login};
use crate::migrate::{backup, image, inspect, leftovers, offline};
use crate::plan::read_only;
use crate::redact::Redactor;
use crate::report::Outcome;
use crate::telemetry;

/// What the person asks for.
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The revision to go down to, by its whole name.
    #[arg(long, value_name = "REVISION")]
    to: String,
    /// Tables, or columns as TABLE.COLUMN, whose rows may go; `all`: also what statements do that nobody can judge.
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    drop_rows: Vec<String>,
    /// Do it; without this only what would happen is told.
    #[arg(long)]
    confirm: bool,
    /// How long to wait for a Job that works on the database, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3600))]
    wait_seconds: u64,
}

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor, request: &Request) -> ExitCode {
    job::run("downgrade", downgrade(env, redactor, request)).print(redactor)
}

async fn downgrade(env: &Env, redactor: &Redactor, request: &Request) -> Result<Success, MigrateError> {
    let database = Database::from_env(env)?;
    // A default would be another lock than that of the Jobs on a Managed server.
    env.required("ODOOAI_LOCK_DATABASE")?;
    let logins = Logins::read(env, &database, redactor)?;
    let lock = logins.lock(Some(Duration::from_secs(request.wait_seconds))).await?;
    let session = login(&logins.application, "log in as the application").await?;
    let server_version = inspect::server_version(&session).await?;
    let python = |env: &Env| Python::new(env, &database.tls, logins.password(), server_version, redactor);

    let reader = python(&read_only(env)).quiet();
    let (image, _) = image::read(&reader).await?;
    let recorded: Vec<_> = inspect::current(&session).await?.into_iter().collect();
    let current = start(&image, &recorded, &request.to)?;
    if current == request.to {
        return Ok(("AtRevision", format!("the database is at {current} already")));
    }
    let undone = offline::downgrade(&reader, current, &request.to).await?;
    let losses = Losses::read(&undone);
    let plan = Plan {
        target: request.to.clone(),
        revisions: undone.into_iter().map(|one| one.revision).collect(),
        lost: survey::count(&session, &losses).await?,
        unjudged: losses.unjudged,
        labels: survey::labels(&session, &reader, current, &request.to).await?,
        clients: survey::clients(&session, &lock).await?,
    };
    for line in plan.lines(&database.name) {
        telemetry::print_line(&redactor.redact(&line));
    }
    if !request.confirm {
        return Ok(("Planned", plan.how(&request.drop_rows)));
    }
    plan.permitted(&request.drop_rows)?;

    leftovers::end(&session, APPLICATION_NAME).await?;
    let tools = Tools { session: &session, lock: &lock, python: &python(env), database: &database.name };
    tools.downgrade(&request.to).await?;
    lock.release().await;
    Ok((
        "Downgraded",
        format!("the schema went from {current} to {}; now run the release of that revision", request.to),
    ))
}

/// The revision to go down from.
fn start<'a>(image: &Image, recorded: &'a [String], target: &str) -> Result<&'a str, MigrateError> {
    let refused = |reason, message| Err(MigrateError::Decided { outcome: Outcome::Refused, reason, message });
    let at = |revision: &str| image.known.iter().position(|known| known == revision);
    let [current] = recorded else {
        let all = backup::revisions(&recorded.iter().cloned().collect());
        return refused("NoOneRevision", format!("the database is at {all}, so there is no one way down"));
    };
    if !image.linear {
        let message =
            "the image's revisions have branches, so which of them would be undone is not sure: use its Alembic";
        return refused("HistoryBranched", message.to_owned());
    }
    let (Some(from), Some(to)) = (at(current), at(target)) else {
        let unknown = if at(target).is_none() { target } else { current.as_str() };
        let known = image.known.join(", ");
        let message =
            format!("this image does not know the revision {unknown}, it knows {known}; the database is at {current}");
        return refused("RevisionUnknown", message);
    };
    if to > from {
        return refused("NotBelow", format!("{target} is above {current}, where the database is"));
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::below(&["c"], "a", true, Ok("c"))]
    #[case::the_same(&["c"], "c", true, Ok("c"))]
    #[case::above(&["b"], "c", true, Err("c is above b"))]
    #[case::unknown(&["c"], "x", true, Err("the revision x, it knows a, b, c"))]
    #[case::base(&["c"], "base", true, Err("the revision base"))]
    #[case::newer(&["z"], "a", true, Err("the revision z"))]
    #[case::no_record(&[], "a", true, Err("no one way down"))]
    #[case::two_records(&["b", "c"], "a", true, Err("the database is at b, c"))]
    #[case::branches(&["c"], "a", false, Err("branches"))]
    fn table(
        #[case] recorded: &[&str],
        #[case] target: &str,
        #[case] linear: bool,
        #[case] expected: Result<&str, &str>,
    ) {
        let own = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
        let image = Image { heads: own(&["c"]), known: own(&["a", "b", "c"]), linear };
        match (start(&image, &own(recorded), target), expected) {
            (Ok(from), Ok(wanted)) => assert_eq!(from, wanted),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (other, _) => panic!("{other:?}"),
        }
    }
}
