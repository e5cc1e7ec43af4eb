//! Jobs and what makes them.

use super::field::{Errors, Field};
use super::{labels, pod};
use crate::machinery::field_error::FieldError;
use crate::machinery::selector::LabelSelector;

/// Most indexes of an indexed job that runs many pods at once.
const PARALLELISM_MAX: i64 = 100_000;
/// Longest name of a CronJob: its jobs add eleven letters.
const CRON_NAME_MAX: usize = 52;

/// A Job.
pub(super) fn job(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    job_spec(&spec, errors);
    let selector = spec.get("selector");
    if selector.value.is_null() {
        selector.missing("", errors);
    } else {
        labels::selector(&selector, errors);
        labels::matches_template(LabelSelector::from_object(selector.value).ok().flatten(), &spec, errors);
    }
}

fn job_spec(spec: &Field<'_>, errors: &mut Errors) {
    for name in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "backoffLimitPerIndex",
        "ttlSecondsAfterFinished",
        "maxFailedIndexes",
    ] {
        spec.get(name).not_negative(errors);
    }
    let mode = spec.get("completionMode");
    mode.optional_one_of(&["Indexed", "NonIndexed"], errors);
    if mode.text() == "Indexed" {
        let completions = spec.get("completions");
        if completions.is_absent() {
            completions.missing("when completion mode is Indexed", errors);
        }
        let parallelism = spec.get("parallelism");
        if parallelism.number().is_some_and(|number| number > PARALLELISM_MAX) {
            let message =
                format!("must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed");
            parallelism.invalid(message, errors);
        }
    } else if spec.get("backoffLimitPerIndex").is_present() {
        spec.get("backoffLimitPerIndex").invalid("requires indexed completion mode", errors);
    }
    spec.get("podReplacementPolicy").optional_one_of(&["Failed", "TerminatingOrFailed"], errors);
    let template = spec.get("template");
    pod::template(&template, errors);
    let policy = template.at(&["spec", "restartPolicy"]);
    if policy.text() == "Always" || policy.is_absent() {
        let (path, value) = (policy.path.as_str(), policy.value.clone());
        errors.push(match policy.is_absent() {
            true => FieldError::required(path, "valid values: \"OnFailure\", \"Never\""),
            false => FieldError::not_supported(path, value, ["OnFailure", "Never"]),
        });
    }
}

/// A change of a Job.
pub(super) fn job_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let (new, before) = (new.get("spec"), old.get("spec"));
    new.get("selector").unchanged(&before.get("selector"), errors);
    new.get("completionMode").unchanged(&before.get("completionMode"), errors);
    new.get("podFailurePolicy").unchanged(&before.get("podFailurePolicy"), errors);
    new.get("backoffLimitPerIndex").unchanged(&before.get("backoffLimitPerIndex"), errors);
    // Where pods go may change while none has run.
    let suspended = before.get("suspend").is_true() && old.at(&["status", "startTime"]).is_absent();
    if !suspended {
        new.get("template").unchanged(&before.get("template"), errors);
    }
    let (completions, previous) = (new.get("completions"), before.get("completions"));
    let elastic =
        new.get("completionMode").text() == "Indexed" && new.get("parallelism").value == completions.value;
    if !elastic {
        completions.unchanged(&previous, errors);
    }
}

/// A CronJob.
pub(super) fn cron_job(object: &Field<'_>, errors: &mut Errors) {
    let name = object.at(&["metadata", "name"]);
    if name.text().len() > CRON_NAME_MAX {
        name.invalid(format!("must be no more than {CRON_NAME_MAX} characters"), errors);
    }
    let spec = object.get("spec");
    let schedule = spec.get("schedule");
    if schedule.require(errors) {
        if schedule.text().contains("TZ") {
            schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead", errors);
        } else if let Err(problem) = check_schedule(schedule.text()) {
            schedule.invalid(problem, errors);
        }
    }
    spec.get("concurrencyPolicy").one_of(&["Allow", "Forbid", "Replace"], errors);
    for name in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        spec.get(name).not_negative(errors);
    }
    let zone = spec.get("timeZone");
    if !zone.value.is_null() && jiff::tz::TimeZone::get(zone.text()).is_err() {
        zone.invalid("unknown time zone", errors);
    }
    let template = spec.get("jobTemplate");
    labels::template_metadata(&template, errors);
    job_spec(&template.get("spec"), errors);
}

/// Names for often used schedules.
const SHORTHANDS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Five fields of cron: minute, hour, day of the month, month, day of the week.
fn check_schedule(text: &str) -> Result<(), String> {
    if SHORTHANDS.contains(&text) || text.starts_with("@every ") {
        return Ok(());
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let limits: [(u32, u32, &str); 5] = [
        (0, 59, ""),
        (0, 23, ""),
        (1, 31, ""),
        (1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"),
        (0, 6, "sunmontuewedthufrisat"),
    ];
    if fields.len() != limits.len() {
        return Err(format!("expected exactly 5 fields, found {}: {text:?}", fields.len()));
    }
    for (field, (least, most, names)) in fields.iter().zip(limits) {
        for part in field.split(',') {
            check_part(part, least, most, names)
                .ok_or_else(|| format!("{part:?} is not between {least} and {most}"))?;
        }
    }
    Ok(())
}

/// `*`, `?`, a number or a range, with or without a step.
fn check_part(part: &str, least: u32, most: u32, names: &str) -> Option<()> {
    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    if step.is_some_and(|step| step.parse::<u32>().is_ok_and(|step| step > 0)).then_some(()).is_none()
        && step.is_some()
    {
        return None;
    }
    if matches!(range, "*" | "?") {
        return Some(());
    }
    let number = |text: &str| -> Option<u32> {
        let by_name = || names.find(&text.to_lowercase()).filter(|at| text.len() == 3 && at % 3 == 0);
        let number =
            text.parse().ok().or_else(|| u32::try_from(by_name()? / 3).ok().map(|index| index + least))?;
        (least..=most).contains(&number).then_some(number)
    };
    match range.split_once('-') {
        Some((first, last)) => (number(first)? <= number(last)?).then_some(()),
        None => number(range).map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_schedule;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-23/2 1,15 jan-mar MON", "0 0 ? * 6", "@daily", "@every 1h"] {
            assert_eq!(check_schedule(good), Ok(()), "{good}");
        }
        for wrong in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
        ] {
            assert!(check_schedule(wrong).is_err(), "{wrong}");
        }
    }
}
