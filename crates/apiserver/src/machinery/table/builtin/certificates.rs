//! Certificate signing requests.

use super::Printer;
use crate::machinery::age;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::{NONE, Object};

pub(super) const SIGNING_REQUEST: Printer = Printer::new(
    &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName"),
        Column::text("Requestor"),
        Column::text("RequestedDuration"),
        Column::text("Condition"),
    ],
    |request| {
        let duration = request.at("/spec/expirationSeconds").as_i64().map(age::human_duration);
        vec![
            request.name(),
            request.age(),
            request.text_or("/spec/signerName", NONE).into(),
            request.text("/spec/username").into(),
            duration.unwrap_or_else(|| NONE.to_owned()).into(),
            condition(request).into(),
        ]
    },
);

/// What was decided, and what came of it: `Approved,Issued`.
fn condition(request: Object<'_>) -> String {
    let has = |condition: &str| request.condition(condition).is_some();
    let mut words = Vec::new();
    match (has("Denied"), has("Approved")) {
        (true, _) => words.push("Denied"),
        (_, true) => words.push("Approved"),
        _ => words.push("Pending"),
    }
    if has("Failed") {
        words.push("Failed");
    }
    if !request.text("/status/certificate").is_empty() {
        words.push("Issued");
    }
    words.join(",")
}
