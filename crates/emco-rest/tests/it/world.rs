//! An API server in memory, the service over it; requests without a socket.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::body::Body;
use drystone_api::SYSTEM_NAMESPACE;
use drystone_apiserver::{ApiServer, Config as ServerConfig, Profile};
use drystone_emco_rest::{
    Config, EmcoRest, Refusal,
    door::{Access, Decision, Denied, Door},
    files::FileStore,
    status::{StatusQuery, StatusSource},
};
use drystone_engine::harness::Caches;
use drystone_identity::{
    Secret, UserInfo,
    authn::{Authentication, PasswordHash, Passwords},
    rbac::{Attributes, ResourceAttributes},
    user::UNAUTHENTICATED,
};
use drystone_sealing::SealingKey;
use drystone_store::embedded::{EmbeddedStore, Options};
use http::{HeaderMap, Request, StatusCode, request::Parts};
use http_body_util::BodyExt as _;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    runtime::{conditions, wait::await_condition},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Longest time that anything may take on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
const PASSWORD: &str = "correct horse";
/// `admin` with that password.
pub(crate) const BASIC: &str = "Authorization: Basic YWRtaW46Y29ycmVjdCBob3JzZQ==";
/// `nobody` with that password, who may nothing.
pub(crate) const NOBODY: &str = "Authorization: Basic bm9ib2R5OmNvcnJlY3QgaG9yc2U=";

struct ByApiServer(ApiServer);

impl Door for ByApiServer {
    fn admit<'a>(&'a self, request: &'a Parts, access: Access<'a>) -> Decision<'a> {
        Box::pin(async move {
            let user = self.0.authenticate(request).await.map_err(|_| Denied::Unauthenticated)?;
            if user.is_in(UNAUTHENTICATED) {
                return Err(Denied::Unauthenticated);
            }
            let resource = ResourceAttributes {
                group: "emco.drystone.dev",
                resource: access.resource,
                subresource: access.subresource,
                namespace: SYSTEM_NAMESPACE,
                name: access.name,
                ..ResourceAttributes::default()
            };
            let attributes = Attributes::resource(&user, access.verb, resource);
            if self.0.authorize(&attributes).allowed {
                Ok(())
            } else {
                Err(Denied::Forbidden(attributes.to_string()))
            }
        })
    }
}

/// Adds what was asked to what is known already.
struct Echoing;

#[async_trait]
impl StatusSource for Echoing {
    async fn status(&self, path: &str, query: &StatusQuery, mut base: Value) -> Result<Value, Refusal> {
        base["asked"] = json!(format!("{path} {:?} {:?}", query.kind, query.apps));
        Ok(base)
    }

    async fn settled(&self, path: &str) -> Result<(), Refusal> {
        if path.ends_with("/busy") {
            return Err(Refusal::conflict("something of it is still on cluster p+c"));
        }
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) emco: EmcoRest,
    pub(crate) client: Client,
    pub(crate) caches: Caches,
    pub(crate) directory: tempfile::TempDir,
    _server: ApiServer,
    pub(crate) stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A part of a body: name, name of the file, content.
pub(crate) type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

/// A body of several parts.
pub(crate) fn multipart(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        body.extend_from_slice(
            format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").as_bytes(),
        );
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XX--\r\n");
    body
}

pub(crate) const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=XX";

/// A chart, or profile.
pub(crate) fn archive(name: &str) -> Vec<u8> {
    archive_of(&format!("{name}/Chart.yaml"), &format!("name: {name}\n"))
}

/// A profile that changes nothing.
pub(crate) fn profile() -> Vec<u8> {
    archive_of("manifest.yaml", "version: v1\n")
}

/// An archive of one file.
pub(crate) fn archive_of(path: &str, content: &str) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(encoder);
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

pub(crate) fn kubeconfig(token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: k\n  cluster: {{server: https://10.0.0.1:6443}}\n\
         users:\n- name: u\n  user: {{token: {token}}}\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\n"
    )
}

impl World {
    pub(crate) async fn start() -> Self {
        let store = EmbeddedStore::in_memory(Options::default()).unwrap();
        let mut config = ServerConfig::new(Profile::Management, Arc::new(store));
        let hash = PasswordHash::of(&Secret::new(PASSWORD)).unwrap();
        let admin = UserInfo::new("admin", ["system:masters"]);
        let nobody = UserInfo::new("nobody", Vec::<String>::new());
        let passwords = Passwords::new().with("admin", hash.clone(), admin).with("nobody", hash, nobody);
        config.authentication = Authentication::new().with(passwords);
        let server = ApiServer::new(config).await.unwrap();
        let client =
            Client::new(server.service_as(UserInfo::new("system:admin", ["system:masters"])), "default");
        install(&client).await;
        let stop = CancellationToken::new();
        let directory = tempfile::tempdir().unwrap();
        let files = FileStore::open(directory.path(), &SealingKey::generate().unwrap()).unwrap();
        let config = Config {
            door: Arc::new(ByApiServer(server.clone())),
            files: Arc::new(files),
            status: Some(Arc::new(Echoing)),
            built_in: HashSet::from(["gac".to_owned()]),
        };
        let caches = Caches::new(client.clone(), stop.clone());
        let emco = EmcoRest::start(client.clone(), &caches, config, &stop);
        assert!(emco.ready().await);
        Self { emco, client, caches, directory, _server: server, stop }
    }

    /// Asks; headers are `Name: value`.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let response = self.emco.answer(request.body(body.into()).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, bytes, body }
    }

    /// Asks as the administrator, about a path below `/v2`.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.ask(method, &format!("/v2/{path}"), &[BASIC, "Content-Type: application/json"], bytes).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", &format!("/v2/{path}"), &[BASIC], Body::empty()).await
    }

    /// Makes a document, which must work.
    pub(crate) async fn make(&self, collection: &str, name: &str, spec: Value) {
        let mut body = json!({"metadata": {"name": name}});
        if !spec.is_null() {
            body["spec"] = spec;
        }
        let answer = self.send("POST", collection, &body).await;
        assert_eq!(answer.status, 201, "{collection}/{name}: {}", answer.text());
    }

    /// Makes a document with a file, or several.
    pub(crate) async fn upload(&self, method: &str, path: &str, body: &Value, files: &[Part<'_>]) -> Answer {
        let metadata = body.to_string();
        let mut parts: Vec<Part<'_>> = vec![("metadata", None, metadata.as_bytes())];
        parts.extend(files);
        self.ask(method, &format!("/v2/{path}"), &[BASIC, MULTIPART], multipart(&parts)).await
    }

    /// A cluster of a provider `p`.
    pub(crate) async fn cluster(&self, name: &str) {
        self.send("POST", "cluster-providers", &json!({"metadata": {"name": "p"}})).await;
        let config = kubeconfig("secret-token");
        let file: Part<'_> = ("file", Some("kubeconfig"), config.as_bytes());
        let body = json!({"metadata": {"name": name}});
        let made = self.upload("POST", "cluster-providers/p/clusters", &body, &[file]).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }

    /// A project with a composite application of two applications, a profile and a deployment intent group; the path of that.
    pub(crate) async fn group(&self) -> String {
        let app = "projects/p1/composite-apps/ca1/v1";
        self.make("projects", "p1", Value::Null).await;
        self.make("projects/p1/composite-apps", "ca1", json!({"compositeAppVersion": "v1"})).await;
        for name in ["a1", "a2"] {
            let (chart, body) = (archive(name), json!({"metadata": {"name": name}}));
            let file: Part<'_> = ("file", Some("filename"), chart.as_slice());
            let made = self.upload("POST", &format!("{app}/apps"), &body, &[file]).await;
            assert_eq!(made.status, 201, "{}", made.text());
        }
        self.make(&format!("{app}/composite-profiles"), "cp1", Value::Null).await;
        self.make("projects/p1/logical-clouds", "lc1", json!({"level": "0"})).await;
        let spec = json!({"compositeProfile": "cp1", "version": "r1", "logicalCloud": "lc1"});
        self.make(&format!("{app}/deployment-intent-groups"), "d1", spec).await;
        format!("{app}/deployment-intent-groups/d1")
    }

    /// Looks again and again until something is found.
    pub(crate) async fn eventually<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn install(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in drystone_api::emco::definitions() {
        definitions.create(&PostParams::default(), &definition).await.unwrap();
        let name = definition.name_any();
        let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(DEADLINE, established).await.unwrap().unwrap();
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let metadata = ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
}
