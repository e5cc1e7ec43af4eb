//! The configuration of a container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{NodeFacts, environment::expand, security};
use crate::{
    cri::messages::{
        ContainerConfig, ContainerMetadata, Image, ImageSpec, KeyValue, LinuxContainerConfig, Mount,
    },
    pods::{labels, resources::container_resources},
};

/// What has been found out for a container before it is made.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The image, which is on the node.
    pub image: &'a Image,
    /// How many runs there were before.
    pub attempt: u32,
    /// Its environment.
    pub environment: &'a BTreeMap<String, String>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
}

/// Makes the configuration.
pub fn container_config(
    pod: &Pod,
    container: &Container,
    node: &NodeFacts,
    prepared: Prepared<'_>,
) -> ContainerConfig {
    let spec = pod.spec.clone().unwrap_or_default();
    let Prepared { image, attempt, environment, mounts } = prepared;
    let words = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| expand(word, environment)).collect()
    };
    let mut own_labels = labels::pod_labels(pod);
    own_labels.insert(labels::CONTAINER_NAME.to_owned(), container.name.clone());
    let mut security = security::container(&spec, container);
    if security.run_as_user.is_none() {
        // By number, so that a name in the image's own list of users cannot be turned into root.
        security.run_as_user = image.uid;
        if image.uid.is_none() {
            security.run_as_username.clone_from(&image.username);
        }
    }
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt }),
        image: Some(ImageSpec {
            image: image.id.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: environment
            .iter()
            .map(|(key, value)| KeyValue { key: key.clone(), value: value.clone() })
            .collect(),
        mounts,
        devices: Vec::new(),
        labels: own_labels,
        annotations: [(labels::SPEC_HASH.to_owned(), labels::spec_hash(container))].into(),
        log_path: format!("{}/{attempt}.log", container.name),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig {
            resources: Some(container_resources(&spec, container, node.memory)),
            security_context: Some(security),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        cri::messages::{Int64Value, NamespaceMode},
        pods::spec::{sandbox::sandbox_config, tests_support::facts},
    };

    #[test]
    fn a_container_as_the_runtime_gets_it() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1"},
            "spec": {"containers": [{"name": "c", "image": "hello:1", "command": ["/run", "$(MODE)", "$(NONE)"], "args": ["$$(MODE)"], "tty": true}]},
        }))
        .unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let environment = BTreeMap::from([("MODE".to_owned(), "fast".to_owned())]);
        let image = Image { id: "sha256:1".into(), uid: Some(Int64Value { value: 7 }), ..Image::default() };
        let prepared = Prepared { image: &image, attempt: 2, environment: &environment, mounts: Vec::new() };
        let config = container_config(&pod, container, &facts(), prepared);
        assert_eq!(config.command, ["/run", "fast", "$(NONE)"]);
        assert_eq!(config.args, ["$(MODE)"]);
        assert_eq!((config.log_path.as_str(), config.tty), ("c/2.log", true));
        assert_eq!(config.image.unwrap().image, "sha256:1");
        assert_eq!(config.annotations[labels::SPEC_HASH], "hello:1");
        let linux = config.linux.unwrap();
        assert_eq!(linux.security_context.unwrap().run_as_user, Some(Int64Value { value: 7 }));
    }

    #[test]
    fn a_sandbox_as_the_runtime_gets_it() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c"}]},
        }))
        .unwrap();
        let config = sandbox_config(&pod, &facts(), 3);
        assert_eq!(
            (config.hostname.as_str(), config.log_directory.as_str()),
            ("web", "/var/log/pods/shop_web_u-1")
        );
        assert_eq!(config.labels["app"], "x");
        assert_eq!(config.linux.as_ref().unwrap().cgroup_parent, "/kubepods/besteffort/podu-1");
        pod.spec.as_mut().unwrap().host_network = Some(true);
        let config = sandbox_config(&pod, &facts(), 3);
        let namespaces = config.linux.unwrap().security_context.unwrap().namespace_options.unwrap();
        assert_eq!((config.hostname.as_str(), namespaces.network), ("", NamespaceMode::Node as i32));
    }
}
