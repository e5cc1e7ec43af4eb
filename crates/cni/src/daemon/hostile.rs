//! Callers that mean no good: each gets an answer or a closed connection, and the next one is served.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use drystone_hostile::{bytes, damaged, distorted};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::sync::CancellationToken;

use super::{Answer, Handler, MAX_MESSAGE, Server};
use crate::protocol::{
    AddResult, CniError, Command, Environment, ErrorCode, NetworkConfiguration, SpecVersion,
};

/// Notes the environments that it is given, and attaches nothing.
#[derive(Default)]
struct Notes(Mutex<Vec<Environment>>);

#[async_trait]
impl Handler for Notes {
    async fn add(&self, request: &Environment, _: &NetworkConfiguration) -> Result<AddResult, CniError> {
        self.0.lock().unwrap().push(request.clone());
        Ok(AddResult::default())
    }

    async fn del(&self, request: &Environment, _: &NetworkConfiguration) -> Result<(), CniError> {
        self.0.lock().unwrap().push(request.clone());
        Ok(())
    }

    async fn check(&self, request: &Environment, _: &NetworkConfiguration) -> Result<(), CniError> {
        self.0.lock().unwrap().push(request.clone());
        Ok(())
    }

    async fn status(&self) -> Result<(), CniError> {
        Ok(())
    }

    async fn collect(&self, _: &NetworkConfiguration) -> Result<(), CniError> {
        Ok(())
    }
}

fn good() -> Value {
    json!({
        "environment": {"command": "ADD", "containerId": "abc-1", "networkNamespace": "/run/netns/x", "interface": "eth0",
            "arguments": {"K8S_POD_NAME": "web"}},
        "configuration": {"cniVersion": "1.1.0", "name": "pods", "type": "drystone-cni", "prevResult": {"interfaces": [{"name": "lo"}],
            "ips": [{"address": "10.1.0.5/32", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]},
            "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth0"}]},
    })
}

/// Sends bytes and returns what comes back.
async fn ask(path: &std::path::Path, message: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // The agent may have seen enough before the end.
    let _ = stream.write_all(message).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

fn messages() -> impl Strategy<Value = Vec<u8>> {
    let keys: &[&str] = &[
        "environment",
        "configuration",
        "command",
        "containerId",
        "interface",
        "prevResult",
        "ips",
        "cniVersion",
    ];
    let line = |value: Value| format!("{value}\n").into_bytes();
    prop_oneof![
        3 => distorted(good(), keys).prop_map(line),
        3 => damaged([line(good())]),
        1 => bytes(100),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_message_is_answered_and_nothing_unchecked_is_done(messages in vec(messages(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("cni.sock");
            let (notes, shutdown) = (Arc::new(Notes::default()), CancellationToken::new());
            let serving = tokio::spawn(Server::bind(&path).unwrap().run(notes.clone(), shutdown.clone()));
            for message in messages {
                let answer = ask(&path, &message).await;
                let text = std::str::from_utf8(message.split(|byte| *byte == b'\n').next().unwrap_or_default());
                if text.is_ok() {
                    let answer: Answer = serde_json::from_slice(&answer).unwrap();
                    prop_assert!(!matches!(answer, Answer::Error(CniError { code: ErrorCode::Other(_), .. })), "{answer:?}");
                }
            }
            let answer: Answer = serde_json::from_slice(&ask(&path, format!("{}\n", good()).as_bytes()).await).unwrap();
            prop_assert!(matches!(answer, Answer::Result(_)), "{answer:?}");
            shutdown.cancel();
            serving.await.unwrap();
            for environment in notes.0.lock().unwrap().iter() {
                prop_assert!(!environment.container_id.contains('/') && !environment.container_id.is_empty());
                prop_assert!(!environment.interface.contains('/') && (1..16).contains(&environment.interface.len()));
                prop_assert!(environment.network_namespace.is_some() || environment.command == Command::Del);
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_result_of_another_plugin_is_carried_on_or_refused(configuration in distorted(good()["configuration"].clone(),
        &["interfaces", "ips", "interface", "address", "routes", "dst", "mtu", "dns", "name"])) {
        let Value::Object(raw) = configuration else { return Ok(()) };
        let Ok(configuration) = NetworkConfiguration::from_json(raw) else { return Ok(()) };
        let mut result = configuration.previous.unwrap_or_default();
        result.append(AddResult::default());
        for version in SpecVersion::ALL {
            let _ = result.to_json(version);
        }
    }
}

#[tokio::test]
async fn a_message_without_end_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cni.sock");
    let shutdown = CancellationToken::new();
    let serving =
        tokio::spawn(Server::bind(&path).unwrap().run(Arc::new(Notes::default()), shutdown.clone()));
    let long = [b'[', b' '].repeat(usize::try_from(MAX_MESSAGE).unwrap());
    let answer = ask(&path, &long).await;
    let refused =
        serde_json::from_slice::<Answer>(&answer).is_ok_and(|answer| matches!(answer, Answer::Error(_)));
    assert!(refused || answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    shutdown.cancel();
    serving.await.unwrap();
}
