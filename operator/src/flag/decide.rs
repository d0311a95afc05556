//! The decision: what the status says now, and what is written. A plain function of what was observed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::flag::{AdoptionPolicy, DriftPolicy, FeatureFlagStatus, RuleIdentity};
use serde_json::{Map, Value};

use super::effective::effective;
use super::guard::Audit;
use super::observe::{Observed, Seen, Unseen};
use super::{disable, guard, matching};
use crate::cluster::status::{Tri, Verdict};
use crate::rules::Rule;

/// A rule that was asked for and isn't there is waited for so long: an application that hangs may add it later.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(1);

/// Of a request that may have been done all the same.
pub const UNANSWERED: [&str; 2] = [reasons::UNREACHABLE, reasons::APPLICATION_FAILING];

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status, but for its conditions.
    pub status: FeatureFlagStatus,
    /// What the condition `Synced` says.
    pub synced: Verdict,
    /// Only a person can change it; `None`: as it was, because the rules weren't seen.
    pub stalled: Option<bool>,
    /// What is written.
    pub write: Option<Write>,
    /// It was as declared, and isn't any more.
    pub drifted: bool,
    /// What the condition `WithinErrorRate` says; `None`: nothing new.
    pub guard: Option<Verdict>,
    /// Name of the Job to start that disables the rule in the database.
    pub disable: Option<String>,
    /// Name prefix of the Jobs that may do so now; others are ended.
    pub jobs: Option<String>,
    /// A request to disable the rule goes to the database where `write` fails.
    pub or_in_the_database: bool,
}

/// A change of the application's rules.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// A new rule.
    Create(Map<String, Value>),
    /// All of an existing one.
    Replace(i64, Map<String, Value>),
}

/// Decides. `rules`: those of the stack, or why they aren't known; `audit`: what is known of the rule's runs.
#[must_use]
pub fn decide(flag: &Observed, rules: &Result<Seen, Unseen>, audit: &Audit) -> Decision {
    let mut decision = sync(flag, rules, audit);
    disable::answer(flag, rules, &mut decision);
    disable::hold_back(flag, &mut decision);
    decision
}

fn sync(flag: &Observed, rules: &Result<Seen, Unseen>, audit: &Audit) -> Decision {
    let mut status = flag.status();
    if status.observed_generation != Some(flag.generation()) {
        // A status keeps whole seconds: the next one, so that no earlier run counts.
        let next = Timestamp::from_second(flag.now.as_second() + 1).unwrap_or(flag.now);
        status.spec_changed_at = Some(Time(next));
    }
    status.observed_generation = Some(flag.generation());
    let decision = |status, synced| Decision {
        status,
        synced,
        stalled: Some(false),
        write: None,
        drifted: false,
        guard: None,
        disable: None,
        jobs: None,
        or_in_the_database: false,
    };
    let stalled = |status, reason, message: String| Decision {
        stalled: Some(true),
        ..decision(status, Verdict::new(false, reason, message))
    };
    if let Some(rival) = &flag.rival {
        let message = format!("the older FeatureFlag {rival} declares the same rule; delete one of the two");
        return stalled(status, reasons::CONFLICT, message);
    }
    let seen = match rules {
        Ok(seen) => seen,
        Err(unseen) => return Decision { stalled: None, ..decision(status, unseen.verdict()) },
    };
    guard::take(flag, &mut status, audit);
    status.effective = Some(effective(&seen.rules, &flag.object.spec.rule.automation_type));
    let found = matching::of(&seen.rules, &flag.object.spec.rule, status.rule_id);
    if let [_, _, ..] = found[..] {
        let ids: Vec<_> = found.iter().map(|rule| rule.id.to_string()).collect();
        let message = format!(
            "the application has this rule {} times (ids {}); delete all but one of them there",
            ids.len(),
            ids.join(", ")
        );
        return stalled(status, reasons::DUPLICATE_RULES, message);
    }
    let existing = found.first().copied();
    let adopts = flag.object.spec.adoption_policy != Some(AdoptionPolicy::Refuse);
    let ours = |rule: &Rule| status.rule_id == Some(rule.id) || status.creation_requested_at.is_some();
    if let Some(rule) = existing.filter(|rule| !adopts && !ours(rule)) {
        let message = format!("rule {} exists already, and adoptionPolicy is Refuse", rule.id);
        return stalled(status, reasons::RULE_EXISTS, message);
    }
    if flag.object.spec.suspend {
        let message = "spec.suspend is true: the rule is left alone";
        return decision(status, Verdict::new(Tri::Unknown, reasons::SUSPENDED, message));
    }
    let guard = guard::verdict(flag, &status, audit);
    let decision = |synced| Decision { guard, ..decision(status, synced) };
    let Some(rule) = existing else {
        let message = format!("the rule is added{}", beside(&seen.rules, &flag.object.spec.rule));
        return create(flag, decision(Verdict::new(Tri::Unknown, reasons::PROGRESSING, message)));
    };
    keep(flag, seen, rule, decision(synced(rule)))
}

/// Rules of the same type and action have other names: perhaps one of them was meant.
fn beside(rules: &[Rule], identity: &RuleIdentity) -> String {
    let same =
        |rule: &&Rule| rule.automation_type == identity.automation_type && rule.action_name == identity.action_name;
    let others: Vec<_> = rules.iter().filter(same).map(|rule| format!("{:?} (id {})", rule.name, rule.id)).collect();
    if others.is_empty() {
        return String::new();
    }
    format!(
        " beside others of its type and action: {}; if one of them was meant, make a flag with its name",
        others.join(", ")
    )
}

fn synced(rule: &Rule) -> Verdict {
    let state = if rule.enabled { "enabled" } else { "disabled" };
    Verdict::new(true, reasons::SYNCED, format!("rule {} is as declared: {state}", rule.id))
}

/// The rule is there: it is as declared, or written again.
fn keep(flag: &Observed, seen: &Seen, rule: &Rule, mut decision: Decision) -> Decision {
    let (spec, generation) = (&flag.object.spec, Some(flag.generation()));
    let was_synced = decision.status.synced_generation == generation && decision.status.rule_id == Some(rule.id);
    decision.status.rule_id = Some(rule.id);
    decision.status.creation_requested_at = None;
    let enabled = is_enabled(flag, &decision.status);
    let wanted = matching::wanted(spec, enabled, Some(rule));
    let differences = matching::differences(rule, &wanted);
    if differences.is_empty() {
        decision.status.synced_generation = generation;
        return decision;
    }
    let fields = differences.join(", ");
    // What the guard disables is no drift.
    let drifted = was_synced && enabled == matching::is_enabled(spec);
    if drifted && spec.drift_policy == Some(DriftPolicy::Warn) {
        let message = format!("rule {} was edited in the application ({fields}), and driftPolicy is Warn", rule.id);
        decision.synced = Verdict::new(false, reasons::DRIFTED, message);
    } else if seen.wrote.as_ref() == Some(&wanted) {
        let message = format!(
            "rule {} was written a moment ago and is not as it was written ({fields}): the application doesn't take it, or somebody else writes it too",
            rule.id
        );
        decision.synced = Verdict::new(false, reasons::REJECTED, message);
    } else {
        let message = format!("rule {} is written ({fields})", rule.id);
        decision.synced = Verdict::new(Tri::Unknown, reasons::PROGRESSING, message);
        decision.write = Some(Write::Replace(rule.id, wanted));
        decision.drifted = drifted;
    }
    decision
}

/// The rule is to act: it is declared to, and its runs don't fail too often.
#[must_use]
pub fn is_enabled(flag: &Observed, status: &FeatureFlagStatus) -> bool {
    matching::is_enabled(&flag.object.spec) && !guard::is_breached(flag, status)
}

/// The rule isn't there: it is added, but not while it may be on its way.
fn create(flag: &Observed, mut decision: Decision) -> Decision {
    let spec = &flag.object.spec;
    let was_there = decision.status.synced_generation == Some(flag.generation());
    if was_there && spec.drift_policy == Some(DriftPolicy::Warn) {
        let message = "the rule was deleted in the application, and driftPolicy is Warn";
        decision.synced = Verdict::new(false, reasons::DRIFTED, message);
        return decision;
    }
    let requested = decision.status.creation_requested_at.as_ref().map(|time| time.0);
    if requested.is_some_and(|requested| requested.duration_until(flag.now) < PATIENCE) {
        let message = "the rule was asked for a moment ago, and the application doesn't list it yet";
        let waits = || Verdict::new(Tri::Unknown, reasons::PROGRESSING, message);
        decision.synced = unanswered(flag).unwrap_or_else(waits);
        return decision;
    }
    decision.status.rule_id = None;
    decision.status.creation_requested_at = Some(Time(flag.now));
    let enabled = is_enabled(flag, &decision.status);
    decision.write = Some(Write::Create(matching::wanted(spec, enabled, None)));
    decision.drifted = was_there;
    decision
}

/// What was said of a request that nobody answered: as long as it is waited for, nothing else is known.
fn unanswered(flag: &Observed) -> Option<Verdict> {
    let conditions = flag.status().conditions;
    let synced = conditions.into_iter().find(|it| it.type_ == types::SYNCED)?;
    let says = synced.status == "False" && synced.observed_generation == Some(flag.generation());
    let reason = UNANSWERED.into_iter().find(|reason| *reason == synced.reason)?;
    says.then(|| Verdict::new(false, reason, synced.message))
}
