//! Test harness: a real Kubernetes node in a container, and what suites need around it.
//!
//! [`Cluster`] starts the node (or attaches to one that runs), [`with_namespace`] gives a test a
//! room of its own in it, and [`ApiServer`] is the small sibling without nodes. `hack/up` uses the
//! same code through `src/bin/cluster.rs`.

mod apiserver;
mod cluster;
mod docker;
mod dump;
mod helm;
mod namespace;
mod node;
mod objects;
mod paths;
mod pods;
mod ready;
mod run;
mod wait;

pub use apiserver::{AUDITED, ApiServer};
pub use cluster::Cluster;
pub use docker::{docker, docker_quiet};
pub use dump::dump;
pub use helm::helm_upgrade;
pub use namespace::{with_namespace, with_namespace_in};
pub use node::free_port;
pub use objects::{apply_file, apply_yaml, delete_yaml, kustomize};
pub use paths::{kubectl, repository, run_dir};
pub use pods::{ExecOutput, exec, logs, service_get, wait_pod_ready};
pub use run::{Run, sweep};
pub use wait::{wait_for, wait_object};
