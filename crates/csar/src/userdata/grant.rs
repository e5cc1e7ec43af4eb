//! Grant requests for numbers of virtual machines, as far as stack requests need them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A GrantRequest in which as many virtual machines come, and go, as are counted (negative: they go). Those that come have the ids `VDU#NUMBER`;
/// those that go are the last of the instance's.
pub fn grant_request(changes: &BTreeMap<String, i64>, instance: &Value) -> Value {
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for (vdu, change) in changes {
        for number in 0..*change {
            add.push(json!({"id": format!("{vdu}#{number}"), "type": "COMPUTE", "resourceTemplateId": vdu}));
        }
        let vnfcs = super::views::items(instance, "/instantiatedVnfInfo/vnfcResourceInfo").iter();
        let of_vdu: Vec<&Value> =
            vnfcs.filter(|vnfc| super::views::text(vnfc, "vduId") == Some(vdu)).collect();
        let going = usize::try_from(change.saturating_neg()).unwrap_or_default();
        for vnfc in of_vdu.into_iter().rev().take(going) {
            let resource = json!({"resourceId": vnfc.pointer("/computeResource/resourceId")});
            let id = vnfc.get("id");
            remove
                .push(json!({"id": id, "type": "COMPUTE", "resourceTemplateId": vdu, "resource": resource}));
        }
    }
    json!({"addResources": add, "removeResources": remove})
}
