//! Tables: objects as rows of cells, as kubectl prints them.

use serde_json::Value;

use super::call::Call;
use crate::machinery::status::ApiError;
use crate::storage::Stored;

/// Renders objects as one table.
pub(crate) fn render(
    call: &Call,
    version: &'static str,
    items: &[Stored],
    metadata: Value,
) -> Result<Value, ApiError> {
    let _ = (call, version, items, metadata);
    Err(ApiError::NotAcceptable("application/json".into()))
}

/// Renders the events of a watch, each a table of one row.
pub(crate) struct Renderer;

impl Renderer {
    pub(crate) fn new(_call: &Call, _version: &'static str) -> Self {
        Self
    }

    pub(crate) fn event(&mut self, _stored: &Stored) -> Result<Value, ApiError> {
        Err(ApiError::NotAcceptable("application/json".into()))
    }
}
