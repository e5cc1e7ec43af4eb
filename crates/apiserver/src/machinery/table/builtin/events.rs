//! Events, in the shape of the core group and in that of `events.k8s.io`.

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::Object;

pub(super) const EVENT: Printer = Printer::new(
    &[
        Column::text("Last Seen"),
        Column::text("Type"),
        Column::text("Reason"),
        Column::text("Object"),
        Column::wide("Subobject"),
        Column::wide("Source"),
        Column::text("Message"),
        Column::wide("First Seen"),
        Column::wide("Count"),
        Column { priority: 1, ..Column::NAME },
    ],
    |event| {
        let involved = event.part(if event.has("/regarding") { "/regarding" } else { "/involvedObject" });
        let object = match involved.text("/name") {
            "" => involved.text("/kind").to_lowercase(),
            name => format!("{}/{name}", involved.text("/kind").to_lowercase()),
        };
        vec![
            last_seen(event).into(),
            event.text("/type").into(),
            event.text("/reason").into(),
            object.into(),
            involved.text("/fieldPath").into(),
            source(event).into(),
            event.text_or("/message", event.text("/note")).trim().into(),
            first_seen(event).into(),
            count(event).to_string().into(),
            event.name(),
        ]
    },
);

/// The first of the places that holds a time, as an age.
fn age_of(event: Object<'_>, pointers: &[&str]) -> String {
    let pointer = pointers.iter().find(|pointer| event.has(pointer)).copied();
    event.since(pointer.unwrap_or_default())
}

/// Reporters that count in a series say there when they last saw it.
fn last_seen(event: Object<'_>) -> String {
    age_of(
        event,
        &[
            "/series/lastObservedTime",
            "/lastTimestamp",
            "/deprecatedLastTimestamp",
            "/eventTime",
            "/firstTimestamp",
        ],
    )
}

fn first_seen(event: Object<'_>) -> String {
    age_of(event, &["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"])
}

fn count(event: Object<'_>) -> i64 {
    let series = event.number("/series/count");
    let plain = event.number("/count").max(event.number("/deprecatedCount"));
    series.max(plain).max(1)
}

fn source(event: Object<'_>) -> String {
    let source = event.part(if event.has("/deprecatedSource") { "/deprecatedSource" } else { "/source" });
    let component = source
        .text_or("/component", event.text_or("/reportingComponent", event.text("/reportingController")));
    let host = source.text_or("/host", event.text("/reportingInstance"));
    let parts: Vec<&str> = [component, host].into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}
