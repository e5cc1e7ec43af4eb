//! A server of images, small ones: how long a real one takes is among the delays of the hardware.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::Failure;

const IMAGE: [u8; 16 << 10] = [0x5a; 16 << 10];

/// Serves an image under every name, until the program ends; its base URL.
pub(super) async fn serve() -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    Ok(base)
}

/// Answers one request and closes the connection. Who breaks it off has his reasons.
async fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut part = [0_u8; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(length) if length > 0 && request.len() < 16 << 10 => {
                request.extend_from_slice(&part[..length]);
            }
            _ => return,
        }
    }
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", IMAGE.len());
    if stream.write_all(head.as_bytes()).await.is_ok() && !request.starts_with(b"HEAD") {
        let _ = stream.write_all(&IMAGE).await;
    }
    let _ = stream.shutdown().await;
}
