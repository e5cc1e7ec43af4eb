//! Messages of the registries that events are of: `ResourceEvent`, `Fabric`, `TaskEvent`.

pub use fabric::FABRIC;
pub use resource::RESOURCE_EVENT;
pub use task::TASK_EVENT;

/// Registry `ResourceEvent`: what happened to a resource of any kind.
pub mod resource {
    use super::super::{Message, messages};

    messages! { RESOURCE_EVENT, "ResourceEvent.1.4" {
        /// It was created.
        resource_created()
            => "ResourceCreated", OK, "The resource was created.", "None.";
        /// It was removed.
        resource_removed()
            => "ResourceRemoved", OK, "The resource was removed.", "None.";
        /// Its properties changed.
        resource_changed()
            => "ResourceChanged", OK, "Properties of the resource changed.", "None.";
        /// Its state changed.
        resource_state_changed(resource, state)
            => "ResourceStateChanged", OK, "The state of %1 is now %2.", "None.";
        /// It was switched on.
        resource_powered_on(resource)
            => "ResourcePoweredOn", OK, "%1 was switched on.", "None.";
        /// It was switched off.
        resource_powered_off(resource)
            => "ResourcePoweredOff", OK, "%1 was switched off.", "None.";
        /// A service to aggregate was found.
        aggregation_source_discovered(method, address)
            => "AggregationSourceDiscovered", OK, "A service that is reached by %1 was found at %2.", "None.";
        /// A test.
        test_message()
            => "TestMessage", OK, "This is a test.", "None.";
    }}
}

/// Registry `Fabric`: what happened in a fabric.
pub mod fabric {
    use super::super::{Message, messages};

    messages! { FABRIC, "Fabric.1.0" {
        /// A zone was created.
        zone_created(zone, fabric)
            => "ZoneCreated", OK, "The zone %1 of the fabric %2 was created.", "None.";
        /// A zone was removed.
        zone_removed(zone, fabric)
            => "ZoneRemoved", OK, "The zone %1 of the fabric %2 was removed.", "None.";
        /// A zone was changed.
        zone_modified(zone, fabric)
            => "ZoneModified", OK, "The zone %1 of the fabric %2 was changed.", "None.";
        /// An endpoint was created.
        endpoint_created(endpoint, fabric)
            => "EndpointCreated", OK, "The endpoint %1 of the fabric %2 was created.", "None.";
        /// An endpoint was removed.
        endpoint_removed(endpoint, fabric)
            => "EndpointRemoved", OK, "The endpoint %1 of the fabric %2 was removed.", "None.";
        /// An endpoint was changed.
        endpoint_modified(endpoint, fabric)
            => "EndpointModified", OK, "The endpoint %1 of the fabric %2 was changed.", "None.";
        /// A connection was created.
        connection_created(connection, fabric)
            => "ConnectionCreated", OK, "The connection %1 of the fabric %2 was created.", "None.";
        /// A connection was removed.
        connection_removed(connection, fabric)
            => "ConnectionRemoved", OK, "The connection %1 of the fabric %2 was removed.", "None.";
        /// A connection was changed.
        connection_modified(connection, fabric)
            => "ConnectionModified", OK, "The connection %1 of the fabric %2 was changed.", "None.";
        /// An address pool was created.
        address_pool_created(pool, fabric)
            => "AddressPoolCreated", OK, "The address pool %1 of the fabric %2 was created.", "None.";
        /// An address pool was removed.
        address_pool_removed(pool, fabric)
            => "AddressPoolRemoved", OK, "The address pool %1 of the fabric %2 was removed.", "None.";
        /// An address pool was changed.
        address_pool_modified(pool, fabric)
            => "AddressPoolModified", OK, "The address pool %1 of the fabric %2 was changed.", "None.";
    }}
}

/// Registry `TaskEvent`: what happened to a task.
pub mod task {
    use super::super::{Message, messages};

    messages! { TASK_EVENT, "TaskEvent.1.0" {
        /// It was started.
        task_started(task)
            => "TaskStarted", OK, "The task %1 was started.", "None.";
        /// It is done.
        task_completed_ok(task)
            => "TaskCompletedOK", OK, "The task %1 is done.", "None.";
        /// It failed.
        task_aborted(task)
            => "TaskAborted", Critical, "The task %1 failed.", "Look at the task's messages.";
        /// It was cancelled.
        task_cancelled(task)
            => "TaskCancelled", Warning, "The task %1 was cancelled.", "None.";
        /// It came further.
        task_progress_changed(task, percent)
            => "TaskProgressChanged", OK, "The task %1 is done to %2 per cent.", "None.";
    }}
}
