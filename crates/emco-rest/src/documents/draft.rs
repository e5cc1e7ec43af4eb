//! A document as a client wants it, before anything is written.

use std::sync::Arc;

use drystone_api::emco::{FileReference, is_name, object_name};
use serde_json::{Map, Value, json};

use crate::{
    archive,
    files::{Files, Upload},
    gate::Footprint,
    kinds::{FileRule, Kind, Shown, parent_of},
    multipart,
    refusal::Refusal,
    request::{Incoming, Sent},
    secrets::{self, Hidden},
    service::EmcoRest,
};

/// A document as a client wants it, with what came with it.
pub(super) struct Draft {
    kind: &'static dyn Kind,
    path: String,
    /// The specification whole, but for files that are to stay.
    spec: Map<String, Value>,
    document: Arc<dyn Shown>,
    files: Vec<Box<dyn Upload>>,
    hidden: Option<Hidden>,
    /// Whether files were sent, or their absence means that there are none.
    has_files: bool,
}

impl EmcoRest {
    /// Reads a request. Of a new document the name is in the body; of another one the path is the request's.
    pub(super) async fn draft(
        &self,
        kind: &'static dyn Kind,
        incoming: Incoming,
        is_new: bool,
    ) -> Result<Draft, Refusal> {
        let rule = kind.files();
        let (sent, files, kubeconfig, is_json, path) = if rule.is_multipart() {
            let (form, incoming) = multipart::read(incoming, rule, self.0.config.files.as_ref()).await?;
            (form.sent, form.files, form.kubeconfig, form.is_json, incoming.path)
        } else {
            let Incoming { body, path, .. } = incoming;
            (Sent::parse(&body.read().await?)?, Vec::new(), None, false, path)
        };
        let path = path_of(kind, &sent, &path, is_new)?;
        let mut spec = kind.read(sent.spec)?;
        let remarks = remarks(&sent.metadata)?;
        spec.extend(remarks);
        spec.insert("path".to_owned(), Value::from(path.clone()));
        let mut uploads = Vec::new();
        let mut references = Vec::new();
        for (name, upload) in files {
            let received = upload.received();
            references.push(FileReference { sha256: received.sha256, length: received.length, name });
            uploads.push(upload);
        }
        let has_files = !is_json;
        match rule {
            FileRule::Archive if references.is_empty() && (is_new || has_files) => {
                return Err(Refusal::unprocessable("Unable to process file: a part named file is required"));
            }
            FileRule::Archive | FileRule::Optional => {
                if let Some(reference) = references.pop() {
                    spec.insert("file".to_owned(), json!(reference));
                }
            }
            FileRule::Many if !references.is_empty() => {
                spec.insert("files".to_owned(), json!(references));
            }
            _ => {}
        }
        let hidden = kubeconfig.map(Hidden::kubeconfig);
        let draft = Draft {
            kind,
            path,
            // Until it is known whether a file is there already, something must stand for it.
            document: kind.make("draft", with_stand_in(rule, &spec))?,
            spec,
            files: uploads,
            hidden,
            has_files,
        };
        if is_new { draft.whole() } else { Ok(draft) }
    }
}

/// The specification with a file that stands for one that is there already.
fn with_stand_in(rule: FileRule, spec: &Map<String, Value>) -> Map<String, Value> {
    let mut spec = spec.clone();
    if rule == FileRule::Archive && !spec.contains_key("file") {
        spec.insert("file".to_owned(), json!(FileReference::default()));
    }
    spec
}

impl Draft {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn document(&self) -> &dyn Shown {
        self.document.as_ref()
    }

    /// Checks a document that takes nobody's place, and hides what is secret of it.
    pub(super) fn whole(self) -> Result<Self, Refusal> {
        if self.kind.files() == FileRule::Archive && !self.spec.contains_key("file") {
            return Err(Refusal::unprocessable("Unable to process file: a part named file is required"));
        }
        self.check_faults(self.hidden.is_some())?;
        self.masked(None)
    }

    fn check_faults(&self, has_file: bool) -> Result<(), Refusal> {
        let faults = self.document.faults(has_file);
        if faults.is_empty() { Ok(()) } else { Err(Refusal::invalid(&faults)) }
    }

    /// What it changes, and what it relies on.
    pub(super) fn footprint(&self) -> Footprint {
        let mut footprint = Footprint::default();
        footprint.writes.insert(self.path.clone());
        footprint.writes.extend(self.document.claims());
        let parent = parent_of(&self.path);
        if !parent.is_empty() {
            footprint.reads.insert(parent.to_owned());
        }
        footprint.reads.extend(self.document.references().into_iter().map(|reference| reference.path));
        footprint
    }

    /// The same in the place of another one: files that were not sent stay, and so does what comes back masked.
    pub(super) fn in_place_of(
        mut self,
        kind: &'static dyn Kind,
        old: &dyn Shown,
        before: Option<&Value>,
    ) -> Result<Self, Refusal> {
        let rule = kind.files();
        if !self.has_files {
            let old = old.files();
            match rule {
                FileRule::Archive | FileRule::Optional => {
                    if let Some(file) = old.first() {
                        self.spec.insert("file".to_owned(), json!(file));
                    }
                }
                FileRule::Many if !old.is_empty() => {
                    self.spec.insert("files".to_owned(), json!(old));
                }
                _ => {}
            }
        }
        self.document = kind.make(old.meta().name.as_deref().unwrap_or_default(), self.spec.clone())?;
        // A kubeconfig that was not sent stays.
        let is_kept = rule == FileRule::Kubeconfig && !old.faults(false).is_empty();
        self.check_faults(self.hidden.is_some() || is_kept)?;
        self.masked(before)
    }

    /// Hides what is secret of key-value pairs of a sync object.
    fn masked(mut self, before: Option<&Value>) -> Result<Self, Refusal> {
        if self.kind.name() != "ClusterSyncObject" {
            return Ok(self);
        }
        let Some(pairs) = self.spec.get_mut("kv") else { return Ok(self) };
        if let Some(before) = before {
            secrets::unmask(pairs, before);
        }
        let whole = pairs.clone();
        if secrets::mask(pairs) {
            self.hidden = Some(Hidden::key_values(&whole));
        }
        let name = self.document.meta().name.clone().unwrap_or_default();
        self.document = self.kind.make(&name, self.spec.clone())?;
        Ok(self)
    }

    /// Keeps its files; the document, and what belongs into its Secret.
    ///
    /// What cannot be used is refused, and goes with the files that nobody has.
    pub(super) async fn keep_files(
        self,
        files: &dyn Files,
    ) -> Result<(Arc<dyn Shown>, Option<Hidden>), Refusal> {
        let are_new = !self.files.is_empty();
        for upload in self.files {
            upload.finish().await?;
        }
        let name = object_name(&self.path);
        let document = self.kind.make(&name, self.spec)?;
        if are_new {
            archive::check_use(document.as_ref(), self.kind, files).await?;
        }
        Ok((document, self.hidden))
    }
}

/// Description and user data, as members of a specification.
fn remarks(metadata: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let mut kept = Map::new();
    let mut faults = Vec::new();
    for (name, most) in [("description", 1024), ("userData1", 512), ("userData2", 512)] {
        let Some(text) = metadata.get(name).and_then(Value::as_str) else { continue };
        if text.chars().count() > most {
            faults.push(format!("metadata.{name}: has more than {most} characters"));
        } else if !text.is_empty() {
            kept.insert(name.to_owned(), Value::from(text));
        }
    }
    if faults.is_empty() { Ok(kept) } else { Err(Refusal::invalid(&faults)) }
}

/// The path of a document: of a new one made of the collection and the name in the body, of others the request's.
fn path_of(kind: &dyn Kind, sent: &Sent, path: &str, is_new: bool) -> Result<String, Refusal> {
    let (place, name) = match kind.name() {
        "ClusterLabel" => ("clusterLabel", sent.label.as_deref().unwrap_or_default()),
        _ => ("metadata.name", sent.name()),
    };
    let version = version_of(kind, sent);
    if !is_new {
        let own = match version {
            Some(_) => parent_and_name(path).0,
            None => path,
        };
        let own = own.rsplit('/').next().unwrap_or_default();
        if !name.is_empty() && name != own {
            let text = format!("Mismatched name in PUT request: {place} is {name:?}, the path says {own:?}");
            return Err(Refusal::bad_request(text));
        }
        let own = parent_and_name(path).1;
        if let Some(version) = version.filter(|version| !version.is_empty() && *version != own) {
            let text = format!(
                "Mismatched name in PUT request: spec.compositeAppVersion is {version:?}, the path says {own:?}"
            );
            return Err(Refusal::bad_request(text));
        }
        kind.parse(path).map_err(|error| Refusal::bad_request(format!("Invalid Input:\n- {error}")))?;
        return Ok(path.to_owned());
    }
    let check = |place: &str, name: &str| {
        if name.is_empty() {
            return Err(Refusal::invalid(&[format!("{place}: is required")]));
        }
        if !is_name(name) {
            return Err(Refusal::invalid(&[format!(
                "{place}: {:?} is no name: letters, digits, '-', '_' and '.', at most 128, a letter or digit first and last",
                name.chars().take(200).collect::<String>()
            )]));
        }
        Ok(())
    };
    check(place, name)?;
    let path = match version {
        Some(version) => {
            check("spec.compositeAppVersion", version)?;
            format!("{path}/{name}/{version}")
        }
        None => format!("{path}/{name}"),
    };
    // What it is below may be no name.
    kind.parse(&path).map_err(|error| Refusal::bad_request(format!("Invalid Input:\n- {error}")))?;
    Ok(path)
}

/// `spec.compositeAppVersion` of a composite application.
fn version_of<'a>(kind: &dyn Kind, sent: &'a Sent) -> Option<&'a str> {
    if kind.name() != "CompositeApp" {
        return None;
    }
    let mut members = sent.spec.as_object().into_iter().flatten();
    let found = members.find(|(name, _)| name.eq_ignore_ascii_case("compositeAppVersion"));
    Some(found.and_then(|(_, version)| version.as_str()).unwrap_or_default())
}

fn parent_and_name(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
