//! The agent's commands against real servers: PostgreSQL and Redis of this machine,
//! private ones on 127.0.0.1. What a machine doesn't have is skipped, and says so.

mod agent;
mod backup;
mod backup_faults;
mod backup_s3;
mod catalogue;
mod certificates;
mod downgrade;
mod flag;
mod install;
mod listing;
mod login;
mod migrate;
mod migrate_guards;
mod migrate_labels;
mod migrate_stamp;
mod migrate_upgrade;
mod plan;
mod plan_newer;
mod probe;
mod restore;
mod restore_alike;
mod restore_bootstrap;
mod restore_bootstrap_adopt;
mod restore_bootstrap_ended;
mod restore_late;
mod restore_plain;
mod restore_tables;
mod restore_tables_ended;
mod restore_tables_faults;
mod run;
mod sample;
mod serve;
mod servers;
mod tls;
mod verify;
