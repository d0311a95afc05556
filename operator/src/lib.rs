//! The operator: everything but arguments and process set-up, so that tests can reach it.

pub mod args;
pub mod backoff;
pub mod backup;
pub mod cluster;
pub mod component;
pub mod context;
pub mod controller;
pub mod flag;
pub mod labels;
pub mod leader;
pub mod metrics;
pub mod restore;
pub mod rollout;
pub mod routes;
pub mod rules;
pub mod run;
pub mod server;
pub mod stack;
