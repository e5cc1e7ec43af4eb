use std::{fs, os::unix::fs::MetadataExt};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::pods::spec::tests_support::facts;

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Needs no API: only volumes that show nothing of it.
fn volumes(directory: &TempDir) -> Volumes {
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("there is no API"))
    });
    let client = kube::Client::new(service, "default");
    Volumes::new(directory.path().join("pods"), Arc::new(Objects::new(client)), ShareMounter::default())
}

fn pod(volumes: Value, mounts: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c"}]},
    });
    pod["spec"]["volumes"] = volumes;
    pod["spec"]["containers"][0]["volumeMounts"] = mounts;
    serde_json::from_value(pod).unwrap()
}

async fn mounts(volumes: &Volumes, pod: &Pod) -> Result<mounts::ContainerMounts, VolumeError> {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    volumes.container_mounts(pod, container, 0, &[("DIR".to_owned(), "x".to_owned())].into(), None).await
}

fn payload(entries: &[(&str, &str)]) -> Payload {
    let mut payload = Payload::default();
    for (path, contents) in entries {
        payload.add(path, contents.as_bytes().to_vec(), 0o640).unwrap();
    }
    payload
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn readers_see_all_of_the_old_or_all_of_the_new() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    writer::write(path, &payload(&[("a", "1"), ("d/b", "1"), ("gone", "1")]), None).unwrap();
    assert_eq!((read(&path.join("a")), read(&path.join("d/b"))), ("1".into(), "1".into()));
    let before = fs::read_link(path.join("..data")).unwrap();
    let modified = fs::metadata(path.join("a")).unwrap().mtime_nsec();
    writer::write(path, &payload(&[("a", "1"), ("d/b", "1"), ("gone", "1")]), None).unwrap();
    assert_eq!(
        fs::metadata(path.join("a")).unwrap().mtime_nsec(),
        modified,
        "nothing is written without need"
    );
    writer::write(path, &payload(&[("a", "2"), ("d/b", "2"), ("d/c", "2")]), None).unwrap();
    assert_ne!(fs::read_link(path.join("..data")).unwrap(), before);
    assert_eq!((read(&path.join("a")), read(&path.join("d/c"))), ("2".into(), "2".into()));
    assert!(fs::symlink_metadata(path.join("gone")).is_err());
    assert_eq!(fs::read_dir(path).unwrap().count(), 4, "..data, its directory, a, d");
    assert_eq!(fs::metadata(path.join("a")).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn an_interrupted_write_is_repeated() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    writer::write(path, &payload(&[("a", "1")]), None).unwrap();
    // The state between the rename of the link and the links to the names, and before the link.
    fs::remove_file(path.join("a")).unwrap();
    fs::remove_file(path.join("..data")).unwrap();
    writer::write(path, &payload(&[("a", "1")]), None).unwrap();
    assert_eq!(read(&path.join("a")), "1");
}

#[test]
fn paths_stay_inside() {
    let mut payload = Payload::default();
    for path in ["", "/etc/passwd", "../x", "a/../../x", "..data", "./x/.."] {
        assert!(payload.add(path, Vec::new(), 0o644).is_err(), "{path}");
    }
    assert!(payload.add("a/b.c", Vec::new(), 0o644).is_ok());
}

#[test]
fn objects_become_files() {
    let map: ConfigMap =
        serde_json::from_value(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "/w=="}})).unwrap();
    let mut all = Payload::default();
    all.add_config_map("m", Some(&map), &[], false, 0o644).unwrap();
    assert_eq!(all.files.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(all.files["c"].contents, [0xff]);
    assert!(!all.is_secret);

    let items =
        serde_json::from_value::<Vec<_>>(json!([{"key": "k", "path": "deep/file", "mode": 0o400}])).unwrap();
    let secret: Secret = serde_json::from_value(json!({"data": {"k": "eA==", "other": "eA=="}})).unwrap();
    let mut some = Payload::default();
    some.add_secret("s", Some(&secret), &items, false, 0o644).unwrap();
    assert_eq!((some.files.len(), some.files["deep/file"].mode, some.is_secret), (1, 0o400, true));
    assert!(!format!("{some:?}").contains("120"), "contents are not printed");

    let missing = some.add_secret("s", None, &[], false, 0o644).unwrap_err();
    assert_eq!(missing.to_string(), "secret \"s\" not found");
    assert!(some.add_secret("s", None, &[], true, 0o644).is_ok());
    let empty = Secret::default();
    let missing = some.add_secret("s", Some(&empty), &items, false, 0o644).unwrap_err();
    assert_eq!(missing.to_string(), "secret \"s\" has no key \"k\"");
}

#[tokio::test]
async fn empty_directories_and_what_becomes_of_them() {
    if !is_root() {
        println!("skipped: needs root");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let directory = TempDir::new().unwrap();
    let volumes = volumes(&directory);
    let source = json!([
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "about", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
            {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}},
    ]);
    let pod =
        pod(source, json!([{"name": "memory", "mountPath": "/m"}, {"name": "about", "mountPath": "/a"}]));
    for _ in 0..2 {
        volumes.set_up(&pod, &facts(), Instant::now()).await.unwrap();
    }
    let memory = volumes.volume_directory("u-1", "memory");
    fs::write(memory.join("small"), [0; 1000]).unwrap();
    assert!(fs::write(memory.join("big"), vec![0; 2 << 20]).is_err(), "the size is limited");
    assert_eq!(fs::metadata(volumes.volume_directory("u-1", "scratch")).unwrap().mode() & 0o7777, 0o777);
    assert_eq!(read(&volumes.volume_directory("u-1", "about").join("name")), "web");
    assert_eq!(read(&volumes.volume_directory("u-1", "about").join("cpu")), "4");
    let prepared = mounts(&volumes, &pod).await.unwrap();
    assert_eq!(prepared.mounts.len(), 3);
    assert!(!prepared.mounts[0].readonly && prepared.mounts[1].readonly);
    assert_eq!(prepared.mounts[2].container_path, "/dev/termination-log");

    volumes.tear_down("u-1").await.unwrap();
    assert!(!volumes.pod_directory("u-1").exists());
    assert!(volumes.known_pods().is_empty());
    volumes.tear_down("u-1").await.unwrap();
}

#[tokio::test]
async fn sub_paths_stay_in_their_volume() {
    if !is_root() {
        println!("skipped: needs root");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let directory = TempDir::new().unwrap();
    let volumes = volumes(&directory);
    let with = |mount: Value| pod(json!([{"name": "v", "emptyDir": {}}]), json!([mount]));
    let plain = with(json!({"name": "v", "mountPath": "/m", "subPathExpr": "a/$(DIR)"}));
    volumes.set_up(&plain, &facts(), Instant::now()).await.unwrap();
    let volume = volumes.volume_directory("u-1", "v");
    for _ in 0..2 {
        let prepared = mounts(&volumes, &plain).await.unwrap();
        fs::write(volume.join("a/x/file"), "1").unwrap();
        assert_eq!(read(&Path::new(&prepared.mounts[0].host_path).join("file")), "1");
    }
    fs::write(directory.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink(directory.path(), volume.join("evil")).unwrap();
    std::os::unix::fs::symlink("../../../..", volume.join("worse")).unwrap();
    for path in ["evil/secret", "evil", "worse", "..", "/etc"] {
        let error = mounts(&volumes, &with(json!({"name": "v", "mountPath": "/m", "subPath": path}))).await;
        assert!(matches!(error, Err(VolumeError::SubPath { .. })), "{path}: {error:?}");
    }
    let missing = mounts(&volumes, &with(json!({"name": "w", "mountPath": "/m"}))).await;
    assert!(matches!(missing, Err(VolumeError::Missing { .. })));
    volumes.tear_down("u-1").await.unwrap();
    assert_eq!(read(&directory.path().join("secret")), "s");
}

#[tokio::test]
async fn host_paths_are_what_they_should_be() {
    let directory = TempDir::new().unwrap();
    let volumes = volumes(&directory);
    let path = directory.path().join("made");
    let with = |kind: &str, path: &Path| {
        pod(json!([{"name": "v", "hostPath": {"path": path, "type": kind}}]), json!([]))
    };
    let set_up = async |pod: Pod| volumes.set_up(&pod, &facts(), Instant::now()).await;
    assert!(matches!(set_up(with("Directory", &path)).await, Err(VolumeError::HostPath { .. })));
    set_up(with("DirectoryOrCreate", &path)).await.unwrap();
    set_up(with("Directory", &path)).await.unwrap();
    set_up(with("FileOrCreate", &path.join("f"))).await.unwrap();
    assert!(
        set_up(with("Socket", &path.join("f"))).await.unwrap_err().to_string().contains("is not a Socket")
    );
    set_up(with("CharDevice", Path::new("/dev/null"))).await.unwrap();
}

#[tokio::test]
async fn other_kinds_are_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let iscsi = json!([{"name": "disk", "iscsi": {"targetPortal": "s", "iqn": "iqn.2001-04.com.example:x", "lun": 0}}]);
    let error =
        volumes(&directory).set_up(&pod(iscsi, json!([])), &facts(), Instant::now()).await.unwrap_err();
    assert!(error.to_string().contains("\"disk\""), "{error}");
}

/// Volumes with an API that has these objects, by path.
fn volumes_with(directory: &TempDir, objects: Value) -> Volumes {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let found = objects.get(request.uri().path()).cloned();
        async move {
            let missing = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "not found", "reason": "NotFound", "code": 404});
            let status = if found.is_some() { 200 } else { 404 };
            let body = serde_json::to_vec(&found.unwrap_or(missing)).unwrap();
            Ok::<_, std::io::Error>(
                http::Response::builder().status(status).body(kube::client::Body::from(body)).unwrap(),
            )
        }
    });
    let client = kube::Client::new(service, "default");
    // Ends at once, with its reason.
    let mounter =
        ShareMounter::new(["/bin/sh", "-c", "echo drystone: $0 $1 $3; exit 1"].map(Into::into).to_vec());
    Volumes::new(directory.path().join("pods"), Arc::new(Objects::new(client)), mounter)
}

fn bound(volume: &Value) -> Value {
    let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "claimRef": {"namespace": "shop", "name": "data", "uid": "c-1"}});
    for (key, value) in volume.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({
        "/api/v1/namespaces/shop/persistentvolumeclaims/data": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": "shop", "uid": "c-1"}, "spec": {"volumeName": "disk"},
            "status": {"phase": "Bound"}},
        "/api/v1/persistentvolumes/disk": {"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "disk"}, "spec": spec},
    })
}

fn claiming(read_only: bool, mount: &Value) -> Pod {
    let source =
        json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data", "readOnly": read_only}}]);
    pod(source, json!([mount]))
}

#[tokio::test]
async fn a_claim_leads_to_a_directory_of_the_node() {
    if !is_root() {
        println!("skipped: needs root");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let directory = TempDir::new().unwrap();
    let disk = directory.path().join("disk");
    fs::create_dir_all(disk.join("inner")).unwrap();
    fs::write(disk.join("inner/file"), "kept").unwrap();
    let volumes = volumes_with(&directory, bound(&json!({"local": {"path": disk}})));
    let mut pod = claiming(false, &json!({"name": "v", "mountPath": "/m", "subPath": "inner"}));
    pod.spec.as_mut().unwrap().security_context = serde_json::from_value(json!({"fsGroup": 4242})).unwrap();
    for _ in 0..2 {
        volumes.set_up(&pod, &facts(), Instant::now()).await.unwrap();
    }
    let file = fs::metadata(disk.join("inner/file")).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o060), (4242, 0o060), "the group of the pod may write");
    assert_eq!(fs::metadata(&disk).unwrap().mode() & 0o2000, 0o2000, "and has what is made there");
    let prepared = mounts(&volumes, &pod).await.unwrap();
    assert_eq!(read(&Path::new(&prepared.mounts[0].host_path).join("file")), "kept");
    assert!(!prepared.mounts[0].readonly);
    let reading = claiming(true, &json!({"name": "v", "mountPath": "/m"}));
    volumes.set_up(&reading, &facts(), Instant::now()).await.unwrap();
    let prepared = mounts(&volumes, &reading).await.unwrap();
    assert!(prepared.mounts[0].readonly);
    assert_eq!(Path::new(&prepared.mounts[0].host_path), disk);

    volumes.tear_down("u-1").await.unwrap();
    assert_eq!(read(&disk.join("inner/file")), "kept", "data outlives the pod");
    assert!(!volumes.pod_directory("u-1").exists());
}

#[tokio::test]
async fn a_claim_that_cannot_be_mounted_says_why() {
    let directory = TempDir::new().unwrap();
    let mount = json!({"name": "v", "mountPath": "/m"});
    let said = async |objects: Value| {
        let volumes = volumes_with(&directory, objects);
        let pod = claiming(false, &mount);
        volumes.set_up(&pod, &facts(), Instant::now()).await.unwrap_err().to_string()
    };
    assert!(said(json!({})).await.contains("persistentvolumeclaim \"data\" not found"));
    let mut waiting = bound(&json!({"hostPath": {"path": "/x"}}));
    waiting["/api/v1/namespaces/shop/persistentvolumeclaims/data"]["status"]["phase"] = json!("Pending");
    assert!(said(waiting).await.contains("is not bound: Pending"));
    let missing = bound(&json!({"local": {"path": directory.path().join("none")}}));
    assert!(said(missing).await.contains("none"));
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(said(bound(&json!({"local": {"path": file}}))).await.contains("is not a Directory"));
    if Path::new("/dev/fuse").exists() && !super::nfs::kernel_knows_nfs() {
        let share =
            json!({"nfs": {"server": "192.0.2.1", "path": "/s", "readOnly": true}, "mountOptions": ["soft"]});
        let text = said(bound(&share)).await;
        assert!(text.contains("192.0.2.1:/s") && text.contains("soft,ro"), "{text}");
    }
}
