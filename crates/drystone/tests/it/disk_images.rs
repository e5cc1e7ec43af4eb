//! Images that are written to the disks of hosts by the agent: over real HTTP, on simulated hosts.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::stage::Drystone;

const NAMESPACE: &str = "drystone-system";

/// A server of one image, which may break off its first answers in the middle.
pub(crate) struct ImageServer {
    pub(crate) address: SocketAddr,
    /// How many requests asked for a range.
    pub(crate) ranges: Arc<AtomicUsize>,
}

impl ImageServer {
    /// Serves until the test ends. `listen` is where; `breaks` is how many answers end early.
    pub(crate) fn start(listen: &str, image: Arc<Vec<u8>>, breaks: usize) -> Self {
        let listener = TcpListener::bind(listen).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, ranges) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (requests, Arc::clone(&ranges));
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (image, counters) = (Arc::clone(&image), counters.clone());
                std::thread::spawn(move || serve(connection, &image, breaks, &counters));
            }
        });
        Self { address, ranges }
    }
}

fn serve(
    mut connection: std::net::TcpStream,
    image: &[u8],
    breaks: usize,
    (requests, ranges): &(Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
        }
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let range = request.lines().find_map(|line| line.strip_prefix("range: bytes=")).map(str::to_owned);
    let number = requests.fetch_add(1, Ordering::SeqCst);
    let (from, to) = match &range {
        None => (0, image.len()),
        Some(range) => {
            ranges.fetch_add(1, Ordering::SeqCst);
            let (from, to) = range.split_once('-').unwrap();
            let to = to.trim().parse().map_or(image.len(), |to: usize| (to + 1).min(image.len()));
            (from.parse().unwrap(), to)
        }
    };
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\nETag: \"one\"\r\nConnection: close\r\n\r\n",
        to - from,
        to.saturating_sub(1),
        image.len()
    );
    let end = if number < breaks { from + (to - from) / 2 } else { to };
    // A client that goes away has what it wants.
    let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&image[from..end]));
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn state(drystone: &Drystone, host: &str) -> (String, Value) {
    // Right after a start, the host may not have been declared yet.
    let found = drystone.kubectl(&["get", "baremetalhost", host, "-n", NAMESPACE, "-o", "json"]);
    let host: Value = match found {
        Ok(text) => serde_json::from_str(&text).unwrap(),
        Err(error) if error.contains("NotFound") => Value::Null,
        Err(error) => panic!("{host}: {error}"),
    };
    let state = host["status"]["provisioning"]["state"].as_str().unwrap_or_default().to_owned();
    (state, host)
}

/// Waits until a host is in a state.
pub(crate) fn await_state(drystone: &Drystone, host: &str, wanted: &str) -> Value {
    drystone.wait_for(&format!("{host} {wanted}"), || {
        let (state, host) = state(drystone, host);
        (state == wanted).then_some(host)
    })
}

/// Gives a host an image and user data, and wants it online.
pub(crate) fn give_image(drystone: &Drystone, host: &str, image: &Value, user_data: &str) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{host}-user-data"), "namespace": NAMESPACE},
        "stringData": {"userData": user_data}});
    let file = drystone.data.join(format!("{host}-user-data.json"));
    std::fs::write(&file, secret.to_string()).unwrap();
    drystone.must(&["apply", "-f", file.to_str().unwrap()]);
    let patch =
        json!({"spec": {"online": true, "image": image, "userData": {"name": format!("{host}-user-data")}}});
    patch_host(drystone, host, &patch);
}

fn patch_host(drystone: &Drystone, host: &str, patch: &Value) {
    drystone.must(&[
        "patch",
        "baremetalhost",
        host,
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        &patch.to_string(),
    ]);
}

#[test]
fn an_image_is_written_by_the_agent_of_a_simulated_host() {
    let mut drystone = Drystone::new("sim", |site| site.replace("scale: 1.0", "scale: 0.05"));
    drystone.start();
    let image: Arc<Vec<u8>> = Arc::new((0..3_000_000_u32).flat_map(u32::to_le_bytes).collect());
    let server = ImageServer::start("127.0.0.1:0", Arc::clone(&image), 2);
    let url = format!("http://{}/disk.raw", server.address);
    let good = json!({"url": url, "checksum": sha256(&image), "checksumType": "sha256", "format": "raw"});
    await_state(&drystone, "gpu-01", "available");

    // A wrong digest is found out, said, and tried again until it is corrected.
    let wrong = json!({"url": url, "checksum": "0".repeat(64), "format": "raw"});
    give_image(&drystone, "gpu-01", &wrong, "#cloud-config\n{}\n");
    let message = drystone.wait_for("the wrong digest", || {
        let (_, host) = state(&drystone, "gpu-01");
        let message = host["status"]["errorMessage"].as_str().unwrap_or_default().to_owned();
        message.contains("digest").then_some(message)
    });
    assert!(message.contains(&sha256(&image)), "{message}");
    assert!(server.ranges.load(Ordering::SeqCst) > 0, "what broke off is gone on with");

    patch_host(&drystone, "gpu-01", &json!({"spec": {"image": good}}));
    let host = await_state(&drystone, "gpu-01", "provisioned");
    assert_eq!(host["status"]["provisioning"]["image"]["url"], url.as_str());
    assert_eq!(host["status"]["errorMessage"], "");
    assert!(host["metadata"]["annotations"]["drystone.dev/image-written"].is_string(), "{host}");
    for reason in ["AgentStarted", "ImageWritten", "ProvisioningComplete"] {
        // Events are written one after the other, beside what they tell of.
        drystone.wait_for(&format!("event {reason}"), || {
            drystone.must(&["get", "events", "-n", NAMESPACE]).contains(reason).then_some(())
        });
    }

    // Without credentials, and with somebody's else, nobody is let in.
    for header in ["Authorization: Bearer x.y", "Accept: */*"] {
        let reply = drystone.anonymous("GET", "/agent/v1/orders", &[header]);
        assert_eq!(reply.status, 401, "{}", reply.body);
    }

    patch_host(&drystone, "gpu-01", &json!({"spec": {"image": null, "online": false}}));
    let host = await_state(&drystone, "gpu-01", "available");
    assert!(host["metadata"]["annotations"]["drystone.dev/image-written"].is_null(), "cleaned: {host}");
    drystone.stop();
}
