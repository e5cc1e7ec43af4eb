//! Reads as fast as a service answers: bare sockets, one request at a time on each, so that the client takes as little of the
//! machine as it can.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::Failure;

/// Connections at one time.
const CONNECTIONS: usize = 8;

/// GETs of a URI for so long: answers per second.
pub(super) fn gets(address: SocketAddr, token: &str, uri: &str, length: Duration) -> Result<f64, Failure> {
    let request = format!("GET {uri} HTTP/1.1\r\nHost: {address}\r\nX-Auth-Token: {token}\r\n\r\n");
    let began = Instant::now();
    let counts: Vec<Result<u32, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(|| one_connection(address, request.as_bytes(), began + length)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a client died".into())))
            .collect()
    });
    let took = began.elapsed();
    let count = counts.into_iter().sum::<Result<u32, Failure>>()?;
    Ok(f64::from(count) / took.as_secs_f64())
}

fn one_connection(address: SocketAddr, request: &[u8], until: Instant) -> Result<u32, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut count = 0;
    while Instant::now() < until {
        stream.write_all(request)?;
        answer(&mut stream, &mut buffer)?;
        count += 1;
    }
    Ok(count)
}

/// Reads one answer to its end; it must be 200 with a length.
fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    buffer.clear();
    let mut piece = [0; 1 << 15];
    loop {
        if let Some(whole) = length(buffer)?
            && buffer.len() >= whole
        {
            return Ok(());
        }
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err("the service closed a connection".into());
        }
        buffer.extend_from_slice(&piece[..read]);
    }
}

/// Length of the answer that begins in a buffer, if its head is there.
fn length(buffer: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&buffer[..head])?;
    if !text.starts_with("HTTP/1.1 200") {
        return Err(format!("not what was asked for: {}", text.lines().next().unwrap_or_default()).into());
    }
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    };
    let body = text.lines().find_map(field).ok_or("an answer without a length")?;
    Ok(Some(head + 4 + body))
}
