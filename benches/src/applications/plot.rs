//! Seconds by number of clusters, as a picture.

use std::fmt::Write as _;

use super::Measured;

const SIZE: (f64, f64) = (640.0, 400.0);
const FRAME: (f64, f64, f64, f64) = (60.0, 30.0, 620.0, 350.0);
/// Powers of ten on the axes.
const CLUSTERS: (f64, f64) = (0.0, 3.0);
const SECONDS: (f64, f64) = (-1.0, 3.0);

fn place(clusters: f64, seconds: f64) -> (f64, f64) {
    let part = |value: f64, (low, high): (f64, f64)| (value.log10() - low) / (high - low);
    let (left, top, right, bottom) = FRAME;
    (
        left + part(clusters, CLUSTERS) * (right - left),
        bottom - part(seconds.max(0.1), SECONDS) * (bottom - top),
    )
}

fn line(svg: &mut String, (name, colour): (&str, &str), points: &[(usize, f64)], row: f64) {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let places: Vec<(f64, f64)> =
        points.iter().map(|(count, seconds)| place(number(*count), *seconds)).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline fill='none' stroke='{colour}' stroke-width='2' points='{}'/>",
        path.join(" ")
    );
    for (x, y) in places {
        let _ = writeln!(svg, "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{colour}'/>");
    }
    let y = 48.0 + row * 16.0;
    let _ = writeln!(svg, "<rect x='72' y='{:.1}' width='12' height='3' fill='{colour}'/>", y - 4.0);
    let _ = writeln!(svg, "<text x='90' y='{y:.1}'>{name}</text>");
}

/// The picture (SVG).
pub(super) fn draw(ours: &[Measured], theirs: &[(usize, f64)], delay: u64) -> String {
    let (width, height) = SIZE;
    let (left, top, right, bottom) = FRAME;
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' font-family='sans-serif' font-size='12'>\n\
         <rect width='{width}' height='{height}' fill='white'/>\n\
         <text x='{left}' y='18'>Seconds until 144 objects (3 MB) are on all clusters, each answering after {delay} ms</text>\n"
    );
    for power in 0..=3_i32 {
        let (x, _) = place(10_f64.powi(power), 1.0);
        let _ = writeln!(svg, "<line x1='{x}' y1='{top}' x2='{x}' y2='{bottom}' stroke='#ddd'/>");
        let _ = writeln!(
            svg,
            "<text x='{x}' y='{}' text-anchor='middle'>{}</text>",
            bottom + 16.0,
            10_i32.pow(power.unsigned_abs())
        );
    }
    for power in -1..=3_i32 {
        let (_, y) = place(1.0, 10_f64.powi(power));
        let _ = writeln!(svg, "<line x1='{left}' y1='{y}' x2='{right}' y2='{y}' stroke='#ddd'/>");
        let _ = writeln!(
            svg,
            "<text x='{}' y='{}' text-anchor='end'>{}</text>",
            left - 6.0,
            y + 4.0,
            10_f64.powi(power)
        );
    }
    let _ = writeln!(
        svg,
        "<text x='{}' y='{}' text-anchor='middle'>clusters</text>",
        (left + right) / 2.0,
        bottom + 36.0
    );
    let of = |value: fn(&Measured) -> f64| -> Vec<(usize, f64)> {
        ours.iter().map(|measured| (measured.clusters, value(measured))).collect()
    };
    line(&mut svg, ("Drystone, applied and durable", "#1f77b4"), &of(|one| one.installed), 0.0);
    line(&mut svg, ("Drystone, ready again after a restart", "#2ca02c"), &of(|one| one.resumed), 1.0);
    line(&mut svg, ("kubectl apply, in parallel", "#d62728"), theirs, 2.0);
    svg.push_str("</svg>\n");
    svg
}
