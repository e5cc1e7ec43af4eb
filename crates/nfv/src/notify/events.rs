//! What happened, as subscribers are told: derived from resources, so that it is the same whenever it is derived. Pure.

use std::{sync::Arc, time::Duration};

use drystone_api::nfv::{VnfInstance, VnfLcmOperation};
use drystone_sol003::types::{
    LcmOperationState, LifecycleChangeNotificationsFilter, NotificationType, VnfInstanceSubscriptionFilter,
    VnfProductsFromProvider,
};
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::CREATED_ANNOTATION;

/// Number of the creation of an instance among what happens to it.
const CREATION: u32 = 1;
/// Number of its deletion.
const DELETION: u32 = 2;
/// From the beginning of a second to its last microsecond.
const REST_OF_SECOND: Duration = Duration::from_micros(999_999);

/// Which event: they are delivered in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) time: Timestamp,
    /// Uid of the operation, or of the instance.
    pub(super) subject: String,
    pub(super) sequence: u32,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) key: Key,
    /// Identifier of the instance.
    pub(super) instance_id: String,
    /// The instance, if it is still there.
    pub(super) instance: Option<Arc<VnfInstance>>,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Created,
    Deleted,
    /// The operation entered a state: one of its transitions.
    Entered(Arc<VnfLcmOperation>, usize),
}

impl Event {
    pub(super) fn kind(&self) -> NotificationType {
        match self.what {
            What::Created => NotificationType::IdentifierCreation,
            What::Deleted => NotificationType::IdentifierDeletion,
            What::Entered(..) => NotificationType::OperationOccurrence,
        }
    }
}

/// What happened to an operation.
pub(super) fn of_operation(
    operation: &Arc<VnfLcmOperation>,
    instance_id: &str,
    instance: Option<&Arc<VnfInstance>>,
) -> Vec<Event> {
    let Some(subject) = operation.uid() else { return Vec::new() };
    let mut last = Timestamp::MIN;
    let transitions = operation.status.iter().flat_map(|status| &status.transitions).enumerate();
    transitions
        .map(|(index, transition)| {
            // A clock that was set back does not turn the order around.
            last = transition.time.as_ref().map_or(last, |time| time.0).max(last);
            Event {
                key: Key { time: last, subject: subject.clone(), sequence: transition.sequence },
                instance_id: instance_id.to_owned(),
                instance: instance.cloned(),
                what: What::Entered(operation.clone(), index),
            }
        })
        .collect()
}

/// What happened to an instance.
pub(super) fn of_instance(instance: &Arc<VnfInstance>) -> Vec<Event> {
    let Some(id) = instance.uid() else { return Vec::new() };
    let created = instance.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let noted = instance.annotations().get(CREATED_ANNOTATION).and_then(|text| text.parse().ok());
    let event = |time, sequence, what| Event {
        key: Key { time, subject: id.clone(), sequence },
        instance_id: id.clone(),
        instance: Some(instance.clone()),
        what,
    };
    let created = noted.or(created).unwrap_or(Timestamp::MIN);
    let mut events = vec![event(created, CREATION, What::Created)];
    if let Some(deleted) = &instance.metadata.deletion_timestamp {
        // The API server's times are whole seconds: nothing is deleted before it is made, nor before what was done with it ended.
        let deleted = deleted.0.checked_add(REST_OF_SECOND).unwrap_or(deleted.0);
        events.push(event(deleted.max(created), DELETION, What::Deleted));
    }
    events
}

/// Whether a subscriber wants to be told.
pub(super) fn wants(filter: Option<&LifecycleChangeNotificationsFilter>, event: &Event) -> bool {
    let Some(filter) = filter else { return true };
    let of = |list: &[_], value| list.is_empty() || list.contains(&value);
    if !of(&filter.notification_types, event.kind()) {
        return false;
    }
    if let What::Entered(operation, index) = &event.what {
        let state = state_of(operation, *index);
        let operations = &filter.operation_types;
        let fits = operations.is_empty() || operations.contains(&operation.spec.operation);
        if !fits || !(filter.operation_states.is_empty() || filter.operation_states.contains(&state)) {
            return false;
        }
    }
    filter.vnf_instance_subscription_filter.as_ref().is_none_or(|wanted| fits_instance(wanted, event))
}

/// The state that an operation entered.
pub(super) fn state_of(operation: &VnfLcmOperation, index: usize) -> LcmOperationState {
    let status = operation.status.as_ref();
    status.and_then(|status| status.transitions.get(index)).map(|entered| entered.state).unwrap_or_default()
}

fn fits_instance(wanted: &VnfInstanceSubscriptionFilter, event: &Event) -> bool {
    if !wanted.vnf_instance_ids.is_empty() && !wanted.vnf_instance_ids.contains(&event.instance_id) {
        return false;
    }
    let needs_instance = !(wanted.vnfd_ids.is_empty()
        && wanted.vnf_instance_names.is_empty()
        && wanted.vnf_products_from_providers.is_empty());
    let Some(instance) = &event.instance else { return !needs_instance };
    let spec = &instance.spec;
    let is_named = |names: &Vec<String>| {
        names.is_empty() || spec.vnf_instance_name.as_ref().is_some_and(|name| names.contains(name))
    };
    let products = &wanted.vnf_products_from_providers;
    (wanted.vnfd_ids.is_empty() || wanted.vnfd_ids.contains(&spec.vnfd_id))
        && is_named(&wanted.vnf_instance_names)
        && (products.is_empty() || products.iter().any(|product| is_of(product, instance)))
}

fn is_of(wanted: &VnfProductsFromProvider, instance: &VnfInstance) -> bool {
    let Some(status) = &instance.status else { return false };
    let is = |own: &Option<String>, wanted: &str| own.as_deref() == Some(wanted);
    is(&status.vnf_provider, &wanted.vnf_provider)
        && (wanted.vnf_products.is_empty()
            || wanted.vnf_products.iter().any(|product| {
                is(&status.vnf_product_name, &product.vnf_product_name)
                    && (product.versions.is_empty()
                        || product.versions.iter().any(|version| {
                            is(&status.vnf_software_version, &version.vnf_software_version)
                                && (version.vnfd_versions.is_empty()
                                    || version
                                        .vnfd_versions
                                        .iter()
                                        .any(|wanted| is(&status.vnfd_version, wanted)))
                        }))
            }))
}

#[cfg(test)]
mod tests {
    use drystone_api::nfv::{VnfInstanceSpec, VnfLcmOperationSpec};
    use serde_json::json;

    use super::*;

    fn events() -> Vec<Event> {
        let spec = VnfInstanceSpec {
            vnfd_id: "d".to_owned(),
            vnf_instance_name: Some("n".to_owned()),
            ..VnfInstanceSpec::default()
        };
        let mut instance = VnfInstance::new("i", spec);
        instance.metadata.uid = Some("I".to_owned());
        instance.status = serde_json::from_value(
            json!({"vnfProvider": "P", "vnfProductName": "N", "vnfSoftwareVersion": "1"}),
        )
        .ok();
        let instance = Arc::new(instance);
        let mut operation = VnfLcmOperation::new("o", VnfLcmOperationSpec::default());
        operation.metadata.uid = Some("O".to_owned());
        operation.status = serde_json::from_value(json!({"transitions": [
            {"sequence": 1, "state": "STARTING", "time": "2026-01-01T00:00:02.000000Z"},
            {"sequence": 2, "state": "PROCESSING", "time": "2026-01-01T00:00:01.000000Z"}]}))
        .ok();
        let mut events = of_operation(&Arc::new(operation), "I", Some(&instance));
        events.extend(of_instance(&instance));
        events
    }

    #[test]
    fn changes_come_in_order_even_if_the_clock_was_set_back() {
        let events = events();
        assert_eq!(events.len(), 3);
        assert!(events[0].key < events[1].key);
    }

    #[test]
    fn the_end_of_an_instance_comes_after_what_was_done_with_it_in_the_same_second() {
        let mut instance = VnfInstance::new("i", VnfInstanceSpec::default());
        instance.metadata = serde_json::from_value(json!({"name": "i", "uid": "I",
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-01T00:00:02Z"}))
        .unwrap();
        let mut operation = VnfLcmOperation::new("o", VnfLcmOperationSpec::default());
        operation.metadata.uid = Some("O".to_owned());
        operation.status = serde_json::from_value(json!({"transitions": [
            {"sequence": 1, "state": "COMPLETED", "time": "2026-01-01T00:00:02.900000Z"}]}))
        .ok();
        let instance = Arc::new(instance);
        let completed = of_operation(&Arc::new(operation), "I", Some(&instance)).remove(0);
        let told = of_instance(&instance);
        assert!(told[0].key < completed.key && completed.key < told[1].key, "{told:?}");
    }

    #[test]
    fn members_of_a_filter_are_joined_by_and_their_values_by_or() {
        let wanted = |filter: serde_json::Value| {
            let filter = serde_json::from_value(filter).unwrap();
            events().iter().filter(|event| wants(Some(&filter), event)).count()
        };
        assert_eq!(wanted(json!({})), 3);
        assert_eq!(wanted(json!({"notificationTypes": ["VnfLcmOperationOccurrenceNotification"]})), 2);
        assert_eq!(
            wanted(json!({"operationStates": ["PROCESSING", "FAILED"], "operationTypes": ["INSTANTIATE"]})),
            2
        );
        assert_eq!(wanted(json!({"operationTypes": ["HEAL"]})), 1);
        let of = |instance: serde_json::Value| wanted(json!({"vnfInstanceSubscriptionFilter": instance}));
        assert_eq!(of(json!({"vnfdIds": ["x", "d"], "vnfInstanceNames": ["n"]})), 3);
        assert_eq!(of(json!({"vnfdIds": ["x"], "vnfInstanceNames": ["n"]})), 0);
        assert_eq!(of(json!({"vnfInstanceIds": ["I"]})), 3);
        let product = |version: &str| {
            json!({"vnfProductsFromProviders": [{"vnfProvider": "P", "vnfProducts": [
            {"vnfProductName": "N", "versions": [{"vnfSoftwareVersion": version}]}]}]})
        };
        assert_eq!(of(product("1")), 3);
        assert_eq!(of(product("2")), 0);
    }
}
