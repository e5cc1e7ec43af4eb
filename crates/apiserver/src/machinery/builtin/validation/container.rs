//! Containers.

use super::field::{Errors, Field, repeated};
use super::quantities;
use crate::machinery::field_error::FieldError;
use crate::machinery::names;

/// What is around a container.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// Names of the pod's volumes.
    pub(super) volumes: &'a [&'a str],
    /// Whether the pod uses the host's network.
    pub(super) host_network: bool,
    /// Whether it runs before the others.
    pub(super) init: bool,
}

/// Fields of the pod that an environment variable may show.
const FIELD_PATHS: [&str; 8] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.podIP",
    "status.hostIPs",
];

/// A container.
pub(super) fn container(container: &Field<'_>, around: &Surroundings<'_>, errors: &mut Errors) {
    container.get("name").name(names::dns1123_label, errors);
    let image = container.get("image");
    if image.require(errors) && image.text().trim() != image.text() {
        image.invalid("must not have leading or trailing whitespace", errors);
    }
    container.get("imagePullPolicy").optional_one_of(&["Always", "IfNotPresent", "Never"], errors);
    container.get("terminationMessagePolicy").optional_one_of(&["File", "FallbackToLogsOnError"], errors);
    ports(&container.get("ports"), around.host_network, errors);
    environment(container, errors);
    mounts(container, around.volumes, errors);
    quantities::requirements(&container.get("resources"), errors);
    security(&container.get("securityContext"), errors);
    life(container, around, errors);
}

fn ports(ports: &Field<'_>, host_network: bool, errors: &mut Errors) {
    let ports = ports.items();
    for port in &ports {
        port.get("name").optional_name(names::port_name, errors);
        let number = port.get("containerPort");
        match number.number() {
            None | Some(0) => number.missing("", errors),
            Some(_) => number.port(errors),
        }
        let host = port.get("hostPort");
        if host.number().is_some_and(|host| host != 0) {
            host.port(errors);
            if host_network && host.value != number.value {
                host.invalid("must match `containerPort` when `hostNetwork` is true", errors);
            }
        }
        port.get("protocol").one_of(&["SCTP", "TCP", "UDP"], errors);
    }
    let name =
        |port: &Field<'_>| Some(port.get("name").value.as_str()?.to_owned()).filter(|name| !name.is_empty());
    for position in repeated(&ports, name) {
        ports[position].get("name").duplicate(errors);
    }
}

fn environment(container: &Field<'_>, errors: &mut Errors) {
    for variable in container.get("env").items() {
        variable.get("name").name(names::environment_name, errors);
        let source = variable.get("valueFrom");
        if !source.value.is_null() {
            variable_source(&variable, &source, errors);
        }
    }
    for source in container.get("envFrom").items() {
        source.get("prefix").optional_name(names::environment_name, errors);
        let given: Vec<Field<'_>> = ["configMapRef", "secretRef"]
            .map(|name| source.get(name))
            .into_iter()
            .filter(|f| !f.value.is_null())
            .collect();
        match given.as_slice() {
            [one] => one.get("name").name(names::dns1123_subdomain, errors),
            [] => source.invalid("must specify one of: `configMapRef` or `secretRef`", errors),
            _ => source.invalid("may not have more than one field specified at a time", errors),
        }
    }
}

fn variable_source(variable: &Field<'_>, source: &Field<'_>, errors: &mut Errors) {
    let names = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let given: Vec<&str> = names.into_iter().filter(|name| !source.get(name).value.is_null()).collect();
    if variable.get("value").is_present() && !given.is_empty() {
        source.invalid("may not be specified when `value` is not empty", errors);
    }
    let [name] = given.as_slice() else {
        let message = if given.is_empty() {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        } else {
            "may not have more than one field specified at a time"
        };
        source.invalid(message, errors);
        return;
    };
    let reference = source.get(name);
    match *name {
        "fieldRef" => field_path(&reference.get("fieldPath"), errors),
        "resourceFieldRef" => {
            reference.get("resource").require(errors);
        }
        "configMapKeyRef" | "secretKeyRef" => {
            reference.get("name").require(errors);
            reference.get("key").name(names::config_key, errors);
        }
        _ => {}
    }
}

/// A path such as `metadata.name` or `metadata.labels['app']`.
fn field_path(path: &Field<'_>, errors: &mut Errors) {
    if !path.require(errors) {
        return;
    }
    let text = path.text();
    let subscript = ["metadata.labels", "metadata.annotations"].iter().any(|map| {
        let key = text.strip_prefix(map).and_then(|rest| rest.strip_prefix("['")?.strip_suffix("']"));
        key.is_some_and(|key| names::qualified_name(&key.to_lowercase()).is_empty())
    });
    if !subscript && !FIELD_PATHS.contains(&text) && text != "status.podIPs" {
        errors.push(FieldError::not_supported(path.path.as_str(), text, FIELD_PATHS));
    }
}

fn mounts(container: &Field<'_>, volumes: &[&str], errors: &mut Errors) {
    let mounts = container.get("volumeMounts").items();
    for mount in &mounts {
        let name = mount.get("name");
        if name.require(errors) && !volumes.contains(&name.text()) {
            errors.push(FieldError::not_found(name.path.as_str(), name.text()));
        }
        mount.get("mountPath").require(errors);
        relative_path(&mount.get("subPath"), errors);
        relative_path(&mount.get("subPathExpr"), errors);
        if mount.get("subPath").is_present() && mount.get("subPathExpr").is_present() {
            mount.get("subPathExpr").invalid("subPathExpr and subPath are mutually exclusive", errors);
        }
    }
    for position in
        repeated(&mounts, |mount| Some(mount.get("mountPath").text()).filter(|path| !path.is_empty()))
    {
        mounts[position].get("mountPath").invalid("must be unique", errors);
    }
    for device in container.get("volumeDevices").items() {
        let name = device.get("name");
        if name.require(errors) && !volumes.contains(&name.text()) {
            errors.push(FieldError::not_found(name.path.as_str(), name.text()));
        }
        device.get("devicePath").require(errors);
    }
}

/// Reports a path that leaves the place it is in.
pub(super) fn relative_path(path: &Field<'_>, errors: &mut Errors) {
    if path.text().starts_with('/') {
        path.invalid("must be a relative path", errors);
    }
    if path.text().split('/').any(|segment| segment == "..") {
        path.invalid("must not contain '..'", errors);
    }
}

fn security(context: &Field<'_>, errors: &mut Errors) {
    for name in ["runAsUser", "runAsGroup"] {
        context.get(name).between(0, i64::from(i32::MAX), errors);
    }
    let escalation = context.get("allowPrivilegeEscalation");
    if escalation.value == false && context.get("privileged").is_true() {
        context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true", errors);
    }
    context.get("procMount").optional_one_of(&["Default", "Unmasked"], errors);
}

/// Probes and hooks.
fn life(container: &Field<'_>, around: &Surroundings<'_>, errors: &mut Errors) {
    let restarts = container.get("restartPolicy");
    // An init container that restarts runs beside the others: it may have what they have.
    let short_lived = around.init && restarts.text() != "Always";
    if around.init {
        restarts.optional_one_of(&["Always", "OnFailure", "Never"], errors);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
        let field = container.get(name);
        if short_lived && !field.value.is_null() {
            field.forbidden("may not be set for init containers without restartPolicy=Always", errors);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let field = container.get(name);
        if field.value.is_null() {
            continue;
        }
        probe(&field, errors);
        let successes = field.get("successThreshold");
        if name != "readinessProbe" && successes.number().is_some_and(|number| number != 1) {
            successes.invalid("must be 1", errors);
        }
    }
    for name in ["postStart", "preStop"] {
        let hook = container.at(&["lifecycle", name]);
        if !hook.value.is_null() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], errors);
        }
    }
}

fn probe(probe: &Field<'_>, errors: &mut Errors) {
    for name in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        probe.get(name).not_negative(errors);
    }
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
}

/// Exactly one thing to do.
fn handler(field: &Field<'_>, kinds: &[&str], errors: &mut Errors) {
    let given: Vec<&&str> = kinds.iter().filter(|kind| !field.get(kind).value.is_null()).collect();
    let Some((first, more)) = given.split_first() else {
        field.missing("must specify a handler type", errors);
        return;
    };
    for kind in more {
        field.get(kind).forbidden("may not specify more than 1 handler type", errors);
    }
    let action = field.get(first);
    match **first {
        "exec" if action.get("command").is_empty() => action.get("command").missing("", errors),
        "httpGet" => {
            action.get("path").require(errors);
            port_or_name(&action.get("port"), errors);
            action.get("scheme").optional_one_of(&["HTTP", "HTTPS"], errors);
            for header in action.get("httpHeaders").items() {
                header.get("name").require(errors);
            }
        }
        "tcpSocket" => port_or_name(&action.get("port"), errors),
        "grpc" => action.get("port").port(errors),
        "sleep" => action.get("seconds").not_negative(errors),
        _ => {}
    }
}

/// Reports what is neither the number nor the name of a port.
pub(super) fn port_or_name(port: &Field<'_>, errors: &mut Errors) {
    match port.value {
        serde_json::Value::Number(_) => port.port(errors),
        serde_json::Value::String(_) => port.name(names::port_name, errors),
        _ => port.missing("", errors),
    }
}
