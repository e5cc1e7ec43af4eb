//! What a fabric service serves. An agent takes zones, connections and attachments; a switch only shows that it has none.

use drystone_redfish::server::{
    AccountService, EventService, Privilege, Route, RouteTable, ServiceDocuments, SessionStore,
};

use crate::faults::Faults;

const COMPONENTS: &[Privilege] = &[Privilege::ConfigureComponents];

/// The routes of a service.
pub(super) fn table(agent: bool) -> RouteTable {
    let own = [
        Route::new("/redfish/v1/Fabrics").get(),
        Route::new("/redfish/v1/Fabrics/{fabric}").get(),
        Route::new("/redfish/v1/Fabrics/{fabric}/Switches").get(),
        Route::new("/redfish/v1/Fabrics/{fabric}/Switches/{switch}").get(),
        Route::new("/redfish/v1/Fabrics/{fabric}/Switches/{switch}/Ports").get(),
        Route::new("/redfish/v1/Fabrics/{fabric}/Switches/{switch}/Ports/{port}").get().patch(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Switches/{switch}/Oem/Drystone/ForwardingTable")
            .get()
            .patch(COMPONENTS)
            .if_match_required(),
        Route::new(
            "/redfish/v1/Fabrics/{fabric}/Switches/{switch}/Oem/Drystone/ForwardingTable/Zones/{zone}",
        )
        .get()
        .put(COMPONENTS)
        .delete(COMPONENTS)
        .if_match_required(),
        Route::new("/redfish/v1/Fabrics/{fabric}/Endpoints").get(),
        Route::new("/redfish/v1/Fabrics/{fabric}/Endpoints/{endpoint}").get(),
        Route::new("/redfish/v1/Fabrics/{fabric}/AddressPools").get(),
        Route::new("/redfish/v1/Managers").get(),
        Route::new("/redfish/v1/Managers/1").get(),
        Route::new("/redfish/v1/EventService/SSE").get(),
    ];
    let table = RouteTable::new(own)
        .with(ServiceDocuments::routes())
        .with(SessionStore::routes())
        .with(AccountService::routes())
        .with(EventService::routes())
        .with(Faults::routes());
    if agent { table.with(agent_routes()) } else { table.with(switch_routes()) }
}

fn switch_routes() -> [Route; 2] {
    [
        Route::new("/redfish/v1/Fabrics/{fabric}/Zones").get(),
        Route::new("/redfish/v1/Fabrics/{fabric}/Connections").get(),
    ]
}

fn agent_routes() -> [Route; 16] {
    [
        Route::new("/redfish/v1/Fabrics/{fabric}/Zones").get().post(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Zones/{zone}").get().patch(COMPONENTS).delete(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Zones/{zone}/Actions/Zone.AddEndpoint").post(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Zones/{zone}/Actions/Zone.RemoveEndpoint").post(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Connections").get().post(COMPONENTS),
        Route::new("/redfish/v1/Fabrics/{fabric}/Connections/{connection}").get().delete(COMPONENTS),
        Route::new("/redfish/v1/Systems").get(),
        Route::new("/redfish/v1/Systems/{system}").get(),
        Route::new("/redfish/v1/Systems/{system}/Actions/ComputerSystem.AddResourceBlock").post(COMPONENTS),
        Route::new("/redfish/v1/Systems/{system}/Actions/ComputerSystem.RemoveResourceBlock")
            .post(COMPONENTS),
        Route::new("/redfish/v1/Chassis").get(),
        Route::new("/redfish/v1/Chassis/{chassis}").get(),
        Route::new("/redfish/v1/CompositionService").get(),
        Route::new("/redfish/v1/CompositionService/ResourceBlocks").get(),
        Route::new("/redfish/v1/CompositionService/ResourceBlocks/{block}").get(),
        Route::new("/redfish/v1/CompositionService/ResourceBlocks/{block}/{room}/{device}").get(),
    ]
}
