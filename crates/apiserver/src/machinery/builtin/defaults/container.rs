//! Containers.

use serde_json::Value;

use super::fields::{Fields, each, made, set, set_nonzero, text, within};

/// A container; `on_host` says that its pod uses the host's network, where a port is the host's port.
pub(super) fn container(container: &mut Fields, on_host: bool) {
    let pull = pull_policy(text(container, "image"));
    set(container, "imagePullPolicy", pull);
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    made(container, "resources");
    each(container, "ports", |port| {
        set(port, "protocol", "TCP");
        if on_host && let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
            set_nonzero(port, "hostPort", number);
        }
    });
    each(container, "env", |variable| {
        within(variable, "valueFrom", |source| within(source, "fieldRef", field_reference));
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, name, probe);
    }
    within(container, "lifecycle", |lifecycle| {
        for name in ["postStart", "preStop"] {
            within(lifecycle, name, |handler| within(handler, "httpGet", http_get));
        }
    });
}

/// Images named by the moving tag `latest`, or by none, are pulled always.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    // A colon before a slash belongs to the registry's port.
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

fn probe(probe: &mut Fields) {
    set_nonzero(probe, "timeoutSeconds", 1);
    set_nonzero(probe, "periodSeconds", 10);
    set_nonzero(probe, "successThreshold", 1);
    set_nonzero(probe, "failureThreshold", 3);
    within(probe, "httpGet", http_get);
    within(probe, "grpc", |grpc| {
        grpc.entry("service").or_insert_with(|| "".into());
    });
}

fn http_get(action: &mut Fields) {
    set(action, "path", "/");
    set(action, "scheme", "HTTP");
}

/// A reference to a field of the pod.
pub(super) fn field_reference(reference: &mut Fields) {
    set(reference, "apiVersion", "v1");
}

/// What is limited and not requested is requested as it is limited.
pub(super) fn requests_from_limits(container: &mut Fields) {
    within(container, "resources", |resources| {
        let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
        let Some(requests) = made(resources, "requests") else { return };
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::pull_policy;

    #[test]
    fn images_without_a_fixed_tag_are_pulled_always() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("registry:5000/nginx", "Always"),
            ("registry:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
            ("nginx:latest@sha256:00", "Always"),
        ];
        for (image, policy) in cases {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
