//! Pictures of figures: lines over two logarithmic axes, as SVG.

use std::{fmt::Write as _, path::PathBuf};

use clap::Args;

use crate::Failure;

const SIZE: (f64, f64) = (820.0, 420.0);
/// Left, top, right and bottom edge of the lines; what they are called stands at the right of it.
const FRAME: (f64, f64, f64, f64) = (64.0, 40.0, 540.0, 366.0);
/// Room that the name of a line needs, from one to the next.
const ROW: f64 = 16.0;
const COLOURS: [&str; 8] =
    ["#1d4ed8", "#b45309", "#047857", "#be123c", "#7c3aed", "#0891b2", "#4d7c0f", "#334155"];

/// A picture: figures by a size, both above zero.
#[derive(Debug, Default)]
pub(crate) struct Plot {
    /// Stands above it.
    pub(crate) title: String,
    /// What grows to the right: `clusters`.
    pub(crate) size: String,
    /// What the figures are: `s`.
    pub(crate) unit: String,
    /// The lines, by name, each from left to right.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
    /// Figures that are wanted, and at which size.
    pub(crate) wanted: Vec<(f64, f64)>,
}

/// An axis: from 10 to the power of `low` to 10 to the power of `high`, between two places.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis that has room for all values.
    fn around(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values
            .map(f64::log10)
            .fold((f64::MAX, f64::MIN), |(low, high), power| (low.min(power), high.max(power)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        Self { low, high: if high > low { high } else { low + 1.0 }, from, to }
    }

    /// The same from a power of ten to a power of ten.
    fn whole(self) -> Self {
        let low = self.low.floor();
        Self { low, high: self.high.ceil().max(low + 1.0), ..self }
    }

    fn place(self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }
}

/// 1000 as `1k`.
fn short(value: f64) -> String {
    if value >= 1000.0 { format!("{}k", value / 1000.0) } else { format!("{value}") }
}

fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

impl Plot {
    /// The picture (SVG).
    pub(crate) fn draw(&self) -> String {
        let (width, height) = SIZE;
        let (left, top, right, bottom) = FRAME;
        let points = || self.lines.iter().flat_map(|(_, points)| points).chain(&self.wanted).copied();
        let across = Axis::around(points().map(|(size, _)| size), left, right);
        let up = Axis::around(points().map(|(_, value)| value), bottom, top).whole();
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' font-family='system-ui, sans-serif' font-size='12'>\n\
             <rect width='{width}' height='{height}' fill='#fff'/>\n\
             <text x='{left}' y='22' font-size='14' font-weight='600'>{}</text>\n",
            plain(&self.title)
        );
        self.grid(&mut svg, across, up);
        for (at, (value, name)) in self.rows(up).into_iter().zip(&self.lines).enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            line(&mut svg, name, colour, value, (across, up));
        }
        for (size, value) in &self.wanted {
            let (x, y) = (across.place(*size), up.place(*value));
            let _ = writeln!(
                svg,
                "<path d='M{:.1} {y:.1}h14' stroke='#111' stroke-width='2'/>\
                 <text x='{x:.1}' y='{:.1}' text-anchor='middle' font-size='11'>wanted: {value} {}</text>",
                x - 7.0,
                y - 6.0,
                plain(&self.unit)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn grid(&self, svg: &mut String, across: Axis, up: Axis) {
        let (left, top, right, bottom) = FRAME;
        let mut sizes: Vec<f64> =
            self.lines.iter().flat_map(|(_, points)| points).map(|(size, _)| *size).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        for size in sizes {
            let x = across.place(size);
            let _ = writeln!(
                svg,
                "<path d='M{x:.1} {top}V{bottom}' stroke='#e5e7eb'/>\
                 <text x='{x:.1}' y='{}' text-anchor='middle' fill='#4b5563'>{}</text>",
                bottom + 18.0,
                short(size)
            );
        }
        let mut power = up.low;
        while power <= up.high {
            let value = 10_f64.powf(power);
            let y = up.place(value);
            let _ = writeln!(
                svg,
                "<path d='M{left} {y:.1}H{right}' stroke='#e5e7eb'/>\
                 <text x='{}' y='{:.1}' text-anchor='end' fill='#4b5563'>{value} {}</text>",
                left - 6.0,
                y + 4.0,
                plain(&self.unit)
            );
            power += 1.0;
        }
        let _ = writeln!(
            svg,
            "<text x='{}' y='{}' text-anchor='middle' fill='#4b5563'>{}</text>",
            (left + right) / 2.0,
            bottom + 38.0,
            plain(&self.size)
        );
    }

    /// Where the name of each line stands: beside its end, and no two on each other.
    fn rows(&self, up: Axis) -> Vec<f64> {
        let end = |at: usize| self.lines[at].1.last().map_or(up.from, |(_, value)| up.place(*value));
        let mut order: Vec<usize> = (0..self.lines.len()).collect();
        order.sort_by(|a, b| end(*a).total_cmp(&end(*b)));
        let (mut rows, mut free) = (vec![0.0; order.len()], f64::MIN);
        for at in order {
            rows[at] = end(at).max(free);
            free = rows[at] + ROW;
        }
        rows
    }
}

/// Draws a line, and its name with its last figure at `row`.
fn line(
    svg: &mut String,
    (name, points): &(String, Vec<(f64, f64)>),
    colour: &str,
    row: f64,
    (across, up): (Axis, Axis),
) {
    let places: Vec<(f64, f64)> =
        points.iter().map(|(size, value)| (across.place(*size), up.place(*value))).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>",
        path.join(" ")
    );
    for (x, y) in &places {
        let _ = writeln!(svg, "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{colour}'/>");
    }
    let (Some((x, y)), Some((_, value))) = (places.last(), points.last()) else { return };
    let text = FRAME.2 + 16.0;
    let _ = writeln!(
        svg,
        "<path d='M{:.1} {y:.1}L{:.1} {row:.1}' stroke='{colour}' stroke-width='0.8'/>\
         <text x='{text}' y='{:.1}' fill='{colour}'>{}: {}</text>",
        x + 4.0,
        text - 3.0,
        row + 4.0,
        plain(name),
        rounded(*value)
    );
}

/// With three figures that count.
fn rounded(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// What is drawn, out of a table of figures.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The figures (CSV with a line of names)
    table: PathBuf,
    /// The picture that is written (SVG)
    #[arg(long)]
    svg: PathBuf,
    /// What stands above it
    #[arg(long)]
    title: String,
    /// The column that grows to the right
    #[arg(long)]
    size: String,
    /// What the figures are
    #[arg(long, default_value = "ms")]
    unit: String,
    /// A line: `NAME:COLUMN` or `NAME:COLUMN:FIELD=VALUE` (repeatable)
    #[arg(long = "line", value_parser = wanted_line)]
    lines: Vec<WantedLine>,
    /// A line for each value of a field: `FIELD:COLUMN`
    #[arg(long, value_parser = pair)]
    by: Option<(String, String)>,
    /// A figure that is wanted: `SIZE:VALUE` (repeatable)
    #[arg(long, value_parser = point)]
    wanted: Vec<(f64, f64)>,
}

/// A line of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WantedLine {
    name: String,
    column: String,
    only: Option<(String, String)>,
}

fn wanted_line(text: &str) -> Result<WantedLine, String> {
    let mut parts = text.splitn(3, ':').map(str::to_owned);
    let (Some(name), Some(column)) = (parts.next(), parts.next()) else {
        return Err("NAME:COLUMN is expected".to_owned());
    };
    let only = parts.next().map(|only| match only.split_once('=') {
        Some((field, value)) => Ok((field.to_owned(), value.to_owned())),
        None => Err(format!("FIELD=VALUE is expected instead of {only:?}")),
    });
    Ok(WantedLine { name, column, only: only.transpose()? })
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (field, column) = text.split_once(':').ok_or("FIELD:COLUMN is expected")?;
    Ok((field.to_owned(), column.to_owned()))
}

fn point(text: &str) -> Result<(f64, f64), String> {
    let (size, value) = text.split_once(':').ok_or("SIZE:VALUE is expected")?;
    Ok((drawable(size)?, drawable(value)?))
}

/// A number that has a place on a logarithmic axis.
fn drawable(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|error| format!("{text:?}: {error}"))?;
    let has_place = number.is_finite() && number > 0.0;
    has_place.then_some(number).ok_or_else(|| format!("{text:?}: a number above zero is expected"))
}

/// A table: what its columns are called, and its rows.
struct Table {
    names: csv::StringRecord,
    rows: Vec<csv::StringRecord>,
}

impl Table {
    fn read(file: &std::path::Path) -> Result<Self, Failure> {
        let mut reader =
            csv::Reader::from_path(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let names = reader.headers()?.clone();
        Ok(Self { names, rows: reader.records().collect::<Result<_, _>>()? })
    }

    fn column(&self, name: &str) -> Result<usize, Failure> {
        let found = self.names.iter().position(|own| own == name);
        found.ok_or_else(|| format!("there is no column {name:?}, but {:?}", self.names).into())
    }

    /// The values of a field, in the order in which they come.
    fn values(&self, field: &str) -> Result<Vec<String>, Failure> {
        let at = self.column(field)?;
        let mut values: Vec<String> = Vec::new();
        for value in self.rows.iter().filter_map(|row| row.get(at)) {
            if !values.iter().any(|known| known == value) {
                values.push(value.to_owned());
            }
        }
        Ok(values)
    }

    fn points(&self, size: &str, line: &WantedLine) -> Result<Vec<(f64, f64)>, Failure> {
        let (size, column) = (self.column(size)?, self.column(&line.column)?);
        let only = line.only.as_ref().map(|(field, value)| Ok::<_, Failure>((self.column(field)?, value)));
        let only = only.transpose()?;
        let counts =
            |row: &&csv::StringRecord| only.is_none_or(|(field, value)| row.get(field) == Some(value));
        let number = |row: &csv::StringRecord, at: usize| {
            let name = self.names.get(at).unwrap_or_default();
            drawable(row.get(at).unwrap_or_default()).map_err(|error| format!("column {name}: {error}"))
        };
        let mut points = Vec::new();
        for row in self.rows.iter().filter(counts) {
            points.push((number(row, size)?, number(row, column)?));
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if points.is_empty() {
            return Err(format!("{}: there is nothing to draw", line.name).into());
        }
        Ok(points)
    }
}

/// Draws figures that were kept.
pub(crate) fn from_table(options: &Options) -> Result<(), Failure> {
    let table = Table::read(&options.table)?;
    let mut wanted = options.lines.clone();
    if let Some((field, column)) = &options.by {
        let line = |value: String| WantedLine {
            name: value.clone(),
            column: column.clone(),
            only: Some((field.clone(), value)),
        };
        wanted.extend(table.values(field)?.into_iter().map(line));
    }
    let lines = wanted.into_iter().map(|line| {
        let points = table.points(&options.size, &line)?;
        Ok((line.name, points))
    });
    let plot = Plot {
        title: options.title.clone(),
        lines: lines.collect::<Result<_, Failure>>()?,
        size: options.size.clone(),
        unit: options.unit.clone(),
        wanted: options.wanted.clone(),
    };
    std::fs::write(&options.svg, plot.draw())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_out_of_a_table() {
        let directory = tempfile::tempdir().unwrap();
        let (file, svg) = (directory.path().join("t.csv"), directory.path().join("t.svg"));
        std::fs::write(&file, "hosts,what,ms\n10000,\"a, or b\",40\n1000,\"a, or b\",4\n1000,c <d>,1\n")
            .unwrap();
        let options = |column: &str| Options {
            table: file.clone(),
            svg: svg.clone(),
            title: "t".into(),
            size: "hosts".into(),
            unit: "ms".into(),
            lines: Vec::new(),
            by: Some(("what".into(), column.into())),
            wanted: vec![(10_000.0, 100.0)],
        };
        from_table(&options("ms")).unwrap();
        let drawn = std::fs::read_to_string(&svg).unwrap();
        // From left to right although the table is not in order, over the whole width, at a power of ten and above it.
        let (left, _, right, bottom) = FRAME;
        assert!(
            drawn.contains(&format!("points='{left:.1},")) && drawn.contains(&format!(" {right:.1},")),
            "{drawn}"
        );
        assert!(drawn.contains(&format!("cx='{left:.1}' cy='{bottom:.1}'")), "1 ms is the lowest: {drawn}");
        assert!(
            drawn.contains("a, or b: 40.0") && drawn.contains("c &lt;d>") && drawn.contains("wanted: 100 ms")
        );
        assert!(from_table(&options("nothing")).unwrap_err().to_string().contains("there is no column"));
        assert_eq!(wanted_line("a:b:c=d").unwrap().only, Some(("c".into(), "d".into())));
        assert!(wanted_line("a").is_err() && wanted_line("a:b:c").is_err() && point("1").is_err());
        assert!(point("10:0").is_err() && point("inf:1").is_err() && point("1:NaN").is_err());
    }

    #[test]
    fn names_do_not_stand_on_each_other() {
        let line = |value: f64| (String::new(), vec![(1.0, value), (10.0, value)]);
        let plot = Plot { lines: vec![line(5.0), line(5.1), line(4.9), line(100.0)], ..Plot::default() };
        let mut rows = plot.rows(Axis { low: 0.0, high: 2.0, from: 300.0, to: 0.0 });
        rows.sort_by(f64::total_cmp);
        assert!(rows.windows(2).all(|pair| pair[1] - pair[0] >= ROW), "{rows:?}");
    }
}
