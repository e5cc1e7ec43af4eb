//! The same files, by EMCO's own command line and by us: the same requests, in the same order.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use async_trait::async_trait;
use drystone_emco_client::{Action, Document, Options, Reply, Step, Transport, Unsent, run, template};
use http::Method;
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::recorder::{Asked, Recorder, Sent};

const VALUES: &str = "Project: p1\nProvider: edge\nRsyncPort: 9031\nClusters:\n- {Name: c1, Label: west}\n- {Name: c2}\n\
    Chart: web.tgz\nGroup: dig\nSwitch: on\nVersion: \"1.10\"\n";

const FILE: &str = r#"# Controllers
version: emco/v2
resourceContext:
  anchor: controllers
metadata :
   name: rsync
spec:
  host: rsync
  port: {{.RsyncPort}}

---
version: emco/v2
resourceContext: {anchor: cluster-providers}
metadata: {name: {{.Provider}}, description: "the \"edge\" — ä", userData1: yes, userData2: 1.10}
{{- range $index, $cluster := .Clusters}}
---
version: emco/v2
resourceContext:
  anchor: cluster-providers/{{$.Provider}}/clusters
metadata:
  name: {{.Name}}
file:
  kubeconfig
{{- with .Label}}
---
version: emco/v2
resourceContext:
  anchor: cluster-providers/{{$.Provider}}/clusters/{{$cluster.Name}}/labels
clusterLabel: {{.}}
{{- end}}
---
version: emco/v2
resourceContext:
  anchor: cluster-providers/{{$.Provider}}/clusters/{{$cluster.Name}}/kv-pairs
metadata:
  name: kv{{$index}}
spec:
  kv:
  - number: {{$index}}
  - {switch: {{$.Switch}}, off: off, truth: true, nothing: null, fraction: 1.5, big: 12345678901, mode: 0644, hex: 0x1f, version: 1.10, quoted: "{{$.Version}}"}
  - text: |
      two
        lines
{{- end}}
---
version: emco/v2
resourceContext:
  anchor: projects
metadata:
  name: {{.Project}}
---
version: emco/v2
resourceContext:
  anchor: projects/{{.Project}}/composite-apps
metadata:
  name: shop
spec:
  compositeAppVersion: v1
---
version: emco/v2
resourceContext:
  anchor: projects/{{.Project}}/composite-apps/shop/v1/apps
metadata:
  name: web
file: {{.Chart}} # the chart
---
version: emco/v2
resourceContext:
  anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups
metadata:
  name: {{.Group}}
spec:
  compositeProfile: profile
  version: r1
  logicalCloud: lc
  overrideValues: []
---
version: emco/v2
resourceContext:
  anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups/{{.Group}}/generic-k8s-intents/i/resources/r/customizations
metadata:
  name: customization
spec:
  clusterSpecific: "false"
files:
  - web.tgz
  - kubeconfig
---
version: emco/v2
resourceContext:
  anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups/{{.Group}}/approve
---
version: emco/v2
resourceContext:
  anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups/{{.Group}}/instantiate
"#;

struct Http {
    client: Client<HttpConnector, axum::body::Body>,
    port: u16,
}

#[async_trait]
impl Transport for Http {
    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Reply, Unsent> {
        let mut request =
            http::Request::builder().method(method).uri(format!("http://127.0.0.1:{}/v2/{path}", self.port));
        let mut bytes = Vec::new();
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind);
            bytes = body;
        }
        let reply = self.client.request(request.body(bytes.into()).unwrap()).await.unwrap();
        let status = reply.status().as_u16();
        Ok(Reply { status, body: reply.into_body().collect().await.unwrap().to_bytes().to_vec() })
    }
}

async fn ours(folder: &Path, action: Action) -> Vec<Asked> {
    let (recorder, port) = Recorder::start().await;
    let transport = Http { client: Client::builder(TokioExecutor::new()).build_http(), port };
    let text = template::rendered(FILE, Some(VALUES)).unwrap();
    let options = Options { patience: Duration::ZERO, folders: vec![folder.to_owned()] };
    for step in Step::all(action, &Document::all(&text).unwrap()) {
        run(&step, &transport, &options).await.unwrap();
    }
    recorder.take()
}

fn program() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/emcoctl/emcoctl");
    if !program.exists() {
        // Its source lies where not every machine gets to.
        println!("skipped: no emcoctl (`./dev test` builds it where its source can be had)");
        return None;
    }
    Some(program)
}

async fn theirs(program: &Path, folder: &Path, verb: &str) -> Vec<Asked> {
    let (recorder, port) = Recorder::start().await;
    std::fs::write(folder.join("cfg.yaml"), format!("ingress: {{host: 127.0.0.1, port: {port}}}\n")).unwrap();
    let output = tokio::process::Command::new(program)
        .current_dir(folder)
        .args(["--config", "cfg.yaml", verb, "-f", "file.yaml", "-v", "values.yaml"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), output).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    recorder.take()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("file.yaml", FILE.as_bytes());
    write("values.yaml", VALUES.as_bytes());
    write("web.tgz", b"\x1f\x8b\x08\x00\r\n--\r\n\r\n\xff");
    write("kubeconfig", b"apiVersion: v1\n");
    folder
}

#[tokio::test]
async fn every_document_becomes_a_request() {
    let folder = folder();
    let asked = ours(folder.path(), Action::Apply).await;
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(asked.len(), 14, "{lines:#?}");
    assert_eq!(lines[2], "POST /v2/cluster-providers/edge/clusters");
    assert_eq!(
        lines[13],
        "POST /v2/projects/p1/composite-apps/shop/v1/deployment-intent-groups/dig/instantiate"
    );
    let Sent::Form(metadata, files) = &asked[11].body else { panic!("{:?}", asked[11]) };
    assert_eq!(metadata["spec"]["clusterSpecific"], "false");
    assert_eq!(files.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(), ["files", "files"]);
    assert_eq!(files[0].1, b"\x1f\x8b\x08\x00\r\n--\r\n\r\n\xff");
}

#[tokio::test]
async fn what_emcoctl_asks_for_is_what_we_ask_for() {
    let Some(program) = program() else { return };
    let folder = folder();
    for (action, verb) in [
        (Action::Apply, "apply"),
        (Action::Update, "update"),
        (Action::Get, "get"),
        (Action::Delete, "delete"),
    ] {
        let (ours, theirs) = (ours(folder.path(), action).await, theirs(&program, folder.path(), verb).await);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{verb}");
        }
        assert_eq!(ours.len(), theirs.len(), "{verb}");
    }
}
