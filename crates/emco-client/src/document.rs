//! The documents of a file.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no YAML, or a document has another form.
    #[error("the file is no YAML of EMCO documents: {0}")]
    Syntax(String),
    /// A document cannot stand for a request.
    #[error("document {number}: {problem}")]
    Document {
        /// Its number in the file, from 1.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// A document, as its author wrote it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    version: Option<String>,
    resource_context: Option<Context>,
    metadata: Option<Metadata>,
    spec: Option<Map<String, Value>>,
    file: Option<String>,
    files: Option<Vec<String>>,
    cluster_label: Option<String>,
}

/// Texts, whatever else YAML may take them for: `name: 1.10` is the name `1.10`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    description: Option<String>,
    user_data1: Option<String>,
    user_data2: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Context {
    anchor: Option<String>,
}

/// A document: something that is there, or is done, at a path of the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Path after `/v2/` of what it belongs to: `projects/p1/composite-apps`.
    pub anchor: String,
    /// Name; empty of labels and of what is done.
    pub name: String,
    /// The label, if it is one.
    pub label: Option<String>,
    /// What is sent.
    pub body: Value,
    /// Files that are sent along, by their paths.
    pub files: Files,
}

/// Files that are sent along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// None: the body is sent as it is.
    None,
    /// One, as `file`.
    One(String),
    /// Several, each as `files`.
    Several(Vec<String>),
}

impl Document {
    /// The documents of a file, in order.
    ///
    /// # Errors
    /// [`DocumentError`] names the first document that is none.
    pub fn all(text: &str) -> Result<Vec<Self>, DocumentError> {
        // What is between two marks and has nothing in it is none.
        let written: Vec<Option<Written>> = serde_saphyr::from_multiple_with_options(text, crate::yaml())
            .map_err(|error| DocumentError::Syntax(error.to_string()))?;
        let mut documents = Vec::new();
        for (index, written) in written.into_iter().enumerate() {
            let Some(written) = written else { continue };
            let at = |problem: String| DocumentError::Document { number: index + 1, problem };
            documents.push(Self::read(written).map_err(at)?);
        }
        Ok(documents)
    }

    fn read(written: Written) -> Result<Self, String> {
        if let Some(version) = written.version.filter(|version| version != "emco/v2") {
            return Err(format!("version is {version:?}; emco/v2 is understood"));
        }
        let anchor = written.resource_context.and_then(|context| context.anchor).unwrap_or_default();
        let anchor = anchor.trim_matches('/').to_owned();
        if let Some(problem) = problem_of(&anchor) {
            return Err(format!("resourceContext.anchor is {anchor:?}, which {problem}"));
        }
        let written_metadata = written.metadata.unwrap_or_default();
        let name = written_metadata.name.unwrap_or_default();
        let mut metadata = Map::new();
        metadata.insert("name".into(), name.as_str().into());
        for (field, text) in [
            ("description", written_metadata.description),
            ("userData1", written_metadata.user_data1),
            ("userData2", written_metadata.user_data2),
        ] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                metadata.insert(field.into(), text.into());
            }
        }
        let label = written.cluster_label.filter(|label| !label.is_empty());
        let mut body = json!({"metadata": metadata});
        if let Some(label) = &label {
            body["clusterLabel"] = label.as_str().into();
        }
        if let Some(spec) = written.spec.filter(|spec| !spec.is_empty()) {
            body["spec"] = spec.into();
        }
        let files = match (written.file, written.files) {
            (Some(file), _) if !file.is_empty() => Files::One(file),
            (_, Some(files)) if !files.is_empty() => Files::Several(files),
            _ => Files::None,
        };
        Ok(Self { anchor, name, label, body, files })
    }
}

/// Why a path cannot be one of the API.
pub(crate) fn problem_of(path: &str) -> Option<&'static str> {
    let parts = || path.split('?').next().unwrap_or_default().split('/');
    if path.is_empty() {
        Some("is empty: it must be a path such as projects/p1/composite-apps")
    } else if parts().any(|part| part.is_empty() || part == "." || part == "..") {
        Some("has an empty part, or leads elsewhere")
    } else if path
        .chars()
        .any(|character| character.is_whitespace() || character.is_control() || character == '#')
    {
        Some("has characters that no path has")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "# first\nversion: emco/v2\nresourceContext:\n  anchor: projects\nmetadata :\n   name: p1\n\n---\n\
        ---\nversion: emco/v2\nresourceContext: {anchor: projects/p1/composite-apps/ca/v1/apps}\nmetadata:\n  name: web\n  \
        userData1: x\nfile:\n  web.tgz # the chart\n---\nresourceContext:\n  anchor: cluster-providers/p/clusters/c/labels/\n\
        clusterLabel: edge\n---\nresourceContext: {anchor: a}\nmetadata: {name: m}\nspec: {newObject: \"true\", port: 9031, \
        list: []}\nfiles:\n  - a.yaml\n  - b.yaml\n";

    #[test]
    fn documents_are_read_as_they_are_written() {
        let documents = Document::all(FILE).unwrap();
        let [project, app, label, gac] = documents.as_slice() else { panic!("{documents:?}") };
        assert_eq!((project.anchor.as_str(), project.name.as_str()), ("projects", "p1"));
        assert_eq!(project.body, json!({"metadata": {"name": "p1"}}));
        assert_eq!(app.files, Files::One("web.tgz".into()));
        assert_eq!(app.body, json!({"metadata": {"name": "web", "userData1": "x"}}));
        assert_eq!(label.anchor, "cluster-providers/p/clusters/c/labels");
        assert_eq!(label.body, json!({"metadata": {"name": ""}, "clusterLabel": "edge"}));
        assert_eq!(gac.body["spec"], json!({"newObject": "true", "port": 9031, "list": []}));
        assert_eq!(gac.files, Files::Several(vec!["a.yaml".into(), "b.yaml".into()]));
    }

    #[test]
    fn what_is_none_is_told_by_its_number() {
        let said = |text: &str| Document::all(text).unwrap_err().to_string();
        assert!(
            said("resourceContext: {anchor: a}\n---\nmetadata: {name: x}\n")
                .starts_with("document 2: resourceContext.anchor")
        );
        assert!(said("version: emco/v3\nresourceContext: {anchor: a}\n").contains("emco/v3"));
        for anchor in ["../../api/v1/secrets", "a//b", "a/ b", "a\\tb", "a#b"] {
            let text = format!("resourceContext: {{anchor: \"{anchor}\"}}\n");
            assert!(said(&text).starts_with("document 1: resourceContext.anchor"), "{anchor}");
        }
        assert!(
            said("resourceContext: {anchor: a}\nmetadata: {name: [x]}\n")
                .starts_with("the file is no YAML of")
        );
        assert!(said("a: [").starts_with("the file is no YAML"));
        assert!(Document::all("# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn names_may_look_like_numbers() {
        let documents =
            Document::all("resourceContext: {anchor: projects}\nmetadata: {name: 2024}\n").unwrap();
        assert_eq!(
            (documents[0].name.as_str(), &documents[0].body["metadata"]["name"]),
            ("2024", &json!("2024"))
        );
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in drystone_hostile::damaged_text([FILE])) {
            let _ = Document::all(&text);
        }
    }
}
