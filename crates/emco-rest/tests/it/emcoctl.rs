//! EMCO's own command line, unmodified, and our client of its files, on the service.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use async_trait::async_trait;
use axum::{
    Router,
    extract::{Request, State},
    http::HeaderValue,
    response::Response,
};
use drystone_emco_client::{Action, Document, Done, Options, Reply, Step, Transport, Unsent, run, template};
use drystone_emco_rest::EmcoRest;
use http::{Method, header};

use crate::world::{BASIC, DEADLINE, World, archive, kubeconfig, profile};

const VALUES: &str = "Project: p1\nProvider: p\nClusters: [{Name: c1, Label: west}, {Name: c2}]\n";

const FILE: &str = "version: emco/v2
resourceContext: {anchor: controllers}
metadata: {name: rsync}
spec: {host: rsync, port: 9031}
---
version: emco/v2
resourceContext: {anchor: cluster-providers}
metadata: {name: {{.Provider}}}
{{- range .Clusters}}
---
version: emco/v2
resourceContext: {anchor: cluster-providers/{{$.Provider}}/clusters}
metadata: {name: {{.Name}}}
file: kubeconfig
{{- with .Label}}
---
version: emco/v2
resourceContext: {anchor: cluster-providers/{{$.Provider}}/clusters/c1/labels}
clusterLabel: {{.}}
{{- end}}
{{- end}}
---
version: emco/v2
resourceContext: {anchor: projects}
metadata: {name: {{.Project}}}
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/logical-clouds}
metadata: {name: lc}
spec: {level: \"0\"}
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/logical-clouds/lc/cluster-references}
metadata: {name: ref}
spec: {clusterProvider: {{.Provider}}, cluster: c1, loadbalancerIp: 0.0.0.0}
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps}
metadata: {name: shop, description: a shop}
spec: {compositeAppVersion: v1}
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps/shop/v1/apps}
metadata: {name: web}
file: web.tgz
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps/shop/v1/composite-profiles}
metadata: {name: cp}
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps/shop/v1/composite-profiles/cp/profiles}
metadata: {name: web}
spec: {app: web}
file: profile.tgz
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups}
metadata: {name: dig}
spec: {compositeProfile: cp, version: r1, logicalCloud: lc, overrideValues: []}
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups/dig/generic-placement-intents}
metadata: {name: gpi}
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups/dig/generic-placement-intents/gpi/app-intents}
metadata: {name: web}
spec: {app: web, intent: {allOf: [{clusterProvider: {{.Provider}}, clusterLabel: west}]}}
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups/dig/intents}
metadata: {name: intents}
spec: {intent: {genericPlacementIntent: gpi}}
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups/dig/generic-k8s-intents}
metadata: {name: gac}
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups/dig/generic-k8s-intents/gac/resources}
metadata: {name: r}
spec: {app: web, newObject: \"true\", resourceGVK: {apiVersion: v1, kind: ConfigMap, name: cm}}
file: kubeconfig
---
version: emco/v2
resourceContext: {anchor: projects/{{.Project}}/composite-apps/shop/v1/deployment-intent-groups/dig/generic-k8s-intents/gac/resources/r/customizations}
metadata: {name: c}
spec:
  clusterSpecific: \"false\"
  clusterInfo: {scope: label, clusterProvider: {{.Provider}}, clusterName: x, clusterLabel: west, mode: allow}
files: [kubeconfig]
";

/// Documents of the file.
const DOCUMENTS: usize = 19;

/// The service on a port of 127.0.0.1, to whoever calls as to the administrator: this is what a plain port that trusts this machine is.
async fn serve(emco: EmcoRest) -> u16 {
    async fn answer(State(emco): State<EmcoRest>, mut request: Request) -> Response {
        let admin = HeaderValue::from_static(BASIC.split_once(": ").unwrap().1);
        request.headers_mut().insert(header::AUTHORIZATION, admin);
        emco.answer(request).await
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(answer).with_state(emco);
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

struct Direct<'a>(&'a World);

#[async_trait]
impl Transport for Direct<'_> {
    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Reply, Unsent> {
        let (kind, body) = body.unwrap_or_default();
        let kind = format!("Content-Type: {kind}");
        let headers = [BASIC, "Accept: application/json", &kind];
        let answer = self.0.ask(method.as_str(), &format!("/v2/{path}"), &headers, body).await;
        Ok(Reply { status: answer.status.as_u16(), body: answer.bytes })
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("file.yaml", FILE.as_bytes());
    write("values.yaml", VALUES.as_bytes());
    write("web.tgz", &archive("web"));
    write("profile.tgz", &profile());
    write("kubeconfig", kubeconfig("secret-token").as_bytes());
    folder
}

async fn ours(world: &World, folder: &Path, action: Action) -> Vec<Done> {
    let text = template::rendered(FILE, Some(VALUES)).unwrap();
    let options = Options { patience: DEADLINE, folders: vec![folder.to_owned()] };
    let mut done = Vec::new();
    for step in Step::all(action, &Document::all(&text).unwrap()) {
        done.push(run(&step, &Direct(world), &options).await.unwrap());
    }
    assert_eq!(done.len(), DOCUMENTS);
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_applied_again_and_again_and_deleted() {
    let world = World::start().await;
    let folder = folder();
    let all = |done: &[Done], expected: &Done| assert!(done.iter().all(|one| one == expected), "{done:?}");
    all(&ours(&world, folder.path(), Action::Apply).await, &Done::Created);
    // Clusters and their references cannot be replaced in EMCO.
    let text = template::rendered(FILE, Some(VALUES)).unwrap();
    let projects =
        Document::all(&text).unwrap().into_iter().filter(|document| document.anchor.contains("composite"));
    let options = Options { patience: DEADLINE, folders: vec![folder.path().to_owned()] };
    for step in Step::all(Action::Apply, &projects.collect::<Vec<_>>()) {
        assert_eq!(run(&step, &Direct(&world), &options).await.unwrap(), Done::Replaced, "{step:?}");
    }
    let shown = ours(&world, folder.path(), Action::Get).await;
    let Done::Shown(app) = &shown[9] else { panic!("{shown:?}") };
    assert_eq!(app["metadata"]["name"], "web");
    all(&ours(&world, folder.path(), Action::Delete).await, &Done::Removed);
    all(&ours(&world, folder.path(), Action::Delete).await, &Done::Absent);
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

/// Codes of the answers that emcoctl tells of, and all that it says.
async fn theirs(program: &Path, folder: &Path, arguments: &[&str]) -> (Vec<u16>, String) {
    let output = tokio::process::Command::new(program)
        .current_dir(folder)
        .args(["--config", "cfg.yaml"])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, output).await.unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let codes =
        said.lines().filter_map(|line| line.strip_prefix("Response Code: ")?.trim().parse().ok()).collect();
    (codes, said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emcoctl_works_unchanged() {
    let Some(program) = program() else { return };
    let world = World::start().await;
    let folder = folder();
    let port = serve(world.emco.clone()).await;
    let config = format!("ingress:\n  host: 127.0.0.1\n  port: {port}\n");
    std::fs::write(folder.path().join("cfg.yaml"), config).unwrap();
    let file = ["-f", "file.yaml", "-v", "values.yaml"];
    let (codes, said) = theirs(&program, folder.path(), &[&["apply"], &file[..]].concat()).await;
    assert_eq!(codes, [201; DOCUMENTS], "{said}");
    let (codes, said) = theirs(&program, folder.path(), &[&["get"], &file[..]].concat()).await;
    assert_eq!(codes, [200; DOCUMENTS], "{said}");
    assert!(said.contains("\"description\":\"a shop\""), "{said}");
    let (codes, said) =
        theirs(&program, folder.path(), &["get", "projects/p1/composite-apps/shop/v1/apps/web"]).await;
    assert!(codes == [200] && said.contains("\"name\":\"web\""), "{said}");
    let (codes, said) = theirs(&program, folder.path(), &[&["apply"], &file[..]].concat()).await;
    assert_eq!(codes, [409; DOCUMENTS], "{said}");
    let (codes, said) = theirs(&program, folder.path(), &["delete", "projects/p1"]).await;
    assert!(
        codes == [409] && said.contains("Cannot delete parent without deleting child references first"),
        "{said}"
    );
    let (codes, said) = theirs(&program, folder.path(), &[&["delete"], &file[..]].concat()).await;
    assert_eq!(codes, [204; DOCUMENTS], "{said}");
    let (codes, said) = theirs(&program, folder.path(), &["get", "projects"]).await;
    assert_eq!(codes, [200], "{said}");
}
