//! The image store as its users use it: stock curl, `drystone image`, stock kubectl; and a Drystone that is killed in between.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::process::{Up, drystone};

const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes that look like a disk.
fn disk(length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at * 31 % 253).expect("small")).collect();
    bytes[510..512].copy_from_slice(b"\x55\xaa");
    bytes
}

/// What curl got: status, and body.
fn curl(up: &Up, arguments: &[&str], path: &str) -> (u32, String) {
    let output = start_curl(up, arguments, path).wait_with_output().expect("curl's output");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

fn start_curl(up: &Up, arguments: &[&str], path: &str) -> std::process::Child {
    let url = format!("https://{}{path}", up.address("https").expect("an address"));
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "-w", "\n%{http_code}", "--cacert"]).arg(up.data.join("ca.crt"));
    command.args(arguments).arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("curl")
}

fn json_of((status, body): &(u32, String)) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{status} {body}: {error}"))
}

fn command(up: &Up, arguments: &[&str]) -> Output {
    let mut command = drystone();
    command.args(arguments).arg("--kubeconfig").arg(up.data.join("kubeconfig"));
    command.output().expect("its output")
}

fn text(output: &Output) -> (bool, String) {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.success(), String::from_utf8_lossy(&both).into_owned())
}

const COLLECTION: &str = "/v1/baremetalcluster/alpha/beta/os_images";
const IMAGE: &str = "/v1/baremetalcluster/alpha/beta/os_images/disk.img";

#[test]
fn an_upload_by_curl_survives_the_death_of_drystone() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, metadata) = (directory.path().join("disk.img"), directory.path().join("metadata.json"));
    let bytes = disk(24 * 1024 * 1024);
    std::fs::write(&file, &bytes).expect("a file");
    let record = json!({"owner": "alpha", "cluster_name": "beta", "type": "os", "image_name": "disk.img", "image_offset": 0,
        "image_length": bytes.len(), "upload_complete": false,
        "description": {"image_records": [{"image_record_name": "iuysdi1234", "repo": "icn", "tag": "2"}]}});
    std::fs::write(&metadata, record.to_string()).expect("a file");
    let up = Up::start(directory.path(), &[]);
    let user = format!("admin:{}", up.password());
    let form = format!("metadata=<{};type=application/json", metadata.display());
    let part = format!("file=@{}", file.display());
    let announce = ["-F", &form, "-F", &part];
    assert_eq!(curl(&up, &announce, COLLECTION).0, 401, "without credentials");
    let with_user = [&["-u", &user][..], &announce].concat();
    let created = curl(&up, &with_user, COLLECTION);
    assert_eq!((created.0, &json_of(&created)["image_offset"]), (201, &json!(0)), "{}", created.1);
    assert_eq!(curl(&up, &with_user, COLLECTION).0, 409, "twice");

    // Slowly, so that Drystone dies in the middle of it.
    let data = format!("@{}", file.display());
    let slowly = [
        "-u",
        &user,
        "-X",
        "PATCH",
        "--data-binary",
        &data,
        "-H",
        "Upload-Offset: 0",
        "-H",
        "Expect:",
        "--limit-rate",
        "4M",
    ];
    let mut sending = start_curl(&up, &slowly, IMAGE);
    let deadline = Instant::now() + PATIENCE;
    let partial = |data: &Path| {
        let uploads = std::fs::read_dir(data.join("images/uploads")).into_iter().flatten().flatten();
        uploads
            .filter_map(|upload| upload.path().join("data").metadata().ok())
            .map(|data| data.len())
            .sum::<u64>()
    };
    while partial(&up.data) < 3 << 20 {
        assert!(Instant::now() < deadline && sending.try_wait().expect("curl").is_none(), "nothing arrives");
        std::thread::sleep(Duration::from_millis(20));
    }
    up.kill();
    assert!(!sending.wait().expect("curl").success());

    let up = Up::start(directory.path(), &[]);
    let here = json_of(&curl(&up, &["-u", &user], IMAGE))["image_offset"].as_u64().expect("an offset");
    assert!(here < bytes.len() as u64, "{here}");
    let wrong = format!("Upload-Offset: {}", here + 1);
    let all = ["-u", &user, "-X", "PATCH", "--data-binary", &data, "-H", &wrong, "-H", "Expect:"];
    let refused = curl(&up, &all, IMAGE);
    assert_eq!(refused.0, 409, "{}", refused.1);
    // In two parts.
    let rest = directory.path().join("rest");
    let at = usize::try_from(here).expect("small");
    let middle = at + (bytes.len() - at) / 2;
    for (from, to) in [(at, middle), (middle, bytes.len())] {
        std::fs::write(&rest, &bytes[from..to]).expect("a file");
        let (offset, rest) = (format!("Upload-Offset: {from}"), format!("@{}", rest.display()));
        let sent = curl(
            &up,
            &["-u", &user, "-X", "PATCH", "--data-binary", &rest, "-H", &offset, "-H", "Expect:"],
            IMAGE,
        );
        assert_eq!(sent.0, 204, "{}", sent.1);
    }
    let record = json_of(&curl(&up, &["-u", &user], IMAGE));
    assert_eq!(
        (&record["upload_complete"], &record["image_offset"]),
        (&json!(true), &json!(bytes.len())),
        "{record}"
    );

    // Whoever has the address needs no credentials, on either listener.
    let urls: Vec<&str> =
        record["image_urls"].as_array().expect("URLs").iter().filter_map(Value::as_str).collect();
    assert_eq!(urls.len(), 2, "{urls:?}");
    for url in urls {
        let fetched = directory.path().join("fetched");
        let mut fetch = Command::new("curl");
        fetch.args(["-sSf", "--noproxy", "*", "--cacert"]).arg(up.data.join("ca.crt"));
        assert!(
            fetch.args(["-r", "1000-", "-o"]).arg(&fetched).arg(url).status().expect("curl").success(),
            "{url}"
        );
        assert!(std::fs::read(&fetched).expect("a file") == bytes[1000..], "{url}");
    }
    let kubectl = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(up.data.join("kubeconfig"))
        .args(["get", "artifacts", "-n", "alpha"])
        .output()
        .expect("kubectl");
    let (_, shown) = text(&kubectl);
    let digest = record["image_digest"].as_str().expect("a digest");
    assert!(shown.contains("100%") && shown.contains(digest) && shown.contains("raw"), "{shown}");
    assert_eq!(curl(&up, &["-u", &user, "-X", "DELETE"], IMAGE).0, 204);
    assert_eq!(curl(&up, &["-u", &user], IMAGE).0, 404);
    assert_eq!(std::fs::read_dir(up.data.join("images/blobs/sha256")).expect("a directory").count(), 0);
    assert_eq!(up.stop(), "");
}

#[test]
fn images_are_pushed_and_listed() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("disk.img");
    std::fs::write(&file, disk(5_000_000)).expect("a file");
    let archive = directory.path().join("hello.tar");
    // What this command could do before it can still do.
    let mut make = drystone();
    make.args(["image", "--name", "example.org/hello:1", "--program", "/bin/true", "--output"]).arg(&archive);
    assert!(make.status().expect("its status").success());
    let up = Up::start(directory.path(), &[]);
    let push = |file: &Path, kind: &str, more: &[&str]| {
        let file = file.to_str().expect("UTF-8");
        let arguments = ["image", "push", file, "--owner", "alpha", "--cluster", "beta", "--type", kind];
        text(&command(&up, &[&arguments[..], more].concat()))
    };
    let (done, said) = push(&file, "os", &[]);
    assert!(done && said.contains("disk.img sha256:") && said.contains("/images/"), "{said}");
    assert_eq!(push(&file, "os", &[]), (true, said), "nothing is left to do");
    let (done, said) = push(&archive, "container", &["--name", "hello"]);
    assert!(done, "{said}");
    let (done, said) = push(&file, "container", &[]);
    assert!(!done && said.contains("no archive of container images"), "{said}");
    std::fs::write(&file, disk(4_000_000)).expect("a file");
    let (done, said) = push(&file, "os", &[]);
    assert!(!done && said.contains("--replace"), "{said}");
    let (done, said) = push(&file, "os", &["--replace"]);
    assert!(done, "{said}");
    let (done, said) = push(&file, "os", &["--name", "../disk"]);
    assert!(!done && said.contains("image name"), "{said}");
    let (done, said) = text(&command(&up, &["image", "list", "--owner", "alpha"]));
    let found = |words: &[&str]| said.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(done && found(&["OperatingSystem", "disk.img", "100%", "raw"]), "{said}");
    assert!(found(&["Container", "hello", "100%", "oci-archive"]), "{said}");
    assert_eq!(up.stop(), "");
}
