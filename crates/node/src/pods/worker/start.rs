//! Starting a container: image, environment, mounts, creation, start, hook.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    jiff::Timestamp,
};

use super::{
    StepError, Worker,
    actions::{Outcome, container, grace},
};
use crate::{
    cri::messages::Image,
    events::Severity,
    pods::{
        hooks,
        images::{Availability, Request},
        observed::Run,
        spec::{
            container::{Prepared, container_config},
            environment::{Sources, environment},
            sandbox::sandbox_config,
            security,
            service_links::service_links,
        },
        status::Waiting,
        volumes::mounts::hosts_text,
    },
};

/// Why a container could not be made.
struct Obstacle {
    reason: &'static str,
    message: String,
}

impl Obstacle {
    /// Something that its specification refers to is not there or makes no sense.
    #[expect(clippy::needless_pass_by_value, reason = "`map_err` gives the error away")]
    fn config(error: impl ToString) -> Self {
        Self { reason: "CreateContainerConfigError", message: error.to_string() }
    }
}

impl Worker {
    pub(super) async fn start(&mut self, name: &str, attempt: u32) -> Result<Outcome, StepError> {
        let spec = self.spec();
        let Some(container) = container(&spec, name).cloned() else { return Ok(Outcome::Done) };
        let image = match self.image(&container, attempt).await {
            Availability::Ready(image) => image,
            Availability::NotYet(waiting, retry) => {
                self.waiting.insert(name.to_owned(), waiting);
                return Ok(Outcome::Blocked(retry));
            }
        };
        if attempt > 0 {
            // Another run sees its objects as they are now.
            self.since = std::time::Instant::now();
        }
        let now = Timestamp::now();
        let ended = self.observed.latest(name).and_then(Run::exit);
        if let Some(finished) = ended.map(|exit| exit.finished.unwrap_or(now)) {
            self.backoff.restarted(name, finished, now);
        }
        match self.create_and_start(&spec, &container, &image, attempt).await {
            Ok(()) => {
                self.obstacles = 0;
                Ok(Outcome::Done)
            }
            Err(obstacle) => {
                let Obstacle { reason, message } = obstacle;
                let events = &self.context.events;
                let text = format!("Error: {message}");
                events.container(&self.pod, name, Severity::Warning, "Failed", text);
                let waiting = Waiting { reason: reason.to_owned(), message };
                self.waiting.insert(name.to_owned(), waiting);
                Ok(Outcome::Blocked(Some(self.obstacle())))
            }
        }
    }

    async fn image(&self, container: &Container, attempt: u32) -> Availability {
        let sandbox = self.sandbox_config();
        let request = Request { pod: &self.pod, container, attempt, sandbox: &sandbox, worker: &self.wake };
        self.context.images.ensure(request, Timestamp::now()).await
    }

    fn sandbox_config(&self) -> crate::cri::messages::PodSandboxConfig {
        let attempt = self.observed.ready_sandbox().map_or(0, |sandbox| sandbox.attempt);
        sandbox_config(&self.pod, &self.context.facts, attempt)
    }

    async fn create_and_start(
        &mut self,
        spec: &PodSpec,
        container: &Container,
        image: &Image,
        attempt: u32,
    ) -> Result<(), Obstacle> {
        security::check_user(spec, container, image).map_err(Obstacle::config)?;
        self.set_up_volumes().await.map_err(Obstacle::config)?;
        let environment = self.environment(spec, container).await?;
        let addresses: Vec<_> = self.address().into_iter().collect();
        let hosts = hosts_text(&self.pod, &addresses, &self.context.facts.cluster_domain);
        let volumes = &self.context.volumes;
        let mounts = volumes.container_mounts(&self.pod, container, attempt, &environment, hosts).await;
        let mounts = mounts.map_err(Obstacle::config)?.mounts;
        let prepared = Prepared { image, attempt, environment: &environment, mounts };
        let config = container_config(&self.pod, container, &self.context.facts, prepared);
        let Some(sandbox) = self.observed.ready_sandbox().map(|sandbox| sandbox.id.clone()) else {
            return Err(Obstacle { reason: "CreateContainerError", message: "the sandbox is gone".into() });
        };
        let runtime = &self.context.runtime;
        let created = runtime.create_container(&sandbox, config, self.sandbox_config()).await;
        let id = created.map_err(|error| Obstacle {
            reason: "CreateContainerError",
            message: error.message().to_owned(),
        })?;
        let (events, name) = (&self.context.events, &container.name);
        let message = format!("Created container: {name}");
        events.container(&self.pod, name, Severity::Normal, "Created", message);
        runtime
            .start_container(&id)
            .await
            .map_err(|error| Obstacle { reason: "RunContainerError", message: error.message().to_owned() })?;
        let message = format!("Started container {name}");
        events.container(&self.pod, name, Severity::Normal, "Started", message);
        self.run_post_start_hook(spec, container, &id).await
    }

    async fn environment(
        &self,
        spec: &PodSpec,
        container: &Container,
    ) -> Result<BTreeMap<String, String>, Obstacle> {
        let volumes = &self.context.volumes;
        let objects = volumes.objects_for(&self.pod, container, self.since).await;
        let objects = objects.map_err(Obstacle::config)?;
        self.context.services.listed().await;
        let services = self.context.services.all();
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        let services = service_links(&services, namespace, spec.enable_service_links != Some(false));
        let addresses: Vec<_> = self.address().into_iter().collect();
        let sources = Sources {
            pod: &self.pod,
            addresses: &addresses,
            node: &self.context.facts,
            services: &services,
            objects: &objects,
        };
        environment(container, sources).map_err(Obstacle::config)
    }

    /// A container whose hook fails is stopped; what follows is up to the restart policy.
    async fn run_post_start_hook(
        &self,
        spec: &PodSpec,
        container: &Container,
        id: &str,
    ) -> Result<(), Obstacle> {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        // As long as it likes, within reason: the container is not ready before.
        let limit = Duration::from_secs(600);
        let context = &self.context;
        let done =
            hooks::run(hook, container, id, self.address(), &context.runtime, &context.http, limit).await;
        let Err(problem) = done else { return Ok(()) };
        let message = format!("PostStartHook failed: {problem}");
        let events = &context.events;
        events.container(
            &self.pod,
            &container.name,
            Severity::Warning,
            "FailedPostStartHook",
            message.clone(),
        );
        if let Err(error) = context.runtime.stop_container(id, grace(spec)).await {
            tracing::warn!(%error, "stopping a container whose hook failed");
        }
        Err(Obstacle { reason: "PostStartHookError", message })
    }
}
