//! What `agent migrate` asks for before it touches anything.

use crate::agent::APP_PASSWORD;
use crate::sample::{ROLE, Sample, State, ran};
use crate::servers::{PgBouncer, skip};

const TABLES: &str = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";

#[test]
fn an_existing_schema_is_changed_under_its_own_backup_only() {
    let Some(sample) = Sample::new("backup") else { return };
    let database = sample.database(State::Released);
    let agent = || sample.agent("1.0.0", &database).env("ODOOAI_BACKUP_REQUIRED", "true");
    let refused = ran(&mut agent()).expect("Refused", "BackupMissing");
    assert!(refused.message().contains("there is none"), "{}", refused.message());
    let incarnation = refused.report["incarnation"].as_str().expect("text").to_owned();
    let of_another = ran(&mut agent().env("ODOOAI_BACKUP_INCARNATION", "1/2")).expect("Refused", "BackupMissing");
    assert!(of_another.message().contains("database 1/2"), "{}", of_another.message());
    let at_another = agent().env("ODOOAI_BACKUP_INCARNATION", &incarnation);
    let mut at_another = at_another.env("ODOOAI_BACKUP_SCHEMA", "001_extend_enum");
    ran(&mut at_another).expect("Refused", "BackupMissing");
    assert_eq!(sample.sql(&database, TABLES), ["3"]);
    ran(&mut agent().env("ODOOAI_BACKUP_INCARNATION", &incarnation)).expect("Succeeded", "Upgraded");
}

#[test]
fn a_pooler_must_give_sessions() {
    let Some(sample) = Sample::new("pooler") else { return };
    let database = sample.database(State::Released);
    for settings in [
        "pool_mode = transaction\nignore_startup_parameters = options",
        "pool_mode = transaction\nignore_startup_parameters = options\nserver_round_robin = 1\nmin_pool_size = 3",
        "pool_mode = transaction\nignore_startup_parameters = options\ndefault_pool_size = 1",
        "pool_mode = statement\nignore_startup_parameters = options",
    ] {
        let Some(pooler) = PgBouncer::start(&sample.server, ROLE, APP_PASSWORD, settings) else {
            return skip("pooler", "no PgBouncer here");
        };
        let refused = ran(&mut sample.agent_at(pooler.port, "1.0.0", &database)).expect("Refused", "PoolerUnfit");
        let advice = "connect to PostgreSQL directly or use session mode";
        assert!(refused.message().contains(advice), "{settings}: {}", refused.message());
    }
    let start = |settings| PgBouncer::start(&sample.server, ROLE, APP_PASSWORD, settings);
    let strict = start("pool_mode = session").expect("PgBouncer as before");
    let refused = ran(&mut sample.agent_at(strict.port, "1.0.0", &database)).expect("Refused", "PoolerUnfit");
    assert!(refused.message().contains("ignore_startup_parameters = options"), "{}", refused.message());
    assert_eq!(sample.sql(&database, TABLES), ["3"]);

    let fit = start("pool_mode = session\nignore_startup_parameters = options").expect("PgBouncer as before");
    ran(&mut sample.agent_at(fit.port, "1.0.0", &database)).expect("Succeeded", "Upgraded");
}
