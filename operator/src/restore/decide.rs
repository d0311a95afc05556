//! The decision: what the status says now, and which Job is started. A plain function of what was observed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::restore::{RestoreStatus, RestoreStep};
use odoo_ai_crds::stack::OdooAiStack;

use super::build::Task;
use super::model::{Plan, Wanted};
use super::observe::Observed;
use super::steps::{Says, Scene, numbered, table};
use super::{ended, is_in_place, live, validate};
use crate::cluster::status::{Tri, Verdict};
use crate::stack::model::Operator;

/// What to do now.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The status, but for its conditions.
    pub status: RestoreStatus,
    /// What the condition `Complete` says.
    pub complete: Verdict,
    /// Only a person can change it.
    pub stalled: bool,
    /// The restore, unless it ended or its spec is refused.
    pub plan: Option<Box<Plan>>,
    /// The Job to create, and its number.
    pub start: Option<(Task, u32)>,
    /// The Backup to ask before the database is replaced, and the request.
    pub ask: Option<(String, String)>,
}

impl Decision {
    fn new(status: RestoreStatus, complete: Verdict) -> Self {
        Self { status, complete, stalled: false, plan: None, start: None, ask: None }
    }
}

/// Decides.
#[must_use]
pub fn decide(seen: &Observed, operator: &Operator) -> Decision {
    let mut status = seen.status();
    if let Some(complete) = told(seen, &status).filter(|_| !is_in_place(&seen.object)) {
        // It runs once: nothing is said anew of what came of it.
        return Decision::new(status, complete);
    }
    let over = status.completed_at.is_some();
    let plan = match validate::plan(seen, operator) {
        Ok(plan) => Box::new(plan),
        Err(_) if over => return Decision::new(status.clone(), ended::result(&status)),
        Err(problem) => {
            status.observed_generation = Some(seen.generation());
            let known = if problem.stalled { Tri::False } else { Tri::Unknown };
            let complete = Verdict::new(known, problem.reason, problem.message);
            return Decision { stalled: problem.stalled, ..Decision::new(status, complete) };
        }
    };
    status.observed_generation = Some(seen.generation());
    let decision = match gate(seen, &plan, &status) {
        Some(waits) => Decision::new(status, waits),
        None => go(&Scene { seen, plan: &plan }, status),
    };
    Decision { plan: Some(plan), ..decision }
}

/// What came of it, once it has.
fn told(seen: &Observed, status: &RestoreStatus) -> Option<Verdict> {
    status.completed_at.as_ref()?;
    let status = seen.object.status.as_ref()?;
    let complete = status.conditions.iter().find(|it| it.type_ == types::COMPLETE)?;
    Some(Verdict::new(complete.status == "True", &complete.reason, complete.message.clone()))
}

/// What must be so before it begins.
fn gate(seen: &Observed, plan: &Plan, status: &RestoreStatus) -> Option<Verdict> {
    if status.started_at.is_some() {
        return None;
    }
    let name = &plan.stack.name;
    let unknown = |reason, message| Some(Verdict::new(Tri::Unknown, reason, message));
    if plan.replaced.is_some()
        && let Err((reason, message)) = confirmed(seen, plan)
    {
        return unknown(reason, message);
    }
    if let Some(job) = &seen.backing_up {
        let message = format!("Job {job} makes a backup, and may remove an old one; its end is waited for");
        return unknown(reasons::WAITING_FOR_BACKUP, message);
    }
    let (ready, why) = database(seen.stack.as_ref());
    if !ready {
        let message = format!("the database of the OdooAiStack {name} is waited for: {why}");
        return unknown(reasons::DATABASE_NOT_READY, message);
    }
    plan.replaced.as_ref()?;
    if seen.around.current.is_none() {
        let message = format!("no revision of the OdooAiStack {name} runs yet");
        return unknown(reasons::WAITING_FOR_ROLLOUT, message);
    }
    if let Some(why) = seen.stack.as_ref().and_then(|stack| live::stays(stack.status.as_ref()?)) {
        return unknown(reasons::WAITING_FOR_ROLLOUT, why);
    }
    let other = seen.around.others.first()?;
    unknown(reasons::WAITING_FOR_RESTORE, other.is_waited_for())
}

/// A person means this backup and this database.
fn confirmed(seen: &Observed, plan: &Plan) -> Result<(), (&'static str, String)> {
    let Some(live) = seen.live() else {
        let message = format!("which database the OdooAiStack {} has isn't known yet", plan.stack.name);
        return Err((reasons::NOT_OBSERVED, message));
    };
    let wanted = format!("{}/{}/{live}", plan.stack.name, plan.wanted.name());
    let replaces = format!("{} replaces the database {}", plan.wanted.name(), plan.stack.connection.database);
    let what = format!("set spec.confirm to {wanted}, and {replaces}, which is kept under another name");
    match &seen.object.spec.confirm {
        Some(given) if *given == wanted => Ok(()),
        Some(given) => {
            let why = "another backup or another database was meant, and nothing is done";
            Err((
                reasons::CONFIRMATION_MISMATCH,
                format!("spec.confirm is {given}: {why}. If it is meant all the same: {what}"),
            ))
        }
        None => Err((reasons::AWAITING_CONFIRMATION, format!("nothing is done before it is confirmed: {what}"))),
    }
}

/// The stack's database lets the application in, and what is said of it.
fn database(stack: Option<&OdooAiStack>) -> (bool, &str) {
    let conditions = stack.and_then(|stack| stack.status.as_ref()).map(|it| it.conditions.as_slice());
    let found = conditions.unwrap_or_default().iter().find(|it| it.type_ == types::DATABASE_READY);
    found.map_or((false, "nothing is known of it yet"), |it| (it.status == "True", &it.message))
}

/// Takes the present step as far as it goes.
fn go(scene: &Scene<'_>, mut status: RestoreStatus) -> Decision {
    let Scene { seen, plan } = *scene;
    if status.started_at.is_none() {
        begin(scene, &mut status);
        return at_step(scene, status);
    }
    if plan.replaced.is_some() && ended::heed(scene, &mut status) {
        return at_step(scene, status);
    }
    let says = if status.completed_at.is_some() {
        ended::expire(scene, &mut status)
    } else {
        let table = table(plan, &status);
        let row = table.iter().find(|row| Some(row.step) == status.step).unwrap_or(&table[0]);
        (row.says)(scene, &mut status)
    };
    let step = status.step.unwrap_or(RestoreStep::Load);
    let number =
        |verdict: Verdict| Verdict { message: numbered(table(plan, &status), step, &verdict.message), ..verdict };
    match says {
        Says::Done => {
            let rest = table(plan, &status).iter().skip_while(|row| row.step != step).nth(1);
            status.step = rest.map(|row| row.step);
            at_step(scene, status)
        }
        Says::Wait(verdict) => Decision::new(status.clone(), number(verdict)),
        Says::Start(task, attempt, verdict) => {
            let verdict = if seen.status().completed_at.is_some() { verdict } else { number(verdict) };
            Decision { start: Some((task, attempt)), ..Decision::new(status.clone(), verdict) }
        }
        Says::Ask(backup, request, verdict) => {
            Decision { ask: Some((backup, request)), ..Decision::new(status.clone(), number(verdict)) }
        }
        Says::Stalled(verdict) => Decision { stalled: true, ..Decision::new(status.clone(), number(verdict)) },
        Says::Ended(verdict) => Decision::new(status, verdict),
    }
}

/// It begins: from now on there may be something to be dropped, whatever is seen of it.
fn begin(scene: &Scene<'_>, status: &mut RestoreStatus) {
    let Scene { seen, plan } = *scene;
    status.started_at = Some(Time(seen.now));
    status.database = Some(plan.database.clone());
    if let Wanted::Artifact(artifact) = &plan.wanted
        && artifact.id.is_some()
    {
        status.artifact_id.clone_from(&artifact.id);
    }
    status.step = Some(table(plan, status)[0].step);
    if plan.replaced.is_some() {
        status.round = Some(1);
        status.artifact_id = Some(plan.wanted.name().chars().take(63).collect());
        status.replaced_incarnation = seen.live().cloned();
    }
}

/// A step was entered, and nothing of it is done yet.
fn at_step(scene: &Scene<'_>, status: RestoreStatus) -> Decision {
    let table = table(scene.plan, &status);
    let row = table.iter().find(|row| Some(row.step) == status.step).unwrap_or(&table[0]);
    let does = if table.len() == 1 {
        format!("a Job restores the backup into the database {}", scene.plan.database)
    } else {
        numbered(table, row.step, row.does)
    };
    Decision::new(status, Verdict::new(Tri::Unknown, row.reason, does))
}
