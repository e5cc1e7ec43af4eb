//! Projects, composite applications, applications and profiles.

use drystone_api::emco::{
    App, AppDependency, CompositeApp, CompositeProfile, Document as _, Profile, Project,
};
use http::StatusCode;
use serde_json::{Map, Value};

use super::{Behaviour, FileRule, Form, Reference, app_beside, parent_of};

impl Behaviour for Project {
    const REPLACED: StatusCode = StatusCode::OK;
}

impl Behaviour for CompositeApp {
    fn to_body(_spec: Map<String, Value>, path: &str) -> Form {
        let version = path.rsplit('/').next().unwrap_or_default();
        Form::Spec([("compositeAppVersion".to_owned(), Value::from(version))].into_iter().collect())
    }
}

impl Behaviour for App {
    const FILES: FileRule = FileRule::Archive;
}

impl Behaviour for AppDependency {
    fn from_body(spec: &mut Value) {
        // Any case of letters is accepted, and means what it says.
        let Some(spec) = spec.as_object_mut() else { return };
        for (_, value) in spec.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case("opStatus")) {
            let known = ["Ready", "Deployed"].into_iter();
            let given = value.as_str().unwrap_or_default();
            if let Some(meant) = known.into_iter().find(|known| known.eq_ignore_ascii_case(given)) {
                *value = Value::from(meant);
            }
        }
    }

    fn references(&self) -> Vec<Reference> {
        vec![Reference::new("spec.app", app_beside(self.path(), &self.spec.app))]
    }

    fn faults(&self, _has_file: bool) -> Vec<String> {
        if parent_of(self.path()) == app_beside(self.path(), &self.spec.app) {
            return vec!["spec.app: an application cannot depend on itself".to_owned()];
        }
        Vec::new()
    }
}

impl Behaviour for CompositeProfile {}

impl Behaviour for Profile {
    const FILES: FileRule = FileRule::Archive;

    fn references(&self) -> Vec<Reference> {
        vec![Reference::new("spec.app", app_beside(self.path(), &self.spec.app))]
    }

    fn claims(&self) -> Option<String> {
        Some(format!("{}/profiles?app={}", parent_of(self.path()), self.spec.app))
    }
}
