//! What was asked of each stack's routes lately, and when to ask again: soon while something is missing, slower and
//! slower, and once a minute where all is well.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::probe::{Answer, Question};
use crate::context::Name;

/// After a change of routes: Traefik takes one up at most every two seconds.
const FIRST: Duration = Duration::from_secs(3);
/// After that, where something is missing; it doubles.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest time between two rounds, and the usual one.
const LONGEST: Duration = Duration::from_mins(1);

/// Answers by stack. All of it can be lost: it is asked again.
#[derive(Debug, Default)]
pub struct Directory(Mutex<HashMap<Name, Entry>>);

#[derive(Debug)]
struct Entry {
    questions: Vec<Question>,
    answers: Vec<(Question, Answer)>,
    well: bool,
    due: Instant,
    pause: Duration,
}

impl Directory {
    /// These are the routes of a stack now; none: nothing is asked any more. Returns what was asked until now, where
    /// that is something else.
    pub fn want(&self, name: &Name, questions: Vec<Question>, now: Instant) -> Vec<Question> {
        let mut entries = self.entries();
        let before = if questions.is_empty() {
            entries.remove(name)
        } else if entries.get(name).is_none_or(|entry| entry.questions != questions) {
            let entry = Entry { questions, answers: Vec::new(), well: true, due: now + FIRST, pause: LONGEST };
            entries.insert(name.clone(), entry)
        } else {
            None
        };
        before.map(|entry| entry.questions).unwrap_or_default()
    }

    /// What was answered last; empty while nothing was.
    #[must_use]
    pub fn answers(&self, name: &Name) -> Vec<(Question, Answer)> {
        self.entries().get(name).map(|entry| entry.answers.clone()).unwrap_or_default()
    }

    /// Stacks that are to be asked about now, with the questions.
    #[must_use]
    pub fn due(&self, now: Instant) -> Vec<(Name, Vec<Question>)> {
        let entries = self.entries();
        let due = entries.iter().filter(|(_, entry)| entry.due <= now);
        due.map(|(name, entry)| (name.clone(), entry.questions.clone())).collect()
    }

    /// Notes a round's answers; true when they are not what they were. `well`: nothing is missing.
    pub fn note(&self, name: &Name, answers: Vec<(Question, Answer)>, well: bool, now: Instant) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(name) else { return false };
        if !entry.questions.iter().eq(answers.iter().map(|(question, _)| question)) {
            // The routes changed meanwhile.
            return false;
        }
        let changed = entry.answers != answers;
        entry.answers = answers;
        // Only what was well is asked soon when it isn't: a route that is broken now this way, now that, costs no more.
        entry.pause = match (entry.well, well) {
            (_, true) => LONGEST,
            (true, false) => AGAIN,
            (false, false) => (entry.pause * 2).min(LONGEST),
        };
        entry.well = well;
        entry.due = now + entry.pause;
        changed
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Name, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(host: &str) -> Question {
        Question { host: host.to_owned(), https: true, path: "/", mark: None, redirect: false }
    }

    #[test]
    fn it_is_asked_soon_then_slower_and_once_a_minute_where_all_is_well() {
        let (directory, name) = (Directory::default(), ("a".to_owned(), "b".to_owned()));
        let questions = vec![question("x")];
        let answers = |why: &str| vec![(question("x"), Answer::Broken(why.to_owned()))];
        let mut now = Instant::now();
        directory.want(&name, questions.clone(), now);
        assert_eq!(directory.due(now), []);
        let mut waited = Vec::new();
        for well in [false, false, false, false, false, false, false, true, true] {
            let before = now;
            while directory.due(now).is_empty() {
                now += Duration::from_secs(1);
            }
            waited.push((now - before).as_secs());
            // The same routes again are no reason to ask at once.
            directory.want(&name, questions.clone(), now);
            assert_eq!(directory.note(&name, answers("x"), well, now), waited.len() == 1);
        }
        assert_eq!(waited, [3, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(directory.note(&name, answers("y"), false, now), "another answer");
        let soon = now + Duration::from_secs(2);
        assert_eq!(directory.due(soon).len(), 1, "what has just broken is asked soon");
        assert!(directory.note(&name, answers("z"), false, soon));
        assert_eq!(directory.due(soon + Duration::from_secs(2)), [], "broken in another way is no news");
        directory.want(&name, vec![question("y")], now);
        assert_eq!(directory.answers(&name), [], "other routes, other answers");
        assert!(!directory.note(&name, answers("x"), true, now), "of a route that is no more");
        directory.want(&name, Vec::new(), now);
        assert_eq!(directory.due(now + Duration::from_hours(1)), []);
    }
}
