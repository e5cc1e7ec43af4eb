use std::{collections::VecDeque, sync::Mutex};

use super::*;
use crate::{Action, Document};

/// Answers as it was told, and notes what it was asked.
struct Script {
    answers: Mutex<VecDeque<(u16, &'static str)>>,
    asked: Mutex<Vec<String>>,
    bodies: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Script {
    fn new(answers: &[(u16, &'static str)]) -> Self {
        Self {
            answers: Mutex::new(answers.iter().copied().collect()),
            asked: Mutex::default(),
            bodies: Mutex::default(),
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Transport for Script {
    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Reply, Unsent> {
        self.asked.lock().unwrap().push(format!("{method} {path}"));
        self.bodies.lock().unwrap().extend(body);
        let Some((status, body)) = self.answers.lock().unwrap().pop_front() else {
            return Err(Unsent("connection refused".into()));
        };
        Ok(Reply { status, body: body.into() })
    }
}

fn options() -> Options {
    Options { patience: Duration::from_secs(60), folders: Vec::new() }
}

fn step(action: Action, document: &str) -> Step {
    Step::all(action, &Document::all(document).unwrap()).remove(0)
}

const PROJECT: &str = "resourceContext: {anchor: projects}\nmetadata: {name: p1}\n";
const INSTANTIATE: &str = "resourceContext: {anchor: projects/p1/logical-clouds/lc/instantiate}\n";

#[tokio::test(start_paused = true)]
async fn what_is_there_is_replaced() {
    let apply = step(Action::Apply, PROJECT);
    let script = Script::new(&[(201, "{}")]);
    assert_eq!(run(&apply, &script, &options()).await.unwrap(), Done::Created);
    let script = Script::new(&[(409, "Project already exists\n"), (200, "{}")]);
    assert_eq!(run(&apply, &script, &options()).await.unwrap(), Done::Replaced);
    assert_eq!(script.asked(), ["POST projects", "PUT projects/p1"]);
    let script = Script::new(&[(409, "Cannot perform requested operation. Parent resource not found\n")]);
    let said = run(&apply, &script, &options()).await.unwrap_err().to_string();
    assert!(said.starts_with("POST projects is refused (409): Cannot perform"), "{said}");
    let said = run(&apply, &Script::new(&[]), &options()).await.unwrap_err();
    assert!(matches!(said, Problem::Unsent { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_possible_yet_is_tried_again() {
    let apply = step(Action::Apply, INSTANTIATE);
    let created = (200, "{\"states\":{\"actions\":[{\"state\":\"Created\"}]}}");
    let not_yet = (409, "the logical cloud is being terminated");
    let script = Script::new(&[not_yet, created, not_yet, created, (202, "")]);
    assert_eq!(run(&apply, &script, &options()).await.unwrap(), Done::Accepted);
    assert_eq!(script.asked().len(), 5);
    let there = (200, "{\"states\":{\"actions\":[{\"state\":\"Created\"},{\"state\":\"Instantiated\"}]}}");
    let script = Script::new(&[not_yet, there]);
    assert_eq!(run(&apply, &script, &options()).await.unwrap(), Done::Unchanged);
    assert_eq!(script.asked()[1], "GET projects/p1/logical-clouds/lc/status");
    let script = Script::new(&[not_yet, created].repeat(100));
    let begun = Instant::now();
    let said = run(&apply, &script, &options()).await.unwrap_err().to_string();
    assert!(said.ends_with("is refused (409): the logical cloud is being terminated"), "{said}");
    assert!(begun.elapsed() >= Duration::from_secs(60) && begun.elapsed() < Duration::from_secs(70));
}

#[tokio::test(start_paused = true)]
async fn a_change_waits_for_the_end_of_the_one_before_it() {
    let group = "projects/p1/composite-apps/ca/v1/deployment-intent-groups/d";
    let busy =
        (409, "d is still being instantiated or updated; wait until that has come to its end, or stop it");
    for change in ["update", "rollback", "migrate"] {
        let apply = step(Action::Apply, &format!("resourceContext: {{anchor: {group}/{change}}}\n"));
        let script = Script::new(&[busy, busy, (202, "2")]);
        assert_eq!(run(&apply, &script, &options()).await.unwrap(), Done::Accepted);
        assert_eq!(script.asked(), vec![format!("POST {group}/{change}"); 3]);
        let script = Script::new(&[busy; 100]);
        let said = run(&apply, &script, &options()).await.unwrap_err().to_string();
        assert!(said.contains("d is still being instantiated"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_to_go_may_take_its_time() {
    let delete = step(Action::Delete, PROJECT);
    let script = Script::new(&[(409, "it is being terminated"), (409, "it is being terminated"), (204, "")]);
    assert_eq!(run(&delete, &script, &options()).await.unwrap(), Done::Removed);
    assert_eq!(
        run(&delete, &Script::new(&[(404, "Project not found")]), &options()).await.unwrap(),
        Done::Absent
    );
    let script =
        Script::new(&[(409, "Cannot delete parent without deleting child references first"), (204, "")]);
    assert!(run(&delete, &script, &options()).await.is_err());
    let terminate = step(Action::Delete, INSTANTIATE);
    let terminated = (200, "{\"states\":{\"actions\":[{\"state\":\"Terminated\"}]}}");
    let script = Script::new(&[(409, "it is terminated"), terminated]);
    assert_eq!(run(&terminate, &script, &options()).await.unwrap(), Done::Unchanged);
    assert_eq!(script.asked()[0], "POST projects/p1/logical-clouds/lc/terminate");
}

#[tokio::test(start_paused = true)]
async fn answers_are_shown_and_refusals_of_kubernetes_understood() {
    let get = step(Action::Get, PROJECT);
    let shown =
        run(&get, &Script::new(&[(200, "{\"metadata\":{\"name\":\"p1\"}}")]), &options()).await.unwrap();
    assert_eq!(shown, Done::Shown(serde_json::json!({"metadata": {"name": "p1"}})));
    let status = "{\"kind\":\"Status\",\"message\":\"projects is forbidden\",\"code\":403}";
    let said = run(&get, &Script::new(&[(403, status)]), &options()).await.unwrap_err().to_string();
    assert_eq!(said, "GET projects/p1 is refused (403): projects is forbidden");
}

#[tokio::test(start_paused = true)]
async fn files_are_sent_as_a_form() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a \"b\".tgz"), b"\x1f\x8b\r\n--").unwrap();
    let text = "resourceContext: {anchor: x/apps}\nmetadata: {name: web}\nfile: 'a \"b\".tgz'\n";
    let apply = step(Action::Apply, text);
    let folders = vec![directory.path().join("nowhere"), directory.path().to_owned()];
    let options = Options { folders, ..options() };
    let script = Script::new(&[(201, "{}")]);
    run(&apply, &script, &options).await.unwrap();
    let (kind, bytes) = script.bodies.lock().unwrap().remove(0);
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let expected = [
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n").as_bytes(),
        b"{\"metadata\":{\"name\":\"web\"}}\r\n",
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a b.tgz\"\r\n")
            .as_bytes(),
        b"Content-Type: application/octet-stream\r\n\r\n\x1f\x8b\r\n--\r\n",
        format!("--{boundary}--\r\n").as_bytes(),
    ]
    .concat();
    assert_eq!(bytes, expected);
    let missing =
        step(Action::Apply, "resourceContext: {anchor: x/apps}\nmetadata: {name: web}\nfile: other.tgz\n");
    let said = run(&missing, &script, &options).await.unwrap_err().to_string();
    assert!(said.starts_with("reading ") && said.ends_with("nowhere/other.tgz, for x/apps"), "{said}");
}
