//! Seconds by number of clusters, as a picture.

use super::Measured;
use crate::plot::Plot;

/// The picture (SVG). `theirs` are seconds that `kubectl apply` took, by number of clusters; `delay` is what a cluster takes to answer, in
/// milliseconds.
pub(super) fn draw(ours: &[Measured], theirs: &[(usize, f64)], delay: u64) -> String {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let of = |value: fn(&Measured) -> f64| -> Vec<(f64, f64)> {
        ours.iter().map(|one| (number(one.clusters), value(one).max(0.01))).collect()
    };
    let mut lines = vec![
        ("applied and durable".to_owned(), of(|one| one.installed)),
        ("ready again after a restart".to_owned(), of(|one| one.resumed)),
    ];
    if !theirs.is_empty() {
        let theirs = theirs.iter().map(|(count, seconds)| (number(*count), *seconds)).collect();
        lines.push(("kubectl apply, in parallel".to_owned(), theirs));
    }
    Plot {
        title: format!(
            "Seconds until 144 objects (3 MB) are on all clusters, each answering after {delay} ms"
        ),
        size: "clusters".to_owned(),
        unit: "s".to_owned(),
        lines,
        wanted: vec![(100.0, 10.0), (1_000.0, 90.0)],
    }
    .draw()
}
