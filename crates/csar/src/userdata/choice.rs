//! Which class makes the stack requests of an operation.

use serde_json::Value;

use super::{DefaultUserData, KubernetesClusterUserData, StandardUserData, UserData, UserDataError};
use crate::package::Package;

/// The parameter that names the script.
pub const SCRIPT_PARAMETER: &str = "lcm-operation-user-data";
/// The parameter that names the class.
pub const CLASS_PARAMETER: &str = "lcm-operation-user-data-class";
/// The class that is used when none is named.
pub const DEFAULT_CLASS: &str = "DefaultUserData";

const BUILT_IN: [(&str, &dyn UserData); 3] = [
    (DEFAULT_CLASS, &DefaultUserData),
    ("StandardUserData", &StandardUserData),
    ("KubernetesClusterUserData", &KubernetesClusterUserData),
];

/// A class, and where it is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name.
    pub class: String,
    /// Path of its script in the package; none for the default.
    pub script: Option<String>,
}

/// The class that the `additionalParams` of a request name, or the default one.
///
/// # Errors
/// If only one of the two parameters is there, one is not a text, or the package does not have the script.
pub fn choose(package: &Package, additional: Option<&Value>) -> Result<Choice, UserDataError> {
    let parameter =
        |name: &str| additional.and_then(|parameters| parameters.get(name)).filter(|value| !value.is_null());
    match (parameter(SCRIPT_PARAMETER), parameter(CLASS_PARAMETER)) {
        (None, None) => Ok(Choice { class: DEFAULT_CLASS.to_owned(), script: None }),
        (Some(_), None) => Err(UserDataError::Incomplete(SCRIPT_PARAMETER, CLASS_PARAMETER)),
        (None, Some(_)) => Err(UserDataError::Incomplete(CLASS_PARAMETER, SCRIPT_PARAMETER)),
        (Some(script), Some(class)) => {
            let (Some(script), Some(class)) = (script.as_str(), class.as_str()) else {
                let message = format!("`{SCRIPT_PARAMETER}` and `{CLASS_PARAMETER}` are texts");
                return Err(UserDataError::Malformed(message));
            };
            let path = crate::archive::resolve("", script).filter(|path| package.has(path));
            let path = path.ok_or_else(|| UserDataError::Script(script.to_owned()))?;
            Ok(Choice { class: class.to_owned(), script: Some(path) })
        }
    }
}

/// The equivalent of a class.
///
/// # Errors
/// [`UserDataError::Class`] if there is none.
pub fn built_in(class: &str) -> Result<&'static dyn UserData, UserDataError> {
    let found = BUILT_IN.iter().find(|(name, _)| *name == class).map(|(_, user_data)| *user_data);
    found.ok_or_else(|| UserDataError::Class { class: class.to_owned(), known: built_in_names() })
}

/// Names of the classes that have equivalents, for messages.
pub fn built_in_names() -> String {
    BUILT_IN.map(|(name, _)| name).join(", ")
}
