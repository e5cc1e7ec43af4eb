//! A VIM as the legacy registration of VIMs shows it.

use drystone_api::nfv::{Vim, VimState, VimType};
use drystone_sol003::{
    secrets::{MASK, mask},
    types::ApiVersion,
};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{Around, Members};
use crate::feed::Shown;

impl Shown for Vim {
    const WHAT: &'static str = "VIM";
    const DEFAULT_EXCLUDED: &'static [&'static str] = &[];
    const INDEX: &'static [&'static str] = &["name"];

    fn indexed(&self) -> Vec<(&'static str, String)> {
        vec![("name", name(self))]
    }

    fn body(&self, _around: &Around, _version: ApiVersion) -> Value {
        let status = self.status.clone().unwrap_or_default();
        let spec = &self.spec;
        let created = self.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        let mut project = json!({"name": spec.project.name});
        if spec.kind == VimType::OpenStack {
            let domain = &spec.project.domain_name;
            project["project_domain_name"] = Value::from(if domain.is_empty() { "Default" } else { domain });
        }
        let state = match status.state {
            VimState::Pending => "PENDING",
            VimState::Active => "ACTIVE",
            VimState::Unreachable => "ERROR",
        };
        let mut body = Members::default();
        body.put("id", self.metadata.uid.clone().unwrap_or_default());
        body.put("name", name(self));
        body.put("description", &spec.description);
        body.put("type", if spec.kind == VimType::OpenStack { "openstack" } else { "kubernetes" });
        body.put("auth_url", &spec.auth_url);
        body.put("auth_cred", masked_credentials(self));
        body.put("vim_project", project);
        body.put("is_default", spec.is_default);
        body.put("tenant_id", status.tenant_id.unwrap_or_default());
        body.put("status", state);
        body.put("placement_attr", json!({"regions": status.regions}));
        let extra = if spec.extra.is_null() { json!({}) } else { mask(&spec.extra).0 };
        body.put("extra", extra);
        body.put("created_at", &created);
        body.put("updated_at", status.updated_at.map(|time| time.0.to_string()));
        body.finish()
    }
}

/// The name among VIMs.
fn name(vim: &Vim) -> String {
    if vim.spec.name.is_empty() { vim.name_any() } else { vim.spec.name.clone() }
}

/// Annotation of a Vim: its credentials with secrets masked, JSON, as they were registered.
pub(crate) const CREDENTIALS_ANNOTATION: &str = "nfv.drystone.dev/auth-cred";

/// What is told of credentials without looking at them: they are in a Secret, which is not watched.
fn masked_credentials(vim: &Vim) -> Value {
    let noted = vim.annotations().get(CREDENTIALS_ANNOTATION);
    if let Some(noted) = noted.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        // Whoever wrote it: it is told without what looks secret.
        return mask(&noted).0;
    }
    let mut told = match vim.spec.kind {
        VimType::OpenStack => {
            let verify = if vim.spec.skip_certificate_verification { "False" } else { "True" };
            json!({"username": MASK, "password": MASK, "cert_verify": verify})
        }
        VimType::Kubernetes => json!({"bearer_token": MASK}),
    };
    if let Some(authority) = &vim.spec.certificate_authority {
        told["ssl_ca_cert"] = Value::from(authority.as_str());
    }
    told
}
