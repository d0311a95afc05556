//! What an agent's answers come to: states that last, without anything that only time changes. An
//! answer that says the same as the one before gives equal facts, so that nothing is done about it.

use std::time::{Duration, Instant};

use super::agents::{Answer, Odoo, Part};

/// A queue whose oldest task has been the same for so long is not consumed; the longest task that
/// is not broken ends in this time.
const UNCONSUMED: u64 = 300;
/// Ages are told in these steps, seconds.
const AGES: [u64; 4] = [86_400, 21_600, 3600, UNCONSUMED];
/// Webhooks whose number has not once been 0 for so long are left behind: it takes a worker seconds.
const LEFT_BEHIND: Duration = Duration::from_mins(10);
/// Redis is nearly full from the first percentage on, until it is below the second.
const FULL_PERCENT: (u64, u64) = (90, 80);

/// What is known of one pod's surroundings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The application's database.
    pub database: Part,
    /// Its absence is more than one late answer.
    pub database_lost: bool,
    /// Redis.
    pub redis: Part,
    /// Its absence is more than one late answer.
    pub redis_lost: bool,
    /// The application in the same pod.
    pub application: Part,
    /// Odoo.
    pub odoo: Odoo,
    /// What the running Redis does when it is full, where the agent tells.
    pub eviction_policy: Option<String>,
    /// Redis is nearly full.
    pub redis_full: bool,
    /// Queues that nobody consumes; `None`: not watched for long enough to know.
    pub idle: Option<Vec<Idle>>,
    /// Webhooks that were left behind, at least; `None`: not watched for long enough to know.
    pub left_behind: Option<u64>,
}

/// A queue that nobody consumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Its name.
    pub name: String,
    /// Waiting tasks, at least: a power of ten.
    pub tasks: u64,
    /// Seconds since a task was taken, at least: one of a few steps.
    pub seconds: u64,
}

/// What of earlier answers matters, and is no fact itself.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    first: Instant,
    unprocessed_since: Option<Instant>,
    doubts: [bool; 3],
}

impl Memory {
    /// Before the first answer.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { first: now, unprocessed_since: None, doubts: [false; 3] }
    }

    /// The facts after `answer`; `before` are those of the answer before it.
    pub fn facts(&mut self, answer: Answer, before: Option<&Facts>, now: Instant) -> Facts {
        let idle = self.idle(&answer, before, now);
        let left_behind = self.left_behind(&answer, before, now);
        let [of_database, of_redis, of_application] = &mut self.doubts;
        let redis_full = is_full(&answer, before.is_some_and(|before| before.redis_full));
        let (database, database_lost) = judged(of_database, answer.database, before.map(|it| &it.database));
        let (redis, redis_lost) = judged(of_redis, answer.redis.part, before.map(|it| &it.redis));
        let (application, _) = judged(of_application, answer.application, before.map(|it| &it.application));
        let eviction_policy = answer.redis.eviction_policy.or_else(|| before?.eviction_policy.clone());
        let odoo = answer.odoo;
        Facts {
            database,
            database_lost,
            redis,
            redis_lost,
            application,
            odoo,
            eviction_policy,
            redis_full,
            idle,
            left_behind,
        }
    }

    fn idle(&self, answer: &Answer, before: Option<&Facts>, now: Instant) -> Option<Vec<Idle>> {
        let known = before.and_then(|before| before.idle.as_ref());
        let tasks = |name: &str| known?.iter().find(|queue| queue.name == name).map(|queue| queue.tasks);
        let waiting = || answer.queues.iter().filter(|queue| queue.length > 0);
        let idle: Vec<_> = waiting()
            .filter_map(|queue| {
                let seconds = AGES.into_iter().find(|age| queue.unconsumed_seconds >= *age)?;
                let tasks = order(queue.length, tasks(&queue.name));
                Some(Idle { name: queue.name.clone(), tasks, seconds })
            })
            .collect();
        // The age is the agent's own: one that has just started can't know.
        let watched = now.duration_since(self.first).as_secs() >= UNCONSUMED;
        let decided = !idle.is_empty() || watched || (waiting().next().is_none() && !answer.queues.is_empty());
        if decided { Some(idle) } else { known.cloned() }
    }

    fn left_behind(&mut self, answer: &Answer, before: Option<&Facts>, now: Instant) -> Option<u64> {
        let known = before.and_then(|before| before.left_behind);
        let count = match answer.webhooks.unprocessed {
            None => return known,
            Some(count) => u64::try_from(count).unwrap_or_default(),
        };
        if count == 0 {
            self.unprocessed_since = None;
            return Some(0);
        }
        let since = *self.unprocessed_since.get_or_insert(now);
        if now.duration_since(since) >= LEFT_BEHIND { Some(order(count, known.filter(|it| *it > 0))) } else { known }
    }
}

/// What `seen` comes to, and whether it is lost: one answer that came late is no outage, a refused login is.
fn judged(doubt: &mut bool, seen: Part, before: Option<&Part>) -> (Part, bool) {
    let doubtful = !seen.reachable && !is_rejected(&seen);
    let first = !std::mem::replace(doubt, doubtful) && doubtful;
    let lost = !seen.reachable && !first;
    (before.filter(|before| first && before.reachable).cloned().unwrap_or(seen), lost)
}

/// The agent's words for a password that a server refuses.
#[must_use]
pub fn is_rejected(part: &Part) -> bool {
    !part.reachable && part.message.contains("login rejected")
}

fn is_full(answer: &Answer, before: bool) -> bool {
    match (answer.redis.used_memory_bytes, answer.redis.max_memory_bytes) {
        (Some(used), Some(limit)) if limit > 0 => {
            let percent = if before { FULL_PERCENT.1 } else { FULL_PERCENT.0 };
            used.saturating_mul(100) >= limit.saturating_mul(percent)
        }
        (Some(_), Some(_)) => false,
        _ => before,
    }
}

/// The power of ten at or below `count`. It stays while `count` is not far below what it `was`.
fn order(count: u64, was: Option<u64>) -> u64 {
    let order = 10_u64.pow(count.max(1).ilog10());
    was.filter(|was| *was > order && count.saturating_mul(2) >= *was).unwrap_or(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::agents::{Agents, Directory};
    use rstest::rstest;
    use serde_json::json;

    /// An answer as `agent serve` writes it.
    fn answer(length: u64, seconds: u64, unprocessed: i64, used: u64) -> Answer {
        let status = json!({
            "version": 1, "agentVersion": "0.1.0",
            "database": {"reachable": true, "schema": ["003"], "message": ""},
            "redis": {"reachable": true, "usedMemoryBytes": used, "maxMemoryBytes": 1000, "evictionPolicy": "noeviction", "message": ""},
            "application": {"reachable": true, "message": ""},
            "odoo": {"state": "Reachable", "message": ""},
            "queues": [{"name": "celery", "length": length, "unconsumedSeconds": seconds}],
            "webhooks": {"unprocessed": unprocessed},
        });
        serde_json::from_value(status).expect("an answer")
    }

    /// Facts after answers at the given seconds.
    fn after(answers: impl IntoIterator<Item = (u64, Answer)>) -> Facts {
        let start = Instant::now();
        let mut memory = Memory::new(start);
        let mut facts: Option<Facts> = None;
        for (second, answer) in answers {
            facts = Some(memory.facts(answer, facts.as_ref(), start + Duration::from_secs(second)));
        }
        facts.expect("an answer")
    }

    fn celery(tasks: u64, seconds: u64) -> Vec<Idle> {
        vec![Idle { name: "celery".to_owned(), tasks, seconds }]
    }

    #[test]
    fn what_only_time_changes_is_no_other_fact() {
        let first = after([(0, answer(12, 301, 3, 100))]);
        assert_eq!(first, after([(0, answer(12, 301, 3, 100)), (5, answer(17, 306, 4, 170))]));
        assert_eq!(first.idle, Some(celery(10, 300)));
        assert_eq!(first.eviction_policy.as_deref(), Some("noeviction"));
    }

    #[rstest]
    #[case::empty(vec![(0, 0, 0)], Some(vec![]))]
    #[case::too_early_to_know(vec![(0, 5, 0), (100, 5, 100)], None)]
    #[case::nobody_consumes(vec![(0, 5, 0), (300, 5, 300)], Some(celery(1, 300)))]
    #[case::for_hours(vec![(0, 5, 30_000)], Some(celery(1, 21_600)))]
    #[case::consumed_under_load(vec![(0, 500, 0), (300, 500, 1)], Some(vec![]))]
    #[case::taken_up_again(vec![(0, 50, 400), (5, 49, 0), (300, 49, 0)], Some(vec![]))]
    #[case::drained(vec![(0, 50, 400), (5, 0, 0)], Some(vec![]))]
    #[case::a_little_less_is_the_same(vec![(0, 120, 400), (5, 80, 405)], Some(celery(100, 300)))]
    #[case::much_less_is_less(vec![(0, 120, 400), (5, 40, 405)], Some(celery(10, 300)))]
    fn queues(#[case] seen: Vec<(u64, u64, u64)>, #[case] idle: Option<Vec<Idle>>) {
        let answers = seen.into_iter().map(|(second, length, age)| (second, answer(length, age, 0, 0)));
        assert_eq!(after(answers).idle, idle);
    }

    #[rstest]
    #[case::none(&[(0, 0)], Some(0))]
    #[case::too_early_to_know(&[(0, 3), (599, 3)], None)]
    #[case::left_behind(&[(0, 3), (600, 25)], Some(10))]
    #[case::a_burst_that_ends(&[(0, 0), (5, 300), (300, 100), (500, 0), (900, 40)], Some(0))]
    #[case::cured(&[(0, 3), (600, 3), (700, 0)], Some(0))]
    fn webhooks(#[case] seen: &[(u64, i64)], #[case] left_behind: Option<u64>) {
        assert_eq!(
            after(seen.iter().map(|(second, count)| (*second, answer(0, 0, *count, 0)))).left_behind,
            left_behind
        );
    }

    #[rstest]
    #[case(&[899], false)]
    #[case(&[900], true)]
    #[case::no_flapping_at_the_edge(&[900, 850, 899], true)]
    #[case(&[900, 799], false)]
    fn memory(#[case] used: &[u64], #[case] full: bool) {
        assert_eq!(after(used.iter().map(|used| (0, answer(0, 0, 0, *used)))).redis_full, full);
    }

    #[test]
    fn one_late_answer_is_no_outage_and_a_refused_login_is() {
        let without = |message: &str| {
            let mut answer = answer(0, 0, 0, 0);
            answer.database = Part { reachable: false, message: message.to_owned() };
            answer
        };
        let late = || without("database gave no answer within 3 s");
        assert!(after([(0, answer(0, 0, 0, 0)), (5, late())]).database.reachable);
        assert!(!after([(0, answer(0, 0, 0, 0)), (5, late()), (10, late())]).database.reachable);
        assert!(
            after([(0, answer(0, 0, 0, 0)), (5, late()), (10, answer(0, 0, 0, 0)), (15, late())]).database.reachable
        );
        let first = after([(0, late())]);
        assert!(!first.database.reachable && !first.database_lost, "nothing better is known, and it may just start");
        assert!(after([(0, late()), (5, late())]).database_lost);
        let refused =
            after([(0, answer(0, 0, 0, 0)), (5, without("database login rejected: password authentication"))]);
        assert!(is_rejected(&refused.database) && refused.database_lost && !refused.redis_lost);
    }

    #[test]
    fn a_stack_is_woken_only_by_other_facts_and_a_silent_agent_is_given_up_in_time() {
        let (directory, now) = (Directory::default(), Instant::now());
        let at = |second| now + Duration::from_secs(second);
        let say = |length, age| Some(answer(length, age, 0, 0));
        assert!(directory.note("a", say(0, 0), at(0)));
        assert!(!directory.note("a", say(0, 0), at(5)));
        assert!(directory.note("a", say(7, 300), at(10)));
        assert!(!directory.note("a", say(8, 305), at(15)));
        assert!(!directory.note("a", None, at(20)) && !directory.note("a", None, at(25)));
        assert!(directory.fresh("a", at(26)).is_some_and(|facts| facts.is_some()));
        assert!(directory.note("a", None, at(30)), "it says nothing any more");
        assert_eq!(directory.fresh("a", at(31)), Some(None));
        assert_eq!(directory.fresh("a", at(60)), None, "nobody has asked for too long");
        assert!(!directory.note("a", None, at(65)));
        directory.keep(&std::collections::HashSet::new());
        assert_eq!(directory.fresh("a", at(65)), None);
        assert!(Agents::default().is_silent());
    }

    #[test]
    fn an_agent_of_the_first_release_is_understood() {
        let status = json!({"version": 1, "redis": {"reachable": true, "usedMemoryBytes": null, "maxMemoryBytes": null, "message": ""},
            "queues": [], "webhooks": {"unprocessed": null}});
        let facts = after([(0, serde_json::from_value(status).expect("an answer"))]);
        assert_eq!((facts.redis.reachable, facts.redis_full, facts.eviction_policy), (true, false, None));
        assert_eq!((facts.idle, facts.left_behind), (None, None));
    }
}
