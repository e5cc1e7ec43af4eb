//! Installing Kubernetes, and letting nodes join.

use std::{path::Path, time::Duration};

use drystone_engine::action::{Action, StepContext, StepError};
use drystone_identity::Secret as Hidden;
use drystone_ssh::{Program, Redaction, quote};
use serde_json::Value;

use super::{Dependencies, PATIENCE, nodes::node_of, package_file, removal::remove_node};
use crate::mgmt::kubernetes::{
    access::{Cluster, Reached, ssh_failure},
    nodes::{NodeRef, Role, of_role},
    parameters::Installer,
    programs::{self, DIRECTORY, Invitation},
    task::Task,
};

/// Where the program `drystone` is on nodes, and image archives for it.
const PROGRAM: &str = "/usr/local/bin/drystone";
const IMAGES: &str = "/var/lib/drystone/images";

/// Largest script, in bytes.
const MAX_SCRIPT: usize = 4 * 1024 * 1024;

/// How long one run of an installer may take; the step's own limit is the same.
const LIMIT: Duration = Duration::from_secs(2700);

/// How long a node may take to become ready after it has joined.
const READY_LIMIT: Duration = Duration::from_secs(600);

/// Drystone's own script; also that of the example package.
const OWN_SCRIPT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/vnf/kubernetes-cluster/Scripts/install_k8s_cluster.sh"
));

/// The word by which a script says that it takes what is secret from its environment.
const ENVIRONMENT_TOKEN: &str = "DRYSTONE_JOIN_TOKEN";

/// A word for the shell.
fn word(text: impl std::fmt::Display) -> String {
    quote(&text.to_string())
}

/// One run of the installer.
struct Installation<'a> {
    dependencies: &'a Dependencies,
    context: &'a StepContext,
    cluster: &'a Cluster,
    task: &'a Task,
    node: &'a NodeRef,
    reached: &'a Reached,
}

impl Installation<'_> {
    /// The script.
    async fn script(&self) -> Result<Vec<u8>, StepError> {
        match &self.cluster.parameters.installer {
            Installer::Script(path) => {
                package_file(self.context, self.dependencies, &self.task.source.package, path, MAX_SCRIPT)
                    .await
            }
            Installer::Embedded | Installer::Kubeadm => Ok(OWN_SCRIPT.as_bytes().to_vec()),
        }
    }

    /// Brings the program that the embedded distribution consists of, and images for it, unless the node has them.
    async fn bring_program(&self) -> Result<(), StepError> {
        if self.cluster.parameters.installer == Installer::Kubeadm {
            return Ok(());
        }
        if self.cluster.parameters.installer == Installer::Embedded
            && let Some(program) = &self.dependencies.program
        {
            self.bring(program, PROGRAM, 0o755).await?;
        }
        // A package's script uses the program where it is; other nodes have no use for the archives.
        let text = format!("if [ -x {PROGRAM} ]; then echo yes; else echo no; fi");
        let looking = Program::new("looking for the program", &text).answer(1024);
        if self.reached.ask(self.context, looking).await?.trim() != "yes" {
            return Ok(());
        }
        for image in &self.dependencies.images {
            let name = image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            self.bring(image, &format!("{IMAGES}/{name}"), 0o644).await?;
        }
        Ok(())
    }

    /// Brings a file to the node, unless one of the same size is there.
    async fn bring(&self, from: &Path, to: &str, mode: u32) -> Result<(), StepError> {
        let unreadable = |error: std::io::Error| StepError::transient(format!("{}: {error}", from.display()));
        let file = tokio::fs::File::open(from).await.map_err(unreadable)?;
        let size = file.metadata().await.map_err(unreadable)?.len();
        let text = format!("stat -L -c %s -- {} 2>/dev/null || echo none", quote(to));
        let looking = Program::new(format!("looking for {to}"), &text).answer(1024);
        if self.reached.ask(self.context, looking).await?.trim() == size.to_string() {
            return Ok(());
        }
        self.context.progress(10, format!("bringing {to} ({size} bytes) to {}", self.node.name));
        let limit = Duration::from_secs(1200);
        let upload = self.reached.session.upload(to, mode, file, self.reached.privilege.clone(), limit);
        self.context.wait_for(upload).await?.map(drop).map_err(|error| ssh_failure(&error))
    }

    /// Addresses of all control planes, as the script wants them: joined by commas, this node's last if it joins.
    fn masters(&self) -> Result<String, StepError> {
        let mut all = Vec::new();
        for master in of_role(&self.task.nodes, Role::ControlPlane) {
            all.push((master == self.node && self.joins(), self.cluster.node_address(master)?.to_string()));
        }
        all.sort_by_key(|(last, _)| *last);
        Ok(all.into_iter().map(|(_, address)| address).collect::<Vec<_>>().join(","))
    }

    fn joins(&self) -> bool {
        !self.task.via.is_empty()
    }

    /// Arguments of the script: those of Tacker's sample, without what is secret.
    fn arguments(&self) -> Result<Vec<String>, StepError> {
        let address = self.cluster.cluster_address(&self.task.nodes)?;
        let parameters = &self.cluster.parameters;
        let mut words = match self.node.role {
            Role::ControlPlane => {
                vec!["-m".to_owned(), word(self.masters()?), "-i".to_owned(), word(address)]
            }
            _ => vec!["-w".to_owned(), word(self.reached.node_address), "-i".to_owned(), word(address)],
        };
        if self.node.role == Role::ControlPlane {
            words.extend([
                "-p".to_owned(),
                word(parameters.pod_cidr),
                "-a".to_owned(),
                word(parameters.service_cidr),
            ]);
        }
        Ok(words)
    }

    /// Runs the script, once; with an invitation if the node joins.
    async fn run(&self, invitation: Option<&Invitation>) -> Result<(), StepError> {
        let script = self.script().await?;
        let by_environment =
            script.windows(ENVIRONMENT_TOKEN.len()).any(|part| part == ENVIRONMENT_TOKEN.as_bytes());
        self.bring_program().await?;
        self.reached.write(self.context, &format!("{DIRECTORY}/install.sh"), 0o700, script).await?;
        let mut words = self.arguments()?;
        let mut environment: Vec<(&str, Hidden)> = self.cluster.proxies(&self.task.nodes);
        if let Some(invitation) = invitation {
            words.extend(["-s".to_owned(), word(&invitation.authority)]);
            let token = (ENVIRONMENT_TOKEN, "-t", Some(&invitation.token));
            let key = ("DRYSTONE_CERTIFICATE_KEY", "-k", invitation.certificate_key.as_ref());
            for (variable, option, secret) in [token, key] {
                let Some(secret) = secret else { continue };
                if by_environment {
                    environment.push((variable, secret.clone()));
                } else {
                    self.context.log(format!(
                        "the package's script takes {option} as an argument, which is seen in the node's list of processes while it runs; \
                         one that reads {variable} would not show it"
                    ));
                    words.extend([option.to_owned(), word(secret.expose())]);
                }
            }
        }
        let is_ha = of_role(&self.task.nodes, Role::ControlPlane).count() > 1;
        let distribution = match self.cluster.parameters.installer {
            Installer::Embedded => "embedded",
            Installer::Kubeadm => "kubeadm",
            Installer::Script(_) => "",
        };
        let floating =
            self.cluster.parameters.cluster_fip.as_deref().unwrap_or(&self.cluster.parameters.cluster_cp);
        let sans = self.cluster.floating(floating, &self.task.nodes).map(|address| address.to_string());
        let text = programs::install(&words.join(" "));
        let mut program = Program::new(format!("installing Kubernetes on {}", self.node.name), &text)
            .environment("DRYSTONE_VNF", self.task.source.uid.as_str())
            .environment("DRYSTONE_NODE_NAME", self.node.name.as_str())
            .environment("DRYSTONE_NODE_ADDRESS", self.reached.node_address.to_string())
            .environment("DRYSTONE_DISTRIBUTION", distribution)
            .environment("DRYSTONE_API_SANS", sans.unwrap_or_default())
            .environment("ha_flag", if is_ha { "True" } else { "False" })
            .limit(LIMIT);
        for (name, value) in environment {
            program = program.environment(name, value);
        }
        // What the script prints of tokens and keys is recognised by its shape; what it was given, by itself.
        self.reached.run(self.context, program).await.map(drop)
    }
}

/// Sets the first control plane up.
pub struct InstallFirst(pub(super) Dependencies);

impl Action for InstallFirst {
    const NAME: &'static str = "mgmt.install-first";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        // There is nobody to join to, whoever stood before.
        let task = Task { via: Vec::new(), ..task };
        let cluster = Cluster::load(context, &task.source).await?;
        let node = node_of(&task)?;
        let reached = cluster.connect(context, &task, node, PATIENCE, false).await?;
        let (dependencies, cluster) = (&self.0, &cluster);
        let (task, reached) = (&task, &reached);
        Installation { dependencies, context, cluster, task, node, reached }.run(None).await?;
        let text = programs::await_api();
        let program = Program::new(format!("waiting for the API on {}", node.name), &text).limit(READY_LIMIT);
        reached.run(context, program).await?;
        await_ready(context, reached, node, reached.node_address.to_string()).await.map(drop)
    }
}

/// Lets a node join: a control plane invites it, and takes the invitation back afterwards.
pub struct JoinNode(pub(super) Dependencies);

impl Action for JoinNode {
    const NAME: &'static str = "mgmt.join-node";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let node = node_of(&task)?;
        let via = cluster.connect_to_control_plane(context, &task).await?;
        let mut reached = cluster.connect(context, &task, node, PATIENCE, false).await?;
        let control_plane = node.role == Role::ControlPlane;
        let text = programs::invite(control_plane);
        let inviting = Program::new(format!("inviting {}", node.name), &text)
            .environment("DRYSTONE_NODE", node.name.as_str())
            .limit(Duration::from_secs(180))
            .answer(64 * 1024);
        let printed = via.ask(context, inviting).await?;
        let invitation = programs::read_invitation(&printed, control_plane).map_err(StepError::transient)?;
        let secrets = [Some(invitation.token.clone()), invitation.certificate_key.clone()];
        reached.redaction = cluster.redaction(node.role, &task.nodes, secrets.into_iter().flatten());
        let installation = Installation {
            dependencies: &self.0,
            context,
            cluster: &cluster,
            task: &task,
            node,
            reached: &reached,
        };
        // The installation ends when the agent has been started, which uses the invitation later.
        let joined = match installation.run(Some(&invitation)).await {
            Ok(()) => await_ready(context, &via, node, reached.node_address.to_string()).await,
            Err(error) => Err(error),
        };
        take_back(context, &via, &invitation).await;
        label(context, &via, &cluster, node, &joined?).await
    }

    /// Takes the node out again, unless the cluster goes as a whole.
    async fn undo(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        if !cluster.stands() {
            return Ok(());
        }
        let node = node_of(&task)?;
        let Ok(via) = cluster.connect_to_control_plane(context, &task).await else {
            // The cluster is taken back as well, or never came to be.
            context.log("no control plane answers, so there is nothing to take the node out of");
            return Ok(());
        };
        remove_node(context, &cluster, &via, node, "30s").await
    }
}

/// Whether it worked or not, nobody else may use an invitation. If this fails, it ends by itself soon.
async fn take_back(context: &StepContext, via: &Reached, invitation: &Invitation) {
    let id = invitation.token.expose().split('.').next().unwrap_or_default().to_owned();
    let text = programs::withdraw();
    let program = Program::new("taking the invitation back", &text).environment("DRYSTONE_TOKEN_ID", id);
    if let Err(error) = via.run(context, program).await {
        context.log(format!("the invitation could not be taken back, it ends within the hour: {error}"));
    }
}

/// Nodes of the cluster as `kubectl` lists them.
pub(super) async fn list_nodes(context: &StepContext, via: &Reached) -> Result<Vec<Value>, StepError> {
    let text =
        format!("export LC_ALL=C KUBECONFIG={}\nexec kubectl get nodes -o json\n", programs::ADMIN_CONF);
    let printed = via.ask(context, Program::new("listing nodes", &text).answer(32 * 1024 * 1024)).await?;
    let list: Value = serde_json::from_str(&printed).map_err(StepError::transient)?;
    Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
}

/// The node with that address, and whether it is ready.
pub(super) fn find_node(nodes: &[Value], address: &str, name: &str) -> Option<(String, bool)> {
    let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let items = |value: &Value, path: &str| {
        value.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let has_address = |node: &&Value| {
        items(node, "/status/addresses")
            .iter()
            .any(|entry| entry["type"] == "InternalIP" && entry["address"] == address)
    };
    let named = |node: &&Value| text(node, "/metadata/name").as_deref() == Some(name);
    let node = nodes.iter().find(has_address).or_else(|| nodes.iter().find(named))?;
    let ready = items(node, "/status/conditions")
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    Some((text(node, "/metadata/name")?, ready))
}

/// Waits until the node is ready; returns its name in the cluster.
async fn await_ready(
    context: &StepContext,
    via: &Reached,
    node: &NodeRef,
    address: String,
) -> Result<String, StepError> {
    let end = tokio::time::Instant::now() + READY_LIMIT;
    let mut pause = Duration::from_millis(500);
    loop {
        let state = match find_node(&list_nodes(context, via).await?, &address, &node.name) {
            Some((name, true)) => return Ok(name),
            Some((name, false)) => format!("node {name} is not ready yet"),
            None => format!("no node with address {address} has registered yet"),
        };
        if tokio::time::Instant::now() >= end {
            return Err(StepError::transient(format!("after {} s, {state}", READY_LIMIT.as_secs())));
        }
        context.progress(90, state);
        context.wait_for(tokio::time::sleep(pause)).await?;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Says where the node runs.
async fn label(
    context: &StepContext,
    via: &Reached,
    cluster: &Cluster,
    node: &NodeRef,
    name: &str,
) -> Result<(), StepError> {
    let server = cluster.server(node)?;
    let valid = |value: &&String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !value.is_empty()
            && value.len() <= 63
            && value.chars().all(plain)
            && value.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    let host = server.host.as_ref().filter(valid).map(|host| format!("CIS-node={host}"));
    let zone = server.zone.as_ref().filter(valid).map(|zone| format!("kubernetes.io/zone={zone}"));
    let labels: Vec<String> = [host, zone].into_iter().flatten().map(|label| quote(&label)).collect();
    if labels.is_empty() {
        return Ok(());
    }
    let text = format!(
        "export LC_ALL=C KUBECONFIG={}\nexec kubectl label node {} --overwrite {}\n",
        programs::ADMIN_CONF,
        quote(name),
        labels.join(" ")
    );
    via.run(context, Program::new(format!("labelling {name}"), &text)).await.map(drop)
}

/// Installs Helm on a control plane.
pub struct InstallHelm(pub(super) Dependencies);

impl Action for InstallHelm {
    const NAME: &'static str = "mgmt.install-helm";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let node = node_of(&task)?;
        let Some(path) = cluster.parameters.helm_script.clone() else { return Ok(()) };
        let script = package_file(context, &self.0, &task.source.package, &path, MAX_SCRIPT).await?;
        let reached = cluster.connect(context, &task, node, PATIENCE, false).await?;
        reached.write(context, &format!("{DIRECTORY}/install_helm.sh"), 0o700, script).await?;
        let text = programs::install_helm();
        let mut program = Program::new(format!("installing Helm on {}", node.name), &text)
            .environment("DRYSTONE_VNF", task.source.uid.as_str())
            .limit(Duration::from_secs(300));
        for (name, value) in cluster.proxies(&task.nodes) {
            program = program.environment(name, value);
        }
        reached.run(context, program).await.map(drop)
    }
}

/// Takes secrets out of what nodes of a role say.
impl Cluster {
    fn redaction(&self, role: Role, nodes: &[NodeRef], more: impl Iterator<Item = Hidden>) -> Redaction {
        Redaction::new(self.secrets(role, nodes).into_iter().chain(more))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_found_by_address_first() {
        let node = |name: &str, address: &str, ready: &str| {
            json!({
                "metadata": {"name": name},
                "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
                           "conditions": [{"type": "Ready", "status": ready}]},
            })
        };
        let nodes = [node("worker7", "10.0.0.7", "True"), node("workernode-1", "10.0.0.8", "Unknown")];
        assert_eq!(find_node(&nodes, "10.0.0.7", "workernode-1"), Some(("worker7".into(), true)));
        assert_eq!(find_node(&nodes, "10.0.0.9", "workernode-1"), Some(("workernode-1".into(), false)));
        assert_eq!(find_node(&nodes, "10.0.0.9", "x"), None);
    }

    #[test]
    fn our_own_script_takes_secrets_from_its_environment() {
        assert!(OWN_SCRIPT.contains(ENVIRONMENT_TOKEN) && OWN_SCRIPT.contains("DRYSTONE_CERTIFICATE_KEY"));
    }
}
