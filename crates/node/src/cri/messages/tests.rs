//! The wire format, byte by byte: a wrong field number would be noticed by no type.

use prost::Message;

use super::*;

/// Field numbers of a message's top level, in order.
fn tags(mut bytes: &[u8]) -> Vec<u32> {
    let mut tags = Vec::new();
    while !bytes.is_empty() {
        let (tag, wire_type) = prost::encoding::decode_key(&mut bytes).unwrap();
        prost::encoding::skip_field(wire_type, tag, &mut bytes, prost::encoding::DecodeContext::default())
            .unwrap();
        tags.push(tag);
    }
    tags
}

#[test]
fn a_container_configuration_has_the_right_tags() {
    let text = || "x".to_owned();
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: text(), attempt: 1 }),
        image: Some(ImageSpec { image: text(), user_specified_image: text(), ..ImageSpec::default() }),
        command: vec![text()],
        args: vec![text()],
        working_dir: text(),
        envs: vec![KeyValue { key: text(), value: text() }],
        mounts: vec![Mount { container_path: text(), host_path: text(), readonly: true, ..Mount::default() }],
        devices: vec![Device::default()],
        labels: [(text(), text())].into(),
        annotations: [(text(), text())].into(),
        log_path: text(),
        stdin: true,
        stdin_once: true,
        tty: true,
        linux: Some(LinuxContainerConfig::default()),
    };
    assert_eq!(tags(&config.encode_to_vec()), (1..=15).collect::<Vec<_>>());
    assert_eq!(tags(&config.image.unwrap().encode_to_vec()), [1, 18]);
    assert_eq!(tags(&config.mounts[0].encode_to_vec()), [1, 2, 3]);
}

#[test]
fn security_contexts_have_the_right_tags() {
    let number = || Some(Int64Value { value: 1 });
    let profile = || Some(SecurityProfile { profile_type: 2, localhost_ref: "x".into() });
    let container = LinuxContainerSecurityContext {
        capabilities: Some(Capability::default()),
        privileged: true,
        namespace_options: Some(NamespaceOption { network: 2, pid: 1, ipc: 2, target_id: "x".into() }),
        run_as_user: number(),
        run_as_group: number(),
        run_as_username: "x".into(),
        readonly_rootfs: true,
        supplemental_groups: vec![1],
        no_new_privs: true,
        masked_paths: vec!["x".into()],
        readonly_paths: vec!["x".into()],
        seccomp: profile(),
        apparmor: profile(),
    };
    let mut found = tags(&container.encode_to_vec());
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16]);
    assert_eq!(tags(&container.namespace_options.unwrap().encode_to_vec()), [1, 2, 3, 4]);
    let sandbox = LinuxSandboxSecurityContext {
        namespace_options: Some(NamespaceOption::default()),
        run_as_user: number(),
        run_as_group: number(),
        readonly_rootfs: true,
        supplemental_groups: vec![1],
        privileged: true,
        seccomp: profile(),
        apparmor: profile(),
    };
    let mut found = tags(&sandbox.encode_to_vec());
    found.sort_unstable();
    assert_eq!(found, [1, 3, 4, 5, 6, 8, 9, 10]);
}

#[test]
fn unknown_fields_are_skipped() {
    // Field 16 of ContainerStatus (resources) and 18 (user) are not modelled.
    let mut bytes =
        ContainerStatus { id: "c".into(), exit_code: 3, ..ContainerStatus::default() }.encode_to_vec();
    prost::encoding::message::encode(16, &Empty {}, &mut bytes);
    prost::encoding::message::encode(18, &Empty {}, &mut bytes);
    let status = ContainerStatus::decode(bytes.as_slice()).unwrap();
    assert_eq!((status.id.as_str(), status.exit_code), ("c", 3));
}

#[test]
fn credentials_are_not_printed() {
    let auth = AuthConfig {
        username: "me".into(),
        password: "hunter2".into(),
        auth: "aGk=".into(),
        server_address: "registry.example".into(),
        ..AuthConfig::default()
    };
    let shown = format!("{auth:?}");
    assert!(shown.contains("registry.example"));
    assert!(!shown.contains("hunter2") && !shown.contains("aGk="), "{shown}");
}
