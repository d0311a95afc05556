//! `agent restore`: a backup becomes a database of the live server, beside the live one (`load`), and takes its place
//! (`swap`), gives tables back to it (`tables`), or goes again (`discard`); or an empty live one is filled (`bootstrap`).
//! Killed at any point each can be run again.

mod adopt;
mod artifact;
mod before;
mod bootstrap;
mod discard;
mod like;
mod load;
mod new;
pub(crate) mod note;
mod places;
mod plain;
mod rights;
mod room;
mod settings;
mod source;
mod swap;
mod tables;

/// Seconds for a lock: nobody else is in the new database.
const LOCK_SECONDS: u64 = 1;

pub(crate) use bootstrap::main as bootstrap;
pub(crate) use discard::main as discard;
pub(crate) use load::main as load;
pub(crate) use swap::main as swap;
pub(crate) use tables::main as tables;
