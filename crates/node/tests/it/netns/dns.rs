//! Cluster DNS as pods and the node's own programs ask it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use super::{
    lab::{Namespace, eventually},
    make_lab,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);

fn exchange(server: SocketAddr, packet: &[u8], stream: bool) -> std::io::Result<Vec<u8>> {
    let limit = Some(Duration::from_secs(10));
    let mut buffer = vec![0; 4096];
    if stream {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(limit)?;
        stream.write_all(&u16::try_from(packet.len()).unwrap().to_be_bytes())?;
        stream.write_all(packet)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        buffer.resize(usize::from(u16::from_be_bytes(length)), 0);
        stream.read_exact(&mut buffer)?;
        return Ok(buffer);
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(limit)?;
    socket.connect(server)?;
    socket.send(packet)?;
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// The answer's data, sorted, or what went wrong.
async fn ask(
    from: &Namespace,
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    stream: bool,
) -> Result<Vec<String>, String> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let packet = message.to_vec().unwrap();
    let asked = from.run(move || exchange(server, &packet, stream));
    let answer = tokio::task::spawn_blocking(|| asked.join().unwrap()).await.unwrap();
    let answer = Message::from_vec(&answer.map_err(|error| error.kind().to_string())?).unwrap();
    if answer.metadata.response_code != ResponseCode::NoError {
        return Err(answer.metadata.response_code.to_string());
    }
    let mut data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    Ok(data)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_and_nodes_find_services_by_name() {
    let mut lab = make_lab!();
    lab.start().await;
    let (pod, other) = (lab.pod(0, "pod").await, lab.pod(1, "other").await);
    lab.create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.43.0.80", "ports": [{"name": "http", "port": 80}]}}))
        .await;
    lab.create::<Service>(json!({"metadata": {"name": "db"}, "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}}))
        .await;
    lab.create::<EndpointSlice>(json!({
        "metadata": {"name": "db-1", "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4",
        "ports": [{"name": "sql", "port": 5432}],
        "endpoints": [{"addresses": [pod.address], "hostname": "db-0"}, {"addresses": [other.address], "hostname": "db-1"}],
    }))
    .await;
    let server = (SERVER, 53).into();
    let mut pods = vec![pod.address.to_string(), other.address.to_string()];
    pods.sort();
    for from in [&pod.namespace, &other.namespace, &lab.nodes[0].namespace, &lab.nodes[1].namespace] {
        eventually("both names", async || {
            let found = ask(from, server, "db.default.svc.cluster.local.", RecordType::A, false).await;
            (found.as_ref() == Ok(&pods)).then_some(())
        })
        .await;
        for stream in [false, true] {
            let ask = async |name: &str, kind| ask(from, server, name, kind, stream).await;
            assert_eq!(
                ask("web.default.svc.cluster.local.", RecordType::A).await,
                Ok(vec!["10.43.0.80".into()])
            );
            assert_eq!(
                ask("db-0.db.default.svc.cluster.local.", RecordType::A).await,
                Ok(vec![pod.address.to_string()])
            );
            let found = ask("_sql._tcp.db.default.svc.cluster.local.", RecordType::SRV).await.unwrap();
            assert_eq!(found[1], "0 100 5432 db-1.db.default.svc.cluster.local.");
            let found = ask("80.0.43.10.in-addr.arpa.", RecordType::PTR).await;
            assert_eq!(found, Ok(vec!["web.default.svc.cluster.local.".into()]));
            assert_eq!(
                ask("nobody.default.svc.cluster.local.", RecordType::A).await,
                Err("Non-Existent Domain".into())
            );
        }
    }
    // Only pods and the node itself are served.
    let direct = (lab.nodes[0].config.node_address, drystone_node::dns::PORT).into();
    assert!(
        ask(&lab.nodes[0].namespace, direct, "web.default.svc.cluster.local.", RecordType::A, false)
            .await
            .is_ok()
    );
    assert!(ask(&lab.outside, direct, "web.default.svc.cluster.local.", RecordType::A, false).await.is_err());
    // Names come and go.
    let slices: Api<EndpointSlice> = Api::default_namespaced(lab.api.clone());
    let patch = json!({"endpoints": [{"addresses": [pod.address], "conditions": {"ready": false}}]});
    slices.patch("db-1", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let services: Api<Service> = Api::default_namespaced(lab.api.clone());
    services.delete("web", &DeleteParams::default()).await.unwrap();
    for name in ["db.default.svc.cluster.local.", "web.default.svc.cluster.local."] {
        eventually(name, async || {
            ask(&pod.namespace, server, name, RecordType::A, false)
                .await
                .is_err_and(|error| error == "Non-Existent Domain")
                .then_some(())
        })
        .await;
    }
}
