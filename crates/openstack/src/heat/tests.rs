use drystone_hostile::damaged;
use proptest::prelude::*;
use serde_json::json;

use super::{types::*, *};

#[test]
fn statuses_are_split() {
    assert_eq!(split("CREATE_IN_PROGRESS"), Some((Action::Create, State::InProgress)));
    assert_eq!(split("ROLLBACK_COMPLETE"), Some((Action::Rollback, State::Complete)));
    assert_eq!(split("UPDATE_FAILED"), Some((Action::Update, State::Failed)));
    assert_eq!(split("SUSPEND_FAILED"), Some((Action::Other("SUSPEND".into()), State::Failed)));
    for status in ["", "_COMPLETE", "COMPLETE", "ACTIVE"] {
        assert_eq!(split(status), None, "{status}");
    }
}

#[test]
fn stacks_are_written_as_name_and_id() {
    let stack = StackRef::new("vnf-1", "7");
    assert_eq!(serde_json::to_value(&stack).unwrap(), json!("vnf-1/7"));
    assert_eq!("vnf-1/7".parse::<StackRef>().unwrap(), stack);
    for bad in ["", "vnf-1", "/7", "vnf-1/", "a/b/c"] {
        assert!(bad.parse::<StackRef>().is_err(), "{bad}");
    }
    let url = "http://h:8004/v1/p/stacks/vnf-1/7/resources/VDU1?x=1";
    assert_eq!(StackRef::of_url(url).unwrap(), stack);
    assert_eq!(StackRef::of_url("http://h/v1/p/stacks/a%2Eb/7").unwrap().name, "a.b");
    assert_eq!(StackRef::of_url("http://h/v1/p/stacks/vnf-1"), None);
}

fn raw_stack() -> String {
    json!({"id": "7", "stack_name": "vnf-1", "stack_status": "CREATE_COMPLETE", "stack_status_reason": "Stack CREATE completed",
        "parameters": {"nfv": "{\"VDU\": {}}"}, "tags": ["op-1"], "creation_time": "2026-11-29T02:00:00Z", "updated_time": null})
    .to_string()
}

#[test]
fn parameters_are_not_shown() {
    let mut raw: serde_json::Value = serde_json::from_str(&raw_stack()).unwrap();
    raw["parameters"]["password"] = json!("hunter2");
    let stack = Stack::try_from(serde_json::from_value::<RawStack>(raw).unwrap()).unwrap();
    assert!(!format!("{stack:?}").contains("hunter2"));
    assert_eq!(stack.json_parameter("nfv"), Some(json!({"VDU": {}})));
    assert_eq!(stack.json_parameter("none"), None);
}

#[test]
fn what_is_not_sent_may_always_be_sent_again() {
    let lost =
        |not_sent| OpenStackError::Unreachable { call: String::new(), reason: String::new(), not_sent };
    assert!(may_repeat(&lost(true), Repeat::Unsafe));
    assert!(!may_repeat(&lost(false), Repeat::Unsafe));
    assert!(may_repeat(&lost(false), Repeat::Safe));
    let status = |code| OpenStackError::Status {
        call: String::new(),
        code,
        kind: String::new(),
        reason: String::new(),
    };
    assert!(!may_repeat(&status(409), Repeat::Safe));
    assert!(may_repeat(&status(503), Repeat::Safe) && !may_repeat(&status(503), Repeat::Unsafe));
}

proptest! {
    #[test]
    fn any_stack_is_read_or_refused(bytes in damaged([raw_stack()])) {
        if let Ok(raw) = serde_json::from_slice::<RawStack>(&bytes) {
            let _ = Stack::try_from(raw);
        }
    }

    #[test]
    fn any_link_is_read_or_refused(bytes in damaged(["http://h:8004/v1/p/stacks/vnf-1/7/resources/VDU1"])) {
        let _ = StackRef::of_url(&String::from_utf8_lossy(&bytes));
    }
}
