//! Starting an operation exactly once.

use std::collections::BTreeMap;

use drystone_api::{ObjectReference, Operation, OperationSpec, SYSTEM_NAMESPACE};
use kube::{Api, Client, ResourceExt, api::PostParams};

use super::{OPERATION_FINALIZER, SUBJECT_KIND_LABEL, SUBJECT_UID_LABEL};
use crate::{
    plan::{Plan, PlanError},
    reference::{describe_kube_error, is_conflict, owner_reference},
};

/// Why an operation could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The plan is not valid.
    #[error("operation {name}: {source}")]
    Plan {
        /// Name of the operation.
        name: String,
        /// What is wrong.
        source: PlanError,
    },
    /// The subject cannot own an operation.
    #[error(
        "operation {name}: its subject {subject} needs apiVersion, kind, name and uid, as reference_to() gives them"
    )]
    IncompleteSubject {
        /// Name of the operation.
        name: String,
        /// The subject.
        subject: Box<ObjectReference>,
    },
    /// The name belongs to an operation of another subject.
    #[error(
        "operation {name} exists already, for another subject ({owner}); make the name with operation_name()"
    )]
    NameTaken {
        /// Name of the operation.
        name: String,
        /// The other subject.
        owner: Box<ObjectReference>,
    },
    /// The API refused.
    #[error("operation {name} not created: {}", describe_kube_error(.source))]
    Api {
        /// Name of the operation.
        name: String,
        /// Why.
        source: kube::Error,
    },
}

/// Name of the operation that does `purpose` (such as `create`, or `grow-7` with the generation that asks for it) for
/// `subject`: the same for the same subject and purpose, so that a restarted controller does not start it twice, and another
/// one for a subject that was deleted and created again under the same name.
pub fn operation_name(subject: &ObjectReference, purpose: &str) -> String {
    let identity = format!("{}/{}/{}/{}", subject.kind, subject.uid, subject.name, purpose);
    let digest = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, identity.as_bytes()).simple().to_string();
    // At most 63 characters, so that it can be a label's value as well.
    let readable: String = format!("{}-{purpose}", subject.name).chars().take(52).collect();
    format!("{}-{}", readable.trim_end_matches(['-', '.']), &digest[..10])
}

/// Creates the operation `name` for its subject, which owns it, unless it exists. Returns it as it is: just created, running,
/// or long done. It lives in its subject's namespace, or in Drystone's own for a cluster-scoped subject, and for one whose
/// namespace is being deleted and takes nothing new any more: find it by the namespace of the object that is returned.
///
/// # Errors
/// [`StartError`].
pub async fn start(client: &Client, name: &str, spec: OperationSpec) -> Result<Operation, StartError> {
    let subject = spec.subject.clone();
    if [&subject.api_version, &subject.kind, &subject.name, &subject.uid].iter().any(|part| part.is_empty()) {
        return Err(StartError::IncompleteSubject { name: name.to_owned(), subject: Box::new(subject) });
    }
    let plan = Plan::new(spec).map_err(|source| StartError::Plan { name: name.to_owned(), source })?;
    let namespace = if subject.namespace.is_empty() { SYSTEM_NAMESPACE } else { &subject.namespace };
    let failed = |source| StartError::Api { name: name.to_owned(), source };

    let mut operation = Operation::new(name, plan.into_spec());
    operation.metadata.finalizers = Some(vec![OPERATION_FINALIZER.to_owned()]);
    operation.metadata.labels = Some(BTreeMap::from([
        (SUBJECT_UID_LABEL.to_owned(), subject.uid.clone()),
        (SUBJECT_KIND_LABEL.to_owned(), subject.kind.clone()),
    ]));
    let owned = {
        let mut owned = operation.clone();
        owned.metadata.owner_references = Some(vec![owner_reference(&subject)]);
        owned
    };
    let existing = match create_in(client, namespace, owned).await {
        // An owner must be in the same namespace: this one has none, and goes when finished operations do.
        Err(error) if is_terminating(&error) => create_in(client, SYSTEM_NAMESPACE, operation).await,
        created => created,
    }
    .map_err(failed)?;
    if existing.labels().get(SUBJECT_UID_LABEL) == Some(&subject.uid) {
        Ok(existing)
    } else {
        let owner = Box::new(existing.spec.subject);
        Err(StartError::NameTaken { name: name.to_owned(), owner })
    }
}

/// Creates an operation in a namespace; returns the one that is there if there is one of that name.
async fn create_in(
    client: &Client,
    namespace: &str,
    mut operation: Operation,
) -> Result<Operation, kube::Error> {
    let api: Api<Operation> = Api::namespaced(client.clone(), namespace);
    operation.metadata.namespace = Some(namespace.to_owned());
    match api.create(&PostParams::default(), &operation).await {
        Err(error) if is_conflict(&error) => api.get(&operation.name_any()).await,
        result => result,
    }
}

/// Whether the API refused because the namespace is being deleted.
fn is_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}
