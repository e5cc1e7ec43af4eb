//! The legacy registration of VIMs (`/v1.0/vims`), as OpenStack's client uses it.

mod body;

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use drystone_api::{
    SYSTEM_NAMESPACE,
    nfv::{Vim, VnfInstance},
};
use drystone_engine::reference::{owner_reference, reference_to};
use drystone_sol003::types::{ApiVersion, InstantiationState};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    feed::{Entry, Shown as _},
    problem::Problem,
    request::{Incoming, JSON, read_json},
    service::{Nfv, bytes_response, created, empty_response, json_response},
    writes::update,
};
use body::Registration;

/// Query parameters that are none of a VIM's attributes.
const CONTROLS: [&str; 6] = ["fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"];

impl Nfv {
    /// A VIM by its identifier or name.
    fn vim(&self, id: &str) -> Result<Arc<Entry<Vim>>, Problem> {
        let found = self.0.feed.vims.get(id).or_else(|| self.0.feed.vims.with("name", id).into_iter().next());
        found.ok_or_else(|| Problem::not_found(Vim::WHAT, id))
    }

    fn vims_api(&self, namespace: &str) -> Api<Vim> {
        Api::namespaced(self.0.client.clone(), namespace)
    }

    /// GET `/v1.0/vims`: `?name=v&fields=id`.
    pub(crate) fn list_vims(&self, incoming: &Incoming) -> Response<Body> {
        let mut fields = Vec::new();
        let mut wanted = Vec::new();
        for (name, value) in incoming.query.iter() {
            match name {
                "fields" => fields.push(value),
                name if CONTROLS.contains(&name) => {}
                name => wanted.push((name, value)),
            }
        }
        let all = self.0.feed.vims.all();
        let is_wanted = |vim: &Value| {
            wanted.iter().all(|(name, value)| match vim.get(*name) {
                Some(Value::String(text)) => text == value,
                Some(Value::Bool(flag)) => value.eq_ignore_ascii_case(if *flag { "true" } else { "false" }),
                _ => false,
            })
        };
        let told = all.iter().map(|entry| entry.value(ApiVersion::V2)).filter(|vim| is_wanted(vim));
        let told: Vec<Value> = told.map(|vim| with_fields(vim, &fields)).collect();
        json_response(StatusCode::OK, &json!({"vims": told}))
    }

    /// GET `/v1.0/vims/{id}`.
    pub(crate) fn show_vim(&self, incoming: &Incoming) -> Result<Response<Body>, Problem> {
        let entry = self.vim(incoming.id())?;
        let fields: Vec<&str> =
            incoming.query.iter().filter(|(name, _)| *name == "fields").map(|(_, value)| value).collect();
        let told = with_fields(entry.value(ApiVersion::V2), &fields);
        Ok(json_response(StatusCode::OK, &json!({"vim": told})))
    }

    /// POST `/v1.0/vims`.
    pub(crate) async fn create_vim(&self, incoming: Incoming) -> Result<Response<Body>, Problem> {
        let body = read_json(&incoming.parts, incoming.body, JSON).await?;
        let registration = Registration::read(&body)?;
        registration.check_whole()?;
        let name = registration.name.clone().unwrap_or_default();
        self.check_unique(&name, registration.is_default, None)?;
        let object_name = format!("vim-{}", Uuid::new_v4());
        let secret = format!("{object_name}-credentials");
        let mut vim = Vim::new(&object_name, registration.spec(&secret));
        // What cannot be kept is refused before anything is made.
        let secrets = registration.secret_data(vim.spec.kind)?;
        registration.annotate(&mut vim);
        let vims = self.vims_api(SYSTEM_NAMESPACE);
        let written = vims.create(&PostParams::default(), &vim).await?;
        if let Err(problem) = self.keep_vim_secret(&written, secrets).await {
            // Nothing is left of a VIM that could not be kept as a whole.
            match vims.delete(&object_name, &DeleteParams::default()).await {
                Ok(_) => self.0.feed.vims.unseen(&written.uid().unwrap_or_default()).await,
                Err(error) => tracing::warn!(
                    vim = object_name,
                    "it could not be kept as a whole, nor be deleted: {error}; delete it"
                ),
            }
            return Err(problem);
        }
        self.0.feed.vims.seen(&written).await;
        let id = written.uid().unwrap_or_default();
        let bytes = json!({"vim": self.vim(&id)?.value(ApiVersion::V2)}).to_string().into_bytes();
        Ok(created(bytes, &format!("{}/v1.0/vims/{id}", incoming.base)))
    }

    /// PUT `/v1.0/vims/{id}`: what is not said stays.
    pub(crate) async fn change_vim(&self, incoming: Incoming) -> Result<Response<Body>, Problem> {
        let entry = self.vim(incoming.id())?;
        let body = read_json(&incoming.parts, incoming.body, JSON).await?;
        let registration = Registration::read(&body)?;
        registration.check_change(&entry.object)?;
        let name = registration.name.clone().unwrap_or_default();
        self.check_unique(&name, registration.is_default, Some(&entry.id))?;
        // The secret part first: until the second write, the old VIM has new credentials, which is what is wanted of them.
        if registration.has_secrets() {
            let secrets = registration.secret_data(entry.object.spec.kind)?;
            self.keep_vim_secret(&entry.object, secrets).await?;
        }
        let vims = self.vims_api(&entry.object.namespace().unwrap_or_default());
        let written = update(&vims, entry.object.as_ref(), |vim| {
            registration.change(vim);
            Ok(())
        });
        let written = written.await?;
        self.0.feed.vims.seen(&written).await;
        let vim = self.vim(&entry.id)?;
        let body = json!({"vim": vim.value(ApiVersion::V2)}).to_string().into_bytes();
        Ok(bytes_response(StatusCode::OK, body))
    }

    /// DELETE `/v1.0/vims/{id}`.
    pub(crate) async fn delete_vim(&self, incoming: &Incoming) -> Result<Response<Body>, Problem> {
        let entry = self.vim(incoming.id())?;
        let operations = self.0.feed.operations.all();
        if let Some(operation) = operations.iter().find(|one| one.object.may_use(&entry.object)) {
            let detail =
                format!("VIM {} is used by VNF LCM operation {}; wait for its end", entry.id, operation.id);
            return Err(Problem::conflict(detail));
        }
        if let Some(user) = self.user_of(&entry).await? {
            let detail = format!("VIM {} is used by VNF instance {user}; terminate that first", entry.id);
            return Err(Problem::conflict(detail));
        }
        let vims = self.vims_api(&entry.object.namespace().unwrap_or_default());
        match vims.delete(&entry.object.name_any(), &DeleteParams::default()).await {
            Ok(_) => self.0.feed.vims.unseen(&entry.id).await,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(Problem::not_found(Vim::WHAT, incoming.id()));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(empty_response(StatusCode::NO_CONTENT, None))
    }

    /// The instance that uses a VIM, if one does. The API is asked: the end of an operation may be seen before what it made of its instance.
    async fn user_of(&self, vim: &Entry<Vim>) -> Result<Option<String>, Problem> {
        let namespace = vim.object.namespace().unwrap_or_default();
        let instances: Api<VnfInstance> = Api::namespaced(self.0.client.clone(), &namespace);
        let uses = |instance: &&VnfInstance| {
            let Some(status) = &instance.status else { return false };
            let is_at_work =
                status.instantiation_state == InstantiationState::Instantiated || status.operation.is_some();
            is_at_work
                && status
                    .vim_connection_info
                    .values()
                    .any(|connection| connection.vim_id.as_deref() == Some(&vim.id))
        };
        let all = instances.list(&ListParams::default()).await?.items;
        Ok(all.iter().find(uses).map(|instance| instance.uid().unwrap_or_default()))
    }

    fn check_unique(&self, name: &str, is_default: Option<bool>, own: Option<&str>) -> Result<(), Problem> {
        let others = self.0.feed.vims.all();
        let mut others = others.iter().filter(|entry| own != Some(&*entry.id));
        let told = |entry: &Entry<Vim>, member: &str| entry.value(ApiVersion::V2)[member].clone();
        if !name.is_empty() && others.clone().any(|entry| told(entry, "name") == name) {
            return Err(Problem::conflict(format!("name: there is a VIM of the name {name:?} already")));
        }
        if is_default == Some(true)
            && let Some(other) = others.find(|entry| entry.object.spec.is_default)
        {
            let other = told(other, "name");
            let detail = format!("is_default: VIM {other} is the default already; change that one first");
            return Err(Problem::conflict(detail));
        }
        Ok(())
    }

    /// Keeps the credentials in the VIM's Secret; what is not said stays.
    async fn keep_vim_secret(&self, vim: &Vim, data: Map<String, Value>) -> Result<(), Problem> {
        let bytes = data
            .into_iter()
            .filter_map(|(name, value)| Some((name, ByteString(value.as_str()?.as_bytes().to_vec()))));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(vim.spec.credentials.clone()),
                owner_references: Some(vec![owner_reference(&reference_to(vim))]),
                ..ObjectMeta::default()
            },
            data: Some(bytes.collect()),
            ..Secret::default()
        };
        let namespace = vim.namespace().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(self.0.client.clone(), &namespace);
        let name = &vim.spec.credentials;
        match secrets.create(&PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let change = json!({"data": secret.data});
                secrets.patch(name, &PatchParams::default(), &Patch::Merge(&change)).await?;
                Ok(())
            }
            result => Ok(result.map(drop)?),
        }
    }
}

/// The attributes that are asked for; all if none is.
fn with_fields(vim: &Value, fields: &[&str]) -> Value {
    match vim {
        Value::Object(members) if !fields.is_empty() => {
            let kept = members.iter().filter(|(name, _)| fields.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        other => other.clone(),
    }
}
