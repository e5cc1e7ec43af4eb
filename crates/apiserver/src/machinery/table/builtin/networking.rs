//! Ingresses and network policies.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::{NONE, Object, selector};

/// How many hosts are shown before the rest is only counted.
const SHOWN: usize = 3;

pub(super) const INGRESS: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Class"),
        Column::text("Hosts"),
        Column::text("Address"),
        Column::text("Ports"),
        Column::AGE,
    ],
    |ingress| {
        let encrypted = ingress.count("/spec/tls") > 0;
        vec![
            ingress.name(),
            class(ingress).into(),
            hosts(ingress).into(),
            addresses(ingress).into(),
            if encrypted { "80, 443" } else { "80" }.into(),
            ingress.age(),
        ]
    },
);

/// The class, which old ingresses name in an annotation.
fn class(ingress: Object<'_>) -> &str {
    let annotated = ingress.text_or("/metadata/annotations/kubernetes.io~1ingress.class", NONE);
    ingress.text_or("/spec/ingressClassName", annotated)
}

fn hosts(ingress: Object<'_>) -> String {
    let hosts: Vec<&str> =
        ingress.list("/spec/rules").map(|rule| rule.text("/host")).filter(|host| !host.is_empty()).collect();
    match hosts.len() {
        0 => "*".to_owned(),
        count if count > SHOWN => format!("{} + {} more...", hosts[..SHOWN].join(","), count - SHOWN),
        _ => hosts.join(","),
    }
}

fn addresses(ingress: Object<'_>) -> String {
    let addresses: BTreeSet<&str> = ingress
        .list("/status/loadBalancer/ingress")
        .map(|point| point.text_or("/ip", point.text("/hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

pub(super) const INGRESS_CLASS: Printer = Printer::new(
    &[Column::NAME, Column::text("Controller"), Column::text("Parameters"), Column::AGE],
    |class| vec![class.name(), class.text("/spec/controller").into(), parameters(class).into(), class.age()],
);

/// What the class refers to, such as `IngressParameters.example.com/external`.
fn parameters(class: Object<'_>) -> String {
    let parameters = class.part("/spec/parameters");
    if !class.has("/spec/parameters") {
        return NONE.to_owned();
    }
    let (kind, name) = (parameters.text("/kind"), parameters.text("/name"));
    match parameters.text("/apiGroup") {
        "" => format!("{kind}/{name}"),
        group => format!("{kind}.{group}/{name}"),
    }
}

pub(super) const NETWORK_POLICY: Printer =
    Printer::new(&[Column::NAME, Column::text("Pod-Selector"), Column::AGE], |policy| {
        vec![policy.name(), Value::from(selector(policy, "/spec/podSelector")), policy.age()]
    });
