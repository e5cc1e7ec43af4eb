//! Cron schedules: five fields, names, ranges, steps, lists and the usual `@` forms. Pure.

use std::collections::BTreeSet;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// A schedule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "schedule {schedule:?}: {problem}; write five fields such as \"*/5 * * * *\", or @hourly, @daily, @weekly, @monthly, @yearly"
)]
pub struct ScheduleError {
    schedule: String,
    problem: String,
}

/// How far ahead a next time is looked for; 29 February on a given weekday can take 40 years, which nobody waits for.
const HORIZON_DAYS: i32 = 366 * 8;

/// A parsed schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    minutes: BTreeSet<u8>,
    hours: BTreeSet<u8>,
    days: BTreeSet<u8>,
    months: BTreeSet<u8>,
    weekdays: BTreeSet<u8>,
    /// Whether the day fields were restricted; if both are, either may match.
    restricts_days: bool,
    restricts_weekdays: bool,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let error = |problem: String| ScheduleError { schedule: text.to_owned(), problem };
        let expanded = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = expanded.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(error(format!("{} fields instead of 5", fields.len())));
        };
        let field = |name: &str, text: &str, low: u8, high: u8, names: &[&str], base: u8| {
            parse_field(text, low, high, names, base)
                .map_err(|problem| error(format!("{name} {text:?} {problem}")))
        };
        let mut weekdays = field("day of week", weekday, 0, 7, &WEEKDAYS, 0)?;
        if weekdays.remove(&7) {
            weekdays.insert(0);
        }
        Ok(Self {
            minutes: field("minute", minute, 0, 59, &[], 0)?,
            hours: field("hour", hour, 0, 23, &[], 0)?,
            days: field("day of month", day, 1, 31, &[], 0)?,
            months: field("month", month, 1, 12, &MONTHS, 1)?,
            weekdays,
            restricts_days: !is_any(day),
            restricts_weekdays: !is_any(weekday),
        })
    }

    /// The first time after `after` in the time zone; `None` if there is none for years.
    ///
    /// Times that a clock change skips happen at the moment the clock has jumped to.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let local = after.to_zoned(zone.clone()).datetime();
        let mut date = local.date();
        for _ in 0..HORIZON_DAYS {
            if self.matches_date(date) {
                let times = self
                    .hours
                    .iter()
                    .flat_map(|hour| self.minutes.iter().map(move |minute| (*hour, *minute)));
                let found = times
                    .filter_map(|(hour, minute)| {
                        let time = DateTime::from_parts(
                            date,
                            jiff::civil::time(hour.cast_signed(), minute.cast_signed(), 0, 0),
                        );
                        Some(zone.to_zoned(time).ok()?.timestamp())
                    })
                    .find(|time| *time > after);
                if found.is_some() {
                    return found;
                }
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    fn matches_date(&self, date: Date) -> bool {
        let contains =
            |set: &BTreeSet<u8>, value: i8| u8::try_from(value).is_ok_and(|value| set.contains(&value));
        let day = contains(&self.days, date.day());
        let weekday = contains(&self.weekdays, date.weekday().to_sunday_zero_offset());
        let suitable =
            if self.restricts_days && self.restricts_weekdays { day || weekday } else { day && weekday };
        contains(&self.months, date.month()) && suitable
    }
}

fn is_any(field: &str) -> bool {
    field.starts_with('*') || field.starts_with('?')
}

fn parse_field(text: &str, low: u8, high: u8, names: &[&str], base: u8) -> Result<BTreeSet<u8>, String> {
    let value = |part: &str| -> Result<u8, String> {
        let lower = part.to_ascii_lowercase();
        if let Some(position) = names.iter().position(|name| *name == lower) {
            return Ok(base + u8::try_from(position).unwrap_or(0));
        }
        let number: u8 = part.parse().map_err(|_| format!("has {part:?}, which is not a number"))?;
        if (low..=high).contains(&number) {
            Ok(number)
        } else {
            Err(format!("must be within {low} and {high}"))
        }
    };
    let mut set = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step: usize =
                    step.parse().map_err(|_| format!("has the step {step:?}, which is not a number"))?;
                (range, Some(step).filter(|step| *step > 0).ok_or("has the step 0")?)
            }
            None => (part, 1),
        };
        let stepped = part.contains('/');
        let (first, last) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (low, high),
            Some((first, last)) => (value(first)?, value(last)?),
            None => {
                let first = value(range)?;
                (first, if stepped { high } else { first })
            }
        };
        if first > last {
            return Err("has a range that ends before it begins".into());
        }
        set.extend((first..=last).step_by(step));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nexts(schedule: &str, after: &str, zone: &TimeZone, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule).unwrap();
        let mut time: Timestamp = after.parse().unwrap();
        (0..count)
            .map(|_| {
                time = schedule.next(time, zone).unwrap();
                time.to_string()
            })
            .collect()
    }

    #[test]
    fn fields_lists_steps_and_names() {
        let utc = &TimeZone::UTC;
        for (schedule, expected) in [
            ("*/20 * * * *", ["2026-01-01T00:20:00Z", "2026-01-01T00:40:00Z"]),
            ("5,35 8-9 * * *", ["2026-01-01T08:05:00Z", "2026-01-01T08:35:00Z"]),
            ("@hourly", ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"]),
            ("0 0 29 feb *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
            ("0 12 * * MON", ["2026-01-05T12:00:00Z", "2026-01-12T12:00:00Z"]),
            ("0 12 * * 7", ["2026-01-04T12:00:00Z", "2026-01-11T12:00:00Z"]),
            // Both day fields restricted: either matches.
            ("0 0 2 * fri", ["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z"]),
            ("0 0 31 * *", ["2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z"]),
        ] {
            assert_eq!(nexts(schedule, "2026-01-01T00:00:30Z", utc, 2), expected, "{schedule}");
        }
    }

    #[test]
    fn time_zones_and_clock_changes() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(nexts("0 6 * * *", "2026-07-01T00:00:00Z", &zone, 1), ["2026-07-01T04:00:00Z"]);
        // 02:30 does not exist on 29 March 2026.
        assert_eq!(
            nexts("30 2 * * *", "2026-03-28T12:00:00Z", &zone, 2),
            ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (schedule, problem) in [
            ("* * * *", "4 fields instead of 5"),
            ("61 * * * *", "minute \"61\" must be within 0 and 59"),
            ("* * 0 * *", "day of month \"0\" must be within 1 and 31"),
            ("*/0 * * * *", "minute \"*/0\" has the step 0"),
            ("5-1 * * * *", "minute \"5-1\" has a range that ends before it begins"),
            ("* * * foo *", "month \"foo\" has \"foo\", which is not a number"),
        ] {
            assert_eq!(Schedule::parse(schedule).unwrap_err().problem, problem);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-*/0-9a-z, @?]{0,24}") {
            if let Ok(schedule) = Schedule::parse(&text) {
                let after = Timestamp::from_second(1_767_225_600).unwrap();
                if let Some(next) = schedule.next(after, &TimeZone::UTC) {
                    prop_assert!(next > after);
                }
            }
        }
    }
}
