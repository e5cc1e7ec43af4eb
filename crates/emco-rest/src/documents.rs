//! Reading, making, changing and deleting documents.

mod draft;
mod reply;

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use drystone_api::emco::{KEY_VALUES_KEY, KUBECONFIG_KEY};
use serde_json::Value;

use crate::{
    gate::Footprint,
    kinds::{FileRule, Kind, Shown, parent_of},
    lists::by_key,
    refusal::{CHILDREN_LEFT, PARENT_MISSING, REFERENCES_LEFT, Refusal},
    request::{Incoming, Wanted, wanted},
    secrets,
    service::{EmcoRest, empty, of_type, shared},
    tree::Entry,
};
use draft::Draft;

impl EmcoRest {
    /// The document at the path of a request.
    pub(crate) fn found(&self, kind: &dyn Kind, path: &str) -> Result<Arc<Entry>, Refusal> {
        let found = self.0.tree.get(path).filter(|entry| entry.kind.name() == kind.name());
        found.ok_or_else(|| Refusal::not_found(kind.thing(), path))
    }

    pub(crate) async fn read(
        &self,
        kind: &'static dyn Kind,
        incoming: &Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let entry = self.found(kind, &incoming.path)?;
        if let Some(key) = incoming.query.get("key").filter(|_| has_key_values(kind)) {
            return by_key(&entry, key);
        }
        self.show(incoming, &entry).await
    }

    /// A document in the form that the client wants.
    pub(crate) async fn show(&self, incoming: &Incoming, entry: &Entry) -> Result<Response<Body>, Refusal> {
        let rule = entry.kind.files();
        if rule == FileRule::None {
            return Ok(shared(StatusCode::OK, entry.body()));
        }
        let wanted = wanted(&incoming.parts)?;
        if wanted == Wanted::Json {
            return Ok(shared(StatusCode::OK, entry.body()));
        }
        let name = entry.document.meta().name.clone().unwrap_or_default();
        if rule == FileRule::Kubeconfig {
            self.ask(&incoming.parts, ("get", "clusters", "kubeconfig"), &name).await?;
            let kubeconfig = secrets::read(&self.0.client, (entry.kind, &name), KUBECONFIG_KEY).await?;
            return reply::kubeconfig(entry, kubeconfig, wanted);
        }
        reply::files(self.0.config.files.clone(), entry, wanted)
    }

    pub(crate) async fn create(
        &self,
        kind: &'static dyn Kind,
        incoming: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let draft = self.draft(kind, incoming, true).await?;
        let path = draft.path().to_owned();
        let _pass = self.0.gate.enter(draft.footprint()).await;
        if let Some(entry) = self.0.tree.get(&path) {
            return Err(Refusal::conflict(format!("{} already exists: {path}", entry.kind.thing())));
        }
        self.check(kind, draft.document())?;
        let made = self.make(kind, draft).await?;
        Ok(reply::echo(StatusCode::CREATED, made.as_ref()))
    }

    async fn make(&self, kind: &'static dyn Kind, draft: Draft) -> Result<Arc<dyn Shown>, Refusal> {
        let client = &self.0.client;
        let (document, hidden) = draft.keep_files(self.0.config.files.as_ref()).await?;
        let name = document.meta().name.clone().unwrap_or_default();
        // Before the document: whoever sees it finds its Secret.
        if let Some(hidden) = &hidden {
            secrets::keep(client, (kind, &name), hidden, None).await?;
        }
        let made = match kind.create(client, document.as_ref()).await {
            Ok(made) => made,
            Err(refusal) => {
                if let Some(hidden) = &hidden
                    && self.0.tree.get(document.path()).is_none()
                {
                    secrets::forget(client, (kind, &name), hidden.key()).await?;
                }
                return Err(refusal);
            }
        };
        if let Some(hidden) = &hidden {
            secrets::keep(client, (kind, &name), hidden, Some(made.as_ref())).await?;
        }
        self.0.tree.seen(made.as_ref()).await;
        Ok(made)
    }

    pub(crate) async fn replace(
        &self,
        kind: &'static dyn Kind,
        incoming: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let draft = self.draft(kind, incoming, false).await?;
        let path = draft.path().to_owned();
        let _pass = self.0.gate.enter(draft.footprint()).await;
        let Ok(old) = self.found(kind, &path) else {
            let draft = draft.whole()?;
            self.check(kind, draft.document())?;
            let made = self.make(kind, draft).await?;
            return Ok(reply::echo(StatusCode::CREATED, made.as_ref()));
        };
        let name = old.document.meta().name.clone().unwrap_or_default();
        let before = match kind.name() {
            "ClusterSyncObject" => secrets::read(&self.0.client, (kind, &name), KEY_VALUES_KEY).await?,
            _ => None,
        };
        let before: Option<Value> = before.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let draft = draft.in_place_of(kind, old.document.as_ref(), before.as_ref())?;
        self.check(kind, draft.document())?;
        let (document, hidden) = draft.keep_files(self.0.config.files.as_ref()).await?;
        let replaced = kind.replace(&self.0.client, old.document.as_ref(), document.as_ref()).await?;
        if let Some(hidden) = &hidden {
            secrets::keep(&self.0.client, (kind, &name), hidden, Some(replaced.as_ref())).await?;
        } else if before.is_some() {
            // Nothing of it is secret any more.
            secrets::forget(&self.0.client, (kind, &name), KEY_VALUES_KEY).await?;
        }
        self.0.tree.seen(replaced.as_ref()).await;
        Ok(reply::echo(kind.replaced(), replaced.as_ref()))
    }

    pub(crate) async fn delete(
        &self,
        kind: &'static dyn Kind,
        incoming: &Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let path = incoming.path.as_str();
        let footprint = Footprint { writes: [path.to_owned()].into(), ..Footprint::default() };
        let _pass = self.0.gate.enter(footprint).await;
        let entry = self.found(kind, path)?;
        let parent = self.0.tree.get(parent_of(path));
        if let Some(parent) = parent {
            parent.document.may_have_children(kind.name(), true)?;
        }
        if let Some(child) = self.0.tree.child_of(path) {
            return Err(Refusal::conflict(format!("{CHILDREN_LEFT}: {child}")));
        }
        if let Some(referrer) = self.0.tree.referrer_of(path) {
            return Err(Refusal::conflict(format!("{REFERENCES_LEFT}: {referrer}")));
        }
        entry.document.may_go()?;
        if let Some(source) = &self.0.config.status
            && matches!(kind.name(), "DeploymentIntentGroup" | "LogicalCloud" | "Cluster")
        {
            source.settled(path).await?;
        }
        kind.delete(&self.0.client, entry.document.as_ref()).await?;
        self.0.tree.unseen(entry.document.as_ref()).await;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Checks what a document needs: what it is below, what it refers to, and that nobody else has what it claims.
    fn check(&self, kind: &dyn Kind, document: &dyn Shown) -> Result<(), Refusal> {
        let (tree, path) = (&self.0.tree, document.path());
        let parent = parent_of(path);
        if !parent.is_empty() {
            let missing = || Refusal::conflict(format!("{PARENT_MISSING}: {parent}"));
            let found = tree.get(parent).ok_or_else(missing)?;
            found.document.may_have_children(kind.name(), false)?;
        }
        for reference in document.references() {
            let is_built_in = reference
                .path
                .strip_prefix("controllers/")
                .is_some_and(|name| self.0.config.built_in.contains(name));
            if !is_built_in && tree.get(&reference.path).is_none() {
                let text = format!("{PARENT_MISSING}: {}: there is no {}", reference.member, reference.path);
                return Err(Refusal::conflict(text));
            }
        }
        if let Some(other) = document.claims().and_then(|claim| tree.rival_of(path, &claim)) {
            let text = format!("{} already exists: {other} is for the same application", kind.thing());
            return Err(Refusal::conflict(text));
        }
        Ok(())
    }

    pub(crate) async fn user_kubeconfig(
        &self,
        kind: &'static dyn Kind,
        incoming: &Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let entry = self.found(kind, &incoming.path)?;
        let name = entry.document.meta().name.clone().unwrap_or_default();
        let kubeconfig = secrets::read(&self.0.client, (kind, &name), KUBECONFIG_KEY).await?;
        let kubeconfig = kubeconfig.ok_or_else(|| {
            Refusal::new(
                StatusCode::NOT_FOUND,
                format!(
                    "there is no kubeconfig at {} yet: the Logical Cloud is not instantiated",
                    incoming.path
                ),
            )
        })?;
        Ok(of_type(StatusCode::OK, "application/yaml", Body::from(kubeconfig)))
    }
}

fn has_key_values(kind: &dyn Kind) -> bool {
    matches!(kind.name(), "ClusterKeyValues" | "ClusterSyncObject" | "LogicalCloudKeyValues")
}
