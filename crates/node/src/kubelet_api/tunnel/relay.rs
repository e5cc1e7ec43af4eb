//! Joins two connections.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};

/// How long one side may go on when the other has said that it is done.
const GRACE: Duration = Duration::from_secs(10);
/// How much is copied at a time, in bytes.
const CHUNK: usize = 32 << 10;

/// Copies both ways until either side ends; then what is under way still arrives.
pub(super) async fn run<A, B>(one: A, other: B)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (one_reader, one_writer) = split(one);
    let (other_reader, other_writer) = split(other);
    let mut there = std::pin::pin!(copy(one_reader, other_writer));
    let mut back = std::pin::pin!(copy(other_reader, one_writer));
    let rest = async {
        tokio::select! {
            () = &mut there => timeout(GRACE, back).await,
            () = &mut back => timeout(GRACE, there).await,
        }
    };
    // A side that does not end in time is dropped with its connection.
    let _ = rest.await;
}

/// How a connection ends is no news: it is how every tunnel ends.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..read]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_end_is_passed_on() {
        let (mut client, one) = tokio::io::duplex(64);
        let (mut server, other) = tokio::io::duplex(64);
        let joined = tokio::spawn(run(one, other));
        client.write_all(b"ask").await.unwrap();
        let mut asked = [0; 3];
        server.read_exact(&mut asked).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!((&asked, answer.as_slice()), (b"ask", &b"answer"[..]));
        drop(client);
        joined.await.unwrap();
    }
}
