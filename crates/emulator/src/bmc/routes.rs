//! What a BMC serves.

use std::sync::OnceLock;

use drystone_redfish::server::{EventService, Privilege, Route, RouteTable, ServiceDocuments, SessionStore};

use crate::faults::Faults;

/// The routes of every BMC: one table for all, however many there are.
pub(super) fn table() -> &'static RouteTable {
    static TABLE: OnceLock<RouteTable> = OnceLock::new();
    TABLE.get_or_init(build)
}

fn build() -> RouteTable {
    const COMPONENTS: &[Privilege] = &[Privilege::ConfigureComponents];
    const MANAGER: &[Privilege] = &[Privilege::ConfigureManager];
    let own = [
        Route::new("/redfish/v1/Systems").get(),
        Route::new("/redfish/v1/Systems/1").get().patch(COMPONENTS),
        Route::new("/redfish/v1/Systems/1/Actions/ComputerSystem.Reset").post(COMPONENTS),
        Route::new("/redfish/v1/Systems/1/Processors").get(),
        Route::new("/redfish/v1/Systems/1/Processors/{processor}").get(),
        Route::new("/redfish/v1/Systems/1/Memory").get(),
        Route::new("/redfish/v1/Systems/1/Memory/{module}").get(),
        Route::new("/redfish/v1/Systems/1/Storage").get(),
        Route::new("/redfish/v1/Systems/1/Storage/1").get(),
        Route::new("/redfish/v1/Systems/1/Storage/1/Drives/{drive}").get(),
        Route::new("/redfish/v1/Systems/1/Storage/1/Drives/{drive}/Actions/Drive.SecureErase")
            .post(COMPONENTS),
        Route::new("/redfish/v1/Systems/1/EthernetInterfaces").get(),
        Route::new("/redfish/v1/Systems/1/EthernetInterfaces/{interface}").get(),
        Route::new("/redfish/v1/Chassis").get(),
        Route::new("/redfish/v1/Chassis/1").get(),
        Route::new("/redfish/v1/Chassis/1/EnvironmentMetrics").get(),
        Route::new("/redfish/v1/Managers").get(),
        Route::new("/redfish/v1/Managers/1").get(),
        Route::new("/redfish/v1/Managers/1/Actions/Manager.Reset").post(MANAGER),
        Route::new("/redfish/v1/Managers/1/VirtualMedia").get(),
        Route::new("/redfish/v1/Managers/1/VirtualMedia/Cd").get().patch(MANAGER),
        Route::new("/redfish/v1/Managers/1/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia").post(MANAGER),
        Route::new("/redfish/v1/Managers/1/VirtualMedia/Cd/Actions/VirtualMedia.EjectMedia").post(MANAGER),
    ];
    RouteTable::new(own)
        .with(ServiceDocuments::routes())
        .with(SessionStore::routes())
        .with(super::account::routes())
        .with(EventService::routes())
        .with(Faults::routes())
}
