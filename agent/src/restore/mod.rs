//! `agent restore`: a backup becomes a database of the live server, beside the live one (`load`), and takes its place
//! (`swap`). Killed at any point each can be run again.

mod load;
mod note;
mod room;
mod settings;
mod swap;

pub(crate) use load::main as load;
pub(crate) use swap::main as swap;
