//! Names that users, alerts and other tools rely on: condition types, reasons, labels, annotations.
//!
//! A reason is never renamed within v1alpha1. The troubleshooting page has an entry for each one that this version
//! sets. These are not set yet and have none, they come with later features: `RollingOut`.

/// Types of conditions.
pub mod types {
    /// This spec runs and passed its watch.
    pub const READY: &str = "Ready";
    /// Something healthy serves, whatever its revision.
    pub const AVAILABLE: &str = "Available";
    /// The controller is working on the spec (kstatus: in progress).
    pub const RECONCILING: &str = "Reconciling";
    /// The controller can't go on without a person (kstatus: failed).
    pub const STALLED: &str = "Stalled";
    /// The database accepts the application's login.
    pub const DATABASE_READY: &str = "DatabaseReady";
    /// Redis accepts the application's login.
    pub const REDIS_READY: &str = "RedisReady";
    /// Odoo answers and accepts the credentials.
    pub const ODOO_REACHABLE: &str = "OdooReachable";
    /// The database is at the image's Alembic revision.
    pub const MIGRATED: &str = "Migrated";
    /// The routes answer.
    pub const ROUTES_READY: &str = "RoutesReady";
    /// Somebody takes the tasks that wait in the queues.
    pub const QUEUES_CONSUMED: &str = "QueuesConsumed";
    /// The webhooks that were taken are worked on.
    pub const WEBHOOKS_PROCESSED: &str = "WebhooksProcessed";
    /// A new revision waits for a person.
    pub const AWAITING_APPROVAL: &str = "AwaitingApproval";
    /// The generated keys were saved outside the cluster.
    pub const KEYS_EXPORTED: &str = "KeysExported";
    /// Backup: the last run left a manifest.
    pub const LAST_BACKUP_SUCCEEDED: &str = "LastBackupSucceeded";
    /// Backup: the last good backup is not too old.
    pub const FRESH: &str = "Fresh";
    /// Backup: a verification restored a backup completely, not too long ago.
    pub const VERIFIED: &str = "Verified";
    /// Backup: the last good backup is in the object store too.
    pub const OFFSITE_COPIED: &str = "OffsiteCopied";
    /// FeatureFlag: the application's rule is as declared.
    pub const SYNCED: &str = "Synced";
    /// FeatureFlag: the rule's type runs exactly if it is declared to.
    pub const EFFECTIVE: &str = "Effective";
    /// FeatureFlag: not too many of the rule's runs fail.
    pub const WITHIN_ERROR_RATE: &str = "WithinErrorRate";
    /// Restore: it ended, well or not.
    pub const COMPLETE: &str = "Complete";
}

/// Reasons of conditions and events.
pub mod reasons {
    /// All is as the spec wants it.
    pub const SETTLED: &str = "Settled";
    /// The first install is under way.
    pub const INSTALLING: &str = "Installing";
    /// A new revision is rolled out.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// The new revision is watched.
    pub const WATCHING: &str = "Watching";
    /// A part is being started or changed.
    pub const PROGRESSING: &str = "Progressing";
    /// `spec.suspend` is true.
    pub const SUSPENDED: &str = "Suspended";
    /// A person must approve the revision.
    pub const AWAITING_APPROVAL: &str = "AwaitingApproval";
    /// The object is being deleted.
    pub const DELETING: &str = "Deleting";
    /// The controller hasn't looked yet.
    pub const NOT_OBSERVED: &str = "NotObserved";

    /// The spec contradicts itself in a way that the schema can't see.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A guarded field was changed; data must be moved to a new stack.
    pub const REQUIRES_MIGRATION: &str = "RequiresMigration";
    /// A referenced Secret doesn't exist.
    pub const SECRET_MISSING: &str = "SecretMissing";
    /// A referenced Secret lacks the key, or the key is empty.
    pub const SECRET_KEY_MISSING: &str = "SecretKeyMissing";
    /// The key of a Secret holds what the application can't use: no text, or a newline at its end.
    pub const SECRET_MALFORMED: &str = "SecretMalformed";
    /// A Secret holds a known placeholder.
    pub const PLACEHOLDER_SECRET: &str = "PlaceholderSecret";
    /// A referenced `ConfigMap` or its key doesn't exist.
    pub const CONFIG_MAP_MISSING: &str = "ConfigMapMissing";
    /// A generated Secret is gone while its data exists.
    pub const CREDENTIALS_LOST: &str = "CredentialsLost";
    /// New credentials are being proven by a login.
    pub const PROVING_CREDENTIALS: &str = "ProvingCredentials";
    /// A login with the new credentials failed; nothing was restarted.
    pub const CREDENTIALS_REJECTED: &str = "CredentialsRejected";
    /// An object of a deleted stack of the same name is still being removed.
    pub const CLEANING_UP: &str = "CleaningUp";
    /// The API server refused an object as invalid.
    pub const INVALID_OBJECT: &str = "InvalidObject";
    /// An object of the name that is needed belongs to somebody else.
    pub const NAME_CONFLICT: &str = "NameConflict";

    /// The API server, or a part that the operator asks, didn't answer.
    pub const UNREACHABLE: &str = "Unreachable";
    /// It answers.
    pub const REACHABLE: &str = "Reachable";
    /// Odoo refuses the credentials.
    pub const ACCESS_DENIED: &str = "AccessDenied";
    /// Nothing is known.
    pub const UNKNOWN: &str = "Unknown";
    /// It serves.
    pub const SERVING: &str = "Serving";
    /// Nothing serves.
    pub const NOT_SERVING: &str = "NotServing";

    /// A volume isn't bound.
    pub const VOLUME_PENDING: &str = "VolumePending";
    /// A volume is gone, with what was on it.
    pub const VOLUME_LOST: &str = "VolumeLost";
    /// The `StorageClass` doesn't exist.
    pub const STORAGE_CLASS_MISSING: &str = "StorageClassMissing";
    /// A pod can't be placed.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// A node put a pod off for want of memory or disk.
    pub const EVICTED: &str = "Evicted";
    /// An image can't be pulled.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// The node can't create a container, for example for want of a Secret's key.
    pub const CONTAINER_NOT_CREATED: &str = "ContainerNotCreated";
    /// A container ends again and again.
    pub const CRASH_LOOP: &str = "CrashLoop";
    /// A container used more memory than its limit.
    pub const OUT_OF_MEMORY: &str = "OutOfMemory";
    /// A pod isn't ready yet.
    pub const POD_NOT_READY: &str = "PodNotReady";
    /// A quota or an admission policy refused an object.
    pub const FORBIDDEN: &str = "Forbidden";

    /// Redis may drop queued tasks silently.
    pub const EVICTION_POLICY_UNFIT: &str = "EvictionPolicyUnfit";
    /// Redis is nearly full: soon publishing fails.
    pub const REDIS_NEARLY_FULL: &str = "RedisNearlyFull";
    /// A queue grows and nobody consumes it.
    pub const QUEUE_NOT_CONSUMED: &str = "QueueNotConsumed";
    /// Every queue is empty or consumed.
    pub const CONSUMED: &str = "Consumed";
    /// Webhooks were taken, and nobody works on them.
    pub const WEBHOOKS_UNPROCESSED: &str = "WebhooksUnprocessed";
    /// No webhook is left behind.
    pub const PROCESSED: &str = "Processed";

    /// What a migration would do is being found out.
    pub const PLANNING: &str = "Planning";
    /// What a migration would do could not be found out.
    pub const PLAN_FAILED: &str = "PlanFailed";
    /// A migration is running.
    pub const MIGRATING: &str = "Migrating";
    /// The database is at the image's revision.
    pub const AT_HEAD: &str = "AtHead";
    /// A migration failed.
    pub const MIGRATION_FAILED: &str = "MigrationFailed";
    /// Migrations are pending and the policy is Manual.
    pub const MIGRATION_PENDING: &str = "MigrationPending";
    /// The database has tables that fit no revision completely.
    pub const SCHEMA_AMBIGUOUS: &str = "SchemaAmbiguous";
    /// The database is at a revision that the image doesn't know.
    pub const SCHEMA_NEWER_THAN_IMAGE: &str = "SchemaNewerThanImage";
    /// A backup is made before the migration.
    pub const BACKING_UP: &str = "BackingUp";
    /// A backup is required and there is no Backup of this stack that could be asked.
    pub const BACKUP_NOT_CONFIGURED: &str = "BackupNotConfigured";
    /// The backup before the migration failed, or its Backup can't make one.
    pub const BACKUP_FAILED: &str = "BackupFailed";

    /// Backups work, and the last one is fresh.
    pub const BACKED_UP: &str = "BackedUp";
    /// The last run left a manifest.
    pub const BACKUP_SUCCEEDED: &str = "BackupSucceeded";
    /// There is no good backup yet.
    pub const NO_BACKUP_YET: &str = "NoBackupYet";
    /// The last good backup is no older than the schedule allows.
    pub const UP_TO_DATE: &str = "UpToDate";
    /// The last good backup is older than the schedule allows.
    pub const BACKUP_TOO_OLD: &str = "BackupTooOld";
    /// A backup was restored completely, as a test.
    pub const VERIFIED: &str = "Verified";
    /// No backup was restored as a test yet.
    pub const NOT_VERIFIED_YET: &str = "NotVerifiedYet";
    /// A backup could not be restored completely.
    pub const VERIFICATION_FAILED: &str = "VerificationFailed";
    /// The last verification is older than `verification.maxAgeSeconds`.
    pub const VERIFICATION_TOO_OLD: &str = "VerificationTooOld";
    /// The bucket has what the volume has.
    pub const COPIED: &str = "Copied";
    /// The bucket lacks what the volume has.
    pub const COPY_FAILED: &str = "CopyFailed";
    /// Nothing was copied yet.
    pub const NOT_COPIED_YET: &str = "NotCopiedYet";
    /// What is in the storage is being read.
    pub const READING_CATALOGUE: &str = "ReadingCatalogue";
    /// What is in the storage can't be read.
    pub const CATALOGUE_UNREADABLE: &str = "CatalogueUnreadable";
    /// A claim that is referred to doesn't exist.
    pub const VOLUME_MISSING: &str = "VolumeMissing";
    /// The spec of the stack that is backed up or restored is refused.
    pub const STACK_INVALID: &str = "StackInvalid";

    /// The generated keys were saved outside the cluster.
    pub const EXPORTED: &str = "Exported";
    /// Nobody noted that the generated keys were saved.
    pub const NOT_EXPORTED: &str = "NotExported";
    /// A generated key is another one than when they were saved.
    pub const CHANGED_SINCE_EXPORT: &str = "ChangedSinceExport";

    /// The backup was restored completely.
    pub const RESTORED: &str = "Restored";
    /// The backup is being restored.
    pub const RESTORING: &str = "Restoring";
    /// The database held something already, so `bootstrap.restoreFrom` left it as it is.
    pub const DATABASE_NOT_EMPTY: &str = "DatabaseNotEmpty";
    /// An attempt to restore the backup failed; it is tried again.
    pub const RESTORE_FAILED: &str = "RestoreFailed";
    /// A restore in place waits for `confirm`.
    pub const AWAITING_CONFIRMATION: &str = "AwaitingConfirmation";
    /// `confirm` names another backup or another database: the restore was meant for one that is gone.
    pub const CONFIRMATION_MISMATCH: &str = "ConfirmationMismatch";
    /// The application is stopped for a restore in place.
    pub const DRAINING: &str = "Draining";
    /// The restored database and the live one change places.
    pub const SWAPPING: &str = "Swapping";
    /// The application starts with the restored database.
    pub const STARTING: &str = "Starting";
    /// The replaced database is live again.
    pub const UNDONE: &str = "Undone";
    /// A rollout goes on, or none has ended yet.
    pub const WAITING_FOR_ROLLOUT: &str = "WaitingForRollout";
    /// Another Restore replaces the database of the same stack.
    pub const WAITING_FOR_RESTORE: &str = "WaitingForRestore";
    /// The database can't be renamed here.
    pub const RENAME_NOT_POSSIBLE: &str = "RenameNotPossible";
    /// A backup is being made, which may remove what is to be restored.
    pub const WAITING_FOR_BACKUP: &str = "WaitingForBackup";
    /// The database server is not there yet.
    pub const DATABASE_NOT_READY: &str = "DatabaseNotReady";
    /// The Backup that is referred to doesn't exist.
    pub const BACKUP_NOT_FOUND: &str = "BackupNotFound";

    /// A step took longer than its deadline.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// A check of the new revision runs.
    pub const CHECKING: &str = "Checking";
    /// A check failed.
    pub const CHECK_FAILED: &str = "CheckFailed";
    /// The watch saw too many bad samples.
    pub const HEALTH_CHECK_FAILED: &str = "HealthCheckFailed";
    /// The watch could not take its samples.
    pub const WATCH_INCONCLUSIVE: &str = "WatchInconclusive";
    /// A revision failed and the one before is being put back.
    pub const ROLLING_BACK: &str = "RollingBack";
    /// A person asked for an earlier revision.
    pub const ROLLBACK_REQUESTED: &str = "RollbackRequested";
    /// The new revision failed and the one before was put back.
    pub const ROLLED_BACK: &str = "RolledBack";
    /// The revision failed and rollbacks are Manual.
    pub const ROLLOUT_FAILED: &str = "RolloutFailed";
    /// The rollback failed too.
    pub const ROLLBACK_FAILED: &str = "RollbackFailed";
    /// The database's schema doesn't let the older image work.
    pub const ROLLBACK_BLOCKED_BY_SCHEMA: &str = "RollbackBlockedBySchema";

    /// The stack that is referred to doesn't exist.
    pub const STACK_NOT_FOUND: &str = "StackNotFound";
    /// Another object has the better claim.
    pub const CONFLICT: &str = "Conflict";
    /// The application's rule is as declared.
    pub const SYNCED: &str = "Synced";
    /// Somebody edited the rule in the application.
    pub const DRIFTED: &str = "Drifted";
    /// The application has the rule more than once.
    pub const DUPLICATE_RULES: &str = "DuplicateRules";
    /// The rule exists already, and may not be taken over.
    pub const RULE_EXISTS: &str = "RuleExists";
    /// The stack's application doesn't serve.
    pub const APPLICATION_UNAVAILABLE: &str = "ApplicationUnavailable";
    /// The application answers with an error of its own.
    pub const APPLICATION_FAILING: &str = "ApplicationFailing";
    /// The application refuses the key.
    pub const UNAUTHORIZED: &str = "Unauthorized";
    /// What answers is not the application.
    pub const UNEXPECTED_ANSWER: &str = "UnexpectedAnswer";
    /// The application refuses the rule, or keeps it otherwise.
    pub const REJECTED: &str = "Rejected";
    /// The type runs exactly if it is declared to.
    pub const AS_DECLARED: &str = "AsDeclared";
    /// The type runs because of other rules, though this one is disabled.
    pub const ENABLED_BY_OTHER_RULES: &str = "EnabledByOtherRules";
    /// Too many of the rule's runs failed: it is disabled until its spec changes.
    pub const ERROR_RATE_EXCEEDED: &str = "ErrorRateExceeded";
    /// Not more of the rule's runs fail than may.
    pub const WITHIN_LIMIT: &str = "WithinLimit";
    /// The rule has not run often enough for a rate.
    pub const TOO_FEW_SAMPLES: &str = "TooFewSamples";
    /// The stack rolls out or is not well: no rule is blamed for that.
    pub const FROZEN: &str = "Frozen";
    /// The type doesn't run yet.
    pub const NOT_RUNNING: &str = "NotRunning";
    /// An older stack has the host.
    pub const HOST_CONFLICT: &str = "HostConflict";
    /// The cluster doesn't serve Traefik's kinds, which the routes need.
    pub const TRAEFIK_NOT_INSTALLED: &str = "TraefikNotInstalled";
    /// Nobody answers where Traefik's Service should be.
    pub const TRAEFIK_UNREACHABLE: &str = "TraefikUnreachable";
    /// Traefik has no route for the host.
    pub const NOT_FOUND_404: &str = "NotFound404";
    /// The route is there, and nothing behind it answers.
    pub const BAD_GATEWAY_502: &str = "BadGateway502";
    /// Another route answers for the host, or the route leads to somebody else's pods.
    pub const WRONG_BACKEND: &str = "WrongBackend";
    /// The routes answer, and Traefik may not see whom the allow list is for.
    pub const CLIENT_ADDRESSES_HIDDEN: &str = "ClientAddressesHidden";
    /// The certificate for the host isn't there yet.
    pub const CERTIFICATE_PENDING: &str = "CertificatePending";
    /// The certificate ends soon and wasn't renewed.
    pub const CERTIFICATE_EXPIRING: &str = "CertificateExpiring";
    /// Traefik goes on showing its default certificate.
    pub const CERT_RESOLVER_UNKNOWN: &str = "CertResolverUnknown";
    /// Slack's path was asked to be open, and the application knows no signing secret.
    pub const SIGNING_SECRET_MISSING: &str = "SigningSecretMissing";
}

/// Labels of the objects that the operator makes.
pub mod labels {
    /// Name of the stack.
    pub const STACK: &str = "odoo-ai.atmatasolutions.com/stack";
    /// Part of the stack: `ai-service`, `worker`, `beat`, `dashboard`, `postgresql`, `redis`, `migrate`, …
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// `odoo-ai-operator`.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// `odoo-ai-platform`.
    pub const PART_OF: &str = "app.kubernetes.io/part-of";
    /// Name of the stack, for tools that know the common labels.
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    /// Name of the application.
    pub const NAME: &str = "app.kubernetes.io/name";
    /// Revision that an object belongs to.
    pub const REVISION: &str = "odoo-ai.atmatasolutions.com/revision";
    /// Why a Job of a Backup runs: `Scheduled`, `Requested`, `PreMigration`, `PreRestore`.
    pub const PURPOSE: &str = "odoo-ai.atmatasolutions.com/purpose";
    /// UID of the volume whose database a Job worked on.
    pub const VOLUME: &str = "odoo-ai.atmatasolutions.com/volume";
    /// Name of the Backup.
    pub const BACKUP: &str = "odoo-ai.atmatasolutions.com/backup";
    /// Name of the Restore.
    pub const RESTORE: &str = "odoo-ai.atmatasolutions.com/restore";
    /// On a Job of a Restore: its UID. Not all of them have an owner.
    pub const RESTORE_UID: &str = "odoo-ai.atmatasolutions.com/restore-uid";
}

/// Annotations: requests by users, and the operator's own notes.
pub mod annotations {
    /// Request: the revision that a person approves. Counted once.
    pub const APPROVED_REVISION: &str = "odoo-ai.atmatasolutions.com/approved-revision";
    /// Request: the revision whose migration a person approves, where `migrations.policy` is Manual. Counted once.
    pub const APPROVED_MIGRATION: &str = "odoo-ai.atmatasolutions.com/approved-migration";
    /// Who approved; the chart's admission policy binds it to the user of the request.
    pub const APPROVED_BY: &str = "odoo-ai.atmatasolutions.com/approved-by";
    /// Request: try the failed revision again, or a Restore whose databases didn't change places. Any new value, for
    /// example a time.
    pub const RETRY_REQUESTED_AT: &str = "odoo-ai.atmatasolutions.com/retry-requested-at";
    /// Request: roll back to the revision named by `rollback-to`. Any new value, for example a time.
    pub const ROLLBACK_REQUESTED_AT: &str = "odoo-ai.atmatasolutions.com/rollback-requested-at";
    /// The revision that a requested rollback goes to; without it, the current one.
    pub const ROLLBACK_TO: &str = "odoo-ai.atmatasolutions.com/rollback-to";
    /// On a stack, by whoever saved its generated keys outside the cluster: their digest, as docs/secrets.md makes it.
    pub const KEYS_EXPORTED: &str = "odoo-ai.atmatasolutions.com/keys-exported";
    /// Request on a Backup: run now. Any new value. A stack asks so before a migration.
    pub const BACKUP_REQUESTED_AT: &str = "odoo-ai.atmatasolutions.com/backup-requested-at";
    /// Request on a FeatureFlag that is Disabled: disable its rule in the database where the API can't be asked. Any new
    /// value.
    pub const DISABLE_REQUESTED_AT: &str = "odoo-ai.atmatasolutions.com/disable-requested-at";
    /// Request on a Restore that replaced the database: make the replaced one live again. Any new value, for example a
    /// time.
    pub const UNDO_REQUESTED_AT: &str = "odoo-ai.atmatasolutions.com/undo-requested-at";
    /// Request on a Backup: verify now. Any new value.
    pub const VERIFY_REQUESTED_AT: &str = "odoo-ai.atmatasolutions.com/verify-requested-at";

    /// On the database's volume: `Pending` until the rules that a new database was seeded with are disabled, then
    /// `Passed`. It stays with the data when the stack is deleted. For an External database it is on beat's volume.
    pub const RULES_GATE: &str = "odoo-ai.atmatasolutions.com/rules-gate";
    /// On beat's volume, beside [`RULES_GATE`]: which External database that is about.
    pub const DATABASE_IDENTITY: &str = "odoo-ai.atmatasolutions.com/database-identity";
    /// On the database's volume: the major version of PostgreSQL whose files it holds.
    pub const DATABASE_MAJOR_VERSION: &str = "odoo-ai.atmatasolutions.com/database-major-version";
    /// On the database's volume: the numeric user that owns its files.
    pub const DATABASE_USER: &str = "odoo-ai.atmatasolutions.com/database-user";
    /// On the database's volume: the C library of the image that made its indexes, `glibc` or `musl`.
    pub const DATABASE_LIBC: &str = "odoo-ai.atmatasolutions.com/database-libc";
    /// On a bootstrap Job: digest of the backup that it restores, and of where that is.
    pub const BOOTSTRAP_SOURCE: &str = "odoo-ai.atmatasolutions.com/bootstrap-source";
    /// On a plan or migrate Job: when the rollout started that it is part of; its result counts for no other one.
    pub const ROLLOUT_STARTED_AT: &str = "odoo-ai.atmatasolutions.com/rollout-started-at";
    /// On a migrate Job: whether a backup had to come first when it was made, `Required` or `Never`; with one, the
    /// artifact's id.
    pub const MIGRATION_BACKUP: &str = "odoo-ai.atmatasolutions.com/migration-backup";
    /// Finalizer of a Backup whose artifacts go with it (`deletionPolicy: Delete`).
    pub const ARTIFACTS_FINALIZER: &str = "odoo-ai.atmatasolutions.com/artifacts";
    /// Finalizer of a FeatureFlag whose rule is disabled or deleted with it.
    pub const RULE_FINALIZER: &str = "odoo-ai.atmatasolutions.com/rule";
    /// Finalizer of a Restore that has not ended: what it began goes with it.
    pub const RESTORE_FINALIZER: &str = "odoo-ai.atmatasolutions.com/restore";
    /// On a Job of a Backup: digest of where its catalogue is.
    pub const BACKUP_LOCATION: &str = "odoo-ai.atmatasolutions.com/backup-location";
    /// On a Job of a Backup: the request that it answers.
    pub const BACKUP_REQUEST: &str = "odoo-ai.atmatasolutions.com/backup-request";
    /// Hash of the intent that was applied last.
    pub const APPLIED_HASH: &str = "odoo-ai.atmatasolutions.com/applied-hash";
    /// Revision of a pod template.
    pub const REVISION: &str = "odoo-ai.atmatasolutions.com/revision";
    /// Generation of the credentials that a pod was started with.
    pub const CREDENTIALS_GENERATION: &str = "odoo-ai.atmatasolutions.com/credentials-generation";
}

/// Value of [`labels::MANAGED_BY`].
pub const MANAGED_BY: &str = "odoo-ai-operator";
/// Value of [`labels::PART_OF`].
pub const PART_OF: &str = "odoo-ai-platform";
