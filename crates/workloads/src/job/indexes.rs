//! Sets of completion indexes, in the interval form of the API (`0-2,5`). Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use crate::kind::annotation;

/// Annotation and label of a pod: the index it works on.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The index a pod works on.
pub fn index(pod: &Pod) -> Option<i32> {
    annotation(pod, INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// Reads the interval form; what cannot be read, or is not below `limit`, is left out.
pub fn parse(text: &str, limit: i32) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            indexes.extend(first.max(0)..=last.min(limit - 1));
        }
    }
    indexes
}

/// Writes the interval form.
pub fn format(indexes: &BTreeSet<i32>) -> String {
    let mut intervals: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match intervals.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => intervals.push((*index, *index)),
        }
    }
    let shown = |(first, last): &(i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    intervals.iter().map(shown).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_interval_form() {
        for text in ["", "0", "1,2", "0-2", "0-2,5,7,8,10-12"] {
            assert_eq!(format(&parse(text, 100)), text);
        }
        assert_eq!(parse("0-5,x,9", 3), BTreeSet::from([0, 1, 2]));
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(indexes in prop::collection::btree_set(0i32..60, 0..40)) {
            prop_assert_eq!(parse(&format(&indexes), 60), indexes);
        }
    }
}
