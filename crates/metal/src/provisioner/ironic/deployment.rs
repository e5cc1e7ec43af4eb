//! Setting a host up, bringing an image onto it, taking it away.

use http::Method;
use serde_json::{Value, json};

use super::{Failure, IronicProvisioner, Job, Node, POLL, Power, Preparation, Progress, description};

impl IronicProvisioner {
    /// Sets up disks and firmware, and makes the node available.
    pub(super) async fn set_up(
        &self,
        job: &Job<'_>,
        preparation: &Preparation,
    ) -> Result<Progress<()>, Failure> {
        let node = self.node(job).await?;
        let steps = description::clean_steps(preparation);
        match node.state() {
            // What was set up is seen when it comes back from there.
            "manageable" if steps.is_empty() || self.was_asked(job, "clean") => {
                self.ask(job, &node, "provide", json!({})).await?;
            }
            "manageable" => {
                if let Some(raid) = &preparation.raid {
                    let config = json!({"logical_disks": description::logical_disks(raid)});
                    let path = format!("/v1/nodes/{}/states/raid", node.uuid);
                    self.client.send(Method::PUT, &path, Some(&config)).await?;
                }
                self.ask(job, &node, "clean", json!({"clean_steps": steps})).await?;
            }
            "available" if steps.is_empty() || self.was_asked(job, "provide") => {
                self.set_asked(job, None);
                return Ok(Progress::Done(()));
            }
            "available" => self.ask(job, &node, "manage", json!({})).await?,
            "clean failed" if self.was_asked(job, "clean") || self.was_asked(job, "provide") => {
                return Err(self.failed(job, "preparing", &node));
            }
            "clean failed" => self.recover(job, &node).await?,
            // A host that runs something has nothing to be prepared.
            "active" => return Ok(Progress::Done(())),
            _ => {}
        }
        Ok(Progress::again(POLL))
    }

    /// Brings a node back from a failed cleaning.
    async fn recover(&self, job: &Job<'_>, node: &Node) -> Result<(), Failure> {
        if node.maintenance {
            let path = format!("/v1/nodes/{}/maintenance", node.uuid);
            self.client.send(Method::DELETE, &path, None).await?;
        }
        self.ask(job, node, "manage", json!({})).await
    }

    /// Brings the wanted image onto the host.
    pub(super) async fn deploy(&self, job: &Job<'_>) -> Result<Progress<()>, Failure> {
        let node = self.node(job).await?;
        match node.state() {
            "available" => {
                let (interface, info) = description::instance(job);
                let fields = [
                    ("instance_info", info),
                    ("deploy_interface", json!(interface)),
                    ("properties", description::properties(job)),
                    (
                        "automated_clean",
                        json!(job.host.spec.automated_cleaning_mode.as_deref() != Some("disabled")),
                    ),
                ];
                self.client.change(&node.uuid, &fields).await?;
                let more = deployment(job, interface)?;
                self.ask(job, &node, "active", more).await?;
            }
            "active" => {
                self.set_asked(job, None);
                return Ok(Progress::Done(()));
            }
            "deploy failed" | "error" => return Err(self.failed(job, "deploying", &node)),
            "manageable" => self.ask(job, &node, "provide", json!({})).await?,
            state => {
                let note = format!("Ironic: {state}");
                return Ok(Progress::Working { again: POLL, note });
            }
        }
        Ok(Progress::again(POLL))
    }

    /// Takes the image away; the node is available and off then.
    pub(super) async fn undeploy(&self, job: &Job<'_>) -> Result<Progress<()>, Failure> {
        let node = self.node(job).await?;
        match node.state() {
            "available" | "manageable" if node.powered_on() == Some(true) => {
                return Ok(match self.switch(job, Power::HardOff).await? {
                    Progress::Done(_) => Progress::again(POLL),
                    Progress::Working { again, note } => Progress::Working { again, note },
                });
            }
            "available" => {
                self.set_asked(job, None);
                return Ok(Progress::Done(()));
            }
            "manageable" => self.ask(job, &node, "provide", json!({})).await?,
            "error" if self.was_asked(job, "deleted") => {
                return Err(self.failed(job, "undeploying", &node));
            }
            "active" | "deploy failed" | "error" | "wait call-back" | "deploy hold" => {
                let cleans = job.host.spec.automated_cleaning_mode.as_deref() != Some("disabled");
                self.client.change(&node.uuid, &[("automated_clean", json!(cleans))]).await?;
                self.ask(job, &node, "deleted", json!({})).await?;
            }
            "clean failed" if self.was_asked(job, "deleted") || self.was_asked(job, "provide") => {
                return Err(self.failed(job, "cleaning", &node));
            }
            "clean failed" => self.recover(job, &node).await?,
            _ => {}
        }
        Ok(Progress::again(POLL))
    }
}

/// What Ironic is told with the order to deploy: the config drive, which live images have not, and a method of its own.
fn deployment(job: &Job<'_>, interface: &str) -> Result<Value, Failure> {
    let mut more = json!({});
    if let Some(custom) = &job.host.spec.custom_deploy {
        more["deploy_steps"] =
            json!([{"interface": "deploy", "step": custom.method, "priority": 80, "args": {}}]);
    }
    if interface != "ramdisk"
        && let Some(seed) = job.seed
    {
        let refused =
            |error: crate::medium::SeedError| Failure::Failed(job.refused("provisioning", error.to_string()));
        more["configdrive"] = json!({
            "meta_data": seed.metadata().map_err(refused)?,
            "network_data": seed.network_document().map_err(refused)?,
            "user_data": String::from_utf8_lossy(&seed.user_data),
        });
    }
    Ok(more)
}
