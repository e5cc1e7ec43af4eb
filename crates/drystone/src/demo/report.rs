//! What the demo tells: a line per step as it happens, a table at the end.

use std::time::{Duration, Instant};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

/// One phase and how it went.
struct Phase {
    name: String,
    took: Duration,
    result: String,
}

/// Collects phases.
pub(super) struct Report {
    started: Instant,
    phases: Vec<Phase>,
}

impl Report {
    /// Starts the clock.
    pub(super) fn start() -> Self {
        Self { started: Instant::now(), phases: Vec::new() }
    }

    /// A heading.
    pub(super) fn begin(&self, name: &str) -> Instant {
        println!("\n[{:>6.1} s] \u{25b6} {name}", self.started.elapsed().as_secs_f64());
        Instant::now()
    }

    /// A line of the phase at work.
    pub(super) fn line(&self, text: &str) {
        for line in text.lines() {
            println!("[{:>6.1} s]   {line}", self.started.elapsed().as_secs_f64());
        }
    }

    /// The end of a phase.
    pub(super) fn end(&mut self, name: &str, began: Instant, result: impl Into<String>) {
        let result = result.into();
        self.line(&format!("\u{2714} {result}"));
        self.phases.push(Phase { name: name.to_owned(), took: began.elapsed(), result });
    }

    /// The check at the very end.
    pub(super) fn note(&mut self, name: &str, left: &[String]) {
        let result = if left.is_empty() { "checked".to_owned() } else { left.join("\n") };
        self.phases.push(Phase { name: name.to_owned(), took: Duration::ZERO, result });
    }

    /// The table.
    pub(super) fn print(&self) {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(["phase", "seconds", "result"]);
        for phase in &self.phases {
            table.add_row([
                phase.name.clone(),
                format!("{:.1}", phase.took.as_secs_f64()),
                phase.result.clone(),
            ]);
        }
        println!("\n{table}\nin all {:.1} s", self.started.elapsed().as_secs_f64());
    }
}
