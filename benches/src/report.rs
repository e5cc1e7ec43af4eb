//! What was measured, as a table on the terminal and in Markdown.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use jiff::Zoned;

use crate::{
    Failure,
    statistics::{Sorted, milliseconds},
};

const BEGIN: &str = "<!-- results -->";
const END: &str = "<!-- end of results -->";
const HEADINGS: [&str; 4] = ["what", "Drystone", "peer, in the same run", "peer, measured earlier"];

/// One line of the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// Ours.
    pub(crate) ours: String,
    /// The peer's in the same run; empty if none ran.
    pub(crate) peer: String,
    /// A peer's figure from an earlier measurement on a machine of this kind: for orientation, not for comparison.
    pub(crate) earlier: &'static str,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Report {
    circumstances: Vec<String>,
    rows: Vec<Row>,
}

impl Report {
    /// Notes when, where and beside what else is measured; data will lie in `directory`.
    pub(crate) fn start(directory: &Path) -> Result<Self, Failure> {
        let circumstances = vec![
            format!("date: {}", Zoned::now().strftime("%Y-%m-%d %H:%M %Z")),
            format!("commit: {}", commit().unwrap_or_else(|| "unknown".to_owned())),
            format!("machine: {}", machine()),
            format!("disk: 4 KiB written and synced in {} (median)", milliseconds(synced_write(directory)?)),
            format!("other work when it began: {}", other_work()),
        ];
        for line in &circumstances {
            println!("{line}");
        }
        Ok(Self { circumstances, rows: Vec::new() })
    }

    /// Says what is going on.
    pub(crate) fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Adds a line, and shows it at once.
    pub(crate) fn add(&mut self, row: Row) {
        let peer = if row.peer.is_empty() { String::new() } else { format!("; peer {}", row.peer) };
        println!("{}: {}{peer}", row.what, row.ours);
        self.rows.push(row);
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(HEADINGS);
        for row in &self.rows {
            table.add_row([row.what.as_str(), &row.ours, &row.peer, row.earlier]);
        }
        println!("\n{table}");
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        for line in &self.circumstances {
            let _ = writeln!(text, "- {line}");
        }
        let _ = writeln!(text, "\n| {} |\n|{}", HEADINGS.join(" | "), "---|".repeat(HEADINGS.len()));
        for row in &self.rows {
            let cells = [row.what.as_str(), &row.ours, &row.peer, row.earlier];
            let _ = writeln!(text, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
        }
        text
    }

    /// Writes the table into a file: between its marks, or all of it if the file is new.
    pub(crate) fn record(&self, file: &Path) -> Result<(), Failure> {
        let old = match std::fs::read_to_string(file) {
            Ok(old) => old,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => format!("{BEGIN}\n{END}\n"),
            Err(error) => return Err(format!("reading {}: {error}", file.display()).into()),
        };
        let new = between_marks(&old, &self.markdown())
            .ok_or_else(|| format!("{} has no marks {BEGIN} and {END}; it is left alone", file.display()))?;
        std::fs::write(file, new).map_err(|error| format!("writing {}: {error}", file.display()).into())
    }
}

/// `text` with `results` between its marks.
fn between_marks(text: &str, results: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{results}{END}{after}"))
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn machine() -> String {
    let value = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
        line.and_then(|line| line.split_once(':').map(|(_, value)| value.trim().to_owned()))
            .unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (processor, memory) = (value("/proc/cpuinfo", "model name"), value("/proc/meminfo", "MemTotal"));
    format!("{cores} cores of {processor}, {memory}, Linux {}", kernel.trim())
}

/// How long the disk takes to make a small write durable: what no server can be faster than, for one client.
fn synced_write(directory: &Path) -> Result<Duration, Failure> {
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::tempfile_in(directory)?;
    let mut took = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    Ok(Sorted::new(took).median())
}

/// What else the machine does, as the number of processes that want to run.
fn other_work() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or_default();
    let word = if load > 0.5 { "machine shared with other work" } else { "none" };
    format!("{word} (load {load:.1})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_go_between_the_marks() {
        let text = format!("# Title\n{BEGIN}\nold\n{END}\nmore\n");
        assert_eq!(between_marks(&text, "new\n"), Some(format!("# Title\n{BEGIN}\nnew\n{END}\nmore\n")));
        assert_eq!(between_marks("no marks", "new"), None);
    }
}
