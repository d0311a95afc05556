//! The step `PreRestoreBackup`: the live database is backed up before it is replaced, unless the stack says that nothing
//! is backed up before it changes. The request is in the status before it is made.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::restore::{PreRestoreBackup, Restore, RestoreStatus};

use super::steps::{Says, Scene};
use crate::backup::ask::{self, Answer, Request};
use crate::cluster::status::{Tri, Verdict};

/// What is asked for, for people.
const WHAT: &str = "the backup before the restore";
/// What stands before the name of the Restore in a request, and after it.
const MARKS: (&str, char) = ("restore/", '/');

/// How far it is.
pub fn step(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    let Scene { seen, plan } = *scene;
    if !plan.stack.backup_required || status.pre_restore_backup.as_ref().is_some_and(|asked| asked.id.is_some()) {
        return Says::Done;
    }
    let usable = |backup: &&Backup| {
        backup.spec.stack_ref.name == plan.stack.name && backup.metadata.deletion_timestamp.is_none()
    };
    let Some(backup) = seen.around.before.as_deref().filter(usable) else {
        let message = format!(
            "a backup must come before the database is replaced, and there is no Backup of the stack {} to ask: name one in its migrations.backupRef, or set migrations.backup to Never",
            plan.stack.name
        );
        return Says::stalled(reasons::BACKUP_NOT_CONFIGURED, message);
    };
    let asked = status.pre_restore_backup.clone().filter(|asked| asked.backup == backup.name_any());
    let Some(asked) = asked else { return request(scene, status, backup, 1) };
    let said = ask::answer(backup, &Request { id: &asked.request_id, attempt: asked.attempt }, WHAT, seen.now);
    let waits = |message| Verdict::new(Tri::Unknown, reasons::BACKING_UP, message);
    match said {
        Answer::Made(artifact) => {
            status.pre_restore_backup = Some(PreRestoreBackup { id: Some(artifact.id.clone()), ..asked });
            Says::Done
        }
        Answer::Again => request(scene, status, backup, asked.attempt + 1),
        Answer::Waits(message) if ask::is_missing(backup, &asked.request_id) => {
            Says::Ask(asked.backup, asked.request_id, waits(message))
        }
        Answer::Waits(message) => Says::Wait(waits(message)),
        Answer::Failed(message) => {
            let way = "to go on without a backup set migrations.backup of the stack to Never";
            Says::wait(reasons::BACKUP_FAILED, format!("{message}; {way}"))
        }
    }
}

fn request(scene: &Scene<'_>, status: &mut RestoreStatus, backup: &Backup, attempt: i32) -> Says {
    let (name, now) = (backup.name_any(), scene.seen.now);
    let (before, after) = MARKS;
    let request_id = format!("{before}{}{after}{}-{attempt}", scene.plan.name, now.strftime("%Y%m%dT%H%M%SZ"));
    let message = format!("Backup {name} is asked for a backup");
    let requested_at = Some(Time(now));
    status.pre_restore_backup = Some(PreRestoreBackup { backup: name, request_id, attempt, requested_at, id: None });
    Says::wait(reasons::BACKING_UP, message)
}

/// Name of the Restore that a request says it is of.
#[must_use]
pub fn of_request(request: &str) -> Option<&str> {
    let (before, after) = MARKS;
    let name = request.strip_prefix(before)?.rsplit_once(after)?.0;
    // An annotation may say anything.
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ['-', '.'].contains(&c);
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

/// The Restore has noted this request: it is its own.
#[must_use]
pub fn is_noted(restore: &Restore, backup: &str, request: &str) -> bool {
    let asked = restore.status.as_ref().and_then(|status| status.pre_restore_backup.as_ref());
    asked.is_some_and(|asked| asked.backup == backup && asked.request_id == request)
}
