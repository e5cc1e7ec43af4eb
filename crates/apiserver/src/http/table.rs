//! Tables: objects as rows of cells, as kubectl prints them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use super::present;
use crate::machinery::status::ApiError;
use crate::machinery::table::{Columns, Form, IncludeObject, table};
use crate::registry::ResourceInfo;
use crate::storage::Stored;
use std::sync::Arc;

/// Makes tables of objects of one resource.
pub(crate) struct Renderer {
    resource: Arc<ResourceInfo>,
    columns: Columns,
    version: &'static str,
    include: IncludeObject,
    headers: bool,
}

impl Renderer {
    /// Makes tables as the request wants them.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] if `includeObject` is unknown.
    pub(crate) fn new(call: &Call, version: &'static str) -> Result<Self, ApiError> {
        let wanted = call.query.get("includeObject").unwrap_or_default();
        let include = IncludeObject::parse(wanted).ok_or_else(|| {
            ApiError::bad_request(format!(
                "includeObject: Unsupported value: {wanted:?}: supported values: \"Metadata\", \"None\", \"Object\""
            ))
        })?;
        let resource = Arc::clone(&call.resource);
        let columns = match resource.custom() {
            Some(custom) => Columns::of_custom(&custom.printer_columns),
            None => Columns::of_builtin(&resource.group, &resource.kind),
        };
        Ok(Self { resource, columns, version, include, headers: true })
    }

    /// One table of all objects.
    pub(crate) fn render(&self, items: &[Stored], metadata: &Value) -> Result<Value, ApiError> {
        let objects = items.iter().map(|stored| present::read_object(&self.resource, stored));
        let objects = objects.collect::<Result<Vec<_>, _>>()?;
        let form = Form { version: self.version, include: self.include, headers: self.headers };
        Ok(table(&self.columns, form, objects, metadata, Timestamp::now()))
    }

    /// The event of a watch: a table of one row. Only the first has column definitions.
    pub(crate) fn event(&mut self, stored: &Stored) -> Result<Value, ApiError> {
        let metadata = json!({"resourceVersion": stored.revision.to_string()});
        let rendered = self.render(std::slice::from_ref(stored), &metadata);
        self.headers = false;
        rendered
    }
}
