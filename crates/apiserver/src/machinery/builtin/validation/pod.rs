//! Pods and pod templates.

use super::container::{self, Surroundings};
use super::field::{Errors, Field, repeated};
use super::{labels, scheduling, volume};
use crate::machinery::field_error::FieldError;
use crate::machinery::names;

/// Most seconds a pod may be active.
const DEADLINE_MAX: i64 = i32::MAX as i64;

/// A Pod.
pub(super) fn pod(pod: &Field<'_>, errors: &mut Errors) {
    let spec = pod.get("spec");
    pod_spec(&spec, errors);
    for container in spec.get("ephemeralContainers").items() {
        if container.require(errors) {
            container.get("name").name(names::dns1123_label, errors);
        }
    }
}

/// A PodTemplate.
pub(super) fn pod_template(object: &Field<'_>, errors: &mut Errors) {
    template(&object.get("template"), errors);
}

/// The `template` of a workload.
pub(super) fn template(template: &Field<'_>, errors: &mut Errors) {
    labels::template_metadata(template, errors);
    let spec = template.get("spec");
    pod_spec(&spec, errors);
    if !spec.get("ephemeralContainers").is_empty() {
        spec.get("ephemeralContainers").forbidden("ephemeral containers not allowed in pod template", errors);
    }
}

fn pod_spec(spec: &Field<'_>, errors: &mut Errors) {
    let volumes = volume::volumes(&spec.get("volumes"), errors);
    let (regular, init) = (spec.get("containers"), spec.get("initContainers"));
    if regular.is_empty() {
        regular.missing("", errors);
    }
    let surroundings =
        Surroundings { volumes: &volumes, host_network: spec.get("hostNetwork").is_true(), init: false };
    for container in regular.items() {
        container::container(&container, &surroundings, errors);
    }
    for container in init.items() {
        container::container(&container, &Surroundings { init: true, ..surroundings }, errors);
    }
    unique_names(&[init, regular.clone(), spec.get("ephemeralContainers")], errors);
    host_ports(&regular, errors);
    spec.get("restartPolicy").one_of(&["Always", "OnFailure", "Never"], errors);
    dns(spec, errors);
    identity(spec, errors);
    limits(spec, errors);
    scheduling::placement(spec, errors);
    security(&spec.get("securityContext"), errors);
}

/// Containers of all sorts share one set of names.
fn unique_names(lists: &[Field<'_>], errors: &mut Errors) {
    let all: Vec<Field<'_>> = lists.iter().flat_map(Field::items).collect();
    for position in
        repeated(&all, |container| Some(container.get("name").text()).filter(|name| !name.is_empty()))
    {
        all[position].get("name").duplicate(errors);
    }
}

/// A port of the host serves one container.
fn host_ports(containers: &Field<'_>, errors: &mut Errors) {
    let ports: Vec<Field<'_>> =
        containers.items().iter().flat_map(|container| container.get("ports").items()).collect();
    let identity = |port: &Field<'_>| {
        let number = port.get("hostPort").number().filter(|number| *number != 0)?;
        Some((port.get("protocol").text().to_owned(), port.get("hostIP").text().to_owned(), number))
    };
    for position in repeated(&ports, identity) {
        let port = ports[position].get("hostPort");
        errors.push(FieldError::duplicate(port.path.as_str(), port.value.clone()));
    }
}

fn dns(spec: &Field<'_>, errors: &mut Errors) {
    let policy = spec.get("dnsPolicy");
    policy.one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], errors);
    let config = spec.get("dnsConfig");
    let servers = config.get("nameservers");
    if policy.text() == "None" && servers.is_empty() {
        servers.missing("must provide at least one DNS nameserver when `dnsPolicy` is None", errors);
    }
    for server in servers.items() {
        ip_address(&server, errors);
    }
    for search in config.get("searches").items() {
        search.optional_name(|name| names::dns1123_subdomain(name.strip_suffix('.').unwrap_or(name)), errors);
    }
    for option in config.get("options").items() {
        option.get("name").require(errors);
    }
    for alias in spec.get("hostAliases").items() {
        ip_address(&alias.get("ip"), errors);
        for name in alias.get("hostnames").items() {
            name.optional_name(names::dns1123_subdomain, errors);
        }
    }
}

/// Reports a text that is no address.
pub(super) fn ip_address(field: &Field<'_>, errors: &mut Errors) {
    if field.text().parse::<std::net::IpAddr>().is_err() {
        field.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", errors);
    }
}

fn identity(spec: &Field<'_>, errors: &mut Errors) {
    spec.get("serviceAccountName").optional_name(names::dns1123_subdomain, errors);
    spec.get("nodeName").optional_name(names::dns1123_subdomain, errors);
    spec.get("hostname").optional_name(names::dns1123_label, errors);
    spec.get("subdomain").optional_name(names::dns1123_label, errors);
    spec.get("runtimeClassName").optional_name(names::dns1123_subdomain, errors);
    spec.get("priorityClassName").optional_name(names::dns1123_subdomain, errors);
    for secret in spec.get("imagePullSecrets").items() {
        secret.get("name").require(errors);
    }
}

fn limits(spec: &Field<'_>, errors: &mut Errors) {
    spec.get("activeDeadlineSeconds").between(1, DEADLINE_MAX, errors);
    spec.get("terminationGracePeriodSeconds").not_negative(errors);
    spec.get("preemptionPolicy").optional_one_of(&["PreemptLowerPriority", "Never"], errors);
    for gate in spec.get("readinessGates").items() {
        gate.get("conditionType").name(names::qualified_name, errors);
    }
    let gates = spec.get("schedulingGates").items();
    for gate in &gates {
        gate.get("name").name(names::qualified_name, errors);
    }
    for position in repeated(&gates, |gate| Some(gate.get("name").text())) {
        gates[position].get("name").duplicate(errors);
    }
}

fn security(context: &Field<'_>, errors: &mut Errors) {
    for name in ["runAsUser", "runAsGroup", "fsGroup"] {
        context.get(name).between(0, i64::from(i32::MAX), errors);
    }
    for group in context.get("supplementalGroups").items() {
        group.between(0, i64::from(i32::MAX), errors);
    }
    context.get("fsGroupChangePolicy").optional_one_of(&["OnRootMismatch", "Always"], errors);
    let sysctls = context.get("sysctls").items();
    for sysctl in &sysctls {
        sysctl.get("name").require(errors);
    }
    for position in repeated(&sysctls, |sysctl| Some(sysctl.get("name").text())) {
        sysctls[position].get("name").duplicate(errors);
    }
}

/// A template whose pods are to run for ever.
pub(super) fn always_running(template: &Field<'_>, kind: &str, errors: &mut Errors) {
    let spec = template.get("spec");
    let policy = spec.get("restartPolicy");
    if policy.is_present() && policy.text() != "Always" {
        errors.push(FieldError::not_supported(policy.path.as_str(), policy.value.clone(), ["Always"]));
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.is_present() {
        deadline.forbidden(format!("activeDeadlineSeconds in {kind} is not Supported"), errors);
    }
}
