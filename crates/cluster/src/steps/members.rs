//! Members of etcd of a control plane of several hosts: added without a vote, promoted, removed; by way of the control plane that runs
//! (`/control-plane/members` of its API server). Each step does nothing where it finds its work done.

use std::{net::IpAddr, time::Duration};

use drystone_engine::action::{Action, StepContext, StepError};
use http::{Method, Request};
use serde::{Deserialize, Serialize};

use super::{access::inside, addresses::LeaseOutput};

/// Path of the members on the control plane's port.
pub const MEMBERS_PATH: &str = "/control-plane/members";

/// Pause between two tries of what etcd does not do yet.
const PAUSE: Duration = Duration::from_secs(1);

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// Asks the control plane for a change of membership.
async fn ask(context: &StepContext, method: Method, path: &str) -> Result<(), kube::Error> {
    let client = inside(context).await.map_err(|error| kube::Error::Service(error.to_string().into()))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Vec::new())
        .map_err(|error| kube::Error::Service(error.into()))?;
    // Whoever is asked may be gone.
    match tokio::time::timeout(ANSWER, client.request_text(request)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(kube::Error::Service("no answer in time".into())),
    }
}

/// Asks until it is done; the step's timeout is the limit.
async fn insist(context: &StepContext, method: Method, path: &str) -> Result<(), StepError> {
    let done = async {
        loop {
            match ask(context, method.clone(), path).await {
                Ok(()) => return,
                Err(error) => context.progress(10, format!("etcd's members: {error}")),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    context.wait_for(done).await
}

/// The host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostOfMember {
    host: String,
}

fn address(context: &StepContext, host: &str) -> Result<IpAddr, StepError> {
    let leased: LeaseOutput = context.input("addresses")?;
    let address = leased.hosts.get(host);
    address
        .map(ipnet::IpNet::addr)
        .ok_or_else(|| StepError::permanent(format!("no address was leased for {host}")))
}

/// Adds a host's member to etcd, without a vote: until it has all data it must not count.
pub struct AddMember;

impl AddMember {
    /// For this host.
    pub fn parameters(host: &str) -> HostOfMember {
        HostOfMember { host: host.to_owned() }
    }
}

impl Action for AddMember {
    const NAME: &'static str = "cluster.add-member";
    type Parameters = HostOfMember;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: HostOfMember) -> Result<(), StepError> {
        let address = address(context, &parameters.host)?;
        insist(context, Method::PUT, &format!("{MEMBERS_PATH}/{address}")).await
    }
}

/// Gives a host's member its vote, once it has all data.
pub struct PromoteMember;

impl PromoteMember {
    /// For this host.
    pub fn parameters(host: &str) -> HostOfMember {
        AddMember::parameters(host)
    }
}

impl Action for PromoteMember {
    const NAME: &'static str = "cluster.promote-member";
    type Parameters = HostOfMember;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: HostOfMember) -> Result<(), StepError> {
        let address = address(context, &parameters.host)?;
        insist(context, Method::POST, &format!("{MEMBERS_PATH}/{address}/promote")).await
    }
}

/// Takes the member at an address out of etcd. It refuses what would cost it its majority.
pub struct RemoveMember;

/// The member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberAddress {
    address: IpAddr,
}

impl RemoveMember {
    /// For the member at this address.
    pub fn parameters(address: IpAddr) -> MemberAddress {
        MemberAddress { address }
    }
}

impl Action for RemoveMember {
    const NAME: &'static str = "cluster.remove-member";
    type Parameters = MemberAddress;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: MemberAddress) -> Result<(), StepError> {
        insist(context, Method::DELETE, &format!("{MEMBERS_PATH}/{}", parameters.address)).await
    }
}
