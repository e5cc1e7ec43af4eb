//! A profile: an archive with `manifest.yaml` at its root, which names a file of values and files to copy into the chart.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    archive::{ArchiveError, Files, Limits, Problem},
    yaml,
};

/// The file that says what is in a profile.
pub const MANIFEST: &str = "manifest.yaml";

#[derive(Debug, Default, Deserialize)]
struct Manifest {
    #[serde(default)]
    version: Option<Value>,
    #[serde(default, rename = "type")]
    kind: Option<Type>,
}

#[derive(Debug, Default, Deserialize)]
struct Type {
    #[serde(default)]
    values: Option<String>,
    #[serde(default)]
    configresource: Option<Vec<ConfigResource>>,
}

#[derive(Debug, Deserialize)]
struct ConfigResource {
    filepath: String,
    chartpath: String,
}

/// Values for a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// As they were written: what helm reads.
    pub text: String,
    /// What that is: an object, or null.
    pub value: Value,
}

/// A profile that was read: what is to be done to a chart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// The file of values, as text and as what it means: a mapping, or nothing.
    pub values: Option<Values>,
    /// Files to put into the chart: path from the root of the chart's archive, and content.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Profile {
    /// Reads a profile's archive.
    ///
    /// # Errors
    /// What is wrong with the archive, with `manifest.yaml`, or with a file that it names.
    pub fn read(archive: &[u8], limits: &Limits) -> Result<Self, ArchiveError> {
        let files = Files::read(archive, limits)?;
        if files.get(MANIFEST).is_none() {
            let elsewhere = files.iter().map(|(path, _)| path).find(|path| path.ends_with("/manifest.yaml"));
            let message = elsewhere.map_or_else(
                || "a profile has this file at its root".to_owned(),
                |path| format!("a profile has this file at its root; it is `{path}` here"),
            );
            return Err(
                Problem::new(MANIFEST, message, "pack the profile from inside of its directory").into()
            );
        }
        let refuse =
            |message: String, advice: &str| ArchiveError::from(Problem::new(MANIFEST, message, advice));
        let manifest: Manifest = yaml::read_as(files.text(MANIFEST)?).map_err(|error| {
            refuse(error, "write `version`, and `type` with `values` and `configresource`")
        })?;
        match manifest.version.as_ref().map(|version| version.as_str().unwrap_or_default()) {
            None | Some("v1") => {}
            Some(_) => return Err(refuse("version is not v1".to_owned(), "write `version: v1`")),
        }
        let kind = manifest.kind.unwrap_or_default();
        let mut profile = Self::default();
        if let Some(path) = kind.values.filter(|path| !path.is_empty()) {
            let path = relative(&path);
            let text = files.text(path)?;
            match yaml::read(text) {
                Ok(value @ (Value::Object(_) | Value::Null)) => {
                    profile.values = Some(Values { text: text.to_owned(), value });
                }
                Ok(_) => {
                    return Err(
                        Problem::new(path, "values are a mapping", "write names with their values").into()
                    );
                }
                Err(error) => return Err(Problem::new(path, error, "correct it").into()),
            }
        }
        for resource in kind.configresource.unwrap_or_default() {
            let path = relative(&resource.filepath);
            let Some(content) = files.get(path) else {
                let message = format!("configresource: the profile has no file `{}`", resource.filepath);
                return Err(refuse(message, "pack it, or correct `filepath`"));
            };
            // Whether the place is a good one is known with the chart; that it leads nowhere else is known here.
            Files::default()
                .insert(relative(&resource.chartpath), Vec::new(), limits)
                .map_err(|problem| refuse(format!("chartpath {problem}"), "write `APP/directory/file`"))?;
            profile.files.push((relative(&resource.chartpath).to_owned(), content.to_vec()));
        }
        Ok(profile)
    }
}

/// Paths are often written with `./`, or as if the archive were the root.
fn relative(path: &str) -> &str {
    path.trim_start_matches("./").trim_start_matches('/')
}
