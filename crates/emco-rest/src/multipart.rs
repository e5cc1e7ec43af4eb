//! Bodies of several parts: `metadata`, and a file or several.

use axum::http::{StatusCode, header};
use bytes::Bytes;
use multer::Multipart;

use crate::{
    archive::Checking,
    files::{Files, FilesError, Upload},
    kinds::FileRule,
    refusal::Refusal,
    request::{Incoming, LARGEST_BODY, Sent, media_type},
};

/// Bytes of the largest file.
const LARGEST_FILE: u64 = 1 << 30;
/// Bytes of the largest kubeconfig: it becomes a Secret.
const LARGEST_KUBECONFIG: usize = 900 * 1024;
/// Files of a body at most.
const MOST_FILES: usize = 256;
/// Parts of a body at most.
const MOST_PARTS: usize = MOST_FILES + 16;

/// A body with what came with it.
pub(crate) struct Form {
    /// Metadata and specification.
    pub(crate) sent: Sent,
    /// Files on their way in, with their names.
    pub(crate) files: Vec<(String, Box<dyn Upload>)>,
    /// A kubeconfig.
    pub(crate) kubeconfig: Option<String>,
    /// Whether the body was JSON alone: files that are there already stay.
    pub(crate) is_json: bool,
}

impl From<FilesError> for Refusal {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Missing(_) | FilesError::Damaged(..) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            FilesError::TooLarge(..) => Self::unprocessable(error.to_string()),
            FilesError::Failed(_) => Self::internal(&error),
        }
    }
}

fn too_large() -> Refusal {
    Refusal::unprocessable("File Size Exceeds 1 GB")
}

fn unreadable(error: &multer::Error) -> Refusal {
    // What the reader of the body says is inside.
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    Refusal::unprocessable(format!("the body is no multipart/form-data: {inner}"))
}

/// Reads a body of a kind of documents that has files.
pub(crate) async fn read(
    incoming: Incoming,
    rule: FileRule,
    files: &dyn Files,
) -> Result<(Form, Incoming), Refusal> {
    let Incoming { parts, body, query, path } = incoming;
    let back = |parts, path| Incoming {
        parts,
        body: crate::request::Unread::new(axum::body::Body::empty()),
        query,
        path,
    };
    if media_type(&parts) != "multipart/form-data" {
        let sent = Sent::parse(&body.read().await?)?;
        let form = Form { sent, files: Vec::new(), kubeconfig: None, is_json: true };
        return Ok((form, back(parts, path)));
    }
    let length =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > LARGEST_FILE + LARGEST_BODY as u64) {
        return Err(too_large());
    }
    let given = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(given.unwrap_or_default()).map_err(|error| unreadable(&error))?;
    let mut reader = Reader { files, rule, left: LARGEST_FILE, form: Taken::default() };
    let mut multipart = Multipart::new(body.into_stream(), boundary);
    let mut count = 0;
    while let Some(field) = multipart.next_field().await.map_err(|error| unreadable(&error))? {
        count += 1;
        if count > MOST_PARTS {
            return Err(Refusal::unprocessable(format!("the body has more than {MOST_PARTS} parts")));
        }
        reader.take(field).await?;
    }
    let taken = reader.form;
    let sent = Sent::parse(taken.metadata.as_deref().unwrap_or_default())?;
    let form = Form { sent, files: taken.files, kubeconfig: taken.kubeconfig, is_json: false };
    Ok((form, back(parts, path)))
}

/// What was read so far.
#[derive(Default)]
struct Taken {
    metadata: Option<Vec<u8>>,
    files: Vec<(String, Box<dyn Upload>)>,
    kubeconfig: Option<String>,
}

struct Reader<'a> {
    files: &'a dyn Files,
    rule: FileRule,
    /// Bytes that files may still have.
    left: u64,
    form: Taken,
}

impl Reader<'_> {
    async fn take(&mut self, field: multer::Field<'static>) -> Result<(), Refusal> {
        let name = field.name().unwrap_or_default().to_owned();
        match (name.as_str(), self.rule) {
            ("metadata", _) => {
                let too_long =
                    || Refusal::unprocessable(format!("metadata: has more than {LARGEST_BODY} bytes"));
                self.form.metadata = Some(small(field, LARGEST_BODY, too_long).await?);
                Ok(())
            }
            ("file", FileRule::Kubeconfig) => {
                let too_long = || {
                    Refusal::unprocessable(format!(
                        "file: a kubeconfig has at most {LARGEST_KUBECONFIG} bytes"
                    ))
                };
                let bytes = small(field, LARGEST_KUBECONFIG, too_long).await?;
                let wrong = |why| Refusal::unprocessable(format!("file: {why}"));
                crate::kubeconfig::check(&bytes).map_err(wrong)?;
                let text = String::from_utf8(bytes).map_err(|_| wrong("it is no UTF-8".to_owned()))?;
                self.form.kubeconfig = Some(text);
                Ok(())
            }
            ("file", FileRule::Archive | FileRule::Optional) => {
                if !self.form.files.is_empty() {
                    return Err(Refusal::unprocessable("file: is given twice"));
                }
                self.file(field).await
            }
            ("files" | "file", FileRule::Many) => {
                if self.form.files.len() == MOST_FILES {
                    return Err(Refusal::unprocessable(format!("files: are more than {MOST_FILES}")));
                }
                self.file(field).await
            }
            _ => skip(field).await,
        }
    }

    async fn file(&mut self, mut field: multer::Field<'static>) -> Result<(), Refusal> {
        let name: String = field.file_name().unwrap_or_default().chars().take(253).collect();
        let mut upload = self.files.begin().await?;
        let checking = (self.rule == FileRule::Archive).then(Checking::begin);
        let mut is_good = true;
        while is_good && let Some(bytes) = next(&mut field).await? {
            self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(too_large)?;
            if let Some(checking) = &checking {
                is_good = checking.write(bytes.clone()).await;
            }
            upload.write(bytes).await?;
        }
        if let Some(checking) = checking {
            let wrong = |why| Refusal::unprocessable(format!("Error in file format: {why}"));
            checking.finish().await.map_err(wrong)?;
        }
        self.form.files.push((name, upload));
        Ok(())
    }
}

async fn next(field: &mut multer::Field<'static>) -> Result<Option<Bytes>, Refusal> {
    field.chunk().await.map_err(|error| unreadable(&error))
}

async fn skip(mut field: multer::Field<'static>) -> Result<(), Refusal> {
    let mut left = LARGEST_BODY;
    while let Some(bytes) = next(&mut field).await? {
        let too_long = || Refusal::unprocessable("the body has large parts that nobody asked for");
        left = left.checked_sub(bytes.len()).ok_or_else(too_long)?;
    }
    Ok(())
}

/// A part that is kept in memory.
async fn small(
    mut field: multer::Field<'static>,
    most: usize,
    too_long: impl Fn() -> Refusal,
) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    while let Some(part) = next(&mut field).await? {
        bytes.extend_from_slice(&part);
        if bytes.len() > most {
            return Err(too_long());
        }
    }
    Ok(bytes)
}
