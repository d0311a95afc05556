//! `agent restore`: a backup becomes a database of the live server, beside the live one (`load`), and takes its place
//! (`swap`), or goes again (`discard`). Killed at any point each can be run again.

mod before;
mod discard;
mod like;
mod load;
mod new;
pub(crate) mod note;
mod places;
mod room;
mod settings;
mod swap;

pub(crate) use discard::main as discard;
pub(crate) use load::main as load;
pub(crate) use swap::main as swap;
