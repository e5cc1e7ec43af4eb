//! Servers that mean no good: whatever they send, a connection comes to an end with an error, soon, and in little memory.

use std::time::{Duration, Instant};

use drystone_ssh::{Credentials, HostKeys, Session, SshError, Target, Timeouts};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What a real server says first: its name and its offer of algorithms, recorded.
fn greeting() -> Vec<u8> {
    let lists: [&[u8]; 10] = [
        b"curve25519-sha256,ext-info-s,kex-strict-s-v00@openssh.com",
        b"ssh-ed25519,rsa-sha2-512",
        b"chacha20-poly1305@openssh.com,aes256-gcm@openssh.com",
        b"chacha20-poly1305@openssh.com,aes256-gcm@openssh.com",
        b"hmac-sha2-256-etm@openssh.com",
        b"hmac-sha2-256-etm@openssh.com",
        b"none,zlib@openssh.com",
        b"none,zlib@openssh.com",
        b"",
        b"",
    ];
    let mut payload = vec![20];
    payload.extend([7; 16]);
    for list in lists {
        payload.extend(u32::try_from(list.len()).expect("short").to_be_bytes());
        payload.extend(list);
    }
    payload.extend([0; 5]);
    let padding = 16 - (payload.len() + 5) % 8;
    let mut packet = u32::try_from(payload.len() + padding + 1).expect("short").to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).expect("short"));
    packet.extend(payload);
    packet.extend(vec![0; padding]);
    [b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec(), packet].concat()
}

/// Connects to a server that says this and then nothing more; it hangs up if `hangs_up`.
async fn connect_to(said: Vec<u8>, hangs_up: bool) -> SshError {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let target = Target {
        address: listener.local_addr().expect("bound"),
        proxy: None,
        user: "root".into(),
        credentials: Credentials::Password("hunter2".into()),
        host_keys: HostKeys::LearnFirst,
    };
    let server = tokio::spawn(async move {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let _ = stream.write_all(&said).await;
        if !hangs_up {
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        }
    });
    // Who hangs up need not be waited for.
    let timeouts = match hangs_up {
        true => Timeouts::default(),
        false => Timeouts {
            handshake: Duration::from_millis(300),
            authenticate: Duration::from_millis(300),
            ..Timeouts::default()
        },
    };
    let result = Session::connect(&target, timeouts).await;
    server.abort();
    result.expect_err("no server")
}

#[test]
fn whatever_a_server_says_first_ends_in_an_error() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let config = Config { cases: 96, failure_persistence: None, ..Config::default() };
    let said = prop_oneof![
        drystone_hostile::bytes(600),
        drystone_hostile::damaged([greeting()]),
        drystone_hostile::bytes(600).prop_map(|tail| [b"SSH-2.0-x\r\n".to_vec(), tail].concat()),
    ];
    let mut runner = TestRunner::new(config);
    let result = runner.run(&(said, any::<bool>()), |(said, hangs_up)| {
        let error = runtime.block_on(connect_to(said, hangs_up));
        prop_assert!(!error.to_string().contains("hunter2"));
        prop_assert!(!error.is_permanent(), "{}", error);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn a_server_that_never_stops_greeting_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let target = Target {
        address: listener.local_addr().expect("bound"),
        proxy: None,
        user: "root".into(),
        credentials: Credentials::Password("x".into()),
        host_keys: HostKeys::LearnFirst,
    };
    tokio::spawn(async move {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    let begun = Instant::now();
    let error = Session::connect(&target, Timeouts::default()).await.expect_err("no server");
    assert!(matches!(error, SshError::Handshake { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_silent_server_is_left_at_the_deadline() {
    let error = connect_to(Vec::new(), false).await;
    assert!(matches!(error, SshError::Deadline { doing: "exchanging keys", .. }), "{error}");
    let error = connect_to(greeting(), false).await;
    assert!(matches!(error, SshError::Deadline { doing: "exchanging keys", .. }), "{error}");
    let error = connect_to(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), true).await;
    assert!(matches!(error, SshError::Handshake { .. }), "{error}");
}
