//! Our orders of versions are those of dpkg and rpm themselves, over many random pairs.

use std::{cmp::Ordering, process::Command};

use drystone_api::PackageManager;
use drystone_software::version::compare;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

fn sampled(strategy: impl Strategy<Value = String>, count: usize) -> Vec<String> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Every pair of neighbours, and some far apart.
fn pairs(versions: &[String]) -> Vec<(&String, &String)> {
    let near = versions.windows(2).map(|pair| (&pair[0], &pair[1]));
    let far = versions.iter().zip(versions.iter().rev());
    near.chain(far).collect()
}

/// Asks dpkg about all pairs in one shell: starting one for each is what takes the time.
fn dpkg_says(pairs: &[(&String, &String)]) -> Vec<Ordering> {
    let mut script = String::new();
    for (a, b) in pairs {
        script.push_str(&format!(
            "if dpkg --compare-versions '{a}' lt '{b}'; then echo Less; elif dpkg --compare-versions '{a}' eq '{b}'; then echo Equal; else echo Greater; fi\n"
        ));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("script");
    std::fs::write(&file, script).expect("written");
    answers("sh", &[&file.display().to_string()])
}

fn rpm_says(pairs: &[(&String, &String)]) -> Vec<Ordering> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pairs");
    let lines: Vec<String> = pairs.iter().map(|(a, b)| format!("{a} {b}")).collect();
    std::fs::write(&file, lines.join("\n")).expect("written");
    let code = format!(
        "%{{lua: for line in io.lines('{}') do local a, b = line:match('^(%S+) (%S+)$'); local c = rpm.vercmp(a, b); \
         print(c < 0 and 'Less\\n' or c == 0 and 'Equal\\n' or 'Greater\\n') end}}",
        file.display()
    );
    answers("rpm", &["--eval", &code])
}

fn answers(program: &str, arguments: &[&str]) -> Vec<Ordering> {
    let output = Command::new(program).args(arguments).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let order = |line: &str| match line {
        "Less" => Ordering::Less,
        "Equal" => Ordering::Equal,
        "Greater" => Ordering::Greater,
        other => panic!("{program} says {other}; {}", String::from_utf8_lossy(&output.stderr)),
    };
    text.lines().filter(|line| !line.is_empty()).map(order).collect()
}

fn agree(manager: PackageManager, pairs: &[(&String, &String)], theirs: &[Ordering]) {
    assert_eq!(pairs.len(), theirs.len());
    for ((a, b), theirs) in pairs.iter().zip(theirs) {
        assert_eq!(compare(manager, a, b).expect("versions"), *theirs, "{a} and {b}");
    }
    let equal = theirs.iter().filter(|order| order.is_eq()).count();
    println!("{} pairs, {equal} of them equal", pairs.len());
    assert!(equal > 0 && equal < theirs.len() / 2, "a test of nothing");
}

#[test]
fn debians_order_is_dpkgs() {
    if !is_there("dpkg") {
        println!("skipped: no dpkg");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let strategy =
        ("(0:|1:)?", "[0-2][0-1aA.+~-]{0,4}", "(-[01a+~]{1,2})?").prop_map(|(epoch, upstream, revision)| {
            format!("{epoch}{}{revision}", upstream.trim_end_matches('-'))
        });
    let versions = sampled(strategy, 900);
    let pairs = pairs(&versions);
    agree(PackageManager::Debian, &pairs, &dpkg_says(&pairs));
}

#[test]
fn rpms_order_is_rpms() {
    if !is_there("rpm") {
        println!("skipped: no rpm");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let strategy = ("(0:|1:)?", "[0-2a][0-1aA._+~^]{0,4}", "(-[01a._~^]{1,2})?")
        .prop_map(|(epoch, version, release)| format!("{epoch}{version}{release}"));
    let versions = sampled(strategy, 5_000);
    let pairs = pairs(&versions);
    agree(PackageManager::Rpm, &pairs, &rpm_says(&pairs));
}
