//! What the role of somebody else's server must be allowed: told before anything is made, so that no application is stopped
//! for what can't be done.

use std::time::Duration;

use postgres_protocol::escape::escape_identifier;

use crate::dump::error::{BackupError, Step as _};
use crate::postgres::{Session, bounded};

const LIMIT: Duration = Duration::from_secs(20);

/// Looks whether the role may make databases and, where it `renames`, give the live one another name.
///
/// # Errors
/// `RenameNotPossible`, or `RightsMissing` where nothing is renamed: the message names each right.
pub(crate) async fn look(maker: &Session, live: &str, renames: bool) -> Result<(), BackupError> {
    const ASK: &str = "
        SELECT r.rolname::text, r.rolsuper OR r.rolcreatedb, pg_has_role(d.datdba, 'USAGE'), pg_get_userbyid(d.datdba)::text
        FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = $1";
    let row = bounded(LIMIT, maker.query_opt(ASK, &[&live])).await.step("ask what the role may do")?;
    let Some(row) = row else { return Ok(()) };
    let (role, creates, owns, owner): (String, bool, bool, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let missing = missing(&role, creates, (live, owns || !renames, &owner));
    if missing.is_empty() {
        return Ok(());
    }
    let reason = if renames { "RenameNotPossible" } else { "RightsMissing" };
    Err(BackupError::refused(reason, format!("{}; nothing was changed", missing.join("; "))))
}

/// What the role may not, and how it is granted; of the live database: its name, whether it is as good as the role's own,
/// and whose it is.
fn missing(role: &str, makes: bool, (live, owns, owner): (&str, bool, &str)) -> Vec<String> {
    let (quoted, database) = (escape_identifier(role), escape_identifier(live));
    let makes =
        (!makes).then(|| format!("the role {role} may not make or rename databases: ALTER ROLE {quoted} CREATEDB"));
    let owns = (!owns).then(|| {
        format!("the database {live} is {owner}'s, and {role} may not rename it: ALTER DATABASE {database} OWNER TO {quoted}")
    });
    makes.into_iter().chain(owns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_is_named() {
        for (makes, owns, wanted) in [
            (true, true, &[][..]),
            (false, true, &["ALTER ROLE \"r\" CREATEDB"]),
            (true, false, &["ALTER DATABASE \"live\" OWNER TO \"r\""]),
            (false, false, &["ALTER ROLE \"r\" CREATEDB", "ALTER DATABASE \"live\" OWNER TO \"r\""]),
        ] {
            let told = missing("r", makes, ("live", owns, "o"));
            assert_eq!(told.len(), wanted.len(), "{told:?}");
            assert!(told.iter().zip(wanted).all(|(told, wanted)| told.ends_with(wanted)), "{told:?}");
        }
    }
}
