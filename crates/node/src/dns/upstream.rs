//! The node's own name servers, for all names outside the cluster.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use rand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::message::{Transport, answers, question, with_id};

/// How long one server may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often all servers are asked.
const ROUNDS: usize = 2;
/// As many servers of the file count as libraries use.
const MAX_SERVERS: usize = 3;
/// How long the file is not looked at again.
const FRESH: Duration = Duration::from_secs(5);
/// The largest datagram.
const MAX_PACKET: usize = 65_535;
const DNS_PORT: u16 = 53;

/// Name servers as a `resolv.conf` lists them; changes of the file are noticed.
#[derive(Debug)]
pub struct Upstream {
    file: PathBuf,
    /// The cluster's own name server: asking it would go round in circles.
    own: IpAddr,
    /// The port that they listen on; another one in tests.
    pub(super) port: u16,
    known: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Upstream {
    /// The servers that `file` lists, without `own`.
    pub fn new(file: PathBuf, own: IpAddr) -> Self {
        Self { file, own, port: DNS_PORT, known: Mutex::new(None) }
    }

    /// Asks with a client's packet, which may ask for more than is understood here; returns the answer under the client's
    /// identity. None if no server answers.
    pub async fn forward(&self, packet: &[u8], query: &Query, transport: Transport) -> Option<Vec<u8>> {
        let client = packet.get(..2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes)?;
        let id = rand::rng().random();
        let answer = self.exchange(&with_id(packet, id), id, query, transport).await?;
        Some(with_id(&answer, client))
    }

    /// Asks for a name; None if no server answers.
    pub async fn ask(&self, name: &Name, kind: RecordType) -> Option<Message> {
        let id = rand::rng().random();
        let packet = question(id, name, kind)?;
        let query = Query::query(name.clone(), kind);
        let answer = self.exchange(&packet, id, &query, Transport::Udp).await?;
        let answer = match answers(&answer, id, &query) {
            Some(true) => self.exchange(&packet, id, &query, Transport::Tcp).await.unwrap_or(answer),
            _ => answer,
        };
        Message::from_vec(&answer).ok()
    }

    async fn exchange(&self, packet: &[u8], id: u16, query: &Query, transport: Transport) -> Option<Vec<u8>> {
        let servers = self.servers().await;
        for server in std::iter::repeat_n(servers, ROUNDS).flatten() {
            let asked = async {
                match transport {
                    Transport::Udp => ask_datagram(server, packet, id, query).await,
                    Transport::Tcp => ask_stream(server, packet, id, query).await,
                }
            };
            match timeout(DEADLINE, asked).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server of the node"),
                Err(_) => tracing::debug!(%server, "a name server of the node does not answer"),
            }
        }
        None
    }

    async fn servers(&self) -> Vec<SocketAddr> {
        let fresh = self.lock().clone().filter(|(read, _)| read.elapsed() < FRESH);
        if let Some((_, servers)) = fresh {
            return servers;
        }
        let text = tokio::fs::read_to_string(&self.file).await.unwrap_or_default();
        let servers = parse(&text, self.own, self.port);
        *self.lock() = Some((Instant::now(), servers.clone()));
        servers
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Vec<SocketAddr>)>> {
        // It is replaced as a whole: a panic elsewhere leaves it right.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name servers of a `resolv.conf` (resolv.conf(5)).
fn parse(text: &str, own: IpAddr, port: u16) -> Vec<SocketAddr> {
    let server = |line: &str| -> Option<IpAddr> {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    };
    let servers = text.lines().filter_map(server).filter(|server| *server != own);
    servers.take(MAX_SERVERS).map(|server| (server, port).into()).collect()
}

/// From a port of its own, which a forger has to guess beside the identity.
async fn ask_datagram(server: SocketAddr, packet: &[u8], id: u16, query: &Query) -> std::io::Result<Vec<u8>> {
    let local: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(packet).await?;
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if answers(answer, id, query).is_some() {
            return Ok(answer.to_vec());
        }
    }
}

async fn ask_stream(server: SocketAddr, packet: &[u8], id: u16, query: &Query) -> std::io::Result<Vec<u8>> {
    let invalid = |problem| std::io::Error::new(std::io::ErrorKind::InvalidData, problem);
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(packet.len()).map_err(|_| invalid("the question is too long"))?;
    stream.write_all(&[&length.to_be_bytes(), packet].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    match answers(&answer, id, query) {
        Some(_) => Ok(answer),
        None => Err(invalid("the answer is to another question")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_does_not_ask_itself() {
        let text = "# comment\nsearch example.com\nnameserver 10.43.0.10\n nameserver\t192.0.2.1 \nnameserver x\nnameserver\n\
            options ndots:5\nnameserver fd00::1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let servers: Vec<String> =
            parse(text, [10, 43, 0, 10].into(), 53).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fd00::1]:53", "192.0.2.2:53"]);
    }
}
