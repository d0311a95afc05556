//! PostgreSQL's dumps: how they are made and read, and what a database holds at one moment.

pub(crate) mod archive;
pub(crate) mod census;
pub(crate) mod error;
mod restore;
pub(crate) mod tool;
