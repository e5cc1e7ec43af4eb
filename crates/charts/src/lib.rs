//! Charts of composite applications: what a Helm chart becomes with the profile and the overrides of a deployment.
//!
//! [`Renderer::render`] takes a chart and a profile as they were uploaded (gzip-compressed tar archives) and gives the manifests in the order
//! in which they are to be installed, the CustomResourceDefinitions, and the hooks with their events and weights. Templates are rendered by
//! the `helm` program, major version 3, in a process of its own that is kept within limits and away from the network; a chart without
//! `Chart.yaml` is a directory of plain manifests, which is read without helm. What came out is kept by the digest of all that went in.
//!
//! | module | what it does |
//! |---|---|
//! | [`archive`] | files of an uploaded archive, nothing of it ever written outside of where it belongs |
//! | [`profile`] | a profile's `manifest.yaml`: values, and files that are copied into the chart |
//! | [`overrides`] | `--set` as helm understands it, so that no secret value is ever an argument of a process |
//! | [`manifests`] | documents, objects, hooks and their order |
//! | [`yaml`] | YAML as the Kubernetes tools read it |
//! | [`helm`] | the program: found, checked, run |
//! | [`render`] | all of it together |
//! | `cache` | renderings by digest, in memory and on disk |

pub mod archive;
mod cache;
pub mod helm;
pub mod manifests;
pub mod overrides;
pub mod profile;
pub mod render;
pub mod yaml;

pub use archive::{ArchiveError, Files, Limits, Problem};
pub use cache::Seal;
pub use helm::{HelmError, ProcessLimits};
pub use manifests::{Hook, HookEvent, Object, Rendering};
pub use render::{Config, RenderError, Renderer, Request, check_chart, check_profile};
