//! Charts by the renderer, and files by their digests, as the steps need them.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use drystone_api::emco::FileReference;
use drystone_charts::{HookEvent, Object, RenderError, Renderer, Rendering, Request};

use crate::{
    builtin::controllers::Files,
    model::{DeployedApp, HookTime, Manifest, Manifests, Refusal},
    seams::{ChartFailure, Charts},
};

/// Renders charts out of files.
#[derive(Clone)]
pub struct RenderedCharts {
    renderer: Renderer,
    files: Arc<dyn Files>,
}

impl RenderedCharts {
    /// By a renderer, of files.
    pub fn new(renderer: Renderer, files: Arc<dyn Files>) -> Self {
        Self { renderer, files }
    }

    async fn content(&self, app: &str, what: &str, file: &FileReference) -> Result<Arc<[u8]>, ChartFailure> {
        let read = self.files.content(file).await;
        read.map_err(|why| ChartFailure::Refused(Refusal::failed(format!("{what} of app {app}: {why}"))))
    }
}

#[async_trait]
impl Charts for RenderedCharts {
    async fn render(
        &self,
        app: &DeployedApp,
        release: &str,
        namespace: &str,
    ) -> Result<Manifests, ChartFailure> {
        let chart = self.content(&app.name, "chart", &app.chart).await?;
        let profile = match &app.profile {
            Some(file) => Some(self.content(&app.name, "profile", file).await?),
            None => None,
        };
        let request = Request {
            app: app.name.clone(),
            chart,
            profile,
            overrides: app.overrides.clone(),
            release: release.to_owned(),
            namespace: namespace.to_owned(),
            kube_version: None,
        };
        match self.renderer.render(&request).await {
            Ok(rendering) => Ok(manifests(&rendering)),
            Err(error) if error.is_transient() && !matches!(error, RenderError::NoHelm(_)) => {
                Err(ChartFailure::NotNow(error.to_string()))
            }
            Err(error @ (RenderError::NoHelm(_) | RenderError::Files { .. })) => {
                Err(ChartFailure::Refused(Refusal::failed(error.to_string())))
            }
            Err(error) => Err(ChartFailure::Refused(Refusal::unfit(error.to_string()))),
        }
    }
}

fn manifest(object: &Object) -> Manifest {
    Manifest {
        api_version: object.api_version.clone(),
        kind: object.kind.clone(),
        name: object.name.clone(),
        namespace: object.namespace.clone(),
        text: object.manifest.as_str().into(),
    }
}

fn manifests(rendering: &Rendering) -> Manifests {
    let times = [
        (HookEvent::PreInstall, HookTime::PreInstall),
        (HookEvent::PostInstall, HookTime::PostInstall),
        (HookEvent::PreDelete, HookTime::PreDelete),
        (HookEvent::PostDelete, HookTime::PostDelete),
    ];
    let mut hooks = BTreeMap::new();
    for (event, time) in times {
        let of_time: Vec<Manifest> = rendering.hooks_of(event).map(|hook| manifest(&hook.object)).collect();
        if !of_time.is_empty() {
            hooks.insert(time, of_time);
        }
    }
    Manifests {
        definitions: rendering.crds.iter().map(manifest).collect(),
        objects: rendering.manifests.iter().map(manifest).collect(),
        hooks,
    }
}
