//! Streams of a command, for clients of `v5.channel.k8s.io`: every WebSocket message begins with the number of its stream. Each
//! stream becomes one of SPDY, which unlike the runtime's own WebSocket can close the input while output goes on.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::mpsc,
    time::timeout,
};
use tokio_util::codec::FramedRead;

use super::spdy::{self, Frame, Frames, Opener};

/// How long a client may take to say goodbye.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);
/// Pieces of input that wait for a slow command.
const QUEUE: usize = 16;
/// Longest report of how a command ended, in bytes.
const MAX_REPORT: usize = 64 << 10;

/// Numbers of streams in messages.
mod channel {
    pub(super) const STDIN: u8 = 0;
    pub(super) const STDOUT: u8 = 1;
    pub(super) const STDERR: u8 = 2;
    /// How the command ended, as a `Status`.
    pub(super) const ERROR: u8 = 3;
    /// Sizes of the terminal.
    pub(super) const RESIZE: u8 = 4;
    /// The number of a stream that is closed.
    pub(super) const CLOSE: u8 = 255;
}

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Streams {
    /// Reads a query, in which the API server names them `input`, `output` and `error`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(super) fn parse(query: &[(String, String)]) -> Result<Self, String> {
        let wants = |name: &str| {
            query.iter().any(|(key, value)| key == name && matches!(value.as_str(), "1" | "true"))
        };
        let tty = wants("tty");
        // A terminal has one output only.
        let streams =
            Self { stdin: wants("input"), stdout: wants("output"), stderr: wants("error") && !tty, tty };
        if !streams.stdin && !streams.stdout && !streams.stderr {
            return Err("you must specify at least 1 of stdin, stdout, stderr".to_owned());
        }
        Ok(streams)
    }
}

/// Numbers of the SPDY streams.
#[derive(Debug, Default)]
struct Opened {
    error: u32,
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    resize: Option<u32>,
}

fn open(streams: Streams, output: &mut BytesMut) -> Opened {
    let mut opener = Opener::default();
    let mut open = |kind: &str| opener.open(kind, output);
    Opened {
        error: open("error"),
        stdin: streams.stdin.then(|| open("stdin")),
        stdout: streams.stdout.then(|| open("stdout")),
        stderr: streams.stderr.then(|| open("stderr")),
        resize: streams.tty.then(|| open("resize")),
    }
}

/// Translates until either side ends.
pub(super) async fn run(socket: WebSocket, connection: impl AsyncRead + AsyncWrite, streams: Streams) {
    let (sink, source) = socket.split();
    let (reader, writer) = split(connection);
    let mut first = BytesMut::new();
    let opened = open(streams, &mut first);
    // Both directions write to the runtime; pings are answered although input waits.
    let (frames, queue) = mpsc::channel(QUEUE);
    if frames.send(first.freeze()).await.is_err() {
        return;
    }
    let mut writing = std::pin::pin!(write(queue, writer));
    let mut inbound = std::pin::pin!(inbound(source, &opened, frames.clone()));
    let mut outbound = std::pin::pin!(outbound(reader, &opened, sink, frames));
    tokio::select! {
        () = &mut inbound => return,
        () = &mut outbound => {}
        // The connection can be read a little longer than written to: what the command said before.
        () = &mut writing => outbound.await,
    }
    let _ = timeout(GOODBYE, inbound).await;
}

async fn write<C: AsyncRead + AsyncWrite>(mut queue: mpsc::Receiver<Bytes>, mut writer: WriteHalf<C>) {
    while let Some(frames) = queue.recv().await {
        if writer.write_all(&frames).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

/// From the client to the command; ends when the client does.
async fn inbound(mut source: SplitStream<WebSocket>, opened: &Opened, frames: mpsc::Sender<Bytes>) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let mut output = BytesMut::new();
        match (bytes.split_first(), opened.stdin, opened.resize) {
            (Some((&channel::STDIN, text)), Some(stdin), _) if !text.is_empty() => {
                spdy::data(stdin, false, text, &mut output);
            }
            (Some((&channel::RESIZE, size)), _, Some(resize)) if !size.is_empty() => {
                spdy::data(resize, false, size, &mut output);
            }
            (Some((&channel::CLOSE, &[channel::STDIN])), Some(stdin), _) => {
                spdy::data(stdin, true, &[], &mut output);
            }
            // Nothing else comes from a client.
            _ => continue,
        }
        // When nobody writes any more, the command's last words are still being read.
        let _ = frames.send(output.freeze()).await;
    }
}

/// From the command to the client; ends when the command does.
async fn outbound<C: AsyncRead + AsyncWrite>(
    reader: ReadHalf<C>,
    opened: &Opened,
    mut sink: SplitSink<WebSocket, Message>,
    frames: mpsc::Sender<Bytes>,
) {
    let mut report = Vec::new();
    if relay_output(reader, opened, &mut sink, &frames, &mut report).await.is_err() {
        return;
    }
    if report.is_empty() {
        report = lost().into_bytes();
    }
    // In one message, for clients that take every message for a whole report.
    let _ = sink.send(message(channel::ERROR, &report)).await;
    let _ = sink.send(goodbye()).await;
}

/// Passes output on until all of it is through.
///
/// # Errors
/// If the client is gone.
async fn relay_output<C: AsyncRead + AsyncWrite>(
    reader: ReadHalf<C>,
    opened: &Opened,
    sink: &mut SplitSink<WebSocket, Message>,
    frames: &mpsc::Sender<Bytes>,
    report: &mut Vec<u8>,
) -> Result<(), axum::Error> {
    let channels = [(opened.stdout, channel::STDOUT), (opened.stderr, channel::STDERR)];
    let mut open: Vec<(u32, u8)> =
        channels.into_iter().filter_map(|(stream, channel)| Some((stream?, channel))).collect();
    open.push((opened.error, channel::ERROR));
    // Tells the client that the tunnel stands.
    if let Some((_, channel)) = open.first() {
        sink.send(message(*channel, &[])).await?;
    }
    let mut incoming = FramedRead::new(reader, Frames);
    while !open.is_empty() {
        let frame = match incoming.next().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                tracing::debug!(%error, "streams of the container runtime");
                return Ok(());
            }
            None => return Ok(()),
        };
        match frame {
            Frame::Data { stream, last, bytes } => {
                match open.iter().find(|(number, _)| *number == stream) {
                    Some((_, channel::ERROR)) => {
                        let room = MAX_REPORT.saturating_sub(report.len());
                        report.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    }
                    Some((_, channel)) if !bytes.is_empty() => sink.send(message(*channel, &bytes)).await?,
                    _ => {}
                }
                open.retain(|(number, _)| !(last && *number == stream));
            }
            Frame::Reset { stream } => open.retain(|(number, _)| *number != stream),
            Frame::Ping { id } => {
                let mut pong = BytesMut::new();
                spdy::ping(id, &mut pong);
                // Waiting for a slow command's input here would stop its output.
                let _ = frames.try_send(pong.freeze());
            }
            Frame::Other => {}
        }
    }
    Ok(())
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

/// Ends a conversation.
pub(super) fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }))
}

/// Nobody knows how the command ended; silence would mean success.
fn lost() -> String {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": "InternalError",
        "message": "the connection to the container runtime ended before the command did",
        "code": 500,
    });
    status.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<Streams, String> {
        let query: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Streams::parse(&query)
    }

    #[test]
    fn streams_are_read() {
        let all = parse(&[("input", "1"), ("output", "1"), ("error", "true")]).unwrap();
        assert_eq!(all, Streams { stdin: true, stdout: true, stderr: true, tty: false });
        let terminal = parse(&[("output", "1"), ("error", "1"), ("tty", "1")]).unwrap();
        assert_eq!(terminal, Streams { stdin: false, stdout: true, stderr: false, tty: true });
        assert!(parse(&[("tty", "1"), ("input", "0")]).is_err());
    }

    #[test]
    fn only_wanted_streams_are_opened() {
        let opened =
            open(Streams { stdin: false, stdout: true, stderr: false, tty: true }, &mut BytesMut::new());
        assert_eq!((opened.error, opened.stdin, opened.stdout), (1, None, Some(3)));
        assert_eq!((opened.stderr, opened.resize), (None, Some(5)));
    }
}
