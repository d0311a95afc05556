//! What was asked of each stack's routes lately, and when to ask again: soon while something is missing, slower and
//! slower, and once a minute where all is well.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::probe::{Look, Question};
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
    looks: Vec<Look>,
    well: bool,
    due: Instant,
    pause: Duration,
}

impl Directory {
    /// These are the routes of a stack now; none: nothing is asked any more. Returns what was asked until now, where
    /// that is something else.
    pub fn want(&self, name: &Name, questions: Vec<Question>, now: Instant) -> Vec<Question> {
        let mut entries = self.entries();
        let before = match entries.get_mut(name) {
            _ if questions.is_empty() => entries.remove(name),
            Some(entry) if entry.questions == questions => None,
            Some(entry) if same_routes(&entry.questions, &questions) => {
                // Pods came or went: what was seen of the routes before holds until it is looked again, soon.
                (entry.questions, entry.well, entry.due) = (questions, true, now + FIRST);
                None
            }
            _ => {
                let entry = Entry { questions, looks: Vec::new(), well: true, due: now + FIRST, pause: LONGEST };
                entries.insert(name.clone(), entry)
            }
        };
        before.map(|entry| entry.questions).unwrap_or_default()
    }

    /// What was seen last; empty while nothing was.
    #[must_use]
    pub fn looks(&self, name: &Name) -> Vec<Look> {
        self.entries().get(name).map(|entry| entry.looks.clone()).unwrap_or_default()
    }

    /// Stacks that are to be asked about now, with the questions.
    #[must_use]
    pub fn due(&self, now: Instant) -> Vec<(Name, Vec<Question>)> {
        let entries = self.entries();
        let due = entries.iter().filter(|(_, entry)| entry.due <= now);
        due.map(|(name, entry)| (name.clone(), entry.questions.clone())).collect()
    }

    /// Notes what a round saw; true when it isn't what it was. `well`: nothing is missing.
    pub fn note(&self, name: &Name, looks: Vec<Look>, well: bool, now: Instant) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(name) else { return false };
        if !entry.questions.iter().eq(looks.iter().map(|look| &look.question)) {
            // The routes changed meanwhile.
            return false;
        }
        let changed = entry.looks != looks;
        entry.looks = looks;
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

fn same_routes(some: &[Question], others: &[Question]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(one, other)| one.is_about_the_same(other))
}

#[cfg(test)]
mod tests {
    use super::super::probe::Answer;
    use super::*;
    use crate::component::Component;

    fn question(host: &str) -> Question {
        let component = Component::Dashboard;
        Question { host: host.to_owned(), component, ready: true, https: true, path: "/", mark: None, redirect: false }
    }

    fn look(question: Question, why: &str) -> Vec<Look> {
        vec![Look { question, answer: Answer::Broken(why.to_owned()), stranger: None }]
    }

    #[test]
    fn it_is_asked_soon_then_slower_and_once_a_minute_where_all_is_well() {
        let (directory, name) = (Directory::default(), ("a".to_owned(), "b".to_owned()));
        let questions = vec![question("x")];
        let answers = |why: &str| look(question("x"), why);
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
        assert_eq!(directory.looks(&name), [], "other routes, other answers");
        assert!(!directory.note(&name, answers("x"), true, now), "of a route that is no more");
        directory.want(&name, Vec::new(), now);
        assert_eq!(directory.due(now + Duration::from_hours(1)), []);
    }

    #[test]
    fn what_was_seen_holds_while_pods_come_and_go() {
        let (directory, name) = (Directory::default(), ("a".to_owned(), "b".to_owned()));
        let (ready, now) = (question("x"), Instant::now());
        let unready = Question { ready: false, ..ready.clone() };
        directory.want(&name, vec![ready.clone()], now);
        assert!(directory.note(&name, look(ready.clone(), "x"), true, now));
        assert_eq!(directory.want(&name, vec![unready.clone()], now), [], "no route has gone");
        assert_eq!(directory.looks(&name), look(ready.clone(), "x"));
        assert_eq!(directory.due(now + FIRST).len(), 1, "and it is looked again soon");
        assert!(!directory.note(&name, look(ready, "x"), true, now), "asked before they went");
        assert!(directory.note(&name, look(unready.clone(), "x"), false, now));
        assert_eq!(directory.looks(&name), look(unready, "x"));
    }
}
