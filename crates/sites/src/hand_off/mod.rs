//! The contract with orchestrators of workloads, and those that there are.
//!
//! An orchestrator is given the inventory of a site and the *name* of credentials, never what is in them. It is told the same as often as it
//! takes, under one id and generation; what it has taken it may be told again.

mod kubernetes;
mod webhook;

use drystone_api::SiteHandOff;
use futures::future::BoxFuture;
use kube::Client;

pub use kubernetes::Kubernetes;
pub use webhook::Webhook;

use crate::plan::hand_off::Document;

/// Somebody who runs workloads on the hosts of a site.
pub trait Handoff: Send + Sync {
    /// Makes the orchestrator know the hosts of a document that are there, and know no more those that have left. Does nothing but tell if
    /// that is so already.
    fn hand_over<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<Answer, HandoffError>>;

    /// Tells the orchestrator that the site, with all hosts of the document, is there for it no more.
    fn withdraw<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<Answer, HandoffError>>;
}

/// What an orchestrator says that has taken a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// How it stands: [`crate::plan::hand_off::phase`], or a word of its own.
    pub phase: String,
    /// What it says besides, for people.
    pub message: String,
}

/// Why an orchestrator has not taken a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandoffError {
    /// A Secret or ConfigMap that the specification names is not as it should be.
    #[error("{field}: {reason}")]
    Settings {
        /// Path of the field.
        field: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Nobody answers, or with something that is no answer.
    #[error("{place}: {reason}")]
    NoAnswer {
        /// The orchestrator.
        place: String,
        /// Why.
        reason: String,
    },
    /// It refused.
    #[error("{place} answered {status}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Refused {
        /// The orchestrator.
        place: String,
        /// Status of its answer, by RFC 9110.
        status: u16,
        /// What it says of it.
        message: String,
    },
    /// It says that it failed, or is not ready yet.
    #[error("{phase}{}{message}", if .message.is_empty() { "" } else { ": " })]
    NotDone {
        /// How it stands.
        phase: String,
        /// What it says of it.
        message: String,
    },
    /// It has been told something under a later generation.
    #[error("the orchestrator has generation {0} already")]
    Overtaken(
        /// That generation.
        i64,
    ),
}

/// The orchestrator that a specification names, which is of a Site in `namespace`. Nothing if it names none.
pub fn orchestrator(client: &Client, namespace: &str, target: &SiteHandOff) -> Option<Box<dyn Handoff>> {
    match (&target.webhook, &target.kubernetes) {
        (Some(webhook), _) => Some(Box::new(Webhook::new(client.clone(), namespace, webhook.clone()))),
        (None, Some(_)) => Some(Box::new(Kubernetes::new(client.clone()))),
        (None, None) => None,
    }
}
