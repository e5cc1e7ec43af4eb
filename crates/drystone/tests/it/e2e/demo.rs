//! The demo itself: what the README's first command does.

use std::process::Command;

use crate::stage::{is_skipped, workspace};

fn demo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drystone"));
    let output = command.arg("demo").args(arguments).current_dir(workspace()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_main_job() {
    if is_skipped() {
        return;
    }
    let text = demo(&[]);
    for phase in [
        "12 hosts inspected over Redfish",
        "proven from the tables read back",
        "3 nodes ready",
        "3 pods ready on 2 workers",
        "answers the campus",
        "2 ways between two clusters, and none is open",
        "10 pods run; 3 nodes became 4",
        "no zone, no lease, no host in use",
    ] {
        assert!(text.contains(phase), "{phase:?} is missing in:\n{text}");
    }
}

#[test]
fn without_real_hosts_it_says_so() {
    let text = demo(&["--simulate"]);
    assert!(
        text.contains("Hosts are simulated") && text.contains("no zone, no lease, no host in use"),
        "{text}"
    );
}
