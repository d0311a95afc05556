//! Conditions and the status writer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a condition says, without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `True`, `False` or `Unknown`.
    pub status: Tri,
    /// `CamelCase` reason from the constants of the API crate.
    pub reason: String,
    /// One sentence for the user.
    pub message: String,
}

/// The three states of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tri {
    /// Seen and true.
    True,
    /// Seen and false.
    False,
    /// Not known.
    Unknown,
}

impl Tri {
    /// The word that the API uses.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Tri {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

impl Verdict {
    /// A verdict.
    #[must_use]
    pub fn new(status: impl Into<Tri>, reason: &str, message: impl Into<String>) -> Self {
        Self { status: status.into(), reason: reason.to_owned(), message: message.into() }
    }
}

/// The longest message that the API accepts, in bytes.
const MESSAGE_LIMIT: usize = 32_768;

/// Sets condition `kind`; the transition time moves only when the status does. Returns whether
/// the status or the reason changed: the moment for an Event.
pub fn set(conditions: &mut Vec<Condition>, kind: &str, verdict: &Verdict, generation: i64, now: Timestamp) -> bool {
    let mut message = verdict.message.clone();
    if message.len() > MESSAGE_LIMIT {
        message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
    }
    let status = verdict.status.word().to_owned();
    let previous = conditions.iter().position(|condition| condition.type_ == kind);
    let old = previous.map(|index| &conditions[index]);
    let transition = old.filter(|old| old.status == status).map_or(Time(now), |old| old.last_transition_time.clone());
    let changed = old.is_none_or(|old| old.status != status || old.reason != verdict.reason);
    let condition = Condition {
        type_: kind.to_owned(),
        status,
        reason: verdict.reason.clone(),
        message,
        observed_generation: Some(generation),
        last_transition_time: transition,
    };
    match previous {
        Some(index) => conditions[index] = condition,
        None => conditions.push(condition),
    }
    changed
}

/// Removes condition `kind`.
pub fn unset(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|condition| condition.type_ != kind);
}

/// Replaces the status of `object`, whose resource version must be the one that was read: a
/// conflict means that the decision was made on an old state.
///
/// # Errors
/// The client's error; 409 when somebody else wrote since.
pub async fn write<K>(api: &Api<K>, object: &K) -> kube::Result<K>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let params = PostParams { field_manager: Some(super::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    api.replace_status(&name, &params, object).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a valid second")
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        let waiting = Verdict::new(false, "Waiting", "a");
        assert!(set(&mut conditions, "Ready", &waiting, 1, at(1)));
        assert!(!set(&mut conditions, "Ready", &Verdict::new(false, "Waiting", "b"), 2, at(2)));
        assert_eq!(conditions[0].last_transition_time, Time(at(1)));
        assert_eq!(conditions[0].message, "b");
        assert_eq!(conditions[0].observed_generation, Some(2));
        assert!(set(&mut conditions, "Ready", &Verdict::new(true, "Ready", ""), 2, at(3)));
        assert_eq!(conditions[0].last_transition_time, Time(at(3)));
    }
}
