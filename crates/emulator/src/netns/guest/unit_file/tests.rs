use proptest::prelude::*;

use super::*;

const AGENT: &str = "# comment
[Unit]
Description=Node agent of %H
After=network-online.target containerd.service
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/drystone node \\
  ; a comment between
  --config /etc/drystone/node.yaml ${MORE}
Environment=A=1 \"B=two words\"
EnvironmentFile=-/etc/default/%N
Restart=always
RestartSec=1min 500ms
RuntimeDirectory=drystone cni
KillMode=process
ExecStop=/bin/true

[Install]
WantedBy=multi-user.target
";

#[test]
fn a_typical_unit() {
    let unit = parse("agent.service", AGENT, "c03").unwrap();
    assert_eq!(unit.description, "Node agent of c03");
    assert_eq!(unit.after, ["network-online.target", "containerd.service"]);
    assert!(!unit.oneshot && unit.kill_main_only && unit.start_pre[0].ignore_failure);
    let variables = [("MORE".to_owned(), "-v".to_owned())].into();
    assert_eq!(
        unit.start[0].arguments(&variables),
        ["/usr/local/bin/drystone", "node", "--config", "/etc/drystone/node.yaml", "-v"]
    );
    assert_eq!(unit.environment[1], ("B".to_owned(), "two words".to_owned()));
    assert_eq!(unit.environment_files, [(PathBuf::from("/etc/default/agent"), true)]);
    assert_eq!((unit.restart, unit.restart_delay), (Restart::Always, Duration::from_millis(60_500)));
    assert_eq!(unit.directories, [PathBuf::from("/run/drystone"), PathBuf::from("/run/cni")]);
    assert_eq!(unit.start_limit, None);
    assert_eq!(unit.ignored, ["ExecStop"]);
}

#[test]
fn an_empty_assignment_starts_over() {
    let unit = parse("x.service", "[Service]\nExecStart=/a\nExecStart=\nExecStart=/b\n", "h").unwrap();
    assert_eq!(unit.start.len(), 1);
    assert_eq!(unit.start_limit, Some((5, Duration::from_secs(10))));
}

#[test]
fn mistakes_name_unit_and_key() {
    let message = |text: &str| parse("x.service", text, "h").unwrap_err().to_string();
    assert_eq!(message("[Service]\n"), "x.service: ExecStart: a service needs a command to start");
    assert!(message("[Service]\nExecStart=/a\nExecStart=/b\n").contains("oneshot"));
    assert!(message("[Service]\nExecStart=/a 'b\n").contains("ExecStart: a ' is not closed"));
    assert!(message("[Service]\nType=forking\nExecStart=/a\n").contains("Type: \"forking\""));
    assert!(message("[Service]\nRestart=maybe\nExecStart=/a\n").contains("Restart"));
    assert!(message("[Service]\nRestartSec=5 parsecs\nExecStart=/a\n").contains("parsecs"));
    assert!(message("[Service]\nEnvironment=A\nExecStart=/a\n").contains("NAME=VALUE"));
    assert!(message("[Service]\nKillSignal=SIGNOT\nExecStart=/a\n").contains("SIGNOT"));
}

#[test]
fn units_are_found_with_templates_and_drop_ins() {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("lib/systemd/system/a.service", "[Service]\nExecStart=/distribution\n");
    put("etc/systemd/system/a.service", "[Service]\nExecStart=/own %p\n");
    put("etc/systemd/system/a.service.d/10-more.conf", "[Service]\nUser=nobody\n");
    put("lib/systemd/system/t@.service", "[Service]\nExecStart=/t %i\n");
    let unit = load(root.path(), "a", "h").unwrap();
    assert_eq!(unit.start[0].arguments(&Default::default()), ["/own", "a"]);
    assert_eq!(unit.user.as_deref(), Some("nobody"));
    let instance = load(root.path(), "t@one.service", "h").unwrap();
    assert_eq!(instance.start[0].arguments(&Default::default()), ["/t", "one"]);
    assert_eq!(load(root.path(), "missing", "h"), Err(UnitError::NotFound("missing.service".to_owned())));
    for bad in ["../x.service", "x.socket", ".service", "a/b"] {
        assert!(matches!(load(root.path(), bad, "h"), Err(UnitError::Name(_))), "{bad}");
    }
}

#[test]
fn time_spans() {
    assert_eq!(time_span("5"), Ok(Duration::from_secs(5)));
    assert_eq!(time_span("1.5s"), Ok(Duration::from_millis(1500)));
    assert_eq!(time_span("2h 1 min"), Ok(Duration::from_secs(7260)));
    assert!(time_span("infinity").unwrap() > Duration::from_secs(1 << 31));
    assert!(time_span("").is_err() && time_span("s").is_err() && time_span("-3").is_err());
}

proptest! {
    #[test]
    fn any_text_is_handled(text in "(\\[Service\\]\n|Exec(Start|StartPre)=|[ -~]{0,20}|\n|\\\\|%){0,20}") {
        let _ = parse("x.service", &text, "h");
    }
}
