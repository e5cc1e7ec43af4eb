//! The image store as its users use it: stock curl, `drystone image`, stock kubectl; and a Drystone that is killed in between.

use std::{
    path::{Path, PathBuf},
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

/// A disk, announced to a Drystone.
struct Story {
    directory: tempfile::TempDir,
    bytes: Vec<u8>,
    file: PathBuf,
}

impl Story {
    fn begin() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, bytes) = (directory.path().join("disk.img"), disk(24 * 1024 * 1024));
        std::fs::write(&file, &bytes).expect("a file");
        Self { directory, bytes, file }
    }

    fn up(&self) -> (Up, String) {
        let up = Up::start(self.directory.path(), &[]);
        let user = format!("admin:{}", up.password());
        (up, user)
    }

    fn announce(&self, up: &Up, user: &str) {
        let metadata = self.directory.path().join("metadata.json");
        let record = json!({"owner": "alpha", "cluster_name": "beta", "type": "os", "image_name": "disk.img", "image_offset": 0,
            "image_length": self.bytes.len(), "upload_complete": false,
            "description": {"image_records": [{"image_record_name": "iuysdi1234", "repo": "icn", "tag": "2"}]}});
        std::fs::write(&metadata, record.to_string()).expect("a file");
        let form = format!("metadata=<{};type=application/json", metadata.display());
        let part = format!("file=@{}", self.file.display());
        let announce = ["-F", &form, "-F", &part];
        assert_eq!(curl(up, &announce, COLLECTION).0, 401, "without credentials");
        let with_user = [&["-u", user][..], &announce].concat();
        let created = curl(up, &with_user, COLLECTION);
        assert_eq!((created.0, &json_of(&created)["image_offset"]), (201, &json!(0)), "{}", created.1);
        assert_eq!(curl(up, &with_user, COLLECTION).0, 409, "twice");
    }

    /// Sends slowly, and kills Drystone in the middle of it.
    fn die(&self, up: Up, user: &str) {
        let data = format!("@{}", self.file.display());
        let headers = ["-H", "Upload-Offset: 0", "-H", "Expect:", "--limit-rate", "4M"];
        let slowly = [&["-u", user, "-X", "PATCH", "--data-binary", &data][..], &headers].concat();
        let mut sending = start_curl(&up, &slowly, IMAGE);
        let deadline = Instant::now() + PATIENCE;
        let here = |data: &Path| {
            let uploads = std::fs::read_dir(data.join("images/uploads")).into_iter().flatten().flatten();
            uploads
                .filter_map(|upload| upload.path().join("data").metadata().ok())
                .map(|data| data.len())
                .sum::<u64>()
        };
        while here(&up.data) < 3 << 20 {
            let sends = sending.try_wait().expect("curl").is_none();
            assert!(Instant::now() < deadline && sends, "nothing arrives");
            std::thread::sleep(Duration::from_millis(20));
        }
        up.kill();
        assert!(!sending.wait().expect("curl").success());
    }

    /// Sends the rest, in two parts.
    fn go_on(&self, up: &Up, user: &str) {
        let here = json_of(&curl(up, &["-u", user], IMAGE))["image_offset"].as_u64().expect("an offset");
        let at = usize::try_from(here).expect("small");
        assert!(at < self.bytes.len(), "{at}");
        let patch = |data: &Path, offset: usize| {
            let (data, offset) = (format!("@{}", data.display()), format!("Upload-Offset: {offset}"));
            curl(
                up,
                &["-u", user, "-X", "PATCH", "--data-binary", &data, "-H", &offset, "-H", "Expect:"],
                IMAGE,
            )
        };
        let refused = patch(&self.file, at + 1);
        assert_eq!(refused.0, 409, "{}", refused.1);
        let rest = self.directory.path().join("rest");
        let middle = at + (self.bytes.len() - at) / 2;
        for (from, to) in [(at, middle), (middle, self.bytes.len())] {
            std::fs::write(&rest, &self.bytes[from..to]).expect("a file");
            let sent = patch(&rest, from);
            assert_eq!(sent.0, 204, "{}", sent.1);
        }
    }

    /// Whoever has the address needs no credentials, on either listener.
    fn fetch(&self, up: &Up, record: &Value) {
        let urls = record["image_urls"].as_array().expect("URLs");
        assert_eq!(urls.len(), 2, "{urls:?}");
        for url in urls.iter().filter_map(Value::as_str) {
            let fetched = self.directory.path().join("fetched");
            let mut fetch = Command::new("curl");
            fetch.args(["-sSf", "--noproxy", "*", "--cacert"]).arg(up.data.join("ca.crt"));
            fetch.args(["-r", "1000-", "-o"]).arg(&fetched).arg(url);
            assert!(fetch.status().expect("curl").success(), "{url}");
            assert!(std::fs::read(&fetched).expect("a file") == self.bytes[1000..], "{url}");
        }
    }
}

#[test]
fn an_upload_by_curl_survives_the_death_of_drystone() {
    let story = Story::begin();
    let (up, user) = story.up();
    story.announce(&up, &user);
    story.die(up, &user);
    let (up, user) = story.up();
    story.go_on(&up, &user);
    let record = json_of(&curl(&up, &["-u", &user], IMAGE));
    let all = (&json!(true), &json!(story.bytes.len()));
    assert_eq!((&record["upload_complete"], &record["image_offset"]), all, "{record}");
    story.fetch(&up, &record);
    let shown = kubectl(&up, &["get", "artifacts", "-n", "alpha"]);
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

/// What stock kubectl says.
fn kubectl(up: &Up, arguments: &[&str]) -> String {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(up.data.join("kubeconfig")).args(arguments);
    let output = command.output().expect("kubectl");
    let (done, said) = text(&output);
    assert!(done, "kubectl {arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

#[test]
fn tenants_may_what_their_roles_say() {
    let directory = tempfile::tempdir().expect("a directory");
    let up = Up::start(directory.path(), &[]);
    for owner in ["alpha", "gamma"] {
        kubectl(&up, &["create", "namespace", owner]);
    }
    kubectl(&up, &["create", "serviceaccount", "uploader", "-n", "alpha"]);
    let verbs = "--verb=create,get,list,patch";
    kubectl(&up, &["create", "role", "uploader", verbs, "--resource=artifacts.drystone.dev", "-n", "alpha"]);
    let account = "--serviceaccount=alpha:uploader";
    kubectl(&up, &["create", "rolebinding", "uploader", "--role=uploader", account, "-n", "alpha"]);
    let token =
        format!("Authorization: Bearer {}", kubectl(&up, &["create", "token", "uploader", "-n", "alpha"]));
    let announce = |owner: &str| {
        let metadata = json!({"owner": owner, "image_name": "a", "image_length": 3});
        let form = format!("metadata={metadata}");
        let path = format!("/v1/baremetalcluster/{owner}/beta/binary_images");
        curl(&up, &["-H", &token, "--form-string", &form, "-F", "file="], &path).0
    };
    let ask = |arguments: &[&str], owner: &str, name: &str| {
        let path = format!("/v1/baremetalcluster/{owner}/beta/binary_images{name}");
        curl(&up, &[&["-H", &token][..], arguments].concat(), &path)
    };
    assert_eq!(announce("alpha"), 201);
    let patch = ["-X", "PATCH", "--data-binary", "abc", "-H", "Upload-Offset: 0"];
    assert_eq!(ask(&patch, "alpha", "/a").0, 204);
    let (status, list) = ask(&[], "alpha", "");
    assert!(status == 200 && list.contains("\"upload_complete\":true"), "{status} {list}");
    // No right to delete, none in another namespace, and none to make one.
    assert_eq!(ask(&["-X", "DELETE"], "alpha", "/a").0, 403);
    assert_eq!(announce("gamma"), 403);
    assert_eq!(announce("delta"), 403);
    assert_eq!(ask(&[], "gamma", "").0, 403);
    assert_eq!(curl(&up, &["-H", "Authorization: Bearer x"], COLLECTION).0, 401);
    let shown = kubectl(&up, &["get", "artifacts", "-A", "-o", "wide"]);
    assert!(shown.contains("alpha") && shown.contains("100%"), "{shown}");
    let deadline = Instant::now() + PATIENCE;
    while !kubectl(&up, &["get", "events", "-n", "alpha"]).contains("Complete") {
        assert!(Instant::now() < deadline, "no event tells that the image is complete");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(up.stop(), "");
}
