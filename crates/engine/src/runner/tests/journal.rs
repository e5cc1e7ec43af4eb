//! The journal as the status of an object: conflicts, lost answers, fencing.

use std::time::Duration;

use drystone_api::{ObjectReference, Operation, OperationPhase, OperationSpec, OperationStatus};
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::{Value, json};

use crate::{
    fake_api::{FakeApi, Fault},
    runner::{Journal, JournalError, KubeJournal},
};

const PATH: &str = "/apis/drystone.dev/v1alpha1/namespaces/ns/operations/op";

async fn journal(api: &FakeApi) -> KubeJournal {
    let spec = OperationSpec {
        title: "Test".to_owned(),
        subject: ObjectReference::default(),
        ..OperationSpec::default()
    };
    let operations: Api<Operation> = Api::namespaced(api.client(), "ns");
    let operation =
        operations.create(&PostParams::default(), &Operation::new("op", spec)).await.expect("created");
    assert_eq!(operation.name_any(), "op");
    KubeJournal::new(api.client(), operation, Duration::from_secs(60))
}

fn status(message: &str) -> OperationStatus {
    let started = "2026-11-21T10:00:00.123456Z".parse().expect("a time");
    OperationStatus {
        phase: OperationPhase::Running,
        message: message.to_owned(),
        // With a fraction of a second, which the API does not keep.
        started_at: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(started)),
        ..OperationStatus::default()
    }
}

fn written(api: &FakeApi) -> Value {
    api.objects(PATH)[0]["status"]["message"].clone()
}

#[tokio::test(start_paused = true)]
async fn each_write_builds_on_the_one_before() {
    let api = FakeApi::new();
    let mut journal = journal(&api).await;
    for message in ["one", "two", "three"] {
        journal.record(&status(message)).await.expect("written");
        assert_eq!(written(&api), message);
    }
    assert_eq!(api.requests().len(), 4, "one request each: {:?}", api.requests());
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_specification_are_written_on_top_of() {
    let api = FakeApi::new();
    let mut journal = journal(&api).await;
    journal.record(&status("one")).await.expect("written");
    api.meddle(PATH, |operation| operation["spec"]["cancel"] = json!(true));
    journal.record(&status("two")).await.expect("written");
    assert_eq!(written(&api), "two");
    assert_eq!(api.objects(PATH)[0]["spec"]["cancel"], true);
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_journal_is_never_overwritten() {
    let api = FakeApi::new();
    let mut journal = journal(&api).await;
    journal.record(&status("one")).await.expect("written");
    api.meddle(PATH, |operation| operation["status"]["message"] = json!("by somebody else"));
    let refused = journal.record(&status("two")).await;
    assert_eq!(refused, Err(JournalError::Fenced { operation: "ns/op".to_owned() }));
    assert_eq!(written(&api), "by somebody else");
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_is_recognized() {
    let api = FakeApi::new();
    let mut journal = journal(&api).await;
    let mut faults = vec![Fault::AnswerLost];
    api.set_faults(move |method, _| if method == "PUT" { faults.pop() } else { None });
    journal.record(&status("one")).await.expect("written");
    journal.record(&status("two")).await.expect("written");
    assert_eq!(written(&api), "two");
    let writes = api.requests().iter().filter(|request| request.starts_with("PUT")).count();
    assert_eq!(writes, 2, "{:?}", api.requests());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out() {
    let api = FakeApi::new();
    let mut journal = journal(&api).await;
    let mut faults = vec![Fault::Unavailable, Fault::Hangs, Fault::Unavailable, Fault::Unavailable];
    api.set_faults(move |_, _| faults.pop());
    journal.record(&status("one")).await.expect("written");
    assert_eq!(written(&api), "one");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_lasts_is_reported() {
    let api = FakeApi::new();
    let mut journal = journal(&api).await;
    api.set_faults(|_, _| Some(Fault::Unavailable));
    match journal.record(&status("one")).await {
        Err(JournalError::Unavailable { why, seconds, .. }) => {
            assert_eq!(why, "try later");
            assert!((60..80).contains(&seconds), "{seconds}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_is_gone_even_if_the_name_is_taken_again() {
    let api = FakeApi::new();
    let mut first = journal(&api).await;
    let operations: Api<Operation> = Api::namespaced(api.client(), "ns");
    operations.delete("op", &kube::api::DeleteParams::default()).await.expect("deleted");
    let gone = Err(JournalError::Gone { operation: "ns/op".to_owned() });
    assert_eq!(first.record(&status("one")).await, gone);
    let _second = journal(&api).await;
    assert_eq!(first.record(&status("one")).await, gone);
    assert!(written(&api).is_null());
}
