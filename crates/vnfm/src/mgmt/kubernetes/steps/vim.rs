//! The cluster as VIM for container network functions.

use std::{collections::BTreeMap, time::Duration};

use drystone_api::nfv::{VNF_INSTANCE_LABEL, Vim, VimProject, VimSpec, VimType, VnfInstance};
use drystone_engine::action::{Action, StepContext, StepError};
use drystone_sol003::types::{InstantiationState, VimConnectionInfo};
use drystone_ssh::Program;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    mgmt::kubernetes::{
        access::Cluster,
        nodes::{Role, of_role},
        programs::{self, Administrator},
        task::{Source, Task},
    },
    model::InstancePatch,
};

/// Who writes objects.
const MANAGER: &str = "drystone-vnfm";

/// What SOL003 calls Kubernetes.
const VIM_TYPE: &str = "ETSINFV.KUBERNETES.V_1";

/// What a step wants kept in the VnfInstance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// What is kept.
    pub vnf_instance: InstancePatch,
}

/// Name of the objects by which the cluster is registered.
fn object_name(source: &Source) -> String {
    format!("cluster-of-{}", source.instance)
}

/// Registers the cluster as VIM, with an administrator of its own. The registration stays the same when the cluster is made anew, so that
/// whoever uses it finds it again.
pub struct RegisterVim;

impl Action for RegisterVim {
    const NAME: &'static str = "mgmt.register-vim";
    type Parameters = Task;
    type Output = Kept;

    async fn run(&self, context: &StepContext, task: Task) -> Result<Kept, StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let name = cluster
            .parameters
            .vim_name
            .clone()
            .unwrap_or_else(|| format!("kubernetes_vim_{}", task.source.uid));
        check_name(context, &task.source, &name).await?;
        let via = cluster.connect_to_control_plane(context, &task).await?;
        let text = programs::administrator();
        let asking = Program::new("making an administrator for the VIM", &text)
            .answer(256 * 1024)
            .limit(Duration::from_secs(120));
        let printed = via.ask(context, asking).await?;
        let administrator = programs::read_administrator(&printed).map_err(StepError::transient)?;
        let url = url(&cluster, &task, &administrator)?;
        let uid = write(context, &task.source, &name, &url, &administrator).await?;
        let connection = VimConnectionInfo {
            vim_id: Some(uid),
            vim_type: VIM_TYPE.to_owned(),
            interface_info: object(&json!({"endpoint": url.text, "ssl_ca_cert": administrator.authority})),
            ..VimConnectionInfo::default()
        };
        let patch = InstancePatch {
            vim_connection_info: BTreeMap::from([(name, connection)]),
            ..InstancePatch::default()
        };
        Ok(Kept { vnf_instance: patch })
    }

    async fn undo(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        // Only where the registration came with this operation: an older one belongs to a cluster that is put back as it was.
        let instances: Api<VnfInstance> = Api::namespaced(context.client().clone(), &task.source.namespace);
        let instance = instances.get_opt(&task.source.instance).await;
        let instance = instance.map_err(|error| StepError::from_kube("reading the VnfInstance", &error))?;
        let stands = instance
            .and_then(|instance| instance.status)
            .is_some_and(|status| status.instantiation_state == InstantiationState::Instantiated);
        if stands { Ok(()) } else { forget(context, &task.source).await }
    }
}

fn object(value: &serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// Where the cluster's API is.
struct Url {
    text: String,
    /// Whether its certificate is not for that address.
    is_unverified: bool,
}

/// The floating address if there is one, else the cluster's.
fn url(cluster: &Cluster, task: &Task, administrator: &Administrator) -> Result<Url, StepError> {
    let floating = cluster.parameters.cluster_fip.as_deref().unwrap_or(&cluster.parameters.cluster_cp);
    let masters: Vec<_> = of_role(&task.nodes, Role::ControlPlane).cloned().collect();
    let outside = cluster.floating(floating, &masters);
    let address = match outside {
        Some(address) => address,
        None => cluster.cluster_address(&task.nodes)?,
    };
    let known = administrator.names.split([',', ' ', ':']).any(|name| name == address.to_string());
    let is_unverified = outside.is_some() && !known;
    Ok(Url {
        text: format!("https://{}", std::net::SocketAddr::new(address, administrator.port)),
        is_unverified,
    })
}

/// Nobody else's VIM has that name.
async fn check_name(context: &StepContext, source: &Source, name: &str) -> Result<(), StepError> {
    let vims: Api<Vim> = Api::namespaced(context.client().clone(), &source.namespace);
    let all = vims.list(&ListParams::default()).await;
    let all = all.map_err(|error| StepError::from_kube("listing Vims", &error))?;
    let taken = all.items.iter().find(|vim| {
        let own = if vim.spec.name.is_empty() { vim.name_any() } else { vim.spec.name.clone() };
        own == name && vim.spec.made_by.as_deref() != Some(&source.instance)
    });
    match taken {
        None => Ok(()),
        Some(_) => Err(StepError::permanent(format!(
            "another VIM is called {name}; delete that one, or choose another vim_name for this cluster"
        ))),
    }
}

async fn write(
    context: &StepContext,
    source: &Source,
    name: &str,
    url: &Url,
    administrator: &Administrator,
) -> Result<String, StepError> {
    if url.is_unverified {
        context.log(format!(
            "the certificate of the cluster's API is not for {}, so it is not checked; an installer that reads DRYSTONE_API_SANS avoids that",
            url.text
        ));
    }
    let client = context.client().clone();
    let object_name = object_name(source);
    let labels = Some(BTreeMap::from([(VNF_INSTANCE_LABEL.to_owned(), source.instance.clone())]));
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(source.namespace.clone()),
        labels: labels.clone(),
        ..ObjectMeta::default()
    };
    let secret_name = format!("{object_name}-credentials");
    let token = ByteString(administrator.token.expose().as_bytes().to_vec());
    let secret = Secret {
        metadata: metadata(&secret_name),
        data: Some(BTreeMap::from([("bearer_token".to_owned(), token)])),
        ..Secret::default()
    };
    let apply = PatchParams::apply(MANAGER).force();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &source.namespace);
    let written = secrets.patch(&secret_name, &apply, &Patch::Apply(&secret)).await;
    written.map_err(|error| StepError::from_kube("writing the VIM's credentials", &error))?;
    let mut vim = Vim::new(
        &object_name,
        VimSpec {
            name: name.to_owned(),
            description: format!("Kubernetes cluster of {}", source.instance),
            kind: VimType::Kubernetes,
            auth_url: url.text.clone(),
            project: VimProject { name: "default".to_owned(), ..VimProject::default() },
            certificate_authority: Some(administrator.authority.clone()),
            skip_certificate_verification: url.is_unverified,
            credentials: secret_name,
            gateway: source.gateway.clone(),
            made_by: Some(source.instance.clone()),
            ..VimSpec::default()
        },
    );
    vim.metadata = metadata(&object_name);
    let vims: Api<Vim> = Api::namespaced(client, &source.namespace);
    let written = vims.patch(&object_name, &apply, &Patch::Apply(&vim)).await;
    let vim = written.map_err(|error| StepError::from_kube("writing the Vim", &error))?;
    vim.uid().ok_or_else(|| StepError::transient("the Vim has no uid"))
}

/// Deletes the registration; a success if there is none.
async fn forget(context: &StepContext, source: &Source) -> Result<(), StepError> {
    let client = context.client().clone();
    let name = object_name(source);
    let gone = |result: Result<(), kube::Error>, what: &str| match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(StepError::from_kube(&format!("deleting {what}"), &error)),
        Ok(()) => Ok(()),
    };
    let vims: Api<Vim> = Api::namespaced(client.clone(), &source.namespace);
    gone(vims.delete(&name, &DeleteParams::default()).await.map(drop), "the Vim")?;
    let secrets: Api<Secret> = Api::namespaced(client, &source.namespace);
    let secret = format!("{name}-credentials");
    gone(secrets.delete(&secret, &DeleteParams::default()).await.map(drop), "the VIM's credentials")
}

/// Checks that no other VNF runs on the cluster before it is ended.
pub struct CheckDependants;

impl Action for CheckDependants {
    const NAME: &'static str = "mgmt.check-dependants";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let client = context.client().clone();
        let vims: Api<Vim> = Api::namespaced(client.clone(), &task.source.namespace);
        let vim = vims.get_opt(&object_name(&task.source)).await;
        let vim = vim.map_err(|error| StepError::from_kube("reading the Vim", &error))?;
        let Some(uid) = vim.and_then(|vim| vim.uid()) else { return Ok(()) };
        let instances: Api<VnfInstance> = Api::all(client);
        let all = instances.list(&ListParams::default()).await;
        let all = all.map_err(|error| StepError::from_kube("listing VnfInstances", &error))?;
        let users: Vec<String> =
            all.items.iter().filter(|vnf| uses(vnf, &uid, &task.source)).map(shown).collect();
        if users.is_empty() {
            return Ok(());
        }
        let who = users.join(", ");
        if task.forced {
            context.log(format!("the cluster ends with what runs on it: {who}"));
            return Ok(());
        }
        Err(StepError::permanent(format!(
            "other VNFs run on this cluster: {who}; terminate them first, or terminate this one with terminationType FORCEFUL"
        )))
    }
}

/// Whether another VNF that is instantiated uses the VIM.
fn uses(vnf: &VnfInstance, vim: &str, source: &Source) -> bool {
    let is_own = vnf.name_any() == source.instance && vnf.namespace().as_deref() == Some(&source.namespace);
    let Some(status) = &vnf.status else { return false };
    !is_own
        && status.instantiation_state == InstantiationState::Instantiated
        && status.vim_connection_info.values().any(|connection| connection.vim_id.as_deref() == Some(vim))
}

fn shown(vnf: &VnfInstance) -> String {
    let name = vnf.spec.vnf_instance_name.clone().unwrap_or_else(|| vnf.name_any());
    format!("{name} ({})", vnf.uid().unwrap_or_default())
}

/// Takes the registration as VIM back, once the cluster is gone.
pub struct ForgetVim;

impl Action for ForgetVim {
    const NAME: &'static str = "mgmt.forget-vim";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        forget(context, &task.source).await
    }
}
