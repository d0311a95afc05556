//! Pure builders: parsed stack in, Kubernetes objects out. They cannot fail and hold no client.

pub mod application;
pub mod assemble;
pub mod bootstrap;
pub mod check;
pub mod credentials;
pub mod data;
pub mod disruption;
pub mod job;
pub mod meta;
pub mod network;
pub mod pod;
pub mod postgresql;
pub mod redis;
pub mod routes;
pub mod workloads;

/// Name of the application's database and of its role.
pub const DATABASE_NAME: &str = "odoo_ai";
/// Role that owns the application's database.
pub const DATABASE_USER: &str = "odoo_ai";
/// Superuser of a Managed server.
pub const DATABASE_ADMIN: &str = "postgres";
/// Where the live credentials of database and Redis are in a pod.
pub const CREDENTIALS: &str = "/var/run/odooai/credentials";
/// Where the superuser's password is, in the pods that may have it.
pub const ADMIN_CREDENTIALS: &str = "/var/run/odooai/database-admin";
/// Where the agent lives in an application container.
pub const AGENT: &str = "/odooai/bin/agent";
/// Port of the API.
pub const API_PORT: i32 = 8000;
/// Port of `agent serve`.
pub const AGENT_PORT: i32 = 9180;
/// Port of the pods of ai-service where nobody listens: what a standard Ingress must not let through ends there.
pub const CLOSED_PORT: i32 = 9181;
/// Port of the dashboard.
pub const DASHBOARD_PORT: i32 = 3000;
/// Port of PostgreSQL.
pub const DATABASE_PORT: i32 = 5432;
/// Port of Redis.
pub const REDIS_PORT: i32 = 6379;
