//! What the live database has besides its content, which no dump holds: settings of the database and of roles in it, its
//! connection limit, who may log in.

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::dump::error::{BackupError, Step as _};
use crate::postgres::{Session, bounded};

const LIMIT: Duration = Duration::from_mins(1);
/// Settings that are lists of names, which the server keeps quoted as such; `pg_dump` knows the same ones.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Something that the new database gets: how it is called, and the statements.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trait {
    name: String,
    sql: String,
}

/// Gives a database what the live one has, as far as the role may; what it may not is named.
///
/// # Errors
/// The server is away.
pub(crate) async fn make_alike(session: &Session, live: &str, database: &str) -> Result<Vec<String>, BackupError> {
    const STEP: &str = "give the database the live one's settings";
    let mut left = Vec::new();
    for Trait { name, sql } in traits(session, live, database).await? {
        match bounded(LIMIT, session.batch_execute(&sql)).await {
            Err(error) if error.code().is_some() => {
                tracing::warn!(name, %error, "not copied from the live database");
                left.push(name);
            }
            other => other.step(STEP)?,
        }
    }
    Ok(left)
}

async fn traits(session: &Session, live: &str, database: &str) -> Result<Vec<Trait>, BackupError> {
    const STEP: &str = "read the live database's settings";
    const SETTINGS: &str = "
        SELECT pg_get_userbyid(nullif(s.setrole, 0))::text, unnest(s.setconfig)
        FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = $1 ORDER BY 1, 2";
    const RIGHTS: &str = "
        SELECT pg_get_userbyid(nullif(a.grantee, 0))::text, a.privilege_type, a.is_grantable
        FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = $1 ORDER BY 1, 2";
    const DATABASE: &str = "
        SELECT l.datconnlimit, l.datacl IS NOT NULL, pg_get_userbyid(n.datdba)::text
        FROM pg_database l, pg_database n WHERE l.datname = $1 AND n.datname = $2";
    let mut traits = Vec::new();
    for row in bounded(LIMIT, session.query(SETTINGS, &[&live])).await.step(STEP)? {
        let (role, entry): (Option<String>, String) = (row.get(0), row.get(1));
        traits.extend(setting(database, role.as_deref(), &entry));
    }
    let Some(row) = bounded(LIMIT, session.query_opt(DATABASE, &[&live, &database])).await.step(STEP)? else {
        return Ok(traits);
    };
    if row.get::<_, bool>(1) {
        let rows = bounded(LIMIT, session.query(RIGHTS, &[&live])).await.step(STEP)?;
        let granted = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2)));
        traits.push(rights(database, row.get(2), &granted.collect::<Vec<_>>()));
    }
    let limit: i32 = row.get(0);
    if limit >= 0 {
        let sql = format!("ALTER DATABASE {} CONNECTION LIMIT {limit}", escape_identifier(database));
        traits.push(Trait { name: "CONNECTION LIMIT".to_owned(), sql });
    }
    Ok(traits)
}

/// `name=value` of everybody, or of a role.
fn setting(database: &str, role: Option<&str>, entry: &str) -> Option<Trait> {
    let (name, value) = entry.split_once('=')?;
    let values: Vec<String> = if LISTS.contains(&name.to_ascii_lowercase().as_str()) {
        elements(value).iter().map(|element| escape_literal(element)).collect()
    } else {
        vec![escape_literal(value)]
    };
    let values = if values.is_empty() { "''".to_owned() } else { values.join(", ") };
    let (database, quoted) = (escape_identifier(database), escape_identifier(name));
    Some(match role {
        None => Trait { name: name.to_owned(), sql: format!("ALTER DATABASE {database} SET {quoted} TO {values}") },
        Some(role) => Trait {
            name: format!("{name} of {role}"),
            sql: format!("ALTER ROLE {} IN DATABASE {database} SET {quoted} TO {values}", escape_identifier(role)),
        },
    })
}

/// Elements of a list of names. Each becomes a literal: what isn't quoted as it should be must not become SQL.
fn elements(list: &str) -> Vec<String> {
    let (mut elements, mut element, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => element.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => elements.push(std::mem::take(&mut element)),
            it if it.is_whitespace() && !quoted => {}
            it => element.push(it),
        }
    }
    elements.push(element);
    elements.retain(|it| !it.is_empty());
    elements
}

/// All rights, as they are in the live one, or none: the role that is granted to, none for everybody; which; whether it
/// may pass it on.
fn rights(database: &str, owner: &str, granted: &[(Option<String>, String, bool)]) -> Trait {
    let database = escape_identifier(database);
    let mut sql = format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC, {}", escape_identifier(owner));
    for (role, right, passes) in granted {
        let role = role.as_deref().map_or("PUBLIC".to_owned(), escape_identifier);
        let passes = if *passes { " WITH GRANT OPTION" } else { "" };
        sql = format!("{sql}; GRANT {right} ON DATABASE {database} TO {role}{passes}");
    }
    Trait { name: "rights of roles".to_owned(), sql }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::of_the_database(None, "work_mem=8MB", "work_mem", r#"ALTER DATABASE "d""d" SET "work_mem" TO '8MB'"#)]
    #[case::of_a_role(
        Some("r"),
        "app.x=it's=1",
        "app.x of r",
        r#"ALTER ROLE "r" IN DATABASE "d""d" SET "app.x" TO 'it''s=1'"#
    )]
    #[case::a_list(
        None,
        r#"search_path="$user", public,"A ""b"", c""#,
        "search_path",
        r#"ALTER DATABASE "d""d" SET "search_path" TO '$user', 'public', 'A "b", c'"#
    )]
    #[case::an_empty_list(None, r#"search_path="""#, "search_path", r#"ALTER DATABASE "d""d" SET "search_path" TO ''"#)]
    #[case::no_list_of_names(
        None,
        "DateStyle=ISO, DMY",
        "DateStyle",
        r#"ALTER DATABASE "d""d" SET "DateStyle" TO 'ISO, DMY'"#
    )]
    #[case::not_sql(
        None,
        "search_path=x;DROP",
        "search_path",
        r#"ALTER DATABASE "d""d" SET "search_path" TO 'x;DROP'"#
    )]
    fn settings(#[case] role: Option<&str>, #[case] entry: &str, #[case] name: &str, #[case] sql: &str) {
        let wanted = Trait { name: name.to_owned(), sql: sql.to_owned() };
        assert_eq!(setting("d\"d", role, entry), Some(wanted));
    }

    #[test]
    fn rights_are_those_of_the_live_one_and_no_others() {
        let granted = [(None, "CONNECT".to_owned(), false), (Some("a\"b".to_owned()), "CREATE".to_owned(), true)];
        let sql = r#"REVOKE ALL ON DATABASE "d" FROM PUBLIC, "o"; GRANT CONNECT ON DATABASE "d" TO PUBLIC; GRANT CREATE ON DATABASE "d" TO "a""b" WITH GRANT OPTION"#;
        assert_eq!(rights("d", "o", &granted).sql, sql);
    }
}
