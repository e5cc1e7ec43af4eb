//! Requests to a site, each with a deadline: claims it, writes and deletes there.

use std::{collections::BTreeSet, future::Future, time::Duration};

use drystone_api::{ConflictPolicy, GROUP, SYSTEM_NAMESPACE, SiteConflict};
use drystone_engine::reference::{describe_kube_error, is_conflict, is_not_found};
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Namespace,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    core::{DynamicObject, Status},
};

use super::{kinds::kinds, there::Mark};
use crate::{
    GLOBAL_MANAGER,
    plan::object::{Key, Parcel, without},
};

/// Lease at a site that says which global controller has it.
const CLAIM: &str = "drystone-global";

/// Prefix of the names under which Drystone's own controllers write: what they own at a site is not somebody's edit.
const OWN_MANAGERS: &str = "drystone-";

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    /// The site does not answer, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// It answers, and is not to be had.
    #[error("{0}")]
    Refused(String),
}

impl Lost {
    fn of(doing: &str, error: &kube::Error) -> Self {
        let text = format!("{doing}: {}", causes(error));
        match error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => Self::Refused(text),
            _ => Self::Unreachable(text),
        }
    }
}

/// What became of one task.
pub(super) enum Outcome {
    Written { mark: Mark, conflict: Option<SiteConflict> },
    Removed,
    Refused(String),
}

/// Makes requests.
pub(super) struct Courier {
    pub(super) client: Client,
    deadline: Duration,
    /// Kinds that the site serves.
    pub(super) served: BTreeSet<usize>,
}

impl Courier {
    /// Finds out what the site serves, and claims it.
    pub(super) async fn new(
        client: Client,
        deadline: Duration,
        owner: &str,
        take_over: bool,
    ) -> Result<Self, Lost> {
        let mut courier = Self { client, deadline, served: BTreeSet::new() };
        courier.claim(owner, take_over).await?;
        courier.discover().await?;
        Ok(courier)
    }

    pub(super) async fn in_time<T>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Lost> {
        self.asked(doing, request).await?.map_err(|error| Lost::of(doing, &error))
    }

    /// The answer, whatever it is; lost only if there is none.
    async fn asked<T>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<Result<T, kube::Error>, Lost> {
        match tokio::time::timeout(self.deadline, request).await {
            Err(_) => {
                Err(Lost::Unreachable(format!("{doing}: no answer within {} s", self.deadline.as_secs())))
            }
            Ok(Err(error)) if !matches!(&error, kube::Error::Api(status) if status.code < 500 && status.code != 401) => {
                Err(Lost::of(doing, &error))
            }
            Ok(answer) => Ok(answer),
        }
    }

    /// Makes sure that this global controller has the site, and nobody else.
    async fn claim(&self, owner: &str, take_over: bool) -> Result<(), Lost> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let doing = "claiming the site";
        for _ in 0..3 {
            let present = self.in_time(doing, leases.get_opt(CLAIM)).await?;
            let holder = present.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
            if holder.as_deref() == Some(owner) {
                return Ok(());
            }
            if let Some(other) = holder.filter(|_| !take_over) {
                return Err(Lost::Refused(format!(
                    "it is the site of another global controller, or of another Site, already ({other}): let it go there, or set spec.controller.takeOver"
                )));
            }
            let spec = LeaseSpec { holder_identity: Some(owner.to_owned()), ..LeaseSpec::default() };
            let metadata = present.as_ref().map_or_else(
                || ObjectMeta { name: Some(CLAIM.to_owned()), ..ObjectMeta::default() },
                |lease| lease.metadata.clone(),
            );
            let lease = Lease { metadata, spec: Some(spec) };
            let written = match &present {
                Some(_) => self.asked(doing, leases.replace(CLAIM, &PostParams::default(), &lease)).await?,
                None => self.asked(doing, leases.create(&PostParams::default(), &lease)).await?,
            };
            match written {
                Ok(_) => return Ok(()),
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(Lost::of(doing, &error)),
            }
        }
        Err(Lost::Unreachable(format!("{doing}: somebody else keeps claiming it")))
    }

    /// Whether the site answers and is still ours.
    pub(super) async fn check(&self, owner: &str) -> Result<(), Lost> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let present = self.in_time("asking whether the site answers", leases.get_opt(CLAIM)).await?;
        let holder = present.and_then(|lease| lease.spec?.holder_identity);
        match holder {
            Some(holder) if holder == owner => Ok(()),
            Some(other) => Err(Lost::Refused(format!("somebody else has taken the site over: {other}"))),
            None => self.claim(owner, false).await,
        }
    }

    /// Finds out what the site serves; what it did once is not taken back.
    pub(super) async fn discover(&mut self) -> Result<(), Lost> {
        for (kind, resource) in kinds().iter().enumerate() {
            let is_ours = resource.group == GROUP;
            if !is_ours {
                self.served.insert(kind);
            }
        }
        let versions: BTreeSet<&str> =
            kinds().iter().filter(|kind| kind.group == GROUP).map(|kind| kind.api_version.as_str()).collect();
        let mut found = BTreeSet::new();
        for version in versions {
            let listing =
                self.asked("asking what the site serves", self.client.list_api_group_resources(version));
            match listing.await? {
                Ok(list) => {
                    let served: BTreeSet<String> =
                        list.resources.into_iter().map(|resource| resource.name).collect();
                    let here = kinds()
                        .iter()
                        .enumerate()
                        .filter(|(_, kind)| kind.api_version == version && served.contains(&kind.plural));
                    found.extend(here.map(|(kind, _)| kind));
                }
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(Lost::of("asking what the site serves", &error)),
            }
        }
        self.served.extend(found);
        Ok(())
    }

    fn api(&self, key: &Key) -> Option<Api<DynamicObject>> {
        let resource = kinds().get(key.kind).filter(|_| self.served.contains(&key.kind))?;
        Some(Api::namespaced_with(self.client.clone(), &key.namespace, resource))
    }

    pub(super) async fn write(
        &self,
        key: &Key,
        parcel: &Parcel,
        policy: ConflictPolicy,
    ) -> Result<Outcome, Lost> {
        let Some(api) = self.api(key) else {
            let kind = kinds().get(key.kind).map(|kind| kind.kind.clone()).unwrap_or_default();
            return Ok(Outcome::Refused(format!("the site does not know {kind}; its Drystone is older")));
        };
        let careful = PatchParams::apply(GLOBAL_MANAGER);
        let first = self.apply(&api, key, &careful, &parcel.body).await?;
        let status = match first {
            Ok(written) => return Ok(Outcome::Written { mark: Mark::of(&written), conflict: None }),
            Err(status) => status,
        };
        let (fields, manager) = disputed(&status);
        let is_dispute =
            status.code == 409 && status.details.as_ref().is_some_and(|details| !details.causes.is_empty());
        if !is_dispute {
            return Ok(Outcome::Refused(status.message.clone()));
        }
        let mut body = parcel.body.clone();
        if policy == ConflictPolicy::SiteWins {
            without(&mut body, &fields);
        }
        let conflict = (!fields.is_empty()).then(|| SiteConflict {
            object: describe(key),
            fields,
            manager,
            decided: policy,
            at: Some(Time(Timestamp::now())),
        });
        match self.apply(&api, key, &careful.force(), &body).await? {
            Ok(written) => Ok(Outcome::Written { mark: Mark::of(&written), conflict }),
            Err(status) => Ok(Outcome::Refused(status.message.clone())),
        }
    }

    /// Applies; makes the namespace if there is none.
    async fn apply(
        &self,
        api: &Api<DynamicObject>,
        key: &Key,
        params: &PatchParams,
        body: &serde_json::Value,
    ) -> Result<Result<DynamicObject, Box<Status>>, Lost> {
        let doing = format!("writing {}", describe(key));
        for attempt in 0..2 {
            match self.asked(&doing, api.patch(&key.name, params, &Patch::Apply(body))).await? {
                Ok(written) => return Ok(Ok(written)),
                Err(kube::Error::Api(status)) if status.code == 404 && attempt == 0 => {
                    self.make_namespace(&key.namespace).await?;
                }
                Err(kube::Error::Api(status)) => return Ok(Err(status)),
                Err(error) => return Err(Lost::of(&doing, &error)),
            }
        }
        Ok(Err(Box::new(Status::failure("its namespace is being deleted", "NotFound"))))
    }

    async fn make_namespace(&self, name: &str) -> Result<(), Lost> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let doing = format!("making namespace {name}");
        match self.asked(&doing, namespaces.create(&PostParams::default(), &namespace)).await? {
            Ok(_) => Ok(()),
            Err(error) if is_conflict(&error) => Ok(()),
            Err(error) => Err(Lost::of(&doing, &error)),
        }
    }

    pub(super) async fn remove(&self, key: &Key, uid: &str) -> Result<Outcome, Lost> {
        let Some(api) = self.api(key) else { return Ok(Outcome::Removed) };
        let same = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match self.asked(&format!("deleting {}", describe(key)), api.delete(&key.name, &params)).await? {
            Ok(_) => Ok(Outcome::Removed),
            // Gone, or another one that is not ours to delete; what it is the watch tells.
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(Outcome::Removed),
            Err(error) => Ok(Outcome::Refused(describe_kube_error(&error))),
        }
    }
}

/// An error with what lies below it: that a connection failed says nothing without the reason.
fn causes(error: &kube::Error) -> String {
    let mut text = describe_kube_error(error);
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause.filter(|_| !matches!(error, kube::Error::Api(_))) {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// Fields of a conflict that others than Drystone's own controllers have changed, and who.
fn disputed(status: &Status) -> (Vec<String>, String) {
    let (mut fields, mut managers) = (Vec::new(), BTreeSet::new());
    for cause in status.details.iter().flat_map(|details| &details.causes) {
        let manager = cause.message.split('"').nth(1).unwrap_or(&cause.message);
        if !manager.starts_with(OWN_MANAGERS) {
            fields.push(cause.field.clone());
            managers.insert(manager.to_owned());
        }
    }
    fields.sort_unstable();
    fields.dedup();
    (fields, managers.into_iter().collect::<Vec<_>>().join(", "))
}

/// `SoftwareSet drystone-system/base`.
pub(super) fn describe(key: &Key) -> String {
    let kind = kinds().get(key.kind).map(|kind| kind.kind.as_str()).unwrap_or_default();
    format!("{kind} {}/{}", key.namespace, key.name)
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    #[test]
    fn edits_of_people_are_told_from_those_of_drystone_itself() {
        let cause = |manager: &str, field: &str| StatusCause {
            reason: "FieldManagerConflict".into(),
            message: format!("conflict with \"{manager}\" using drystone.dev/v1alpha1"),
            field: field.into(),
        };
        let details = StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: vec![cause("kubectl-edit", ".spec.a"), cause("drystone-up", ".spec.bmcs")],
            retry_after_seconds: 0,
        };
        let status = Status { code: 409, details: Some(details), ..Status::default() };
        assert_eq!(disputed(&status), (vec![".spec.a".to_owned()], "kubectl-edit".to_owned()));
    }
}
