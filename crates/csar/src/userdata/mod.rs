//! Stack requests: what is asked of Heat for an operation.
//!
//! A package of Tacker's shape names a Python class for this (`lcm-operation-user-data-class`). The classes that come with Tacker, and the one of its
//! Kubernetes cluster packages, have equivalents here, which are pure; other classes only run in the `shim`, if the operator allows it.
//!
//! Requests, instances and grants are JSON in the shapes of SOL003 3.3.1; of the shapes of 2.6.1 (lists of one in place of maps) those are read as
//! well that differ.

mod choice;
mod default;
mod grant;
mod kubernetes;
mod links;
mod nfv;
mod standard;
mod views;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

pub use choice::{
    CLASS_PARAMETER, Choice, DEFAULT_CLASS, SCRIPT_PARAMETER, built_in, built_in_names, choose,
};
pub use default::DefaultUserData;
pub use grant::grant_request;
pub use kubernetes::KubernetesClusterUserData;
pub use nfv::merge_patch;
pub use standard::StandardUserData;

use crate::{
    hot::BaseHot,
    package::Package,
    vnfd::{Flavour, LevelError},
    yaml,
};

/// What is done to a VNF instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Instantiate.
    Instantiate,
    /// Scale, or scale to a level.
    Scale,
    /// Undo that.
    ScaleRollback,
    /// Change external connectivity.
    ChangeExternalConnectivity,
    /// Undo that.
    ChangeExternalConnectivityRollback,
    /// Heal.
    Heal,
    /// Change the current package.
    ChangePackage,
    /// Undo that.
    ChangePackageRollback,
}

impl Operation {
    /// Name of the method of a user-data class.
    pub fn method(self) -> &'static str {
        match self {
            Self::Instantiate => "instantiate",
            Self::Scale => "scale",
            Self::ScaleRollback => "scale_rollback",
            Self::ChangeExternalConnectivity => "change_ext_conn",
            Self::ChangeExternalConnectivityRollback => "change_ext_conn_rollback",
            Self::Heal => "heal",
            Self::ChangePackage => "change_vnfpkg",
            Self::ChangePackageRollback => "change_vnfpkg_rollback",
        }
    }
}

/// What a stack request is made of.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The package: of the instance, and for [`Operation::ChangePackage`] the new one.
    pub package: &'a Package,
    /// The request: InstantiateVnfRequest, ScaleVnfRequest, …
    pub request: &'a Value,
    /// The VnfInstance before the operation.
    pub instance: &'a Value,
    /// The GrantRequest: which resources come and go.
    pub grant_request: &'a Value,
    /// The Grant.
    pub grant: &'a Value,
}

impl<'a> Situation<'a> {
    /// The flavour: of the request, or else of the instance.
    fn flavour(&self) -> Result<&'a Flavour, UserDataError> {
        let of_instance = || self.instance.pointer("/instantiatedVnfInfo/flavourId");
        let id = self.request.get("flavourId").or_else(of_instance).and_then(Value::as_str);
        let id = id.ok_or_else(|| {
            UserDataError::Malformed("neither the request nor the instance has a flavourId".to_owned())
        })?;
        self.package.flavour(id).ok_or_else(|| UserDataError::Flavour {
            flavour: id.to_owned(),
            known: self.package.vnfd().flavours.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// The templates of the flavour.
    fn base_hot(&self) -> Result<&'a BaseHot, UserDataError> {
        let flavour = self.flavour()?;
        flavour.base_hot.as_ref().ok_or_else(|| UserDataError::NoTemplate(flavour.id.clone()))
    }
}

/// What is asked of Heat.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StackRequest {
    /// The template (YAML, or JSON, which is YAML as well); with [`StackRequest::existing`] what is merged into the template of the stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Parameters; with [`StackRequest::existing`] `nfv` is merged into the stack's.
    pub parameters: Map<String, Value>,
    /// Nested templates by the names by which the template refers to them.
    pub files: BTreeMap<String, String>,
    /// Template and parameters are changes of those that the stack has, rather than all of it.
    pub existing: bool,
}

impl StackRequest {
    /// A change of a stack's `nfv`.
    fn change(nfv: Value) -> Self {
        Self { parameters: Map::from_iter([("nfv".to_owned(), nfv)]), existing: true, ..Self::default() }
    }

    /// The request in full, for a stack that has this template and these parameters: changes are merged (RFC 7396) into them.
    ///
    /// # Errors
    /// If the stack's template, or the change of it, is not YAML.
    pub fn onto(&self, template: &str, parameters: &Map<String, Value>) -> Result<Self, UserDataError> {
        if !self.existing {
            return Ok(self.clone());
        }
        let read = |text: &str| {
            yaml::parse("template", text)
                .map(|node| node.to_json())
                .map_err(|problem| UserDataError::Malformed(problem.to_string()))
        };
        let mut full = self.clone();
        full.existing = false;
        full.template = Some(match &self.template {
            None => template.to_owned(),
            Some(change) => yaml::write_json(&merge_patch(read(template)?, &read(change)?)),
        });
        full.parameters = parameters.clone();
        for (name, value) in &self.parameters {
            let before = full.parameters.remove(name).unwrap_or(Value::Null);
            // Heat shows a parameter of the type json as a text.
            let before = match before {
                Value::String(text) if name == "nfv" => {
                    serde_json::from_str(&text).unwrap_or(Value::String(text))
                }
                other => other,
            };
            full.parameters.insert(name.clone(), merge_patch(before, value));
        }
        Ok(full)
    }
}

/// Why there is no stack request.
#[derive(Debug, thiserror::Error)]
pub enum UserDataError {
    /// The class has no equivalent here.
    #[error(
        "the user-data class `{class}` is not built in (those are {known}), and scripts of packages are not run here; use one of these, or let Drystone run scripts in its sandbox"
    )]
    Class {
        /// The class.
        class: String,
        /// Those that are built in.
        known: String,
    },
    /// One of the two parameters is missing.
    #[error("`{0}` is there, and `{1}` is not; give both, or neither")]
    Incomplete(&'static str, &'static str),
    /// The script is not in the package.
    #[error("the package has no script `{0}`; correct `lcm-operation-user-data`")]
    Script(String),
    /// The VNFD does not have the flavour.
    #[error("the VNFD has no flavour `{flavour}`; it has {known}")]
    Flavour {
        /// What was asked for.
        flavour: String,
        /// What there is.
        known: String,
    },
    /// The flavour has no template.
    #[error("the flavour `{0}` has no base HOT; add one to the package in `BaseHOT/{0}`")]
    NoTemplate(String),
    /// The template does not let the VDU be scaled.
    #[error(
        "the template has nothing that makes more of the VDU `{0}`; put it into an OS::Heat::AutoScalingGroup, or use StandardUserData"
    )]
    NotScalable(String),
    /// A level or aspect is not defined.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// A request, instance or grant is not as it should be.
    #[error("{0}")]
    Malformed(String),
    /// The script of the package failed, or was stopped.
    #[error("the user-data script of the package: {0}")]
    ScriptFailed(String),
}

/// What makes stack requests.
pub trait UserData: Send + Sync {
    /// The stack request of an operation.
    ///
    /// # Errors
    /// If the situation does not allow it.
    fn stack_request(
        &self,
        operation: Operation,
        situation: &Situation<'_>,
    ) -> Result<StackRequest, UserDataError>;
}

/// `nfv` with its two sections.
fn sections(machines: Map<String, Value>, ports: Map<String, Value>) -> Value {
    let sections = [("VDU".to_owned(), machines.into()), ("CP".to_owned(), ports.into())];
    Value::Object(Map::from_iter(sections))
}
