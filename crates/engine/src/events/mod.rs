//! Kubernetes Events: what happened to an object, for people, told so that repetition does not drown the story.
//!
//! [`EventRecorder::publish`] never blocks and never fails: events are best effort, as in Kubernetes. A task of its own
//! [correlates](correlate) and writes them.

pub mod correlate;
mod recorder;

use drystone_api::ObjectReference;
pub use recorder::EventRecorder;

/// Whether an event is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// All is as it should be.
    Normal,
    /// Somebody may want to look.
    Warning,
}

impl EventKind {
    /// The event's `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Where events go.
pub trait EventSink: Send + Sync + 'static {
    /// Tells what happened to an object. `reason` is a word in upper camel case, stable for programs; `note` is a sentence
    /// for people and holds no secrets. Returns at once.
    fn publish(&self, regarding: &ObjectReference, kind: EventKind, reason: &str, note: &str);
}

/// Drops all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl EventSink for Silent {
    fn publish(&self, _: &ObjectReference, _: EventKind, _: &str, _: &str) {}
}
