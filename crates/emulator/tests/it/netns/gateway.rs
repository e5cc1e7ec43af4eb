//! The gateway: both zones reach it, nobody passes through it to the other zone, and the outside comes in by it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use base64::Engine;

use super::site::{PATIENCE, TestSite, cannot_run, inside, ip, received, send_datagrams, tcp_reaches};

const SHORT: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_gateway_is_no_bridge() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    site.cable_up(&[("a1", "10.20.0.11"), ("b1", "10.20.0.21"), ("b2", "10.20.0.22")]).await;
    site.zone_off().await;
    let [a1, b1] = ["a1", "b1"].map(|host| site.namespace(host));
    let [campus, laptop] = ["campus", "campus.laptop"].map(|name| site.own_namespace(name));

    // From outside to both zones; what a Service's external address needs too.
    assert!(tcp_reaches(&laptop, &a1, "10.20.0.11", PATIENCE));
    assert!(tcp_reaches(&laptop, &b1, "10.20.0.21", PATIENCE));
    ip(&b1, "address add 198.51.100.7/32 dev eth0");
    assert!(tcp_reaches(&laptop, &b1, "198.51.100.7", PATIENCE), "an address of the external pool");
    // Nobody inside begins anything outside.
    assert!(!tcp_reaches(&a1, &laptop, "203.0.113.10", SHORT));
    assert!(!tcp_reaches(&a1, &campus, "203.0.113.254", SHORT));

    // Through the gateway to the other zone: asked for as plainly as can be.
    let before = received(&b1);
    ip(&a1, "route add 10.20.0.21/32 via 10.20.0.1 dev eth0");
    assert!(!tcp_reaches(&a1, &b1, "10.20.0.21", SHORT));
    send_datagrams(&a1, "10.20.0.21");
    assert_eq!(received(&b1), before);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_reach_the_controller_and_nothing_else_of_the_machine() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    site.cable_up(&[("a1", "10.20.0.11")]).await;
    site.zone_off().await;
    assert_eq!(site.endpoints.controller, "10.20.0.1:6443".parse().unwrap());
    let a1 = site.namespace("a1");
    let drystone = site.controller.try_clone().unwrap();
    let answering = std::thread::spawn(move || drystone.accept().unwrap().0.write_all(b"drystone").unwrap());
    let controller = site.endpoints.controller;
    let answer = inside(&a1, move || {
        let mut stream = TcpStream::connect_timeout(&controller, PATIENCE).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    answering.join().unwrap();
    assert_eq!(answer, "drystone");
    let port = site.controller.local_addr().unwrap().port();
    let elsewhere = SocketAddr::new(controller.ip(), port);
    assert!(inside(&a1, move || TcpStream::connect_timeout(&elsewhere, SHORT).is_err()));
    site.stop().await;
}

/// Sends raw text to the proxy and returns all that comes back until the connection closes or `enough` was seen.
fn talk(proxy: SocketAddr, text: &str, enough: &str) -> String {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    while !answer.contains(enough) {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            length => answer.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_reaches_into_the_site() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    site.cable_up(&[("a1", "10.20.0.11")]).await;
    site.zone_off().await;
    let listener = inside(&site.namespace("a1"), || TcpListener::bind("0.0.0.0:80").unwrap());
    let serving = std::thread::spawn(move || {
        let mut peers = Vec::new();
        for _ in 0..2 {
            let (mut stream, peer) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
                .unwrap();
            peers.push((peer, request));
        }
        peers
    });
    let proxy = site.endpoints.proxy;
    assert!(proxy.ip().is_loopback());
    let credentials = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let authorization = format!("Proxy-Authorization: Basic {}\r\n", credentials("site:stones"));

    let connect = "CONNECT 10.20.0.11:80 HTTP/1.1\r\nHost: 10.20.0.11:80\r\n";
    for wrong in [String::new(), format!("Proxy-Authorization: Basic {}\r\n", credentials("site:bricks"))] {
        let answer = talk(proxy, &format!("{connect}{wrong}\r\n"), "\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 407") && answer.to_lowercase().contains("proxy-authenticate: basic"),
            "{answer}"
        );
    }
    let tunnel = talk(proxy, &format!("{connect}{authorization}\r\nGET / HTTP/1.1\r\n\r\n"), "hello");
    assert!(tunnel.starts_with("HTTP/1.1 200") && tunnel.ends_with("hello"), "{tunnel}");
    let plain = format!(
        "GET http://10.20.0.11/path?q HTTP/1.1\r\nHost: 10.20.0.11\r\n{authorization}Connection: close\r\n\r\n"
    );
    let plain = talk(proxy, &plain, "hello");
    assert!(plain.starts_with("HTTP/1.1 200"), "{plain}");

    let seen = serving.join().unwrap();
    for (peer, _) in &seen {
        assert_eq!(peer.ip().to_string(), "203.0.113.254", "dialled from the campus");
    }
    assert!(seen[1].1.starts_with("GET /path?q HTTP/1.1"), "{}", seen[1].1);
    assert!(!seen[1].1.to_lowercase().contains("proxy-authorization"), "the password stays here");

    for (request, status) in [
        ("CONNECT nowhere.example:443 HTTP/1.1\r\nHost: nowhere.example:443\r\n", "400"),
        ("CONNECT 10.20.0.11:81 HTTP/1.1\r\nHost: 10.20.0.11:81\r\n", "502"),
        ("GET /not-a-proxy-request HTTP/1.1\r\nHost: x\r\n", "400"),
    ] {
        let answer = talk(proxy, &format!("{request}{authorization}\r\n"), "\r\n\r\n");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    site.stop().await;
}
