//! Variables that tell containers where Services are, in the two forms that Kubernetes took over from Docker's links.
//! Source: Kubernetes documentation, "Service", environment variables.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Service, ServicePort};

/// The Service that every pod is told of, in this namespace.
const API: (&str, &str) = ("default", "kubernetes");

/// Variables for a pod of `namespace`: of the API always, of the namespace's Services if `links`.
pub fn service_links(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let place = |service: &Service| {
        let metadata = &service.metadata;
        (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    };
    let mut variables = BTreeMap::new();
    // The namespace's own Service of that name counts, so it comes last.
    let api = services.iter().filter(|service| place(service) == (API.0.to_owned(), API.1.to_owned()));
    let own = services.iter().filter(|service| links && place(service).0 == namespace);
    for service in api.chain(own) {
        add(&mut variables, service);
    }
    variables
}

fn add(variables: &mut BTreeMap<String, String>, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let address = spec.cluster_ip.as_deref().filter(|address| !matches!(*address, "" | "None"));
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (Some(address), Some(first)) = (address, ports.first()) else { return };
    let prefix = variable_name(service.metadata.name.as_deref().unwrap_or_default());
    variables.insert(format!("{prefix}_SERVICE_HOST"), address.to_owned());
    variables.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.insert(format!("{prefix}_SERVICE_PORT_{}", variable_name(name)), port.port.to_string());
        }
    }
    variables.insert(format!("{prefix}_PORT"), url(address, first));
    for port in ports {
        let protocol = protocol(port);
        let prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        variables.insert(format!("{prefix}_PROTO"), protocol);
        variables.insert(format!("{prefix}_PORT"), port.port.to_string());
        variables.insert(format!("{prefix}_ADDR"), address.to_owned());
        variables.insert(prefix, url(address, port));
    }
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

fn protocol(port: &ServicePort) -> String {
    port.protocol.as_deref().unwrap_or("TCP").to_lowercase()
}

fn url(address: &str, port: &ServicePort) -> String {
    format!("{}://{address}:{}", protocol(port), port.port)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(namespace: &str, name: &str, address: &str, port: i32) -> Arc<Service> {
        let value = json!({"metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": address, "ports": [{"name": "web-ui", "port": port}]}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn pods_learn_of_services() {
        let services = [
            service("default", "kubernetes", "10.43.0.1", 443),
            service("shop", "red-is", "10.43.0.7", 6379),
            service("shop", "headless", "None", 1),
            service("other", "hidden", "10.43.0.8", 1),
        ];
        let variables = service_links(&services, "shop", true);
        assert_eq!(variables["KUBERNETES_SERVICE_HOST"], "10.43.0.1");
        assert_eq!(variables["KUBERNETES_SERVICE_PORT"], "443");
        assert_eq!(variables["RED_IS_SERVICE_PORT_WEB_UI"], "6379");
        assert_eq!(variables["RED_IS_PORT_6379_TCP"], "tcp://10.43.0.7:6379");
        assert!(!variables.keys().any(|name| name.starts_with("HIDDEN") || name.starts_with("HEADLESS")));
        let without = service_links(&services, "shop", false);
        assert!(without.keys().all(|name| name.starts_with("KUBERNETES_")) && !without.is_empty());
    }
}
