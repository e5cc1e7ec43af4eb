//! The pure half of the API server: schemas, validation, patches, server-side apply, tables, selectors, Status errors.
