//! Schemas of the strings and maps that several fields share: bounds, and the sentence a user reads.

use schemars::{Schema, SchemaGenerator, json_schema};

fn text(max: u32, rule: &str, message: &str) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": max,
        "x-kubernetes-validations": [{"rule": rule, "message": message}],
    })
}

fn list(max: u32, kind: &str, items: &Schema) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": max,
        "items": items,
        "x-kubernetes-list-type": kind,
    })
}

/// Name of an object in the same namespace.
pub(crate) fn object_name(_: &mut SchemaGenerator) -> Schema {
    text(
        253,
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        "must be the name of a Kubernetes object: lower case letters, digits, '-' and '.', at most 253 characters",
    )
}

/// A DNS label: container names, check names.
pub(crate) fn label_name(_: &mut SchemaGenerator) -> Schema {
    text(
        40,
        "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "must be a short name: lower case letters, digits and '-', beginning with a letter, at most 40 characters",
    )
}

/// Key of a Secret or `ConfigMap`.
pub(crate) fn data_key(_: &mut SchemaGenerator) -> Schema {
    text(
        253,
        "self.matches('^[-._a-zA-Z0-9]+$')",
        "must be a key of the object's data: letters, digits, '-', '_' and '.'",
    )
}

/// A container image reference.
pub(crate) fn image(_: &mut SchemaGenerator) -> Schema {
    text(
        512,
        "self.matches('^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?(:[0-9]+)?/)?[a-z0-9]+((\\\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\\\.|_|__|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64})?$')",
        "must be an image reference like registry.example.com/team/ai-service:1.4.0, optionally with @sha256:<64 hexadecimal digits>",
    )
}

/// A host name without scheme, port and path.
pub(crate) fn host(_: &mut SchemaGenerator) -> Schema {
    text(
        253,
        "self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')",
        "must be a host name like api.example.com: lower case, no scheme, no port, no path, no wildcard",
    )
}

/// An `http` or `https` URL without user, query and fragment.
pub(crate) fn url(_: &mut SchemaGenerator) -> Schema {
    text(
        512,
        "self.matches('^https?://[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[^?#@ ]*)?$')",
        "must be a URL like https://odoo.example.com: http or https, without user, query and fragment",
    )
}

/// A bounded list of web origins.
pub(crate) fn origins(_: &mut SchemaGenerator) -> Schema {
    list(
        32,
        "set",
        &text(
            512,
            "self.matches('^https?://[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?(:[0-9]{1,5})?$')",
            "must be an origin like https://dashboard.example.com: scheme, host and port only, no path and no '*'",
        ),
    )
}

/// Name of a database.
pub(crate) fn database_name(_: &mut SchemaGenerator) -> Schema {
    text(
        63,
        "self.matches('^[a-zA-Z0-9_][-a-zA-Z0-9_.]*$')",
        "must be a database name: letters, digits, '_', '-' and '.', at most 63 characters",
    )
}

/// Name of a PostgreSQL role.
pub(crate) fn role_name(_: &mut SchemaGenerator) -> Schema {
    text(
        63,
        "self.matches('^[a-zA-Z_][-a-zA-Z0-9_.]*$')",
        "must be a role name: letters, digits, '_', '-' and '.', at most 63 characters",
    )
}

/// Name of a Claude model.
pub(crate) fn model(_: &mut SchemaGenerator) -> Schema {
    text(
        128,
        "self.matches('^[a-zA-Z0-9][-a-zA-Z0-9._:@/]*$')",
        "must be a model's name like claude-sonnet-4-5: letters, digits, '-', '.', '_', ':', '@' and '/'",
    )
}

/// Name of an environment variable.
pub(crate) fn env_name(_: &mut SchemaGenerator) -> Schema {
    text(
        128,
        "self.matches('^[a-zA-Z_][a-zA-Z0-9_]*$')",
        "must be the name of an environment variable: letters, digits and '_', not beginning with a digit",
    )
}

/// Prefix of environment variables.
pub(crate) fn env_prefix(_: &mut SchemaGenerator) -> Schema {
    text(
        64,
        "self.matches('^[a-zA-Z_][a-zA-Z0-9_]*$')",
        "must be the beginning of an environment variable's name: letters, digits and '_', not beginning with a digit",
    )
}

/// A Kubernetes quantity.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    text(
        32,
        "self.matches('^[0-9]+([.][0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$')",
        "must be a quantity like 500m, 256Mi or 10Gi, not negative",
    )
}

/// The size of a volume.
pub(crate) fn storage_size(_: &mut SchemaGenerator) -> Schema {
    text(
        32,
        "self.matches('^[1-9][0-9]*(Mi|Gi|Ti|M|G|T)$')",
        "must be a volume size like 10Gi: a whole number with Mi, Gi, Ti, M, G or T",
    )
}

/// A bounded set of Celery queue names.
pub(crate) fn queues(_: &mut SchemaGenerator) -> Schema {
    list(
        16,
        "set",
        &text(
            64,
            "self.matches('^[a-zA-Z0-9][-a-zA-Z0-9_.]*$')",
            "must be a queue's name: letters, digits, '-', '_' and '.'",
        ),
    )
}

/// A bounded set of Alembic revisions.
pub(crate) fn alembic_revisions(_: &mut SchemaGenerator) -> Schema {
    list(
        200,
        "set",
        &text(
            64,
            "self.matches('^[a-zA-Z0-9_][-a-zA-Z0-9_.]*$')",
            "must be an Alembic revision like 003_phase2_tables",
        ),
    )
}

/// A bounded set of addresses and networks.
pub(crate) fn networks(_: &mut SchemaGenerator) -> Schema {
    list(
        64,
        "set",
        &text(
            64,
            "isIP(self) || isCIDR(self)",
            "must be an IP address or a network like 192.0.2.0/24 or 2001:db8::/32",
        ),
    )
}

/// A cron expression of five fields.
pub(crate) fn cron(_: &mut SchemaGenerator) -> Schema {
    let field = |value: &str| {
        let one = format!("([*]|{value}(-{value})?)(/[1-9][0-9]?)?");
        format!("{one}(,{one})*")
    };
    let pattern = [
        field("[0-5]?[0-9]"),
        field("([01]?[0-9]|2[0-3])"),
        field("(0?[1-9]|[12][0-9]|3[01])"),
        field("(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"),
        field("([0-6]|sun|mon|tue|wed|thu|fri|sat)"),
    ]
    .join(" +");
    text(
        128,
        &format!("self.lowerAscii().matches('^{pattern}$')"),
        "must be a cron expression of five fields (minute, hour, day of month, month, day of week 0-6), like 0 3 * * *",
    )
}

/// Name of a time zone.
pub(crate) fn time_zone(_: &mut SchemaGenerator) -> Schema {
    text(
        64,
        "self != 'Local' && self.matches('^[A-Za-z_]+(/[-A-Za-z0-9_+]+){0,2}$')",
        "must be the name of a time zone like Europe/Berlin or UTC",
    )
}

/// A bounded set of table names.
pub(crate) fn tables(_: &mut SchemaGenerator) -> Schema {
    list(
        64,
        "set",
        &text(
            63,
            "self.matches('^[a-z_][a-z0-9_]*$')",
            "must be the name of a table: lower case letters, digits and '_'",
        ),
    )
}

/// What a person confirms: stack, artifact and incarnation.
pub(crate) fn confirmation(_: &mut SchemaGenerator) -> Schema {
    text(
        700,
        "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?/[-a-zA-Z0-9_./]+/[0-9]+/[0-9]+$')",
        "must be <stack>/<artifact id or file>/<incarnation>, where the incarnation is status.database.incarnation of the stack, like odoo-ai/20260101t030000z-1a2b/7412345678901234567/16401",
    )
}

/// The database whose artifacts are taken over.
pub(crate) fn owner(_: &mut SchemaGenerator) -> Schema {
    text(
        84,
        "self.matches('^[0-9]{1,20}/[a-zA-Z0-9_][-a-zA-Z0-9_.]*$')",
        "must be <system identifier>/<database>, as the condition Stalled shows it, like 7412345678901234567/odoo_ai",
    )
}

/// Type or action of an automation rule.
pub(crate) fn automation_name(_: &mut SchemaGenerator) -> Schema {
    text(
        100,
        "self.matches('^[a-z][a-z0-9_]*$')",
        "must be a name like credit_management: lower case letters, digits and '_'",
    )
}

/// State of a flag. `Pilot` is known, so that it can be refused with a sentence.
pub(crate) fn flag_state(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 16,
        "enum": ["Disabled", "Enabled", "Pilot"],
        "x-kubernetes-validations": [{
            "rule": "self != 'Pilot'",
            "message": "state must be Disabled or Enabled: Pilot is planned and not available yet",
        }],
    })
}

/// Any JSON object.
pub(crate) fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// A command with its arguments.
pub(crate) fn command(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {"type": "string", "maxLength": 4096},
        "x-kubernetes-list-type": "atomic",
    })
}

/// Labels that a node must carry.
pub(crate) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
        "x-kubernetes-validations": [{
            "rule": "self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?$'))",
            "message": "nodeSelector must use label names like kubernetes.io/arch",
        }],
    })
}

/// PostgreSQL parameters by name.
pub(crate) fn postgres_parameters(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 256},
        "x-kubernetes-validations": [
            {
                "rule": "self.all(k, k.size() <= 63 && k.matches('^[a-z_][a-z0-9_.]*$'))",
                "message": "parameters must use names of PostgreSQL parameters in lower case, like max_connections",
            },
            {
                "rule": crate::rules::postgres_parameters_are_free(),
                "message": "parameters must not set what the operator sets itself (addresses, port, sockets, files, archiving, preloaded libraries)",
            },
        ],
    })
}

/// Whose artifacts: `<namespace>/<stack>`.
pub(crate) fn catalogue(_: &mut SchemaGenerator) -> Schema {
    text(
        128,
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "must be <namespace>/<stack>, like odoo-ai/odoo-ai",
    )
}

/// Id of a backup's artifact.
pub(crate) fn artifact_id(_: &mut SchemaGenerator) -> Schema {
    text(
        63,
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "must be the id of an artifact: lower case letters, digits and '-', at most 63 characters",
    )
}

/// A plain dump below the storage's root.
pub(crate) fn dump_file(_: &mut SchemaGenerator) -> Schema {
    text(
        512,
        "self.matches('^[-a-zA-Z0-9_.]+(/[-a-zA-Z0-9_.]+)*[.](sql|sql[.]gz)$') && !self.contains('..')",
        "must be the relative path of a .sql or .sql.gz file, without '..'",
    )
}

/// Region of an object store.
pub(crate) fn region(_: &mut SchemaGenerator) -> Schema {
    text(64, "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "must be a region like eu-central-1")
}

/// Name of a bucket.
pub(crate) fn bucket(_: &mut SchemaGenerator) -> Schema {
    text(
        63,
        "self.matches('^[a-z0-9][-a-z0-9.]+[a-z0-9]$')",
        "must be the name of a bucket: 3 to 63 lower case letters, digits, '-' and '.'",
    )
}

/// Folder in a bucket.
pub(crate) fn object_prefix(_: &mut SchemaGenerator) -> Schema {
    text(
        256,
        "self.matches('^[-a-zA-Z0-9_.]+(/[-a-zA-Z0-9_.]+)*$') && !self.contains('..')",
        "must be a folder like backups/odoo-ai: no slash at either end and no '..'",
    )
}

/// Takes the type's own text out of an enum's schema: in an optional field it would stand in the
/// place of the field's.
pub(crate) fn undescribed(schema: &mut Schema) {
    schema.remove("description");
}
