//! The way through an HTTP proxy (RFC 9110, section 9.3.6).

use std::net::SocketAddr;

use base64::Engine as _;
use drystone_identity::Secret;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{error::SshError, target::HttpConnectProxy};

/// Largest head of an answer.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Connects to a host by way of a proxy.
pub(crate) async fn connect(proxy: &HttpConnectProxy, host: SocketAddr) -> Result<TcpStream, SshError> {
    let failed = |reason: String| SshError::Proxy { host, proxy: proxy.authority.clone(), reason };
    let mut stream = TcpStream::connect(&proxy.authority).await.map_err(|error| failed(error.to_string()))?;
    ask(&mut stream, proxy, host).await.map_err(failed)?;
    Ok(stream)
}

async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &HttpConnectProxy,
    host: SocketAddr,
) -> Result<(), String> {
    let authorization = proxy.credentials.as_ref().map(|(user, password)| {
        let pair = Secret::new(format!("{user}:{}", password.expose()));
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair.expose());
        Secret::new(format!("Proxy-Authorization: Basic {encoded}\r\n"))
    });
    let authorization = authorization.as_ref().map_or("", Secret::expose);
    let request = Secret::new(format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"));
    stream.write_all(request.expose().as_bytes()).await.map_err(|error| error.to_string())?;
    let head = read_head(stream).await?;
    judge(&head)
}

/// Reads up to the empty line and not one byte further: what follows is the host's.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD_BYTES {
            return Err(format!("its answer is longer than {MAX_HEAD_BYTES} bytes"));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err("it hung up before it answered".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(head)
}

fn judge(head: &[u8]) -> Result<(), String> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.parse::<u16>().ok());
    let reason = words.next().unwrap_or_default();
    match status {
        Some(200..=299) if version.starts_with("HTTP/1.") => Ok(()),
        Some(407) => Err("it wants other credentials (407)".to_owned()),
        Some(status) if version.starts_with("HTTP/1.") => {
            let reason: String = reason.chars().filter(|c| !c.is_control()).take(100).collect();
            Err(format!("it answered {status} {reason}"))
        }
        _ => Err("what answers is no HTTP proxy".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxy() -> HttpConnectProxy {
        HttpConnectProxy { authority: "g:1".into(), credentials: Some(("u".into(), "p".into())) }
    }

    async fn answered(answer: &[u8]) -> Result<Vec<u8>, String> {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        far.write_all(answer).await.expect("room");
        far.shutdown().await.expect("open");
        ask(&mut near, &proxy(), ([10, 0, 0, 7], 22).into()).await?;
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.expect("readable");
        Ok(rest)
    }

    #[tokio::test]
    async fn what_follows_the_answer_is_the_hosts() {
        let rest = answered(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nSSH-2.0-x\r\n").await;
        assert_eq!(rest, Ok(b"SSH-2.0-x\r\n".to_vec()));
    }

    #[tokio::test]
    async fn refusals_are_told() {
        let error = |answer: &'static [u8]| async move { answered(answer).await.expect_err("refused") };
        assert_eq!(error(b"HTTP/1.1 407 Nope\r\n\r\n").await, "it wants other credentials (407)");
        assert_eq!(error(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await, "it answered 502 Bad Gateway");
        assert_eq!(error(b"SSH-2.0-OpenSSH\r\n\r\n").await, "what answers is no HTTP proxy");
        assert_eq!(error(b"HTTP/1.1 20").await, "it hung up before it answered");
    }

    #[tokio::test]
    async fn a_proxy_that_talks_without_end_is_left() {
        let endless = vec![b'x'; 32 * 1024];
        assert!(answered(&endless).await.expect_err("too long").contains("longer than"));
    }

    proptest! {
        #[test]
        fn any_answer_is_judged(head in drystone_hostile::bytes(512)) {
            let _ = judge(&head);
        }
    }
}
