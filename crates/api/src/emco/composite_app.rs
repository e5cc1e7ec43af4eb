//! Projects, composite applications, their applications, and profiles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FileReference, document::document};

document! {
    /// A project: what composite applications and logical clouds belong to.
    Project("Project", "projects", "emcoproject"), ProjectSpec, "Project", "projects/{project}", []
    {}
}

document! {
    /// A version of a composite application. Which one is in the path.
    CompositeApp("CompositeApp", "compositeapps", "capp"), CompositeAppSpec, "CompositeApp",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}", []
    {}
}

document! {
    /// An application: a Helm chart whose directory is named like it, or plain manifests.
    App("App", "apps", "emcoapp"), AppSpec, "App",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/apps/{app}", []
    {
        /// The chart: a gzip-compressed tar archive.
        pub file: FileReference,
    }
}

document! {
    /// Something that must be so with another application before this one is applied.
    AppDependency("AppDependency", "appdependencies", "appdep"), AppDependencySpec, "AppDependency",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/apps/{app}/dependency/{dependency}",
    [printcolumn = r#"{"name":"App","type":"string","jsonPath":".spec.app"}"#]
    {
        /// The other application.
        #[schemars(length(min = 1, max = 128))]
        pub app: String,
        /// What must be so.
        pub op_status: DependencyStatus,
        /// Seconds to wait after that.
        #[serde(default)]
        #[schemars(range(min = 0, max = 4096))]
        pub wait: i64,
    }
}

/// What an application waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DependencyStatus {
    /// All resources of the other application are ready.
    #[default]
    Ready,
    /// All resources of the other application are applied.
    Deployed,
}

document! {
    /// A set of profiles, one for each application.
    CompositeProfile("CompositeProfile", "compositeprofiles", "cprofile"), CompositeProfileSpec, "CompositeProfile",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/composite-profiles/{compositeProfile}", []
    {}
}

document! {
    /// Values and files that replace those of an application's chart.
    Profile("Profile", "profiles", "emcoprofile"), ProfileSpec, "AppProfile",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/composite-profiles/{compositeProfile}/profiles/{profile}",
    [printcolumn = r#"{"name":"App","type":"string","jsonPath":".spec.app"}"#]
    {
        /// The application; a composite profile has one profile of each at most.
        #[schemars(length(min = 1, max = 128))]
        pub app: String,
        /// The profile: a gzip-compressed tar archive with `manifest.yaml`.
        pub file: FileReference,
    }
}
