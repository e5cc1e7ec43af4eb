//! What makes a plan valid.

use drystone_api::OperationSpec;

use super::Graph;

/// Most steps of one operation. More belong into several operations: one object is written per transition.
pub(super) const MAX_STEPS: usize = 4_000;

/// Largest specification in bytes of JSON. Kubernetes stores objects up to about 1.5 MiB, and the journal needs its share.
pub(super) const MAX_SPEC_BYTES: usize = 768 * 1024;

/// Longest id of a step, in bytes.
const MAX_ID_BYTES: usize = 253;

/// Why a plan is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The plan does nothing.
    #[error("the operation has no steps")]
    Empty,
    /// Too many steps.
    #[error("the operation has {steps} steps, more than {MAX_STEPS}: divide it into several operations")]
    TooManySteps {
        /// How many it has.
        steps: usize,
    },
    /// Too large to be stored.
    #[error(
        "the operation has {bytes} bytes, more than {MAX_SPEC_BYTES}: give steps references instead of contents"
    )]
    TooLarge {
        /// How many bytes of JSON it has.
        bytes: usize,
    },
    /// An id that cannot be used.
    #[error(
        "steps[{index}].id {id:?}: must be 1 to {MAX_ID_BYTES} characters without spaces or control characters"
    )]
    InvalidId {
        /// Index of the step.
        index: usize,
        /// The id.
        id: String,
    },
    /// Two steps of one id.
    #[error("steps[{index}].id {id:?}: steps[{first}] has this id already")]
    DuplicateId {
        /// Index of the second step.
        index: usize,
        /// Index of the first step.
        first: usize,
        /// The id.
        id: String,
    },
    /// A step without an action.
    #[error("steps[{index}].action: step {id:?} names no action")]
    NoAction {
        /// Index of the step.
        index: usize,
        /// Its id.
        id: String,
    },
    /// A dependency on something that is not there.
    #[error(
        "steps[{index}].dependsOn: step {id:?} depends on {dependency:?}, which is no step of this operation"
    )]
    UnknownDependency {
        /// Index of the step.
        index: usize,
        /// Its id.
        id: String,
        /// What it depends on.
        dependency: String,
    },
    /// Steps that wait for each other.
    #[error("steps depend on each other in a circle: {}", .steps.join(" -> "))]
    Cycle {
        /// Ids along the circle; the first one is repeated at the end.
        steps: Vec<String>,
    },
    /// Parameters that are not an object.
    #[error("steps[{index}].parameters: step {id:?} needs an object, not {found}")]
    ParametersNotAnObject {
        /// Index of the step.
        index: usize,
        /// Its id.
        id: String,
        /// What it is instead.
        found: &'static str,
    },
    /// Parameters that cannot be written as JSON.
    #[error("parameters of step {step:?} cannot be written as JSON: {why}")]
    Unserializable {
        /// The step.
        step: String,
        /// Why not.
        why: String,
    },
}

/// A specification that was found valid, with its graph. Steps are referred to by their index.
#[derive(Debug, Clone)]
pub struct Plan {
    spec: OperationSpec,
    graph: Graph,
}

impl Plan {
    /// Checks a specification.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn new(spec: OperationSpec) -> Result<Self, PlanError> {
        if spec.steps.is_empty() {
            return Err(PlanError::Empty);
        }
        if spec.steps.len() > MAX_STEPS {
            return Err(PlanError::TooManySteps { steps: spec.steps.len() });
        }
        for (index, step) in spec.steps.iter().enumerate() {
            let usable = |c: char| !c.is_whitespace() && !c.is_control();
            if step.id.is_empty() || step.id.len() > MAX_ID_BYTES || !step.id.chars().all(usable) {
                return Err(PlanError::InvalidId { index, id: step.id.clone() });
            }
            if step.action.is_empty() {
                return Err(PlanError::NoAction { index, id: step.id.clone() });
            }
            if let Some(found) = not_an_object(&step.parameters) {
                return Err(PlanError::ParametersNotAnObject { index, id: step.id.clone(), found });
            }
        }
        let graph = Graph::new(&spec.steps)?;
        let bytes = serde_json::to_vec(&spec).map_or(usize::MAX, |json| json.len());
        if bytes > MAX_SPEC_BYTES {
            return Err(PlanError::TooLarge { bytes });
        }
        Ok(Self { spec, graph })
    }

    /// The specification.
    pub fn spec(&self) -> &OperationSpec {
        &self.spec
    }

    /// How its steps depend on each other.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.spec.steps.len()
    }

    /// Never: a plan has steps.
    pub fn is_empty(&self) -> bool {
        self.spec.steps.is_empty()
    }

    /// The specification, given back.
    pub fn into_spec(self) -> OperationSpec {
        self.spec
    }
}

fn not_an_object(value: &serde_json::Value) -> Option<&'static str> {
    use serde_json::Value;
    match value {
        Value::Null | Value::Object(_) => None,
        Value::Bool(_) => Some("a boolean"),
        Value::Number(_) => Some("a number"),
        Value::String(_) => Some("a string"),
        Value::Array(_) => Some("a list"),
    }
}
