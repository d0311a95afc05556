//! CEL expressions that are built rather than written: lists of names, paths with a default.

/// Environment variables that the operator sets itself and therefore refuses in `env`.
/// The application reads its settings without regard to case, so the comparison ignores it too.
pub const RESERVED_ENV: &[&str] = &[
    "AI_DATABASE_URL",
    "AI_SECRET_KEY",
    "ANTHROPIC_API_KEY",
    "CLAUDE_MODEL",
    "CORS_ORIGINS",
    "HOSTNAME",
    "PGOPTIONS",
    "PGPASSWORD",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PORT",
    "REDIS_URL",
    "WEBHOOK_SECRET",
];

/// Prefixes of environment variables that belong to the operator and its agent.
pub const RESERVED_ENV_PREFIXES: &[&str] = &["ODOO_", "ODOOAI_"];

/// PostgreSQL parameters that the operator sets itself, or that would let a parameter leave the database.
pub const RESERVED_POSTGRES_PARAMETERS: &[&str] = &[
    "archive_command",
    "archive_library",
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "port",
    "restore_command",
    "shared_preload_libraries",
    "ssl_passphrase_command",
    "unix_socket_directories",
];

/// The sentence shown when a reserved name is used in `env`.
pub const RESERVED_ENV_MESSAGE: &str = "env must not set a name that the operator sets itself \
     (ODOO_*, ODOOAI_*, AI_DATABASE_URL, AI_SECRET_KEY, ANTHROPIC_API_KEY, CLAUDE_MODEL, CORS_ORIGINS, \
     HOSTNAME, PGOPTIONS, PGPASSWORD, PGSSLMODE, PGSSLROOTCERT, PORT, REDIS_URL, WEBHOOK_SECRET): use the field of the spec that is meant for it";

/// Whether the operator sets `name` itself, so that a user's value for it would be lost.
#[must_use]
pub fn is_reserved_env(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    RESERVED_ENV.contains(&name.as_str()) || RESERVED_ENV_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn cel_list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("[{}]", quoted.join(", "))
}

/// No element of the list `self` has a reserved name.
pub(crate) fn env_names_are_free() -> String {
    let prefixes: Vec<String> =
        RESERVED_ENV_PREFIXES.iter().map(|prefix| format!("e.name.upperAscii().startsWith('{prefix}')")).collect();
    format!("self.all(e, !(e.name.upperAscii() in {}) && !({}))", cel_list(RESERVED_ENV), prefixes.join(" || "))
}

/// No key of the map `self` is a reserved PostgreSQL parameter.
pub(crate) fn postgres_parameters_are_free() -> String {
    format!("self.all(k, !(k in {}))", cel_list(RESERVED_POSTGRES_PARAMETERS))
}

/// The value at `root.path`, or `default` where a part of the path is absent.
pub(crate) fn value_or(root: &str, path: &[&str], default: &str) -> String {
    let mut at = root.to_owned();
    let mut present = Vec::with_capacity(path.len());
    for part in path {
        at = format!("{at}.{part}");
        present.push(format!("has({at})"));
    }
    format!("({} ? {at} : {default})", present.join(" && "))
}

/// The value at `path` (or `default`) is the same in `self` and `oldSelf`.
pub(crate) fn unchanged(path: &[&str], default: &str) -> String {
    format!("{} == {}", value_or("self", path, default), value_or("oldSelf", path, default))
}

/// The image at `path`, where one is given, is not `latest`, unless the environment is Local.
pub(crate) fn pinned_unless_local(path: &[&str]) -> String {
    let image = value_or("self", path, "'none:0'");
    format!("self.environment == 'Local' || {}", is_pinned(&image))
}

/// The image reference `expression` names a tag other than `latest`, or a digest.
pub(crate) fn is_pinned(expression: &str) -> String {
    format!("({expression}.matches('[:@][^/]*$') && !{expression}.endsWith(':latest'))")
}
