//! OpenAPI v3: the documents from which `kubectl explain` and client-side validation learn the served types.
