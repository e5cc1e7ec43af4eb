use std::cell::Cell;

use serde_json::json;

use super::*;

fn variable(command: &'static str) -> impl Fn(&str) -> Option<String> {
    move |name| {
        Some(
            match name {
                "CNI_COMMAND" => command,
                "CNI_CONTAINERID" => "c1",
                "CNI_NETNS" => "/run/netns/x",
                "CNI_IFNAME" => "eth0",
                "CNI_PATH" => "/opt/cni/bin",
                _ => return None,
            }
            .to_owned(),
        )
    }
}

fn call(
    command: &'static str,
    configuration: &Value,
) -> (Result<Option<Value>, CniError>, bool, SpecVersion) {
    let called = Cell::new(false);
    let mut version = SpecVersion::LATEST;
    let handler = |_: &Environment, _: &NetworkConfiguration| {
        called.set(true);
        Ok(Some(json!({})))
    };
    let text = configuration.to_string();
    let result = answer(variable(command), &mut text.as_bytes(), &handler, &mut version);
    (result, called.get(), version)
}

#[test]
fn version_is_answered_without_configuration() {
    let (result, called, _) = call("VERSION", &Value::Null);
    assert_eq!(result.unwrap().unwrap()["cniVersion"], "1.1.0");
    assert!(!called);
}

#[test]
fn errors_are_in_the_version_of_the_configuration() {
    let configuration = json!({"cniVersion": "0.3.1", "name": "n", "type": "t"});
    let (result, called, version) = call("CHECK", &configuration);
    assert_eq!(u32::from(result.unwrap_err().code), 1);
    assert_eq!(version, SpecVersion::V0_3_1);
    assert!(!called);
}

#[test]
fn commands_reach_the_handler_in_versions_that_have_them() {
    for (command, version, reached) in [
        ("ADD", "0.3.1", true),
        ("DEL", "0.3.1", true),
        ("CHECK", "0.4.0", true),
        ("STATUS", "1.0.0", false),
        ("STATUS", "1.1.0", true),
        ("GC", "1.1.0", false),
    ] {
        let (_, called, _) = call(command, &json!({"cniVersion": version, "name": "n", "type": "t"}));
        assert_eq!(called, reached, "{command} in {version}");
    }
}

#[test]
fn a_missing_agent_means_try_again_later() {
    let configuration = NetworkConfiguration::parse(
        br#"{"cniVersion":"1.1.0","name":"n","type":"t","socket":"/nonexistent/cni.sock"}"#,
    )
    .unwrap();
    let environment = |command| Environment::read(variable(command)).unwrap();
    assert_eq!(ask_agent(&environment("ADD"), &configuration).unwrap_err().code, ErrorCode::TryAgainLater);
    assert_eq!(ask_agent(&environment("STATUS"), &configuration).unwrap_err().code, ErrorCode::NotAvailable);
}
