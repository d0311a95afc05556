//! Revisions and the order in which they roll: what a revision is made of, the step table with its
//! gates, what is stored of a revision, its history.

pub mod approval;
pub mod backup;
pub mod bootstrap;
pub mod carry;
pub mod changes;
pub mod checks;
pub mod course;
pub mod credentials;
#[cfg(test)]
mod documented;
pub mod failure;
pub mod gates;
pub mod guard;
pub mod history;
pub mod inputs;
pub mod jobs;
pub mod migration;
pub mod pods;
pub mod requests;
pub mod revision;
pub mod scheduling;
pub mod steps;
pub mod trim;
pub mod watch;
pub mod workload;
