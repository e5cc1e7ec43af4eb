//! Networks that connection points are attached to.

use serde_json::{Value, json};

use super::{
    Situation,
    views::{items, text},
};

/// A connection point at its network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attachment<'a> {
    /// The VIM's network.
    pub(super) network: &'a str,
    /// VnfExtCpData.
    point: &'a Value,
}

impl<'a> Situation<'a> {
    /// Where the grant, or else the request, attaches a connection point.
    pub(super) fn requested(&self, point: &str) -> Option<Attachment<'a>> {
        let links =
            items(self.grant, "/extVirtualLinks").iter().chain(items(self.request, "/extVirtualLinks"));
        find(links, point, "extCps", |link| text(link, "resourceId"))
    }

    /// Where the instance has it.
    pub(super) fn attached(&self, point: &str) -> Option<Attachment<'a>> {
        let links = items(self.instance, "/instantiatedVnfInfo/extVirtualLinkInfo").iter();
        find(links, point, "currentVnfExtCpData", |link| {
            link.pointer("/resourceHandle/resourceId").and_then(Value::as_str)
        })
    }

    /// Networks of the VIM in place of virtual links of the VNFD: by the grant, then the request.
    pub(super) fn managed_links(&self) -> Vec<(&'a str, &'a str)> {
        let lists =
            [self.grant, self.request].into_iter().flat_map(|value| items(value, "/extManagedVirtualLinks"));
        lists
            .filter_map(|link| Some((text(link, "vnfVirtualLinkDescId")?, text(link, "resourceId")?)))
            .collect()
    }

    /// The same, as the instance has them.
    pub(super) fn managed_links_of_instance(&self) -> Vec<(&'a str, &'a str)> {
        let links = items(self.instance, "/instantiatedVnfInfo/extManagedVirtualLinkInfo").iter();
        let network = |link: &'a Value| link.pointer("/networkResource/resourceId").and_then(Value::as_str);
        links.filter_map(|link| Some((text(link, "vnfVirtualLinkDescId")?, network(link)?))).collect()
    }
}

fn find<'a>(
    mut links: impl Iterator<Item = &'a Value>,
    point: &str,
    list: &str,
    network: impl Fn(&'a Value) -> Option<&'a str>,
) -> Option<Attachment<'a>> {
    links.find_map(|link| {
        let points = items(link, &format!("/{list}"));
        let point = points.iter().find(|data| text(data, "cpdId") == Some(point))?;
        Some(Attachment { network: network(link)?, point })
    })
}

impl<'a> Attachment<'a> {
    /// Addresses that are asked for, each with its subnet: members `ip_address` and `subnet`. `pick` chooses among several fixed addresses.
    pub(super) fn fixed_ips(&self, pick: fn(&'a [Value]) -> Option<&'a Value>) -> Vec<Value> {
        // A map in SOL003 3.3.1, a list in 2.6.1.
        let configurations: Vec<&Value> = match self.point.get("cpConfig") {
            Some(Value::Object(map)) => map.values().collect(),
            Some(Value::Array(list)) => list.iter().collect(),
            _ => Vec::new(),
        };
        let protocols =
            configurations.into_iter().flat_map(|configuration| items(configuration, "/cpProtocolData"));
        let addresses = protocols.flat_map(|protocol| items(protocol, "/ipOverEthernet/ipAddresses"));
        let fixed = addresses.map(|address| {
            let mut fixed = json!({});
            if let Some(address) = pick(items(address, "/fixedAddresses")) {
                fixed["ip_address"] = address.clone();
            }
            if let Some(subnet) = address.get("subnetId").filter(|subnet| subnet.is_string()) {
                fixed["subnet"] = subnet.clone();
            }
            fixed
        });
        fixed.filter(|fixed| fixed.as_object().is_some_and(|members| !members.is_empty())).collect()
    }
}
