//! Ports of a pod, for clients that put SPDY frames into WebSocket messages: the frames are unpacked for the runtime. Each
//! message may hold any piece of the conversation.

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};

use super::streams::{GOODBYE, goodbye};

/// The protocol on the runtime's connection.
pub(super) const PROTOCOL: &str = "portforward.k8s.io";
/// How much is packed into one message, in bytes.
const CHUNK: usize = 32 << 10;

/// Reads the ports of a query: `port` or `ports`, once for each or with commas between. SPDY clients name them later.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn parse(query: &[(String, String)]) -> Result<Vec<i32>, String> {
    let values = query.iter().filter(|(name, _)| matches!(name.as_str(), "port" | "ports"));
    let ports = values.flat_map(|(_, value)| value.split(','));
    let port = |text: &str| match text.trim().parse::<u16>() {
        Ok(port @ 1..) => Ok(i32::from(port)),
        _ => Err(format!("port {text:?} must be a number between 1 and 65535")),
    };
    ports.map(port).collect()
}

/// Carries bytes both ways until either side ends.
pub(super) async fn run(socket: WebSocket, connection: impl AsyncRead + AsyncWrite) {
    let (mut sink, mut stream) = socket.split();
    let (mut reader, mut writer) = split(connection);
    let inbound = async {
        while let Some(Ok(message)) = stream.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) => continue,
            };
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
    };
    let outbound = async {
        let mut chunk = vec![0; CHUNK];
        while let Ok(read @ 1..) = reader.read(&mut chunk).await {
            if sink.send(Message::Binary(Bytes::copy_from_slice(&chunk[..read]))).await.is_err() {
                return;
            }
        }
        let _ = sink.send(goodbye()).await;
    };
    let mut inbound = std::pin::pin!(inbound);
    tokio::select! {
        () = &mut inbound => {}
        () = outbound => {
            let _ = timeout(GOODBYE, inbound).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(query: &[(&str, &str)]) -> Result<Vec<i32>, String> {
        let query: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(&query)
    }

    #[test]
    fn ports_are_read() {
        assert_eq!(ports(&[("port", "80"), ("ports", "443,8080"), ("x", "y")]).unwrap(), [80, 443, 8080]);
        assert_eq!(ports(&[]).unwrap(), Vec::<i32>::new());
        for wrong in ["0", "65536", "-1", "http", "80,"] {
            assert!(ports(&[("port", wrong)]).is_err(), "{wrong}");
        }
    }
}
