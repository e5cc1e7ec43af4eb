//! Which URIs take which methods with which privileges (privilege registry 1.8.0). Whatever else the tree has can be read.

use drystone_redfish::server::{EventService, Privilege, Route, RouteTable, SessionStore};

use crate::accounts;

const COMPONENTS: &[Privilege] = &[Privilege::ConfigureComponents];
const MANAGER: &[Privilege] = &[Privilege::ConfigureManager];

/// All routes.
pub(super) fn table() -> RouteTable {
    RouteTable::new([
        Route::new("/redfish").get_open(),
        Route::new("/redfish/v1").get_open(),
        Route::new("/redfish/v1/odata").get_open(),
        Route::new("/redfish/v1/$metadata").get_open(),
        Route::new("/redfish/v1/openapi.yaml").get_open(),
        Route::new("/redfish/v1/EventService/SSE").get(),
        Route::new("/redfish/v1/AggregationService/AggregationSources").get().post(MANAGER),
        Route::new("/redfish/v1/AggregationService/AggregationSources/{source}")
            .get()
            .patch(MANAGER)
            .delete(MANAGER),
        Route::new("/redfish/v1/AggregationService/Actions/AggregationService.Reset").post(MANAGER),
        Route::new("/redfish/v1/AggregationService/Aggregates").get().post(COMPONENTS),
        Route::new("/redfish/v1/AggregationService/Aggregates/{aggregate}").get().delete(COMPONENTS),
        Route::new("/redfish/v1/AggregationService/Aggregates/{aggregate}/Actions/Aggregate.AddElements")
            .post(COMPONENTS),
        Route::new("/redfish/v1/AggregationService/Aggregates/{aggregate}/Actions/Aggregate.RemoveElements")
            .post(COMPONENTS),
        Route::new("/redfish/v1/AggregationService/Aggregates/{aggregate}/Actions/Aggregate.Reset")
            .post(COMPONENTS),
        Route::new("/redfish/v1/TaskService/Tasks/{task}").get().delete(MANAGER),
        Route::new("/redfish/v1/TaskService/TaskMonitors/{monitor}").get().delete(MANAGER),
        Route::new("/redfish/v1/CompositionService/Actions/CompositionService.Compose").post(MANAGER),
        Route::new("/redfish/v1/CompositionService/CompositionReservations/{reservation}")
            .get()
            .delete(MANAGER),
        Route::new("/redfish/v1/Systems").get().post(COMPONENTS),
        Route::new("/redfish/v1/Systems/{system}").get().patch(COMPONENTS).delete(COMPONENTS),
        Route::new("/redfish/v1/Systems/{system}/Actions/ComputerSystem.Reset").post(COMPONENTS),
        Route::new("/redfish/v1/Systems/{system}/Actions/ComputerSystem.AddResourceBlock").post(COMPONENTS),
        Route::new("/redfish/v1/Systems/{system}/Actions/ComputerSystem.RemoveResourceBlock")
            .post(COMPONENTS),
    ])
    .with(fabric())
    .with(agents())
    .with(SessionStore::routes())
    .with(accounts::routes())
    .with(EventService::routes())
    .readable_below_root()
}

fn fabric() -> [Route; 10] {
    [
        Route::new("/redfish/v1/Fabrics/{fabric}/Zones").get().post(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Zones/{zone}").get().patch(COMPONENTS).delete(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Zones/{zone}/Actions/Zone.AddEndpoint").post(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Zones/{zone}/Actions/Zone.RemoveEndpoint").post(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Connections").get().post(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Connections/{connection}")
            .get()
            .patch(COMPONENTS)
            .delete(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/EndpointGroups").get().post(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/EndpointGroups/{group}")
            .get()
            .patch(COMPONENTS)
            .delete(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/AddressPools").get().post(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/AddressPools/{pool}")
            .get()
            .patch(COMPONENTS)
            .delete(COMPONENTS),
    ]
}

/// What only agents carry out, and where they announce themselves.
fn agents() -> [Route; 14] {
    let changed = |pattern| Route::new(pattern).get().patch(COMPONENTS);
    let made = |pattern| Route::new(pattern).get().post(COMPONENTS);
    let whole = |pattern| Route::new(pattern).get().patch(COMPONENTS).delete(COMPONENTS);
    [
        Route::new(crate::agents::EVENT_LISTENER).post_open(),
        changed("/redfish/v1/Fabrics/{fabric}/Switches/{switch}"),
        changed("/redfish/v1/Fabrics/{fabric}/Switches/{switch}/Ports/{port}"),
        made("/redfish/v1/Fabrics/{fabric}/Endpoints"),
        whole("/redfish/v1/Fabrics/{fabric}/Endpoints/{endpoint}"),
        changed("/redfish/v1/Chassis/{chassis}"),
        made("/redfish/v1/Chassis/{chassis}/MemoryDomains/{domain}/MemoryChunks"),
        whole("/redfish/v1/Chassis/{chassis}/MemoryDomains/{domain}/MemoryChunks/{chunk}"),
        made("/redfish/v1/Systems/{system}/MemoryDomains/{domain}/MemoryChunks"),
        whole("/redfish/v1/Systems/{system}/MemoryDomains/{domain}/MemoryChunks/{chunk}"),
        made("/redfish/v1/Systems/{system}/Storage/{storage}/Volumes"),
        whole("/redfish/v1/Systems/{system}/Storage/{storage}/Volumes/{volume}"),
        made("/redfish/v1/Storage/{storage}/Volumes"),
        whole("/redfish/v1/Storage/{storage}/Volumes/{volume}"),
    ]
}
