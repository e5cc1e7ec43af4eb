//! kubectl, through an API server, to containers; over SPDY and over WebSocket.

mod node;

use drystone_loopback::free_port;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use drystone_identity::{CertificateProfile, tls, user::MASTERS};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use k8s_openapi::jiff::Timestamp;
use tokio::io::AsyncReadExt;

use self::node::{Node, busybox, eventually, is_possible};

/// What makes kubectl use one transport or the other.
const TRANSPORTS: [(&str, [(&str, &str); 2]); 2] = [
    (
        "WebSocket",
        [("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "true"), ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "true")],
    ),
    ("SPDY", [("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"), ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")]),
];

#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A command that is killed if it is still there.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(node: &Node, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().copied());
    command.env("KUBECONFIG", &node.kubeconfig).env("HOME", node.directory.path());
    command.env_remove("HTTPS_PROXY").env_remove("https_proxy").env("NO_PROXY", "*");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
async fn run(mut command: Command, input: Vec<u8>) -> Said {
    let shown = format!("{command:?}");
    let run = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writing = std::thread::spawn(move || {
            // A command that does not read its input ends before it is written.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        output
    });
    let output = tokio::time::timeout(Duration::from_secs(180), run).await;
    let output = output.unwrap_or_else(|_| panic!("it does not end: {shown}")).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn kubectl(node: &Node, arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Said {
    run(command(node, "kubectl", arguments, environment), input.as_bytes().to_vec()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_reaches_containers() {
    if !is_possible() {
        return;
    }
    let node = Node::start().await;
    let port = free_port();
    Box::pin(node.run_pod("web", &[("main", &["main", &port.to_string()])])).await;
    eventually("the program is ready", async || {
        let said = kubectl(&node, &["logs", "web"], &[], "").await;
        (said.out.contains("ready\n") && said.out.contains("error line\n")).then_some(())
    })
    .await;
    logs(&node).await;
    for (name, environment) in &TRANSPORTS {
        println!("over {name}");
        exec(&node, environment).await;
        copy(&node, environment).await;
        terminal(&node, environment).await;
        forward(&node, environment, port).await;
        attach(&node, &format!("attach-{}", name.to_lowercase()), environment).await;
    }
    older_web_socket(&node).await;
    statistics(&node).await;
    follow_to_the_end(&node, port).await;
    node.end().await;
}

async fn logs(node: &Node) {
    let long = "x".repeat(40_000);
    let logs = async |arguments: &[&str]| {
        let said = kubectl(node, &[&["logs", "web"], arguments].concat(), &[], "").await;
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out
    };
    let all = logs(&[]).await;
    // The two streams may be written down in another order than they were written to.
    let rest: String =
        all.lines().filter(|line| *line != "error line").map(|line| format!("{line}\n")).collect();
    let lines: String = (1..=20).map(|number| format!("line {number}\n")).collect();
    assert_eq!(rest, format!("{lines}{long}\nready\n"));
    assert_eq!(all.lines().count(), 23);
    for count in 0..5 {
        let last: Vec<&str> = all.lines().skip(23 - count).collect();
        let tail = logs(&["--tail", &count.to_string()]).await;
        assert_eq!(tail.lines().collect::<Vec<_>>(), last);
    }
    assert_eq!(logs(&["--limit-bytes", "10"]).await, all[..10]);
    assert_eq!(logs(&["--since-time", "2100-01-01T00:00:00Z"]).await, "");
    let stamped = logs(&["--timestamps", "--limit-bytes", "42", "--since", "1h"]).await;
    let (time, text) = stamped.split_once(' ').unwrap();
    assert!(time.parse::<Timestamp>().is_ok() && all.starts_with(&text[..4]), "{stamped}");
    let said = kubectl(node, &["logs", "web", "--previous"], &[], "").await;
    assert!(said.err.contains("previous terminated container \"main\" in pod \"web\" not found"), "{said:?}");
}

async fn exec(node: &Node, environment: &[(&str, &str)]) {
    let said = kubectl(node, &["exec", "-i", "web", "--", "/subject", "cat"], environment, "hello").await;
    assert_eq!((said.code, said.out.as_str()), (Some(3), "hello"), "{said:?}");
    assert!(said.err.starts_with("done\n"), "{said:?}");
    // More than any buffer on the way holds.
    let much: String = (0..400_000).map(|number| format!("{number}\n")).collect();
    let said = kubectl(node, &["exec", "-i", "web", "--", "/subject", "cat"], environment, &much).await;
    assert!(said.out == much, "{} of {} bytes came back: {:?}", said.out.len(), much.len(), said.err);
    let said = kubectl(node, &["exec", "web", "--", "/subject", "terminal"], environment, "").await;
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (Some(0), "terminal: false\n", ""),
        "{said:?}"
    );
    let said = kubectl(node, &["exec", "web", "--", "/missing"], environment, "").await;
    assert!(said.code != Some(0) && said.err.contains("/missing"), "{said:?}");
}

async fn copy(node: &Node, environment: &[(&str, &str)]) {
    if busybox().is_none() {
        println!("skipped: kubectl cp needs a tar in the container, and there is no static busybox");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let (there, back) = (node.directory.path().join("there"), node.directory.path().join("back"));
    let contents: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(3_000_000).collect();
    std::fs::write(&there, &contents).unwrap();
    let said = kubectl(node, &["cp", &there.display().to_string(), "web:/copied"], environment, "").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = kubectl(node, &["cp", "web:/copied", &back.display().to_string()], environment, "").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(std::fs::read(&back).unwrap() == contents);
}

async fn terminal(node: &Node, environment: &[(&str, &str)]) {
    let line = "kubectl exec -it web -- /subject terminal";
    let exists = Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success());
    if !exists {
        println!("skipped: there is no `script` to give kubectl a terminal");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let said = run(command(node, "script", &["-qec", line, "/dev/null"], environment), Vec::new()).await;
    assert!(said.code == Some(0) && said.out.contains("terminal: true\r\n"), "{said:?}");
}

/// Asks the program behind a forwarded port.
fn ask(port: u16, question: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

async fn forward(node: &Node, environment: &[(&str, &str)], port: u16) {
    let mapping = format!(":{port}");
    let mut command = command(node, "kubectl", &["port-forward", "pod/web", &mapping], environment);
    let mut forwarding = Running(command.spawn().unwrap());
    let output = forwarding.0.stdout.take().unwrap();
    let asking = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        // Open until the end: kubectl goes on writing, and would not survive that nobody reads.
        let mut output = BufReader::new(output);
        output.read_line(&mut line).unwrap();
        let from = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        let from = from.unwrap_or_else(|| panic!("kubectl says {line:?}"));
        for number in 0..3 {
            assert_eq!(ask(from, &format!("question {number}\n")), format!("QUESTION {number}\n"));
        }
        drop(output);
    });
    tokio::time::timeout(Duration::from_secs(180), asking).await.expect("forwarding takes too long").unwrap();
}

async fn attach(node: &Node, pod: &str, environment: &[(&str, &str)]) {
    Box::pin(node.run_pod(pod, &[("input", &["cat"])])).await;
    let said = kubectl(node, &["attach", "-i", pod], environment, "to be repeated\n").await;
    assert!(said.out.contains("to be repeated\n"), "{said:?}");
}

/// Connects to the kubelet API itself.
async fn send(
    node: &Node,
    groups: Option<&[&str]>,
    request: Request<Empty<bytes::Bytes>>,
) -> Response<Incoming> {
    let identity = groups.map(|groups| {
        let profile = CertificateProfile::client("somebody", groups.iter().copied());
        node.ca.issue(&profile, Timestamp::now()).unwrap()
    });
    let mut config = tls::client_config(&node.ca.certificate_pem(), identity.as_ref()).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(node.address.ip().into(), stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.unwrap()
}

async fn get(node: &Node, groups: Option<&[&str]>, path: &str) -> (StatusCode, String) {
    let request = Request::builder().uri(path).header("host", "node").body(Empty::new()).unwrap();
    let response = send(node, groups, request).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// What the runtime speaks itself is passed through.
async fn older_web_socket(node: &Node) {
    let request = Request::builder()
        .uri("/exec/default/web/main?output=1&command=/subject&command=terminal")
        .header("host", "node")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "v4.channel.k8s.io")
        .body(Empty::new());
    let response = send(node, Some(&[MASTERS]), request.unwrap()).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-protocol"], "v4.channel.k8s.io");
    let tunnel: Upgraded = hyper::upgrade::on(response).await.unwrap();
    let mut tunnel = TokioIo::new(tunnel);
    let mut said = Vec::new();
    let expected = b"\x01terminal: false\n";
    while !said.windows(expected.len()).any(|window| window == expected) {
        let read = tokio::time::timeout(Duration::from_secs(60), tunnel.read_buf(&mut said)).await;
        assert!(read.expect("the command says nothing").unwrap() > 0, "{}", String::from_utf8_lossy(&said));
    }
}

async fn statistics(node: &Node) {
    assert_eq!(get(node, None, "/stats/summary").await, (StatusCode::UNAUTHORIZED, "Unauthorized".into()));
    let (status, text) = get(node, Some(&["nobodies"]), "/stats/summary").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
    assert_eq!(text, "Forbidden (user=somebody, verb=get, resource=nodes, subresource=stats)");
    let admin = Some(&[MASTERS][..]);
    assert_eq!(get(node, admin, "/healthz").await, (StatusCode::OK, "ok".into()));
    let (_, text) = get(node, admin, "/pods").await;
    let pods: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(pods["items"][0]["metadata"]["name"], "web");
    let summary = eventually("the container is measured", async || {
        let (status, text) = get(node, admin, "/stats/summary").await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
        let web = summary["pods"].as_array()?.iter().find(|pod| pod["podRef"]["name"] == "web")?;
        (web["containers"][0]["memory"]["workingSetBytes"].as_u64()? > 0).then(|| summary.clone())
    })
    .await;
    assert!(summary["node"]["cpu"]["usageCoreNanoSeconds"].as_u64().unwrap() > 0);
    assert!(summary["node"]["runtime"]["imageFs"]["capacityBytes"].as_u64().unwrap() > 0, "{summary:#}");
    let (_, metrics) = get(node, admin, "/metrics/resource").await;
    for expected in [
        "node_cpu_usage_seconds_total ",
        "node_memory_working_set_bytes ",
        "container_cpu_usage_seconds_total{container=\"main\",namespace=\"default\",pod=\"web\"} ",
        "container_memory_working_set_bytes{container=\"main\",namespace=\"default\",pod=\"web\"} ",
        "pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} ",
    ] {
        assert!(metrics.contains(expected), "{expected}\n{metrics}");
    }
}

async fn follow_to_the_end(node: &Node, port: u16) {
    let mut command = command(node, "kubectl", &["logs", "-f", "--tail", "1", "web"], &[]);
    let mut following = Running(command.spawn().unwrap());
    let mut output = BufReader::new(following.0.stdout.take().unwrap());
    let reading = tokio::task::spawn_blocking(move || {
        let mut lines = Vec::new();
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            lines.push(std::mem::take(&mut line));
            if lines.len() == 1 {
                assert_eq!(ask(port, "stop\n"), "STOP\n");
            }
        }
        lines
    });
    let lines = tokio::time::timeout(Duration::from_secs(180), reading).await;
    let lines = lines.expect("following does not end with the container").unwrap();
    assert_eq!(lines.last().map(String::as_str), Some("bye\n"), "{lines:?}");
    let said = kubectl(node, &["exec", "web", "--", "/subject", "terminal"], &[], "").await;
    assert!(said.code != Some(0) && said.err.contains("container not found (\"main\")"), "{said:?}");
}
