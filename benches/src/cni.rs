//! The CNI plugin beside Debian's bridge and host-local, called in turns as a container runtime calls them.
//!
//! A network namespace stands for the node; this program calls itself in it, as the node agent's end of the plugin. Both plugins
//! pay for their process, their address and their interfaces.

use std::{
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use drystone_cni::{
    daemon::{Handler, Server},
    ipam::AddressManager,
    network::{NetworkSettings, PodNetwork},
    tools::Tools,
};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};
use tokio_util::sync::CancellationToken;

use crate::{
    Failure, Setting,
    report::{Report, Row},
    statistics::{Sorted, milliseconds},
};

/// Where Debian has its plugins.
const PEERS: &str = "/usr/lib/cni";

/// What a series of calls took.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Series {
    add: Vec<Duration>,
    delete: Vec<Duration>,
}

/// Both.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Measured {
    ours: Series,
    /// None if the peer is not installed.
    peer: Option<Series>,
}

/// Measures it.
pub(crate) async fn measure(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    report.say(
        "CNI: drystone-cni and bridge + host-local in turns, in a network namespace that stands for the node",
    );
    let count = setting.usually(50, 5).to_string();
    let mut command = Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe()?).arg("cni-node");
    command.arg("--program").arg(&setting.program).args(["--count", &count]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().await?;
    if !output.status.success() {
        return Err("the CNI plugins could not be measured".into());
    }
    let Measured { ours, peer } = serde_json::from_slice(&output.stdout)?;
    let (peer_add, peer_delete) = peer.map_or((None, None), |peer| (Some(peer.add), Some(peer.delete)));
    for (what, ours, peer) in [("ADD", ours.add, peer_add), ("DEL", ours.delete, peer_delete)] {
        let text = |durations: Vec<Duration>| {
            let sorted = Sorted::new(durations);
            format!("median {}, p90 {}", milliseconds(sorted.median()), milliseconds(sorted.percentile(90)))
        };
        report.add(Row {
            what: format!("CNI {what} (peer: Debian's bridge + host-local)"),
            ours: text(ours),
            peer: peer.map_or_else(
                || format!("no {PEERS}/bridge: apt-get install containernetworking-plugins"),
                text,
            ),
            ..Row::default()
        });
    }
    Ok(())
}

/// Calls the plugins, in the network namespace that this process is in; prints what it took.
pub(crate) async fn inside(program: &Path, count: usize) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let plugin = directory.path().join("drystone-cni");
    symlink(program, &plugin)?;
    let tools = Tools::here();
    let node = "link set lo up\nlink add eth0 type veth peer name uplink\naddress add 10.20.0.5/24 dev eth0\n\
                link set eth0 up\nlink set uplink up\n";
    tools.run("ip", &["-batch", "-"], node).await?;
    let stop = CancellationToken::new();
    let socket = directory.path().join("cni.sock");
    agent(directory.path(), &socket, &stop).await?;
    let ours = Plugin {
        program: plugin,
        configuration: json!({"cniVersion": "1.0.0", "name": "pods", "type": "drystone-cni", "socket": socket}),
    };
    let peer = Plugin {
        program: Path::new(PEERS).join("bridge"),
        configuration: json!({
            "cniVersion": "1.0.0", "name": "peer", "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipam": {"type": "host-local", "dataDir": directory.path().join("host-local"),
                     "ranges": [[{"subnet": "10.99.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }),
    };
    let mut measured = Measured { peer: peer.program.is_file().then(Series::default), ..Measured::default() };
    // The first calls load programs and make the bridge; they do not count.
    once(&tools, &ours, &mut Series::default()).await?;
    if measured.peer.is_some() {
        once(&tools, &peer, &mut Series::default()).await?;
    }
    for _ in 0..count {
        once(&tools, &ours, &mut measured.ours).await?;
        if let Some(series) = &mut measured.peer {
            once(&tools, &peer, series).await?;
        }
    }
    stop.cancel();
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// The node agent's end of the plugin.
async fn agent(directory: &Path, socket: &Path, stop: &CancellationToken) -> Result<(), Failure> {
    let addresses = AddressManager::open(&directory.join("addresses"))?;
    let block: Ipv4Net = "10.42.1.0/24".parse()?;
    let settings = NetworkSettings {
        node_address: Ipv4Addr::new(10, 20, 0, 5),
        interface: "eth0".into(),
        pod_cidr: "10.42.0.0/16".parse()?,
        service_cidr: "10.43.0.0/16".parse()?,
        mtu: 1500,
    };
    let network = Arc::new(PodNetwork::new(settings, Tools::here(), addresses));
    network.prepare().await?;
    network.set_blocks(&[block]);
    let handler: Arc<dyn Handler> = network;
    tokio::spawn(Server::bind(socket)?.run(handler, stop.clone()));
    Ok(())
}

/// A plugin and how it is configured.
struct Plugin {
    program: PathBuf,
    configuration: Value,
}

/// Attaches a namespace of its own, and detaches it.
async fn once(tools: &Tools, plugin: &Plugin, series: &mut Series) -> Result<(), Failure> {
    let pod = format!("bench-{}", std::process::id());
    tools.run("ip", &["netns", "add", &pod], "").await?;
    let called = async {
        series.add.push(plugin.call("ADD", &pod).await?);
        series.delete.push(plugin.call("DEL", &pod).await?);
        Ok(())
    };
    let outcome = called.await;
    tools.run("ip", &["netns", "delete", &pod], "").await?;
    outcome
}

impl Plugin {
    /// Calls it; returns how long it took from the start of its process to its end.
    async fn call(&self, action: &str, pod: &str) -> Result<Duration, Failure> {
        let input = self.configuration.to_string();
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("CNI_COMMAND", action).env("CNI_CONTAINERID", pod).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", Path::new("/run/netns").join(pod)).env("CNI_PATH", PEERS);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", self.program.display()))?;
        let mut stdin = child.stdin.take().ok_or("no standard input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let took = began.elapsed();
        if output.status.success() {
            return Ok(took);
        }
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Err(format!("{} {action}: {said}", self.program.display()).into())
    }
}
