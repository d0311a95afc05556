//! The database that is restored into.

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::dump::error::{BackupError, Step as _};
use crate::postgres::{Session, bounded};
use crate::restore::note::{self, Note};

const LIMIT: Duration = Duration::from_mins(1);

/// Where it is made, and as what.
pub(crate) struct New<'a> {
    /// Who may make databases.
    pub(crate) maker: &'a Session,
    /// The application's role.
    pub(crate) owner: &'a str,
    /// The live database, whose encoding and sorting it gets.
    pub(crate) live: &'a str,
    /// Its name.
    pub(crate) database: &'a str,
}

impl New<'_> {
    /// Makes it. It lets nobody in until it has its note, and is known by its connection limit until then.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn create(&self, begun: &Note) -> Result<(), BackupError> {
        const STEP: &str = "make the database";
        let sorting = Sorting::of(self.maker, self.live).await?.map_or("ENCODING 'UTF8'".to_owned(), |it| it.sql());
        let (database, owner) = (escape_identifier(self.database), escape_identifier(self.owner));
        let create = format!(
            "CREATE DATABASE {database} OWNER {owner} TEMPLATE template0 {sorting} ALLOW_CONNECTIONS false CONNECTION LIMIT {}",
            note::mark(&begun.owner)
        );
        bounded(LIMIT, self.maker.batch_execute(&create)).await.step(STEP)?;
        note::set(self.maker, self.database, begun).await?;
        let open = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true CONNECTION LIMIT -1");
        bounded(LIMIT, self.maker.batch_execute(&open)).await.step(STEP)
    }
}

/// Drops a database, and whoever is in it.
///
/// # Errors
/// What the server said.
pub(crate) async fn drop(session: &Session, database: &str) -> Result<(), BackupError> {
    let drop = format!("DROP DATABASE {} WITH (FORCE)", escape_identifier(database));
    bounded(LIMIT, session.batch_execute(&drop)).await.step("drop the database")
}

/// How a database encodes and sorts.
#[derive(Debug, Clone, Default)]
struct Sorting {
    encoding: String,
    collate: String,
    ctype: String,
    /// A letter; servers before 15 have none.
    provider: Option<String>,
    /// The provider's own.
    locale: Option<String>,
    rules: Option<String>,
}

impl Sorting {
    /// `None`: there is no such database.
    async fn of(session: &Session, database: &str) -> Result<Option<Self>, BackupError> {
        // As JSON a column may be missing: `daticulocale` is `datlocale` from 17 on, `daticurules` comes with 16.
        const QUESTION: &str = "
            SELECT pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text,
                   to_jsonb(d) ->> 'datlocprovider',
                   coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
                   to_jsonb(d) ->> 'daticurules'
            FROM pg_database d WHERE datname = $1";
        let row = bounded(LIMIT, session.query_opt(QUESTION, &[&database])).await.step("look the live database up")?;
        Ok(row.map(|row| Self {
            encoding: row.get(0),
            collate: row.get(1),
            ctype: row.get(2),
            provider: row.get(3),
            locale: row.get(4),
            rules: row.get(5),
        }))
    }

    /// Options of `CREATE DATABASE`. The provider is always named: that of the template may be another one.
    fn sql(&self) -> String {
        let (icu, builtin) = (self.provider.as_deref() == Some("i"), self.provider.as_deref() == Some("b"));
        let provider = self.provider.as_ref().map(|_| match (icu, builtin) {
            (true, _) => "LOCALE_PROVIDER icu".to_owned(),
            (_, true) => "LOCALE_PROVIDER builtin".to_owned(),
            _ => "LOCALE_PROVIDER libc".to_owned(),
        });
        let option = |name: &str, value: &str| format!("{name} {}", escape_literal(value).trim_start());
        let locale = self.locale.as_deref().and_then(|locale| match (icu, builtin) {
            (true, _) => Some(option("ICU_LOCALE", locale)),
            (_, true) => Some(option("BUILTIN_LOCALE", locale)),
            _ => None,
        });
        let rules = self.rules.as_deref().filter(|_| icu).map(|rules| option("ICU_RULES", rules));
        let common =
            [option("ENCODING", &self.encoding), option("LC_COLLATE", &self.collate), option("LC_CTYPE", &self.ctype)];
        common.into_iter().chain(provider).chain(locale).chain(rules).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::before_15(None, None, None, "")]
    #[case::libc(Some("c"), None, None, " LOCALE_PROVIDER libc")]
    #[case::icu(Some("i"), Some("de-AT"), None, " LOCALE_PROVIDER icu ICU_LOCALE 'de-AT'")]
    #[case::icu_from_16(
        Some("i"),
        Some("und"),
        Some("&V << w"),
        " LOCALE_PROVIDER icu ICU_LOCALE 'und' ICU_RULES '&V << w'"
    )]
    #[case::builtin_from_17(Some("b"), Some("C.UTF-8"), None, " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'")]
    #[case::quotes(Some("i"), Some("x'y"), None, " LOCALE_PROVIDER icu ICU_LOCALE 'x''y'")]
    fn as_the_live_one_sorts(
        #[case] provider: Option<&str>,
        #[case] locale: Option<&str>,
        #[case] rules: Option<&str>,
        #[case] sql: &str,
    ) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let sorting = Sorting {
            encoding: "UTF8".to_owned(),
            collate: "C".to_owned(),
            ctype: "de_AT.UTF-8".to_owned(),
            provider: own(provider),
            locale: own(locale),
            rules: own(rules),
        };
        assert_eq!(sorting.sql(), format!("ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'de_AT.UTF-8'{sql}"));
    }
}
