//! Building the specification of an operation step by step.

use std::time::Duration;

use drystone_api::{FailurePolicy, ObjectReference, OperationSpec, StepSpec};
use serde::Serialize;
use serde_json::Value;

use super::{Plan, PlanError};
use crate::action::Action;

/// Builds an [`OperationSpec`].
///
/// ```
/// # use std::time::Duration;
/// # use drystone_engine::plan::PlanBuilder;
/// # use serde_json::json;
/// let mut plan = PlanBuilder::new("Create cluster research/mlops", Default::default());
/// plan.step("zone", "cluster.create-zone", &json!({"name": "mlops"})).estimate(Duration::from_secs(5));
/// for host in ["a", "b"] {
///     plan.step(format!("power-on/{host}"), "metal.power-on", &json!({"host": host}))
///         .title(format!("Power on {host}"))
///         .after("zone");
/// }
/// let spec = plan.build()?;
/// # assert_eq!(spec.steps.len(), 3);
/// # Ok::<(), drystone_engine::plan::PlanError>(())
/// ```
#[derive(Debug, Clone)]
pub struct PlanBuilder {
    spec: OperationSpec,
    /// The first parameters that could not be written as JSON; reported by [`PlanBuilder::build`].
    unserializable: Option<PlanError>,
}

impl PlanBuilder {
    /// An operation without steps: `title` for people, `subject` is the object it is done for.
    pub fn new(title: impl Into<String>, subject: ObjectReference) -> Self {
        let spec = OperationSpec { title: title.into(), subject, ..OperationSpec::default() };
        Self { spec, unserializable: None }
    }

    /// What to do when a step has failed for good; [`FailurePolicy::Undo`] unless said otherwise.
    pub fn on_failure(&mut self, policy: FailurePolicy) -> &mut Self {
        self.spec.on_failure = policy;
        self
    }

    /// Most steps to run at the same time; 0, the initial value, for the engine's default.
    pub fn parallelism(&mut self, steps: u32) -> &mut Self {
        self.spec.parallelism = steps;
        self
    }

    /// Adds a step that runs `A`; the compiler checks the parameters.
    pub fn action<A: Action>(
        &mut self,
        id: impl Into<String>,
        parameters: &A::Parameters,
    ) -> StepBuilder<'_> {
        self.step(id, A::NAME, parameters)
    }

    /// Adds a step that runs the action of that name. Parameters are a structure or `()`.
    pub fn step(
        &mut self,
        id: impl Into<String>,
        action: impl Into<String>,
        parameters: &impl Serialize,
    ) -> StepBuilder<'_> {
        let id = id.into();
        let parameters = serde_json::to_value(parameters).unwrap_or_else(|error| {
            let problem = PlanError::Unserializable { step: id.clone(), why: error.to_string() };
            self.unserializable.get_or_insert(problem);
            Value::Null
        });
        let at = self.spec.steps.len();
        self.spec.steps.push(StepSpec { id, action: action.into(), parameters, ..StepSpec::default() });
        StepBuilder { step: &mut self.spec.steps[at] }
    }

    /// Ids of the steps added so far.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.spec.steps.iter().map(|step| step.id.as_str())
    }

    /// The specification.
    ///
    /// # Errors
    /// When the plan is not valid; see [`PlanError`].
    pub fn build(self) -> Result<OperationSpec, PlanError> {
        match self.unserializable {
            Some(problem) => Err(problem),
            None => Ok(Plan::new(self.spec)?.into_spec()),
        }
    }
}

/// Details of the step added last.
#[derive(Debug)]
pub struct StepBuilder<'a> {
    step: &'a mut StepSpec,
}

impl StepBuilder<'_> {
    /// One line for people: `Power on rack-03`.
    pub fn title(self, title: impl Into<String>) -> Self {
        self.step.title = title.into();
        self
    }

    /// Does not start before the step `id` has succeeded.
    pub fn after(self, id: impl Into<String>) -> Self {
        let id = id.into();
        if !self.step.depends_on.contains(&id) {
            self.step.depends_on.push(id);
        }
        self
    }

    /// Does not start before all these steps have succeeded.
    pub fn after_all<I: Into<String>>(self, ids: impl IntoIterator<Item = I>) -> Self {
        ids.into_iter().fold(self, StepBuilder::after)
    }

    /// How long it is expected to take (whole seconds, at least one); the basis of progress and remaining time.
    pub fn estimate(self, duration: Duration) -> Self {
        self.step.estimate_seconds = whole_seconds(duration);
        self
    }

    /// How long one attempt may take (whole seconds, at least one).
    pub fn timeout(self, duration: Duration) -> Self {
        self.step.timeout_seconds = whole_seconds(duration);
        self
    }

    /// How often to try, at least once.
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.step.max_attempts = attempts.max(1);
        self
    }
}

/// Rounds up, and never to 0, which stands for "not given".
fn whole_seconds(duration: Duration) -> u32 {
    let up = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(up).unwrap_or(u32::MAX).max(1)
}
