//! The sockets.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv4Net;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{
    message::{Step, Transport, first_step},
    upstream::Upstream,
    zone::Zone,
};

/// Questions that wait for the node's name servers at the same time; further ones are refused.
const MAX_FORWARDED: usize = 1024;
/// Streams at the same time; further ones wait to be accepted.
const MAX_STREAMS: usize = 256;
/// How long a stream may be idle.
const IDLE: Duration = Duration::from_secs(10);
/// The largest question; real ones are much smaller.
const MAX_QUESTION: usize = 4096;

/// Who may ask.
#[derive(Debug, Clone, Copy)]
pub struct Clients {
    /// Pods.
    pub pods: Ipv4Net,
    /// The node itself.
    pub node: IpAddr,
}

impl Clients {
    /// Others are not served: a server for everybody is a weapon for somebody.
    fn include(&self, address: IpAddr) -> bool {
        address == self.node
            || address.is_loopback()
            || matches!(address, IpAddr::V4(address) if self.pods.contains(&address))
    }
}

/// Answers questions.
#[derive(Debug)]
pub struct Responder {
    zone: watch::Receiver<Arc<Zone>>,
    upstream: Upstream,
    clients: Clients,
    forwarded: Semaphore,
}

impl Responder {
    /// Answers out of the newest zone, and asks `upstream` for all else.
    pub fn new(zone: watch::Receiver<Arc<Zone>>, upstream: Upstream, clients: Clients) -> Self {
        Self { zone, upstream, clients, forwarded: Semaphore::new(MAX_FORWARDED) }
    }

    /// Serves datagrams and streams until it is dropped.
    pub async fn serve(self: Arc<Self>, datagrams: UdpSocket, streams: TcpListener) {
        tokio::join!(Arc::clone(&self).serve_datagrams(Arc::new(datagrams)), self.serve_streams(streams));
    }

    async fn serve_datagrams(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; MAX_QUESTION];
        let mut waiting = tokio::task::JoinSet::new();
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                Some(_) = waiting.join_next() => continue,
            };
            let (length, client) = match received {
                Ok(received) => received,
                // An earlier answer found nobody.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                Err(error) => {
                    tracing::warn!(%error, "receiving a DNS question");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let packet = buffer.get(..length).unwrap_or_default();
            if !self.clients.include(client.ip()) {
                continue;
            }
            match self.first_step(packet, Transport::Udp) {
                Step::Ignore => {}
                Step::Reply(answer) => send(&socket, &answer, client).await,
                step => {
                    let (responder, socket, packet) =
                        (Arc::clone(&self), Arc::clone(&socket), packet.to_vec());
                    waiting.spawn(async move {
                        if let Some(answer) = responder.go_on(step, &packet, Transport::Udp).await {
                            send(&socket, &answer, client).await;
                        }
                    });
                }
            }
        }
    }

    async fn serve_streams(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(MAX_STREAMS));
        let mut streams = tokio::task::JoinSet::new();
        loop {
            // It is never closed.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let accepted = loop {
                tokio::select! {
                    accepted = listener.accept() => break accepted,
                    Some(_) = streams.join_next() => {}
                }
            };
            match accepted {
                Ok((stream, client)) if self.clients.include(client.ip()) => {
                    let responder = Arc::clone(&self);
                    streams.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = responder.serve_stream(stream).await {
                            tracing::debug!(%client, %error, "a DNS client's stream");
                        }
                    });
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting a DNS client");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve_stream(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let length = match timeout(IDLE, stream.read_u16()).await? {
                Ok(length) => usize::from(length),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            if length > MAX_QUESTION {
                return Err(std::io::Error::new(ErrorKind::InvalidData, "the question is too long"));
            }
            let mut packet = vec![0; length];
            timeout(IDLE, stream.read_exact(&mut packet)).await??;
            let step = self.first_step(&packet, Transport::Tcp);
            let Some(answer) = self.go_on(step, &packet, Transport::Tcp).await else { return Ok(()) };
            let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
            timeout(IDLE, stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())).await??;
        }
    }

    fn first_step(&self, packet: &[u8], transport: Transport) -> Step {
        let zone = Arc::clone(&self.zone.borrow());
        first_step(packet, &zone, transport)
    }

    /// Does what a step asks for.
    async fn go_on(&self, step: Step, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        match step {
            Step::Ignore => None,
            Step::Reply(answer) => Some(answer),
            Step::Forward(asked) => {
                let found = match self.forwarded.try_acquire() {
                    Ok(_permit) => self.upstream.forward(packet, &asked.query, transport).await,
                    Err(_) => None,
                };
                Some(found.unwrap_or_else(|| asked.failure()))
            }
            Step::Follow(draft, target) => {
                let found = match self.forwarded.try_acquire() {
                    Ok(_permit) => self.upstream.ask(&target, draft.query_type()).await,
                    Err(_) => None,
                };
                Some(draft.complete(found))
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(answer, client).await {
        tracing::debug!(%client, %error, "answering a DNS question");
    }
}

#[cfg(test)]
mod tests;
