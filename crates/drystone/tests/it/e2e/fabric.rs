//! Zones by Redfish, with packets: who is in a zone together hears each other, and nobody else does; and `kill -9` amidst it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use crate::stage::{Drystone, Reply, is_skipped};

const HSN: &str = "/redfish/v1/Fabrics/HSN";
const SET: &str = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.SetFault";
const CLEAR: &str = "/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.ClearFaults";

/// How long to wait for what must not arrive. Refused frames vanish at once; this bounds the test only.
const SHORT: Duration = Duration::from_millis(700);

/// How long a write may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Hosts of the example rack that are on, with addresses that the test gives them on the fast fabric.
const HOSTS: [(&str, &str); 3] =
    [("gpu-01", "10.77.0.1"), ("gpu-02", "10.77.0.2"), ("compute-01", "10.77.0.3")];

fn endpoint(host: &str) -> Value {
    json!({"@odata.id": format!("{HSN}/Endpoints/{host}-hsn0")})
}

fn zone(id: &str, hosts: &[&str]) -> Value {
    let endpoints: Vec<Value> = hosts.iter().map(|host| endpoint(host)).collect();
    json!({"Id": id, "ZoneType": "ZoneOfEndpoints", "Links": {"Endpoints": endpoints},
           "Oem": {"Drystone": {"Isolation": "Exclusive"}}})
}

/// The rack, with its fast fabric found.
fn rack(backend: &'static str) -> Drystone {
    let mut drystone = Drystone::new(backend, |site| {
        if backend == "sim" { site.replace("scale: 1.0", "scale: 0.05") } else { site }
    });
    drystone.start();
    drystone.wait_for("all endpoints of the fast fabric", || {
        let reply = drystone.redfish("GET", &format!("{HSN}/Endpoints"), &Value::Null, &[]);
        (reply.body["Members@odata.count"] == 9).then_some(())
    });
    drystone.wait_for("all hosts", || {
        let blocks = drystone.items(&["get", "resourceblocks", "-n", "drystone-system"]);
        (blocks.len() == 12).then_some(())
    });
    drystone
}

/// Does something on a thread inside a network namespace.
fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    let thread = std::thread::spawn(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread.join().unwrap()
}

fn ip(namespace: &str, command: &str) -> String {
    let output = Command::new("ip").args(["-n", namespace]).args(command.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "ip -n {namespace} {command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The three hosts with what packets need: they are on, and have no operating system that would give them addresses.
struct Packets<'a>(&'a Drystone);

impl Packets<'_> {
    fn cable_up(&self) {
        for (host, address) in HOSTS {
            let namespace = self.0.namespace(host);
            // Its firmware takes a while before it is there with all its cables.
            self.0.wait_for("a host that is on", || {
                let mut look = Command::new("ip");
                look.args(["-n", &namespace, "link", "show", "hsn0"]);
                look.output().unwrap().status.success().then_some(())
            });
            for command in [
                "link set hsn0 addrgenmode none".to_owned(),
                "link set hsn0 up".to_owned(),
                format!("address add {address}/24 dev hsn0"),
            ] {
                ip(&namespace, &command);
            }
        }
    }

    /// Whether a connection carries a byte there and back.
    fn reach(&self, from: &str, to: &str, patience: Duration) -> bool {
        let address: Ipv4Addr = HOSTS.iter().find(|(host, _)| *host == to).unwrap().1.parse().unwrap();
        let (from, to) = (self.0.namespace(from), self.0.namespace(to));
        // What was not found before may be there now.
        ip(&from, "neigh flush dev hsn0 nud all");
        let listener = inside(&to, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            if stream.set_read_timeout(Some(SHORT * 4)).is_ok() && stream.read_exact(&mut byte).is_ok() {
                let _ = stream.write_all(&byte);
            }
        });
        let reached = inside(&from, move || {
            let mut stream =
                TcpStream::connect_timeout(&SocketAddr::new(address.into(), port), patience).ok()?;
            stream.set_read_timeout(Some(patience)).ok()?;
            stream.write_all(b"x").ok()?;
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            (byte == *b"x").then_some(())
        });
        if reached.is_none() {
            // Lets the echo go.
            inside(&to, move || drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port))));
        }
        echo.join().unwrap();
        reached.is_some()
    }

    fn pass(&self, one: &str, other: &str, why: &str) {
        for (from, to) in [(one, other), (other, one)] {
            self.0.wait_for(&format!("{why}: a packet from {from} to {to}"), || {
                self.reach(from, to, SHORT * 4).then_some(())
            });
        }
    }

    fn stop(&self, one: &str, other: &str, why: &str) {
        for (from, to) in [(one, other), (other, one)] {
            assert!(!self.reach(from, to, SHORT), "{why}: a packet went from {from} to {to}");
        }
    }

    /// Frames that a host has received.
    fn received(&self, host: &str) -> u64 {
        let links: Value =
            serde_json::from_str(&ip(&self.0.namespace(host), "-s -json link show hsn0")).unwrap();
        links[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    }
}

/// The forwarding table of a switch, as it says itself.
fn table(drystone: &Drystone, switch: &str) -> Value {
    let uri = format!("{HSN}/Switches/{switch}/Oem/Drystone/ForwardingTable");
    let reply = drystone.device("HSN", "GET", &uri, &Value::Null, &[]);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body["Zones"].clone()
}

fn post(drystone: &Drystone, room: &str, body: &Value) -> Reply {
    drystone.redfish("POST", &format!("{HSN}/{room}"), body, &[])
}

fn must_post(drystone: &Drystone, room: &str, body: &Value) -> Reply {
    let reply = followed(drystone, post(drystone, room, body));
    assert_eq!(reply.status, 201, "{reply:?}");
    reply
}

/// What became of a write that took so long that it was answered with a task.
fn followed(drystone: &Drystone, mut reply: Reply) -> Reply {
    let end = Instant::now() + PATIENCE;
    while reply.status == 202 && Instant::now() < end {
        let monitor = reply.location.clone();
        std::thread::sleep(Duration::from_millis(200));
        reply = drystone.redfish("GET", &monitor, &Value::Null, &[]);
    }
    reply
}

fn must_delete(drystone: &Drystone, uri: &str) {
    let reply = followed(drystone, drystone.redfish("DELETE", uri, &Value::Null, &[]));
    assert_eq!(reply.status, 204, "{uri}: {reply:?}");
}

#[test]
fn zones_carry_packets_and_are_walls() {
    if is_skipped() {
        return;
    }
    let mut drystone = rack("netns");
    let packets = Packets(&drystone);
    packets.cable_up();
    packets.stop("gpu-01", "gpu-02", "without a zone");

    // The seed's flow: members asked for their zones, a zone made, its tables in the switches when the answer comes.
    let asked = drystone.redfish("GET", &format!("{HSN}/Endpoints/gpu-01-hsn0"), &Value::Null, &[]);
    assert_eq!(asked.body.pointer("/Links/Zones"), None, "{asked:?}");
    let silent = packets.received("compute-01");
    let created = must_post(&drystone, "Zones", &zone("red", &["gpu-01", "gpu-02"]));
    assert_eq!(created.location, format!("{HSN}/Zones/red"));
    packets.pass("gpu-01", "gpu-02", "in a zone, across switches");
    packets.stop("gpu-01", "compute-01", "a stranger on the same switch");
    packets.stop("gpu-02", "compute-01", "a stranger on the other switch");
    assert_eq!(packets.received("compute-01"), silent, "the stranger heard something");
    let asked = drystone.redfish("GET", &format!("{HSN}/Endpoints/gpu-01-hsn0"), &Value::Null, &[]);
    assert_eq!(asked.body.pointer("/Links/Zones/0/@odata.id"), Some(&json!(created.location)));

    refused_and_unchanged(&drystone);
    members_come_and_go(&drystone, &packets, &created);
    a_failed_link_is_gone_round(&drystone, &packets);

    must_delete(&drystone, &created.location);
    packets.stop("gpu-01", "gpu-02", "after the zone");
    for switch in ["hsn-a", "hsn-b"] {
        assert_eq!(table(&drystone, switch), json!({}), "left in {switch}");
    }
    connections_open_pairs(&drystone, &packets);
    drystone.assert_all_given_back();
    drystone.stop();
    assert_eq!(drystone.namespaces(), [""; 0], "namespaces are left");
}

/// What must not be is refused with its reason, and nothing has changed.
fn refused_and_unchanged(drystone: &Drystone) {
    let before = [table(drystone, "hsn-a"), table(drystone, "hsn-b")];
    let message = |reply: &Reply| {
        let id = reply.body.pointer("/error/@Message.ExtendedInfo/0/MessageId").and_then(Value::as_str);
        id.unwrap_or_default().rsplit('.').next().unwrap_or_default().to_owned()
    };
    let foreign = json!({"Id": "blue", "ZoneType": "ZoneOfEndpoints",
        "Links": {"Endpoints": [{"@odata.id": "/redfish/v1/Fabrics/Ethernet/Endpoints/gpu-03-eth0"}]}});
    for (why, body, status, id) in [
        (
            "a second exclusive zone",
            zone("blue", &["gpu-02", "compute-01"]),
            409,
            "PropertyValueResourceConflict",
        ),
        ("an unknown endpoint", zone("blue", &["gpu-77"]), 400, "ResourceMissingAtURI"),
        ("a foreign endpoint", foreign, 400, "PropertyValueNotInList"),
        ("an endpoint twice", zone("blue", &["gpu-03", "gpu-03"]), 400, "PropertyValueConflict"),
        ("an id that is taken", zone("red", &["compute-01"]), 409, "ResourceAlreadyExists"),
    ] {
        let reply = post(drystone, "Zones", &body);
        assert_eq!((reply.status, message(&reply).as_str()), (status, id), "{why}: {reply:?}");
    }
    let stale = drystone.redfish(
        "PATCH",
        &format!("{HSN}/Zones/red"),
        &json!({"Links": {"Endpoints": []}}),
        &["If-Match: \"0123\""],
    );
    assert_eq!((stale.status, message(&stale).as_str()), (412, "PreconditionFailed"), "{stale:?}");
    assert_eq!([table(drystone, "hsn-a"), table(drystone, "hsn-b")], before, "refused, and yet changed");
    assert_eq!(drystone.items(&["get", "zones", "-A"]).len(), 1);
}

/// PATCH, `Zone.RemoveEndpoint` and `Zone.AddEndpoint` take effect before their answers.
fn members_come_and_go(drystone: &Drystone, packets: &Packets<'_>, created: &Reply) {
    let act = |action: &str, host: &str| {
        let uri = format!("{}/Actions/Zone.{action}", created.location);
        let reply =
            followed(drystone, drystone.redfish("POST", &uri, &json!({"Endpoint": endpoint(host)}), &[]));
        assert_eq!(reply.status, 200, "{action}: {reply:?}");
    };
    act("RemoveEndpoint", "gpu-02");
    packets.stop("gpu-01", "gpu-02", "taken out");
    act("AddEndpoint", "gpu-02");
    packets.pass("gpu-01", "gpu-02", "taken in again");
    let now = drystone.redfish("GET", &created.location, &Value::Null, &[]);
    let members = |hosts: &[&str]| json!({"Links": {"Endpoints": hosts.iter().map(|host| endpoint(host)).collect::<Vec<_>>()}});
    let condition = format!("If-Match: {}", now.etag);
    let patch = |hosts: &[&str], condition: &str| {
        let reply = drystone.redfish("PATCH", &created.location, &members(hosts), &[condition]);
        followed(drystone, reply)
    };
    let changed = patch(&["gpu-01", "compute-01"], &condition);
    assert_eq!(changed.status, 200, "{changed:?}");
    packets.pass("gpu-01", "compute-01", "exchanged for another");
    packets.stop("gpu-01", "gpu-02", "exchanged");
    let now = drystone.redfish("GET", &created.location, &Value::Null, &[]);
    let changed = patch(&["gpu-01", "gpu-02"], &format!("If-Match: {}", now.etag));
    assert_eq!(changed.status, 200, "{changed:?}");
    packets.pass("gpu-01", "gpu-02", "and back");
}

/// Of the two cables between the switches, the one that carries frames to gpu-02 fails, then the other one.
fn a_failed_link_is_gone_round(drystone: &Drystone, packets: &Packets<'_>) {
    let hosts = drystone.redfish("GET", &format!("{HSN}/Endpoints/gpu-02-hsn0"), &Value::Null, &[]);
    let mac = hosts.body.pointer("/Identifiers/0/DurableName").and_then(Value::as_str).unwrap().to_owned();
    let way =
        || table(drystone, "hsn-a")["red"]["Members"][&mac]["Port"].as_str().unwrap_or_default().to_owned();
    for _ in 0..2 {
        let used = way();
        assert!(used.starts_with("isl"), "{used}");
        let fault = json!({"Kind": "LinkDown", "Switch": "hsn-a", "Port": used});
        assert_eq!(drystone.device("HSN", "POST", SET, &fault, &[]).status, 204);
        drystone.wait_for("another way", || (way() != used).then_some(()));
        packets.pass("gpu-01", "gpu-02", "round the failed link");
        packets.stop("gpu-01", "compute-01", "round the failed link");
        assert_eq!(drystone.device("HSN", "POST", CLEAR, &json!({}), &[]).status, 204);
        drystone.wait_for("the link's return", || {
            let switches = drystone.items(&["get", "switches", "-n", "drystone-system"]);
            let up = |switch: &Value| {
                switch.pointer("/status/linksDown").and_then(Value::as_u64).unwrap_or_default() == 0
            };
            switches.iter().all(up).then_some(())
        });
    }
}

/// A zone without default routing is a room without doors until connections say who may talk to whom.
fn connections_open_pairs(drystone: &Drystone, packets: &Packets<'_>) {
    let mut room = zone("room", &["gpu-01", "gpu-02", "compute-01"]);
    room["DefaultRoutingEnabled"] = json!(false);
    let created = must_post(drystone, "Zones", &room);
    packets.stop("gpu-01", "gpu-02", "no connection yet");
    let group = must_post(
        drystone,
        "EndpointGroups",
        &json!({"Id": "data", "Links": {"Endpoints": [endpoint("gpu-02")]}}),
    );
    let connection = must_post(
        drystone,
        "Connections",
        &json!({"Id": "pair", "Links": {"InitiatorEndpoints": [endpoint("gpu-01")],
                "TargetEndpointGroups": [{"@odata.id": group.location}]}}),
    );
    packets.pass("gpu-01", "gpu-02", "connected");
    packets.stop("gpu-01", "compute-01", "not connected");
    packets.stop("gpu-02", "compute-01", "not connected");
    must_delete(drystone, &connection.location);
    packets.stop("gpu-01", "gpu-02", "no longer connected");
    must_delete(drystone, &group.location);
    must_delete(drystone, &created.location);
    assert_eq!([table(drystone, "hsn-a"), table(drystone, "hsn-b")], [json!({}), json!({})]);
}

/// Addresses of the members of each zone, as the zones say.
fn declared(drystone: &Drystone) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let mut all = BTreeMap::new();
    for zone in drystone.items(&["get", "zones", "-A"]) {
        let ready = zone.pointer("/status/phase").is_some_and(|phase| phase == "Ready");
        if !ready || zone["status"]["observedGeneration"] != zone["metadata"]["generation"] {
            return None;
        }
        let members = zone["status"]["members"].as_array()?.iter();
        let macs = members.filter_map(|member| Some(member["mac"].as_str()?.to_owned())).collect();
        all.insert(zone["metadata"]["name"].as_str()?.to_owned(), macs);
    }
    Some(all)
}

/// Addresses of the members of each zone in the tables of both switches; each must be at both, or at one alone.
fn programmed(drystone: &Drystone) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for switch in ["hsn-a", "hsn-b"] {
        for (zone, entry) in table(drystone, switch).as_object().unwrap() {
            let macs = entry["Members"].as_object().unwrap().keys().cloned();
            all.entry(zone.clone()).or_default().extend(macs);
        }
    }
    all
}

/// Names of zones in the agent's own tree.
fn shown_by_the_agent(drystone: &Drystone) -> BTreeSet<String> {
    let reply = drystone.device("HSN", "GET", &format!("{HSN}/Zones"), &Value::Null, &[]);
    let members = reply.body["Members"].as_array().cloned().unwrap_or_default();
    let last = |link: &Value| Some(link["@odata.id"].as_str()?.rsplit('/').next()?.to_owned());
    members.iter().filter_map(last).collect()
}

/// How often it is killed.
const KILLS: u64 = 8;

#[test]
fn killed_while_zones_are_posted() {
    let mut drystone = rack("sim");
    let pairs =
        [["gpu-01", "gpu-02"], ["gpu-03", "gpu-04"], ["gpu-05", "gpu-06"], ["compute-02", "compute-03"]];
    let (mut interrupted, mut there) = (0, 0);
    for round in 0..KILLS {
        let acknowledged = std::thread::scope(|scope| {
            let drystone = &drystone;
            let posts: Vec<_> = pairs
                .iter()
                .enumerate()
                .map(|(number, hosts)| {
                    let id = format!("z{round}-{number}");
                    scope.spawn(move || (post(drystone, "Zones", &zone(&id, hosts)).status, id))
                })
                .collect();
            // In the middle of the work, each round further on: when some zones are in the tables already.
            let wanted = usize::try_from(round).unwrap() % pairs.len();
            while programmed(drystone).len() <= wanted
                && !posts.iter().all(std::thread::ScopedJoinHandle::is_finished)
            {
                std::thread::sleep(Duration::from_millis(3));
            }
            drystone.signal_kill();
            let replies = posts.into_iter().map(|post| post.join().unwrap());
            replies.filter(|(status, _)| *status == 201).map(|(_, id)| id).collect::<Vec<_>>()
        });
        interrupted += pairs.len() - acknowledged.len();
        drystone.kill();
        drystone.start();
        let zones = drystone.wait_for("zones that are all ready", || declared(&drystone));
        for id in &acknowledged {
            assert!(zones.contains_key(id), "zone {id} had been acknowledged, and is gone: {zones:?}");
        }
        drystone
            .wait_for("tables that are as the zones say", || (programmed(&drystone) == zones).then_some(()));
        let names: BTreeSet<String> = zones.keys().cloned().collect();
        drystone.wait_for("an agent that shows these zones", || {
            (shown_by_the_agent(&drystone) == names).then_some(())
        });
        println!(
            "round {round}: {} of {} acknowledged, {} there",
            acknowledged.len(),
            pairs.len(),
            names.len()
        );
        there += names.len();
        for id in &names {
            let uri = format!("{HSN}/Zones/{id}");
            drystone.wait_for("the zone in the tree", || {
                (drystone.redfish("GET", &uri, &Value::Null, &[]).status == 200).then_some(())
            });
            must_delete(&drystone, &uri);
        }
        assert_eq!(programmed(&drystone), BTreeMap::new(), "tables after all zones are gone");
        assert_eq!(shown_by_the_agent(&drystone), BTreeSet::new());
    }
    assert!(there > 0, "no zone was ever begun before the kill: the test tests nothing");
    assert!(interrupted > 0, "every zone was finished before the kill: the test tests nothing");
    drystone.assert_all_given_back();
    drystone.stop();
}
