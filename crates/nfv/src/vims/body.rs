//! The body of a registration: what is told of it goes into the Vim, what is secret into its Secret.

use drystone_api::nfv::{Vim, VimProject, VimSpec, VimType};
use drystone_sol003::secrets::{MASK, mask};
use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{problem::Problem, render::CREDENTIALS_ANNOTATION, request::typed, subscriptions::check_url};

/// Key of the Secret with what is said beside, if some of that is secret: JSON.
const EXTRA_KEY: &str = "extra.json";
/// Member of credentials that is none.
const AUTHORITY: &str = "ssl_ca_cert";

#[derive(Deserialize)]
struct Envelope {
    vim: Registration,
}

/// What is said of a VIM.
#[derive(Deserialize)]
pub(super) struct Registration {
    pub(super) name: Option<String>,
    description: Option<String>,
    #[serde(rename = "type")]
    kind: Option<Kind>,
    auth_url: Option<String>,
    auth_cred: Option<Map<String, Value>>,
    vim_project: Option<Project>,
    pub(super) is_default: Option<bool>,
    extra: Option<Value>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Openstack,
    Kubernetes,
}

#[derive(Debug, Clone, Deserialize)]
struct Project {
    name: Option<String>,
    project_domain_name: Option<String>,
}

impl Registration {
    /// Reads a body.
    pub(super) fn read(body: &Value) -> Result<Self, Problem> {
        let envelope: Envelope = typed(body.clone())?;
        let registration = envelope.vim;
        if let Some(url) = &registration.auth_url {
            check_url("vim/auth_url", url)?;
        }
        for (name, value) in registration.auth_cred.iter().flatten() {
            if !value.is_string() {
                return Err(Problem::bad_request(format!("vim/auth_cred/{name}: a text is expected")));
            }
        }
        Ok(registration)
    }

    fn credential(&self, name: &str) -> Option<&str> {
        self.auth_cred.as_ref()?.get(name)?.as_str().filter(|value| !value.is_empty())
    }

    fn vim_type(&self) -> VimType {
        match self.kind {
            Some(Kind::Kubernetes) => VimType::Kubernetes,
            Some(Kind::Openstack) | None => VimType::OpenStack,
        }
    }

    /// What a new VIM must say.
    pub(super) fn check_whole(&self) -> Result<(), Problem> {
        let missing = |place: &str| Problem::bad_request(format!("vim/{place}: it is missing"));
        if self.name.as_deref().is_none_or(str::is_empty) {
            return Err(missing("name"));
        }
        if self.auth_url.is_none() {
            return Err(missing("auth_url"));
        }
        if self.vim_project.as_ref().and_then(|project| project.name.as_deref()).is_none_or(str::is_empty) {
            return Err(missing("vim_project/name"));
        }
        self.check_credentials(self.vim_type())
    }

    /// What may be said of a VIM that there is.
    pub(super) fn check_change(&self, vim: &Vim) -> Result<(), Problem> {
        if self.kind.is_some() && self.vim_type() != vim.spec.kind {
            return Err(Problem::bad_request("vim/type: it cannot be changed; register another VIM"));
        }
        if vim.spec.credentials.is_empty() && self.has_secrets() {
            return Err(Problem::conflict(
                "vim/auth_cred: this VIM was declared without a Secret; change its object",
            ));
        }
        if let Some(verify) = self.credential("cert_verify") {
            check_flag(verify)?;
        }
        Ok(())
    }

    fn check_credentials(&self, kind: VimType) -> Result<(), Problem> {
        let needed = |names: &[&str]| {
            let missing = names.iter().find(|name| self.credential(name).is_none());
            missing.map_or(Ok(()), |name| {
                Err(Problem::bad_request(format!("vim/auth_cred/{name}: it is missing")))
            })
        };
        match kind {
            VimType::OpenStack => {
                check_flag(self.credential("cert_verify").unwrap_or("True"))?;
                needed(&["username", "password"])
            }
            VimType::Kubernetes if self.credential("oidc_token_url").is_some() => {
                check_url(
                    "vim/auth_cred/oidc_token_url",
                    self.credential("oidc_token_url").unwrap_or_default(),
                )?;
                needed(&["username", "password", "client_id"])
            }
            VimType::Kubernetes if self.credential("username").is_some() => needed(&["password"]),
            VimType::Kubernetes => needed(&["bearer_token"]),
        }
    }

    /// Whether something is said that belongs into the Secret.
    pub(super) fn has_secrets(&self) -> bool {
        self.auth_cred.is_some() || self.extra.is_some()
    }

    /// A new VIM whose Secret has this name.
    pub(super) fn spec(&self, secret: &str) -> VimSpec {
        let mut vim = Vim::new("new", VimSpec { kind: self.vim_type(), ..VimSpec::default() });
        self.change(&mut vim);
        vim.spec.credentials = secret.to_owned();
        vim.spec
    }

    /// Changes what is said of a VIM that there is.
    pub(super) fn change(&self, vim: &mut Vim) {
        let spec = &mut vim.spec;
        let set = |own: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                own.clone_from(value);
            }
        };
        set(&mut spec.name, &self.name);
        set(&mut spec.description, &self.description);
        set(&mut spec.auth_url, &self.auth_url);
        if let Some(project) = &self.vim_project {
            let own: &mut VimProject = &mut spec.project;
            set(&mut own.name, &project.name);
            set(&mut own.domain_name, &project.project_domain_name);
        }
        if let Some(is_default) = self.is_default {
            spec.is_default = is_default;
        }
        if let Some(verify) = self.credential("cert_verify") {
            spec.skip_certificate_verification = verify.eq_ignore_ascii_case("False");
        }
        if let Some(authority) = self.credential(AUTHORITY) {
            spec.certificate_authority = Some(authority.to_owned());
        }
        if let Some(extra) = &self.extra {
            spec.extra = mask(extra).0;
        }
        self.annotate(vim);
    }

    /// Notes the credentials with what is secret of them masked, for those who read the VIM.
    pub(super) fn annotate(&self, vim: &mut Vim) {
        let Some(given) = &self.auth_cred else { return };
        let noted = vim.annotations().get(CREDENTIALS_ANNOTATION);
        let noted = noted.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        let mut told = noted.unwrap_or_default();
        for (name, value) in given {
            // The certificate is long and has its own place; here it would be told twice.
            told.insert(name.clone(), if name == AUTHORITY { json!("") } else { value.clone() });
        }
        told.retain(|_, value| value != "");
        let told = mask(&Value::Object(told)).0.to_string();
        vim.annotations_mut().insert(CREDENTIALS_ANNOTATION.to_owned(), told);
    }

    /// Keys and values of the Secret.
    pub(super) fn secret_data(&self, kind: VimType) -> Result<Map<String, Value>, Problem> {
        let mut data = Map::new();
        for (name, value) in self.auth_cred.iter().flatten() {
            let key = match name.as_str() {
                "cert_verify" | AUTHORITY => continue,
                "user_domain_name" if kind == VimType::OpenStack => "userDomainName",
                other => other,
            };
            let is_key = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !is_key || key.is_empty() {
                return Err(Problem::bad_request(
                    "vim/auth_cred: a member's name has other letters than A-Z, a-z, 0-9, - and _",
                ));
            }
            if value == MASK {
                let detail = format!(
                    "vim/auth_cred/{name}: {MASK} only stands for what is secret; send the value itself"
                );
                return Err(Problem::bad_request(detail));
            }
            data.insert(key.to_owned(), value.clone());
        }
        if let Some(extra) = self.extra.as_ref().filter(|extra| mask(extra).1) {
            data.insert(EXTRA_KEY.to_owned(), Value::String(extra.to_string()));
        }
        Ok(data)
    }
}

fn check_flag(value: &str) -> Result<(), Problem> {
    if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") {
        return Ok(());
    }
    Err(Problem::bad_request("vim/auth_cred/cert_verify: \"True\" or \"False\" is expected"))
}
