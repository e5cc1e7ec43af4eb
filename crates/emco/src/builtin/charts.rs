//! Charts of deployments: what `drystone-charts` makes of the files that belong to documents.

use std::sync::Arc;

use async_trait::async_trait;
use drystone_api::emco::FileReference;
use drystone_charts::{Hook, HookEvent, Object, RenderError, Renderer, Rendering, Request};

use super::controllers::Files;
use crate::{
    model::{DeployedApp, HookTime, Manifest, Manifests, Refusal},
    seams::{ChartFailure, Charts},
};

/// Renders the charts of deployments. Cheap to clone.
#[derive(Clone)]
pub struct RenderedCharts {
    renderer: Renderer,
    files: Arc<dyn Files>,
    kube_version: Option<String>,
}

impl RenderedCharts {
    /// Charts and profiles come from `files`. `kube_version`: the version of Kubernetes that templates are told; helm's own without one.
    pub fn new(renderer: Renderer, files: Arc<dyn Files>, kube_version: Option<String>) -> Self {
        Self { renderer, files, kube_version }
    }

    async fn content(&self, app: &str, file: &FileReference) -> Result<Arc<[u8]>, ChartFailure> {
        let content = self.files.content(file).await;
        content.map_err(|why| {
            ChartFailure::NotNow(format!("app {app}: file {} cannot be read: {why}", file.name))
        })
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
        let profile = match &app.profile {
            Some(profile) => Some(self.content(&app.name, profile).await?),
            None => None,
        };
        let request = Request {
            app: app.name.clone(),
            chart: self.content(&app.name, &app.chart).await?,
            profile,
            overrides: app.overrides.clone(),
            release: release.to_owned(),
            namespace: namespace.to_owned(),
            kube_version: self.kube_version.clone(),
        };
        let rendering = self.renderer.render(&request).await.map_err(failure)?;
        for warning in &rendering.warnings {
            tracing::warn!("app {}: {warning}", app.name);
        }
        Ok(manifests(&rendering))
    }
}

fn failure(error: RenderError) -> ChartFailure {
    if error.is_transient() {
        ChartFailure::NotNow(error.to_string())
    } else {
        ChartFailure::Refused(Refusal::unfit(error.to_string()))
    }
}

/// What goes to clusters of a rendering. Hooks of updates and roll-backs are not run, as in EMCO.
fn manifests(rendering: &Rendering) -> Manifests {
    let mut manifests = Manifests {
        definitions: rendering.crds.iter().map(manifest).collect(),
        objects: rendering.manifests.iter().map(manifest).collect(),
        ..Manifests::default()
    };
    for (event, time) in [
        (HookEvent::PreInstall, HookTime::PreInstall),
        (HookEvent::PostInstall, HookTime::PostInstall),
        (HookEvent::PreDelete, HookTime::PreDelete),
        (HookEvent::PostDelete, HookTime::PostDelete),
    ] {
        let hooks: Vec<Manifest> =
            rendering.hooks_of(event).map(|Hook { object, .. }| manifest(object)).collect();
        if !hooks.is_empty() {
            manifests.hooks.insert(time, hooks);
        }
    }
    manifests
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Read as _};

    use drystone_api::emco::{PlacementIntent, PlacementRules};
    use drystone_charts::Config;

    use super::*;

    const MANIFESTS: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: d}
---
apiVersion: batch/v1
kind: Job
metadata: {name: j, annotations: {helm.sh/hook: 'pre-install,post-delete,pre-upgrade'}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: u, annotations: {helm.sh/hook: pre-upgrade}}
";

    struct Chart;

    #[async_trait]
    impl Files for Chart {
        async fn content(&self, file: &FileReference) -> Result<Arc<[u8]>, String> {
            if file.sha256 != "chart" {
                return Err("the disk is away".to_owned());
            }
            // A tar archive of one file in gzip, as short as it gets.
            let mut header = [0_u8; 512];
            header[..10].copy_from_slice(b"web/m.yaml");
            header[100..107].copy_from_slice(b"0000644");
            header[124..135].copy_from_slice(format!("{:011o}", MANIFESTS.len()).as_bytes());
            header[148..156].copy_from_slice(b"        ");
            header[156] = b'0';
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
            let mut tar = Vec::from(header);
            tar.extend_from_slice(MANIFESTS.as_bytes());
            tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
            let mut packed = Vec::new();
            flate2::read::GzEncoder::new(tar.as_slice(), flate2::Compression::fast())
                .read_to_end(&mut packed)
                .unwrap();
            Ok(packed.into())
        }
    }

    fn app(name: &str, chart: &str) -> DeployedApp {
        DeployedApp {
            name: name.to_owned(),
            chart: FileReference { sha256: chart.to_owned(), length: 1, name: "web.tgz".to_owned() },
            profile: None,
            overrides: BTreeMap::new(),
            dependencies: Vec::new(),
            intent: PlacementIntent::default(),
            rules: PlacementRules::default(),
        }
    }

    #[tokio::test]
    async fn a_rendering_becomes_what_goes_to_clusters() {
        let charts = RenderedCharts::new(Renderer::new(Config::default()), Arc::new(Chart), None);
        let manifests = charts.render(&app("web", "chart"), "r1", "n").await.unwrap();
        let names = |all: &[Manifest]| all.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&manifests.definitions), names(&manifests.objects)),
            (vec!["d".to_owned()], vec!["web".to_owned()])
        );
        let hooks: Vec<_> = manifests.hooks.iter().map(|(time, hooks)| (*time, names(hooks))).collect();
        assert_eq!(
            hooks,
            [(HookTime::PreInstall, vec!["j".to_owned()]), (HookTime::PostDelete, vec!["j".to_owned()])]
        );
    }

    #[tokio::test]
    async fn what_may_succeed_later_is_told_apart() {
        let charts = RenderedCharts::new(Renderer::new(Config::default()), Arc::new(Chart), None);
        let away = charts.render(&app("web", "other"), "r1", "n").await.unwrap_err();
        assert!(matches!(&away, ChartFailure::NotNow(why) if why.contains("the disk is away")), "{away}");
        let wrong = charts.render(&app("other", "chart"), "r1", "n").await.unwrap_err();
        assert!(matches!(&wrong, ChartFailure::Refused(why) if why.code == 422), "{wrong}");
    }
}
