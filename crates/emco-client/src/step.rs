//! The request that a document stands for, by what is to be done. Pure.

use http::Method;
use serde_json::Value;

use crate::document::{Document, Files};

/// What is to be done with documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Have them be there, and have done what is to be done.
    Apply,
    /// Replace them.
    Update,
    /// Show them.
    Get,
    /// Remove them, the last one first.
    Delete,
}

/// Last parts of paths at which something is done.
const VERBS: [&str; 11] = [
    "instantiate",
    "apply",
    "approve",
    "terminate",
    "migrate",
    "update",
    "rollback",
    "stop",
    "status",
    "cancel",
    "start",
];

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path, after `/v2/`.
    pub path: String,
    /// What is sent.
    pub body: Body,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Nothing.
    None,
    /// JSON.
    Json(Value),
    /// JSON and files, as a form.
    Form(Value, Files),
}

/// What is to be done for one document.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Something is to be there: it is made, or replaced if it is there already.
    Put {
        /// Makes it.
        create: Request,
        /// Replaces it.
        replace: Request,
    },
    /// Something is to be done.
    Do(Request),
    /// Something is to be replaced, or shown, and nothing else.
    Plain(Request),
    /// Something is to be gone.
    Remove(Request),
}

impl Step {
    /// What is to be done, in order.
    pub fn all(action: Action, documents: &[Document]) -> Vec<Self> {
        let steps = documents.iter().filter_map(|document| Self::of(action, document));
        match action {
            Action::Delete => steps.rev().collect(),
            _ => steps.collect(),
        }
    }

    /// What is to be done at a path, without a document.
    pub fn at(action: Action, path: &str) -> Self {
        let path = path.trim_matches('/').to_owned();
        let request = |method| Request { method, path: path.clone(), body: Body::None };
        match action {
            Action::Apply => Self::Do(request(Method::POST)),
            Action::Update => Self::Plain(request(Method::PUT)),
            Action::Get => Self::Plain(request(Method::GET)),
            Action::Delete => Self::Remove(request(Method::DELETE)),
        }
    }

    /// The request that is sent first.
    pub fn request(&self) -> &Request {
        match self {
            Self::Put { create: request, .. }
            | Self::Do(request)
            | Self::Plain(request)
            | Self::Remove(request) => request,
        }
    }

    /// Path of what it is about.
    pub fn subject(&self) -> &str {
        match self {
            Self::Put { replace, .. } => &replace.path,
            other => &other.request().path,
        }
    }

    fn of(action: Action, document: &Document) -> Option<Self> {
        let verb = verb(&document.anchor);
        let body = match &document.files {
            Files::None => Body::Json(document.body.clone()),
            files => Body::Form(document.body.clone(), files.clone()),
        };
        let request = |method, path: String, body| Request { method, path, body };
        Some(match (action, verb) {
            // A status is only looked at.
            (Action::Apply, Some("status")) => return None,
            (Action::Apply, Some(_)) => Self::Do(request(Method::POST, document.anchor.clone(), body)),
            (Action::Apply, None) => Self::Put {
                create: request(Method::POST, document.anchor.clone(), body.clone()),
                replace: request(Method::PUT, item(document), body),
            },
            (Action::Get, Some("status")) => {
                Self::Plain(request(Method::GET, document.anchor.clone(), Body::None))
            }
            // The opposite of what was done.
            (Action::Delete, Some("instantiate" | "apply")) => {
                let (parent, _) = document.anchor.rsplit_once('/')?;
                Self::Do(request(Method::POST, format!("{parent}/terminate"), Body::None))
            }
            (Action::Update | Action::Get | Action::Delete, Some(_)) => return None,
            (Action::Update, None) => Self::Plain(request(Method::PUT, item(document), body)),
            (Action::Get, None) => Self::Plain(request(Method::GET, item(document), Body::None)),
            (Action::Delete, None) => Self::Remove(request(Method::DELETE, item(document), Body::None)),
        })
    }
}

/// What is done at a path, if anything is.
pub(crate) fn verb(path: &str) -> Option<&str> {
    let path = path.split('?').next().unwrap_or_default();
    // `projects/update` is a project of that name; what things are done to is at least two levels deep.
    let (parent, last) = path.rsplit_once('/')?;
    (parent.contains('/') && VERBS.contains(&last)).then_some(last)
}

/// Where a document's thing is.
fn item(document: &Document) -> String {
    let anchor = &document.anchor;
    let name = match &document.label {
        Some(label) if document.name.is_empty() => label,
        _ => &document.name,
    };
    let version = document.body.pointer("/spec/compositeAppVersion").and_then(Value::as_str);
    match version.filter(|_| anchor.ends_with("/composite-apps")) {
        Some(version) => format!("{anchor}/{name}/{version}"),
        None if name.is_empty() => anchor.clone(),
        None => format!("{anchor}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn documents() -> Vec<Document> {
        let text = "resourceContext: {anchor: projects}\nmetadata: {name: p1}\n---\n\
            resourceContext: {anchor: projects/p1/composite-apps}\nmetadata: {name: ca}\nspec: {compositeAppVersion: v1}\n---\n\
            resourceContext: {anchor: projects/p1/composite-apps/ca/v1/apps}\nmetadata: {name: web}\nfile: web.tgz\n---\n\
            resourceContext: {anchor: cluster-providers/p/clusters/c/labels}\nclusterLabel: edge\n---\n\
            resourceContext: {anchor: projects/p1/logical-clouds/lc/instantiate}\n---\n\
            resourceContext: {anchor: g/d/i/approve}\n---\nresourceContext: {anchor: g/d/i/status}\n";
        Document::all(text).unwrap()
    }

    fn lines(action: Action) -> Vec<String> {
        let line = |step: &Step| {
            let request = step.request();
            let replace = match step {
                Step::Put { replace, .. } => format!(" or {} {}", replace.method, replace.path),
                _ => String::new(),
            };
            format!("{} {}{replace}", request.method, request.path)
        };
        Step::all(action, &documents()).iter().map(line).collect()
    }

    #[test]
    fn documents_are_made_or_replaced() {
        assert_eq!(
            lines(Action::Apply),
            [
                "POST projects or PUT projects/p1",
                "POST projects/p1/composite-apps or PUT projects/p1/composite-apps/ca/v1",
                "POST projects/p1/composite-apps/ca/v1/apps or PUT projects/p1/composite-apps/ca/v1/apps/web",
                "POST cluster-providers/p/clusters/c/labels or PUT cluster-providers/p/clusters/c/labels/edge",
                "POST projects/p1/logical-clouds/lc/instantiate",
                "POST g/d/i/approve",
            ]
        );
        let subjects = Step::all(Action::Apply, &documents());
        let subjects: Vec<&str> = subjects.iter().map(Step::subject).collect();
        assert_eq!(
            subjects[1..3],
            ["projects/p1/composite-apps/ca/v1", "projects/p1/composite-apps/ca/v1/apps/web"]
        );
        assert_eq!(lines(Action::Update).len(), 4);
        assert_eq!(lines(Action::Update)[2], "PUT projects/p1/composite-apps/ca/v1/apps/web");
        let steps = Step::all(Action::Apply, &documents());
        let Body::Form(body, files) = &steps[2].request().body else { panic!("no form") };
        assert_eq!((body, files), (&json!({"metadata": {"name": "web"}}), &Files::One("web.tgz".into())));
        // What things are done with has a body as well.
        assert_eq!(steps[4].request().body, Body::Json(json!({"metadata": {"name": ""}})));
    }

    #[test]
    fn what_was_done_is_undone_from_its_end() {
        assert_eq!(
            lines(Action::Delete),
            [
                "POST projects/p1/logical-clouds/lc/terminate",
                "DELETE cluster-providers/p/clusters/c/labels/edge",
                "DELETE projects/p1/composite-apps/ca/v1/apps/web",
                "DELETE projects/p1/composite-apps/ca/v1",
                "DELETE projects/p1",
            ]
        );
        assert_eq!(lines(Action::Get).last().map(String::as_str), Some("GET g/d/i/status"));
        assert_eq!(lines(Action::Get).len(), 5);
    }

    #[test]
    fn names_that_look_like_verbs_are_names() {
        assert_eq!(verb("projects/update"), None);
        assert_eq!(verb("projects/p1/logical-clouds/lc/status?output=all"), Some("status"));
        assert_eq!(verb("cluster-providers/p/clusters/c/apply"), Some("apply"));
    }
}
