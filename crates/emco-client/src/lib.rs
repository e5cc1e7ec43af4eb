//! What users of EMCO write: files of many documents, templated over a file of values, each of which stands for a request to the REST API.
//!
//! | module | what it does |
//! |---|---|
//! | [`template`] | Go templates over values |
//! | [`document`] | the documents of a file |
//! | [`step`] | the request that a document stands for, by what is to be done; pure |
//! | [`run`] | requests one after the other, and what their answers mean |
//!
//! The format is that of `emcoctl`, release 22.09. Different is what becomes of it: something that is there already is replaced,
//! what is not possible yet is tried again, and failures are the exit code's business.

pub mod document;
pub mod run;
pub mod step;
pub mod template;

pub use document::Document;
pub use run::{Done, Options, Problem, Reply, Transport, Unsent, run};
pub use step::{Action, Body, Request, Step};

/// YAML as Go's parser (yaml.v3) reads it: `yes` and `on` are texts, `0644` is in base eight.
pub(crate) fn yaml() -> serde_saphyr::Options {
    serde_saphyr::options! { strict_booleans: true, legacy_octal_numbers: true }
}
