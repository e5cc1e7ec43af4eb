//! Hooks: where in an operation a package has something of its own done (SOL001, `interfaces.Vnflcm`).

use std::fmt;

use drystone_sol003::types::LcmOperationType;

/// What the hooks of an operation are called before `_start` and `_end` (SOL001, interface Vnflcm).
const STEMS: [(LcmOperationType, &str); 10] = [
    (LcmOperationType::Instantiate, "instantiate"),
    (LcmOperationType::Scale, "scale"),
    (LcmOperationType::ScaleToLevel, "scale_to_level"),
    (LcmOperationType::ChangeFlavour, "change_flavour"),
    (LcmOperationType::Terminate, "terminate"),
    (LcmOperationType::Heal, "heal"),
    (LcmOperationType::Operate, "operate"),
    (LcmOperationType::ChangeExtConn, "change_external_connectivity"),
    (LcmOperationType::ModifyInfo, "modify_information"),
    (LcmOperationType::ChangeVnfPackage, "change_current_package"),
];

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
    pub operation: LcmOperationType,
    /// Where in it.
    pub point: HookPoint,
}

impl Hook {
    /// The hook at the beginning of an operation.
    pub const fn start(operation: LcmOperationType) -> Self {
        Self { operation, point: HookPoint::Start }
    }

    /// The hook at the end of an operation.
    pub const fn end(operation: LcmOperationType) -> Self {
        Self { operation, point: HookPoint::End }
    }

    /// The hook of that name in a VNFD: `instantiate_end`; `None` for other names.
    pub fn from_name(name: &str) -> Option<Self> {
        let (point, stem) = HookPoint::ALL
            .into_iter()
            .find_map(|(point, ending)| name.strip_suffix(ending).map(|stem| (point, stem)))?;
        let (operation, _) = STEMS.into_iter().find(|(_, known)| *known == stem)?;
        Some(Self { operation, point })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = HookPoint::ALL.into_iter().find(|(point, _)| *point == self.point);
        let stem = STEMS.into_iter().find(|(operation, _)| *operation == self.operation);
        write!(f, "{}{}", stem.map_or("", |(_, stem)| stem), ending.map_or("", |(_, ending)| ending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_hooks_are_the_same_thing() {
        for (operation, _) in STEMS {
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
