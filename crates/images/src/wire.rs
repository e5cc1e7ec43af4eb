//! Images as the REST agent's clients write and read them: ICN's BPA REST agent (release 0.4), with additions that its clients pass over.

use drystone_api::{Artifact, ArtifactRecord, ArtifactSpec, ArtifactType};
use serde::{Deserialize, Serialize};

use crate::{digest::Digest, key::ArtifactKey};

/// Largest image that is believed, in bytes: 1 EiB.
const MAX_LENGTH: i128 = 1 << 60;
/// Most records in a description.
const MAX_RECORDS: usize = 100;
/// Longest text in a record, in characters.
const MAX_TEXT: usize = 500;

/// An image, as answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is.
    pub owner: String,
    /// The cluster that it is for.
    pub cluster_name: String,
    /// `binary`, `container` or `operatingsystem`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub image_name: String,
    /// Bytes that are safe; an upload goes on from here.
    pub image_offset: u64,
    /// Bytes of the whole.
    pub image_length: u64,
    /// Whether all has come, and was found good.
    pub upload_complete: bool,
    /// What the uploader says of it.
    #[serde(default)]
    pub description: Description,
    /// Digest, `sha256:…`: of what is complete; before that, the one that was promised, if any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_digest: String,
    /// Where it is fetched, once it is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_urls: Vec<String>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What an uploader says of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// What is in it.
    #[serde(default)]
    pub image_records: Vec<ImageRecord>,
}

/// One of the images in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Name.
    #[serde(default)]
    pub image_record_name: String,
    /// Repository.
    #[serde(default)]
    pub repo: String,
    /// Tag.
    #[serde(default)]
    pub tag: String,
}

/// An image as it is announced: numbers are looked at before they are believed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Announcement {
    owner: Option<String>,
    cluster_name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    image_name: Option<String>,
    image_offset: Option<i64>,
    image_length: Option<i128>,
    upload_complete: Option<bool>,
    description: Option<Description>,
    image_digest: Option<String>,
}

/// An image that is announced.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Announced {
    /// Key and content.
    pub(crate) key: ArtifactKey,
    pub(crate) length: u64,
    /// Offset that is asked for.
    pub(crate) offset: Option<u64>,
    pub(crate) digest: Option<Digest>,
    pub(crate) records: Vec<ArtifactRecord>,
}

/// What is wrong with an announcement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnnouncementError {
    /// There is none.
    #[error(
        "metadata: it is empty; expected JSON such as {{\"owner\": …, \"image_name\": …, \"image_length\": …}}"
    )]
    Empty,
    /// It cannot be read.
    #[error("metadata: {0}")]
    Json(String),
    /// A field is wrong.
    #[error("{field}: {reason}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

fn field(field: &'static str, reason: impl Into<String>) -> AnnouncementError {
    AnnouncementError::Field { field, reason: reason.into() }
}

impl Announced {
    /// Reads the metadata of an image at `…/{owner}/{cluster}/{kind}`.
    pub(crate) fn parse(
        text: &[u8],
        owner: &str,
        cluster: &str,
        kind: ArtifactType,
    ) -> Result<Self, AnnouncementError> {
        if text.iter().all(u8::is_ascii_whitespace) {
            return Err(AnnouncementError::Empty);
        }
        let said: Announcement =
            serde_json::from_slice(text).map_err(|error| AnnouncementError::Json(error.to_string()))?;
        let same = |name, value: Option<&str>, path: &str, required| match value.unwrap_or_default() {
            "" if required => Err(field(name, "it is missing")),
            "" => Ok(()),
            value if value == path => Ok(()),
            value => Err(field(name, format!("{value:?} is not {path:?}, which the path says"))),
        };
        same("owner", said.owner.as_deref(), owner, true)?;
        same("cluster_name", said.cluster_name.as_deref(), cluster, false)?;
        if let Some(named) = said.kind.as_deref().filter(|named| !named.is_empty())
            && type_of(named) != Some(kind)
        {
            return Err(field(
                "type",
                format!("{named:?} is not {:?}, which the path says", type_name(kind)),
            ));
        }
        let name = said.image_name.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| field("image_name", "it is missing"))?;
        let key = ArtifactKey::new(owner, cluster, kind, &name)
            .map_err(|error| field("image_name", error.to_string()))?;
        let length = said.image_length.unwrap_or_default();
        let length = u64::try_from(length).ok().filter(|_| (1..=MAX_LENGTH).contains(&length));
        let length =
            length.ok_or_else(|| field("image_length", "it must be a number of bytes from 1 to 2^60"))?;
        let offset = said.image_offset.map(u64::try_from).transpose();
        let offset = offset.map_err(|_| field("image_offset", "it must not be negative"))?;
        if said.upload_complete == Some(true) {
            return Err(field(
                "upload_complete",
                "it is true when all bytes have come, not because it is said",
            ));
        }
        let digest = said.image_digest.filter(|digest| !digest.is_empty()).map(|digest| digest.parse());
        let digest = digest
            .transpose()
            .map_err(|error: crate::digest::DigestError| field("image_digest", error.to_string()))?;
        let records = records(said.description.unwrap_or_default())?;
        Ok(Self { key, length, offset, digest, records })
    }

    /// The specification of the Artifact.
    pub(crate) fn spec(&self) -> ArtifactSpec {
        ArtifactSpec {
            owner: self.key.owner().to_owned(),
            cluster: self.key.cluster().to_owned(),
            kind: self.key.kind(),
            name: self.key.name().to_owned(),
            length: self.length,
            digest: self.digest.map(|digest| digest.to_string()),
            records: self.records.clone(),
        }
    }
}

fn records(description: Description) -> Result<Vec<ArtifactRecord>, AnnouncementError> {
    let records = description.image_records;
    let wrong = |reason: String| Err(field("description.image_records", reason));
    if records.len() > MAX_RECORDS {
        return wrong(format!("{} are more than {MAX_RECORDS}", records.len()));
    }
    let texts = records.iter().flat_map(|record| [&record.image_record_name, &record.repo, &record.tag]);
    if texts.into_iter().any(|text| text.chars().count() > MAX_TEXT) {
        return wrong(format!("a text is longer than {MAX_TEXT} characters"));
    }
    let new = |record: ImageRecord| ArtifactRecord {
        name: record.image_record_name,
        repo: record.repo,
        tag: record.tag,
    };
    Ok(records.into_iter().map(new).collect())
}

/// How a type is called in records.
pub(crate) const fn type_name(kind: ArtifactType) -> &'static str {
    match kind {
        ArtifactType::Binary => "binary",
        ArtifactType::Container => "container",
        ArtifactType::OperatingSystem => "operatingsystem",
    }
}

/// The type of a name; clients also write the one of the path, and short forms.
pub(crate) fn type_of(name: &str) -> Option<ArtifactType> {
    match name.to_ascii_lowercase().as_str() {
        "binary" | "binary_image" | "binary_images" => Some(ArtifactType::Binary),
        "container" | "container_image" | "container_images" => Some(ArtifactType::Container),
        "os" | "operatingsystem" | "os_image" | "os_images" => Some(ArtifactType::OperatingSystem),
        _ => None,
    }
}

/// How a type is called in paths.
pub(crate) const fn collection(kind: ArtifactType) -> &'static str {
    match kind {
        ArtifactType::Binary => "binary_images",
        ArtifactType::Container => "container_images",
        ArtifactType::OperatingSystem => "os_images",
    }
}

/// The type of a path.
pub(crate) fn type_of_collection(name: &str) -> Option<ArtifactType> {
    [ArtifactType::Binary, ArtifactType::Container, ArtifactType::OperatingSystem]
        .into_iter()
        .find(|kind| collection(*kind) == name)
}

impl Record {
    /// Of an artifact, by what its status says.
    pub(crate) fn of(artifact: &Artifact) -> Self {
        let spec = &artifact.spec;
        let status = artifact.status.clone().unwrap_or_default();
        let promised = spec.digest.clone().unwrap_or_default();
        Self {
            owner: spec.owner.clone(),
            cluster_name: spec.cluster.clone(),
            kind: type_name(spec.kind).to_owned(),
            image_name: spec.name.clone(),
            image_offset: status.offset,
            image_length: spec.length,
            upload_complete: status.complete,
            description: Description {
                image_records: spec
                    .records
                    .iter()
                    .cloned()
                    .map(|record| ImageRecord {
                        image_record_name: record.name,
                        repo: record.repo,
                        tag: record.tag,
                    })
                    .collect(),
            },
            image_digest: if status.digest.is_empty() { promised } else { status.digest },
            image_urls: status.urls,
            message: status.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn sample() -> Value {
        json!({"owner": "alpha", "cluster_name": "beta", "type": "container", "image_name": "asdf", "image_offset": 0,
            "image_length": 29_718_177, "upload_complete": false,
            "description": {"image_records": [{"image_record_name": "iuysdi1234", "repo": "icn", "tag": "2"}]}})
    }

    fn parse(value: &Value) -> Result<Announced, AnnouncementError> {
        Announced::parse(value.to_string().as_bytes(), "alpha", "beta", ArtifactType::Container)
    }

    #[test]
    fn announcements_as_clients_write_them() {
        let announced = parse(&sample()).unwrap();
        assert_eq!((announced.length, announced.offset), (29_718_177, Some(0)));
        assert_eq!(announced.records[0].repo, "icn");
        let record = Record::of(&Artifact::new("x", announced.spec()));
        assert_eq!(serde_json::to_value(&record).unwrap(), sample());
        let least = parse(&json!({"owner": "alpha", "image_name": "a", "image_length": 1})).unwrap();
        assert_eq!((least.length, least.offset), (1, None));
    }

    #[test]
    fn wrong_fields_are_named() {
        for (name, value) in [
            ("owner", json!("")),
            ("owner", json!("gamma")),
            ("cluster_name", json!("gamma")),
            ("type", json!("os")),
            ("type", json!("tape")),
            ("image_name", Value::Null),
            ("image_name", json!("../etc/passwd")),
            ("image_length", json!(0)),
            ("image_length", json!(-1)),
            ("image_length", json!(1_u64 << 61)),
            ("image_offset", json!(-1)),
            ("upload_complete", json!(true)),
            ("image_digest", json!("md5:00")),
        ] {
            let mut wrong = sample();
            wrong[name] = value.clone();
            let error = parse(&wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}: ")), "{name} {value}: {error}");
        }
        let mut many = sample();
        many["description"]["image_records"] = json!(vec![json!({}); 101]);
        assert!(parse(&many).unwrap_err().to_string().contains("101 are more than 100"));
        let text = |text: &[u8]| Announced::parse(text, "alpha", "beta", ArtifactType::Binary).unwrap_err();
        assert_eq!(text(b" \n"), AnnouncementError::Empty);
        for wrong in [&b"{"[..], b"7", b"\xff", br#"{"image_length": "5"}"#, br#"{"image_length": 1.5}"#] {
            assert!(matches!(text(wrong), AnnouncementError::Json(_)), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_announcement_is_answered(value in drystone_hostile::distorted(sample(), &["owner", "image_name", "image_length", "description"])) {
            if let Ok(announced) = parse(&value) { prop_assert!(announced.length > 0); }
        }
    }
}
