//! Hooks: where in an operation a package has something of its own done (SOL001, `interfaces.Vnflcm`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// An operation of the life cycle (SOL003, LcmOperationType).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LifecycleOperation {
    /// Instantiate VNF.
    Instantiate,
    /// Scale VNF by steps.
    Scale,
    /// Scale VNF to a level.
    ScaleToLevel,
    /// Heal VNF.
    Heal,
    /// Terminate VNF.
    Terminate,
    /// Change external VNF connectivity.
    ChangeExtConn,
    /// Change current VNF package.
    ChangeVnfpkg,
    /// Modify VNF information.
    ModifyInfo,
}

impl LifecycleOperation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Instantiate,
        Self::Scale,
        Self::ScaleToLevel,
        Self::Heal,
        Self::Terminate,
        Self::ChangeExtConn,
        Self::ChangeVnfpkg,
        Self::ModifyInfo,
    ];

    /// What the hooks of the operation are called before `_start` and `_end` (SOL001, interface Vnflcm).
    pub const fn hook_stem(self) -> &'static str {
        match self {
            Self::Instantiate => "instantiate",
            Self::Scale => "scale",
            Self::ScaleToLevel => "scale_to_level",
            Self::Heal => "heal",
            Self::Terminate => "terminate",
            Self::ChangeExtConn => "change_external_connectivity",
            Self::ChangeVnfpkg => "change_current_package",
            Self::ModifyInfo => "modify_information",
        }
    }

    /// The name of SOL003: `CHANGE_EXT_CONN`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Instantiate => "INSTANTIATE",
            Self::Scale => "SCALE",
            Self::ScaleToLevel => "SCALE_TO_LEVEL",
            Self::Heal => "HEAL",
            Self::Terminate => "TERMINATE",
            Self::ChangeExtConn => "CHANGE_EXT_CONN",
            Self::ChangeVnfpkg => "CHANGE_VNFPKG",
            Self::ModifyInfo => "MODIFY_INFO",
        }
    }
}

impl fmt::Display for LifecycleOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where in an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookPoint {
    /// Before the VIM is asked for anything.
    Start,
    /// After the VIM has done what was asked.
    End,
    /// Before the VIM takes back what was done. The built-in drivers use the undoing of their steps instead.
    RollbackStart,
    /// After the VIM has taken back what was done.
    RollbackEnd,
}

impl HookPoint {
    const ALL: [(Self, &'static str); 4] = [
        // Longer endings first, since `heal_rollback_start` ends in `_start` as well.
        (Self::RollbackStart, "_rollback_start"),
        (Self::RollbackEnd, "_rollback_end"),
        (Self::Start, "_start"),
        (Self::End, "_end"),
    ];
}

/// A hook: `heal_start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hook {
    /// Of which operation.
    pub operation: LifecycleOperation,
    /// Where in it.
    pub point: HookPoint,
}

impl Hook {
    /// The hook at the beginning of an operation.
    pub const fn start(operation: LifecycleOperation) -> Self {
        Self { operation, point: HookPoint::Start }
    }

    /// The hook at the end of an operation.
    pub const fn end(operation: LifecycleOperation) -> Self {
        Self { operation, point: HookPoint::End }
    }

    /// The hook of that name in a VNFD: `instantiate_end`; `None` for other names.
    pub fn from_name(name: &str) -> Option<Self> {
        let (point, stem) = HookPoint::ALL
            .into_iter()
            .find_map(|(point, ending)| name.strip_suffix(ending).map(|stem| (point, stem)))?;
        let operation =
            LifecycleOperation::ALL.into_iter().find(|operation| operation.hook_stem() == stem)?;
        Some(Self { operation, point })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = HookPoint::ALL.into_iter().find(|(point, _)| *point == self.point);
        write!(f, "{}{}", self.operation.hook_stem(), ending.map_or("", |(_, ending)| ending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_hooks_are_the_same_thing() {
        for operation in LifecycleOperation::ALL {
            for (point, _) in HookPoint::ALL {
                let hook = Hook { operation, point };
                assert_eq!(Hook::from_name(&hook.to_string()), Some(hook));
            }
        }
        assert_eq!(Hook::from_name("heal_rollback_end").map(|hook| hook.point), Some(HookPoint::RollbackEnd));
        for other in ["", "instantiate", "boil_start", "_end", "heal_middle"] {
            assert_eq!(Hook::from_name(other), None, "{other}");
        }
    }
}
