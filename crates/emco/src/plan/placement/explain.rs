//! Placement in words.

use std::fmt::Write as _;

use super::{Placement, Verdict};

impl Placement {
    /// Why the clusters of a group will not do: `: p+c1: it has no gpu; p+c2: …`. Empty if it has no clusters.
    pub(super) fn why_not(&self, app: &str, number: usize) -> String {
        let plan = self.apps.iter().find(|plan| plan.app == app);
        let group = plan.and_then(|plan| plan.groups.iter().find(|group| group.number == number));
        let Some(group) = group.filter(|group| !group.candidates.is_empty()) else {
            return ": no cluster has what its intent names".to_owned();
        };
        // More would not be read, and messages are kept.
        const SHOWN: usize = 8;
        let mut text = String::new();
        for (at, candidate) in group.candidates.iter().take(SHOWN).enumerate() {
            let sign = if at == 0 { ": " } else { "; " };
            let _ = write!(text, "{sign}{}: {}", candidate.cluster, candidate.reasons.join(", "));
        }
        let rest = group.candidates.len().saturating_sub(SHOWN);
        if rest > 0 {
            let _ = write!(text, "; and {rest} more");
        }
        text
    }

    /// For people: a line for each cluster of each group, with the reason.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for plan in &self.apps {
            let _ = writeln!(text, "app {}", plan.app);
            for remark in &plan.remarks {
                let _ = writeln!(text, "  {remark}");
            }
            for group in &plan.groups {
                let kind = if group.mandatory { "mandatory" } else { "one of" };
                let _ = writeln!(text, "  group {} ({kind})", group.number);
                for candidate in &group.candidates {
                    let mark = match candidate.verdict {
                        Verdict::Chosen => "->",
                        Verdict::Candidate => "? ",
                        Verdict::Passed => "  ",
                        Verdict::Unfit => "x ",
                    };
                    let _ =
                        writeln!(text, "    {mark} {}  {}", candidate.cluster, candidate.reasons.join("; "));
                }
            }
        }
        text
    }
}
