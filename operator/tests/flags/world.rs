//! An application with rules, flags that declare some of them, and an operator that looks at them one after the other.
//! What becomes of its requests is the test's to say.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::flag::{FeatureFlag, FeatureFlagSpec, FeatureFlagStatus};
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_operator::cluster::children::Children;
use odoo_ai_operator::cluster::status::Tri;
use odoo_ai_operator::flag::decide::{Decision, Write, decide};
use odoo_ai_operator::flag::disable::{self, Asked};
use odoo_ai_operator::flag::guard::{self, Audit};
use odoo_ai_operator::flag::observe::{self, Observed, Seen, Unseen};
use odoo_ai_operator::flag::{apply, matching, report};
use odoo_ai_operator::rules::{Error, Rule};
use odoo_ai_operator::stack::model::Operator;
use odoo_ai_operator::stack::validate;
use serde_json::{Map, Value, json};

/// What becomes of a request that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done and answered.
    Answered,
    /// Nobody answers; it was done, or not.
    Lost { done: bool },
    /// It is done half a minute later, and nobody answers.
    Late,
    /// The operator dies before the answer comes.
    Crash { done: bool },
    /// It is refused.
    Refused(u16),
}

/// A flag, and what the operator's memory has of it.
pub(crate) struct Flag {
    pub(crate) object: FeatureFlag,
    wrote: Option<(Timestamp, Map<String, Value>)>,
}

pub(crate) struct World {
    pub(crate) rules: Vec<Rule>,
    next_id: i64,
    pub(crate) now: Timestamp,
    pub(crate) flags: Vec<Flag>,
    /// Runs of the last window, for flags with a guard.
    pub(crate) audit: Audit,
    late: Vec<(Timestamp, Map<String, Value>)>,
    /// Requests that changed something.
    pub(crate) writes: usize,
    /// Status writes.
    pub(crate) told: usize,
    /// The stack's Jobs and pods.
    pub(crate) children: Children,
}

pub(crate) const RESYNC: SignedDuration = SignedDuration::from_secs(300);

/// The stack of the sample.
pub(crate) fn sample() -> OdooAiStack {
    let text = include_str!("../../../manifests/samples/local.yaml");
    let mut stack: OdooAiStack = serde_saphyr::from_str(text.split("\n---").last().expect("a stack")).expect("a stack");
    stack.metadata.uid = Some("of-the-stack".to_owned());
    stack
}

impl World {
    /// With rules as they are seeded: all enabled.
    pub(crate) fn seeded(seeds: &[(&str, &str, &str)]) -> Self {
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let mut world = Self {
            rules: vec![],
            next_id: 1,
            now,
            flags: vec![],
            late: vec![],
            audit: Audit::Runs(vec![]),
            writes: 0,
            told: 0,
            children: Children::default(),
        };
        for (name, kind, action) in seeds {
            world.add(&json!({"name": name, "automation_type": kind, "action_name": action}));
        }
        world
    }

    /// As the application adds one, with its defaults.
    pub(crate) fn add(&mut self, body: &Value) {
        let mut whole = json!({
            "id": self.next_id, "enabled": true, "confidence_threshold": 0.85, "auto_approve": false,
            "auto_approve_threshold": 0.95, "config": {}, "created_at": "2026-01-01T00:00:00", "updated_at": "2026-01-01T00:00:00",
        });
        self.next_id += 1;
        for (field, value) in body.as_object().expect("an object") {
            whole[field] = value.clone();
        }
        self.rules.push(serde_json::from_value(whole).expect("a rule"));
    }

    /// The table is emptied, and seeded again at the next start: other ids, everything enabled.
    pub(crate) fn seed_again(&mut self) {
        for rule in std::mem::take(&mut self.rules) {
            self.add(&json!({
                "name": rule.name, "automation_type": rule.automation_type, "action_name": rule.action_name,
            }));
        }
    }

    /// As the application does it: an updated row moves to the end, what is left out gets its default.
    fn replace(&mut self, id: i64, body: &Map<String, Value>) {
        let at = self.rules.iter().position(|rule| rule.id == id).expect("a rule of this id");
        self.rules.remove(at);
        let (next, mut whole) = (self.next_id, body.clone());
        whole.insert("id".to_owned(), json!(id));
        self.add(&Value::Object(whole));
        self.next_id = next;
    }

    /// Somebody edits a rule in the application.
    pub(crate) fn edit(&mut self, at: usize, change: &Value) {
        let mut body = self.rules[at].body();
        body.extend(change.as_object().expect("an object").clone());
        self.replace(self.rules[at].id, &body);
    }

    pub(crate) fn declare(&mut self, name: &str, spec: &Value) {
        let mut whole = json!({"stackRef": {"name": "odoo-ai"}});
        whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
        let mut object = FeatureFlag::new(name, serde_json::from_value(whole).expect("a spec"));
        object.metadata.namespace = Some("odoo-ai".to_owned());
        object.metadata.uid = Some(format!("of-{name}"));
        object.metadata.generation = Some(1);
        object.metadata.creation_timestamp = serde_json::from_value(json!(self.now)).expect("a time");
        self.now += SignedDuration::from_secs(1);
        self.flags.push(Flag { object, wrote: None });
    }

    /// Somebody edits a flag.
    pub(crate) fn change(&mut self, at: usize, change: impl FnOnce(&mut FeatureFlagSpec)) {
        let object = &mut self.flags[at].object;
        let before = object.spec.clone();
        change(&mut object.spec);
        if object.spec != before {
            object.metadata.generation = object.metadata.generation.map(|it| it + 1);
        }
    }

    pub(crate) fn later(&mut self, time: SignedDuration) {
        self.now += time;
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= self.now);
        self.late = later;
        let due: Vec<_> = due;
        for (_, body) in due {
            self.add(&Value::Object(body));
        }
    }

    /// The operator's process begins anew.
    pub(crate) fn restart(&mut self) {
        for flag in &mut self.flags {
            flag.wrote = None;
        }
    }

    /// A request is noted before it is answered.
    pub(crate) fn note(&mut self, at: usize) {
        if let Some(status) = disable::noted(&self.flags[at].object, self.now) {
            self.flags[at].object.status = Some(status);
            self.told += 1;
        }
    }

    /// What the operator sees of a flag now.
    pub(crate) fn observed(&self, at: usize) -> Observed {
        let object = self.flags[at].object.clone();
        let rival = observe::rival(&object, self.flags.iter().map(|flag| &flag.object));
        let asked = disable::pending(&object).map(|id| {
            let stack = validate::stack(&sample(), &Operator::default()).map(Box::new);
            Asked { id, stack: stack.map_err(|problem| problem.message) }
        });
        Observed { object, stack: None, rival, asked, children: self.children.clone(), now: self.now }
    }

    pub(crate) fn seen(&self, at: usize) -> Seen {
        let wrote = self.flags[at].wrote.as_ref();
        let wrote = wrote.filter(|(when, _)| when.duration_until(self.now) < SignedDuration::from_mins(1));
        Seen { rules: Arc::from(self.rules.clone()), wrote: wrote.map(|(_, body)| body.clone()) }
    }

    /// One look at a flag.
    pub(crate) fn look(&mut self, at: usize, fate: Fate) -> Decision {
        self.note(at);
        let flag = self.observed(at);
        let audit = if guard::is_wanted(&flag) { self.audit.clone() } else { Audit::Unwanted };
        let mut decision = decide(&flag, &Ok(self.seen(at)), &audit);
        let Some(write) = decision.write.clone() else {
            if decision.synced.status == Tri::True {
                self.flags[at].wrote = None;
            }
            self.tell(at, &flag, &decision);
            return decision;
        };
        if matches!(write, Write::Create(_)) {
            let creation_requested_at = decision.status.creation_requested_at.clone();
            self.flags[at].object.status =
                Some(FeatureFlagStatus { creation_requested_at, rule_id: None, ..flag.status() });
            self.told += 1;
        }
        self.writes += 1;
        let (Write::Create(body) | Write::Replace(_, body)) = &write;
        self.flags[at].wrote = Some((self.now, body.clone()));
        if let Write::Replace(id, body) = &write {
            let is = self.rules.iter().find(|rule| rule.id == *id).expect("what is replaced is there");
            assert!(!matching::differences(is, body).is_empty(), "a write that changes nothing");
        }
        let done = match fate {
            Fate::Answered => true,
            Fate::Lost { done } | Fate::Crash { done } => done,
            Fate::Late => {
                if matches!(write, Write::Create(_)) {
                    self.late.push((self.now + SignedDuration::from_secs(30), body.clone()));
                }
                false
            }
            Fate::Refused(_) => false,
        };
        let mut id = None;
        if done {
            match &write {
                Write::Create(body) => {
                    id = Some(self.next_id);
                    self.add(&Value::Object(body.clone()));
                }
                Write::Replace(id, body) => self.replace(*id, body),
            }
        }
        if matches!(fate, Fate::Crash { .. }) {
            self.restart();
            return decision;
        }
        if fate == Fate::Answered && id.is_some() {
            decision.status.rule_id = id;
        }
        if fate != Fate::Answered {
            self.flags[at].wrote = None;
        }
        let refused = match fate {
            Fate::Refused(status) => Some(Error::Refused { request: String::new(), status, body: String::new() }),
            _ => None,
        };
        if refused.as_ref().is_some_and(Error::is_final) && matches!(write, Write::Create(_)) {
            decision.status.creation_requested_at = None;
        }
        self.say(at, &flag, &decision, refused.as_ref());
        decision
    }

    /// The application can't be asked.
    pub(crate) fn look_in_vain(&mut self, at: usize, error: Error) -> Decision {
        self.note(at);
        let flag = self.observed(at);
        let decision = decide(&flag, &Err(Unseen::Failed(error)), &Audit::Unwanted);
        self.tell(at, &flag, &decision);
        decision
    }

    fn tell(&mut self, at: usize, flag: &Observed, decision: &Decision) {
        self.say(at, flag, decision, None);
    }

    fn say(&mut self, at: usize, flag: &Observed, decision: &Decision, failed: Option<&Error>) {
        let status = report::status(flag, decision, failed.map(|error| apply::verdict(error, decision.write.as_ref())));
        if self.flags[at].object.status.as_ref() != Some(&status) {
            self.told += 1;
            self.flags[at].object.status = Some(status);
        }
    }

    /// Everybody looks until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..20 {
            let before = (self.writes, self.told);
            self.later(SignedDuration::from_secs(90));
            for at in 0..self.flags.len() {
                self.look(at, Fate::Answered);
            }
            if before == (self.writes, self.told) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Rules of the flag's identity.
    pub(crate) fn of(&self, at: usize) -> Vec<&Rule> {
        matching::of(&self.rules, &self.flags[at].object.spec.rule, None)
    }

    /// Status and reason of a condition.
    pub(crate) fn says(&self, at: usize, kind: &str) -> (String, String) {
        let status = self.flags[at].object.status.clone().unwrap_or_default();
        let found = status.conditions.into_iter().find(|it| it.type_ == kind).expect("a condition");
        (found.status, found.reason)
    }
}
