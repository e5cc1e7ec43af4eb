use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::dns::zone::Domain;

/// How long anything may take before a test calls it failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a name server of the node answers: an address that tells how it was asked; `big.…` only over TCP.
fn upstream_answer(packet: &[u8], transport: Transport) -> Vec<u8> {
    let asked = Message::from_vec(packet).unwrap();
    let name = asked.queries[0].name().clone();
    let mut answer = Message::response(asked.metadata.id, OpCode::Query);
    answer.add_query(asked.queries[0].clone());
    if name.to_string().starts_with("big.") && transport == Transport::Udp {
        answer.metadata.truncation = true;
    } else {
        let last = if transport == Transport::Udp { 1 } else { 2 };
        let address = std::net::Ipv4Addr::new(192, 0, 2, last);
        answer.add_answer(Record::from_rdata(name, 60, RData::A(address.into())));
    }
    answer.to_vec().unwrap()
}

/// A name server of the node on a port of its own.
async fn start_upstream() -> u16 {
    let (datagrams, streams) = sockets().await;
    let port = datagrams.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = vec![0; MAX_QUESTION];
        loop {
            let (length, client) = datagrams.recv_from(&mut buffer).await.unwrap();
            let answer = upstream_answer(&buffer[..length], Transport::Udp);
            // Somebody guesses.
            let mut forged = answer.clone();
            forged[0] ^= 0x55;
            datagrams.send_to(&forged, client).await.unwrap();
            datagrams.send_to(&answer, client).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = streams.accept().await.unwrap();
            let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut packet).await.unwrap();
            let answer = upstream_answer(&packet, Transport::Tcp);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    port
}

/// A datagram socket and a listener with the same port on loopback.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // Somebody else may have that port for streams.
        if let Ok(streams) = TcpListener::bind(datagrams.local_addr().unwrap()).await {
            return (datagrams, streams);
        }
    }
}

/// A responder with a Service `web` and one that leads outside.
async fn start(upstream: &str, port: u16, directory: &TempDir) -> SocketAddr {
    let domain =
        Domain::new("cluster.local", "10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap());
    let service = |name: &str, spec: serde_json::Value| {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec}))
                .unwrap(),
        )
    };
    let services = [
        service("web", json!({"clusterIP": "10.43.0.80"})),
        service("away", json!({"type": "ExternalName", "externalName": "www.example.com"})),
        service("far", json!({"type": "ExternalName", "externalName": "big.example.com"})),
    ];
    let (zone, newest) = watch::channel(Arc::new(Zone::new(domain.unwrap(), &services, &[])));
    let file = directory.path().join("resolv.conf");
    std::fs::write(&file, upstream).unwrap();
    let mut upstream = Upstream::new(file, [10, 43, 0, 10].into());
    upstream.port = port;
    let clients = Clients { pods: "10.42.0.0/16".parse().unwrap(), node: [10, 20, 0, 5].into() };
    let (datagrams, streams) = sockets().await;
    let address = datagrams.local_addr().unwrap();
    let responder = Arc::new(Responder::new(newest, upstream, clients));
    tokio::spawn(async move {
        let _zone = zone;
        responder.serve(datagrams, streams).await;
    });
    address
}

async fn ask(server: SocketAddr, name: &str, transport: Transport) -> Message {
    let mut message = Message::new(99, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let packet = message.to_vec().unwrap();
    let asked = async {
        if transport == Transport::Udp {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.send_to(&packet, server).await.unwrap();
            let mut buffer = vec![0; MAX_QUESTION];
            let length = socket.recv(&mut buffer).await.unwrap();
            return buffer[..length].to_vec();
        }
        let mut stream = TcpStream::connect(server).await.unwrap();
        // Two questions over the same stream.
        let framed = [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], &packet].concat();
        stream.write_all(&[&framed[..], &framed].concat()).await.unwrap();
        let mut answers = Vec::new();
        for _ in 0..2 {
            let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut answer).await.unwrap();
            answers.push(answer);
        }
        assert_eq!(answers[0], answers[1]);
        answers.remove(0)
    };
    let answer = Message::from_vec(&timeout(PATIENCE, asked).await.unwrap()).unwrap();
    assert_eq!(answer.metadata.id, 99);
    answer
}

fn shown(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| format!("{} {}", record.name, record.data)).collect()
}

#[tokio::test]
async fn names_are_answered_here_or_by_the_nodes_name_server() {
    let directory = TempDir::new().unwrap();
    let server = start("nameserver 127.0.0.1\n", start_upstream().await, &directory).await;
    for (name, transport, expected) in [
        ("web.shop.svc.cluster.local.", Transport::Udp, vec!["web.shop.svc.cluster.local. 10.43.0.80"]),
        ("web.shop.svc.cluster.local.", Transport::Tcp, vec!["web.shop.svc.cluster.local. 10.43.0.80"]),
        ("www.example.com.", Transport::Udp, vec!["www.example.com. 192.0.2.1"]),
        ("www.example.com.", Transport::Tcp, vec!["www.example.com. 192.0.2.2"]),
        ("big.example.com.", Transport::Tcp, vec!["big.example.com. 192.0.2.2"]),
        (
            "away.shop.svc.cluster.local.",
            Transport::Udp,
            vec!["away.shop.svc.cluster.local. www.example.com.", "www.example.com. 192.0.2.1"],
        ),
        (
            "far.shop.svc.cluster.local.",
            Transport::Udp,
            vec!["far.shop.svc.cluster.local. big.example.com.", "big.example.com. 192.0.2.2"],
        ),
    ] {
        assert_eq!(shown(&ask(server, name, transport).await), expected, "{name} {transport:?}");
    }
    // The client is told to come back over TCP.
    assert!(ask(server, "big.example.com.", Transport::Udp).await.metadata.truncation);
    // Rubbish in between harms nobody.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in [0, 1, 11, 12, 13, 600] {
        socket.send_to(&vec![0xff; length], server).await.unwrap();
    }
    assert_eq!(ask(server, "web.shop.svc.cluster.local.", Transport::Udp).await.answers.len(), 1);
}

#[tokio::test]
async fn without_a_name_server_clients_are_told() {
    let directory = TempDir::new().unwrap();
    // Only the cluster itself is listed.
    let server = start("nameserver 10.43.0.10\n", 53, &directory).await;
    for name in ["www.example.com.", "away.shop.svc.cluster.local."] {
        let answer = ask(server, name, Transport::Udp).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "{name}");
    }
    assert_eq!(ask(server, "web.shop.svc.cluster.local.", Transport::Udp).await.answers.len(), 1);
}

#[test]
fn strangers_are_not_served() {
    let clients = Clients { pods: "10.42.0.0/16".parse().unwrap(), node: [10, 20, 0, 5].into() };
    for (address, expected) in [
        ("10.42.3.7", true),
        ("10.20.0.5", true),
        ("127.0.0.1", true),
        ("10.20.0.6", false),
        ("192.0.2.1", false),
        ("fd00::1", false),
    ] {
        assert_eq!(clients.include(address.parse().unwrap()), expected, "{address}");
    }
}
