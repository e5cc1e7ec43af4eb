//! VNF packages (SOL005, 9.4; SOL003, 10.4): made, described, enabled, deleted.

mod fetching;
mod upload;

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use drystone_api::{
    SYSTEM_NAMESPACE,
    nfv::{VnfPackage, VnfPackageSpec},
};
use drystone_sol003::{
    secrets::mask_object,
    types::{ApiVersion, KeyValuePairs, PackageOnboardingState, PackageOperationalState, PackageUsageState},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    feed::{Entry, Shown as _},
    problem::Problem,
    render::{onboarding_state, operational_state},
    request::{Incoming, JSON, MERGE_PATCH, read_json, read_optional_json, typed},
    service::{Nfv, created, empty_response, json_response},
    writes::update,
};

/// `CreateVnfPkgInfoRequest`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    user_defined_data: Option<KeyValuePairs>,
}

/// `VnfPkgInfoModifications`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Modify {
    operational_state: Option<PackageOperationalState>,
    user_defined_data: Option<KeyValuePairs>,
}

/// What users say of a package is told to everybody who may read it.
fn check_data(data: &KeyValuePairs) -> Result<(), Problem> {
    if !mask_object(data).1 {
        return Ok(());
    }
    let detail = "userDefinedData: a member of it is secret (a password, a token, a key), and it is told to all readers; leave it out";
    Err(Problem::bad_request(detail))
}

impl Nfv {
    pub(crate) fn packages_api(&self, package: &VnfPackage) -> Api<VnfPackage> {
        Api::namespaced(self.0.client.clone(), &package.namespace().unwrap_or_default())
    }

    pub(crate) fn package(&self, id: &str) -> Result<Arc<Entry<VnfPackage>>, Problem> {
        self.0.feed.packages.get(id).ok_or_else(|| Problem::not_found(VnfPackage::WHAT, id))
    }

    /// Refuses what is only possible with an onboarded package.
    pub(crate) fn onboarded(
        &self,
        id: &str,
        otherwise: StatusCode,
    ) -> Result<Arc<Entry<VnfPackage>>, Problem> {
        let entry = self.package(id)?;
        if onboarding_state(&entry.object, self.0.around.is_uploading(id))
            == PackageOnboardingState::Onboarded
        {
            return Ok(entry);
        }
        Err(Problem::new(otherwise, format!("VNF package {id} is not ONBOARDED yet")))
    }

    /// POST `vnf_packages`.
    pub(crate) async fn create_package(&self, incoming: Incoming) -> Result<Response<Body>, Problem> {
        crate::request::check_media(&incoming.parts, JSON)?;
        let body = read_optional_json(&incoming.parts, incoming.body).await?;
        let request: Create = typed(body)?;
        let data = request.user_defined_data.unwrap_or_default();
        check_data(&data)?;
        let name = format!("vnf-package-{}", Uuid::new_v4());
        let spec = VnfPackageSpec { user_defined_data: data, ..VnfPackageSpec::default() };
        let packages: Api<VnfPackage> = Api::namespaced(self.0.client.clone(), SYSTEM_NAMESPACE);
        let written = packages.create(&PostParams::default(), &VnfPackage::new(&name, spec)).await?;
        self.0.feed.packages.seen(&written).await;
        let id = written.uid().unwrap_or_default();
        let bytes = self.package(&id)?.bytes(ApiVersion::V2, &incoming.base);
        Ok(created(bytes, &format!("{}/vnfpkgm/v1/vnf_packages/{id}", incoming.base)))
    }

    /// PATCH `vnf_packages/{id}`.
    pub(crate) async fn modify_package(&self, incoming: Incoming) -> Result<Response<Body>, Problem> {
        let id = incoming.id().to_owned();
        let body = read_json(&incoming.parts, incoming.body, MERGE_PATCH).await?;
        let request: Modify = typed(body)?;
        if let Some(data) = &request.user_defined_data {
            check_data(data)?;
        }
        if request.operational_state.is_none() && request.user_defined_data.is_none() {
            let detail = "the body: operationalState or userDefinedData is expected";
            return Err(Problem::bad_request(detail));
        }
        let entry = self.onboarded(&id, StatusCode::BAD_REQUEST)?;
        let mut changed = Map::new();
        let api = self.packages_api(&entry.object);
        let written = update(&api, entry.object.as_ref(), |package| {
            changed = modify(package, &request)?;
            Ok(())
        });
        let written = written.await?;
        self.0.feed.packages.seen(&written).await;
        Ok(json_response(StatusCode::OK, &Value::Object(changed)))
    }

    /// DELETE `vnf_packages/{id}`.
    pub(crate) async fn delete_package(&self, incoming: &Incoming) -> Result<Response<Body>, Problem> {
        let id = incoming.id();
        let entry = self.package(id)?;
        let package = entry.object.as_ref();
        if self.0.around.is_uploading(id) {
            return Err(Problem::conflict(format!("content of VNF package {id} is arriving")));
        }
        if operational_state(package) == PackageOperationalState::Enabled {
            return Err(Problem::conflict(format!("VNF package {id} is ENABLED; disable it first")));
        }
        let status = package.status.clone().unwrap_or_default();
        let vnfd = status.vnfd_id.as_deref().unwrap_or_default();
        // The controller may not have seen the youngest instance yet.
        let is_used = status.usage_state == PackageUsageState::InUse
            || (status.onboarding_state == PackageOnboardingState::Onboarded
                && (!self.0.feed.instances.with("vnfdId", vnfd).is_empty()
                    || self.0.feed.operations.all().iter().any(|one| one.object.may_lead_to(vnfd))));
        if is_used {
            return Err(Problem::conflict(format!(
                "VNF package {id} is IN_USE; delete its VNF instances first, and wait for changes to it that are under way"
            )));
        }
        let preconditions =
            Preconditions { uid: package.uid(), resource_version: package.resource_version() };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.packages_api(package).delete(&package.name_any(), &parameters).await {
            Ok(_) => self.0.feed.packages.unseen(id).await,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(Problem::not_found(VnfPackage::WHAT, id));
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                return Err(Problem::conflict(format!("VNF package {id} has just been changed; try again")));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(empty_response(StatusCode::NO_CONTENT, None))
    }
}

/// Changes a package; returns what is different then.
fn modify(package: &mut VnfPackage, request: &Modify) -> Result<Map<String, Value>, Problem> {
    let mut changed = Map::new();
    if let Some(state) = request.operational_state {
        if operational_state(package) == state {
            let name = if state == PackageOperationalState::Enabled { "ENABLED" } else { "DISABLED" };
            let id = package.uid().unwrap_or_default();
            return Err(Problem::conflict(format!("operationalState: VNF package {id} is {name} already")));
        }
        package.spec.operational_state = Some(state);
        changed.insert("operationalState".to_owned(), serde_json::to_value(state).unwrap_or_default());
    }
    if let Some(data) = &request.user_defined_data {
        let own = &mut package.spec.user_defined_data;
        for (name, value) in data {
            if value.is_null() {
                own.remove(name);
            } else {
                own.insert(name.clone(), value.clone());
            }
        }
        changed.insert("userDefinedData".to_owned(), Value::Object(own.clone()));
    }
    Ok(changed)
}
