//! `drystone up` serves EMCO's REST interface: both ports, over a restart, and with nothing of what is secret in clear on the disk.

use reqwest::{
    Certificate, Client, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::{Value, json};

use crate::{
    process::Up,
    search::{self, Marked},
};

const TOKEN: &str = "token-of-an-edge-cluster";
const PASSWORD_IN_CHART: &str = "password-in-a-chart";

fn client(up: &Up) -> Client {
    drystone_identity::tls::install_crypto_provider();
    let pem = std::fs::read(up.data.join("ca.crt")).expect("ca.crt");
    let certificate = Certificate::from_pem(&pem).expect("a certificate");
    Client::builder().tls_certs_only([certificate]).no_proxy().build().expect("a client")
}

fn ports(up: &Up) -> [String; 2] {
    ["https", "http"].map(|scheme| format!("{scheme}://{}/v2", up.address(scheme).expect(scheme)))
}

/// A chart with something in it that nobody else should see.
fn chart() -> Vec<u8> {
    // Not compressed, so that it would be found on the disk if it were in clear.
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let mut builder = tar::Builder::new(encoder);
    let mut header = tar::Header::new_gnu();
    header.set_size(PASSWORD_IN_CHART.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "a1/values.yaml", PASSWORD_IN_CHART.as_bytes()).expect("appended");
    builder.into_inner().and_then(flate2::write::GzEncoder::finish).expect("an archive")
}

/// A body with metadata and a file.
fn form(name: &str, file: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--XX\r\nContent-Disposition: form-data; name=metadata\r\n\r\n{}\r\n\
         --XX\r\nContent-Disposition: form-data; name=file; filename=filename\r\n\r\n",
        json!({"metadata": {"name": name}})
    )
    .into_bytes();
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    body
}

async fn make(client: &Client, up: &Up, url: &str, body: Vec<u8>, media: &str) {
    let request = client.post(url).basic_auth("admin", Some(up.password()));
    let answer = request.header(CONTENT_TYPE, media).body(body).send().await.expect(url);
    let status = answer.status();
    assert_eq!(status, StatusCode::CREATED, "{url}: {}", answer.text().await.unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn composite_applications_are_kept_and_guarded() {
    let directory = tempfile::tempdir().expect("a directory");
    let up = Up::start(directory.path(), &["--http", "127.0.0.1:0"]);
    let own = client(&up);
    let (secure, plain) = (&ports(&up)[0], &ports(&up)[1]);
    for port in [secure, plain] {
        let answer = own.get(format!("{port}/projects")).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let wrong = own.get(format!("{port}/projects")).basic_auth("admin", Some("wrong"));
        assert_eq!(wrong.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    }
    let json_body =
        |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec}).to_string().into_bytes();
    let (media, multipart) = ("application/json", "multipart/form-data; boundary=XX");
    make(&own, &up, &format!("{secure}/projects"), json_body("p1", Value::Null), media).await;
    let body = json_body("ca1", json!({"compositeAppVersion": "v1"}));
    make(&own, &up, &format!("{plain}/projects/p1/composite-apps"), body, media).await;
    let apps = "projects/p1/composite-apps/ca1/v1/apps";
    make(&own, &up, &format!("{secure}/{apps}"), form("a1", &chart()), multipart).await;
    make(&own, &up, &format!("{secure}/cluster-providers"), json_body("edge", Value::Null), media).await;
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:1'}}}}]\n\
         users: [{{name: u, user: {{token: {TOKEN}}}}}]\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
    );
    let clusters = format!("{secure}/cluster-providers/edge/clusters");
    make(&own, &up, &clusters, form("c1", kubeconfig.as_bytes()), multipart).await;
    up.stop();
    let secrets = [Marked::new("token", TOKEN), Marked::new("value of a chart", PASSWORD_IN_CHART)];
    search::assert_it_finds(directory.path(), &secrets[0]);
    assert_eq!(search::files(directory.path(), &secrets), []);
    let up = Up::start(directory.path(), &["--http", "127.0.0.1:0"]);
    let own = client(&up);
    let secure = &ports(&up)[0];
    let fetch = async |path: &str, accept: &str| {
        let request = own.get(format!("{secure}/{path}")).basic_auth("admin", Some(up.password()));
        let answer = request.header(ACCEPT, accept).send().await.expect(path);
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.bytes().await.expect("a body").to_vec()
    };
    let raw = "application/octet-stream";
    assert_eq!(fetch(&format!("{apps}/a1"), raw).await, chart());
    assert_eq!(fetch("cluster-providers/edge/clusters/c1", raw).await, kubeconfig.as_bytes());
    let shown = fetch("cluster-providers/edge/clusters/c1", media).await;
    assert!(!String::from_utf8_lossy(&shown).contains(TOKEN));
    up.stop();
}
