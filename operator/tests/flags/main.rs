//! What a flag makes of the application's rules, without a cluster: single cases, and any course of things.

mod disable;
mod world;

use std::collections::BTreeSet;

use k8s_openapi::jiff::SignedDuration;
use odoo_ai_crds::flag::{AdoptionPolicy, DriftPolicy, FlagDeletionPolicy, FlagState};
use odoo_ai_crds::stack::{OdooAiStack, OdooAiStackSpec};
use odoo_ai_operator::flag::decide::Write;
use odoo_ai_operator::flag::guard::{self, Audit};
use odoo_ai_operator::flag::matching;
use odoo_ai_operator::flag::observe::Unseen;
use odoo_ai_operator::flag::remove::{Step, step};
use odoo_ai_operator::rules::Error;
use odoo_ai_operator::rules::audit::Run;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rstest::rstest;
use serde_json::{Value, json};
use world::{Fate, RESYNC, World};

const SEEDS: [(&str, &str, &str); 3] = [
    ("Credit check", "credit_management", "credit_check"),
    ("Credit scores", "credit_management", "calculate_scores"),
    ("Lead score", "crm", "score_lead"),
];
const MONTH_END: (&str, &str, &str) = ("Month end", "month_end", "close_period");

fn rule((name, kind, action): (&str, &str, &str)) -> Value {
    json!({"name": name, "automationType": kind, "actionName": action})
}

fn world() -> World {
    World::seeded(&SEEDS)
}

fn one(spec: &Value) -> World {
    let mut world = world();
    let mut whole = json!({"rule": rule(SEEDS[0])});
    whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    world.declare("flag", &whole);
    world
}

fn pair(one: &str, other: &str) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

#[test]
fn a_seeded_rule_is_taken_over_and_disabled() {
    let mut world = one(&json!({"config": {"limit": 5}, "confidenceThresholdPercent": 90}));
    world.settle();
    assert_eq!(world.writes, 1);
    let rule = world.of(0)[0];
    assert!(!rule.enabled);
    assert_eq!((&rule.rest["config"], &rule.rest["confidence_threshold"]), (&json!({"limit": 5}), &json!(0.9)));
    assert_eq!(world.says(0, "Ready"), pair("True", "Synced"));
    // Another rule of its type is on.
    assert_eq!(world.says(0, "Effective"), pair("False", "EnabledByOtherRules"));
    let effective = world.flags[0].object.status.clone().and_then(|it| it.effective).expect("effective");
    assert_eq!(
        (effective.because_of, effective.models),
        (vec!["Credit scores".to_owned()], vec!["sale.order".to_owned()])
    );
}

#[test]
fn a_rule_that_is_not_there_is_added_once() {
    let mut world = world();
    world.declare("flag", &json!({"rule": rule(MONTH_END), "state": "Enabled"}));
    world.settle();
    assert_eq!((world.writes, world.of(0).len(), world.of(0)[0].enabled), (1, 1, true));
    assert_eq!(world.says(0, "Effective"), pair("True", "AsDeclared"));
}

#[test]
fn a_request_that_nobody_answers_is_told_once() {
    let mut world = world();
    world.declare("flag", &json!({"rule": rule(MONTH_END)}));
    world.look(0, Fate::Refused(503));
    let (told, says) = (world.told, world.says(0, "Synced"));
    assert_eq!(says, pair("False", "ApplicationFailing"));
    for _ in 0..4 {
        world.later(SignedDuration::from_secs(10));
        assert!(world.look(0, Fate::Answered).write.is_none());
        assert_eq!((world.told, world.says(0, "Synced")), (told, says.clone()), "nothing is new");
    }
    world.settle();
    assert_eq!((world.says(0, "Synced").0.as_str(), world.of(0).len()), ("True", 1));
}

#[test]
fn a_name_that_is_not_quite_the_seeded_one_is_told() {
    let mut world = world();
    let (name, kind, action) = SEEDS[0];
    world.declare("flag", &json!({"rule": rule(("Not quite", kind, action))}));
    let told = world.look(0, Fate::Answered).synced.message;
    assert!(told.contains(&format!("beside others of its type and action: {name:?} (id 1)")), "{told}");
}

#[rstest]
#[case::the_answer_is_lost(Fate::Lost { done: true }, 1)]
#[case::the_request_is_lost(Fate::Lost { done: false }, 2)]
#[case::it_comes_late(Fate::Late, 1)]
#[case::a_crash_after_it(Fate::Crash { done: true }, 1)]
#[case::a_crash_before_it(Fate::Crash { done: false }, 2)]
#[case::it_is_refused(Fate::Refused(500), 2)]
fn never_two_of_a_rule(#[case] fate: Fate, #[case] writes: usize) {
    let mut world = world();
    // It was never there before, and may not be taken over: what is found since is its own.
    world.declare("flag", &json!({"rule": rule(MONTH_END), "adoptionPolicy": "Refuse"}));
    world.look(0, fate);
    for _ in 0..5 {
        world.later(SignedDuration::from_secs(5));
        world.look(0, Fate::Answered);
    }
    world.settle();
    assert_eq!((world.of(0).len(), world.writes), (1, writes));
    assert_eq!(world.says(0, "Ready"), pair("True", "Synced"));
}

#[test]
fn a_rule_that_is_refused_is_told_and_tried_again() {
    let mut world = world();
    world.declare("flag", &json!({"rule": rule(("Stars", "astrology", "read_stars"))}));
    for tries in 1..5 {
        world.later(SignedDuration::from_secs(2));
        world.look(0, Fate::Refused(500));
        assert_eq!((world.writes, world.says(0, "Ready")), (tries, pair("False", "Rejected")));
    }
    let before = world.says(0, "Ready");
    // While it is tried again it says the same.
    world.look(0, Fate::Crash { done: false });
    assert_eq!(world.says(0, "Ready"), before);
    world.later(SignedDuration::from_mins(2));
    world.settle();
    assert_eq!(world.says(0, "Ready"), pair("True", "Synced"));
}

#[test]
fn a_rule_of_somebody_else_is_left_where_it_may_not_be_taken_over() {
    let mut world = one(&json!({"adoptionPolicy": "Refuse"}));
    world.settle();
    assert_eq!((world.writes, world.says(0, "Stalled")), (0, pair("True", "RuleExists")));
    world.change(0, |spec| spec.adoption_policy = Some(AdoptionPolicy::Adopt));
    world.settle();
    assert_eq!((world.writes, world.says(0, "Stalled").0.as_str()), (1, "False"));
}

#[test]
fn of_two_flags_the_older_wins() {
    let mut world = one(&json!({"state": "Enabled"}));
    world.declare("second", &json!({"rule": rule(SEEDS[0])}));
    world.settle();
    assert_eq!((world.writes, world.of(0)[0].enabled), (0, true));
    assert_eq!(world.says(1, "Stalled"), pair("True", "Conflict"));
    world.flags.remove(0);
    world.settle();
    assert_eq!((world.writes, world.of(0)[0].enabled), (1, false));
}

#[test]
fn a_rule_that_is_there_twice_is_nobodys_to_choose() {
    let mut world = one(&json!({}));
    world.add(&json!({"name": SEEDS[0].0, "automation_type": SEEDS[0].1, "action_name": SEEDS[0].2}));
    let decision = world.look(0, Fate::Answered);
    assert!(decision.stalled == Some(true) && decision.synced.message.contains("(ids 1, 4)"), "{decision:?}");
    assert_eq!(world.writes, 0);
}

#[test]
fn what_somebody_edits_is_put_back_or_told() {
    let mut world = one(&json!({}));
    world.settle();
    let at = world.rules.iter().position(|rule| rule.name == SEEDS[0].0).expect("it");
    world.edit(at, &json!({"enabled": true, "auto_approve_threshold": 0.5}));
    world.later(RESYNC);
    assert!(world.look(0, Fate::Answered).drifted);
    world.settle();
    let rule = world.of(0)[0];
    assert_eq!((rule.enabled, &rule.rest["auto_approve_threshold"]), (false, &json!(0.5)), "what it doesn't own stays");

    world.change(0, |spec| spec.drift_policy = Some(DriftPolicy::Warn));
    world.settle();
    let (writes, at) = (world.writes, world.rules.iter().position(|rule| rule.name == SEEDS[0].0).expect("it"));
    world.edit(at, &json!({"enabled": true}));
    world.settle();
    assert_eq!((world.writes, world.says(0, "Synced")), (writes, pair("False", "Drifted")));
    world.change(0, |spec| spec.auto_approve = Some(true));
    world.settle();
    assert_eq!(
        (world.of(0)[0].enabled, world.says(0, "Synced").0.as_str()),
        (false, "True"),
        "another spec is applied"
    );
}

/// A rule that is to be off isn't left on because one answer was lost.
#[rstest]
#[case(Fate::Lost { done: false })]
#[case(Fate::Refused(503))]
fn a_lost_write_is_tried_again_soon(#[case] fate: Fate) {
    let mut world = one(&json!({}));
    world.look(0, fate);
    world.later(SignedDuration::from_secs(15));
    world.look(0, Fate::Answered);
    assert!(!world.of(0)[0].enabled);
}

/// The same edit again is put back again, however soon.
#[test]
fn an_edit_soon_after_a_write_is_put_back() {
    let mut world = one(&json!({}));
    for _ in 0..3 {
        world.look(0, Fate::Answered);
        world.later(SignedDuration::from_secs(2));
        world.look(0, Fate::Answered);
        assert_eq!(world.says(0, "Synced").0, "True");
        let at = world.rules.iter().position(|rule| rule.name == SEEDS[0].0).expect("it");
        world.edit(at, &json!({"enabled": true}));
    }
    assert_eq!(world.writes, 3);
}

#[test]
fn what_fails_while_the_stack_is_not_well_is_nobodys_fault() {
    let stack = |conditions: Value| {
        let mut stack = OdooAiStack::new("odoo-ai", OdooAiStackSpec::default());
        let condition = |(kind, status, at): (&str, &str, &str)| json!({"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": at});
        let all: Vec<(String, String, String)> = serde_json::from_value(conditions).expect("triples");
        let all: Vec<_> = all.iter().map(|(kind, status, at)| condition((kind, status, at))).collect();
        stack.status = serde_json::from_value(json!({"conditions": all})).expect("a status");
        guard::well_since(&stack).map(|time| time.to_string())
    };
    let (early, late) = ("2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z");
    assert_eq!(stack(json!([["Ready", "True", early]])).as_deref(), Some(early));
    assert_eq!(stack(json!([["Ready", "False", early]])), None);
    assert_eq!(stack(json!([["Ready", "True", early], ["OdooReachable", "False", late]])), None);
    assert_eq!(stack(json!([["Ready", "True", early], ["OdooReachable", "True", late]])).as_deref(), Some(late));
}

#[test]
fn a_renamed_rule_gets_its_name_back_and_an_id_of_another_is_not_its() {
    let mut world = one(&json!({}));
    world.settle();
    let at = world.rules.iter().position(|rule| rule.name == SEEDS[0].0).expect("it");
    world.edit(at, &json!({"name": "Kreditprüfung"}));
    world.settle();
    assert_eq!((world.rules.len(), world.of(0).len()), (3, 1));
    world.seed_again();
    world.settle();
    assert_eq!((world.rules.len(), world.of(0).len(), world.of(0)[0].enabled), (3, 1, false));
    assert_eq!(world.rules.iter().filter(|rule| rule.enabled).count(), 2, "others are as they were seeded");
}

#[test]
fn an_application_that_keeps_it_otherwise_is_not_written_again_and_again() {
    let mut world = one(&json!({"confidenceThresholdPercent": 90}));
    for _ in 0..10 {
        world.look(0, Fate::Answered);
        let at = world.rules.iter().position(|rule| rule.name == SEEDS[0].0).expect("it");
        world.edit(at, &json!({"confidence_threshold": 0.9001}));
        world.later(SignedDuration::from_secs(1));
    }
    assert_eq!((world.writes, world.says(0, "Synced")), (1, pair("False", "Rejected")));
}

#[rstest]
#[case(Error::NoAnswer("connection refused".to_owned()), "Unreachable")]
#[case(Error::Refused { request: "GET /api/rules".to_owned(), status: 401, body: String::new() }, "Unauthorized")]
#[case(Error::Refused { request: "GET /api/rules".to_owned(), status: 503, body: String::new() }, "ApplicationFailing")]
#[case(Error::Unreadable { request: "GET /api/rules".to_owned(), why: "html".to_owned(), body: String::new() }, "UnexpectedAnswer")]
fn an_application_that_cannot_be_asked_changes_nothing(#[case] error: Error, #[case] reason: &str) {
    let mut world = one(&json!({}));
    world.settle();
    let before = world.flags[0].object.status.clone().expect("a status");
    world.look_in_vain(0, error);
    assert_eq!(world.says(0, "Synced"), pair("Unknown", reason));
    let after = world.flags[0].object.status.clone().expect("a status");
    assert_eq!((after.rule_id, after.effective), (before.rule_id, before.effective), "what was seen last");
    world.settle();
    assert_eq!((world.writes, world.says(0, "Synced").0.as_str()), (1, "True"));
}

#[test]
fn what_is_declared_enabled_is_spared_on_a_new_database() {
    let mut world = one(&json!({"state": "Enabled"}));
    let spared = |world: &World| {
        let flags: Vec<_> = world.flags.iter().map(|flag| flag.object.clone()).collect();
        let spared = world.rules.iter().filter(|rule| matching::is_declared_enabled(&flags, rule));
        spared.map(|rule| rule.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(spared(&world), [SEEDS[0].0]);
    world.declare("younger", &json!({"rule": rule(SEEDS[0])}));
    assert_eq!(spared(&world), [SEEDS[0].0], "the older one has it");
    world.flags.reverse();
    assert_eq!(spared(&world), [SEEDS[0].0], "in whatever order");
    for spec in [
        json!({}),
        json!({"state": "Enabled", "adoptionPolicy": "Refuse"}),
        json!({"state": "Enabled", "suspend": true}),
    ] {
        assert_eq!(spared(&one(&spec)), Vec::<String>::new(), "{spec}");
    }
}

fn runs(action: &str, good: usize, failed: usize) -> Vec<Run> {
    let run =
        |failed| Run { action_name: action.to_owned(), at: "2026-01-01T12:00:00Z".parse().expect("a time"), failed };
    (0..good + failed).map(|at| run(at < failed)).collect()
}

fn guarded() -> World {
    let mut world = one(&json!({"state": "Enabled", "errorRate": {"maxPercent": 5, "minSamples": 20}}));
    world.settle();
    world
}

#[rstest]
#[case::too_few(9, 10, true, 53)]
#[case::just_within(95, 5, true, 5)]
#[case::just_beyond(94, 6, false, 6)]
#[case::by_less_than_a_percent(949, 51, false, 6)]
#[case::none(0, 0, true, 0)]
fn a_rate_is_counted_exactly(#[case] good: usize, #[case] failed: usize, #[case] within: bool, #[case] percent: i32) {
    let mut world = guarded();
    let mut all = runs(SEEDS[0].2, good, failed);
    // Another action of the type is none of its.
    all.extend(runs(SEEDS[1].2, 0, 1000));
    world.audit = Audit::Runs(all);
    world.settle();
    assert_eq!(world.of(0)[0].enabled, within);
    assert_eq!(world.says(0, "WithinErrorRate").0, if within { "True" } else { "False" });
    let rate = world.flags[0].object.status.clone().and_then(|it| it.error_rate).expect("a rate");
    assert_eq!((rate.percent, rate.samples), (percent, i32::try_from(good + failed).expect("few")));
}

#[test]
fn a_breach_stays_until_the_spec_changes() {
    let mut world = guarded();
    world.audit = Audit::Runs(runs(SEEDS[0].2, 0, 50));
    world.settle();
    assert_eq!(world.says(0, "Ready"), pair("False", "ErrorRateExceeded"));
    assert_eq!(world.says(0, "Stalled"), pair("True", "ErrorRateExceeded"));
    assert_eq!(world.says(0, "Synced").0, "True", "it is disabled, as it should be");
    // Who switches it on in the application is not heard, nor is a better rate.
    world.audit = Audit::Runs(runs(SEEDS[0].2, 50, 0));
    let at = world.rules.iter().position(|rule| rule.name == SEEDS[0].0).expect("it");
    world.edit(at, &json!({"enabled": true}));
    world.restart();
    world.settle();
    assert!(!world.of(0)[0].enabled);
    let before = world.now;
    world.change(0, |spec| spec.config = Some(serde_json::Map::new()));
    world.settle();
    assert_eq!((world.of(0)[0].enabled, world.says(0, "Ready").0.as_str()), (true, "True"));
    // What ran before is not held against it again.
    let flag = world.observed(0);
    let since = guard::since(&flag, flag.object.spec.error_rate.as_ref().expect("a guard"));
    assert!(since >= before, "{since} is before {before}");
}

#[test]
fn nobody_is_blamed_while_the_stack_is_not_well_or_the_log_unreadable() {
    let mut world = guarded();
    let error = Error::Refused { request: "GET".to_owned(), status: 500, body: String::new() };
    for (audit, reason) in [(Audit::Frozen, "Frozen"), (Audit::Failed(error), "ApplicationFailing")] {
        world.audit = audit;
        world.settle();
        assert_eq!(world.says(0, "WithinErrorRate"), pair("Unknown", reason));
        assert_eq!((world.of(0)[0].enabled, world.says(0, "Ready").0.as_str()), (true, "True"));
    }
    world.change(0, |spec| spec.error_rate = None);
    world.settle();
    let status = world.flags[0].object.status.clone().expect("a status");
    assert!(status.conditions.iter().all(|it| it.type_ != "WithinErrorRate") && status.error_rate.is_none());
}

#[test]
fn a_suspended_flag_leaves_its_rule_alone() {
    let mut world = one(&json!({"suspend": true}));
    world.settle();
    assert_eq!((world.writes, world.says(0, "Ready")), (0, pair("Unknown", "Suspended")));
}

#[test]
fn a_deleted_flag_disables_deletes_or_leaves_its_rule_and_never_empties_the_table() {
    let mut world = one(&json!({"state": "Enabled"}));
    world.settle();
    let next = |world: &World, policy| {
        let mut flag = world.observed(0);
        flag.object.spec.deletion_policy = policy;
        flag.object.metadata.deletion_timestamp = serde_json::from_value(json!(world.now)).expect("a time");
        flag.stack = Some(world::sample());
        flag
    };
    let id = world.of(0)[0].id;
    let of = |world: &World, policy| step(&next(world, policy), &Ok(world.seen(0)));
    assert!(matches!(of(&world, None), Step::Disable(it, _) if it == id));
    assert_eq!(of(&world, Some(FlagDeletionPolicy::Delete)), Step::Delete(id));
    assert_eq!(of(&world, Some(FlagDeletionPolicy::Orphan)), Step::Release(None));
    let mut gone = next(&world, None);
    gone.stack = None;
    assert_eq!(step(&gone, &Ok(world.seen(0))), Step::Release(None), "the stack goes");
    // Nobody waits for ever.
    let away = Err(Unseen::Failed(Error::NoAnswer("no".to_owned())));
    let mut flag = next(&world, None);
    assert!(matches!(step(&flag, &away), Step::Wait(_)));
    flag.now += SignedDuration::from_mins(3);
    assert!(matches!(step(&flag, &away), Step::Release(Some(_))));
    world.rules.retain(|rule| rule.id == id);
    assert!(matches!(of(&world, Some(FlagDeletionPolicy::Delete)), Step::Disable(it, _) if it == id));
}

/// The sequences are random and the same in every run.
#[test]
fn whatever_happens_it_converges_never_doubles_and_writes_nothing_for_nothing() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = world();
        let rules = [SEEDS[0], SEEDS[2], MONTH_END, ("Digest", "reporting", "generate_digest")];
        for (number, identity) in rules.into_iter().enumerate() {
            world.declare(&format!("flag-{number}"), &json!({"rule": rule(identity)}));
        }
        let mut acts = Vec::new();
        for _ in 0..40 {
            acts.push(act(&mut world, &mut random));
            let doubled = (0..world.flags.len()).find(|at| world.of(*at).len() > 1);
            assert!(doubled.is_none(), "seed {seed}: two of {doubled:?} after {acts:#?}");
        }
        for at in 0..world.flags.len() {
            world.change(at, |spec| (spec.drift_policy, spec.suspend) = (None, false));
        }
        world.later(SignedDuration::from_mins(5));
        world.settle();
        for at in 0..world.flags.len() {
            let spec = &world.flags[at].object.spec;
            let found = world.of(at);
            let wanted = matching::wanted(spec, matching::is_enabled(spec), Some(found[0]));
            assert_eq!(matching::differences(found[0], &wanted), Vec::<String>::new(), "seed {seed}: {acts:#?}");
            assert_eq!(world.says(at, "Ready"), pair("True", "Synced"), "seed {seed}: {acts:#?}");
        }
        let ids: BTreeSet<_> = world.rules.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), world.rules.len());
        let (writes, told) = (world.writes, world.told);
        world.later(RESYNC);
        world.settle();
        assert_eq!((writes, told), (world.writes, world.told), "seed {seed}: a steady state costs no write");
    }
}

/// Something happens.
fn act(world: &mut World, random: &mut StdRng) -> String {
    let flag = random.random_range(0..world.flags.len());
    let fates = [
        Fate::Answered,
        Fate::Answered,
        Fate::Answered,
        Fate::Lost { done: true },
        Fate::Lost { done: false },
        Fate::Late,
        Fate::Crash { done: true },
        Fate::Crash { done: false },
        Fate::Refused(500),
    ];
    match random.random_range(0..12) {
        0..=4 => {
            let fate = fates[random.random_range(0..fates.len())];
            let decision = world.look(flag, fate);
            let what = match decision.write {
                Some(Write::Create(_)) => "adds",
                Some(Write::Replace(..)) => "writes",
                None => "looks",
            };
            format!("flag {flag} {what}, {fate:?}")
        }
        5 => {
            world.later(SignedDuration::from_secs(random.random_range(1..90)));
            "time".to_owned()
        }
        6 => {
            let state = [None, Some(FlagState::Enabled), Some(FlagState::Disabled)][random.random_range(0..3)];
            let percent = [None, Some(90)][random.random_range(0..2)];
            world.change(flag, |spec| (spec.state, spec.confidence_threshold_percent) = (state, percent));
            format!("flag {flag} is {state:?}, {percent:?}")
        }
        7 => {
            let policy = [None, Some(DriftPolicy::Warn)][random.random_range(0..2)];
            let suspend = random.random_bool(0.3);
            world.change(flag, |spec| (spec.drift_policy, spec.suspend) = (policy, suspend));
            format!("flag {flag}: {policy:?}, suspended {suspend}")
        }
        8 if !world.rules.is_empty() => {
            let at = random.random_range(0..world.rules.len());
            let enabled = random.random_bool(0.5);
            world.edit(at, &json!({"enabled": enabled, "auto_approve_threshold": 0.7}));
            format!("somebody sets rule {at} to {enabled}")
        }
        9 if world.rules.len() > 1 => {
            let at = random.random_range(0..world.rules.len());
            let gone = world.rules.remove(at);
            format!("somebody deletes {}", gone.name)
        }
        10 => {
            world.seed_again();
            "the table is seeded again".to_owned()
        }
        _ => {
            world.restart();
            "the operator restarts".to_owned()
        }
    }
}
