//! The baseboard management controller of a host: a Redfish service over its [`Hardware`].
//!
//! [`routes`] lists what it serves; [`inventory`] shows what the host is made of, [`system`] and [`manager`] what it does
//! and how that is changed, [`account`] who may do that.

mod account;
mod inventory;
mod manager;
mod routes;
mod system;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use axum::body::Body;
use drystone_redfish::{
    error::ServiceError,
    server::{
        EventService, Happening, Principal, RedfishService, Reply, RouteTable, ServiceDocuments,
        SessionStore, Target, WriteRequest, dispatch,
    },
    types::{self, Collection},
};
use http::{Request, Response};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    credentials::Credentials,
    faults::{self, Faults},
    hardware::{Change, Hardware, HardwareError},
    listener::Emulated,
};

pub(crate) use inventory::{drive, gpu, module};

/// The system.
pub(crate) const SYSTEM: &str = "/redfish/v1/Systems/1";
/// Its case.
const CHASSIS: &str = "/redfish/v1/Chassis/1";
/// The virtual drive.
const VIRTUAL_MEDIA: &str = "/redfish/v1/Managers/1/VirtualMedia";
const CD: &str = "/redfish/v1/Managers/1/VirtualMedia/Cd";

/// A BMC.
pub struct Bmc {
    hardware: Arc<Hardware>,
    credentials: Arc<Credentials>,
    faults: Faults,
    sessions: SessionStore,
    events: EventService,
    gate: tokio::sync::Mutex<()>,
}

impl Bmc {
    /// The BMC of a host. Must be called inside a Tokio runtime.
    pub fn new(hardware: Arc<Hardware>, credentials: Arc<Credentials>) -> Arc<Self> {
        let bmc = Arc::new(Self {
            faults: Faults::new(faults::Subject::Bmc, &hardware.spec().faults, Instant::now()),
            credentials,
            sessions: SessionStore::default(),
            events: EventService::default(),
            gate: tokio::sync::Mutex::default(),
            hardware,
        });
        bmc.events.restore(bmc.hardware.situation().record.subscriptions);
        // The hardware outlives no BMC and must not keep it alive.
        let weak: Weak<Self> = Arc::downgrade(&bmc);
        bmc.hardware.listen(move |change| {
            if let Some(bmc) = weak.upgrade() {
                bmc.tell(change);
            }
        });
        bmc
    }

    /// The hardware that it manages.
    pub fn hardware(&self) -> &Arc<Hardware> {
        &self.hardware
    }

    fn tell(&self, change: Change) {
        let happening = match change {
            Change::PoweredOn => resource_event(
                "ResourcePoweredOn",
                "The resource %1 is powered on.",
                SYSTEM,
                "ComputerSystem",
            ),
            Change::PoweredOff => resource_event(
                "ResourcePoweredOff",
                "The resource %1 is powered off.",
                SYSTEM,
                "ComputerSystem",
            ),
            Change::System => changed(SYSTEM, "ComputerSystem"),
            Change::Medium => changed(CD, "VirtualMedia"),
            Change::Account => {
                let uri = format!("/redfish/v1/AccountService/Accounts/{}", self.credentials.user);
                changed(&uri, "ManagerAccount")
            }
        };
        self.events.publish(&happening);
    }

    fn documents(&self) -> ServiceDocuments {
        ServiceDocuments {
            uuid: self.uuid().to_string(),
            product: "Drystone emulated BMC".to_owned(),
            rooms: vec![
                ("Systems", "/redfish/v1/Systems"),
                ("Chassis", "/redfish/v1/Chassis"),
                ("Managers", "/redfish/v1/Managers"),
                ("SessionService", "/redfish/v1/SessionService"),
                ("AccountService", "/redfish/v1/AccountService"),
                ("EventService", "/redfish/v1/EventService"),
            ],
            types: vec![
                types::ServiceRoot::TYPE,
                types::ComputerSystem::TYPE,
                types::Processor::TYPE,
                types::Memory::TYPE,
                types::Storage::TYPE,
                types::Drive::TYPE,
                types::EthernetInterface::TYPE,
                types::Chassis::TYPE,
                types::Manager::TYPE,
                types::VirtualMedia::TYPE,
                types::Session::TYPE,
                types::EventDestination::TYPE,
            ],
        }
    }

    /// UUID of the BMC itself.
    fn uuid(&self) -> Uuid {
        Uuid::new_v5(&self.hardware.spec().uuid, b"bmc")
    }
}

/// `ResourceChanged` for a resource.
pub(crate) fn changed(uri: &str, resource_type: &'static str) -> Happening {
    Happening::resource("ResourceChanged", "One or more properties have changed.", &[], uri, resource_type)
}

fn resource_event(key: &str, text: &str, uri: &str, resource_type: &'static str) -> Happening {
    Happening::resource(key, text, &[uri], uri, resource_type)
}

/// The body of a resource.
pub(crate) fn body<T: Serialize>(resource: &T) -> Result<Value, ServiceError> {
    types::to_body(resource).map_err(|error| ServiceError::internal(&error))
}

/// The body of a collection.
pub(crate) fn collection(
    schema: &str,
    uri: &str,
    ids: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<Value, ServiceError> {
    body(&Collection::of(schema, uri, ids))
}

/// What hardware that failed means to the caller. A conflict is the caller's business and is told by whoever knows the
/// parameter.
fn failed(error: &HardwareError) -> ServiceError {
    ServiceError::internal(error)
}

impl Emulated for Bmc {
    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn died(&self) {
        self.sessions.close_all();
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        dispatch(self, request).await
    }
}

impl RedfishService for Bmc {
    fn routes(&self) -> &RouteTable {
        routes::table()
    }

    fn sessions(&self) -> &SessionStore {
        &self.sessions
    }

    async fn verify_password(&self, user: &str, password: &str) -> Option<Principal> {
        self.verify(user, password)
    }

    async fn read(&self, target: &Target<'_>) -> Result<Value, ServiceError> {
        match target.segments() {
            segments @ ["SessionService", ..] => self.sessions.read(segments),
            segments @ ["AccountService", ..] => self.accounts().read(segments),
            segments @ ["EventService", ..] => self.events.read(segments),
            ["Systems"] => collection("ComputerSystem", "/redfish/v1/Systems", ["1"]),
            ["Systems", "1"] => self.system(),
            ["Systems", "1", rest @ ..] => inventory::read(self.hardware.spec(), self.hardware.is_on(), rest)
                .unwrap_or_else(|| Err(ServiceError::not_found(target.uri))),
            ["Chassis"] => collection("Chassis", "/redfish/v1/Chassis", ["1"]),
            ["Chassis", "1"] => self.chassis(),
            ["Chassis", "1", "EnvironmentMetrics"] => Ok(self.environment()),
            ["Managers"] => collection("Manager", "/redfish/v1/Managers", ["1"]),
            ["Managers", "1"] => self.manager(),
            ["Managers", "1", "VirtualMedia"] => collection("VirtualMedia", VIRTUAL_MEDIA, ["Cd"]),
            ["Managers", "1", "VirtualMedia", "Cd"] => self.virtual_media(),
            segments => self.documents().read(segments),
        }
    }

    async fn write(&self, request: WriteRequest<'_>) -> Result<Reply, ServiceError> {
        let uri = request.target.uri.to_owned();
        let segments: Vec<&str> = request.target.segments().to_vec();
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["SessionService", "Sessions"]) => {
                let verify = |user: String, password: String| async move { self.verify(&user, &password) };
                self.sessions.log_in(request, verify).await
            }
            (_, ["SessionService", ..]) => self.sessions.write(request),
            (_, ["EventService", ..]) => {
                let before = self.events.saved();
                let reply = self.events.write(request)?;
                if let Err(error) = self.hardware.keep_subscriptions(self.events.saved()).await {
                    self.events.restore(before);
                    return Err(failed(&error));
                }
                Ok(reply)
            }
            ("PATCH", ["AccountService", "Accounts", user]) => {
                self.change_account(user, &uri, request.body).await
            }
            ("PATCH", ["Systems", "1"]) => self.change_system(request.body).await,
            ("POST", ["Systems", "1", "Actions", _]) => self.reset_system(request.body).await,
            ("POST", ["Systems", "1", "Storage", "1", "Drives", drive, "Actions", _]) => {
                self.erase_drive(drive, &uri, request.body).await
            }
            ("POST", ["Managers", "1", "Actions", "Oem", action]) => {
                self.faults.act(action, request.body, Instant::now())?;
                Ok(Reply::no_content())
            }
            ("POST", ["Managers", "1", "Actions", _]) => self.reset_manager(request.body),
            ("PATCH", ["Managers", "1", "VirtualMedia", "Cd"]) => {
                self.change_virtual_media(request.body).await
            }
            ("POST", ["Managers", "1", "VirtualMedia", "Cd", "Actions", "VirtualMedia.InsertMedia"]) => {
                self.insert_medium(request.body).await
            }
            ("POST", ["Managers", "1", "VirtualMedia", "Cd", "Actions", _]) => {
                self.eject_medium(request.body).await
            }
            _ => Err(ServiceError::not_found(&uri)),
        }
    }

    fn write_gate(&self, _target: &Target<'_>) -> Option<&tokio::sync::Mutex<()>> {
        Some(&self.gate)
    }
}

/// The manager is where faults are set.
const MANAGER: &str = faults::MANAGER;
