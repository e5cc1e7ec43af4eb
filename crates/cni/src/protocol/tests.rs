use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Environment, CniError> {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Environment::read(|name| variables.get(name).cloned())
}

const ADD: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "abc-1"),
    ("CNI_NETNS", "/run/netns/x"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin"),
];

fn with(changes: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut variables: BTreeMap<_, _> = ADD.into_iter().collect();
    variables.extend(changes.iter().copied());
    variables.into_iter().collect()
}

#[test]
fn an_add_needs_all_its_variables() {
    let environment = read(&with(&[("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web;X=a=b")])).unwrap();
    assert_eq!(environment.command, Command::Add);
    assert_eq!(environment.arguments["K8S_POD_NAME"], "web");
    assert_eq!(environment.arguments["X"], "a=b");
    for missing in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_COMMAND"] {
        let error = read(&with(&[(missing, "")])).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidEnvironment);
        assert!(error.message.contains(missing), "{error}");
    }
}

#[test]
fn bad_values_are_refused_with_the_name_of_the_variable() {
    for (name, value) in [
        ("CNI_COMMAND", "ATTACH"),
        ("CNI_CONTAINERID", "../etc"),
        ("CNI_CONTAINERID", "-x"),
        ("CNI_IFNAME", "a234567890123456"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", ".."),
        ("CNI_ARGS", "novalue"),
    ] {
        let error = read(&with(&[(name, value)])).unwrap_err();
        assert_eq!(u32::from(error.code), 4, "{name}={value}");
        assert!(error.message.contains(name), "{error}");
    }
}

#[test]
fn del_may_lack_the_namespace_and_version_needs_nothing() {
    assert_eq!(read(&with(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")])).unwrap().network_namespace, None);
    assert_eq!(read(&[("CNI_COMMAND", "VERSION")]).unwrap().command, Command::Version);
    assert_eq!(read(&[("CNI_COMMAND", "STATUS"), ("CNI_PATH", "/x")]).unwrap().command, Command::Status);
}

#[test]
fn configurations_are_checked() {
    let parse = |text: &str| NetworkConfiguration::parse(text.as_bytes());
    let good =
        parse(r#"{"cniVersion":"1.0.0","name":"pods","type":"drystone-cni","socket":"/s","x":[1]}"#).unwrap();
    assert_eq!((good.version, good.name.as_str()), (SpecVersion::V1_0_0, "pods"));
    assert_eq!(good.own_text("socket").unwrap(), Some("/s"));
    let code = |text: &str| u32::from(parse(text).unwrap_err().code);
    assert_eq!(code("nonsense"), 6);
    assert_eq!(code("[]"), 6);
    assert_eq!(code(r#"{"name":"n","type":"t"}"#), 1);
    assert_eq!(code(r#"{"cniVersion":"2.0.0","name":"n","type":"t"}"#), 1);
    assert_eq!(code(r#"{"cniVersion":"1.0.0","type":"t"}"#), 7);
    assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"a/b","type":"t"}"#), 7);
    assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"n"}"#), 7);
    assert_eq!(code(r#"{"cniVersion":1,"name":"n","type":"t"}"#), 7);
    assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"n","type":"t","prevResult":3}"#), 6);
}

#[test]
fn attachments_to_keep_are_read() {
    let text = br#"{"cniVersion":"1.1.0","name":"n","type":"t","cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]}"#;
    let configuration = NetworkConfiguration::parse(text).unwrap();
    assert!(configuration.lists_attachments());
    let expected = Attachment { container_id: "c".into(), interface: "eth0".into() };
    assert!(configuration.valid_attachments.contains(&expected));
}

fn sample() -> AddResult {
    AddResult {
        interfaces: vec![Interface {
            name: "eth0".into(),
            mac: "02:00:00:00:00:01".into(),
            mtu: Some(1500),
            sandbox: "/run/netns/x".into(),
            ..Interface::default()
        }],
        ips: vec![AddressConfig {
            address: "10.1.0.5/32".into(),
            gateway: Some("169.254.1.1".into()),
            interface: Some(0),
            version: None,
        }],
        routes: vec![Route { dst: "0.0.0.0/0".into(), priority: Some(1), ..Route::default() }],
        ..AddResult::default()
    }
}

#[test]
fn results_are_written_in_the_version_asked_for() {
    let old = sample().to_json(SpecVersion::V0_4_0);
    assert_eq!(old["cniVersion"], "0.4.0");
    assert_eq!(old["ips"][0]["version"], "4");
    assert_eq!(old["interfaces"][0].get("mtu"), None);
    assert_eq!(old["routes"][0].get("priority"), None);
    let new = sample().to_json(SpecVersion::V1_1_0);
    assert_eq!(new["ips"][0].get("version"), None);
    assert_eq!(new["interfaces"][0]["mtu"], 1500);
    assert_eq!(new["routes"][0]["priority"], 1);
    assert_eq!(new.get("dns"), None);
}

#[test]
fn appending_shifts_references_and_keeps_unknown_fields() {
    let mut result: AddResult =
        serde_json::from_value(json!({"interfaces": [{"name": "lo"}], "vendor": {"x": 1}})).unwrap();
    result.append(sample());
    assert_eq!(result.ips[0].interface, Some(1));
    assert_eq!(result.to_json(SpecVersion::V1_0_0)["vendor"]["x"], 1);
}

#[test]
fn errors_and_versions_have_the_form_of_the_specification() {
    let error = CniError::new(ErrorCode::TryAgainLater, "no").with_details("why");
    let json = error.to_json(SpecVersion::V1_0_0);
    assert_eq!(json, json!({"cniVersion": "1.0.0", "code": 11, "msg": "no", "details": "why"}));
    let report = SpecVersion::report();
    assert_eq!(report["supportedVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    for code in 0..200 {
        assert_eq!(u32::from(ErrorCode::from(code)), code);
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC*") {
        let _ = NetworkConfiguration::parse(&bytes);
        let _ = NetworkConfiguration::parse(text.as_bytes());
        let _ = Environment::read(|name| if name == "CNI_COMMAND" { Some("ADD".into()) } else { Some(text.clone()) });
    }

    #[test]
    fn what_is_accepted_is_safe_to_use(id in "\\PC{0,20}", interface in "\\PC{0,20}") {
        let variable = |name: &str| Some(match name {
            "CNI_COMMAND" => "ADD".to_owned(),
            "CNI_CONTAINERID" => id.clone(),
            "CNI_IFNAME" => interface.clone(),
            _ => "/x".to_owned(),
        });
        let variable = |name: &str| if name == "CNI_ARGS" { None } else { variable(name) };
        if let Ok(environment) = Environment::read(variable) {
            prop_assert!(!environment.container_id.contains(['/', ' ', '\n']));
            prop_assert!(environment.interface.len() <= 15);
            prop_assert!(!environment.interface.contains(['/', ':', ' ', '\n', '\0']));
        }
    }

    #[test]
    fn results_survive_a_round_trip(version in prop::sample::select(SpecVersion::ALL.to_vec())) {
        let json = sample().to_json(version);
        let back: AddResult = serde_json::from_value(json.clone()).unwrap();
        prop_assert_eq!(back.to_json(version), json);
    }
}
