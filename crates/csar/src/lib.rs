//! VNF packages: what a CSAR (ETSI GS NFV-SOL004, as OpenStack Tacker's packages are shaped) holds, and what is asked of a VIM for it.
//!
//! | module | what it does |
//! |---|---|
//! | [`archive`] | files of a package, out of a zip archive or a directory, within limits; deterministic archives |
//! | [`meta`] | `TOSCA-Metadata/TOSCA.meta` and the ETSI manifest, whose hashes are checked |
//! | [`yaml`] | YAML with the place of every value |
//! | [`vnfd`] | the VNF descriptor (ETSI GS NFV-SOL001): flavours, VDUs, scaling, placement, hooks |
//! | [`hot`] | base HOTs: the Heat templates of a flavour |
//! | [`Package`] | all of it together |
//! | [`userdata`] | stack requests of life-cycle operations, as Tacker's user-data classes make them |
//! | [`preview`] | what a request would do |
//! | [`Library`] | packages on disk |
//! | [`build()`] | makes a CSAR out of a directory |
//!
//! Reading a package finds all of its problems at once, each with file, line, column, and what to do.

pub mod archive;
mod build;
pub mod hot;
mod library;
pub mod meta;
mod package;
pub mod preview;
mod problem;
pub mod userdata;
pub mod vnfd;
pub mod yaml;

pub use archive::{FileError, Limits};
pub use build::{BuildError, build};
pub use library::{Committed, Incoming, Library, LibraryError};
pub use package::{Artifact, Package};
pub use problem::{Problem, Problems, Severity};
pub use vnfd::{Direction, Flavour, Vnfd};
