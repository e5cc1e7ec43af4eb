//! Which pool a host is in, from what its BareMetalHost says.

use drystone_api::{BareMetalHost, BlockPool, OperationalStatus, ProvisioningState};

/// The pool, and why if the host is not usable.
pub fn pool_of(host: &BareMetalHost) -> (BlockPool, String) {
    let Some(status) = &host.status else { return (BlockPool::Unassigned, "not looked at yet".to_owned()) };
    if status.operational_status == OperationalStatus::Error {
        return (BlockPool::Failed, format!("{}: {}", status.error_type, status.error_message));
    }
    let claimed = host.spec.consumer_ref.is_some();
    match status.provisioning.state {
        ProvisioningState::Provisioned => (BlockPool::Active, String::new()),
        ProvisioningState::Provisioning | ProvisioningState::Deprovisioning => {
            (BlockPool::Reserved, String::new())
        }
        ProvisioningState::Available if claimed => (BlockPool::Reserved, String::new()),
        ProvisioningState::Available if status.powered_on => (BlockPool::Online, String::new()),
        ProvisioningState::Available => (BlockPool::Free, String::new()),
        ProvisioningState::ExternallyProvisioned => {
            (BlockPool::Active, "provisioned by something else".to_owned())
        }
        state => (BlockPool::Unassigned, format!("{state:?}").to_lowercase()),
    }
}
