//! The BMC itself and its virtual drive.

use std::time::Instant;

use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Parameters, Properties, Reply, RequestBody},
    types::{Link, Manager, PowerState, Status, VirtualMedia},
};
use serde_json::{Value, json};

use super::{Bmc, CD, CHASSIS, MANAGER, SYSTEM, VIRTUAL_MEDIA, body, failed, system::is_http};
use crate::hardware::{Change, InsertedMedium};

const INSERT: &str = "VirtualMedia.InsertMedia";
const EJECT: &str = "VirtualMedia.EjectMedia";

impl Bmc {
    /// The BMC.
    pub(super) fn manager(&self) -> Result<Value, ServiceError> {
        let mut manager = Manager::at(MANAGER, &format!("BMC of {}", self.hardware.spec().name));
        manager.manager_type = Some("BMC".to_owned());
        manager.uuid = Some(self.uuid().to_string());
        manager.firmware_version = Some(env!("CARGO_PKG_VERSION").to_owned());
        manager.model = Some("Emulated BMC".to_owned());
        manager.power_state = Some(PowerState::On);
        manager.virtual_media = Some(Link::to(VIRTUAL_MEDIA));
        manager.links.manager_for_servers = vec![Link::to(SYSTEM)];
        manager.links.manager_for_chassis = vec![Link::to(CHASSIS)];
        manager.status = Status::healthy("Enabled");
        let reset = json!({"target": format!("{MANAGER}/Actions/Manager.Reset"),
            "ResetType@Redfish.AllowableValues": ["GracefulRestart", "ForceRestart"]});
        manager.actions.insert("#Manager.Reset".to_owned(), reset);
        manager.actions.insert("Oem".to_owned(), self.faults.actions());
        manager.oem.insert("Drystone".to_owned(), self.faults.shown(Instant::now()));
        body(&manager)
    }

    /// `Manager.Reset`: the BMC starts anew, which ends its sessions; the system goes on.
    pub(super) fn reset_manager(&self, request: RequestBody) -> Result<Reply, ServiceError> {
        let mut parameters = Parameters::action("Manager.Reset", request.into_object());
        parameters.choice("ResetType", &["GracefulRestart", "ForceRestart"]);
        parameters.finish()?;
        self.sessions.close_all();
        Ok(Reply::no_content())
    }

    /// The virtual drive.
    pub(super) fn virtual_media(&self) -> Result<Value, ServiceError> {
        let record = self.hardware.situation().record;
        let mut media = VirtualMedia::at(CD, "Virtual CD");
        media.media_types = vec!["CD".to_owned(), "DVD".to_owned()];
        media.inserted = Some(record.medium.is_some());
        media.verify_certificate = Some(record.verify_certificate);
        media.connected_via = Some(if record.medium.is_some() { "URI" } else { "NotConnected" }.to_owned());
        if let Some(medium) = &record.medium {
            media.image = Some(medium.url.clone());
            media.image_name = medium.url.rsplit('/').next().map(str::to_owned);
            media.write_protected = Some(medium.write_protected);
            media.transfer_method = Some("Stream".to_owned());
        }
        media.status = Status::healthy("Enabled");
        for action in [INSERT, EJECT] {
            media.actions.insert(format!("#{action}"), json!({"target": format!("{CD}/Actions/{action}")}));
        }
        let mut shown = body(&media)?;
        if let (Value::Object(map), None) = (&mut shown, &record.medium) {
            // Clients look at it to see that the drive is empty.
            map.insert("Image".to_owned(), Value::Null);
        }
        Ok(shown)
    }

    /// PATCH of the virtual drive: whether certificates are checked.
    pub(super) async fn change_virtual_media(&self, request: RequestBody) -> Result<Reply, ServiceError> {
        let mut properties = Properties::update(request.required()?);
        let verify = properties.boolean("VerifyCertificate");
        properties.read_only(&[
            "Image",
            "ImageName",
            "Inserted",
            "WriteProtected",
            "ConnectedVia",
            "MediaTypes",
            "TransferMethod",
            "TransferProtocolType",
            "Status",
            "Actions",
        ]);
        properties.finish()?;
        let change = |record: &mut crate::hardware::HostRecord| {
            record.verify_certificate = verify.unwrap_or(record.verify_certificate);
        };
        self.hardware.change(Change::Medium, change).await.map_err(|error| failed(&error))?;
        Ok(Reply::updated(self.virtual_media()?))
    }

    /// `VirtualMedia.InsertMedia`. The image is fetched when the system boots it.
    pub(super) async fn insert_medium(&self, request: RequestBody) -> Result<Reply, ServiceError> {
        let mut parameters = Parameters::action(INSERT, request.into_object());
        let image = parameters.required_string("Image").unwrap_or_default();
        if !image.is_empty() && !is_http(&image) {
            parameters.format_error::<()>("Image", &image);
        }
        let inserted = parameters.boolean("Inserted");
        if inserted == Some(false) {
            parameters.reject(message::action_parameter_value_conflict("Inserted", "false"));
        }
        let write_protected = parameters.boolean("WriteProtected").unwrap_or(true);
        let user = parameters.nullable_string("UserName").flatten();
        let password = parameters.nullable_string("Password").flatten();
        parameters.choice("TransferMethod", &["Stream"]);
        parameters.choice("TransferProtocolType", &["HTTP", "HTTPS"]);
        parameters.choice("MediaType", &["CD", "DVD"]);
        parameters.finish()?;
        let credentials = user.map(|user| (user, password.unwrap_or_default()));
        let medium = InsertedMedium { url: image, credentials, write_protected };
        match self.hardware.situation().record.medium {
            Some(present) if present == medium => return Ok(Reply::no_operation()),
            Some(_) => return Err(ServiceError::conflict(message::resource_in_use())),
            None => {}
        }
        let change = |record: &mut crate::hardware::HostRecord| record.medium = Some(medium);
        self.hardware.change(Change::Medium, change).await.map_err(|error| failed(&error))?;
        Ok(Reply::no_content())
    }

    /// `VirtualMedia.EjectMedia`.
    pub(super) async fn eject_medium(&self, request: RequestBody) -> Result<Reply, ServiceError> {
        Parameters::action(EJECT, request.into_object()).finish()?;
        if self.hardware.situation().record.medium.is_none() {
            return Ok(Reply::no_operation());
        }
        self.hardware
            .change(Change::Medium, |record| record.medium = None)
            .await
            .map_err(|error| failed(&error))?;
        self.hardware.drop_medium();
        Ok(Reply::no_content())
    }
}
