use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

/// A program in place of helm.
fn script(directory: &Path, body: &str) -> PathBuf {
    let path = directory.join("helm");
    // Written under another name and moved: a program that is open for writing elsewhere cannot be started.
    let draft = directory.join("draft");
    fs::write(&draft, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&draft, &path).unwrap();
    path
}

async fn run(body: &str, limits: ProcessLimits) -> Result<String, ProcessError> {
    let directory = tempfile::tempdir().unwrap();
    let helm = Helm {
        program: script(directory.path(), body),
        version: "v3.18.0".to_owned(),
        confinement: Confinement::find().await,
    };
    let printed = helm.run(&["template".to_owned()], directory.path(), &limits).await?;
    Ok(String::from_utf8(printed.output).unwrap())
}

#[tokio::test]
async fn versions_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let limits = ProcessLimits::default();
    for (body, good) in [
        ("echo v3.18.0", true),
        ("echo v3.9.1+g5", true),
        ("echo v4.1.4", false),
        ("echo v2.17.0", false),
        ("echo 'something else'", false),
        ("echo no >&2; exit 1", false),
    ] {
        let program = script(directory.path(), body);
        match Helm::find(Some(&program), &limits).await {
            Ok(helm) => assert!(good && helm.version.starts_with("v3."), "{body}: {helm}"),
            Err(error) => {
                assert!(!good, "{body}: {error}");
                assert!(error.to_string().contains("3.18") && error.to_string().contains("helm"), "{error}");
            }
        }
    }
    let absent = Helm::find(Some(Path::new("/nowhere/helm")), &limits).await.unwrap_err();
    assert!(absent.to_string().contains("/nowhere/helm"), "{absent}");
}

#[tokio::test]
async fn nothing_of_the_user_is_there() {
    let printed = run("env; pwd; ip link 2>/dev/null | grep -c '^[0-9]' || true", ProcessLimits::default())
        .await
        .unwrap();
    let home = printed.lines().find_map(|line| line.strip_prefix("HOME=")).unwrap();
    assert!(printed.lines().any(|line| line == home), "{printed}");
    assert!(printed.contains("KUBECONFIG=/dev/null"));
    let known = [
        "PATH",
        "HOME",
        "TMPDIR",
        "KUBECONFIG",
        "HELM_",
        "GOMEMLIMIT",
        "LC_ALL",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    ];
    for name in printed.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name) {
        assert!(known.iter().any(|known| name.starts_with(known)), "{name}");
    }
}

#[tokio::test]
async fn there_is_no_network() {
    if Confinement::find().await == Confinement::None {
        println!("skipped: no network namespace can be made here");
        return;
    }
    let devices = run("cat /proc/net/dev", ProcessLimits::default()).await.unwrap();
    let devices: Vec<&str> =
        devices.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    assert_eq!(devices, ["lo"]);
}

#[tokio::test]
async fn endless_output_is_ended() {
    let limits = ProcessLimits { output: 100_000, ..ProcessLimits::default() };
    assert_eq!(run("yes", limits).await.unwrap_err(), ProcessError::TooMuchOutput(100_000));
    let words =
        run("yes >&2 & sleep 0.2; kill $!; echo done; exit 0", ProcessLimits::default()).await.unwrap();
    assert_eq!(words, "done\n");
}

#[tokio::test]
async fn what_takes_too_long_is_ended_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("pid");
    let wall = Duration::from_secs(10);
    let body = format!("sleep 600 & echo $! > {}; wait", mark.display());
    let error = run(&body, ProcessLimits { wall, ..ProcessLimits::default() }).await.unwrap_err();
    assert_eq!(error, ProcessError::TooSlow(wall));
    let child = fs::read_to_string(&mark).unwrap();
    let gone = || match fs::read_to_string(format!("/proc/{}/stat", child.trim())) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    for _ in 0..600 {
        if gone() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the child {child} is still there");
}

#[tokio::test]
async fn a_render_that_is_given_up_ends_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("pid");
    let body = format!("echo $$ > {}; exec sleep 600", mark.display());
    let task = tokio::spawn(async move { run(&body, ProcessLimits::default()).await });
    let mut process = String::new();
    for _ in 0..1200 {
        process = fs::read_to_string(&mark).unwrap_or_default();
        if !process.trim().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!process.trim().is_empty(), "the process never began");
    task.abort();
    for _ in 0..1200 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the process {process} is still there");
}

#[tokio::test]
async fn processor_time_is_limited() {
    let limits = ProcessLimits { processor: 1, ..ProcessLimits::default() };
    let error = run("while :; do :; done", limits).await.unwrap_err();
    assert!(matches!(error, ProcessError::Ended(_)), "{error}");
}

#[tokio::test]
async fn errors_are_told_in_its_words() {
    let error = run(
        "echo 'Error: execution error at (app/templates/a.yaml:1:3): no host' >&2; exit 1",
        ProcessLimits::default(),
    );
    assert_eq!(
        error.await.unwrap_err().to_string(),
        "helm: execution error at (app/templates/a.yaml:1:3): no host"
    );
}
