//! Images of containers: there already, or pulled, by each container's policy.
//!
//! Pulls go on in the background; a container that needs one waits, and its pod's worker is woken when the image is there or the
//! pull failed. A pull that failed is tried again after a pause that doubles.

mod credentials;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    jiff::Timestamp,
};
use tokio::sync::{Notify, Semaphore};

use self::credentials::{DockerConfig, credentials_for};
use super::{backoff::after, objects::Objects, status::Waiting};
use crate::{
    cri::{
        Runtime,
        messages::{AuthConfig, Image, PodSandboxConfig},
    },
    events::{Events, Severity},
};

/// Pulls at the same time.
const MAX_PULLS: usize = 4;
/// Pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Whether a container's image can be used.
#[derive(Debug, Clone)]
pub enum Availability {
    /// It can.
    Ready(Box<Image>),
    /// Not yet, and why; to be asked about again then, if a time is given, else when the worker is woken.
    NotYet(Waiting, Option<Timestamp>),
}

/// What decides whether an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

/// A container that needs an image, once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Need {
    pod_uid: String,
    container: String,
    attempt: u32,
}

#[derive(Debug, Clone)]
enum Pull {
    UnderWay,
    Done,
    Failed { message: String, retry_at: Timestamp, pause: Duration },
}

/// Gets images.
#[derive(Debug)]
pub struct Images {
    runtime: Runtime,
    objects: Arc<Objects>,
    events: Events,
    pulls: Arc<Mutex<HashMap<Need, Pull>>>,
    permits: Arc<Semaphore>,
}

/// A container's need of its image.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The pod.
    pub pod: &'a Arc<Pod>,
    /// The container.
    pub container: &'a Container,
    /// How many runs there were before.
    pub attempt: u32,
    /// In whose context a pull is.
    pub sandbox: &'a PodSandboxConfig,
    /// Who is woken when a pull ends.
    pub worker: &'a Arc<Notify>,
}

impl Images {
    /// Gets images by this runtime.
    pub fn new(runtime: Runtime, objects: Arc<Objects>, events: Events) -> Self {
        Self { runtime, objects, events, pulls: Arc::default(), permits: Arc::new(Semaphore::new(MAX_PULLS)) }
    }

    /// Whether a container's image can be used; begins to pull it if necessary.
    pub async fn ensure(&self, request: Request<'_>, now: Timestamp) -> Availability {
        let Request { pod, container, attempt, .. } = request;
        let image = container.image.clone().unwrap_or_default();
        let need = Need {
            pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
            container: container.name.clone(),
            attempt,
        };
        let state = self.lock().get(&need).cloned();
        match state {
            Some(Pull::UnderWay) => {
                return Availability::NotYet(waiting("ContainerCreating", String::new()), None);
            }
            Some(Pull::Failed { message, retry_at, .. }) if retry_at > now => {
                return Availability::NotYet(waiting("ImagePullBackOff", message), Some(retry_at));
            }
            _ => {}
        }
        let found = match self.runtime.image_status(&image).await {
            Ok(found) => found,
            Err(error) => {
                let retry = after(now, Duration::from_secs(1));
                return Availability::NotYet(waiting("ImageInspectError", error.to_string()), Some(retry));
            }
        };
        let pulled = matches!(state, Some(Pull::Done));
        match (found, policy(container)) {
            (Some(found), Policy::IfNotPresent | Policy::Never) => self.present(request, found, pulled),
            (Some(found), Policy::Always) if pulled => self.present(request, found, pulled),
            (None, Policy::Never) => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                self.events.container(
                    pod,
                    &container.name,
                    Severity::Warning,
                    "ErrImageNeverPull",
                    message.clone(),
                );
                let retry = after(now, FIRST_PAUSE);
                Availability::NotYet(waiting("ErrImageNeverPull", message), Some(retry))
            }
            _ => self.begin(request, need, image),
        }
    }

    /// Forgets a pod.
    pub fn forget(&self, uid: &str) {
        self.lock().retain(|need, _| need.pod_uid != uid);
    }

    fn present(&self, request: Request<'_>, image: Image, pulled: bool) -> Availability {
        let name = &request.container.name;
        if !pulled {
            let text = request.container.image.as_deref().unwrap_or_default();
            let message = format!("Container image {text:?} already present on machine");
            self.events.container(request.pod, name, Severity::Normal, "Pulled", message);
        }
        let uid = request.pod.metadata.uid.as_deref().unwrap_or_default();
        self.lock().retain(|need, _| need.pod_uid != uid || need.container != *name);
        Availability::Ready(Box::new(image))
    }

    fn begin(&self, request: Request<'_>, need: Need, image: String) -> Availability {
        let before = self.lock().insert(need.clone(), Pull::UnderWay);
        let pause = match before {
            Some(Pull::Failed { pause, .. }) => (pause * 2).min(MAX_PAUSE),
            _ => FIRST_PAUSE,
        };
        let puller = Puller {
            runtime: self.runtime.clone(),
            objects: Arc::clone(&self.objects),
            events: self.events.clone(),
            pulls: Arc::clone(&self.pulls),
            permits: Arc::clone(&self.permits),
            pod: Arc::clone(request.pod),
            sandbox: request.sandbox.clone(),
            worker: Arc::clone(request.worker),
            need,
            image,
            pause,
        };
        tokio::spawn(puller.run());
        Availability::NotYet(waiting("ContainerCreating", String::new()), None)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Need, Pull>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting { reason: reason.to_owned(), message }
}

/// The policy that a container says, or that follows from its image's tag.
fn policy(container: &Container) -> Policy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some("IfNotPresent") => Policy::IfNotPresent,
        _ if is_latest(container.image.as_deref().unwrap_or_default()) => Policy::Always,
        _ => Policy::IfNotPresent,
    }
}

/// Whether an image's name says nothing of a version.
fn is_latest(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or_default();
    !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

struct Puller {
    runtime: Runtime,
    objects: Arc<Objects>,
    events: Events,
    pulls: Arc<Mutex<HashMap<Need, Pull>>>,
    permits: Arc<Semaphore>,
    pod: Arc<Pod>,
    sandbox: PodSandboxConfig,
    worker: Arc<Notify>,
    need: Need,
    image: String,
    pause: Duration,
}

impl Puller {
    async fn run(self) {
        let _permit = self.permits.acquire().await;
        self.tell(Severity::Normal, "Pulling", format!("Pulling image {:?}", self.image));
        let begin = std::time::Instant::now();
        let result = match self.pull().await {
            Ok(()) => {
                let message = format!(
                    "Successfully pulled image {:?} in {} ms",
                    self.image,
                    begin.elapsed().as_millis()
                );
                self.tell(Severity::Normal, "Pulled", message);
                Pull::Done
            }
            Err(problem) => {
                let message = format!("Failed to pull image {:?}: {problem}", self.image);
                self.tell(Severity::Warning, "Failed", message);
                self.tell(Severity::Normal, "BackOff", format!("Back-off pulling image {:?}", self.image));
                let message = format!("Back-off pulling image {:?}: {problem}", self.image);
                Pull::Failed { message, retry_at: after(Timestamp::now(), self.pause), pause: self.pause }
            }
        };
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        // Unless the pod was forgotten meanwhile.
        if let Some(state) = pulls.get_mut(&self.need) {
            *state = result;
        }
        drop(pulls);
        self.worker.notify_one();
    }

    fn tell(&self, severity: Severity, reason: &'static str, message: String) {
        self.events.container(&self.pod, &self.need.container, severity, reason, message);
    }

    /// With each of the pod's credentials that fit, then without.
    async fn pull(&self) -> Result<(), String> {
        let mut last = String::new();
        let attempts = self.credentials().await.into_iter().map(Some).chain([None]);
        for auth in attempts {
            match self.runtime.pull_image(&self.image, auth, Some(self.sandbox.clone())).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error.message().to_owned(),
            }
        }
        Err(last)
    }

    async fn credentials(&self) -> Vec<AuthConfig> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        let secrets = self.pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_ref());
        let mut configs = Vec::new();
        for reference in secrets.into_iter().flatten() {
            match self.objects.secret(namespace, &reference.name, std::time::Instant::now()).await {
                Ok(Some(secret)) => configs.extend(DockerConfig::of_secret(&secret)),
                Ok(None) => {
                    let message = format!("secret {:?} of imagePullSecrets not found", reference.name);
                    self.tell(Severity::Warning, "FailedToRetrieveImagePullSecret", message);
                }
                Err(error) => tracing::warn!(%error, "reading an image pull secret"),
            }
        }
        credentials_for(&self.image, &configs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_follow_tags() {
        let policy_of = |image: &str, policy: Option<&str>| {
            super::policy(&Container {
                image: Some(image.to_owned()),
                image_pull_policy: policy.map(str::to_owned),
                ..Container::default()
            })
        };
        assert_eq!(policy_of("hello", None), Policy::Always);
        assert_eq!(policy_of("registry:5000/hello", None), Policy::Always);
        assert_eq!(policy_of("registry:5000/hello:latest", None), Policy::Always);
        assert_eq!(policy_of("registry:5000/hello:1", None), Policy::IfNotPresent);
        assert_eq!(policy_of("hello@sha256:abc", None), Policy::IfNotPresent);
        assert_eq!(policy_of("hello", Some("Never")), Policy::Never);
    }
}
