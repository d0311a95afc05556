//! Which rule of the application a flag is about, and what it should be. Plain.

use odoo_ai_crds::flag::{AdoptionPolicy, FeatureFlag, FeatureFlagSpec, FlagState, RuleIdentity};
use serde_json::{Map, Value, json};

use super::observe;
use crate::rules::Rule;
use crate::rules::rule::same;

/// The rules that a flag may mean: those of its type and action that have its name, or the id that it had before. An id
/// alone says nothing: a table that was seeded again gives it to another rule.
#[must_use]
pub fn of<'a>(rules: &'a [Rule], identity: &RuleIdentity, id: Option<i64>) -> Vec<&'a Rule> {
    let mut found: Vec<_> = rules.iter().filter(|rule| is_of(rule, identity, id)).collect();
    found.sort_by_key(|rule| rule.id);
    found
}

/// The one rule is meant.
#[must_use]
pub fn is_of(rule: &Rule, identity: &RuleIdentity, id: Option<i64>) -> bool {
    let same = rule.automation_type == identity.automation_type && rule.action_name == identity.action_name;
    same && (rule.name == identity.name || Some(rule.id) == id)
}

/// The whole rule as it should be: what it is, with the fields laid over it that the flag owns. A new one gets the
/// application's defaults for the others.
#[must_use]
pub fn wanted(spec: &FeatureFlagSpec, enabled: bool, rule: Option<&Rule>) -> Map<String, Value> {
    let mut body = rule.map(Rule::body).unwrap_or_default();
    let RuleIdentity { name, automation_type, action_name } = &spec.rule;
    let owned = [
        ("name", Some(json!(name))),
        ("automation_type", Some(json!(automation_type))),
        ("action_name", Some(json!(action_name))),
        ("enabled", Some(json!(enabled))),
        ("config", spec.config.as_ref().map(|config| json!(config))),
        ("confidence_threshold", spec.confidence_threshold_percent.map(|percent| json!(f64::from(percent) / 100.0))),
        ("auto_approve", spec.auto_approve.map(|approve| json!(approve))),
    ];
    body.extend(owned.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))));
    body
}

/// The fields in which the rule is not as it should be.
#[must_use]
pub fn differences(rule: &Rule, wanted: &Map<String, Value>) -> Vec<String> {
    let is = rule.body();
    let differs = |(field, value): &(&String, &Value)| !is.get(*field).is_some_and(|found| same(found, value));
    wanted.iter().filter(differs).map(|(field, _)| field.clone()).collect()
}

/// The rule is to act.
#[must_use]
pub fn is_enabled(spec: &FeatureFlagSpec) -> bool {
    spec.state.unwrap_or_default() == FlagState::Enabled
}

/// A flag lets this rule of a new database act from the beginning: of several, the oldest says so.
#[must_use]
pub fn is_declared_enabled(flags: &[FeatureFlag], rule: &Rule) -> bool {
    let is_its = |flag: &&FeatureFlag| is_of(rule, &flag.spec.rule, None);
    let oldest = flags.iter().filter(is_its).min_by_key(|flag| observe::age(flag));
    oldest.is_some_and(|flag| {
        let takes_over = flag.spec.adoption_policy != Some(AdoptionPolicy::Refuse) && !flag.spec.suspend;
        takes_over && flag.metadata.deletion_timestamp.is_none() && is_enabled(&flag.spec)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: i64, name: &str, action: &str) -> Rule {
        serde_json::from_value(json!({
            "id": id, "name": name, "automation_type": "crm", "action_name": action, "enabled": true,
            "confidence_threshold": 0.85, "auto_approve": false, "auto_approve_threshold": 0.95, "config": {"theirs": 1},
        }))
        .expect("a rule")
    }

    fn identity() -> RuleIdentity {
        RuleIdentity { name: "Leads".to_owned(), automation_type: "crm".to_owned(), action_name: "score".to_owned() }
    }

    #[test]
    fn an_id_alone_says_nothing() {
        let rules = [rule(3, "Leads", "score"), rule(2, "Renamed", "score"), rule(1, "Leads", "other")];
        let ids = |id| of(&rules, &identity(), id).iter().map(|rule| rule.id).collect::<Vec<_>>();
        assert_eq!(ids(None), [3]);
        assert_eq!(ids(Some(3)), [3]);
        assert_eq!(ids(Some(2)), [2, 3], "both are meant");
        assert_eq!(ids(Some(1)), [3], "it is another's now");
    }

    #[test]
    fn only_what_the_flag_owns_is_changed() {
        let spec = FeatureFlagSpec { rule: identity(), confidence_threshold_percent: Some(90), ..Default::default() };
        let found = rule(3, "Leads", "score");
        let body = wanted(&spec, false, Some(&found));
        assert_eq!(differences(&found, &body), ["confidence_threshold", "enabled"]);
        assert_eq!((&body["config"], &body["auto_approve_threshold"]), (&json!({"theirs": 1}), &json!(0.95)));
        let new = wanted(&spec, false, None);
        assert_eq!(new["enabled"], json!(false), "an omitted one switches it on");
        assert!(!new.contains_key("config"));
    }
}
