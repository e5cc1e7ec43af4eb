//! Against OpenSSH's server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use drystone_identity::Secret;
use drystone_ssh::{
    CommandLine, Credentials, Exit, HostKeys, HttpConnectProxy, Input, OutputStream, PrivateKey, Privilege,
    Session, SshError, Target, Timeouts,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::{LONG, PASSWORD, Server, eventually, is_running, pin, run, unavailable};

macro_rules! server {
    () => {
        match unavailable() {
            Some(why) => {
                println!("skipped: {why}");
                assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
                return;
            }
            None => Server::start(),
        }
    };
}

async fn text(session: &Session, program: &str) -> String {
    let outcome = session.run(CommandLine::new(program), LONG, |_, _| {}).await.expect("runs");
    outcome.succeeded(program).expect("succeeds").stdout.text()
}

#[tokio::test]
async fn keys_of_every_kind_log_in() {
    let server = server!();
    for kind in ["ed25519", "rsa", "ecdsa"] {
        for format in ["RFC4716", "PEM", "PKCS8"] {
            if (kind, format) == ("ed25519", "PEM") {
                continue;
            }
            let file = server.path(&format!("user_{kind}_{format}"));
            let file = file.to_str().expect("text");
            run("ssh-keygen", &["-q", "-t", kind, "-m", format, "-N", "", "-f", file]);
            std::fs::copy(format!("{file}.pub"), server.path("authorized_keys")).expect("copied");
            let pem = Secret::new(std::fs::read_to_string(file).expect("a key"));
            let key =
                PrivateKey::from_text(&pem, None).unwrap_or_else(|error| panic!("{kind} {format}: {error}"));
            let target = Target { credentials: Credentials::Key(key), ..server.target() };
            let session = server.try_connect(&target).await.expect("is let in");
            assert_eq!(text(&session, "id -un").await, "root", "{kind} {format}");
        }
    }
    let file = server.path("user_encrypted");
    let file = file.to_str().expect("text");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "opensesame", "-f", file]);
    std::fs::copy(format!("{file}.pub"), server.path("authorized_keys")).expect("copied");
    let pem = Secret::new(std::fs::read_to_string(file).expect("a key"));
    assert!(PrivateKey::from_text(&pem, None).expect_err("encrypted").to_string().contains("passphrase"));
    assert!(PrivateKey::from_text(&pem, Some(&"wrong".into())).is_err());
    let key = PrivateKey::from_text(&pem, Some(&"opensesame".into())).expect("the right passphrase");
    let target = Target { credentials: Credentials::Key(key), ..server.target() };
    server.try_connect(&target).await.expect("is let in");
}

#[tokio::test]
async fn passwords_are_right_or_wrong() {
    let server = server!();
    let session = server.try_connect(&server.target_of("root", PASSWORD)).await.expect("is let in");
    assert_eq!(text(&session, "echo in").await, "in");
    let error = server.try_connect(&server.target_of("root", "hunter2")).await.expect_err("wrong");
    assert!(matches!(&error, SshError::Authentication { .. }) && error.is_permanent(), "{error}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("root") && shown.contains("publickey"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_stranger_at_the_address_is_refused() {
    let server = server!();
    let other = PrivateKey::generate().expect("randomness");
    for known in [pin(&other.public_key()), pin(pin(&other.public_key()).fingerprint())] {
        let target = Target { host_keys: HostKeys::Pinned(vec![known.clone()]), ..server.target() };
        let error = server.try_connect(&target).await.expect_err("another key");
        assert!(matches!(&error, SshError::HostKeyMismatch { .. }) && error.is_permanent(), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(known.fingerprint()) && text.contains(&server.fingerprint("ed25519")),
            "{text}"
        );
        assert!(text.contains("pin the new key"), "{text}");
    }
    let none = Target { host_keys: HostKeys::Pinned(vec![]), ..server.target() };
    assert!(matches!(server.try_connect(&none).await, Err(SshError::HostKeyMismatch { .. })));
}

#[tokio::test]
async fn a_host_is_known_by_any_of_its_keys() {
    let server = server!();
    for kind in ["ed25519", "rsa", "ecdsa"] {
        for known in [pin(&server.public_key(kind)), pin(&server.fingerprint(kind))] {
            let target = Target { host_keys: HostKeys::Pinned(vec![known]), ..server.target() };
            let session = server.try_connect(&target).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(session.host_key().fingerprint, server.fingerprint(kind));
        }
    }
    let learning = Target { host_keys: HostKeys::LearnFirst, ..server.target() };
    let session = server.try_connect(&learning).await.expect("accepts");
    assert_eq!(pin(&session.host_key().public_key), pin(&server.public_key("ed25519")));
}

#[tokio::test]
async fn nobody_listens() {
    let port = std::net::SocketAddr::from(([127, 0, 0, 1], drystone_loopback::free_port()));
    let target = Target {
        address: port,
        proxy: None,
        user: "root".into(),
        credentials: Credentials::Password("x".into()),
        host_keys: HostKeys::LearnFirst,
    };
    let error = Session::connect(&target, Timeouts::default()).await.expect_err("nobody there");
    assert!(matches!(&error, SshError::Connect { .. }) && !error.is_permanent(), "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn commands_get_what_they_are_given_and_tell_how_they_ended() {
    let server = server!();
    let session = server.connect().await;
    let command = CommandLine::new("printf '%s|' \"$GREETING\"; cat; echo oops >&2; exit 7")
        .environment("GREETING", "it's \"$HOME\"\n`x` \\ end")
        .input(Input::Bytes("in\0put".into()));
    let mut seen = Vec::new();
    let outcome =
        session.run(command, LONG, |stream, bytes| seen.push((stream, bytes.to_vec()))).await.expect("runs");
    assert_eq!(outcome.exit, Exit::Status(7));
    assert_eq!(outcome.stdout.bytes(), b"it's \"$HOME\"\n`x` \\ end|in\0put");
    assert_eq!(outcome.stderr.text(), "oops");
    assert!(seen.contains(&(OutputStream::Stderr, b"oops\n".to_vec())), "{seen:?}");
    let error = outcome.succeeded("greeting").expect_err("7 is no success");
    assert_eq!(error.to_string(), "greeting: exit status 7: oops");
    let killed = session.run(CommandLine::new("kill -KILL $$"), LONG, |_, _| {}).await.expect("ends");
    assert_eq!(killed.exit, Exit::Signal("KILL".into()));
    let killed = session.run(CommandLine::new("sh -c 'kill -SEGV $$'"), LONG, |_, _| {}).await.expect("ends");
    assert_eq!(killed.exit, Exit::Status(128 + 11));
    // It need not read what it is given.
    let deaf = CommandLine::new("exit 3").input(Input::Reader(Box::new(tokio::io::repeat(7))));
    assert_eq!(session.run(deaf, LONG, |_, _| {}).await.expect("ends").exit, Exit::Status(3));
}

#[tokio::test]
async fn nothing_given_is_seen_in_the_process_list() {
    let server = server!();
    let session = server.connect().await;
    let command = CommandLine::new(": in-the-program; read line; sleep 31337.1")
        .environment("TOKEN", "in-the-environment")
        .input(Input::Bytes("in-the-input\n".into()));
    let running = tokio::spawn({
        let session = session.clone();
        async move { session.run(command, LONG, |_, _| {}).await }
    });
    eventually("the command runs", || is_running("sleep 31337.1")).await;
    for secret in ["in-the-program", "in-the-environment", "in-the-input"] {
        assert!(!is_running(secret), "{secret} is seen");
    }
    running.abort();
    eventually("the command is ended", || !is_running("sleep 31337.1")).await;
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_at_its_deadline() {
    let server = server!();
    let session = server.connect().await;
    // Deaf to TERM, with children.
    let command = CommandLine::new("trap '' TERM; sleep 31337.2 & sleep 31337.2; sleep 31337.2");
    let error = session.run(command, Duration::from_secs(2), |_, _| {}).await.expect_err("hangs");
    assert!(error.to_string().contains("running a command took longer than 2s"), "{error}");
    eventually("the command is ended", || !is_running("sleep 31337.2")).await;
    assert_eq!(text(&session, "echo usable").await, "usable");
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_ended() {
    let server = server!();
    let session = server.connect().await;
    let running = tokio::spawn({
        let session = session.clone();
        async move { session.run(CommandLine::new("sleep 31337.3"), LONG, |_, _| {}).await }
    });
    eventually("the command runs", || is_running("sleep 31337.3")).await;
    running.abort();
    eventually("the command is ended", || !is_running("sleep 31337.3")).await;
    assert_eq!(text(&session, "echo usable").await, "usable");
}

#[tokio::test]
async fn a_lost_connection_ends_the_command() {
    let server = server!();
    let session = server.connect().await;
    let running = tokio::spawn({
        let session = session.clone();
        async move { session.run(CommandLine::new("sleep 31337.4"), LONG, |_, _| {}).await }
    });
    eventually("the command runs", || is_running("sleep 31337.4")).await;
    server.kill_connections();
    let error = running.await.expect("no panic").expect_err("lost");
    assert!(matches!(&error, SshError::Lost { .. }) && !error.is_permanent(), "{error}");
    eventually("the command is ended", || !is_running("sleep 31337.4")).await;
    eventually("the session is closed", || session.is_closed()).await;
    assert!(matches!(
        session.run(CommandLine::new("true"), LONG, |_, _| {}).await,
        Err(SshError::Lost { .. })
    ));
    assert_eq!(text(&server.connect().await, "echo again").await, "again");
}

#[tokio::test]
async fn what_is_left_behind_does_not_hold_a_command_up() {
    let server = server!();
    let session = server.connect().await;
    let program = "setsid sleep 31337.5 & echo done";
    assert_eq!(text(&session, program).await, "done");
    assert!(is_running("sleep 31337.5"), "what makes itself a group of its own stays");
    text(&session, "kill $(pgrep -f '^sleep 31337.5$')").await;
}

#[tokio::test]
async fn huge_output_is_followed_and_not_kept() {
    const BYTES: u64 = 64 << 20;
    let server = server!();
    let session = server.connect().await;
    let mut seen = 0_u64;
    let command = CommandLine::new(format!("head -c {BYTES} /dev/zero; echo end")).output_limit(1000);
    let before = resident_kibibytes();
    let outcome = session.run(command, LONG, |_, bytes| seen += bytes.len() as u64).await.expect("runs");
    assert_eq!(seen, BYTES + 4);
    assert_eq!(outcome.stdout.omitted(), BYTES + 4 - 1000);
    assert!(outcome.stdout.bytes().ends_with(b"\0end\n"));
    let grown = resident_kibibytes().saturating_sub(before);
    assert!(grown < 32 * 1024, "grew by {grown} KiB");
}

fn resident_kibibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
}

#[tokio::test]
async fn many_commands_share_a_connection() {
    let server = server!();
    let session = server.connect().await;
    let most = Arc::new(AtomicU64::new(0));
    let now = Arc::new(AtomicU64::new(0));
    let tasks = (0..24).map(|number| {
        let (session, most, now) = (session.clone(), Arc::clone(&most), Arc::clone(&now));
        tokio::spawn(async move {
            let program = format!("echo start; sleep 0.3; echo {number}");
            let mut first = true;
            let outcome = session.run(CommandLine::new(program), LONG, |_, _| {
                if std::mem::take(&mut first) {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                }
            });
            let outcome = outcome.await.expect("runs");
            now.fetch_sub(1, Ordering::SeqCst);
            assert_eq!(outcome.stdout.text(), format!("start\n{number}"));
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    let most = most.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} at a time");
    let connections = server.log().matches("Accepted publickey").count();
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn files_are_written_whole_or_not_at_all() {
    let server = server!();
    let session = server.connect().await;
    let file = server.path("it's a new folder/file");
    let path = file.to_str().expect("text");
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let upload =
        |bytes: Vec<u8>| session.upload(path, 0o640, std::io::Cursor::new(bytes), Privilege::User, LONG);
    assert_eq!(upload(content.clone()).await.expect("written"), 3_000_000);
    assert_eq!(std::fs::read(&file).expect("there"), content);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o7777, 0o640);
    // Interrupted: the old one stays.
    let slow = session.upload(path, 0o600, tokio::io::repeat(1), Privilege::User, Duration::from_secs(1));
    assert!(matches!(slow.await, Err(SshError::Deadline { .. })));
    assert_eq!(std::fs::read(&file).expect("there").len(), 3_000_000);
    let folder = file.parent().expect("a folder").to_owned();
    let entries = move || std::fs::read_dir(&folder).expect("readable").count();
    eventually("nothing half is left", || entries() == 1).await;
    assert_eq!(upload(b"new".to_vec()).await.expect("written"), 3);
    let read = |limit: usize| session.read_file(path, limit, Privilege::User, LONG);
    assert_eq!(read(3).await.expect("readable").expect("there"), b"new");
    assert!(read(2).await.expect_err("too large").to_string().contains("more than 2 bytes"));
    let absent = session.read_file("/nowhere/at all", 10, Privilege::User, LONG).await;
    assert_eq!(absent.expect("asked"), None);
}

#[tokio::test]
async fn a_lost_connection_does_not_put_half_a_file_into_place() {
    let server = server!();
    let session = server.connect().await;
    let file = server.path("target");
    std::fs::write(&file, "old").expect("written");
    let path = file.to_str().expect("text").to_owned();
    let running = tokio::spawn(async move {
        session.upload(&path, 0o600, tokio::io::repeat(1), Privilege::User, LONG).await
    });
    let folder = file.parent().expect("a folder").to_owned();
    let half = move || {
        let names = std::fs::read_dir(&folder).expect("readable").flatten();
        names.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("target.drystone-"))
    };
    eventually("it is being written", half).await;
    server.kill_connections();
    assert!(running.await.expect("no panic").is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "old");
    let session = server.connect().await;
    let path = file.to_str().expect("text");
    session.upload(path, 0o600, std::io::Cursor::new("new"), Privilege::User, LONG).await.expect("written");
    let left = std::fs::read_dir(file.parent().expect("a folder")).expect("readable").flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("target.")).count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_full_disk_is_told() {
    let server = server!();
    let session = server.connect().await;
    let path = server.path("full/file").to_str().expect("text").to_owned();
    let content = std::io::Cursor::new(vec![1_u8; 1 << 20]);
    let error = session.upload(&path, 0o600, content, Privilege::User, LONG).await.expect_err("no room");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(error.leaves_connection());
    let folder = server.path("full");
    assert_eq!(text(&session, &format!("ls -A {}", folder.display())).await, "");
}

#[tokio::test]
async fn root_by_sudo() {
    let server = server!();
    let whoami = |password: Option<&str>| {
        CommandLine::new("id -un; cat; echo \"$TOKEN\"")
            .input(Input::Bytes("input ".into()))
            .environment("TOKEN", "t0k3n")
            .privilege(Privilege::Root(password.map(Secret::new)))
    };
    let connect = |user: &'static str| {
        let target = server.target_of(user, PASSWORD);
        let server = &server;
        async move { server.try_connect(&target).await.expect("is let in") }
    };
    for (user, password) in
        [("root", None), ("asked", None), ("asked", Some(PASSWORD)), ("trusted", Some("unused"))]
    {
        let session = connect(user).await;
        let outcome = session
            .run(whoami(password), LONG, |_, _| {})
            .await
            .unwrap_or_else(|error| panic!("{user}: {error}"));
        assert_eq!(outcome.stdout.text(), "root\ninput t0k3n", "{user}: {}", outcome.stderr.text());
        assert!(outcome.stderr.is_empty(), "{}", outcome.stderr.text());
    }
    let session = connect("asked").await;
    let error = session.run(whoami(Some("hunter2")), LONG, |_, _| {}).await.expect_err("wrong password");
    assert!(matches!(&error, SshError::Sudo { .. }) && error.is_permanent(), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
    let session = connect("stranger").await;
    let error = session.run(whoami(None), LONG, |_, _| {}).await.expect_err("not in the sudoers file");
    assert!(error.to_string().contains("not in the sudoers file"), "{error}");
    // Ended as root, too.
    let session = connect("asked").await;
    let command =
        CommandLine::new("trap '' TERM; sleep 31337.6; sleep 31337.6").privilege(Privilege::Root(None));
    assert!(session.run(command, Duration::from_secs(2), |_, _| {}).await.is_err());
    eventually("the command is ended", || !is_running("sleep 31337.6")).await;
    let command = CommandLine::new("sleep 31337.7").privilege(Privilege::Root(None));
    let running = tokio::spawn({
        let session = session.clone();
        async move { session.run(command, LONG, |_, _| {}).await }
    });
    eventually("the command runs", || is_running("sleep 31337.7")).await;
    server.kill_connections();
    assert!(running.await.expect("no panic").is_err());
    eventually("the command is ended", || !is_running("sleep 31337.7")).await;
}

/// A proxy that lets `site`/`secret` through, and counts.
async fn proxy(through: Arc<AtomicU64>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let through = Arc::clone(&through);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                if !head.contains("Proxy-Authorization: Basic c2l0ZTpzZWNyZXQ=\r\n") {
                    return near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
                }
                let address = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut far = tokio::net::TcpStream::connect(address).await?;
                near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                through.fetch_add(1, Ordering::SeqCst);
                tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop)
            });
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_leads_to_the_host() {
    let server = server!();
    let through = Arc::new(AtomicU64::new(0));
    let address = proxy(Arc::clone(&through)).await;
    let by = |password: &str| Target {
        proxy: Some(
            HttpConnectProxy::from_url(&format!("http://{address}"), Some(("site".into(), password.into())))
                .expect("a proxy"),
        ),
        ..server.target()
    };
    let session = server.try_connect(&by("secret")).await.expect("is let in");
    assert_eq!(text(&session, "echo through").await, "through");
    assert_eq!(through.load(Ordering::SeqCst), 1);
    let error = server.try_connect(&by("hunter2")).await.expect_err("wrong credentials");
    assert!(error.to_string().contains("it wants other credentials (407)"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_host_that_falls_silent_is_given_up() {
    let server = server!();
    // A proxy that stops forwarding: the host neither answers nor hangs up.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let host = server.address;
    let (silence, mut silent) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await?;
        let mut far = tokio::net::TcpStream::connect(host).await?;
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = silent.changed() => {}
        }
        tokio::time::sleep(LONG).await;
        std::io::Result::Ok(())
    });
    let target = Target { address, ..server.target() };
    let keep_alive = Duration::from_secs(2);
    let timeouts = Timeouts { connect: LONG, handshake: LONG, authenticate: LONG, keep_alive };
    let session = Session::connect(&target, timeouts).await.expect("is let in");
    let running = session.run(CommandLine::new("sleep 31337.8"), LONG, |_, _| {});
    let begun = Instant::now();
    let (result, ()) = tokio::join!(running, async {
        eventually("the command runs", || is_running("sleep 31337.8")).await;
        silence.send(true).expect("listened to");
    });
    let error = result.expect_err("silent");
    assert!(error.to_string().contains("has not answered for a while"), "{error}");
    assert!(begun.elapsed() < LONG, "not by the deadline");
}
