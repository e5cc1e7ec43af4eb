//! Faults of switches and cables, set and ended by the actions of a service's manager or by the site file.

use std::time::Instant;

use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Reply, RequestBody},
};
use serde_json::{Value, json};

use super::{
    FabricService,
    links::{Change, LinkError},
    links_failed,
};
use crate::{
    faults::{self, Acted},
    site::{Cable, FaultKind, FaultSpec},
};

impl FabricService {
    /// Carries out `SetFault` or `ClearFaults`.
    pub(super) async fn fault_action(&self, action: &str, body: RequestBody) -> Result<Reply, ServiceError> {
        match self.faults.act(action, body, Instant::now())? {
            Acted::Set => {}
            Acted::Cleared(cleared) => {
                let ended: Vec<Change> = self
                    .cabling_faults_now()
                    .into_iter()
                    .filter(|(spec, _)| cleared.covers(spec))
                    .map(|(_, change)| change.undone())
                    .collect();
                self.links.apply(&ended).await.map_err(|error| links_failed(&error, faults::MANAGER))?;
            }
            Acted::Cabling(spec) => {
                let change = self.change_of(&spec)?;
                self.links.apply(&[change]).await.map_err(|error| links_failed(&error, faults::MANAGER))?;
                if let Some(after) = spec.until {
                    self.links.undo_later(change, after);
                }
            }
        }
        Ok(Reply::no_content())
    }

    /// Faults of switches and cables that there are among what the service stands for.
    fn cabling_faults_now(&self) -> Vec<(FaultSpec, Change)> {
        let mut found = Vec::new();
        for change in self.links.faults() {
            let (kind, switch, port) = match change {
                Change::Cut(at, _) => (FaultKind::LinkDown, at.0, Some(at)),
                Change::Unplugged(at, _) => (FaultKind::Unplugged, at.0, Some(at)),
                Change::Dark(switch, _) => (FaultKind::SwitchDown, switch, None),
                Change::Enabled(..) => continue,
            };
            if self.shown.contains(&(switch as usize)) {
                let spec = FaultSpec {
                    switch: self.links.switch(switch).map(|spec| spec.name.to_string()),
                    port: port.and_then(|at| self.links.port(at)).map(|spec| spec.name.to_string()),
                    ..FaultSpec::new(kind)
                };
                found.push((spec, change));
            }
        }
        found
    }

    /// What the manager shows of all faults.
    pub(super) fn shown_faults(&self) -> Value {
        let mut shown = self.faults.shown(Instant::now());
        let cabling = self.cabling_faults_now().into_iter().map(
            |(spec, _)| json!({"Kind": faults::name_of(spec.kind), "Switch": spec.switch, "Port": spec.port}),
        );
        if let Some(list) = shown["Faults"].as_array_mut() {
            list.extend(cabling);
        }
        shown
    }

    /// What a fault does to the fabric. A switch that speaks for itself need not be named.
    fn change_of(&self, spec: &FaultSpec) -> Result<Change, ServiceError> {
        let own = (!self.is_agent()).then_some(self.name.as_str());
        let Some(name) = spec.switch.as_deref().or(own) else {
            return Err(ServiceError::bad_request(message::action_parameter_missing(
                "DrystoneManager.SetFault",
                "Switch",
            )));
        };
        let unknown = |name: &str, parameter: &str| {
            ServiceError::bad_request(message::action_parameter_value_not_in_list(
                name,
                parameter,
                "DrystoneManager.SetFault",
            ))
        };
        let switch = self.switch_at(name).ok_or_else(|| unknown(name, "Switch"))?;
        if spec.kind == FaultKind::SwitchDown {
            return Ok(Change::Dark(switch, true));
        }
        let port = spec.port.as_deref().unwrap_or_default();
        let at = self.links.port_at(name, port).ok_or_else(|| unknown(port, "Port"))?;
        match self.links.port(at).map(|port| &port.cable) {
            None | Some(Cable::Unplugged) => Err(unknown(port, "Port")),
            Some(Cable::Switch { .. }) if spec.kind == FaultKind::Unplugged => Err(unknown(port, "Port")),
            _ if spec.kind == FaultKind::Unplugged => Ok(Change::Unplugged(at, true)),
            _ => Ok(Change::Cut(at, true)),
        }
    }

    /// Brings cables and switches to what was kept and to what the site file wants from the start.
    pub(crate) async fn resume_cabling(&self) -> Result<(), String> {
        let mut changes = Vec::new();
        for fault in &self.cabling_faults {
            // The site file has been checked against the fabric.
            let change = self.change_of(fault).map_err(|error| error.to_string())?;
            changes.push(change);
            if let Some(after) = fault.until {
                self.links.undo_later(change, after);
            }
        }
        self.links.resume(&changes).await.map_err(|error: LinkError| error.to_string())
    }
}
