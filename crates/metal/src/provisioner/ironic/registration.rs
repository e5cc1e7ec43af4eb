//! Making a host known to Ironic.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::PoisonError,
};

use drystone_api::ProvisioningState as State;
use http::Method;
use serde_json::{Value, json};

use super::{Failure, IronicProvisioner, Job, Node, POLL, Progress, Registered, description};

impl IronicProvisioner {
    /// Makes a node, or brings the one there is up to date, and has Ironic try the credentials.
    pub(super) async fn make_known(&self, job: &Job<'_>) -> Result<Progress<Registered>, Failure> {
        let Some(node) = self.find(job).await? else {
            self.create(job).await?;
            return Ok(Progress::again(POLL));
        };
        if !self.is_described(job) {
            let info = Value::Object(description::driver_info(job));
            self.client.change(&node.uuid, &[("driver_info", info)]).await?;
            self.set_described(job);
            self.set_asked(job, None);
        }
        if node.maintenance {
            let path = format!("/v1/nodes/{}/maintenance", node.uuid);
            self.client.send(Method::DELETE, &path, None).await?;
        }
        match node.state() {
            // Credentials that do not work bring the node back to where it was.
            "enroll" if self.was_asked(job, "manage") => Err(self.failed(job, "registering", &node)),
            "enroll" => {
                self.ask(job, &node, "manage", json!({})).await?;
                Ok(Progress::again(POLL))
            }
            "verifying" => Ok(Progress::again(POLL)),
            state => self.adopt(job, &node, state).await,
        }
    }

    /// A host that runs something already is not to be deployed again.
    async fn adopt(&self, job: &Job<'_>, node: &Node, state: &str) -> Result<Progress<Registered>, Failure> {
        let runs =
            matches!(job.status().provisioning.state, State::Provisioned | State::ExternallyProvisioned)
                || job.host.spec.externally_provisioned;
        match state {
            "manageable" if runs => {
                let (interface, info) = description::instance(job);
                let fields = [("instance_info", info), ("deploy_interface", json!(interface))];
                self.client.change(&node.uuid, &fields).await?;
                self.ask(job, node, "adopt", json!({})).await?;
                Ok(Progress::again(POLL))
            }
            "adopting" => Ok(Progress::again(POLL)),
            "adopt failed" if self.was_asked(job, "adopt") => Err(self.failed(job, "adopting", node)),
            "adopt failed" => {
                self.ask(job, node, "adopt", json!({})).await?;
                Ok(Progress::again(POLL))
            }
            _ => {
                self.set_asked(job, None);
                Ok(Progress::Done(Registered { id: node.uuid.clone() }))
            }
        }
    }

    async fn create(&self, job: &Job<'_>) -> Result<(), Failure> {
        let body = description::node(job, &self.interfaces);
        let made = self.client.send(Method::POST, "/v1/nodes", Some(&body)).await?;
        self.set_described(job);
        let mac = job.host.spec.boot_mac_address.to_ascii_lowercase();
        if mac.is_empty() {
            return Ok(());
        }
        let port = json!({"node_uuid": made["uuid"], "address": mac, "pxe_enabled": true});
        match self.client.send(Method::POST, "/v1/ports", Some(&port)).await {
            Ok(_) => Ok(()),
            Err(Failure::Busy) => {
                // Another node has this address: two hosts were declared with the same one.
                let node = made["uuid"].as_str().unwrap_or_default();
                self.client.send(Method::DELETE, &format!("/v1/nodes/{node}"), None).await?;
                Err(Failure::Failed(job.refused(
                    "registering",
                    format!("spec.bootMACAddress: {mac} is the address of another node of Ironic"),
                )))
            }
            Err(failure) => Err(failure),
        }
    }

    fn is_described(&self, job: &Job<'_>) -> bool {
        let described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        described.get(&job.uid()) == Some(&digest(job))
    }

    fn set_described(&self, job: &Job<'_>) {
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        described.insert(job.uid(), digest(job));
    }
}

fn digest(job: &Job<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    Value::Object(description::driver_info(job)).to_string().hash(&mut hasher);
    hasher.finish()
}
