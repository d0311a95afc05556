//! Times of a cron expression, in its time zone. Plain: `now` comes from outside.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// More times than this are not counted one by one.
pub const MANY: i32 = 1000;
/// A run begins within this time of its slot: the controller of `CronJob`s and the scheduler take a moment.
const START: SignedDuration = SignedDuration::from_mins(10);

/// A cron expression of five fields and its time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    text: String,
    zone_name: String,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.zone_name) == (&other.text, &other.zone_name)
    }
}

impl Schedule {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str, zone: &str) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| format!("{text:?} is no cron expression: {error}"))?;
        let found = TimeZone::get(zone).map_err(|_| format!("{zone:?} is no time zone; Europe/Berlin is one"))?;
        let schedule = Self { cron, zone: found, text: text.to_owned(), zone_name: zone.to_owned() };
        schedule.after(Timestamp::UNIX_EPOCH).map(|_| ()).ok_or_else(|| format!("{text:?} never comes"))?;
        Ok(schedule)
    }

    /// The expression.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Name of the time zone.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone_name
    }

    /// The first time after `moment`; `None`: it never comes again.
    #[must_use]
    pub fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let from = moment.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&from, false).ok().map(|found| found.timestamp())
    }

    /// Times in (`from`, `to`), [`MANY`] at most, and the last of them.
    #[must_use]
    pub fn between(&self, from: Timestamp, to: Timestamp) -> (i32, Option<Timestamp>) {
        let (mut count, mut last) = (0, None);
        let mut slot = self.after(from);
        while let Some(found) = slot.filter(|found| *found < to) {
            if count == MANY {
                return (count, self.before(to));
            }
            (count, last) = (count + 1, Some(found));
            slot = self.after(found);
        }
        (count, last)
    }

    /// The last time until `moment`.
    #[must_use]
    pub fn until(&self, moment: Timestamp) -> Option<Timestamp> {
        self.before(moment + SignedDuration::from_secs(1))
    }

    /// The last time before `moment`.
    fn before(&self, moment: Timestamp) -> Option<Timestamp> {
        let from = moment.to_zoned(self.zone.clone());
        self.cron.find_previous_occurrence(&from, false).ok().map(|found| found.timestamp())
    }

    /// Until when a backup that was completed at `moment` is the one to expect: the next one has come by then, if it
    /// takes no longer than `limit` seconds.
    #[must_use]
    pub fn fresh_until(&self, moment: Timestamp, limit: i32) -> Option<Timestamp> {
        Some(self.after(moment)? + SignedDuration::from_secs(limit.into()) + START)
    }

    /// What was missed: times that nothing was started for. `counted`: the last one that was accounted for; `started`:
    /// the last one that a run was started for.
    #[must_use]
    pub fn missed(&self, counted: Timestamp, started: Option<Timestamp>, now: Timestamp) -> Missed {
        let mut missed = Missed { times: 0, counted };
        if let Some(started) = started.filter(|started| *started > counted) {
            missed = Missed { times: self.between(counted, started).0, counted: started };
        }
        let (overdue, last) = self.between(missed.counted, now - START);
        Missed { times: missed.times + overdue, counted: last.unwrap_or(missed.counted) }
    }
}

/// Times that were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many.
    pub times: i32,
    /// The last time that is accounted for now.
    pub counted: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn schedule(text: &str, zone: &str) -> Schedule {
        Schedule::parse(text, zone).expect("a schedule")
    }

    #[rstest]
    #[case("0 3 * * *", "UTC", "2026-01-01T02:59:59Z", "2026-01-01T03:00:00Z")]
    #[case("0 3 * * *", "UTC", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z")]
    #[case::winter("0 3 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z")]
    #[case::summer("0 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z")]
    #[case::sunday("0 4 * * 0", "UTC", "2026-11-29T04:00:00Z", "2026-12-06T04:00:00Z")]
    #[case::a_day_or_a_weekday("0 0 13 * 5", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")]
    #[case::leap("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z")]
    fn the_next_time(#[case] text: &str, #[case] zone: &str, #[case] now: &str, #[case] next: &str) {
        assert_eq!(schedule(text, zone).after(at(now)), Some(at(next)));
    }

    #[rstest]
    #[case("61 3 * * *", "UTC", "no cron expression")]
    #[case("0 0 3 * * *", "UTC", "no cron expression")]
    #[case("0 3 * *", "UTC", "no cron expression")]
    #[case("0 0 30 2 *", "UTC", "never comes")]
    #[case("0 3 * * *", "Europe/Bärlin", "no time zone")]
    fn what_is_none(#[case] text: &str, #[case] zone: &str, #[case] words: &str) {
        let error = Schedule::parse(text, zone).expect_err("an error");
        assert!(error.contains(words), "{error}");
    }

    /// counted, started, now → missed, counted.
    #[rstest]
    #[case::nothing_was_due(1, None, "2026-01-02T02:00:00Z", 0, 1)]
    #[case::it_was_started(1, Some(2), "2026-01-02T03:00:05Z", 0, 2)]
    #[case::it_may_still_come(1, None, "2026-01-02T03:09:59Z", 0, 1)]
    #[case::it_did_not_come(1, None, "2026-01-02T03:10:01Z", 1, 2)]
    #[case::told_once(2, None, "2026-01-02T12:00:00Z", 0, 2)]
    #[case::caught_up_after_it_was_told(2, Some(2), "2026-01-02T12:00:00Z", 0, 2)]
    #[case::one_catch_up_and_the_others_skipped(1, Some(5), "2026-01-05T08:00:00Z", 3, 5)]
    #[case::some_skipped_and_none_since(1, Some(3), "2026-01-05T08:00:00Z", 3, 5)]
    #[case::a_run_of_before(5, Some(3), "2026-01-05T08:00:00Z", 0, 5)]
    #[case::the_clock_was_set_back(5, None, "2026-01-02T12:00:00Z", 0, 5)]
    fn what_was_missed(
        #[case] counted: i64,
        #[case] started: Option<i64>,
        #[case] now: &str,
        #[case] times: i32,
        #[case] until: i64,
    ) {
        let day = |day: i64| at(&format!("2026-01-{day:02}T03:00:00Z"));
        let missed = schedule("0 3 * * *", "UTC").missed(day(counted), started.map(day), at(now));
        assert_eq!(missed, Missed { times, counted: day(until) });
    }

    #[test]
    fn a_hundred_are_counted_and_a_year_of_minutes_costs_no_time() {
        let minutes = schedule("* * * * *", "UTC");
        let start = at("2026-01-01T00:00:00Z");
        let hundred = minutes.missed(start, Some(start + SignedDuration::from_mins(101)), at("2026-01-01T01:41:30Z"));
        assert_eq!(hundred, Missed { times: 100, counted: at("2026-01-01T01:41:00Z") });
        let year = minutes.missed(start, None, at("2027-01-01T00:00:00Z"));
        assert_eq!(year, Missed { times: MANY, counted: at("2026-12-31T23:49:00Z") });
    }

    #[test]
    fn a_backup_is_fresh_until_the_next_one_must_have_come() {
        let daily = schedule("0 3 * * *", "UTC");
        assert_eq!(daily.fresh_until(at("2026-01-01T03:05:00Z"), 3600), Some(at("2026-01-02T04:10:00Z")));
    }
}
