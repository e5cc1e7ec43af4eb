//! A `VnfPackage` from its creation to its deletion.

use std::{sync::Arc, time::Duration};

use drystone_api::nfv::{VnfInstance, VnfLcmOperation, VnfPackage, VnfPackageSource, VnfPackageStatus};
use drystone_csar::{Committed, Library, LibraryError, Package};
use drystone_engine::{
    harness::{
        Cache, Caches, Controller, ControllerConfig, Objects, Reconciler, Requeue, StatusError,
        add_finalizer, has_finalizer, is_deleted, remove_finalizer, update_status,
    },
    reference::{ObjectKey, describe_kube_error},
};
use drystone_sol003::types::{PackageOnboardingState, PackageUsageState, ProblemDetails};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use tokio_util::sync::CancellationToken;

use super::{
    fetch::{self, Login},
    onboard::{describe, library_problem, problem, refuse},
};

/// Keeps a package until its content is removed.
const FINALIZER: &str = "nfv.drystone.dev/package";
/// How long the content of a package may take to be fetched, and read.
const DEADLINE: Duration = Duration::from_secs(2 * 3600);
/// Packages that are worked on at one time.
const CONCURRENCY: u16 = 8;
/// When it is looked again whether a package that is deleted is still used.
const AGAIN: Duration = Duration::from_secs(15);

/// What the controller works with.
#[derive(Debug, Clone)]
pub struct PackagesConfig {
    /// Where content lies.
    pub library: Library,
    /// Whether content may be fetched from this machine itself, and from its links.
    pub may_be_local: bool,
    /// How the harness works.
    pub controller: ControllerConfig,
}

/// Why a reconciliation did not succeed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", describe_kube_error(.0))]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Library(#[from] LibraryError),
    #[error("the package was not read: {0}")]
    Task(#[from] tokio::task::JoinError),
}

struct Packages {
    client: Client,
    instances: Cache<VnfInstance>,
    operations: Cache<VnfLcmOperation>,
    library: Library,
    may_be_local: bool,
    /// Held from the look whether a VNFD is known until it is.
    naming: tokio::sync::Mutex<()>,
}

/// Runs the controller until `shutdown`. To be run by the process that has the library.
pub async fn run(client: Client, caches: &Caches, config: PackagesConfig, shutdown: CancellationToken) {
    let instances: Cache<VnfInstance> = caches.of();
    let operations: Cache<VnfLcmOperation> = caches.of();
    if !(instances.ready().await && operations.ready().await) {
        return;
    }
    let harness = ControllerConfig { deadline: DEADLINE, concurrency: CONCURRENCY, ..config.controller };
    let reconciler = Packages {
        client: client.clone(),
        instances: instances.clone(),
        operations: operations.clone(),
        library: config.library,
        may_be_local: config.may_be_local,
        naming: tokio::sync::Mutex::default(),
    };
    Controller::new(client, reconciler, harness)
        .watches_cache(&instances, |instance: &VnfInstance, packages| {
            of_vnfd(packages, &instance.spec.vnfd_id)
        })
        .watches_cache(&operations, |operation: &VnfLcmOperation, packages| {
            let vnfd = operation.spec.parameters.get("vnfdId").and_then(serde_json::Value::as_str);
            vnfd.map(|vnfd| of_vnfd(packages, vnfd)).unwrap_or_default()
        })
        .run(shutdown)
        .await;
}

/// The packages with a VNFD, of the controller's own: one that gets it later is reconciled for that. Of another copy, a change that comes
/// between the two would wake nobody.
fn of_vnfd(packages: &Objects<VnfPackage>, vnfd: &str) -> Vec<ObjectKey> {
    packages.keys_where(|package| vnfd_of(package) == Some(vnfd))
}

fn vnfd_of(package: &VnfPackage) -> Option<&str> {
    package.status.as_ref().and_then(|status| status.vnfd_id.as_deref())
}

/// What is to be done about a package's content.
enum Work {
    /// It lies in the library: as this upload.
    Read(u32),
    /// It is to be fetched.
    Fetch(VnfPackageSource),
    /// Nothing.
    None,
}

fn work(package: &VnfPackage) -> Work {
    let status = package.status.as_ref();
    let state = status.map(|status| status.onboarding_state).unwrap_or_default();
    if state == PackageOnboardingState::Onboarded {
        return Work::None;
    }
    let seen = status.and_then(|status| status.observed_upload).unwrap_or(0);
    let generation = status.and_then(|status| status.observed_generation).unwrap_or(0);
    match (&package.spec.content, &package.spec.source) {
        (Some(content), _) if content.upload > seen => Work::Read(content.upload),
        (None, Some(source)) if generation < package.metadata.generation.unwrap_or(1) => {
            Work::Fetch(source.clone())
        }
        _ => Work::None,
    }
}

impl Reconciler for Packages {
    type Object = VnfPackage;
    type Error = Failure;

    const NAME: &'static str = "vnf-package";

    async fn reconcile(&self, package: Arc<VnfPackage>) -> Result<Requeue, Failure> {
        let namespace = package.namespace().unwrap_or_default();
        let api: Api<VnfPackage> = Api::namespaced(self.client.clone(), &namespace);
        let uid = package.uid().unwrap_or_default();
        if is_deleted(package.as_ref()) {
            if self.usage(&package) == PackageUsageState::InUse || self.is_used(&package).await? {
                return Ok(Requeue::After(AGAIN));
            }
            let library = self.library.clone();
            tokio::task::spawn_blocking(move || library.remove(&uid)).await??;
            remove_finalizer(&api, package.as_ref(), FINALIZER).await?;
            return Ok(Requeue::OnChange);
        }
        let mut current = package.as_ref().clone();
        if !has_finalizer(&current, FINALIZER) {
            current = add_finalizer(&api, &current, FINALIZER).await?;
        }
        match work(&current) {
            Work::Read(upload) => {
                let current = self.enter(&api, &current, PackageOnboardingState::Processing).await?;
                let expected = current.spec.content.as_ref().map(|content| content.sha256.clone());
                let read = self.read(&uid, expected).await?;
                self.finish(&api, &current, read, Some(upload)).await?;
            }
            Work::Fetch(source) => {
                let current = self.enter(&api, &current, PackageOnboardingState::Uploading).await?;
                let read = match self.fetch(&namespace, &uid, &source).await {
                    Ok(()) => {
                        self.enter(&api, &current, PackageOnboardingState::Processing).await?;
                        self.read(&uid, None).await?
                    }
                    Err(problem) => Err(problem),
                };
                self.finish(&api, &current, read, None).await?;
            }
            Work::None => {}
        }
        let usage = self.usage(&package);
        update_status(&api, &api.get(&package.name_any()).await?, |status| status.usage_state = usage)
            .await?;
        Ok(Requeue::OnChange)
    }
}

impl Packages {
    /// The same of the API, for what cannot be undone: the end of an operation may be known here before what it made of its instance.
    async fn is_used(&self, package: &VnfPackage) -> Result<bool, Failure> {
        let Some(vnfd) = vnfd_of(package) else { return Ok(false) };
        let namespace = package.namespace().unwrap_or_default();
        let instances: Api<VnfInstance> = Api::namespaced(self.client.clone(), &namespace);
        let all = instances.list(&ListParams::default()).await?.items;
        Ok(all.iter().any(|instance| instance.spec.vnfd_id == vnfd))
    }

    /// Whether instances are made of a package, or are becoming so. Of several packages with the same VNFD there is one that is onboarded.
    fn usage(&self, package: &VnfPackage) -> PackageUsageState {
        let Some(vnfd) = vnfd_of(package) else { return PackageUsageState::NotInUse };
        let is_of = |instance: &VnfInstance| {
            instance.spec.vnfd_id == vnfd && instance.namespace() == package.namespace()
        };
        let leads_to = |operation: &VnfLcmOperation| {
            operation.may_lead_to(vnfd) && operation.namespace() == package.namespace()
        };
        if self.instances.any(is_of) || self.operations.any(leads_to) {
            PackageUsageState::InUse
        } else {
            PackageUsageState::NotInUse
        }
    }

    async fn enter(
        &self,
        api: &Api<VnfPackage>,
        package: &VnfPackage,
        state: PackageOnboardingState,
    ) -> Result<VnfPackage, Failure> {
        let change = |status: &mut VnfPackageStatus| {
            status.onboarding_state = state;
            status.onboarding_failure = None;
        };
        Ok(update_status(api, package, change).await?)
    }

    /// Reads the content of a package; `expected` is the digest that it must have.
    async fn read(
        &self,
        uid: &str,
        expected: Option<String>,
    ) -> Result<Result<(Arc<Package>, Committed), ProblemDetails>, Failure> {
        let (library, uid) = (self.library.clone(), uid.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let content = library.digest(&uid)?;
            Ok::<_, LibraryError>((library.package(&uid)?, content))
        });
        Ok(match read.await? {
            Ok((_, content)) if expected.as_ref().is_some_and(|expected| *expected != content.digest) => {
                let detail = "the content in the library is not what was uploaded; upload it again";
                Err(problem(500, "The content is damaged", detail))
            }
            Ok(read) => Ok(read),
            Err(error) => Err(library_problem(&error)),
        })
    }

    async fn fetch(
        &self,
        namespace: &str,
        uid: &str,
        source: &VnfPackageSource,
    ) -> Result<(), ProblemDetails> {
        let login = match &source.credentials {
            None => None,
            Some(name) => Some(self.login(namespace, name).await?),
        };
        fetch::fetch(&self.library, uid, &source.url, login.as_ref(), self.may_be_local).await.map(drop)
    }

    async fn login(&self, namespace: &str, name: &str) -> Result<Login, ProblemDetails> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = secrets.get(name).await.map_err(|error| {
            problem(
                500,
                "The content cannot be fetched",
                format!("Secret {name}: {}", describe_kube_error(&error)),
            )
        })?;
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| {
            data.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned()).unwrap_or_default()
        };
        Ok(Login { name: text("username"), password: text("password") })
    }

    /// Writes down what became of the content. What was refused is not kept.
    async fn finish(
        &self,
        api: &Api<VnfPackage>,
        package: &VnfPackage,
        read: Result<(Arc<Package>, Committed), ProblemDetails>,
        upload: Option<u32>,
    ) -> Result<(), Failure> {
        let _naming = self.naming.lock().await;
        let read = match read {
            Ok(read) => self.check_unique(api, package, read).await?,
            refused => refused,
        };
        if read.is_err() {
            let (library, uid) = (self.library.clone(), package.uid().unwrap_or_default());
            tokio::task::spawn_blocking(move || library.remove(&uid)).await??;
        }
        let generation = package.metadata.generation;
        update_status(api, package, |status| {
            match &read {
                Ok((content, committed)) => describe(status, content, committed),
                Err(problem) => refuse(status, problem.clone()),
            }
            status.observed_upload = upload.or(status.observed_upload);
            status.observed_generation = generation;
        })
        .await?;
        if let Err(problem) = read {
            let name = package.name_any();
            tracing::warn!(package = name, "the content is refused: {}", problem.detail);
        }
        Ok(())
    }

    /// A VNFD is in one package: instances name it, and not the package. The API is asked: the watch may be behind what was written for the
    /// package before.
    async fn check_unique(
        &self,
        api: &Api<VnfPackage>,
        package: &VnfPackage,
        read: (Arc<Package>, Committed),
    ) -> Result<Result<(Arc<Package>, Committed), ProblemDetails>, Failure> {
        let vnfd = read.0.vnfd().id.as_str();
        let is_same = |other: &VnfPackage| {
            other.uid() != package.uid()
                && other.namespace() == package.namespace()
                && vnfd_of(other) == Some(vnfd)
                && !is_deleted(other)
        };
        let all = api.list(&ListParams::default()).await?.items;
        Ok(match all.iter().find(|other| is_same(other)) {
            None => Ok(read),
            Some(other) => {
                let other = other.uid().unwrap_or_default();
                let detail =
                    format!("VNF package {other} has the VNFD {vnfd} already; delete that one first");
                Err(problem(409, "The VNFD is known already", detail))
            }
        })
    }
}
