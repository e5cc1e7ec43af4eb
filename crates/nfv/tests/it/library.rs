//! A package library in a directory: enough of one for the service.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use drystone_nfv::content::{Content, ContentError, Received, Upload, Vnfd};

/// Largest content.
pub(crate) const LIMIT: usize = 4 * 1024 * 1024;

#[derive(Clone)]
pub(crate) struct Library(Arc<tempfile::TempDir>);

impl Library {
    pub(crate) fn new() -> Self {
        Self(Arc::new(tempfile::tempdir().unwrap()))
    }

    fn path(&self, uid: &str) -> PathBuf {
        self.0.path().join(uid)
    }

    async fn whole(&self, uid: &str) -> Result<Bytes, ContentError> {
        read(&self.path(uid)).await
    }

    /// Files that lie there.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(self.0.path()).unwrap().count()
    }
}

async fn read(path: &Path) -> Result<Bytes, ContentError> {
    let read = tokio::fs::read(path).await;
    read.map(Bytes::from).map_err(|error| ContentError::NotFound(error.to_string()))
}

struct Arriving {
    bytes: Vec<u8>,
    path: PathBuf,
}

#[async_trait]
impl Upload for Arriving {
    async fn write(&mut self, bytes: Bytes) -> Result<(), ContentError> {
        self.bytes.extend_from_slice(&bytes);
        if self.bytes.len() > LIMIT {
            return Err(ContentError::TooLarge(format!("the package has more than {LIMIT} bytes")));
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Received, ContentError> {
        tokio::fs::write(&self.path, &self.bytes)
            .await
            .map_err(|error| ContentError::Failed(error.to_string()))?;
        let hash = digest(&SHA256, &self.bytes);
        let sha256 = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Received { sha256, length: self.bytes.len() as u64 })
    }
}

#[async_trait]
impl Content for Library {
    async fn begin(&self, uid: &str, length: Option<u64>) -> Result<Box<dyn Upload>, ContentError> {
        if length.is_some_and(|length| length > LIMIT as u64) {
            return Err(ContentError::TooLarge(format!("the package has more than {LIMIT} bytes")));
        }
        Ok(Box::new(Arriving { bytes: Vec::new(), path: self.path(uid) }))
    }

    async fn length(&self, uid: &str) -> Result<u64, ContentError> {
        Ok(self.whole(uid).await?.len() as u64)
    }

    async fn read(&self, uid: &str, start: u64, most: usize) -> Result<Bytes, ContentError> {
        let whole = self.whole(uid).await?;
        let start = usize::try_from(start).unwrap();
        Ok(whole.slice(start..(start + most).min(whole.len())))
    }

    /// Packages whose content says so have a VNFD of several files.
    async fn vnfd(&self, uid: &str) -> Result<Vnfd, ContentError> {
        let whole = self.whole(uid).await?;
        let several = whole.windows(7).any(|part| part == b"several");
        Ok(Vnfd {
            single: (!several).then(|| Bytes::from_static(b"tosca_definitions_version: x\n")),
            archive: Bytes::from_static(b"PK vnfd"),
        })
    }

    async fn artifact(&self, uid: &str, path: &str) -> Result<Bytes, ContentError> {
        self.whole(uid).await?;
        match path {
            "Scripts/install.sh" => Ok(Bytes::from_static(b"#!/bin/sh\nexit 0\n")),
            other => Err(ContentError::NotFound(format!("the package has no artifact {other}"))),
        }
    }
}
