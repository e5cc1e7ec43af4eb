//! Actions by name, with their types erased.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Action, StepContext, StepError};

/// Largest output of a step, in bytes of JSON: outputs are part of the operation, which must stay a small object. An inventory of some hundred servers fits.
const MAX_OUTPUT_BYTES: usize = 128 * 1024;

/// An [`Action`] with its types erased: parameters and output are JSON.
#[async_trait]
pub trait DynAction: Send + Sync + 'static {
    /// See [`Action::run`]. The output is a JSON object or null.
    ///
    /// # Errors
    /// As [`Action::run`]; permanent when the parameters cannot be read or the output is too large or no object.
    async fn run(&self, context: &StepContext, parameters: &Value) -> Result<Value, StepError>;

    /// See [`Action::undo`].
    ///
    /// # Errors
    /// As [`Action::undo`]; permanent when the parameters cannot be read.
    async fn undo(&self, context: &StepContext, parameters: &Value) -> Result<(), StepError>;
}

/// Why an action could not be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two actions of one name.
    #[error("action {0:?} is registered already; give each action a name of its own")]
    Duplicate(String),
    /// Not of the form `domain.verb-noun`.
    #[error(
        "action name {0:?} must be lower-case letters, digits, '-' and '.', such as \"cluster.create-zone\""
    )]
    InvalidName(String),
}

/// The actions that an engine can carry out, by name. Filled by the domains when the program starts.
#[derive(Clone, Default)]
pub struct ActionRegistry {
    actions: BTreeMap<String, Arc<dyn DynAction>>,
}

impl ActionRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers an action under [`Action::NAME`].
    ///
    /// # Errors
    /// When the name is taken or ill-formed.
    pub fn register<A: Action>(&mut self, action: A) -> Result<(), RegistryError> {
        self.register_dyn(A::NAME, Arc::new(Typed { action, marker: PhantomData::<fn() -> A> }))
    }

    /// Registers an action that works on JSON, for names that are known at run time only.
    ///
    /// # Errors
    /// When the name is taken or ill-formed.
    pub fn register_dyn(&mut self, name: &str, action: Arc<dyn DynAction>) -> Result<(), RegistryError> {
        let valid = !name.is_empty()
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.');
        if !valid {
            return Err(RegistryError::InvalidName(name.to_owned()));
        }
        if self.actions.contains_key(name) {
            return Err(RegistryError::Duplicate(name.to_owned()));
        }
        self.actions.insert(name.to_owned(), action);
        Ok(())
    }

    /// The action of that name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn DynAction>> {
        self.actions.get(name).cloned()
    }

    /// Whether there is an action of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.actions.contains_key(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.actions.keys().map(String::as_str)
    }
}

impl std::fmt::Debug for ActionRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Adapter from typed to erased.
struct Typed<A> {
    action: A,
    marker: PhantomData<fn() -> A>,
}

#[async_trait]
impl<A: Action> DynAction for Typed<A> {
    async fn run(&self, context: &StepContext, parameters: &Value) -> Result<Value, StepError> {
        let output = self.action.run(context, read_parameters(A::NAME, parameters)?).await?;
        write_output(A::NAME, &output)
    }

    async fn undo(&self, context: &StepContext, parameters: &Value) -> Result<(), StepError> {
        self.action.undo(context, read_parameters(A::NAME, parameters)?).await
    }
}

fn read_parameters<T: DeserializeOwned>(action: &str, parameters: &Value) -> Result<T, StepError> {
    // An absent object is an empty one, so that a structure with nothing but optional fields may be left out.
    let absent = parameters.is_null().then(|| T::deserialize(serde_json::json!({})).ok()).flatten();
    match absent {
        Some(value) => Ok(value),
        None => T::deserialize(parameters)
            .map_err(|error| StepError::permanent(format!("parameters of action {action}: {error}"))),
    }
}

fn write_output<T: Serialize>(action: &str, output: &T) -> Result<Value, StepError> {
    let refuse = |why: String| StepError::permanent(format!("output of action {action} {why}"));
    let value = serde_json::to_value(output).map_err(|error| refuse(format!("is not JSON: {error}")))?;
    if !(value.is_object() || value.is_null()) {
        return Err(refuse("must be a structure or (): the journal stores objects".to_owned()));
    }
    let size = value.to_string().len();
    if size > MAX_OUTPUT_BYTES {
        return Err(refuse(format!(
            "has {size} bytes, more than {MAX_OUTPUT_BYTES}: return a reference instead"
        )));
    }
    Ok(value)
}
