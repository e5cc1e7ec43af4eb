//! Container network functions: VNFs whose VIM is a Kubernetes cluster (types `ETSINFV.KUBERNETES.V_1` and `ETSINFV.HELM.V_3`).
//!
//! What they consist of is in the package: the manifests that `lcm-kubernetes-def-files` of `additionalParams` names, objects of any kind that the
//! cluster knows, or the chart `helm_chart_path`. A VDU is the workload whose name is the VDU's property `name`; a VNFC is one of its pods, known by
//! its name.
//!
//! | module | what it does |
//! |---|---|
//! | [`manifests`] | pure: documents become objects, in the order in which they are made |
//! | [`plan`] | pure: an operation becomes steps |
//! | [`readiness`] | pure: whether an object has become what it was declared to be |
//! | [`pods`] | pure: pods become VNFCs |
//! | `cluster`, [`steps`] | effects on the cluster |
//! | [`helm`] | charts, by the `helm` program |

mod cluster;
pub mod helm;
pub mod manifests;
pub mod plan;
pub mod pods;
pub mod readiness;
pub mod steps;

pub use cluster::namespaces;
pub use plan::Containers;
pub use steps::register;

/// Label of objects: uid of the VnfInstance that they are of.
pub const INSTANCE_LABEL: &str = "nfv.drystone.dev/vnf-instance";

/// Parameter of instantiation and of a change of the package: paths of manifests in the package.
pub const DEFINITION_FILES: &str = "lcm-kubernetes-def-files";
